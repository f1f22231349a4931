"""Islands: several searches side by side that exchange their best, on any executor.

Each epoch of an island is one pure function of (problem, strategy, seed, first genomes), so a
process pool, dask or a plain loop give the very same archive.
"""

from concurrent.futures import Executor
from dataclasses import dataclass, replace

import numpy as np

from codesign.errors import DesignError
from codesign.search.archive import Archive, empty_archive
from codesign.search.loop import run_search
from codesign.search.problem import Genomes, Problem
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


def run_islands(
    problem: Problem,
    strategy: str,
    plan: IslandPlan,
    *,
    seed: int,
    executor: Executor | None = None,
    settings: StrategySettings | None = None,
) -> Archive:
    """Search on islands.

    Args:
        problem: must be picklable when the executor leaves this process.
        strategy: registered name.
        plan: islands, epochs, budget.
        seed: fixes everything; executor and number of workers change nothing.
        executor: where islands run; None: one after another, here.
        settings: for every island.

    Returns:
        The joint archive.
    """
    chosen = settings or StrategySettings()
    archive = empty_archive(problem)
    seeds = np.random.SeedSequence(seed).generate_state(plan.n_epochs * plan.n_islands)
    shares = np.full(len(seeds), plan.n_evaluations // len(seeds))
    shares[: plan.n_evaluations % len(seeds)] += 1
    for i_epoch in range(plan.n_epochs):
        start = chosen
        if len(archive) > 0:
            start = replace(chosen, initial=_spread(archive, plan.n_migrants))
        rows = range(i_epoch * plan.n_islands, (i_epoch + 1) * plan.n_islands)
        tasks = [(problem, strategy, int(shares[i]), int(seeds[i]), start) for i in rows]
        if executor is None:
            found = [_run_island(*task) for task in tasks]
        else:
            futures = [executor.submit(_run_island, *task) for task in tasks]
            # joined in the order of submission, not of completion
            found = [future.result() for future in futures]
        for part in found:
            archive = archive.merge(part)
    return archive


def _run_island(
    problem: Problem, strategy: str, n_evaluations: int, seed: int, settings: StrategySettings
) -> Archive:
    return run_search(problem, strategy, n_evaluations=n_evaluations, seed=seed, settings=settings)


def _spread(archive: Archive, n_genomes: int) -> Genomes:
    """Pick genomes spread evenly along the archive's first objective."""
    order = np.argsort(archive.objectives[:, 0], kind="stable")
    picks = np.unique(np.linspace(0, len(order) - 1, n_genomes).round().astype(np.int64))
    return archive.genomes[order[picks]]
