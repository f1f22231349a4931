"""What metrics of values share: residuals and weighted quantiles."""

import numpy as np
from pydantic import Field

from codesign.errors import DataError
from codesign.metrics.base import Floats, Metric


class ResidualMetric(Metric):
    """A metric of one output's residual.

    Attributes:
        output: which output, from 0.
        relative: divide the residual by the true value.
    """

    truth = "values"
    larger_is_better = False
    unit = "target"

    output: int = Field(default=0, ge=0)
    relative: bool = False

    @property
    def title(self) -> str:
        """Name, and whether residuals are relative."""
        return f"relative {self.name}" if self.relative else super().title

    def unit_of(self, target_unit: str) -> str:
        """Return the target's unit; none of a relative residual."""
        return "" if self.relative else super().unit_of(target_unit)

    def residuals(self, outputs: Floats, truth: Floats) -> Floats:
        """Return output - truth, relative to the truth when so wished, float64 [n].

        Raises:
            DataError: no such output; a true value of 0 to divide by.
        """
        if self.output >= outputs.shape[1]:
            raise DataError(
                f"metric {self.name}: output {self.output} does not exist; there are {outputs.shape[1]}, from 0"
            )
        true = truth[:, self.output]
        difference = outputs[:, self.output] - true
        if not self.relative:
            return np.asarray(difference)
        if (true == 0).any():
            raise DataError(
                f"metric {self.name}: {int((true == 0).sum())} true values are 0, so no residual relative to them"
                " exists; drop those rows or set relative: false"
            )
        return np.asarray(difference / np.abs(true))


def weighted_quantiles(values: Floats, weights: Floats, levels: Floats) -> Floats:
    """Return quantiles of values for each weighting, float64 [n_weightings, n_levels].

    The middle of each value's weight is its level; between them it is linear (Hazen's rule).
    """
    order = np.argsort(values, kind="stable")
    ordered = weights[:, order]
    level = np.cumsum(ordered, axis=1) - 0.5 * ordered
    level /= ordered.sum(axis=1, keepdims=True)
    return np.stack([np.interp(levels, row, values[order]) for row in level])
