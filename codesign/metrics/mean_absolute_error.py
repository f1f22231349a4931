"""Mean absolute error, over all outputs."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.metrics.base import METRICS, Floats, MeanMetric


class MeanAbsoluteError(MeanMetric):
    """Mean of |output - truth|."""

    name = "mean_absolute_error"
    truth = "values"
    larger_is_better = False
    unit = "target"

    def values(self, outputs: Floats, truth: NDArray[Any]) -> Floats:
        """Return the mean over the outputs of each row; see `MeanMetric.values`."""
        return np.asarray(np.abs(outputs - truth).mean(axis=1))


METRICS.add(MeanAbsoluteError.name, MeanAbsoluteError)
