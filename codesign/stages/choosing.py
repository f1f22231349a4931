"""Which candidates are labelled first, which are trained to the end, and which of these wins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from codesign.errors import CodesignError
from codesign.ir import Population
from codesign.layers import products_of
from codesign.results import Baseline, FrontPoint, TrainedDesign
from codesign.stages.statistics import training_noise

#: Finalists have a predicted score within this of the best one on the front, see `reach`.
NEAR_BEST: Final = 0.015
#: How many times the same distance is a share of a score that is best at 0 (an accuracy of 0.75 errs by 0.25).
_OF_ERRORS: Final = 4.0
#: Designs whose costs differ by less than this factor are as dear as another.
NEARLY_AS_DEAR: Final = 1.12


def bit_operations(population: Population) -> NDArray[np.float64]:
    """Return float64[n_candidates], products of kept weights, each as wide as both its factors."""
    products = products_of(population)
    owner = population.candidate[products.row]
    total = np.bincount(owner, products.bit_operations, minlength=population.n_candidates)
    return np.asarray(total, dtype=np.float64)


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
    cost = np.log2(1 + bit_operations(population))
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


def within_reach(points: Sequence[FrontPoint], distance: float) -> list[FrontPoint]:
    """Return the points whose predicted score lies within a distance of the best one, see `reach`."""
    least = reach(max(p.score for p in points), distance)
    return [p for p in points if p.score >= least]


def choose_finalists(
    points: Sequence[FrontPoint], n: int, *, within: float = NEAR_BEST
) -> list[FrontPoint]:
    """Choose front points to train to the end: spread over cost, half of them from each flow.

    Args:
        points: the front.
        n: how many at most.
        within: how far from the best predicted score they may be, see `reach`.

    Returns:
        The points, the cheapest first.
    """
    close = within_reach(points, within)
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


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A trained design as the choice of the winner sees it.

    Attributes:
        design: the design.
        merit: estimated score.
        lut: its cost, the best that is known: synthesized where every RTL design is, else predicted
            with weights.
    """

    design: TrainedDesign
    merit: float
    lut: float


@dataclass(frozen=True, kw_only=True)
class Curve:
    """merit = top - slope / lut, fitted to contenders: what a LUT buys, less the noise of single designs.

    The simplest curve that saturates: two numbers from all designs, so the noise of one of them moves
    it little (measured in tests/test_choosing.py; free concave curves move three times as far).
    """

    top: float
    slope: float

    def merit(self, lut: float) -> float:
        """Return the merit that a design of this cost reaches."""
        return self.top - self.slope / lut

    def cheapest(self, lut: float, loss: float) -> float:
        """Return the cost below `lut` at which the curve has lost `loss` against it."""
        return 1.0 / (1.0 / lut + loss / self.slope) if self.slope > 0 else 1.0


def fit_curve(contenders: Sequence[Contender]) -> Curve:
    """Fit the curve by least squares; a slope below 0 (the dear designs are worse) becomes 0."""
    x = np.array([1.0 / c.lut for c in contenders])
    y = np.array([c.merit for c in contenders])
    spread = float(((x - x.mean()) ** 2).sum())
    slope = 0.0 if spread == 0 else -float(((x - x.mean()) * (y - y.mean())).sum()) / spread
    slope = max(slope, 0.0)
    return Curve(top=float(y.mean() + slope * x.mean()), slope=slope)


