"""NSGA-II with half of its parents chosen in random directions: the default.

Survival is that of NSGA-II: feasible before infeasible, then by rank, then by crowding.  Of the
parents one half wins NSGA-II's binary tournaments, which fill the front evenly; the other half wins
tournaments of a quarter of the population in a random direction of the objectives each, as in
regularized evolution here, which presses on where a short search needs it.  Every child is crossed,
then mutated.

Source: Deb et al., IEEE TEC 6(2), 2002; random directions after Ishibuchi and Murata, multi-objective
genetic local search, IEEE TSMC-C 28(3), 1998.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

from codesign.search.problem import Evaluation, Floats, Genomes, Problem
from codesign.search.strategies._pymoo import Growth, finite_objectives
from codesign.search.strategies._scalar import augmented_tchebycheff
from codesign.search.strategies._variation import (
    N_ATTEMPTS,
    GenomeMemory,
    crossover,
    first_generation,
    mutate,
    sample_new,
)
from codesign.search.strategies.base import STRATEGIES, Strategy, StrategySettings, refuse_reward

#: As in `nsga2`, tuned on synthetic spaces.
GROWTH: Final = Growth(population=(40, 400), children=(20, 400), share=0.05)
#: Share of the parents that win a tournament in a random direction.
DIRECTED_SHARE: Final = 0.5
#: Share of the population that takes part in such a tournament.
SAMPLE_SHARE: Final = 0.25


class DirectedNsga2(Strategy):
    """Keeps a population as arrays."""

    def __init__(
        self, problem: Problem, *, seed: int, growth: Growth, initial: Genomes | None
    ) -> None:
        n_objectives = len(problem.objective_names)
        self._problem = problem
        self._generator = np.random.default_rng(seed)
        self._memory = GenomeMemory(problem.upper)
        self._growth = growth
        self._initial = initial
        self._n_told = 0
        self._asked = np.zeros((0, len(problem.upper)), dtype=np.int64)
        self._members = self._asked
        self._objectives = np.zeros((0, n_objectives))
        self._violation = np.zeros(0)
        self._rank = np.zeros(0, dtype=np.int64)
        self._crowding = np.zeros(0)

    def ask(self) -> Genomes:
        """See `Strategy.ask`."""
        n_members, n_children = self._growth.sizes(self._n_told)
        if len(self._members) == 0:
            # given genomes are all evaluated, however many: a former front is worth it
            n_first = n_members if self._initial is None else max(n_members, len(self._initial))
            self._asked = first_generation(
                self._problem, self._memory, self._initial, n_first, self._generator
            )
        else:
            self._asked = self._breed(n_children)
        canonical = self._problem.canonicalize(self._asked)
        self._memory.add(canonical)
        return canonical

    def _breed(self, n: int) -> Genomes:
        children = self._members[:0]
        for attempt in range(N_ATTEMPTS):
            n_pairs = 2 * (n - len(children)) + 4
            mothers, fathers = self._members[self._parents(2 * n_pairs)].reshape(
                2, n_pairs, len(self._problem.upper)
            )
            born = mutate(
                crossover(mothers, fathers, 1.0, self._generator),
                self._problem.upper,
                self._problem.ordered,
                self._generator,
                # the nearer neighbourhood is used up: look further away
                strength=1.0 + 0.25 * attempt,
            )
            children = np.concatenate([children, born])
            children = children[self._memory.is_new(self._problem.canonicalize(children))][:n]
            if len(children) == n:
                return children
        if len(children) > 0:
            return children
        return sample_new(self._problem, self._memory, n, self._generator)

    def _parents(self, n: int) -> NDArray[np.int64]:
        """Return n rows of the population, winners of both kinds of tournament, shuffled."""
        n_directed = round(DIRECTED_SHARE * n)
        rows = np.concatenate([self._directed(n_directed), self._ranked(n - n_directed)])
        return self._generator.permutation(rows)

    def _directed(self, n: int) -> NDArray[np.int64]:
        size = max(2, int(SAMPLE_SHARE * len(self._members)))
        rows = self._generator.integers(0, len(self._members), size=(n, size))
        weights = self._generator.dirichlet(np.ones(self._objectives.shape[1]), size=n)
        best = self._objectives[self._rank == 0]
        ideal, nadir = best.min(axis=0), best.max(axis=0)
        scaled = (self._objectives - ideal) / np.where(nadir > ideal, nadir - ideal, 1.0)
        distance = augmented_tchebycheff(scaled[rows], weights[:, None, :])
        # infeasible members after all feasible ones, by their violation
        violation = self._violation[rows]
        distance = np.where(violation > 0, distance.max(initial=0.0) + 1.0 + violation, distance)
        return np.asarray(rows[np.arange(n), distance.argmin(axis=1)])

    def _ranked(self, n: int) -> NDArray[np.int64]:
        left, right = self._generator.integers(0, len(self._members), size=(2, n))
        by_crowding = np.where(self._crowding[left] >= self._crowding[right], left, right)
        by_rank = np.where(self._rank[left] < self._rank[right], left, right)
        by_rank = np.where(self._rank[left] == self._rank[right], by_crowding, by_rank)
        by_violation = np.where(self._violation[left] <= self._violation[right], left, right)
        feasible = (self._violation[left] <= 0) & (self._violation[right] <= 0)
        return np.asarray(np.where(feasible, by_rank, by_violation))

    def tell(self, genomes: Genomes, evaluation: Evaluation) -> None:
        """See `Strategy.tell`."""
        self._n_told += len(genomes)
        self._members = np.concatenate([self._members, self._asked])
        self._objectives = np.concatenate([self._objectives, finite_objectives(evaluation)])
        self._violation = np.concatenate([self._violation, evaluation.total_violation])
        n_members, _ = self._growth.sizes(self._n_told)
        rows, self._rank, self._crowding = survivors(self._objectives, self._violation, n_members)
        self._members = self._members[rows]
        self._objectives = self._objectives[rows]
        self._violation = self._violation[rows]


def survivors(
    objectives: Floats, violation: Floats, n: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """Select the members of the next generation.

    Args:
        objectives: float[k, m].
        violation: float[k], 0 where feasible.
        n: how many to keep, at least 1.

    Returns:
        int64[min(n, k)] rows kept; of each its rank (infeasible ones after the last front) and its
        crowding distance (0 for infeasible ones).
    """
    feasible = np.flatnonzero(violation <= 0)
    kept: list[NDArray[np.int64]] = []
    ranks: list[NDArray[np.int64]] = []
    distances: list[Floats] = []
    n_left = n
    if len(feasible) > 0:
        for front in NonDominatedSorting().do(objectives[feasible], n_stop_if_ranked=n):
            rows = feasible[front]
            distance = crowding_distance(objectives[rows])
            best = np.argsort(-distance, kind="stable")[:n_left]
            kept.append(rows[best])
            ranks.append(np.full(len(best), len(ranks)))
            distances.append(distance[best])
            n_left -= len(best)
            if n_left == 0:
                break
    if n_left > 0:
        infeasible = np.flatnonzero(violation > 0)
        least = infeasible[np.argsort(violation[infeasible], kind="stable")[:n_left]]
        kept.append(least)
        ranks.append(np.full(len(least), len(ranks)))
        distances.append(np.zeros(len(least)))
    return np.concatenate(kept), np.concatenate(ranks), np.concatenate(distances)


def crowding_distance(front: Floats) -> Floats:
    """Return float[n]: the sides of the box between a member's neighbours, summed; ends infinite."""
    n = len(front)
    if n <= 2:
        return np.full(n, np.inf)
    distance = np.zeros(n)
    for values in front.T:
        order = np.argsort(values, kind="stable")
        ascending = values[order]
        span = max(float(ascending[-1] - ascending[0]), 1e-300)
        distance[order[[0, -1]]] = np.inf
        distance[order[1:-1]] += (ascending[2:] - ascending[:-2]) / span
    return distance


def make_directed_nsga2(problem: Problem, *, seed: int, settings: StrategySettings) -> Strategy:
    """Build it; see `StrategyFactory`.

    Unless a population size is set it grows from 40 to 400 as evaluations come in, and the children
    per generation from 20 to 400.
    """
    refuse_reward("directed_nsga2", settings)
    growth = GROWTH
    if settings.population_size is not None:
        size = settings.population_size
        growth = Growth(population=(size, size), children=(size // 2, size // 2), share=0.0)
    return DirectedNsga2(problem, seed=seed, growth=growth, initial=settings.initial)


STRATEGIES.add("directed_nsga2", make_directed_nsga2)
