"""One score for every network: for labels that are all equal, where hardware alone is left to search."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.encoding.batch import GraphBatch
from codesign.errors import PredictorError
from codesign.predictor.base import METHODS, Arrays, Floats, Method, PredictedScores, Predictor


@dataclass(frozen=True, kw_only=True)
class ConstantPredictor(Predictor):
    """The score of all labels; sure of it, as far as they tell."""

    score: float

    @property
    def method(self) -> str:
        """See base class."""
        return Constant.label

    @property
    def left_out_mean(self) -> Floats | None:
        """See base class."""
        return None

    def predict(self, batch: GraphBatch) -> PredictedScores:
        """See base class."""
        n = len(batch)
        return PredictedScores(mean=np.full(n, self.score), std=np.zeros(n))

    def state(self) -> tuple[dict[str, Any], Arrays]:
        """See base class."""
        return {"score": self.score}, {}


@dataclass(frozen=True, kw_only=True)
class Constant(Method):
    """The score that all labels have; it ranks nothing."""

    label = "constant"

    @property
    def name(self) -> str:
        """See base class."""
        return self.label

    @property
    def is_canonical(self) -> bool:
        """See base class."""
        return True

    def objection(self, batch: GraphBatch) -> str | None:
        """See base class."""
        return "it ranks nothing; a study takes it where nearly all its labels are equal"

    def fit(self, batch: GraphBatch, labels: Floats, *, seed: int) -> ConstantPredictor:
        """Fit on labels that are all equal; others are refused."""
        del batch, seed
        if len(labels) == 0 or not np.isfinite(labels).all() or np.ptp(labels) != 0:
            raise PredictorError(
                "labels that differ, or are no numbers; 'constant' is for equal ones: choose another method"
            )
        return ConstantPredictor(score=float(labels[0]))

    def restore(
        self, meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
    ) -> ConstantPredictor:
        """See base class."""
        del arrays
        return ConstantPredictor(score=float(meta["score"]))


METHODS.add(Constant.label, Constant())
