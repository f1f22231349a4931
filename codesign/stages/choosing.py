"""Which candidates are labelled first, which are trained to the end, and which of these wins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from codesign.errors import CodesignError
from codesign.ir import Population
from codesign.results import FrontPoint, TrainedDesign

#: Finalists have a predicted score within this of the best one on the front, see `reach`.
NEAR_BEST: Final = 0.015
#: How many times the same distance is a share of a score that is best at 0 (an accuracy of 0.75 errs by 0.25).
_OF_ERRORS: Final = 4.0


def choose_spread(
    population: Population, n: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Choose n candidates spread evenly over the logarithm of their bit operations.

    Args:
        population: candidates to choose from.
        n: how many.
        generator: source of randomness.

    Returns:
        int64[min(n, n_candidates)] distinct indices, in random order.
    """
    columns = population.columns
    operations = columns["n_in"] * columns["n_out"] * (1 - columns["pruned_fraction"])
    operations = operations * columns["weight_bits"] * columns["input_bits"]
    cost = np.log2(
        1 + np.bincount(population.candidate, operations, minlength=population.n_candidates)
    )
    order = np.argsort(cost + 1e-6 * generator.random(cost.size))
    targets = np.linspace(cost[order[0]], cost[order[-1]], n)
    chosen: list[int] = []
    taken = np.zeros(cost.size, dtype=bool)
    for target in targets:
        distance = np.where(taken, np.inf, np.abs(cost - target))
        pick = int(np.argmin(distance))
        if not taken[pick]:
            taken[pick] = True
            chosen.append(pick)
    return generator.permutation(np.array(chosen, dtype=np.int64))


def reach(best: float, distance: float) -> float:
    """Return the least score that lies within a distance of the best one.

    Scores above 0 are shares, where larger is better, and the distance is their own; scores that are
    better the smaller come as negatives, and the distance is a quarter of a share of the best.
    """
    return best - (distance if best > 0 else _OF_ERRORS * distance * abs(best))


def choose_finalists(points: Sequence[FrontPoint], n: int) -> list[FrontPoint]:
    """Choose front points to train to the end: spread over cost, half of them from each flow.

    Args:
        points: the front.
        n: how many at most.

    Returns:
        Points whose predicted score is within `NEAR_BEST` of the best, the cheapest first.
    """
    best = max(p.score for p in points)
    close = [p for p in points if p.score >= reach(best, NEAR_BEST)]
    rtl = [p for p in close if p.flow == "rtl"]
    hls = [p for p in close if p.flow == "hls"]
    n_rtl = min(len(rtl), max(n - len(hls), (n + 1) // 2))
    return sorted(_spread(rtl, n_rtl) + _spread(hls, n - n_rtl), key=lambda p: p.lut)


def _spread(points: Sequence[FrontPoint], n: int) -> list[FrontPoint]:
    """Choose the best point of each of n bins, even in log LUT; fill up by score."""
    if n == 0 or not points:
        return []
    cost = np.log([1.0 + p.lut for p in points])
    edges = np.linspace(cost.min(), cost.max() + 1e-9, n + 1)
    bins = np.clip(np.searchsorted(edges, cost, side="right") - 1, 0, n - 1)
    chosen: dict[int, FrontPoint] = {}
    for point, index in zip(points, bins, strict=True):
        if int(index) not in chosen or point.score > chosen[int(index)].score:
            chosen[int(index)] = point
    result = list(chosen.values())
    seen = {p.digest for p in result}
    rest = sorted((p for p in points if p.digest not in seen), key=lambda p: -p.score)
    return result + rest[: n - len(result)]


def choose_winner(designs: Sequence[TrainedDesign], tolerance: float) -> tuple[TrainedDesign, str]:
    """Choose the smallest finalist among the accurate ones that fit.

    Designs whose cycles and resources can be emulated and synthesised here (plain RTL) go before
    designs whose cost stays a prediction until a vendor tool has run.

    Args:
        designs: the finalists.
        tolerance: how far below the best estimated score a smaller design may lie, see `reach`.

    Returns:
        The winner, and one sentence that says why.

    Raises:
        CodesignError: no finalist fits the budget once its weights are known.
    """
    fitting = [d for d in designs if d.fits]
    if not fitting:
        nearest = min(designs, key=lambda d: d.worst_excess)
        raise CodesignError(
            f"none of the {len(designs)} finalists fits the budget once its weights are known; {nearest.digest} comes"
            f" nearest ({100 * nearest.worst_excess:.0f} % over); raise the budget's confidence or train.n_finalists"
        )
    best = max(d.estimated_score for d in fitting)
    close = [d for d in fitting if d.estimated_score >= reach(best, tolerance)]
    provable = [d for d in close if d.flow == "rtl"]
    winner = min(provable or close, key=lambda d: d.predicted_with_weights["lut"].high)
    return winner, (
        f"Of {len(designs)} finalists {len(fitting)} fit the budget; {len(close)} of these lie within {tolerance:g} of the"
        f" best score ({abs(best):.4f}, validation and prediction combined), {len(provable)} as plain RTL, whose cost can be proved here;"
        f" {winner.digest} is the smallest of {'those' if provable else 'them'} (upper end of its LUT interval)."
    )
