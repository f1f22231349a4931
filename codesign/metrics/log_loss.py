"""Log loss: the mean of minus the logarithm of the probability given to the true class."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.metrics._classes import log_probabilities
from codesign.metrics.base import METRICS, Floats, MeanMetric


class LogLoss(MeanMetric):
    """Cross entropy in nats; the outputs are logits."""

    name = "log_loss"
    truth = "classes"
    larger_is_better = False
    unit = "nat"

    def values(self, outputs: Floats, truth: NDArray[Any]) -> Floats:
        """Return the loss of each row; see `MeanMetric.values`."""
        return -np.take_along_axis(log_probabilities(outputs), truth[:, None], axis=1)[:, 0]


METRICS.add(LogLoss.name, LogLoss)
