"""Mean squared error, over all outputs: also what a reconstruction is judged by without labels."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.metrics.base import METRICS, Floats, MeanMetric


class MeanSquaredError(MeanMetric):
    """Mean of (output - truth)^2, in the square of the target's unit."""

    name = "mean_squared_error"
    truth = "values"
    larger_is_better = False
    unit = "target^2"

    def values(self, outputs: Floats, truth: NDArray[Any]) -> Floats:
        """Return the mean over the outputs of each row; see `MeanMetric.values`."""
        return np.asarray(((outputs - truth) ** 2).mean(axis=1))


METRICS.add(MeanSquaredError.name, MeanSquaredError)
