"""Exhaustive enumeration of a small space: the oracle that tells the true front."""

import math
from typing import Final

import numpy as np

from codesign.errors import DesignError
from codesign.search.problem import Evaluation, Genomes, Problem, space_size
from codesign.search.strategies.base import STRATEGIES, Strategy, StrategySettings, refuse_reward

BATCH_SIZE: Final = 4096
#: Larger spaces are refused: at 10,000 designs a second this is half an hour.
LARGEST_SPACE: Final = 20_000_000


class ExhaustiveSearch(Strategy):
    """Asks for every design once, in lexicographic order of the genomes."""

    def __init__(self, problem: Problem, *, batch_size: int) -> None:
        self._problem = problem
        self._batch_size = batch_size
        self._shape = tuple((problem.upper + 1).tolist())
        self._n_genomes = math.prod(self._shape)
        self._next = 0

    def ask(self) -> Genomes:
        """See `Strategy.ask`."""
        pieces: list[Genomes] = []
        n_found = 0
        while self._next < self._n_genomes and n_found < self._batch_size:
            end = min(self._next + self._batch_size, self._n_genomes)
            numbers = np.arange(self._next, end)
            genomes = np.stack(np.unravel_index(numbers, self._shape), axis=1).astype(np.int64)
            canonical = np.flatnonzero((self._problem.canonicalize(genomes) == genomes).all(axis=1))
            canonical = canonical[: self._batch_size - n_found]
            n_found += len(canonical)
            pieces.append(genomes[canonical])
            is_full = n_found == self._batch_size
            self._next = int(numbers[canonical[-1]]) + 1 if is_full else end
        if not pieces:
            return np.zeros((0, len(self._shape)), dtype=np.int64)
        return np.concatenate(pieces)

    def tell(self, genomes: Genomes, evaluation: Evaluation) -> None:
        """See `Strategy.tell`."""


def make_exhaustive(problem: Problem, *, seed: int, settings: StrategySettings) -> Strategy:
    """Build the enumeration; see `StrategyFactory`.

    Seed and first genomes change nothing: everything is asked for, in one fixed order.

    Raises:
        DesignError: the space is too large.
    """
    refuse_reward("exhaustive", settings)
    size = space_size(problem)
    if size > LARGEST_SPACE:
        raise DesignError(
            f"the space has {size} genomes; 'exhaustive' takes at most {LARGEST_SPACE}; shrink "
            "the space, or use 'nsga2'"
        )
    return ExhaustiveSearch(problem, batch_size=settings.population_size or BATCH_SIZE)


STRATEGIES.add("exhaustive", make_exhaustive)
