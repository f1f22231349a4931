"""One ask/tell adapter for every pymoo algorithm: integer operators, hard constraints, no repeats.

pymoo sees rows of integers with objectives F and inequality constraints G; its survival puts every
feasible individual before every infeasible one.  Mating is ours: vectorised over the generation,
and a genome whose canonical form was asked for before is never asked for again.  Individuals keep
their raw genomes, so a gene that is idle now (the width of an absent layer) keeps a sensible value
for the day it matters.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.core.evaluator import Evaluator
from pymoo.core.infill import InfillCriterion
from pymoo.core.population import Population
from pymoo.core.problem import Problem as PymooProblem
from pymoo.core.sampling import Sampling
from pymoo.core.termination import NoTermination
from pymoo.problems.static import StaticProblem

from codesign.errors import DesignError
from codesign.search.problem import Evaluation, Floats, Genomes, Problem
from codesign.search.strategies._variation import (
    N_ATTEMPTS,
    GenomeMemory,
    crossover,
    mutate,
    sample_new,
)
from codesign.search.strategies.base import Strategy


class IntegerSampling(Sampling):  # type: ignore[misc]  # pymoo is untyped
    """First generation: the given genomes, then uniform random ones."""

    def __init__(self, domain: Problem, memory: GenomeMemory, initial: Genomes | None) -> None:
        super().__init__()
        self._domain = domain
        self._memory = memory
        self._initial = initial

    def do(
        self,
        problem: PymooProblem,
        n_samples: int,
        *args: Any,
        random_state: np.random.Generator,
        **kwargs: Any,
    ) -> Population:
        """Return `n_samples` individuals, fewer when the space has fewer."""
        genomes = np.zeros((0, len(self._domain.upper)), dtype=np.int64)
        if self._initial is not None:
            genomes = self._initial[self._memory.is_new(self._domain.canonicalize(self._initial))]
            genomes = genomes[:n_samples]
            self._memory.add(self._domain.canonicalize(genomes))
        drawn = sample_new(self._domain, self._memory, n_samples - len(genomes), random_state)
        self._memory.add(self._domain.canonicalize(drawn))
        return Population.new("X", np.concatenate([genomes, drawn]))


def tournament(population: Population, n: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Pick n rows by binary tournament: smaller violation, then rank, then larger crowding."""
    violation = population.get("CV")[:, 0]
    rank = _attribute(population, "rank")
    crowding = _attribute(population, "crowding")
    pairs = generator.integers(0, len(population), size=(n, 2))
    left, right = pairs[:, 0], pairs[:, 1]
    both_feasible = (violation[left] <= 0) & (violation[right] <= 0)
    # written out, not as one key: differences of infinite crowding distances are NaN
    by_crowding = np.where(crowding[left] >= crowding[right], left, right)
    by_rank = np.where(rank[left] < rank[right], left, right)
    by_rank = np.where(rank[left] == rank[right], by_crowding, by_rank)
    by_violation = np.where(violation[left] <= violation[right], left, right)
    return np.where(both_feasible, by_rank, by_violation)


def _attribute(population: Population, name: str) -> Floats:
    """Read a survival's mark as floats; individuals that carry none (infeasible ones) get 0."""
    values = [individual.get(name) for individual in population]
    return np.array([0.0 if value is None else value for value in values], dtype=np.float64)


class IntegerMating(InfillCriterion):  # type: ignore[misc]
    """Offspring of a generation: tournament (or given parents), crossover, mutation, no repeats."""

    def __init__(self, domain: Problem, memory: GenomeMemory, probability: float) -> None:
        super().__init__()
        self._domain = domain
        self._memory = memory
        self._probability = probability
        #: MOEA/D reads the number of parents from here, as from pymoo's own mating.
        self.crossover = self
        self.n_parents = 2

    def do(
        self,
        problem: PymooProblem,
        pop: Population,
        n_offsprings: int,
        *args: Any,
        random_state: np.random.Generator,
        parents: Population | None = None,
        **kwargs: Any,
    ) -> Population:
        """Return the offspring; with `parents` [n, 2] exactly one per row, in order."""
        pool: Genomes = pop.get("X")
        if parents is None:
            children = self._breed_any(pool, pop, n_offsprings, random_state)
        else:
            # pymoo's selections hand over individuals, not their row numbers
            mothers: Genomes = parents[:, 0].view(Population).get("X")
            fathers: Genomes = parents[:, 1].view(Population).get("X")
            children = self._breed_rows(mothers, fathers, random_state)
        self._memory.add(self._domain.canonicalize(children))
        return Population.new("X", children)

    def _cross(
        self, mothers: Genomes, fathers: Genomes, generator: np.random.Generator, attempt: int
    ) -> Genomes:
        mixed = crossover(mothers, fathers, self._probability, generator)
        return mutate(
            mixed,
            self._domain.upper,
            self._domain.ordered,
            generator,
            # the nearer neighbourhood is used up: look further away
            strength=1.0 + 0.25 * attempt,
        )

    def _breed_any(
        self, pool: Genomes, pop: Population, n: int, generator: np.random.Generator
    ) -> Genomes:
        children = np.zeros((0, pool.shape[1]), dtype=np.int64)
        for attempt in range(N_ATTEMPTS):
            n_pairs = 2 * (n - len(children)) + 4
            mothers, fathers = pool[tournament(pop, 2 * n_pairs, generator)].reshape(
                2, n_pairs, pool.shape[1]
            )
            born = self._cross(mothers, fathers, generator, attempt)
            children = np.concatenate([children, born])
            children = children[self._memory.is_new(self._domain.canonicalize(children))][:n]
            if len(children) == n:
                break
        return children

    def _breed_rows(
        self, mothers: Genomes, fathers: Genomes, generator: np.random.Generator
    ) -> Genomes:
        children = self._cross(mothers, fathers, generator, 0)
        for attempt in range(1, N_ATTEMPTS):
            stale = ~self._memory.is_new(self._domain.canonicalize(children))
            if not stale.any():
                break
            children[stale] = self._cross(mothers[stale], fathers[stale], generator, attempt)
        return children


