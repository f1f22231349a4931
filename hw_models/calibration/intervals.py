"""Prediction intervals from held-out residuals, and their coverage on groups that were held out.

Split conformal prediction over groups (Vovk et al. 2005; Lei et al. 2018, doi:10.1080/01621459.2017.1307116):
the 90 % quantile of |log((reported + floor) / (predicted + floor))| less the design's strangeness, which an estimate
adds again (a conformity score that depends on the design); groups weighted by the root of their size, taken per
(strategy, io_type, kind) where there is enough, else over ever coarser classes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hw_models.calibration.fit import Array, Dataset, fitted_ranges
from hw_models.coefficients import Coefficients, interval_classes
from hw_models.compose import LEAST_WIDTH, RTL_TOOLS, raw_costs, widened_by
from hw_models.formula import error_floor
from hw_models.types import MATVEC_STRATEGIES, METRICS

LEVEL = 0.90
#: Quantile that covers `LEVEL` of the designs of an author whom the fit has not seen: with a score of authors
#: the plain quantile covers 83 to 93 % of them, target by target; this one 88 to 95 %.
STRANGER_LEVEL = 0.91
#: How many times a figure may differ from the law and still take part in a fit.
CONTRADICTION = 20.0
#: How many times it may differ and still say how wide the intervals of its class are: one further off is of a
#: kind that no width would help, and would make all others say nothing.
OUTLIER = 10.0
#: Log half-widths added for what the fit has not seen, or sees too seldom: from the spread of offsets between keys,
#: and of designs with learned widths around the law.
WIDENING = {
    "io": 0.4, "tool": 0.3, "version": 0.1, "family": 0.2, "strategy": 0.4, "range": 0.3, "recurrent": 0.5,
    "learned": 1.0,
}  # fmt: skip
#: Smallest class, in groups and in records, that gets its own quantile.
MIN_GROUPS, MIN_RECORDS = 3, 10


def _floors(dataset: Dataset, metric: str) -> Array:
    """Return the error floor of each record, float[n]."""
    return np.array(
        [
            error_floor(metric, is_rtl=keys[1].removeprefix("tool=") in RTL_TOOLS)
            for keys in dataset.keys
        ]
    )


def log_residuals(dataset: Dataset, predicted: Mapping[str, Array]) -> dict[str, Array]:
    """Return log((reported + floor) / (predicted + floor)), float[n] per metric, NaN where not reported."""
    result = {}
    for metric in METRICS:
        floor = _floors(dataset, metric)
        known = np.maximum(predicted[metric], 0.0) + floor
        result[metric] = np.log(dataset.reported[metric] + floor) - np.log(known)
    return result


def strangeness(
    dataset: Dataset,
    rows: NDArray[np.intp],
    known: NDArray[np.intp],
    widening: Mapping[str, float],
) -> dict[str, Array]:
    """Return by how much an estimate widens the intervals of `rows` where a fit has seen `known`.

    Args:
        dataset: the records.
        rows, known: indices of records.
        widening: as in `Coefficients`.

    Returns:
        Per metric float[n records], 0 outside `rows`.
    """
    seen = {key: 1 for i in known for key in dataset.keys[i]}
    fitted = Coefficients(seen=seen, ranges=fitted_ranges(dataset, known), widening=widening)
    wanted = np.zeros(len(dataset), dtype=bool)
    wanted[rows] = True
    result = {metric: np.zeros(len(dataset)) for metric in METRICS}
    costs = dataset.remembered(
        "costs with operations", lambda: [raw_costs(batch, {}) for _, batch in dataset.batches]
    )
    for (members, batch), raw in zip(dataset.batches, costs, strict=True):
        if not wanted[members].any():
            continue
        extra, _ = widened_by(batch, raw, fitted)
        for metric in METRICS:
            result[metric][members] = np.where(wanted[members], extra[metric], 0.0)
    return result


def _each_left_out(
    dataset: Dataset, groups: NDArray[np.object_], widening: Mapping[str, float]
) -> dict[str, Array]:
    """Return the strangeness of each record to all other groups, float[n] per metric."""
    result = {metric: np.zeros(len(dataset)) for metric in METRICS}
    for group in np.unique(groups):
        rows, others = np.flatnonzero(groups == group), np.flatnonzero(groups != group)
        strange = strangeness(dataset, rows, others, widening)
        result = {metric: result[metric] + strange[metric] for metric in METRICS}
    return result


def weighted_quantile(values: Array, weights: Array, level: float) -> float:
    """Return the smallest value with at least `level` of the weight at or below it."""
    order = np.argsort(values)
    cumulative = np.cumsum(weights[order])
    position = int(np.searchsorted(cumulative, level * cumulative[-1]))
    return float(values[order][min(position, values.size - 1)])


def _classes(dataset: Dataset) -> list[tuple[str, ...]]:
    """Return each record's interval classes, the finest first."""
    raw = dataset.raw({})
    names = [*MATVEC_STRATEGIES, "mixed"]
    return [
        interval_classes(
            names[code],
            record.io_type or "io_parallel",
            "spatial" if spatial else "dense",
        )
        for code, spatial, record in zip(raw.strategy, raw.is_spatial, dataset.records, strict=True)
    ]