def choose_winner(
    designs: Sequence[TrainedDesign],
    *,
    luts: Mapping[str, float],
    tolerance: float,
) -> tuple[TrainedDesign, str, str]:
    """Choose the cheapest design that is about as good as the best, in a way that noise does not move.

    1. Only designs that fit the budget, and only plain RTL, whose cost can be proved here, where one of
       these is about as good as any.
    2. "About as good": within the standard error of a difference of two scores on the same validation
       rows, or `tolerance` where that is more.
    3. The cost at which the `Curve` through all of them has lost that much against its dear end is what
       a winner should cost; taken is the best of the designs within `NEARLY_AS_DEAR` of it, or
       the nearest.  Single scores decide among neighbours only.
    4. A design that a cheaper one here matches or beats does not win: that one does.

    Args:
        designs: trained designs.
        luts: cost by digest.
        tolerance: how much worse than the best a cheaper design may be, at least; see `reach`.

    Returns:
        The winner, why, and how sure that is.

    Raises:
        CodesignError: no design fits the budget once its weights are known.
    """
    fitting = [d for d in designs if d.fits]
    if not fitting:
        nearest = min(designs, key=lambda d: d.worst_excess)
        raise CodesignError(
            f"none of the {len(designs)} finalists fits the budget once its weights are known; {nearest.digest} comes"
            f" nearest ({100 * nearest.worst_excess:.0f} % over); raise the budget's confidence or train.n_finalists"
        )
    every = [
        Contender(design=d, merit=d.estimated.value, lut=max(luts[d.digest], 1.0)) for d in fitting
    ]
    best = max(every, key=lambda c: c.merit)
    error = _typical_error(every, best)
    allowed = max(error, best.merit - reach(best.merit, tolerance))
    rtl = [c for c in every if c.design.flow == "rtl"]
    provable = [c for c in rtl if c.merit >= best.merit - allowed]
    contenders = [
        c
        for c in (rtl if provable else every)
        if not any(o.lut <= c.lut and o.merit > c.merit + 2 * allowed for o in every)
    ]
    curve = fit_curve(contenders)
    dearest = max(c.lut for c in contenders)
    aim = max(curve.cheapest(dearest, allowed), min(c.lut for c in contenders))
    low, high = aim / NEARLY_AS_DEAR, aim * NEARLY_AS_DEAR
    near = [c for c in contenders if low <= c.lut <= high]
    winner = (
        max(near, key=lambda c: c.merit)
        if near
        else min(contenders, key=lambda c: abs(np.log(c.lut / aim)))
    )
    as_good = [c for c in contenders if c.merit >= winner.merit and c.lut <= winner.lut]
    beaten, winner = winner, max(as_good, key=lambda c: (c.merit, -c.lut))
    reason = (
        f"Of {len(designs)} finalists {len(fitting)} fit the budget; {len(contenders)}"
        f"{' in plain RTL' if provable else ''} are not clearly beaten by a cheaper one. "
        + (
            f"About {aim:,.0f} LUT buy a score within {allowed:.4f} of what {dearest:,.0f} LUT reach"
            if curve.slope > 0
            else "The dearer ones are no better than the cheaper ones"
        )
        + f"; {beaten.design.digest} ({beaten.lut:,.0f} LUT) is the {'best' if near else 'nearest'} of that cost"
        + (
            f", and {winner.design.digest} ({winner.lut:,.0f} LUT) is as good for less."
            if winner is not beaten
            else "."
        )
    )
    low, high = _span(contenders, curve, allowed)
    ends = (min(low, winner.lut), high)
    better = sorted((c for c in contenders if c.merit > winner.merit), key=lambda c: -c.merit)
    elsewhere = (
        f"the winner may be another design of {ends[0]:,.0f} to {ends[1]:,.0f} LUT"
        if ends[1] > 1.01 * ends[0]
        else "the winner is likely to be the same"
    )
    steadiness = (
        f"A difference of two scores is known to {error:.4f} here. On another machine training takes other roundings, scores"
        f" move by about as much, and {elsewhere}."
    )
    if better:
        named = (
            f"{c.design.digest} ({c.lut:,.0f} LUT, {c.merit - winner.merit:+.4f})"
            for c in better[:3]
        )
        steadiness += f" Better by estimate: {', '.join(named)}."
    return winner.design, reason, steadiness


def _typical_error(contenders: Sequence[Contender], best: Contender) -> float:
    """Return the median standard error of the difference to the best."""
    noise = training_noise([c.design.validation for c in contenders])
    errors = [
        c.design.validation.error_of_difference(best.design.validation, noise)
        for c in contenders
        if c is not best
    ]
    return float(np.median(errors)) if errors else 0.0


def _span(contenders: Sequence[Contender], curve: Curve, allowed: float) -> tuple[float, float]:
    """Return between which costs the winner moves when the curve's slope moves by its standard error."""
    luts = np.array([c.lut for c in contenders])
    spread = float(np.sqrt(((1.0 / luts - (1.0 / luts).mean()) ** 2).sum()))
    # the error of one score is that of a difference over the root of 2
    deviation = allowed / np.sqrt(2.0) / spread if spread > 0 else 0.0
    low, high = (
        Curve(top=curve.top, slope=max(curve.slope + sign * deviation, 0.0)).cheapest(
            float(luts.max()), allowed
        )
        for sign in (-1.0, 1.0)
    )
    return max(low, float(luts.min())), max(high, float(luts.min()))


def beats_constant(design: TrainedDesign, constant: Baseline) -> bool:
    """Say whether a design is better than a constant answer by a standard error of the difference."""
    gain = design.validation.value - constant.validation.value
    return gain > design.validation.error_of_difference(constant.validation)
