"""Accuracy: the share of rows classified right."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.metrics.base import METRICS, Floats, MeanMetric


class Accuracy(MeanMetric):
    """Share of rows whose greatest output (the first of equal ones) is the true class; 0..1.

    One output is a logit: class 1 where it is above 0.
    """

    name = "accuracy"
    truth = "classes"
    larger_is_better = True

    def values(self, outputs: Floats, truth: NDArray[Any]) -> Floats:
        """Return 1 for a right answer, else 0; see `MeanMetric.values`."""
        one_logit = outputs.shape[1] == 1
        answers = (outputs[:, 0] > 0) if one_logit else outputs.argmax(axis=1)
        return np.asarray(answers == truth, dtype=np.float64)


METRICS.add(Accuracy.name, Accuracy)
