"""What metrics with a threshold share: efficiency where a given share of the background passes."""

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from codesign.errors import DataError
from codesign.metrics._classes import (
    effective_events,
    efficiency_at_share,
    signals_and_backgrounds,
)
from codesign.metrics.base import Floats, Metric

#: Background events that a threshold must rest on.
MIN_PASSING = 10


class ThresholdMetric(Metric):
    """Share of signal rows that pass where a share of the background does; 0..1.

    Attributes:
        signal: index of the signal class, judged against class 0; None: as for `auc`.
    """

    truth = "classes"
    larger_is_better = True

    signal: int | None = Field(default=None, ge=1)

    @property
    @abstractmethod
    def share(self) -> float:
        """Share of the background that may pass, between 0 and 1."""

    def scores(self, outputs: Floats, truth: NDArray[Any], weights: Floats) -> Floats:
        """Return the efficiency for each weighting; see `Metric.scores`."""
        return self._efficiency(outputs, truth, weights)[0]

    def threshold(self, outputs: Floats, truth: NDArray[Any], weights: Floats) -> float:
        """Return the least score that passes.

        Args:
            outputs, truth: as in `scores`.
            weights: float64 [n].
        """
        return float(self._efficiency(outputs, truth, weights[None])[1][0])

    def _efficiency(
        self, outputs: Floats, truth: NDArray[Any], weights: Floats
    ) -> tuple[Floats, Floats]:
        found = [
            efficiency_at_share(score, is_signal, is_background, weights, self.share)
            for score, is_signal, is_background in signals_and_backgrounds(
                outputs, truth, self.signal, metric=self.name
            )
        ]
        return np.mean([f[0] for f in found], axis=0), found[0][1]

    def _checked(
        self, outputs: NDArray[Any], truth: NDArray[Any], weights: NDArray[Any] | None
    ) -> tuple[Floats, NDArray[Any], Floats]:
        outputs, truth, weights = super()._checked(outputs, truth, weights)
        pairs = signals_and_backgrounds(outputs, truth, self.signal, metric=self.name)
        n_events = min(effective_events(weights[background]) for _, _, background in pairs)
        needed = int(np.ceil(MIN_PASSING / self.share))
        if n_events < needed:
            raise DataError(
                f"metric {self.name}: a threshold that passes a share of {self.share:.3g} of the background needs"
                f" {needed} background events (so that {MIN_PASSING} pass), got {n_events:.0f}; give more, or pass"
                " more"
            )
        return outputs, truth, weights
