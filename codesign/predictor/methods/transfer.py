"""Start from a predictor of another task: fit a line through its predictions, then what the line misses."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.encoding.batch import GraphBatch
from codesign.errors import PredictorError
from codesign.predictor.base import (
    METHODS,
    Arrays,
    Floats,
    Method,
    PredictedScores,
    Predictor,
    check_labels,
    fold,
    unfold,
)


@dataclass(frozen=True, kw_only=True)
class TransferPredictor(Predictor):
    """intercept + slope * (what the pretrained predictor says) + correction.

    Attributes:
        base: the pretrained predictor, of any task with the same columns.
        correction: fitted on what the line misses.
        intercept, slope: of the line.
        line: float64[n], the line at the training graphs.
    """

    base: Predictor
    correction: Predictor
    intercept: float
    slope: float
    line: Floats

    @property
    def method(self) -> str:
        """See base class."""
        return "transfer"

    @property
    def left_out_mean(self) -> Floats | None:
        """See base class; the line has two parameters and is not refitted."""
        honest = self.correction.left_out_mean
        return None if honest is None else self.line + honest

    def predict(self, batch: GraphBatch) -> PredictedScores:
        """See base class."""
        rest = self.correction.predict(batch)
        line = self.intercept + self.slope * self.base.predict(batch).mean
        return PredictedScores(mean=line + rest.mean, std=rest.std)

    def state(self) -> tuple[dict[str, Any], Arrays]:
        """See base class."""
        parts = {"base": self.base, "correction": self.correction}
        meta: dict[str, Any] = {"intercept": self.intercept, "slope": self.slope}
        arrays: Arrays = {"line": self.line}
        for name, part in parts.items():
            part_meta, part_arrays = part.state()
            meta[name] = {"method": part.method, "state": part_meta}
            arrays |= fold(name, part_arrays)
        return meta, arrays


@dataclass(frozen=True, kw_only=True)
class Transfer(Method):
    """Which predictor to start from, and how to correct it.

    Attributes:
        base: a fitted predictor; None only in the registered instance, which restores checkpoints.
        correction: registered method of the correction.
    """

    base: Predictor | None = None
    correction: str = "kernel_ridge"

    @property
    def name(self) -> str:
        """See base class."""
        return "transfer"

    @property
    def is_canonical(self) -> bool:
        """See base class."""
        return True

    def objection(self, batch: GraphBatch) -> str | None:
        """See base class."""
        del batch
        return None if self.base is not None else "it needs a pretrained predictor to start from"

    def fit(self, batch: GraphBatch, labels: Floats, *, seed: int) -> TransferPredictor:
        """See base class.

        The slope is never negative: a task in which worse networks are better is no related task.
        """
        labels = check_labels(batch, labels)
        if self.base is None:
            raise PredictorError(
                "transfer needs a pretrained predictor to start from; give `codesign predictor train --start-from"
                " CHECKPOINT`"
            )
        known = self.base.predict(batch).mean
        centred = known - known.mean()
        slope = max(0.0, float(centred @ labels) / max(float(centred @ centred), 1e-12))
        intercept = float(labels.mean()) - slope * float(known.mean())
        line = intercept + slope * known
        correction = METHODS.get(self.correction).fit(batch, labels - line, seed=seed)
        return TransferPredictor(
            base=self.base, correction=correction, intercept=intercept, slope=slope, line=line
        )

    def restore(
        self, meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
    ) -> TransferPredictor:
        """See base class."""
        parts = {
            name: METHODS.get(meta[name]["method"]).restore(
                meta[name]["state"], unfold(name, arrays)
            )
            for name in ("base", "correction")
        }
        return TransferPredictor(
            **parts,
            intercept=float(meta["intercept"]),
            slope=float(meta["slope"]),
            line=np.asarray(arrays["line"], dtype=np.float64),
        )


METHODS.add("transfer", Transfer())
