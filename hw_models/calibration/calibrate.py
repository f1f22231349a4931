"""Calibration: fit, judge on held-out groups, and refuse to become worse."""

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hw_models.calibration.fit import (
    USER_NOISE,
    Array,
    Dataset,
    Recipe,
    default_recipe,
    fit,
    is_refinement,
    predict,
    smape,
)
from hw_models.calibration.groups import dense_shape
from hw_models.calibration.intervals import conformal_intervals, coverage, log_residuals
from hw_models.coefficients import Coefficients, load_coefficients
from hw_models.errors import ModelError
from hw_models.records import Record, load_records
from hw_models.types import METRICS

#: Records that the package carries: the project's own open synthesis.
CORPUS = Path(__file__).parent / "corpus"
#: Metrics that new timing constants must predict better, on held-out groups, to be kept.
TIMED = ("latency_cycles", "interval_cycles", "ff", "dsp")
#: Fewest records that a calibration accepts.
MIN_RECORDS = 3


@dataclass(frozen=True, kw_only=True)
class TargetError:
    """Held-out error of one metric.

    Attributes:
        n: records with a reported value.
        before, after: mean SMAPE in per cent with the base coefficients and with refitted ones, each
            record predicted by a fit that had not seen its group.
        coverage: share of held-out records inside the new 90 % interval.
    """

    n: int
    before: float
    after: float
    coverage: float


@dataclass(frozen=True, kw_only=True)
class CalibrationResult:
    """What a calibration found.

    Attributes:
        coefficients: fitted on all records; the base where `is_better` is False.
        is_better: whether the held-out error of any target fell; the others keep the base's coefficients.
        errors: per metric.
        n_records, n_groups: of the records that could be used.
        rejected: (id, reason) of the others.
        reported, before, after: float[n_records] per metric, for plots; predictions are held out.
        groups, identifiers: of the used records.
        layer_types: names of each used record's layer types.
        stage: stage that was fitted.
    """

    coefficients: Coefficients
    is_better: bool
    errors: Mapping[str, TargetError]
    n_records: int
    n_groups: int
    rejected: tuple[tuple[str, str], ...]
    reported: Mapping[str, Array]
    before: Mapping[str, Array]
    after: Mapping[str, Array]
    groups: tuple[str, ...]
    identifiers: tuple[str, ...]
    layer_types: tuple[tuple[str, ...], ...]
    stage: str


def fold_groups(dataset: Dataset) -> NDArray[np.object_]:
    """Return the group of each record for holding out.

    With fewer than three sources, equal networks are kept together instead, so that a user's own
    reports can be judged too.
    """
    if np.unique(dataset.groups).size >= 3:
        return dataset.groups
    shapes = [str(dense_shape(record)) + str(len(record.layers)) for record in dataset.records]
    return np.array([f"{g}:{s}" for g, s in zip(dataset.groups, shapes, strict=True)], dtype=object)


def held_out_predictions(
    dataset: Dataset,
    groups: NDArray[np.object_],
    base: Coefficients | None,
    progress: Callable[[str], None] | None = None,
    recipe: Recipe | None = None,
    without: str | None = None,
) -> dict[str, Array]:
    """Predict each group with coefficients fitted on all others, rounded as the estimator does.

    Args:
        dataset, groups: the records and what must not be split.
        base: coefficients to shrink to.
        progress: called with the name of each group when it is done.
        recipe: what the fit may change.
        without: a group that neither is predicted (NaN) nor takes part in any fit.
    """
    held = {metric: np.full(len(dataset), np.nan) for metric in METRICS}
    for group in np.unique(groups):
        if group == without:
            continue
        test = np.flatnonzero(groups == group)
        train = np.flatnonzero((groups != group) & (groups != without))
        predicted = predict(dataset, fit(dataset, train, base=base, recipe=recipe))
        for metric in METRICS:
            held[metric][test] = np.rint(predicted[metric][test])
        if progress is not None:
            progress(str(group))
    return held


def held_out_calibrations(
    dataset: Dataset, groups: NDArray[np.object_], base: Coefficients
) -> dict[str, Array]:
    """Predict each group as `held_out_predictions` does, the recipe too chosen without it (nested folds)."""
    held = {metric: np.full(len(dataset), np.nan) for metric in METRICS}
    before = {metric: np.rint(value) for metric, value in predict(dataset, base).items()}
    for group in np.unique(groups):
        test, train = np.flatnonzero(groups == group), np.flatnonzero(groups != group)
        recipe, _ = _choose_recipe(dataset, groups, base, before, None, without=str(group))
        predicted = predict(dataset, fit(dataset, train, base=base, recipe=recipe))
        for metric in METRICS:
            held[metric][test] = np.rint(predicted[metric][test])
    return held


def _error(dataset: Dataset, predicted: Mapping[str, Array], metrics: Sequence[str]) -> float:
    """Return the mean SMAPE over `metrics`, each the mean over the groups that report it."""
    errors = []
    for metric in metrics:
        reported = dataset.reported[metric]
        known = ~np.isnan(reported) & ~np.isnan(predicted[metric])
        if known.any():
            error = smape(reported[known], predicted[metric][known])
            of = np.unique(dataset.groups[known], return_inverse=True)[1]
            errors.append(float(np.mean(np.bincount(of, error) / np.bincount(of))))
    return float(np.mean(errors)) if errors else 0.0