def interval_labels(dataset: Dataset) -> list[str]:
    """Return the finest interval class of each record."""
    return [names[0] for names in _classes(dataset)]


def _fit_classes(
    dataset: Dataset,
    residual: Array,
    strange: Array,
    rows: NDArray[np.intp],
    labels: list[tuple[str, ...]],
) -> dict[str, tuple[float, float]]:
    """Return the ends of each class: the quantile of what is left of the errors beyond their strangeness."""
    known = rows[np.abs(np.nan_to_num(residual[rows], nan=np.inf)) < math.log(OUTLIER)]
    result: dict[str, tuple[float, float]] = {}
    if known.size == 0:
        return result
    members_of: dict[str, list[int]] = {}
    for i in known:
        for name in labels[i]:
            members_of.setdefault(name, []).append(int(i))
    for name, rows_of in members_of.items():
        members = np.array(rows_of)
        groups = np.unique(dataset.groups[members]).size
        if name != "*" and (groups < MIN_GROUPS or members.size < MIN_RECORDS):
            continue
        beyond = np.abs(residual[members]) - strange[members]
        width = max(weighted_quantile(beyond, dataset.weights[members], STRANGER_LEVEL), 0.0)
        result[name] = (-width, width)
    return result


def conformal_intervals(
    dataset: Dataset, residuals: Mapping[str, Array], widening: Mapping[str, float]
) -> dict[str, dict[str, tuple[float, float]]]:
    """Return intervals[metric][class] = log offsets (low, high) of the 90 % interval.

    Args:
        dataset, residuals: the records, and their log residuals under fits of other groups.
        widening: what an estimate adds by distance, which is not counted twice.
    """
    labels = _classes(dataset)
    rows = np.arange(len(dataset))
    strange = _each_left_out(dataset, dataset.groups, widening)
    return {
        metric: _fit_classes(dataset, residuals[metric], strange[metric], rows, labels)
        for metric in METRICS
    }


@dataclass(frozen=True, kw_only=True)
class Covered:
    """Held-out records of one metric: whether they lie in their interval, and its half-width (log), NaN unknown."""

    inside: Array
    width: Array


def covered_records(
    dataset: Dataset,
    groups: NDArray[np.object_],
    predicted: Mapping[str, Array],
    widening: Mapping[str, float],
) -> dict[str, Covered]:
    """Judge, per metric and record, the interval that an estimate has when its group was never seen."""
    residuals, labels = log_residuals(dataset, predicted), _classes(dataset)
    calibrated = _each_left_out(dataset, dataset.groups, widening)
    judged = _each_left_out(dataset, groups, widening)
    result: dict[str, Covered] = {}
    for metric in METRICS:
        inside, width = np.full((2, len(dataset)), np.nan)
        floor = _floors(dataset, metric)
        for group in np.unique(groups):
            train = np.flatnonzero(groups != group)
            fitted = _fit_classes(dataset, residuals[metric], calibrated[metric], train, labels)
            for i in np.flatnonzero(groups == group):
                reported = dataset.reported[metric][i]
                if np.isnan(reported) or "*" not in fitted:
                    continue
                end = next(fitted[name][1] for name in labels[i] if name in fitted)
                width[i] = max(end + judged[metric][i], LEAST_WIDTH)
                ends = (-float(width[i]), float(width[i]))
                inside[i] = _is_inside(reported, predicted[metric][i], ends, float(floor[i]))
        result[metric] = Covered(inside=inside, width=width)
    return result


