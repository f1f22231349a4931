"""Scalars that single-objective strategies maximise, over the same evaluations as everything else.

Constraints stay hard whatever the reward: strategies put every feasible genome before every
infeasible one, so no violation can be bought.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from codesign.errors import DesignError
from codesign.search.problem import Evaluation, Floats


class Reward(Protocol):
    """Turns evaluations into one number each."""

    def __call__(self, evaluation: Evaluation, names: tuple[str, ...]) -> Floats:
        """Return float[n], larger is better.

        Args:
            evaluation: the genomes' evaluation.
            names: the problem's objective names, which locate the columns.
        """
        ...


def objective_column(evaluation: Evaluation, names: tuple[str, ...], name: str) -> Floats:
    """Return the objective called `name`, float[n].

    Raises:
        DesignError: the problem has no such objective.
    """
    if name not in names:
        raise DesignError(f"unknown objective {name!r}; the problem has {', '.join(names)}")
    return np.asarray(evaluation.objectives[:, names.index(name)])


@dataclass(frozen=True, kw_only=True)
class MnasnetReward:
    """score * (latency / target) ** w.

    Source: Tan et al., MnasNet (CVPR 2019), eq. 2 and 3; w = alpha where the target is met and beta
    where it is missed; the paper's soft form is alpha = beta = -0.07.

    Attributes:
        error: objective that holds 1 - score, in 0..1.
        cost: objective that holds the latency (or another cost), positive.
        target: what the cost should be, in the cost's unit.
        alpha: exponent where cost <= target.
        beta: exponent where cost > target.
    """

    error: str
    cost: str
    target: float
    alpha: float = -0.07
    beta: float = -0.07

    def __post_init__(self) -> None:
        if not self.target > 0:
            raise DesignError(f"MnasNet target: expected a positive number, got {self.target}")

    def __call__(self, evaluation: Evaluation, names: tuple[str, ...]) -> Floats:
        score = 1.0 - objective_column(evaluation, names, self.error)
        ratio = _positive(objective_column(evaluation, names, self.cost), self.cost) / self.target
        return np.asarray(score * ratio ** np.where(ratio <= 1, self.alpha, self.beta))


@dataclass(frozen=True, kw_only=True)
class LogCostReward:
    """score - weight * log(cost): the loss term of ProxylessNAS and FBNet, as a reward.

    Source: Wu et al., FBNet (CVPR 2019), eq. 2 (alpha * log(LAT) ** beta with beta = 1, additive).
    """

    error: str
    cost: str
    weight: float

    def __call__(self, evaluation: Evaluation, names: tuple[str, ...]) -> Floats:
        score = 1.0 - objective_column(evaluation, names, self.error)
        cost = _positive(objective_column(evaluation, names, self.cost), self.cost)
        return np.asarray(score - self.weight * np.log(cost))


@dataclass(frozen=True, kw_only=True)
class LinearPenaltyReward:
    """score - weight * max(0, cost / target - 1)."""

    error: str
    cost: str
    target: float
    weight: float

    def __post_init__(self) -> None:
        if not self.target > 0:
            raise DesignError(f"penalty target: expected a positive number, got {self.target}")

    def __call__(self, evaluation: Evaluation, names: tuple[str, ...]) -> Floats:
        score = 1.0 - objective_column(evaluation, names, self.error)
        cost = objective_column(evaluation, names, self.cost)
        return np.asarray(score - self.weight * np.maximum(0.0, cost / self.target - 1.0))


@dataclass(frozen=True, kw_only=True)
class LexicographicContract:
    """A trigger's contract: meet the limits in order, then be as accurate as possible.

    A design that misses its first limit is below every design that meets it, whatever the rest;
    among those that meet the first k limits and miss the next, the smaller miss wins; among those
    that meet all, the smaller error.

    Attributes:
        error: objective to minimise once every limit is met, in 0..1.
        limits: (objective, limit) in order of importance: latency_ns, interval_cycles, share of part.
    """

    error: str
    limits: tuple[tuple[str, float], ...]

    def __post_init__(self) -> None:
        if any(not limit > 0 for _, limit in self.limits):
            raise DesignError(f"contract limits: expected positive numbers, got {self.limits}")

    def __call__(self, evaluation: Evaluation, names: tuple[str, ...]) -> Floats:
        reward = 1.0 - objective_column(evaluation, names, self.error)
        is_open = np.ones(len(evaluation), dtype=bool)
        for n_met, (name, limit) in enumerate(self.limits):
            excess = np.maximum(0.0, objective_column(evaluation, names, name) / limit - 1.0)
            missed = is_open & (excess > 0)
            # 1 / (1 + excess) lies in (0, 1): each limit met is worth one whole unit
            reward[missed] = n_met - len(self.limits) + (1.0 / (1.0 + excess[missed])) - 1.0
            is_open &= ~missed
        return reward


def _positive(cost: Floats, name: str) -> Floats:
    if (cost <= 0).any():
        raise DesignError(f"objective {name!r} is {cost.min()}; this reward needs positive costs")
    return cost
