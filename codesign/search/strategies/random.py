"""Uniform random search without repeats: the strategy that every other has to beat."""

from typing import Final

import numpy as np

from codesign.search.problem import Evaluation, Genomes, Problem
from codesign.search.strategies._variation import GenomeMemory, first_generation
from codesign.search.strategies.base import STRATEGIES, Strategy, StrategySettings, refuse_reward

BATCH_SIZE: Final = 200


class RandomSearch(Strategy):
    """Draws genomes uniformly; learns nothing."""

    def __init__(
        self, problem: Problem, *, seed: int, batch_size: int, initial: Genomes | None
    ) -> None:
        self._problem = problem
        self._batch_size = batch_size
        self._initial = initial
        self._generator = np.random.default_rng(seed)
        self._memory = GenomeMemory(problem.upper)

    def ask(self) -> Genomes:
        """See `Strategy.ask`."""
        drawn = first_generation(
            self._problem, self._memory, self._initial, self._batch_size, self._generator
        )
        self._initial = None
        canonical = self._problem.canonicalize(drawn)
        self._memory.add(canonical)
        return canonical

    def tell(self, genomes: Genomes, evaluation: Evaluation) -> None:
        """See `Strategy.tell`."""


def make_random(problem: Problem, *, seed: int, settings: StrategySettings) -> Strategy:
    """Build random search; see `StrategyFactory`."""
    refuse_reward("random", settings)
    batch_size = settings.population_size or BATCH_SIZE
    return RandomSearch(problem, seed=seed, batch_size=batch_size, initial=settings.initial)


STRATEGIES.add("random", make_random)