def coverage(
    dataset: Dataset,
    groups: NDArray[np.object_],
    predicted: Mapping[str, Array],
    widening: Mapping[str, float],
) -> dict[str, float]:
    """Return the group-weighted share of held-out records inside their interval, per metric."""
    result = {}
    for metric, covered in covered_records(dataset, groups, predicted, widening).items():
        known = ~np.isnan(covered.inside)
        weights = dataset.weights[known]
        result[metric] = (
            float(weights @ covered.inside[known] / weights.sum()) if known.any() else float("nan")
        )
    return result


def own_intervals(
    dataset: Dataset,
    metric: str,
    residual: Array,
    base: Coefficients,
    rows: NDArray[np.intp] | None = None,
) -> dict[str, tuple[float, float]]:
    """Return the intervals of one user's designs, by the finest class of each: log offsets (low, high).

    The designs of one user are taken as drawn from one population, so that no groups are needed, and the
    quantile carries the correction for a finite sample (the (n + 1) 0.9-th smallest of n, Lei et al.); a class
    with fewer than `MIN_RECORDS` designs borrows the quantile of all.  Designs that have none of the metric, as
    predicted, say nothing of how well it is predicted where there is some: they do not count.

    Args:
        dataset: the designs.
        metric: what is predicted.
        residual: float[n], log residuals of predictions that had not seen the design, NaN where unknown.
        base: whose intervals are not narrowed by too few designs.
        rows: designs to use; all by default.
    """
    rows = np.arange(len(dataset)) if rows is None else rows
    known = rows[~np.isnan(residual[rows])]
    if not known.size:
        return {}
    present = ~((dataset.reported[metric] == 0) & (residual == 0))
    if not present[known].any():
        present[:] = True
    labels = interval_labels(dataset)
    live = known[present[known]]
    result: dict[str, tuple[float, float]] = {}
    for name in sorted({labels[i] for i in known}):
        own = np.abs(residual[[i for i in live if labels[i] == name]])
        values = np.sort(own if own.size >= MIN_RECORDS else np.abs(residual[live]))
        position = math.ceil(LEVEL * (values.size + 1))
        if position <= values.size:
            width = float(values[position - 1])
        else:  # too few to say; the largest is stretched by as much as is missing
            width = float(values[-1]) * position / values.size
            width = max(width, *np.abs(base.interval(target=metric, **_class_parts(name))))
        result[name] = (-width, width)
    return result


def _class_parts(name: str) -> dict[str, str]:
    """Split the name of a finest class into what it was made of."""
    strategy, io_type, kind = name.split("|")
    return {"strategy": strategy, "io_type": io_type, "kind": kind}


def own_coverage(
    dataset: Dataset,
    folds: NDArray[np.object_],
    predicted: Mapping[str, Array],
    base: Coefficients,
) -> dict[str, float]:
    """Return, per metric, the share of designs inside own intervals that were made without their fold."""
    residuals, labels = log_residuals(dataset, predicted), interval_labels(dataset)
    result = {}
    for metric in METRICS:
        inside: list[bool] = []
        floor = _floors(dataset, metric)
        for fold in np.unique(folds):
            train = np.flatnonzero(folds != fold)
            intervals = own_intervals(dataset, metric, residuals[metric], base, train)
            for i in np.flatnonzero(folds == fold):
                if np.isnan(residuals[metric][i]) or not intervals:
                    continue
                widest = max(intervals.values(), key=lambda ends: ends[1])
                ends = intervals.get(labels[i], widest)
                reported, value = dataset.reported[metric][i], predicted[metric][i]
                inside.append(_is_inside(reported, value, ends, float(floor[i])))
        result[metric] = float(np.mean(inside)) if inside else float("nan")
    return result


def _is_inside(reported: float, value: float, ends: tuple[float, float], floor: float) -> bool:
    """Say whether a report lies in an interval, its ends rounded outwards as the estimator does."""
    low, high = ((value + floor) * np.exp(end) - floor for end in ends)
    return bool(max(np.floor(low), 0.0) <= reported <= np.ceil(high))
