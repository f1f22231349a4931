"""Growth from a tiny network under hard limits, in the manner of NanoNAS.

A grower starts at the smallest design (every ordered gene at 0) and tries every move that raises
one gene by one; the best feasible move that improves its score is taken, until none does.  Then the
next grower starts from another small design, with other names (activation, strategy), in another
direction of the objectives.  Nothing is ever shrunk, and an infeasible design is never a stepping stone once a
feasible one is known.

Source: after Garavagno et al., the derivative-free NanoNAS search for ultra-low-power platforms
(IEEE Sensors Letters, 2024), which grows kernels and cells until memory or score stops it.
"""

from typing import Final

import numpy as np

from codesign.search.problem import Evaluation, Floats, Genomes, Problem, concatenate
from codesign.search.strategies._scalar import Scalarizer
from codesign.search.strategies._variation import GenomeMemory, mutate_new, sample_uniform
from codesign.search.strategies.base import STRATEGIES, Strategy, StrategySettings

#: Growers that advance side by side.
N_GROWERS: Final = 8
#: Moves on known ground that a grower makes within one `ask` before it is replaced.
N_KNOWN_MOVES: Final = 20
#: Later starts have ordered genes at u ** this of their range, u uniform: small, not smallest.
SMALLNESS: Final = 3.0


class NanonasGrowth(Strategy):
    """Grows several networks at a time, remembering every design's evaluation."""

    def __init__(
        self, problem: Problem, *, seed: int, n_growers: int, settings: StrategySettings
    ) -> None:
        self._problem = problem
        self._generator = np.random.default_rng(seed)
        self._memory = GenomeMemory(problem.upper)
        self._scalarizer = Scalarizer(problem, settings.reward)
        self._initial = settings.initial
        self._n_growers = n_growers
        self._rows: dict[int, int] = {}
        self._known: Evaluation | None = None
        self._recent: list[Evaluation] = []
        self._weights = self._scalarizer.directions(n_growers, self._generator)
        self._places = [self._seedling(i) for i in range(n_growers)]

    def _seedling(self, i_grower: int) -> Genomes:
        """Return the next start: int64[1, n_var]; given genomes first, then the smallest ones."""
        if self._initial is not None and len(self._initial) > 0:
            start, self._initial = self._initial[:1], self._initial[1:]
            return start
        drawn = sample_uniform(self._problem.upper, 1, self._generator)
        if len(self._rows) == 0:
            return np.where(self._problem.ordered, 0, drawn)
        level = self._generator.random(drawn.shape) ** SMALLNESS
        small = (level * (self._problem.upper + 1)).astype(np.int64)
        return np.where(self._problem.ordered, small, drawn)

    def _moves(self, place: Genomes) -> Genomes:
        """Return the design and everything one growth step away, canonical, without repeats."""
        problem = self._problem
        genes = np.flatnonzero(problem.ordered & (place[0] < problem.upper))
        grown = np.repeat(place, len(genes), axis=0)
        grown[np.arange(len(genes)), genes] += 1
        return np.concatenate([place, grown])

    def _row_of(self, genomes: Genomes) -> np.ndarray:
        """Return the row of each genome's evaluation, -1 where there is none."""
        keys = self._memory.hashes(self._problem.canonicalize(genomes)).tolist()
        return np.array([self._rows.get(key, -1) for key in keys], dtype=np.int64)

    def ask(self) -> Genomes:
        """See `Strategy.ask`."""
        self._join_recent()
        wanted = [self._advance(i) for i in range(self._n_growers)]
        genomes = np.concatenate(wanted)
        genomes = genomes[self._memory.is_new(self._problem.canonicalize(genomes))]
        if len(genomes) == 0:
            # all growth paths are known: continue beside them
            places = np.concatenate(self._places)
            genomes, _ = mutate_new(self._problem, self._memory, places, self._generator)
        canonical = self._problem.canonicalize(genomes)
        self._memory.add(canonical)
        return canonical

    def _advance(self, i_grower: int) -> Genomes:
        """Walk a grower over known designs until it needs evaluations; return what it needs."""
        for _ in range(N_KNOWN_MOVES):
            moves = self._moves(self._places[i_grower])
            rows = self._row_of(moves)
            if (rows < 0).any():
                return moves[rows < 0]
            assert self._known is not None
            scores = self._scores(self._known.take(rows), i_grower)
            best = int(scores.argmax())
            if best == 0:
                self._places[i_grower] = self._seedling(i_grower)
                self._weights[i_grower] = self._scalarizer.directions(1, self._generator)[0]
            else:
                self._places[i_grower] = moves[best : best + 1]
        return np.zeros((0, len(self._problem.upper)), dtype=np.int64)

    def _scores(self, evaluation: Evaluation, i_grower: int) -> Floats:
        weights = np.repeat(self._weights[i_grower : i_grower + 1], len(evaluation), axis=0)
        return self._scalarizer.score(evaluation, weights)

    def _join_recent(self) -> None:
        if self._recent:
            known = [] if self._known is None else [self._known]
            self._known = concatenate(known + self._recent)
            self._recent = []

    def tell(self, genomes: Genomes, evaluation: Evaluation) -> None:
        """See `Strategy.tell`."""
        self._scalarizer.observe(evaluation)
        for key in self._memory.hashes(genomes).tolist():
            self._rows[key] = len(self._rows)
        self._recent.append(evaluation)


def make_nanonas(problem: Problem, *, seed: int, settings: StrategySettings) -> Strategy:
    """Build growth from a tiny network; see `StrategyFactory`."""
    n_growers = settings.population_size or N_GROWERS
    return NanonasGrowth(problem, seed=seed, n_growers=n_growers, settings=settings)


STRATEGIES.add("nanonas", make_nanonas)