@dataclass(frozen=True, kw_only=True)
class Growth:
    """A population, and its children per generation, that grow with what is known.

    Few turn what they learn into better children at once, which decides short searches; many keep
    the whole front, which decides long ones, and are cheaper to evaluate together.

    Attributes:
        population: least and most members.
        children: least and most children per generation.
        share: members per evaluation made, between these ends; half as many children.
    """

    population: tuple[int, int]
    children: tuple[int, int]
    share: float

    def sizes(self, n_evaluations: int) -> tuple[int, int]:
        """Return members and children after so many evaluations."""
        wanted = int(self.share * n_evaluations)
        return (
            min(max(self.population[0], wanted), self.population[1]),
            min(max(self.children[0], wanted // 2), self.children[1]),
        )


class PymooStrategy(Strategy):
    """Runs one pymoo algorithm by ask and tell."""

    def __init__(
        self, domain: Problem, algorithm: Any, seed: int, *, growth: Growth | None = None
    ) -> None:
        self._domain = domain
        self._algorithm = algorithm
        self._growth = growth
        self._n_told = 0
        self._shape = PymooProblem(
            n_var=len(domain.upper),
            n_obj=len(domain.objective_names),
            n_ieq_constr=len(domain.constraint_names),
            xl=np.zeros(len(domain.upper)),
            xu=domain.upper,
            vtype=int,
        )
        algorithm.setup(self._shape, seed=seed, termination=NoTermination())
        self._asked: Population | None = None

    def ask(self) -> Genomes:
        """See `Strategy.ask`."""
        self._asked = self._algorithm.ask()
        if self._asked is None or len(self._asked) == 0:
            return np.zeros((0, len(self._domain.upper)), dtype=np.int64)
        return self._domain.canonicalize(np.asarray(self._asked.get("X"), dtype=np.int64))

    def tell(self, genomes: Genomes, evaluation: Evaluation) -> None:
        """See `Strategy.tell`."""
        if self._asked is None or len(self._asked) != len(genomes):
            raise DesignError("tell without its ask; tell a strategy exactly what it asked for")
        told = StaticProblem(self._shape, F=finite_objectives(evaluation), G=evaluation.violations)
        Evaluator().eval(told, self._asked)
        if self._growth is not None:
            self._n_told += len(genomes)
            members, children = self._growth.sizes(self._n_told)
            self._algorithm.pop_size, self._algorithm.n_offsprings = members, children
        self._algorithm.tell(infills=self._asked)
        self._asked = None


def finite_objectives(evaluation: Evaluation) -> Floats:
    """Replace what is not finite (infeasible genomes only) by the worst finite value of the batch."""
    objectives = evaluation.objectives
    finite = np.isfinite(objectives)
    if finite.all():
        return objectives
    worst = np.where(finite, objectives, -np.inf).max(axis=0)
    return np.where(finite, objectives, np.where(np.isfinite(worst), worst, 0.0))


def operators(
    problem: Problem, *, initial: Genomes | None, crossover_probability: float = 0.6
) -> dict[str, Any]:
    """Return the constructor arguments that make a pymoo algorithm search integer genomes."""
    memory = GenomeMemory(problem.upper)
    return {
        "sampling": IntegerSampling(problem, memory, initial),
        "mating": IntegerMating(problem, memory, crossover_probability),
    }


def reference_directions(n_objectives: int, n_at_most: int) -> Floats:
    """Return the largest Das-Dennis simplex lattice of at most `n_at_most` directions.

    Raises:
        DesignError: fewer than two objectives, or not even the corners fit.
    """
    from math import comb

    from pymoo.util.ref_dirs import get_reference_directions

    if n_objectives < 2:
        raise DesignError("this strategy needs two objectives or more; use 'nsga2' for one")
    n_partitions = 1
    while comb(n_partitions + n_objectives, n_objectives - 1) <= n_at_most:
        n_partitions += 1
    directions = get_reference_directions("das-dennis", n_objectives, n_partitions=n_partitions)
    return np.asarray(directions, dtype=np.float64)
