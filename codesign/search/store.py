"""The append-only log of a search's evaluations, in SQLite: what a killed search resumes from.

One row per batch, committed as it is made, so a process killed at any instant loses at most the
batch it was evaluating.  Arrays are npz blobs without pickles.  Several runs (rounds of a study)
share one file.
"""

import io
import json
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from codesign.errors import StudyError
from codesign.search.problem import Evaluation, Genomes, concatenate

SCHEMA: Final = 1

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS search_runs (
    name TEXT PRIMARY KEY, schema INTEGER NOT NULL, fingerprint TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS search_batches (
    run TEXT NOT NULL REFERENCES search_runs (name),
    first_row INTEGER NOT NULL, n_rows INTEGER NOT NULL, arrays BLOB NOT NULL,
    PRIMARY KEY (run, first_row)
) STRICT;
"""
_METRIC: Final = "metric:"


class EvaluationStore:
    """Evaluations of one named run in an SQLite file; a context manager."""

    def __init__(self, path: Path, *, run: str = "search") -> None:
        self._path = path
        self._run = run
        self._connection: sqlite3.Connection | None = None

    def __enter__(self) -> "EvaluationStore":
        try:
            connection = sqlite3.connect(self._path, isolation_level=None, timeout=30.0)
            # write-ahead log: a commit is one append, and readers never block the search
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.executescript(_TABLES)
        except sqlite3.Error as error:
            raise StudyError(
                f"{self._path}: cannot be opened as an evaluation store ({error}); expected an "
                "SQLite file written by codesign in a writable folder; choose another path"
            ) from error
        self._connection = connection
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _execute(self, statement: str, values: tuple[object, ...]) -> sqlite3.Cursor:
        if self._connection is None:
            raise StudyError(f"{self._path}: the store is not open; use it in a `with` statement")
        try:
            return self._connection.execute(statement, values)
        except sqlite3.IntegrityError as error:
            raise StudyError(
                f"{self._path}: run {self._run!r} already has these rows; expected to be its only "
                "writer; stop the other search"
            ) from error
        except sqlite3.Error as error:
            raise StudyError(
                f"{self._path}: cannot be read or written ({error}); free some disk space or "
                "restore the file, then run again: what was committed is kept"
            ) from error

    def begin(self, fingerprint: Mapping[str, object]) -> None:
        """Start the run, or make sure that what is stored was made by the very same search.

        Args:
            fingerprint: everything that decides which genomes are asked for and what they are
                worth; JSON values.

        Raises:
            StudyError: the stored run differs (the message says in what), or has another schema.
        """
        text = json.dumps(fingerprint, sort_keys=True)
        row = self._execute(
            "SELECT schema, fingerprint FROM search_runs WHERE name = ?", (self._run,)
        ).fetchone()
        if row is None:
            self._execute("INSERT INTO search_runs VALUES (?, ?, ?)", (self._run, SCHEMA, text))
            return
        if row[0] != SCHEMA:
            raise StudyError(
                f"{self._path}: run {self._run!r} has schema {row[0]}; expected {SCHEMA}; "
                "start a new study or use the version that wrote it"
            )
        stored, wanted = json.loads(row[1]), json.loads(text)
        names = sorted(stored.keys() | wanted.keys())
        differing = [name for name in names if stored.get(name) != wanted.get(name)]
        if differing:
            raise StudyError(
                f"{self._path}: run {self._run!r} was made with another "
                f"{', '.join(differing)}; expected the same search to resume it; use a new study "
                "folder or run name"
            )

    def append(self, first_row: int, genomes: Genomes, evaluation: Evaluation) -> None:
        """Commit one batch; `first_row` is the number of evaluations before it.

        Raises:
            StudyError: the disk is full, or another process writes the same run.
        """
        arrays: dict[str, NDArray[np.generic]] = {
            # genes are small numbers: most stores shrink eightfold
            "genomes": genomes.astype(np.min_scalar_type(int(genomes.max(initial=0)))),
            "objectives": evaluation.objectives,
            "violations": evaluation.violations,
        }
        arrays |= {_METRIC + name: values for name, values in evaluation.metrics.items()}
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
        self._execute(
            "INSERT INTO search_batches VALUES (?, ?, ?, ?)",
            (self._run, first_row, len(genomes), buffer.getvalue()),
        )

    def batches(self) -> Iterator[tuple[Genomes, Evaluation]]:
        """Yield the stored batches in the order in which they were made.

        Raises:
            StudyError: a batch is missing or unreadable.
        """
        rows = self._execute(
            "SELECT first_row, n_rows, arrays FROM search_batches WHERE run = ? ORDER BY first_row",
            (self._run,),
        )
        expected = 0
        for first_row, n_rows, blob in rows:
            if first_row != expected:
                raise StudyError(
                    f"{self._path}: run {self._run!r} lacks the rows from {expected} to "
                    f"{first_row}; expected an unbroken log; restore the file or start anew"
                )
            expected += n_rows
            yield self._decode(blob, first_row)

    def _decode(self, blob: bytes, first_row: int) -> tuple[Genomes, Evaluation]:
        try:
            with np.load(io.BytesIO(blob), allow_pickle=False) as arrays:
                return arrays["genomes"].astype(np.int64), Evaluation(
                    objectives=arrays["objectives"],
                    violations=arrays["violations"],
                    metrics={
                        name.removeprefix(_METRIC): arrays[name]
                        for name in arrays.files
                        if name.startswith(_METRIC)
                    },
                )
        except (ValueError, OSError, KeyError) as error:
            raise StudyError(
                f"{self._path}: the batch at row {first_row} of run {self._run!r} is unreadable "
                f"({error}); restore the file or start anew"
            ) from error

    def read(self) -> tuple[Genomes, Evaluation] | None:
        """Return all stored genomes and evaluations, or None when there are none yet."""
        batches = list(self.batches())
        if not batches:
            return None
        return np.concatenate([g for g, _ in batches]), concatenate([e for _, e in batches])
