"""Balanced accuracy: the mean over classes of the share classified right."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.metrics.accuracy import Accuracy
from codesign.metrics.base import METRICS, Floats, Metric


class BalancedAccuracy(Metric):
    """Mean recall of the classes that have rows; 0..1, and 1 / n_classes for a guess."""

    name = "balanced_accuracy"
    truth = "classes"
    larger_is_better = True

    def scores(self, outputs: Floats, truth: NDArray[Any], weights: Floats) -> Floats:
        """Return the mean recall for each weighting; see `Metric.scores`."""
        right = Accuracy().values(outputs, truth)
        member = (truth[:, None] == np.unique(truth)).astype(np.float64)
        total = weights @ member
        recall = (weights @ (member * right[:, None])) / np.maximum(total, 1e-300)
        return np.asarray(recall.sum(axis=1) / (total > 0).sum(axis=1))


METRICS.add(BalancedAccuracy.name, BalancedAccuracy)
