"""The steps between tool stages: what logic synthesis and place-and-route make of an HLS estimate."""

from collections.abc import Mapping, Sequence

import numpy as np

from hw_models.calibration.intervals import LEVEL, weighted_quantile
from hw_models.formula import RESOURCES
from hw_models.records import Record

#: Prior width (log) of a step, and the log error of one pair: with few pairs a step stays near 1.
_PRIOR, _NOISE = 1.0, 0.5
#: Log half-width added where a stage has no pairs of its own and borrows another's step.
BORROWED = 0.3


def stage_step(
    csynth: Sequence[float], later: Sequence[float], sources: Sequence[str]
) -> dict[str, float]:
    """Fit one step: a factor and the log ends of its 90 % interval.

    The factor is the exponential of the shrunk median of source medians; a source with many designs
    counts as the root of their number.
    """
    ratio = np.log1p(np.asarray(later, dtype=float)) - np.log1p(np.asarray(csynth, dtype=float))
    _, inverse, counts = np.unique(np.asarray(sources), return_inverse=True, return_counts=True)
    weights = 1.0 / np.sqrt(counts[inverse])
    centre = weighted_quantile(ratio, weights, 0.5)
    shrink = weights.sum() / (weights.sum() + (_NOISE / _PRIOR) ** 2)
    centre *= shrink
    width = weighted_quantile(np.abs(ratio - centre), weights, LEVEL)
    return {
        "factor": float(np.exp(centre)),
        "low": -float(width),
        "high": float(width),
        "n": int(ratio.size),
    }


def stage_pairs(pairs: Sequence[Record], stage: str, target: str) -> list[tuple[float, float, str]]:
    """Return (csynth, later figure, source) of the records that report a target at both stages."""
    rows = []
    for pair in pairs:
        before, later = pair.report("csynth"), pair.report(stage)
        early = None if before is None else before.value(target)
        late = None if later is None else later.value(target)
        if early is not None and late is not None:
            rows.append((early, late, pair.source))
    return rows


def fit_stage_steps(pairs: Sequence[Record]) -> dict[str, dict[str, dict[str, float]]]:
    """Fit the step from csynth to logic synthesis, from designs that have both reports.

    Implementation has too few pairs of its own: it borrows the step of logic synthesis, widened.
    """
    steps: dict[str, dict[str, float]] = {}
    for target in RESOURCES:
        rows = stage_pairs(pairs, "vsynth", target)
        if len(rows) >= 5:
            steps[target] = stage_step(*(list(column) for column in zip(*rows, strict=True)))
    routed: dict[str, dict[str, float]] = {}
    for target, step in steps.items():
        routed[target] = {
            **step,
            "low": step["low"] - BORROWED,
            "high": step["high"] + BORROWED,
            "n": 0,
        }
    return {"vsynth": steps, "implemented": routed}


def held_out_stage_error(pairs: Sequence[Record], target: str) -> tuple[int, float, float]:
    """Return (n, SMAPE of the step, SMAPE of csynth taken as it is), leaving one source out at a time."""
    rows = stage_pairs(pairs, "vsynth", target)
    fitted: list[float] = []
    plain: list[float] = []
    for source in sorted({row[2] for row in rows}):
        train = [row for row in rows if row[2] != source]
        factor = stage_step(*(list(c) for c in zip(*train, strict=True)))["factor"]
        for before, after, _ in (row for row in rows if row[2] == source):
            for value, errors in ((before * factor, fitted), (before, plain)):
                errors.append(200 * abs(after - value) / (abs(after) + abs(value) + 1))
    return len(rows), float(np.mean(fitted)), float(np.mean(plain))


def fit_achieved_clock(records: Sequence[Record]) -> Mapping[str, float]:
    """Fit achieved_ns = a + b * log2(LUT / 1e4) on post-route designs."""
    lut = np.array([float(r.others["lut"]) for r in records])
    achieved = np.array([float(r.others["achieved_clock_period_ns"]) for r in records])
    features = np.stack([np.ones_like(lut), np.log2(lut / 1e4)], axis=1)
    a, b = np.linalg.lstsq(features, achieved, rcond=None)[0]
    return {"a_ns": float(a), "b_ns": float(b), "n": float(lut.size)}
