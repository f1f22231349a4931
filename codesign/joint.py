"""The joint problem: (architecture, hardware configuration) pairs judged by score and cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from codesign.errors import BudgetError
from codesign.hardware.device import Budget
from codesign.hardware.scorer import (
    HardwareScorer,
    HardwareScores,
    constraint_names,
    limits,
    pessimistic,
    violations,
)
from codesign.ir import Population
from codesign.search.compose import Filter, Limit
from codesign.search.problem import Evaluation, Problem
from codesign.search.profilers import SpaceProfiler, precompute_chain
from codesign.search.rewards import (
    LexicographicContract,
    LinearPenaltyReward,
    LogCostReward,
    MnasnetReward,
    Reward,
)
from codesign.space import SearchSpace
from codesign.study import FilterSection, RewardSection

#: Maps a population to predicted scores, larger is better: mean and standard deviation, float[n] each.
ScoreModel = Callable[[Population], tuple[NDArray[np.float64], NDArray[np.float64]]]


@dataclass(frozen=True, kw_only=True)
class JointProblem:
    """What the search optimises; implements `codesign.search.problem.Problem`.

    Attributes:
        space: decodes genomes.
        scorer: predicts hardware cost.
        budget: hard limits.
        score: predicts the score, turned so that larger is better; asked only about candidates that fit the budget.
        objectives: names, all turned into minimisation ("score" becomes 1 - score).
        minimum_score: that a design must be predicted to have, turned as `score` is; None: none.
        pessimism: how many standard deviations are subtracted from the predicted score.
        score_confidence: probability with which the budget's minimum score must hold.
        hardware_confidence: at which hardware objectives count; None: the budget's.
    """

    space: SearchSpace
    scorer: HardwareScorer
    budget: Budget
    score: ScoreModel
    objectives: Sequence[str]
    minimum_score: float | None = None
    pessimism: float = 0.0
    score_confidence: float = 0.5
    hardware_confidence: float | None = None

    @property
    def upper(self) -> NDArray[np.int64]:
        """Greatest index of each gene."""
        return self.space.upper

    @property
    def ordered(self) -> NDArray[np.bool_]:
        """Whether neighbouring values of a gene are alike."""
        return np.array([gene.is_ordered for gene in self.space.genes])

    @property
    def objective_names(self) -> tuple[str, ...]:
        """Names of the minimised quantities."""
        return tuple("error" if name == "score" else name for name in self.objectives)

    @property
    def constraint_names(self) -> tuple[str, ...]:
        """Names of the hard limits."""
        return constraint_names(self.budget) + (
            ("score",) if self.minimum_score is not None else ()
        )

    def canonicalize(self, genomes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Set genes without effect to 0."""
        return self.space.canonicalize(genomes)

    def evaluate(self, genomes: NDArray[np.int64]) -> Evaluation:
        """Score int64[n, n_genes]."""
        population = self.space.decode(genomes)
        scores = self.scorer.score(population)
        excess = violations(scores, self.budget, self.scorer.device)
        fits = np.asarray((excess <= 0).all(axis=1))
        mean, std = np.zeros(len(genomes)), np.zeros(len(genomes))
        if fits.any():  # nobody reads the score of a design that cannot be built
            mean[fits], std[fits] = self.score(population.take(fits))
        if self.minimum_score is not None:
            # a chance constraint: P(error <= limit) >= confidence
            error = (1.0 - mean) + NormalDist().inv_cdf(self.score_confidence) * std
            lacking = np.where(fits, error - (1.0 - self.minimum_score), 1.0)
            excess = np.column_stack([excess, lacking])
        confidence = (
            self.budget.confidence if self.hardware_confidence is None else self.hardware_confidence
        )
        columns = [
            1.0 - (mean - self.pessimism * std)
            if name == "score"
            else hardware_objective(scores, name, confidence)
            for name in self.objectives
        ]
        return Evaluation(
            objectives=np.stack(columns, axis=1),
            violations=excess,
            metrics={
                "score": mean,
                "score_std": std,
                **{
                    name: scores.metrics[name].value
                    for name in ("latency_cycles", "latency_ns", "lut", "ff", "dsp", "bram_18k")
                },
                "utilization": scores.utilization,
                "clock_period_ns": scores.clock_period_ns,
            },
        )


