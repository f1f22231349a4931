"""Signal efficiency at a trigger rate: what trigger groups are judged by."""

from typing import Self

from pydantic import Field, model_validator

from codesign.metrics._threshold import ThresholdMetric
from codesign.metrics.base import METRICS

#: Every bunch crossing of the LHC.
CROSSING_RATE_KHZ = 40_000.0


class EfficiencyAtRate(ThresholdMetric):
    """Share of signal that passes at the threshold where the background fires at `rate_khz`; 0..1.

    The threshold is set on the background rows (class 0): zero-bias events, or what a stated filter
    lets through; they stand for `input_rate_khz` in proportion to their weights.

    Attributes:
        rate_khz: rate that the trigger may take.
        input_rate_khz: rate that all background rows together stand for; 40,000 is every bunch
            crossing of the LHC.
    """

    name = "efficiency_at_rate"

    rate_khz: float = Field(gt=0.0)
    input_rate_khz: float = Field(default=CROSSING_RATE_KHZ, gt=0.0)

    @model_validator(mode="after")
    def _rate_is_below_input(self) -> Self:
        if self.rate_khz >= self.input_rate_khz:
            raise ValueError(
                f"rate_khz is {self.rate_khz:g}, but only {self.input_rate_khz:g} kHz come in (input_rate_khz);"
                " choose a rate below"
            )
        return self

    @property
    def title(self) -> str:
        """Name with the rate."""
        return f"efficiency at {self.rate_khz:g} kHz"

    @property
    def share(self) -> float:
        """Rate over input rate."""
        return self.rate_khz / self.input_rate_khz


METRICS.add(EfficiencyAtRate.name, EfficiencyAtRate)
