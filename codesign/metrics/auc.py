"""AUC: the area under the ROC curve."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from codesign.metrics._classes import signals_and_backgrounds, tails
from codesign.metrics.base import METRICS, Floats, Metric


class Auc(Metric):
    """Chance that a signal row scores above a background row, ties counting half; 0..1.

    With several outputs and no `signal`, the mean over the classes, each against all others.

    Attributes:
        signal: index of the signal class, judged against class 0 alone; None: see above.
    """

    name = "auc"
    truth = "classes"
    larger_is_better = True

    signal: int | None = Field(default=None, ge=1)

    def scores(self, outputs: Floats, truth: NDArray[Any], weights: Floats) -> Floats:
        """Return the area for each weighting; see `Metric.scores`."""
        areas = []
        pairs = signals_and_backgrounds(outputs, truth, self.signal, metric=self.name)
        for score, is_signal, is_background in pairs:
            used = is_signal | is_background
            _, passing = tails(score[used], weights[:, used] * is_signal[used])
            _, false = tails(score[used], weights[:, used] * is_background[used])
            before = np.concatenate([np.zeros((len(weights), 1)), passing[:, :-1]], axis=1)
            width = np.diff(false, axis=1, prepend=0.0)
            areas.append((0.5 * (passing + before) * width).sum(axis=1))
        return np.asarray(np.mean(areas, axis=0))


METRICS.add(Auc.name, Auc)
