"""Resolution: how far residuals spread."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from codesign.metrics._values import ResidualMetric, weighted_quantiles
from codesign.metrics.base import METRICS, Floats

#: A normal distribution's mean +- one standard deviation.
_CENTRAL = np.array([0.158655254, 0.841344746])


class Resolution(ResidualMetric):
    """Standard deviation of the residual, or half the width of its central 68.27 %.

    Attributes:
        of: "interquantile" (tails do not count) or "std".
    """

    name = "resolution"
    of: Literal["interquantile", "std"] = "interquantile"

    def scores(self, outputs: Floats, truth: NDArray[Any], weights: Floats) -> Floats:
        """Return the spread for each weighting; see `Metric.scores`."""
        residuals = self.residuals(outputs, truth)
        if self.of == "interquantile":
            low, high = weighted_quantiles(residuals, weights, _CENTRAL).T
            return np.asarray(0.5 * (high - low))
        total = weights.sum(axis=1)
        mean = weights @ residuals / total
        second = weights @ residuals**2 / total
        return np.asarray(np.sqrt(np.maximum(second - mean**2, 0.0)))


METRICS.add(Resolution.name, Resolution)
