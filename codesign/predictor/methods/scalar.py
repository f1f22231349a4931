"""Rankers by a single number of the network: parameters, FLOPs, BOPs, EBOPs."""

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
)


def _absent(batch: GraphBatch, column: str) -> str:
    return (
        f"graphs carry no graph attribute {column!r} (they have: "
        f"{', '.join(batch.extra_names) or 'none'}); add it under 'extras' or use another method"
    )


def _column(batch: GraphBatch, column: str) -> NDArray[np.float64]:
    if column not in batch.extra_names:
        raise PredictorError(_absent(batch, column))
    return batch.extras[:, batch.extra_names.index(column)].astype(np.float64)


@dataclass(frozen=True, kw_only=True)
class ScalarPredictor(Predictor):
    """mean = offset + slope * column; it cannot say how sure it is."""

    column: str
    offset: float
    slope: float
    method_name: str

    @property
    def method(self) -> str:
        """See base class."""
        return self.method_name

    @property
    def left_out_mean(self) -> Floats | None:
        """See base class."""
        return None

    def predict(self, batch: GraphBatch) -> PredictedScores:
        """See base class."""
        mean = self.offset + self.slope * _column(batch, self.column)
        return PredictedScores(mean=mean, std=np.full(len(batch), np.nan))

    def state(self) -> tuple[dict[str, Any], Arrays]:
        """See base class."""
        return {"offset": self.offset, "slope": self.slope}, {}


@dataclass(frozen=True, kw_only=True)
class Scalar(Method):
    """A straight line through one graph attribute; its rank is the attribute's, up to sign."""

    method_name: str
    column: str

    @property
    def name(self) -> str:
        """See base class."""
        return self.method_name

    @property
    def is_canonical(self) -> bool:
        """See base class."""
        return True

    def objection(self, batch: GraphBatch) -> str | None:
        """See base class."""
        return None if self.column in batch.extra_names else _absent(batch, self.column)

    def fit(self, batch: GraphBatch, labels: Floats, *, seed: int) -> ScalarPredictor:
        """See base class."""
        del seed  # nothing is random
        labels = check_labels(batch, labels)
        column = _column(batch, self.column)
        slope = 0.0
        if np.ptp(column) > 0:
            slope = float(np.cov(column, labels, bias=True)[0, 1] / column.var())
        return ScalarPredictor(
            column=self.column,
            offset=float(labels.mean() - slope * column.mean()),
            slope=slope,
            method_name=self.method_name,
        )

    def restore(
        self, meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
    ) -> ScalarPredictor:
        """See base class."""
        del arrays
        return ScalarPredictor(
            column=self.column,
            offset=meta["offset"],
            slope=meta["slope"],
            method_name=self.method_name,
        )


for _name, _attribute in (
    ("parameters", "log2_parameters"),
    ("flops", "log2_flops"),
    ("bit_operations", "log2_bit_operations"),
    ("effective_bit_operations", "log2_effective_bit_operations"),
):
    METHODS.add(_name, Scalar(method_name=_name, column=_attribute))
