"""Calibration: fit, judge on held-out groups, and refuse to become worse."""

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw_models.calibration.fit import Array, Dataset, fit, predict, smape
from hw_models.calibration.intervals import conformal_intervals, coverage, log_residuals
from hw_models.calibration.records import Record, dense_shape, load_records
from hw_models.coefficients import Coefficients, load_coefficients
from hw_models.errors import ModelError
from hw_models.types import METRICS

#: Records that the package carries: the project's own open synthesis.
CORPUS = Path(__file__).parent / "corpus"
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
        is_better: whether the weighted held-out error fell.
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
    shapes = [str(dense_shape(record)) + str(len(record["layers"])) for record in dataset.records]
    return np.array([f"{g}:{s}" for g, s in zip(dataset.groups, shapes, strict=True)], dtype=object)


def held_out_predictions(
    dataset: Dataset,
    groups: NDArray[np.object_],
    base: Coefficients | None,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Array]:
    """Predict each group with coefficients fitted on all others, rounded as the estimator does."""
    held = {metric: np.full(len(dataset), np.nan) for metric in METRICS}
    for group in np.unique(groups):
        test, train = np.flatnonzero(groups == group), np.flatnonzero(groups != group)
        predicted = predict(dataset, fit(dataset, train, base=base))
        for metric in METRICS:
            held[metric][test] = np.rint(predicted[metric][test])
        if progress is not None:
            progress(str(group))
    return held


def _weighted_error(dataset: Dataset, predicted: Mapping[str, Array]) -> float:
    total, weight = 0.0, 0.0
    for metric in METRICS:
        reported = dataset.reported[metric]
        known = ~np.isnan(reported)
        w = dataset.weights[known]
        total += float(w @ smape(reported[known], predicted[metric][known]))
        weight += float(w.sum())
    return total / max(weight, 1e-9)


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
    after = held_out_predictions(dataset, groups, start, progress)
    is_better = _weighted_error(dataset, after) < _weighted_error(dataset, before) - 1e-9
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
            fit(dataset, np.arange(len(dataset)), base=start),
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
        identifiers=tuple(str(r.get("id")) for r in dataset.records),
        layer_types=tuple(
            tuple(sorted({str(x["type"]) for x in r["layers"]})) for r in dataset.records
        ),
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


def load_corpus() -> list[dict[str, Any]]:
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
