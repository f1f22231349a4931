"""Simulated annealing: parallel chains, each cooling in a direction of its own, then reheated.

Source: Kirkpatrick, Gelatt and Vecchi, Science 220, 1983; many chains over many weights as in
Czyzak and Jaszkiewicz, Pareto simulated annealing, JMCDA 7, 1998.
"""

from typing import Final

import numpy as np

from codesign.search.problem import Evaluation, Genomes, Problem, concatenate
from codesign.search.strategies._scalar import Scalarizer
from codesign.search.strategies._variation import (
    GenomeMemory,
    first_generation,
    mutate_new,
)
from codesign.search.strategies.base import STRATEGIES, Strategy, StrategySettings

N_CHAINS: Final = 20
#: Steps from the hottest to the coldest temperature; then every chain turns to a new direction.
CYCLE_STEPS: Final = 40
#: Temperatures in units of the front's box: a tenth of it, down to a thousandth.
HOT: Final = 0.1
COLD: Final = 0.001


class SimulatedAnnealing(Strategy):
    """Proposes one neighbour per chain and step."""

    def __init__(
        self, problem: Problem, *, seed: int, n_chains: int, settings: StrategySettings
    ) -> None:
        self._problem = problem
        self._generator = np.random.default_rng(seed)
        self._memory = GenomeMemory(problem.upper)
        self._scalarizer = Scalarizer(problem, settings.reward)
        self._initial = settings.initial
        self._n_chains = n_chains
        self._i_step = 0
        self._weights = self._scalarizer.directions(n_chains, self._generator)
        self._places: Genomes | None = None
        self._values: Evaluation | None = None
        self._asked = np.zeros((0, len(problem.upper)), dtype=np.int64)
        self._chains = np.zeros(0, dtype=np.int64)

    def ask(self) -> Genomes:
        """See `Strategy.ask`."""
        if self._places is None:
            self._asked = first_generation(
                self._problem, self._memory, self._initial, self._n_chains, self._generator
            )
        else:
            self._asked, self._chains = mutate_new(
                self._problem, self._memory, self._places, self._generator, strength=0.5
            )
        canonical = self._problem.canonicalize(self._asked)
        self._memory.add(canonical)
        return canonical

    def tell(self, genomes: Genomes, evaluation: Evaluation) -> None:
        """See `Strategy.tell`."""
        self._scalarizer.observe(evaluation)
        if self._places is None or self._values is None:
            self._places, self._values = self._asked, evaluation
            self._weights = self._weights[: len(self._asked)]
            return
        weights = self._weights[self._chains]
        gain = self._scalarizer.score(evaluation, weights) - self._scalarizer.score(
            self._values.take(self._chains), weights
        )
        temperature = HOT * (COLD / HOT) ** (self._i_step / CYCLE_STEPS)
        # a step out of feasibility loses at least a half, which no temperature here lets pass
        chance = np.exp(np.minimum(gain, 0.0) / temperature)
        is_taken = self._generator.random(len(gain)) < chance
        accepted = np.flatnonzero(is_taken)
        source = np.arange(len(self._places))
        source[self._chains[accepted]] = len(self._places) + accepted
        self._places = np.concatenate([self._places, self._asked])[source]
        self._values = concatenate([self._values, evaluation]).take(source)
        self._i_step += 1
        if self._i_step == CYCLE_STEPS:
            self._i_step = 0
            self._weights = self._scalarizer.directions(len(self._places), self._generator)


def make_simulated_annealing(
    problem: Problem, *, seed: int, settings: StrategySettings
) -> Strategy:
    """Build simulated annealing; see `StrategyFactory`."""
    n_chains = settings.population_size or N_CHAINS
    return SimulatedAnnealing(problem, seed=seed, n_chains=n_chains, settings=settings)


STRATEGIES.add("simulated_annealing", make_simulated_annealing)