def make_reward(section: RewardSection) -> Reward:
    """Build the reward that a study asks for.

    Raises:
        DesignError: a target or limit makes no sense.
    """
    target = section.target or 0.0
    if section.kind == "mnasnet":
        return MnasnetReward(
            error="error",
            cost=section.cost,
            target=target,
            alpha=section.alpha,
            beta=section.beta,
        )
    if section.kind == "log_cost":
        return LogCostReward(error="error", cost=section.cost, weight=section.weight)
    if section.kind == "linear_penalty":
        return LinearPenaltyReward(
            error="error", cost=section.cost, target=target, weight=section.weight
        )
    return LexicographicContract(error="error", limits=tuple(section.limits.items()))


def limit_problem(
    problem: Problem, section: FilterSection, space: SearchSpace, scorer: HardwareScorer
) -> Filter:
    """Put the cheap limits of a study before a problem.

    Raises:
        DesignError: an unknown figure, a limit that is not positive, or a figure that has no tables.
    """
    limits = []
    for figure, at_most in section.at_most.items():
        profiler = SpaceProfiler(space=space, scorer=scorer, figure=figure)
        chosen = precompute_chain(profiler) if section.tables else profiler
        limits.append(Limit(name=f"{figure} at most", profiler=chosen, at_most=at_most))
    return Filter(problem=problem, mode=section.mode, limits=tuple(limits))


def hardware_objective(scores: HardwareScores, name: str, confidence: float) -> NDArray[np.float64]:
    """Return float[n], a hardware quantity to minimise.

    Metrics with an interval count at the budget's confidence, so that a design is not preferred
    because little is known about it.
    """
    if name == "utilization":
        return scores.utilization
    if name == "energy_nj":
        return scores.energy_nj
    return pessimistic(scores.metrics[name], confidence)


def check_budget(
    space: SearchSpace,
    scorer: HardwareScorer,
    budget: Budget,
    *,
    seed: int,
    n_samples: int = 20_000,
) -> float:
    """Estimate the share of the space that fits the budget; refuse a budget that nothing meets.

    Looks at random pairs and at the corners where every ordered gene is least (the smallest designs).

    Returns:
        Share of random pairs that fit, 0..1.

    Raises:
        BudgetError: no pair fits; the message names each hopeless limit and by how much it is missed.
    """
    generator = np.random.default_rng(seed)
    genomes = space.sample(n_samples, generator)
    corners = genomes[: n_samples // 4].copy()
    ordered = np.array([gene.is_ordered for gene in space.genes])
    clock = [i for i, gene in enumerate(space.genes) if gene.name.startswith(("clock", "reuse"))]
    small = ordered.copy()
    small[clock] = False
    corners[:, small] = 0
    scores = scorer.score(space.decode(np.concatenate([genomes, space.canonicalize(corners)])))
    excess = violations(scores, budget, scorer.device)
    fits = np.asarray((excess <= 0).all(axis=1))
    if fits.any():
        return float(fits[:n_samples].mean())
    names = constraint_names(budget)
    hopeless = [
        f"{name} (limit {limit:g}, least found {_least(scores, name, excess[:, i], limit):.4g})"
        for i, (name, limit) in enumerate(limits(budget, scorer.device).items())
        if (excess[:, i] > 0).all()
    ]
    if hopeless:
        raise BudgetError(
            f"budget {budget.name!r} on {scorer.device.name}: of {len(excess)} designs of space {space.name!r} none meets"
            f" {' or '.join(hopeless)}; raise that limit, or widen the space"
        )
    best = excess[np.argmin(np.maximum(excess, 0).max(axis=1))]
    nearest = ", ".join(
        f"{name} by {100 * value:.0f} %"
        for name, value in zip(names, best, strict=True)
        if value > 0
    )
    raise BudgetError(
        f"budget {budget.name!r} on {scorer.device.name}: each limit can be met alone, but of {len(excess)} designs of space"
        f" {space.name!r} none meets all together; the nearest misses {nearest}; relax these, or widen the space"
    )


def _least(scores: HardwareScores, name: str, excess: NDArray[np.float64], limit: float) -> float:
    return float(excess.min() * max(limit, 1.0) + limit)
