"""The cheapest hardware of a network whose weights are given: exact where costs of layers add up.

Per clock and way of building, layers are decided one after another.  Of two partial choices of which one
is no worse in every figure, the other can be forgotten, because what the remaining layers add is the same
for both: latency, interval (a maximum) and resources of layers combine monotonically.  What is left is the
whole Pareto front, as enumeration finds it (tested).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.hardware.device import Budget, Device
from codesign.hardware.scorer import HardwareScorer, HardwareScores, limits, pessimistic, violations
from codesign.space import SearchSpace
from codesign.space.given import GivenNetwork

Int = NDArray[np.int64]
#: Genomes scored at a time.
_CHUNK = 20_000
#: Partial choices kept per layer at most; fronts of real networks stay far below.
_MOST = 1500


@dataclass(frozen=True, kw_only=True)
class HardwareFront:
    """The Pareto front of a network's hardware.

    Attributes:
        genomes: int64[k, n_genes], the cheapest in LUT first.
        n_evaluations: configurations scored.
        n_feasible: of the front, those that fit the budget.
        excess: float64[k], greatest relative excess over a limit; at most 0 where it fits.
    """

    genomes: Int
    n_evaluations: int
    n_feasible: int
    excess: NDArray[np.float64]


def search_hardware(
    space: SearchSpace,
    scorer: HardwareScorer,
    budget: Budget,
    device: Device,
    *,
    rtl: HardwareScores | None = None,
    progress: Callable[[int], None] | None = None,
) -> HardwareFront:
    """Find every configuration that no other beats in latency, interval and every resource.

    Args:
        space: `codesign.space.given.given_space`.
        scorer: prices configurations.
        budget, device: what limits them.
        rtl: prices of plain RTL at every clock, where its adder graph is solved; None: the scorer's.
        progress: told how many configurations are scored.
    """
    template = space.template
    assert isinstance(template, GivenNetwork), "a space of one network's hardware"
    n_clocks, n_builds = (len(g.domain) for g in template.genes[:2])
    n_evaluations, found = 0, []

    def with_rtl(
        known: NDArray[np.float64],
        genomes: Int,
        price: Callable[[HardwareScores, Budget, Device], NDArray[np.float64]],
    ) -> NDArray[np.float64]:
        if rtl is not None:
            is_rtl = genomes[:, 1] == 0
            known[is_rtl] = price(rtl, budget, device)[genomes[is_rtl, 0]]
        return known

    def figures(genomes: Int) -> NDArray[np.float64]:
        nonlocal n_evaluations
        parts = []
        for start in range(0, len(genomes), _CHUNK):
            scores = scorer.score(space.decode(genomes[start : start + _CHUNK]))
            parts.append(_figures(scores, budget, device))
            n_evaluations += scores.clock_period_ns.size
            if progress is not None:
                progress(n_evaluations)
        return with_rtl(np.concatenate(parts), genomes, _figures)

    for clock in range(n_clocks):
        for build in range(n_builds):
            genomes = np.zeros((1, len(template.genes)), dtype=np.int64)
            genomes[:, :2] = clock, build
            for layer in range(template.n_layers if build > 0 else 0):
                own = 2 + 2 * layer
                options = _options(space, own)
                genomes = np.repeat(genomes, len(options), axis=0)
                genomes[:, own : own + 2] = np.tile(options, (len(genomes) // len(options), 1))
                genomes = np.unique(space.canonicalize(genomes), axis=0)
                known = figures(genomes)
                genomes = genomes[non_dominated(known)]
                if len(genomes) > _MOST:
                    order = np.argsort(figures(genomes)[:, 0], kind="stable")
                    genomes = genomes[order[np.linspace(0, len(order) - 1, _MOST).astype(int)]]
            found.append(genomes)
    genomes = np.unique(space.canonicalize(np.concatenate(found)), axis=0)
    known = figures(genomes)
    keep = non_dominated(known)
    order = keep[np.lexsort((known[keep, 1], known[keep, 0]))]
    genomes = genomes[order]
    excess = _excess(scorer.score(space.decode(genomes)), budget, device)
    excess = with_rtl(excess, genomes, _excess)
    return HardwareFront(
        genomes=genomes,
        n_evaluations=n_evaluations,
        n_feasible=int((excess <= 0).sum()),
        excess=excess,
    )


def _options(space: SearchSpace, own: int) -> Int:
    """Return int64[n, 2], the different choices of one layer's strategy and reuse factor."""
    n_strategies, n_reuse = (len(g.domain) for g in space.genes[own : own + 2])
    genomes = np.zeros((n_strategies * n_reuse, len(space.genes)), dtype=np.int64)
    genomes[:, 1] = 1
    genomes[:, own], genomes[:, own + 1] = np.divmod(np.arange(len(genomes)), n_reuse)
    return np.unique(space.canonicalize(genomes), axis=0)[:, own : own + 2]


def _figures(scores: HardwareScores, budget: Budget, device: Device) -> NDArray[np.float64]:
    """Return float64[n, k]: LUT, then everything that the budget limits, at its confidence."""
    columns = [scores.metrics["lut"].value]
    columns += [
        pessimistic(scores.metrics[name], budget.confidence)
        for name in ("latency_ns", *(n for n in limits(budget, device) if n != "latency_ns"))
    ]
    return np.stack(columns, axis=1)


def _excess(scores: HardwareScores, budget: Budget, device: Device) -> NDArray[np.float64]:
    return np.asarray(violations(scores, budget, device).max(axis=1))


def non_dominated(figures: NDArray[np.float64]) -> Int:
    """Return the indices of rows that no other is at least as good as in every column, and better in one.

    Of equal rows the first is kept.
    """
    order = np.lexsort(figures.T[::-1])
    kept: list[int] = []
    front = np.empty((0, figures.shape[1]))
    for i in order.tolist():  # a row can only be beaten by one before it
        row = figures[i]
        if not (front <= row).all(axis=1).any():
            kept.append(i)
            front = np.vstack([front, row])
    return np.array(sorted(kept), dtype=np.int64)
