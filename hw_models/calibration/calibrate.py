"""Calibration: fit, judge on held-out groups, and refuse to become worse."""

import datetime
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from hw_models.calibration.estimate import estimate_records
from hw_models.calibration.fit import (
    LAW_TIMING,
    TIMING_CHOICES,
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
from hw_models.calibration.intervals import (
    CONTRADICTION,
    WIDENING,
    conformal_intervals,
    coverage,
    interval_labels,
    log_residuals,
    own_coverage,
    own_intervals,
)
from hw_models.coefficients import Coefficients, load_coefficients, scope_name
from hw_models.errors import ModelError
from hw_models.records import Record, load_records
from hw_models.types import MATVEC_STRATEGIES, METRICS

#: Records that the package carries: the project's own open synthesis.
CORPUS = Path(__file__).parent / "corpus"
#: Metrics that new timing constants must predict better, on held-out groups, to be kept.
TIMED = ("latency_cycles", "interval_cycles", "ff", "dsp")
#: Fewest records that a calibration accepts.
MIN_RECORDS = 3
#: Most folds in which a user's reports are held out: each costs a choice of its own.
MAX_FOLDS = 8
#: A user's designs get an interval of their own where the known one covers fewer than this share of them.
MIN_COVERAGE = 0.85


@dataclass(frozen=True, kw_only=True)
class TargetError:
    """Held-out error and coverage of one metric, and what was made of them.

    Attributes:
        n: records with a reported value.
        before: mean SMAPE in per cent with the base coefficients.
        tried: the same with refitted ones, each record predicted by a fit, and by choices of what to fit,
            that had not seen its group.
        after: the same with the coefficients that come out: `tried` where accepted, else `before`.
        coverage_before, coverage: share of records inside the 90 % interval, of the base, and of what comes
            out (of held-out records).
        is_accepted: whether the refit was kept for this metric.
        has_own_interval: whether the interval was made from these records.
    """

    n: int
    before: float
    tried: float
    after: float
    coverage_before: float
    coverage: float
    is_accepted: bool
    has_own_interval: bool


@dataclass(frozen=True, kw_only=True)
class CalibrationResult:
    """What a calibration found.

    Attributes:
        coefficients: fitted on all records; the base where `is_better` is False.
        is_better: whether any target was accepted or got a truer interval; the others stay as they were.
        errors: per metric.
        n_records, n_groups: of the records that could be used.
        rejected: (id, reason) of the others.
        distrusted: (id, reason) of single figures that no fit saw.
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
    distrusted: tuple[tuple[str, str], ...]
    reported: Mapping[str, Array]
    before: Mapping[str, Array]
    after: Mapping[str, Array]
    groups: tuple[str, ...]
    identifiers: tuple[str, ...]
    layer_types: tuple[tuple[str, ...], ...]
    stage: str


def fold_groups(dataset: Dataset) -> NDArray[np.object_]:
    """Return the group of each record for holding out.

    Sources, where there are three and they hold more than a record each; otherwise equal networks are kept
    together, so that a user's own reports can be judged too, one project being one source.
    """
    n_sources = np.unique(dataset.groups).size
    if 3 <= n_sources < len(dataset):
        return dataset.groups
    shapes = [str(dense_shape(record)) + str(len(record.layers)) for record in dataset.records]
    if n_sources < 3:
        pairs = zip(dataset.groups, shapes, strict=True)
        shapes = [f"{group}:{shape}" for group, shape in pairs]
    return np.array(shapes, dtype=object)


def _merged_folds(groups: NDArray[np.object_]) -> NDArray[np.object_]:
    """Join groups to at most `MAX_FOLDS` folds of about equal size; records, where there is one group alone."""
    names, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
    if names.size < 2:
        return np.array([f"fold {i % 5}" for i in range(groups.size)], dtype=object)
    if names.size <= MAX_FOLDS:
        return groups
    sizes, fold_of = np.zeros(MAX_FOLDS), np.zeros(names.size, dtype=np.intp)
    for i in np.argsort(-counts, kind="stable"):
        fold_of[i] = int(np.argmin(sizes))
        sizes[fold_of[i]] += counts[i]
    return np.array([f"fold {fold_of[i]}" for i in inverse], dtype=object)


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
        # nested folds ask twice for each pair of groups
        predicted = dataset.remembered(
            (train.tobytes(), repr(recipe), id(base)),
            partial(_fitted_predictions, dataset, train, base, recipe),
        )
        for metric in METRICS:
            held[metric][test] = np.rint(predicted[metric][test])
        if progress is not None:
            progress(str(group))
    return held


def _fitted_predictions(
    dataset: Dataset, train: NDArray[np.intp], base: Coefficients | None, recipe: Recipe | None
) -> dict[str, Array]:
    return predict(dataset, fit(dataset, train, base=base, recipe=recipe))


def held_out_calibrations(
    dataset: Dataset,
    groups: NDArray[np.object_],
    base: Coefficients,
    progress: Callable[[str], None] | None = None,
    choices: Sequence[Sequence[str]] = TIMING_CHOICES,
) -> dict[str, Array]:
    """Predict each group as `held_out_predictions` does, the recipe too chosen without it (nested folds)."""
    held = {metric: np.full(len(dataset), np.nan) for metric in METRICS}
    before = {metric: np.rint(value) for metric, value in predict(dataset, base).items()}
    for group in np.unique(groups):
        test, train = np.flatnonzero(groups == group), np.flatnonzero(groups != group)
        recipe, _ = _choose_recipe(
            dataset, groups, base, before, None, without=str(group), choices=choices
        )
        predicted = predict(dataset, fit(dataset, train, base=base, recipe=recipe))
        for metric in METRICS:
            held[metric][test] = np.rint(predicted[metric][test])
        if progress is not None:
            progress(str(group))
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
    choices: Sequence[Sequence[str]] = TIMING_CHOICES,
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
    if without is not None:
        hidden = groups == without
        before = {metric: np.where(hidden, np.nan, value) for metric, value in before.items()}
    timing: Sequence[str] = ()
    held, least = dict(before), _error(dataset, before, TIMED)
    for kinds in choices:
        recipe = Recipe(noise={}, timing=kinds)
        retimed = held_out_predictions(dataset, groups, start, progress, recipe, without)
        error = _error(dataset, retimed, TIMED)
        if error < least - 1e-9:
            timing, held, least = kinds, dict(retimed), error
    chosen: dict[str, float] = {}
    best = {target: _error(dataset, held, (target,)) for target in targets}
    for noise in noises:
        recipe = Recipe(noise=dict.fromkeys(targets, noise), timing=timing)
        tried = held_out_predictions(dataset, groups, start, progress, recipe, without)
        for target in targets:
            error = _error(dataset, tried, (target,))
            if error < best[target] - 1e-9:
                best[target], chosen[target], held[target] = error, noise, tried[target]
    return Recipe(noise=chosen, timing=timing), held


def calibrate(
    records: Sequence[Record],
    *,
    base: Coefficients | None = None,
    stage: str = "csynth",
    source: str = "user records",
    progress: Callable[[str], None] | None = None,
    is_general: bool = False,
) -> CalibrationResult:
    """Fit coefficients to records, starting from `base`, and judge them on held-out groups.

    Args:
        records: records with a report at `stage`.
        base: coefficients to start from and to shrink to; the shipped ones by default.
        stage: tool stage of the records that is fitted ("csynth"; "vsynth" for plain RTL).
        source: where the records come from, for the provenance.
        progress: called with the name of each held-out group when it is done.
        is_general: whether the records are many authors', so that the fit speaks for designs of every kind.

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
    refines = is_refinement(start)
    widening = start.widening or WIDENING
    dataset.groups = fold_groups(dataset)
    folds = _merged_folds(dataset.groups) if refines else dataset.groups
    before = {metric: np.rint(value) for metric, value in predict(dataset, start).items()}
    distrusted = _distrust(dataset, before) if refines else []
    judged = _judge(dataset, folds, start, before, progress)
    # intervals are of the fit that comes out: its recipe, with as few designs held out at a time as can be
    finest = dataset.groups if np.unique(dataset.groups).size > 1 else folds
    left_out = judged.tried
    if refines:
        left_out = held_out_predictions(dataset, finest, start, recipe=judged.recipe)
    covered = covered_by(dataset, start)
    # what stays as it was loses the widening for tools and sizes that no record had
    everyone = fit(dataset, np.arange(len(dataset)), start, Recipe(noise={}, timing=()))
    kept = covered_by(dataset, replace(start, seen=everyone.seen, ranges=everyone.ranges))
    errors = {
        metric: error
        for metric in METRICS
        if (
            error := _target_error(
                dataset, finest, start, judged, left_out, before, covered, kept, metric
            )
        )
    }
    after = {
        m: judged.tried[m] if m in errors and errors[m].is_accepted else before[m] for m in METRICS
    }
    recipe = judged.recipe
    is_better = bool(recipe.timing or recipe.noise)
    is_better |= any(error.has_own_interval for error in errors.values())
    coefficients = start
    if is_better:
        coefficients = replace(
            fit(dataset, np.arange(len(dataset)), base=start, recipe=recipe),
            intervals=_merged_intervals(
                start, conformal_intervals(dataset, log_residuals(dataset, after), widening)
            ),
            widening=dict(widening),
            stages=start.stages,
            achieved_clock=start.achieved_clock,
            energy_scale=start.energy_scale,
            provenance={
                "source": source,
                "stage": stage,
                "n_records": len(dataset),
                "n_groups": int(np.unique(dataset.groups).size),
                "date": datetime.date.today().isoformat(),
                "held_out_smape": {m: round(e.after, 2) for m, e in errors.items()},
                "held_out_coverage": {m: round(e.coverage, 3) for m, e in errors.items()},
                "base": dict(start.provenance),
            },
        )
        if refines:
            own = [metric for metric, error in errors.items() if error.has_own_interval]
            residual_of = {
                m: left_out[m] if m in errors and errors[m].is_accepted else before[m]
                for m in METRICS
            }
            coefficients = _with_own_intervals(coefficients, start, dataset, residual_of, own)
        if not is_general:
            coefficients = speaking_for(coefficients, dataset)
    return CalibrationResult(
        coefficients=coefficients,
        is_better=is_better,
        errors=errors,
        n_records=len(dataset),
        n_groups=int(np.unique(dataset.groups).size),
        rejected=tuple(dataset.rejected),
        distrusted=tuple(distrusted),
        reported=dataset.reported,
        before=before,
        after=after,
        groups=tuple(str(g) for g in dataset.groups),
        identifiers=tuple(str(r.id) for r in dataset.records),
        layer_types=tuple(tuple(sorted({x.type for x in r.layers})) for r in dataset.records),
        stage=stage,
    )


def _distrust(dataset: Dataset, before: Mapping[str, Array]) -> list[tuple[str, str]]:
    """Keep out of the fit every single figure that the law misses by `CONTRADICTION`; return (id, why).

    No factor that a fit may choose reaches that far; the figure would only bend the others.  It still counts
    in the errors and in the intervals.
    """
    reasons = []
    for metric in METRICS:
        ratio = np.log1p(dataset.reported[metric]) - np.log1p(before[metric])
        rows = np.abs(np.nan_to_num(ratio)) > math.log(CONTRADICTION)
        dataset.distrust(metric, rows)
        for i in np.flatnonzero(rows):
            reasons.append(
                (
                    str(dataset.records[i].id),
                    f"its {metric} of {dataset.reported[metric][i]:,.0f} contradicts the law's "
                    f"{before[metric][i]:,.0f} by {math.exp(abs(ratio[i])):.0f}x; no fit saw it",
                )
            )
    return reasons


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """A recipe, what it predicts held out, and the errors of that, float[n] per metric."""

    recipe: Recipe
    tried: Mapping[str, Array]

    def is_accepted(self, metric: str) -> bool:
        return bool(self.recipe.timing) or metric in self.recipe.noise


def _judge(
    dataset: Dataset,
    folds: NDArray[np.object_],
    start: Coefficients,
    before: Mapping[str, Array],
    progress: Callable[[str], None] | None,
) -> _Judged:
    """Choose the recipe, and keep of it what makes no target worse on nested held-out error.

    Timing constants act on several targets at once: a set of them is kept only if none gets worse, and then before
    anything else, since nothing but them moves cycles, and only if the cycles and DSPs that it changes are better
    beyond chance.  Factors and offsets are kept target by target, where the
    error falls by more than chance (one-sided t test of the paired errors, 95 %) and the interval covers what it says
    (less two standard deviations of chance).  A fit of the bare laws is not judged again: there is nothing to lose.
    """
    if not is_refinement(start):
        recipe, tried = _choose_recipe(
            dataset, folds, start, before, progress, choices=(LAW_TIMING,)
        )
        return _Judged(recipe=recipe, tried=tried)
    choices: Sequence[Sequence[str]] = TIMING_CHOICES
    while True:
        recipe, _ = _choose_recipe(dataset, folds, start, before, None, choices=choices)
        if not recipe.timing:  # neither of the rest was better
            choices = ()
        tried = held_out_calibrations(dataset, folds, start, progress, choices)
        gains = {metric: _gains(dataset, before, tried, metric) for metric in METRICS}
        if recipe.timing:
            if _nothing_lost(gains):
                break
            choices = tuple(kinds for kinds in choices if kinds != recipe.timing)
            continue
        covered = own_coverage(dataset, folds, tried, start)
        kept = {
            target: noise
            for target, noise in recipe.noise.items()
            if is_beyond_chance(gains[target])
            and covered[target] >= MIN_COVERAGE - 2 * math.sqrt(0.09 / gains[target].size)
        }
        recipe = Recipe(noise=kept, timing=())
        break
    return _Judged(recipe=recipe, tried=tried)


def _nothing_lost(gains: Mapping[str, Array]) -> bool:
    """Say whether new timing constants may be kept: no target is worse, and what they count is better beyond chance."""
    for metric, gain in gains.items():
        if gain.size == 0 or not gain.any():
            continue
        counted = metric in ("latency_cycles", "interval_cycles", "dsp")
        if gain.mean() < 0 or (counted and not is_beyond_chance(gain)):
            return False
    return True


def _gains(
    dataset: Dataset, before: Mapping[str, Array], tried: Mapping[str, Array], metric: str
) -> Array:
    """Return by how much the SMAPE of each record falls, float[n of those that report the metric]."""
    reported = dataset.reported[metric]
    known = ~np.isnan(reported)
    gain: Array = smape(reported[known], before[metric][known]) - smape(
        reported[known], tried[metric][known]
    )
    return gain


def is_beyond_chance(gain: Array) -> bool:
    """Say whether a mean gain is above zero by more than chance: one-sided t test, 95 %."""
    if gain.size < 2 or gain.mean() <= 0:
        return False
    error = float(gain.std(ddof=1)) / math.sqrt(gain.size)
    return bool(gain.mean() > float(stdtrit(gain.size - 1, 0.95)) * error)


def _target_error(
    dataset: Dataset,
    finest: NDArray[np.object_],
    start: Coefficients,
    judged: _Judged,
    left_out: Mapping[str, Array],
    before: Mapping[str, Array],
    covered_before: Mapping[str, float],
    kept: Mapping[str, float],
    metric: str,
) -> TargetError | None:
    """Sum up one metric; None where no record reports it."""
    reported = dataset.reported[metric]
    known = ~np.isnan(reported)
    if not known.any():
        return None
    is_accepted = judged.is_accepted(metric) and bool(
        np.any(judged.tried[metric][known] != before[metric][known])
    )
    after = judged.tried if is_accepted else before
    if is_refinement(start):
        predicted = left_out if is_accepted else before
        covered = own_coverage(dataset, finest, predicted, start)[metric]
        has_own = is_accepted or (kept[metric] < MIN_COVERAGE and kept[metric] < covered)
        covered = covered if has_own else kept[metric]
    else:
        widening = start.widening or WIDENING
        has_own = is_accepted
        covered = coverage(dataset, dataset.groups, after, widening)[metric]

    def mean(predicted: Mapping[str, Array]) -> float:
        return float(smape(reported[known], predicted[metric][known]).mean())

    return TargetError(
        n=int(known.sum()),
        before=mean(before),
        tried=mean(judged.tried),
        after=mean(after),
        coverage_before=covered_before[metric],
        coverage=covered,
        is_accepted=is_accepted,
        has_own_interval=has_own,
    )


def covered_by(dataset: Dataset, start: Coefficients) -> dict[str, float]:
    """Return the share of the records inside the intervals of given coefficients, per metric."""
    stage = "vsynth" if dataset.stage == "vsynth" else "csynth"
    estimates = estimate_records(dataset.records, stage, start)
    result = {}
    for metric in METRICS:
        inside = [
            item[metric]["low"] <= value <= item[metric]["high"]
            for item, value in zip(estimates, dataset.reported[metric], strict=True)
            if item["supported"] and not np.isnan(value)
        ]
        result[metric] = float(np.mean(inside)) if inside else float("nan")
    return result


def _with_own_intervals(
    coefficients: Coefficients,
    start: Coefficients,
    dataset: Dataset,
    after: Mapping[str, Array],
    metrics: Sequence[str],
) -> Coefficients:
    """Give `metrics` intervals of these records, by class, and all other metrics those of `start`."""
    residuals = log_residuals(dataset, after)
    is_prior = dataset.raw(coefficients.timing).is_prior
    labels = interval_labels(dataset)
    intervals = {metric: dict(classes) for metric, classes in start.intervals.items()}
    own = {metric: dict(classes) for metric, classes in start.own_intervals.items()}
    for metric in metrics:
        for name, ends in own_intervals(dataset, metric, residuals[metric], start).items():
            intervals.setdefault(metric, {})[name] = ends
            members = [i for i, label in enumerate(labels) if label == name]
            own.setdefault(metric, {})[name] = bool(is_prior[members].mean() < 0.1)
    return replace(coefficients, intervals=intervals, own_intervals=own)


def speaking_for(coefficients: Coefficients, dataset: Dataset) -> Coefficients:
    """Limit fitted coefficients to designs of the kinds in `dataset`, beside those they spoke for already."""
    raw = dataset.raw(coefficients.timing)
    names = [*MATVEC_STRATEGIES, "mixed"]
    scope, tools = set(coefficients.scope), set()
    for keys, code, is_spatial in zip(dataset.keys, raw.strategy, raw.is_spatial, strict=True):
        key = dict(name.split("=", 1) for name in keys)
        kind = "spatial" if is_spatial else "dense"
        scope.add(scope_name(key["tool"], key["family"], key["io"], kind, names[code]))
        tools.add(key.get("version", key["tool"]).replace(":", " "))
    known = coefficients.provenance.get("speaks_for", {})
    parts = {record.part or "hls4ml" for record in dataset.records}
    return replace(
        coefficients,
        scope=tuple(sorted(scope)),
        provenance=dict(coefficients.provenance)
        | {
            "speaks_for": {
                "tools": sorted({*known.get("tools", ()), *tools}),
                "parts": sorted({*known.get("parts", ()), *parts}),
            }
        },
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
