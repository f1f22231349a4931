"""Prediction intervals from held-out residuals, and their coverage on groups that were held out.

Split conformal prediction over groups (Vovk et al. 2005; Lei et al. 2018, doi:10.1080/01621459.2017.1307116):
the 90 % quantile of |log((reported + 1) / (predicted + 1))|, groups weighted by the root of their
size, taken per (strategy, io_type, kind) where there is enough, else over ever coarser classes.
"""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from hw_models.calibration.fit import Array, Dataset
from hw_models.coefficients import Coefficients, interval_classes
from hw_models.types import MATVEC_STRATEGIES, METRICS

LEVEL = 0.90
#: Quantile that covers `LEVEL` of the designs of an author whom the fit has not seen: with a score of authors
#: the plain quantile covers 83 to 93 % of them, target by target; this one 88 to 95 %.
STRANGER_LEVEL = 0.92
#: How many times a figure may differ from the law and still take part in a fit.
CONTRADICTION = 20.0
#: How many times it may differ and still say how wide the intervals of its class are: one further off is of a
#: kind that no width would help, and would make all others say nothing.
OUTLIER = 10.0
#: Smallest class, in groups and in records, that gets its own quantile.
MIN_GROUPS, MIN_RECORDS = 3, 10


def log_residuals(dataset: Dataset, predicted: Mapping[str, Array]) -> dict[str, Array]:
    """Return log((reported + 1) / (predicted + 1)), float[n] per metric, NaN where not reported."""
    return {
        metric: np.log1p(dataset.reported[metric]) - np.log1p(np.maximum(predicted[metric], 0.0))
        for metric in METRICS
    }


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
    rows: NDArray[np.intp],
    labels: list[tuple[str, ...]],
) -> dict[str, tuple[float, float]]:
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
        width = weighted_quantile(
            np.abs(residual[members]), dataset.weights[members], STRANGER_LEVEL
        )
        result[name] = (-width, width)
    return result


def conformal_intervals(
    dataset: Dataset, residuals: Mapping[str, Array]
) -> dict[str, dict[str, tuple[float, float]]]:
    """Return intervals[metric][class] = log offsets (low, high) of the 90 % interval."""
    labels = _classes(dataset)
    rows = np.arange(len(dataset))
    return {metric: _fit_classes(dataset, residuals[metric], rows, labels) for metric in METRICS}


def covered_records(
    dataset: Dataset, groups: NDArray[np.object_], predicted: Mapping[str, Array]
) -> dict[str, Array]:
    """Say per metric and record whether it lies in an interval made from the other groups only (NaN unknown)."""
    residuals, labels = log_residuals(dataset, predicted), _classes(dataset)
    inside: dict[str, Array] = {}
    for metric in METRICS:
        inside[metric] = np.full(len(dataset), np.nan)
        for group in np.unique(groups):
            fitted = _fit_classes(
                dataset, residuals[metric], np.flatnonzero(groups != group), labels
            )
            for i in np.flatnonzero(groups == group):
                reported = dataset.reported[metric][i]
                if np.isnan(reported) or "*" not in fitted:
                    continue
                ends = next(fitted[name] for name in labels[i] if name in fitted)
                inside[metric][i] = float(_is_inside(reported, predicted[metric][i], ends))
    return inside


def coverage(
    dataset: Dataset, groups: NDArray[np.object_], predicted: Mapping[str, Array]
) -> dict[str, float]:
    """Return the group-weighted share of held-out records inside their interval, per metric."""
    result = {}
    for metric, inside in covered_records(dataset, groups, predicted).items():
        known = ~np.isnan(inside)
        weights = dataset.weights[known]
        result[metric] = (
            float(weights @ inside[known] / weights.sum()) if known.any() else float("nan")
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
        for fold in np.unique(folds):
            train = np.flatnonzero(folds != fold)
            intervals = own_intervals(dataset, metric, residuals[metric], base, train)
            for i in np.flatnonzero(folds == fold):
                if np.isnan(residuals[metric][i]) or not intervals:
                    continue
                widest = max(intervals.values(), key=lambda ends: ends[1])
                ends = intervals.get(labels[i], widest)
                inside.append(_is_inside(dataset.reported[metric][i], predicted[metric][i], ends))
        result[metric] = float(np.mean(inside)) if inside else float("nan")
    return result


def _is_inside(reported: float, value: float, ends: tuple[float, float]) -> bool:
    """Say whether a report lies in an interval, its ends rounded outwards as the estimator does."""
    low, high = ((value + 1) * np.exp(end) - 1 for end in ends)
    return bool(max(np.floor(low), 0.0) <= reported <= np.ceil(high))
