"""Labels on disk: one SQLite table, append-only, safe to kill at any time."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codesign.errors import StudyError

SCHEMA = 2


@dataclass(frozen=True, kw_only=True)
class Label:
    """What training one architecture once found.

    Attributes:
        key: digest of architecture and precision.
        options: digest of the training options.
        task: digest of the data.
        seed: of the training.
        validation_score: of the integer network on held-out training rows; the label proper.
        test_score: of the integer network on the test set; for reports, never for choosing.
        epochs: trained.
        network: JSON form of the network (`Network.to_json`).
        costs: what the trained network costs, by name, where that is an outcome of training.
    """

    key: str
    options: str
    task: str
    seed: int
    validation_score: float
    test_score: float
    epochs: int
    network: list[dict[str, Any]]
    costs: Mapping[str, float] = field(default_factory=dict)


class LabelStore:
    """Labels in an SQLite file, keyed by (architecture, options, task, seed)."""

    def __init__(self, path: Path) -> None:
        """Open or create the file.

        Raises:
            StudyError: it cannot be opened, is no label store, or has another schema.
        """
        self._path = path
        try:
            self._connection = sqlite3.connect(path, timeout=60)
            self._connection.execute("PRAGMA journal_mode=WAL")
            with self._connection:
                self._connection.execute(
                    "CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT)"
                )
                self._connection.execute(
                    "INSERT OR IGNORE INTO about VALUES ('label_schema', ?)", (str(SCHEMA),)
                )
                self._connection.execute(
                    "CREATE TABLE IF NOT EXISTS labels (key TEXT, options TEXT, task TEXT, seed INTEGER,"
                    " validation_score REAL, test_score REAL, epochs INTEGER, network TEXT,"
                    " PRIMARY KEY (key, options, task, seed))"
                )
                self._connection.execute(  # a table of its own: files without it are as good
                    "CREATE TABLE IF NOT EXISTS costs (key TEXT, options TEXT, task TEXT, seed INTEGER,"
                    " costs TEXT, PRIMARY KEY (key, options, task, seed))"
                )
            (found,) = self._connection.execute(
                "SELECT value FROM about WHERE name = 'label_schema'"
            ).fetchone()
        except sqlite3.Error as error:
            raise StudyError(
                f"{path} cannot be used as a label store ({error}); give another path"
            ) from error
        if found != str(SCHEMA):
            raise StudyError(
                f"{path} holds labels of schema {found}; this version reads schema {SCHEMA}; give another path"
            )

    def __enter__(self) -> LabelStore:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def add(self, labels: Iterable[Label]) -> None:
        """Store labels in one transaction; one that is there already stays.

        Raises:
            StudyError: the file cannot be written (a full disk, say); nothing of this call is kept.
        """
        labels = list(labels)
        costs = [
            (x.key, x.options, x.task, x.seed, json.dumps(dict(x.costs))) for x in labels if x.costs
        ]
        rows = [
            (
                x.key,
                x.options,
                x.task,
                x.seed,
                x.validation_score,
                x.test_score,
                x.epochs,
                json.dumps(x.network, separators=(",", ":")),
            )
            for x in labels
        ]
        try:
            with self._connection:
                self._connection.executemany(
                    "INSERT OR IGNORE INTO labels VALUES (?,?,?,?,?,?,?,?)", rows
                )
                self._connection.executemany(
                    "INSERT OR IGNORE INTO costs VALUES (?,?,?,?,?)", costs
                )
        except sqlite3.Error as error:
            raise StudyError(
                f"{self._path} cannot be written ({error}); free disk space and resume"
            ) from error

    def labels(self, **where: str | int) -> list[Label]:
        """Return labels in the order they were made, restricted to equal values.

        Args:
            where: any of key, options, task, seed.
        """
        known = ("key", "options", "task", "seed")
        names = [name for name in known if name in where]
        clause = " AND ".join(f"{name} = ?" for name in names) or "1"
        rows = self._connection.execute(
            "SELECT key, options, task, seed, validation_score, test_score, epochs, network, costs"
            " FROM labels LEFT JOIN costs USING (key, options, task, seed)"
            f" WHERE {clause} ORDER BY labels.rowid",
            [where[name] for name in names],
        )
        return [_label(row) for row in rows]

    def lookup(self, *, options: str, task: str) -> Mapping[tuple[str, int], Label]:
        """Return the labels made with these options on this data, by (key, seed)."""
        return {(x.key, x.seed): x for x in self.labels(options=options, task=task)}


def _label(row: tuple[Any, ...]) -> Label:
    key, options, task, seed, validation, test, epochs, network, costs = row
    return Label(
        key=key,
        options=options,
        task=task,
        seed=seed,
        validation_score=validation,
        test_score=test,
        epochs=epochs,
        network=json.loads(network),
        costs={} if costs is None else json.loads(costs),
    )
