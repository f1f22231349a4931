"""Islands: several searches side by side that exchange their best, on any executor.

Each epoch of an island is one pure function of (problem, strategy, seed, first genomes), so a
process pool, dask or a plain loop give the very same archive.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from codesign.errors import DesignError
from codesign.search.archive import Archive, archive_of, empty_archive
from codesign.search.loop import Parallel, fingerprint, run_search
from codesign.search.problem import Evaluation, Genomes, Problem
from codesign.search.store import EvaluationStore
from codesign.search.strategies.base import StrategySettings


@dataclass(frozen=True, kw_only=True)
class IslandPlan:
    """How a budget is spread.

    Attributes:
        n_islands: searches side by side.
        n_epochs: exchanges plus one.
        n_evaluations: the whole budget; each island and epoch gets an equal share.
        n_migrants: designs of the joint archive that every island starts an epoch from.
    """

    n_islands: int
    n_epochs: int
    n_evaluations: int
    n_migrants: int = 40

    def __post_init__(self) -> None:
        if min(self.n_islands, self.n_epochs, self.n_migrants) < 1:
            raise DesignError("islands: n_islands, n_epochs and n_migrants must be at least 1")
        if self.n_evaluations < self.n_islands * self.n_epochs:
            raise DesignError(
                f"islands: {self.n_evaluations} evaluations are fewer than "
                f"{self.n_islands} islands x {self.n_epochs} epochs; raise the budget"
            )


@dataclass(frozen=True, kw_only=True)
class _Epoch:
    """One epoch of one island: what a worker is given."""

    problem: Problem
    strategy: str
    n_evaluations: int
    seed: int
    settings: StrategySettings
    chunk_size: int

    def __call__(self) -> tuple[Genomes, Evaluation] | None:
        """Return everything evaluated, in order; None: there was nothing to ask for."""
        with EvaluationStore(Path(":memory:")) as log:
            run_search(
                self.problem,
                self.strategy,
                n_evaluations=self.n_evaluations,
                seed=self.seed,
                settings=self.settings,
                store=log,
                parallel=Parallel(executor=None, chunk_size=self.chunk_size),
            )
            return log.read()


def run_islands(
    problem: Problem,
    strategy: str,
    plan: IslandPlan,
    *,
    seed: int,
    executor: Executor | None = None,
    settings: StrategySettings | None = None,
    store: Callable[[str], EvaluationStore] | None = None,
    problem_digest: str = "",
    progress: Callable[[Archive], None] | None = None,
    chunk_size: int = 200,
) -> Archive:
    """Search on islands.

    Args:
        problem: must be picklable when the executor leaves this process.
        strategy: registered name.
        plan: islands, epochs, budget.
        seed: fixes everything; executor and number of workers change nothing.
        executor: where islands run; None: one after another, here.
        settings: for every island.
        store: opens the log of an island's epoch, by its name; what it holds is not searched again.
        problem_digest: see `run_search`.
        progress: told the joint archive so far, after every epoch of an island.
        chunk_size: genomes that an island evaluates at a time.

    Returns:
        The joint archive.

    Raises:
        DesignError, StudyError: as `run_search`.
    """
    chosen = settings or StrategySettings()
    archive = empty_archive(problem)
    seeds = np.random.SeedSequence(seed).generate_state(plan.n_epochs * plan.n_islands)
    shares = np.full(len(seeds), plan.n_evaluations // len(seeds))
    shares[: plan.n_evaluations % len(seeds)] += 1
    for i_epoch in range(plan.n_epochs):
        start = chosen
        if len(archive) > 0:
            start = replace(chosen, initial=archive.spread(plan.n_migrants))
        epochs = [
            _Epoch(
                problem=problem,
                strategy=strategy,
                n_evaluations=int(shares[i]),
                seed=int(seeds[i]),
                settings=start,
                chunk_size=chunk_size,
            )
            for i in range(i_epoch * plan.n_islands, (i_epoch + 1) * plan.n_islands)
        ]
        for found in _run(epochs, executor, store, f"epoch_{i_epoch + 1}", problem_digest):
            if found is not None:
                archive = archive.merge(archive_of(problem, *found))
            if progress is not None:
                progress(archive)
    return archive


def _run(
    epochs: Sequence[_Epoch],
    executor: Executor | None,
    store: Callable[[str], EvaluationStore] | None,
    name: str,
    problem_digest: str,
) -> list[tuple[Genomes, Evaluation] | None]:
    """Run one epoch of all islands, but for what is on record; keep what is new."""
    known: list[tuple[Genomes, Evaluation] | None] = [None] * len(epochs)

    def log_of(i: int) -> EvaluationStore:
        assert store is not None
        return store(f"{name}_island_{i + 1}")

    if store is not None:
        for i, e in enumerate(epochs):
            with log_of(i) as log:
                log.begin(fingerprint(e.problem, e.strategy, e.seed, e.settings, problem_digest))
                known[i] = log.read()
    fresh = [i for i, found in enumerate(known) if found is None]
    # joined in the order of submission, not of completion
    futures = [executor.submit(epochs[i]) for i in fresh] if executor is not None else []
    for k, i in enumerate(fresh):
        found = futures[k].result() if futures else epochs[i]()
        if store is not None and found is not None:
            with log_of(i) as log:
                log.append(0, *found)
        known[i] = found
    return known