def _choose_recipe(
    dataset: Dataset,
    groups: NDArray[np.object_],
    start: Coefficients,
    before: Mapping[str, Array],
    progress: Callable[[str], None] | None,
    without: str | None = None,
) -> tuple[Recipe, dict[str, Array]]:
    """Keep, of all that a fit may change, what lowers the error on held-out groups.

    Timing constants are judged by the cycles (and by registers, which follow their cuts), factors and
    offsets target by target, for a user also how far a single report is trusted.

    Returns:
        The recipe, and what it predicts for each group when it is held out.
    """
    noises = (
        USER_NOISE if is_refinement(start) else tuple(set(default_recipe(start).noise.values()))
    )
    targets = tuple(default_recipe(start).noise)
    retimed = held_out_predictions(
        dataset, groups, start, progress, Recipe(noise={}, with_timing=True), without
    )
    if without is not None:
        hidden = groups == without
        before = {metric: np.where(hidden, np.nan, value) for metric, value in before.items()}
    with_timing = _error(dataset, retimed, TIMED) < _error(dataset, before, TIMED) - 1e-9
    held = dict(retimed if with_timing else before)
    chosen: dict[str, float] = {}
    best = {target: _error(dataset, held, (target,)) for target in targets}
    for noise in noises:
        recipe = Recipe(noise=dict.fromkeys(targets, noise), with_timing=with_timing)
        tried = held_out_predictions(dataset, groups, start, progress, recipe, without)
        for target in targets:
            error = _error(dataset, tried, (target,))
            if error < best[target] - 1e-9:
                best[target], chosen[target], held[target] = error, noise, tried[target]
    return Recipe(noise=chosen, with_timing=with_timing), held


def calibrate(
    records: Sequence[Record],
    *,
    base: Coefficients | None = None,
    stage: str = "csynth",
    source: str = "user records",
    progress: Callable[[str], None] | None = None,
) -> CalibrationResult:
    """Fit coefficients to records, starting from `base`, and judge them on held-out groups.

    Args:
        records: records with a report at `stage`.
        base: coefficients to start from and to shrink to; the shipped ones by default.
        stage: field of the records that is fitted ("csynth"; "synthesized" for open synthesis).
        source: where the records come from, for the provenance.
        progress: called with the name of each held-out group when it is done.

    Raises:
        ModelError: fewer than three usable records.
    """
    start = load_coefficients() if base is None else base
    dataset = Dataset(records, stage=stage)
    if len(dataset) < MIN_RECORDS:
        reasons = "; ".join(sorted({reason for _, reason in dataset.rejected})[:3])
        raise ModelError(
            f"{len(dataset)} usable records at stage {stage!r}, expected at least {MIN_RECORDS}; "
            f"give more reports ({reasons or 'none was given'})"
        )
    groups = fold_groups(dataset)
    if np.unique(groups).size < 2:
        groups = np.array([f"fold {i % 5}" for i in range(len(dataset))], dtype=object)
    dataset.groups = groups
    before = {metric: np.rint(value) for metric, value in predict(dataset, start).items()}
    recipe, after = _choose_recipe(dataset, groups, start, before, progress)
    is_better = recipe.with_timing or bool(recipe.noise)
    covered = coverage(dataset, groups, after)
    errors = {}
    for metric in METRICS:
        reported = dataset.reported[metric]
        known = ~np.isnan(reported)
        if not known.any():
            continue
        errors[metric] = TargetError(
            n=int(known.sum()),
            before=float(smape(reported[known], before[metric][known]).mean()),
            after=float(smape(reported[known], after[metric][known]).mean()),
            coverage=covered[metric],
        )
    coefficients = start
    if is_better:
        coefficients = replace(
            fit(dataset, np.arange(len(dataset)), base=start, recipe=recipe),
            intervals=_merged_intervals(
                start, conformal_intervals(dataset, log_residuals(dataset, after))
            ),
            widening=dict(start.widening),
            stages=start.stages,
            achieved_clock=start.achieved_clock,
            energy_scale=start.energy_scale,
            provenance={
                "source": source,
                "stage": stage,
                "n_records": len(dataset),
                "n_groups": int(np.unique(groups).size),
                "date": datetime.date.today().isoformat(),
                "held_out_smape": {m: round(e.after, 2) for m, e in errors.items()},
                "held_out_coverage": {m: round(e.coverage, 3) for m, e in errors.items()},
                "base": dict(start.provenance),
            },
        )
    return CalibrationResult(
        coefficients=coefficients,
        is_better=is_better,
        errors=errors,
        n_records=len(dataset),
        n_groups=int(np.unique(groups).size),
        rejected=tuple(dataset.rejected),
        reported=dataset.reported,
        before=before,
        after=after,
        groups=tuple(str(g) for g in groups),
        identifiers=tuple(str(r.id) for r in dataset.records),
        layer_types=tuple(tuple(sorted({x.type for x in r.layers})) for r in dataset.records),
        stage=stage,
    )


def _merged_intervals(
    base: Coefficients, fitted: Mapping[str, Mapping[str, tuple[float, float]]]
) -> dict[str, dict[str, tuple[float, float]]]:
    """Replace the classes that the new records speak of; keep the others."""
    return {
        metric: {**base.intervals.get(metric, {}), **fitted.get(metric, {})}
        for metric in {*base.intervals, *fitted}
    }


def load_corpus() -> list[Record]:
    """Read the records that the package carries.

    Raises:
        ModelError: the corpus is missing.
    """
    files = sorted(CORPUS.glob("*.jsonl"))
    if not files:
        raise ModelError(
            f"{CORPUS}: no shipped corpus; expected *.jsonl, reinstall or pass records"
        )
    return load_records(files)
