"""True-positive rate at a false-positive rate."""

from pydantic import Field

from codesign.metrics._threshold import ThresholdMetric
from codesign.metrics.base import METRICS


class TprAtFpr(ThresholdMetric):
    """Share of signal rows that pass where a share `fpr` of the background does; 0..1.

    Attributes:
        fpr: share of the background that passes.
    """

    name = "tpr_at_fpr"

    fpr: float = Field(gt=0.0, lt=1.0)

    @property
    def title(self) -> str:
        """Name with the false-positive rate."""
        return f"tpr at fpr {self.fpr:g}"

    @property
    def share(self) -> float:
        """The false-positive rate."""
        return self.fpr


METRICS.add(TprAtFpr.name, TprAtFpr)
