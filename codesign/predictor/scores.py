"""Normal scores of labels: what predictors learn, and the way back to score."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class NormalScores:
    """The monotone map between labels and normal scores of their ranks (van der Waerden).

    score = inverse normal CDF of rank / (n + 1), ties sharing their mean rank.  A network then
    spends its capacity on the ranking, wherever the labels crowd.

    Attributes:
        labels: float64[k], distinct training labels, rising.
        scores: float64[k], their scores, rising.
        tail_slopes: labels per unit of score below and above the training labels.
    """

    labels: Floats
    scores: Floats
    tail_slopes: tuple[float, float]

    @classmethod
    def fit(cls, labels: Floats) -> "NormalScores":
        """Learn the map from training labels float64[n]."""
        from scipy.stats import norm, rankdata  # half a second to load

        ranks = norm.ppf(rankdata(labels) / (len(labels) + 1))
        distinct, first = np.unique(labels, return_index=True)
        scores = ranks[first]
        reach = max(2, len(distinct) // 10)
        low = (distinct[reach - 1] - distinct[0]) / (scores[reach - 1] - scores[0])
        high = (distinct[-1] - distinct[-reach]) / (scores[-1] - scores[-reach])
        return cls(labels=distinct, scores=scores, tail_slopes=(float(low), float(high)))

    def to_scores(self, labels: Floats) -> Floats:
        """Return the scores of labels; straight lines between and beyond the training labels."""
        return self._map(labels, self.labels, self.scores, tuple(1.0 / s for s in self.tail_slopes))

    def to_labels(self, scores: Floats) -> Floats:
        """Return the labels of scores; the inverse of `to_scores`."""
        return self._map(scores, self.scores, self.labels, self.tail_slopes)

    def spread(self, mean: Floats, std: Floats) -> Floats:
        """Return the standard deviation in labels of a normal score: half the one-sigma range."""
        return (self.to_labels(mean + std) - self.to_labels(mean - std)) / 2.0

    @staticmethod
    def _map(values: Floats, x: Floats, y: Floats, slopes: tuple[float, ...]) -> Floats:
        values = np.asarray(values, np.float64)
        inside = np.interp(values, x, y)
        below = np.minimum(values - x[0], 0.0) * slopes[0]
        above = np.maximum(values - x[-1], 0.0) * slopes[1]
        return np.asarray(inside + below + above)

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return a JSON-ready mapping and the arrays."""
        return {"tail_slopes": list(self.tail_slopes)}, {
            "labels": self.labels,
            "scores": self.scores,
        }

    @classmethod
    def restore(cls, meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> "NormalScores":
        """Rebuild from `state`."""
        low, high = meta["tail_slopes"]
        return cls(labels=arrays["labels"], scores=arrays["scores"], tail_slopes=(low, high))
