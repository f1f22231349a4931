"""Bias: the mean or median residual."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from codesign.metrics._values import ResidualMetric, weighted_quantiles
from codesign.metrics.base import METRICS, Floats


class Bias(ResidualMetric):
    """Mean or median of output - truth; best at 0, signed.

    Attributes:
        of: "mean" or "median".
    """

    name = "bias"
    of: Literal["mean", "median"] = "mean"

    def scores(self, outputs: Floats, truth: NDArray[Any], weights: Floats) -> Floats:
        """Return the bias for each weighting; see `Metric.scores`."""
        residuals = self.residuals(outputs, truth)
        if self.of == "median":
            return weighted_quantiles(residuals, weights, np.array([0.5]))[:, 0]
        return np.asarray(weights @ residuals / weights.sum(axis=1))


METRICS.add(Bias.name, Bias)
