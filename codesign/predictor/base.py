"""The interface of every score predictor, and how one is stored."""

import io
import json
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.encoding.batch import GraphBatch
from codesign.errors import PredictorError
from codesign.files import write_atomically
from codesign.registry import Registry

Floats = NDArray[np.float64]
Arrays = dict[str, NDArray[Any]]
SCHEMA = 1
_HEADER = "header_json"


@dataclass(frozen=True, kw_only=True)
class PredictedScores:
    """Predicted score of n graphs, in the unit of the labels it was trained on.

    Attributes:
        mean: float[n].
        std: float[n], at least 0; mean +- 1.645 std is meant to hold 90 % of the labels.  NaN
            where the predictor cannot say (mere rankers such as a parameter count).
    """

    mean: Floats
    std: Floats

    def interval(self, coverage: float = 0.9) -> tuple[Floats, Floats]:
        """Return the lower and upper ends, float[n] each, of the central interval."""
        half = NormalDist().inv_cdf(0.5 + coverage / 2) * self.std
        return self.mean - half, self.mean + half


class Predictor(ABC):
    """A fitted predictor.  Immutable; `predict` has no side effect."""

    @property
    @abstractmethod
    def method(self) -> str:
        """Registered name of the method that fitted it."""

    @property
    @abstractmethod
    def left_out_mean(self) -> Floats | None:
        """Each training label as predicted without it, float[n]; None when not kept."""

    @abstractmethod
    def predict(self, batch: GraphBatch) -> PredictedScores:
        """Predict the score of every graph of `batch`.

        Raises:
            PredictorError: a column the predictor was trained on is missing, or there is one more.
        """

    @abstractmethod
    def state(self) -> tuple[dict[str, Any], Arrays]:
        """Return what `Method.restore` needs: a JSON-ready mapping, and arrays by name."""


class Method(ABC):
    """A way to fit a predictor; instances hold hyperparameters only."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Registered name, a file format: never renamed."""

    @property
    @abstractmethod
    def is_canonical(self) -> bool:
        """True when it expects canonical graphs, False when graphs as they were written."""

    @abstractmethod
    def objection(self, batch: GraphBatch) -> str | None:
        """Say why the method cannot work on graphs with these columns; None when it can."""

    @abstractmethod
    def fit(self, batch: GraphBatch, labels: Floats, *, seed: int) -> Predictor:
        """Fit on n labelled graphs.

        Args:
            batch: n graphs.
            labels: float[n], higher is better, any unit.
            seed: of every random choice.

        Raises:
            PredictorError: fewer than two labels, a label that is not finite, or all equal.
        """

    @abstractmethod
    def restore(self, meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Predictor:
        """Rebuild a predictor from its `state`."""


METHODS: Registry[Method] = Registry(kind="prediction method", package="codesign.predictor.methods")


def check_labels(batch: GraphBatch, labels: Floats) -> Floats:
    """Return `labels` as float64[n] when a predictor can be fitted on them.

    Raises:
        PredictorError: see `Method.fit`.
    """
    values = np.asarray(labels, dtype=np.float64)
    if values.shape != (len(batch),):
        raise PredictorError(
            f"labels have shape {values.shape} for {len(batch)} graphs; expected one per graph"
        )
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise PredictorError(
            f"{len(bad)} of {len(values)} labels are NaN or infinite, the first at index {bad[0]}; "
            "drop those graphs or train them again"
        )
    if len(values) < 4:
        raise PredictorError(
            f"{len(values)} label(s); expected at least 4, and some dozens for a useful ranking: "
            "train more candidates with `codesign label`"
        )
    if np.ptp(values) == 0:
        raise PredictorError(
            f"all {len(values)} labels equal {values[0]:g}; there is nothing to learn: train longer "
            "or choose candidates that differ more"
        )
    return values


def fold(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    """Put `prefix/` before every name, to nest one state in another."""
    return {f"{prefix}/{name}": values for name, values in arrays.items()}


def unfold(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    """Return what `fold` put under `prefix`."""
    start = f"{prefix}/"
    return {name[len(start) :]: v for name, v in arrays.items() if name.startswith(start)}


def save_predictor(predictor: Predictor, path: Path, *, notes: Mapping[str, Any]) -> None:
    """Write a checkpoint: a zip of plain arrays and a JSON header, no pickle.

    Args:
        predictor: what to store.
        path: ends in .npz; written to a temporary name and renamed.
        notes: JSON-ready facts for whoever reads the file (task, number of labels, why this one).
    """
    if path.suffix != ".npz":
        raise PredictorError(f"{path}: a predictor checkpoint is an .npz file; rename it")
    meta, arrays = predictor.state()
    header = {"schema": SCHEMA, "method": predictor.method, "notes": dict(notes), "state": meta}
    buffer = io.BytesIO()
    text = np.frombuffer(json.dumps(header).encode(), np.uint8)
    np.savez_compressed(buffer, allow_pickle=False, **{_HEADER: text}, **arrays)
    write_atomically(path, buffer.getvalue())


def load_arrays(path: Path, *, what: str) -> Arrays:
    """Read every array of an .npz file, refusing pickled objects.

    Args:
        path: the file.
        what: what it should be, for messages ("predictor checkpoint").

    Raises:
        PredictorError: missing, no .npz file, or it holds pickled objects.
    """
    if not path.is_file():
        raise PredictorError(f"{path}: no such {what}; check the path")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except ValueError as error:
        raise PredictorError(
            f"{path}: it holds pickled objects or is no .npz file; expected a {what} of plain "
            "arrays, written by codesign (pickles are refused: loading one can run any code)"
        ) from error
    except (zipfile.BadZipFile, EOFError, AttributeError, KeyError) as error:
        raise PredictorError(f"{path}: damaged or no .npz file; expected a {what}") from error


def load_predictor(path: Path) -> tuple[Predictor, dict[str, Any]]:
    """Read what `save_predictor` wrote.

    Returns:
        The predictor and its notes.

    Raises:
        PredictorError: the file is missing, damaged, pickled or of another schema.
    """
    arrays = load_arrays(path, what="predictor checkpoint")
    if _HEADER not in arrays:
        raise PredictorError(
            f"{path}: no {_HEADER} in it; expected a checkpoint written by `codesign predictor train`"
        )
    try:
        header = json.loads(arrays.pop(_HEADER).tobytes().decode())
        schema, method, state = header["schema"], header["method"], header["state"]
    except (ValueError, KeyError, TypeError) as error:
        raise PredictorError(f"{path}: its header is damaged ({error}); train it again") from error
    if schema != SCHEMA:
        raise PredictorError(
            f"{path}: checkpoint schema {schema!r}; this version reads schema {SCHEMA}: train it again"
        )
    try:
        return METHODS.get(method).restore(state, arrays), header["notes"]
    except (KeyError, TypeError, IndexError) as error:
        raise PredictorError(
            f"{path}: the state of method {method!r} lacks {error}; train it again"
        ) from error
