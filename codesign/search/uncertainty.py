"""Searching with values that are only known with an uncertainty.

Two forms come in: a mean with a standard deviation (score of the predictor), and a value with
the ends of its 90 % interval (hardware estimates).  Both become a `Belief`, a two-piece normal
distribution; an objective uses its mean or a pessimistic quantile, a constraint its mean, or the
chance that it holds ("fits with 95 %").
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.stats import norm

from codesign.errors import DesignError
from codesign.search.problem import Floats

#: Standard normal quantile at 95 %: the half width of a 90 % interval in standard deviations.
Z_90_PERCENT: Final = float(norm.ppf(0.95))


@dataclass(frozen=True, kw_only=True)
class Belief:
    """What is believed of n values: a two-piece normal distribution each.

    Attributes:
        value: float[n], the most likely value.
        std_below: float[n], standard deviation of the lower half, at least 0.
        std_above: float[n], standard deviation of the upper half, at least 0.
    """

    value: Floats
    std_below: Floats
    std_above: Floats

    def __post_init__(self) -> None:
        if not (self.value.shape == self.std_below.shape == self.std_above.shape):
            raise DesignError("a belief's value and deviations differ in shape; give one each")
        if not ((self.std_below >= 0).all() and (self.std_above >= 0).all()):
            raise DesignError(
                "a belief has a negative or NaN deviation; check that low <= value <= high"
            )

    def quantile(self, share: float) -> Floats:
        """Return float[n], the value that a share of the distribution lies below.

        Args:
            share: in 0..1, ends excluded.

        Raises:
            DesignError: the share is not between 0 and 1.
        """
        if not 0 < share < 1:
            raise DesignError(f"confidence: expected a number between 0 and 1, got {share}")
        deviations = float(norm.ppf(share))
        return self.value + deviations * (self.std_above if deviations > 0 else self.std_below)

    def chance_at_most(self, limit: float) -> Floats:
        """Return float[n], the probability that the value does not exceed `limit`."""
        distance = limit - self.value
        std = np.where(distance > 0, self.std_above, self.std_below)
        certain = np.where(distance >= 0, 1.0, 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            uncertain = norm.cdf(distance / std)
        return np.where(std > 0, uncertain, certain)


def belief_from_std(mean: Floats, std: Floats) -> Belief:
    """Believe in a normal distribution: float[n] means and standard deviations."""
    return Belief(value=mean, std_below=std, std_above=std)


def belief_from_interval(value: Floats, low: Floats, high: Floats) -> Belief:
    """Believe in a 90 % interval [low, high] around value, each end 1.645 deviations away."""
    return Belief(
        value=value,
        std_below=(value - low) / Z_90_PERCENT,
        std_above=(high - value) / Z_90_PERCENT,
    )


@dataclass(frozen=True, kw_only=True)
class Attitude:
    """How uncertain values are turned into the numbers that a search compares.

    Attributes:
        confidence: 0.5 uses the values themselves; 0.95 uses, for an objective, the value that is
            not exceeded in 95 % of cases, and for a constraint, "holds with 95 %".
    """

    confidence: float = 0.5

    def __post_init__(self) -> None:
        if not 0.5 <= self.confidence < 1:
            raise DesignError(
                f"confidence: expected at least 0.5 and below 1, got {self.confidence}"
            )

    def minimised(self, belief: Belief) -> Floats:
        """Return float[n], the objective to minimise: the value or its pessimistic quantile."""
        return belief.quantile(self.confidence)

    def violation(self, belief: Belief, limit: float) -> Floats:
        """Return the relative violation of `value <= limit`, at most 0 where it holds.

        It holds exactly where P(value <= limit) >= confidence.

        Raises:
            DesignError: the limit is not positive.
        """
        if not limit > 0:
            raise DesignError(f"limit: expected a positive number, got {limit}")
        return belief.quantile(self.confidence) / limit - 1.0
