"""Array operations on integer genomes that the strategies share: sampling, mating, remembering."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from codesign.search.problem import Booleans, Genomes, Problem

#: Attempts at finding unseen genomes before a strategy concludes that (nearly) all are known.
N_ATTEMPTS: Final = 60


class GenomeMemory:
    """Remembers canonical genomes by a 64-bit hash, to ask for none of them twice.

    Zobrist hashing: the exclusive or of one random word per (gene, value).  At 50,000 genomes the
    chance that any two collide is 1e-10, and a collision would only skip one genome.
    """

    def __init__(self, upper: NDArray[np.int64]) -> None:
        words = np.random.default_rng(0x5EED).integers(
            0, 2**64, size=(len(upper), int(upper.max(initial=0)) + 1), dtype=np.uint64
        )
        self._words = words
        self._genes = np.arange(len(upper))
        self._known: set[int] = set()

    def __len__(self) -> int:
        return len(self._known)

    def hashes(self, genomes: Genomes) -> NDArray[np.uint64]:
        """Return uint64[n], one per canonical genome."""
        return np.asarray(
            np.bitwise_xor.reduce(self._words[self._genes, genomes], axis=1), dtype=np.uint64
        )

    def is_new(self, genomes: Genomes) -> Booleans:
        """Return bool[n]: neither remembered nor equal to an earlier row; nothing is remembered."""
        fresh = np.zeros(len(genomes), dtype=bool)
        batch: set[int] = set()
        for row, key in enumerate(self.hashes(genomes).tolist()):
            if key not in self._known and key not in batch:
                batch.add(key)
                fresh[row] = True
        return fresh

    def add(self, genomes: Genomes) -> None:
        """Remember canonical genomes."""
        self._known.update(self.hashes(genomes).tolist())


def sample_uniform(
    upper: NDArray[np.int64], n_genomes: int, generator: np.random.Generator
) -> Genomes:
    """Draw int64[n_genomes, n_var] with every gene uniform over its range."""
    return generator.integers(0, upper + 1, size=(n_genomes, len(upper)), dtype=np.int64)


def sample_new(
    problem: Problem, memory: GenomeMemory, n_genomes: int, generator: np.random.Generator
) -> Genomes:
    """Draw up to `n_genomes` raw genomes whose canonical forms are new and distinct.

    Fewer come back when (nearly) the whole space is known.  Nothing is remembered.
    """
    kept = np.zeros((0, len(problem.upper)), dtype=np.int64)
    for _ in range(N_ATTEMPTS):
        drawn = sample_uniform(problem.upper, 2 * (n_genomes - len(kept)) + 8, generator)
        kept = np.concatenate([kept, drawn])
        kept = kept[memory.is_new(problem.canonicalize(kept))][:n_genomes]
        if len(kept) == n_genomes:
            break
    return kept


def crossover(
    mothers: Genomes, fathers: Genomes, probability: float, generator: np.random.Generator
) -> Genomes:
    """Mix parents int64[n, n_var] gene by gene.

    A pair is crossed with the given probability (the child is the mother's copy otherwise); half of
    the crossed pairs swap single genes, the other half one contiguous run of genes, which keeps
    neighbouring genes (those of one layer) together.
    """
    n, n_var = mothers.shape
    uniform = generator.random((n, n_var)) < 0.5
    ends = np.sort(generator.integers(0, n_var + 1, size=(n, 2)), axis=1)
    places = np.arange(n_var)
    run = (places >= ends[:, :1]) & (places < ends[:, 1:])
    takes_father = np.where(generator.random((n, 1)) < 0.5, uniform, run)
    takes_father &= generator.random((n, 1)) < probability
    return np.where(takes_father, fathers, mothers)


def mutate(
    genomes: Genomes,
    upper: NDArray[np.int64],
    ordered: Booleans,
    generator: np.random.Generator,
    *,
    strength: float = 1.0,
) -> Genomes:
    """Change about `strength` to a few genes of every genome, at least one.

    The expected number of changed genes is drawn per genome from a heavy-tailed choice of
    strength * {1, 1, 2, 4}, so that most children are neighbours and some are far away.  Ordered
    genes mostly move by a geometrically distributed step, others jump anywhere.

    Returns:
        int64[n, n_var]; no changed gene keeps its value.
    """
    n, n_var = genomes.shape
    movable = np.flatnonzero(upper > 0)
    if n == 0 or len(movable) == 0:
        return genomes.copy()
    expected = strength * generator.choice(np.array([1.0, 1.0, 2.0, 4.0]), size=(n, 1))
    hit = generator.random((n, n_var)) < expected / len(movable)
    hit[np.arange(n), generator.choice(movable, size=n)] = True
    hit &= upper > 0

    span = upper + 1
    # a jump by 1..upper modulo the range reaches every other value with equal chance
    jump = generator.integers(1, np.maximum(upper, 1) + 1, size=(n, n_var))
    jumped = (genomes + jump) % span
    step = generator.geometric(0.6, size=(n, n_var))
    step = np.where(generator.random((n, n_var)) < 0.5, step, -step)
    stepped = genomes + step
    # a step over the edge is turned round; one that still leaves the range is cut off
    over = (stepped < 0) | (stepped > upper)
    stepped = np.clip(np.where(over, genomes - step, stepped), 0, upper)
    small = ordered & (generator.random((n, n_var)) < 0.8) & (stepped != genomes)
    return np.where(hit, np.where(small, stepped, jumped), genomes)


def first_generation(
    problem: Problem,
    memory: GenomeMemory,
    initial: Genomes | None,
    n_genomes: int,
    generator: np.random.Generator,
) -> Genomes:
    """Return up to `n_genomes` raw genomes: the given ones first, then uniform ones; all new."""
    drawn = sample_new(problem, memory, n_genomes, generator)
    if initial is None:
        return drawn
    genomes = np.concatenate([initial, drawn])
    return genomes[memory.is_new(problem.canonicalize(genomes))][:n_genomes]


def mutate_new(
    problem: Problem,
    memory: GenomeMemory,
    genomes: Genomes,
    generator: np.random.Generator,
    *,
    strength: float = 1.0,
) -> tuple[Genomes, NDArray[np.int64]]:
    """Mutate every genome into one whose canonical form is new.

    Returns:
        The mutants and the row that each comes from.  Rows whose neighbourhood is used up get a
        uniform genome; none when (nearly) the whole space is known.
    """
    mutants = mutate(genomes, problem.upper, problem.ordered, generator, strength=strength)
    for attempt in range(1, N_ATTEMPTS):
        stale = ~memory.is_new(problem.canonicalize(mutants))
        if not stale.any():
            break
        mutants[stale] = mutate(
            genomes[stale],
            problem.upper,
            problem.ordered,
            generator,
            strength=strength * (1.0 + 0.25 * attempt),
        )
    rows = np.flatnonzero(memory.is_new(problem.canonicalize(mutants)))
    if len(rows) > 0:
        return mutants[rows], rows
    drawn = sample_new(problem, memory, len(genomes), generator)
    return drawn, np.arange(len(drawn))
