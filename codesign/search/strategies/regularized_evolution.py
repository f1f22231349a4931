"""Regularized (aging) evolution, the strategy of AmoebaNet.

The oldest member dies, not the worst; parents win a tournament, children are mutants.  Each
tournament is judged in a random direction of the objectives, unless a reward is set.

Source: Real et al., Regularized evolution for image classifier architecture search, AAAI 2019.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from codesign.search.problem import Evaluation, Genomes, Problem, concatenate
from codesign.search.strategies._scalar import Scalarizer
from codesign.search.strategies._variation import (
    N_ATTEMPTS,
    GenomeMemory,
    first_generation,
    mutate,
    sample_new,
)
from codesign.search.strategies.base import STRATEGIES, Strategy, StrategySettings

POPULATION_SIZE: Final = 100
#: Children bred before the population ages; the paper breeds them one by one on many workers.
BATCH_SIZE: Final = 10
#: The paper's sample size is 25 of 100.
SAMPLE_SHARE: Final = 0.25


class RegularizedEvolution(Strategy):
    """Keeps the youngest `population_size` genomes."""

    def __init__(
        self, problem: Problem, *, seed: int, population_size: int, settings: StrategySettings
    ) -> None:
        self._problem = problem
        self._generator = np.random.default_rng(seed)
        self._memory = GenomeMemory(problem.upper)
        self._scalarizer = Scalarizer(problem, settings.reward)
        self._size = population_size
        self._initial = settings.initial
        self._members: Genomes | None = None
        self._values: Evaluation | None = None
        self._asked = np.zeros((0, len(problem.upper)), dtype=np.int64)

    def ask(self) -> Genomes:
        """See `Strategy.ask`."""
        if self._members is None:
            self._asked = first_generation(
                self._problem, self._memory, self._initial, self._size, self._generator
            )
        else:
            self._asked = self._breed(self._members)
        canonical = self._problem.canonicalize(self._asked)
        self._memory.add(canonical)
        return canonical

    def _breed(self, members: Genomes) -> Genomes:
        children = np.zeros((0, members.shape[1]), dtype=np.int64)
        for attempt in range(N_ATTEMPTS):
            parents = members[self._winners(BATCH_SIZE)]
            mutants = mutate(
                parents,
                self._problem.upper,
                self._problem.ordered,
                self._generator,
                strength=1.0 + 0.25 * attempt,
            )
            children = np.concatenate([children, mutants])
            is_new = self._memory.is_new(self._problem.canonicalize(children))
            children = children[is_new][:BATCH_SIZE]
            if len(children) == BATCH_SIZE:
                return children
        if len(children) == 0:
            return sample_new(self._problem, self._memory, BATCH_SIZE, self._generator)
        return children

    def _winners(self, n_tournaments: int) -> NDArray[np.int64]:
        assert self._values is not None
        n = len(self._values)
        n_sample = max(2, int(SAMPLE_SHARE * n))
        rows = self._generator.integers(0, n, size=(n_tournaments, n_sample))
        weights = self._scalarizer.directions(n_tournaments, self._generator)
        scores = self._scalarizer.score(
            self._values.take(rows.ravel()), np.repeat(weights, n_sample, axis=0)
        )
        best = scores.reshape(rows.shape).argmax(axis=1)
        return np.asarray(rows[np.arange(n_tournaments), best])

    def tell(self, genomes: Genomes, evaluation: Evaluation) -> None:
        """See `Strategy.tell`."""
        self._scalarizer.observe(evaluation)
        if self._members is None or self._values is None:
            self._members, self._values = self._asked, evaluation
            return
        self._members = np.concatenate([self._members, self._asked])[-self._size :]
        joined = concatenate([self._values, evaluation])
        self._values = joined.take(slice(-self._size, None))


def make_regularized_evolution(
    problem: Problem, *, seed: int, settings: StrategySettings
) -> Strategy:
    """Build regularized evolution; see `StrategyFactory`."""
    size = settings.population_size or POPULATION_SIZE
    return RegularizedEvolution(problem, seed=seed, population_size=size, settings=settings)


STRATEGIES.add("regularized_evolution", make_regularized_evolution)
