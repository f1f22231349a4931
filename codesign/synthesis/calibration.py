"""The work behind `codesign calibrate`: reports in, better coefficients out, or none."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from codesign.errors import CalibrationError
from codesign.processes import n_worker_processes
from codesign.synthesis.estimates import user_coefficients_folder
from hw_models.calibration import (
    CalibrationResult,
    Coefficients,
    TargetError,
    calibrate,
    estimate_records,
    load_coefficients,
    load_corpus,
    save_coefficients,
)
from hw_models.calibration.calibrate import fold_groups
from hw_models.calibration.fit import SCALED, Dataset, predict, smape
from hw_models.calibration.parsers import Rejection, read_reports
from hw_models.calibration.stages import stage_pairs, stage_step
from hw_models.compose import RESOURCES
from hw_models.errors import ModelError
from hw_models.records import Record, read_record
from hw_models.types import METRICS

if TYPE_CHECKING:
    from rich.table import Table

#: Fields of a record that a calibration can fit, in the order in which it does.  Where a tool tells little
#: about the laws themselves only its offsets on these targets are fitted: Yosys packs adders otherwise than
#: Vivado, and a run on a device or a simulator shows cycles alone.
FITTED_STAGES: Mapping[str, tuple[str, ...] | None] = {
    "csynth": None,
    "synthesized": SCALED,
    "emulated": ("latency_cycles", "interval_cycles"),
    "measured": ("latency_cycles", "interval_cycles"),
}

#: Later stages: field of a record, name of the predicted stage.
LATER_STAGES = (("vsynth", "vsynth"), ("impl", "implemented"))

#: Fewest designs with both reports that are worth refitting a step between two stages.
MIN_PAIRS = 5

#: Fewest records of a stage that are worth a fit.
MIN_RECORDS = 3


@dataclass(frozen=True, kw_only=True)
class StepError:
    """Held-out error of the step from csynth to a later stage, one resource.

    Attributes:
        n: designs with both reports.
        before, after: mean SMAPE in per cent of the later report, predicted from the csynth report with
            the step as it was, and with one fitted without the design's source.
    """

    n: int
    before: float
    after: float


@dataclass(frozen=True, kw_only=True)
class CalibrationRun:
    """What one call of `codesign calibrate` did.

    Attributes:
        n_records: records read.
        n_without_architecture: of these, without layers, so that no law applies.
        rejections: what was not read, and why.
        results: per stage that had enough records.
        steps: per later stage and resource, the step from csynth; kept where `after` is less.
        skipped: reason per stage that had not.
        output: coefficients file that was written, None when nothing improved.
    """

    n_records: int
    n_without_architecture: int
    rejections: tuple[Rejection, ...]
    results: Mapping[str, CalibrationResult]
    steps: Mapping[str, Mapping[str, StepError]]
    skipped: Mapping[str, str]
    output: Path | None

    @property
    def is_better(self) -> bool:
        """Whether any stage improved."""
        return any(result.is_better for result in self.results.values()) or any(
            error.after < error.before
            for errors in self.steps.values()
            for error in errors.values()
        )


def calibrate_offsets(
    records: Sequence[Record],
    *,
    base: Coefficients,
    stage: str,
    targets: Sequence[str],
) -> CalibrationResult:
    """Fit one factor per tool and target, no more, as the median log ratio of reported to predicted.

    Judged on designs that were held out; a target that does not improve keeps its offset.

    Args:
        records: records with a report at `stage`.
        base: coefficients to start from.
        stage: field of the records.
        targets: metrics that the stage tells anything about.

    Raises:
        ModelError: fewer than three usable records.
    """
    dataset = Dataset(records, stage=stage)
    if len(dataset) < MIN_RECORDS:
        reasons = "; ".join(sorted({reason for _, reason in dataset.rejected})[:3])
        raise ModelError(f"{len(dataset)} usable records, {MIN_RECORDS} needed ({reasons})")
    groups = fold_groups(dataset)
    before = {metric: np.rint(value) for metric, value in predict(dataset, base).items()}
    after = {metric: value.copy() for metric, value in before.items()}
    offsets = {target: dict(known) for target, known in base.offsets.items()}
    tools = np.array(
        [next(key for key in keys if key.startswith("tool=")) for keys in dataset.keys]
    )
    for target in targets:
        reported = dataset.reported[target]
        ratio = np.log1p(reported) - np.log1p(before[target])
        for tool in np.unique(tools):
            rows = (tools == tool) & ~np.isnan(reported)
            if rows.sum() < MIN_RECORDS:
                continue
            held_out = np.full(rows.shape, np.nan)
            for group in np.unique(groups[rows]):
                test = rows & (groups == group)
                train = rows & (groups != group) if np.unique(groups[rows]).size > 1 else rows
                held_out[test] = np.rint(before[target][test] * np.exp(np.median(ratio[train])))
            if (
                smape(reported[rows], held_out[rows]).mean()
                < smape(reported[rows], before[target][rows]).mean()
            ):
                after[target][rows] = held_out[rows]
                known = offsets.setdefault(target, {})
                known[str(tool)] = known.get(str(tool), 0.0) + float(np.median(ratio[rows]))
    coefficients = replace(base, offsets=offsets)
    errors = {}
    estimates = estimate_records(
        dataset.records, "vsynth" if stage == "synthesized" else "csynth", coefficients
    )
    for metric in METRICS:
        reported = dataset.reported[metric]
        rows = ~np.isnan(reported)
        if not rows.any():
            continue
        inside = [
            item[metric]["low"] <= value <= item[metric]["high"]
            for item, value in zip(estimates, reported, strict=True)
            if not np.isnan(value)
        ]
        errors[metric] = TargetError(
            n=int(rows.sum()),
            before=float(smape(reported[rows], before[metric][rows]).mean()),
            after=float(smape(reported[rows], after[metric][rows]).mean()),
            coverage=float(np.mean(inside)),
        )
    return CalibrationResult(
        coefficients=coefficients,
        is_better=any(error.after < error.before for error in errors.values()),
        errors=errors,
        n_records=len(dataset),
        n_groups=int(np.unique(groups).size),
        rejected=tuple(dataset.rejected),
        reported=dataset.reported,
        before=before,
        after=after,
        groups=tuple(str(group) for group in groups),
        identifiers=tuple(str(record.id) for record in dataset.records),
        layer_types=tuple(
            tuple(sorted({layer.type for layer in record.layers})) for record in dataset.records
        ),
        stage=stage,
    )


def next_user_file() -> Path:
    """Return the name of the user's next coefficients file, coefficients-0001.json, ..."""
    folder = user_coefficients_folder()
    numbers = [
        int(match[1])
        for path in folder.glob("coefficients-*.json")
        if (match := re.search(r"-(\d+)\.json$", path.name))
    ]
    return folder / f"coefficients-{max(numbers, default=0) + 1:04d}.json"


def collect_records(
    paths: Sequence[Path], *, progress: Callable[[int, int], None] | None = None
) -> tuple[list[Record], list[Rejection]]:
    """Read records below `paths`; the corpus that ships when there is none.

    Raises:
        CalibrationError: nothing at all could be read.
    """
    if not paths:
        try:
            return load_corpus(), []
        except ModelError as error:
            raise CalibrationError(str(error)) from error
    records, rejections = read_reports(paths, n_workers=n_worker_processes(), progress=progress)
    if not records:
        reasons = "; ".join(rejection.reason for rejection in rejections[:3])
        raise CalibrationError(
            f"no report could be read ({reasons}); give folders or files of synthesis reports"
        )
    return [read_record(record, where=str(record.get("id"))) for record in records], rejections


def run_calibration(
    paths: Sequence[Path],
    *,
    base: Path | None = None,
    output: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    report: Callable[[str], None] | None = None,
) -> CalibrationRun:
    """Calibrate on the reports below `paths`, judged on held-out groups; write only what is better.

    Args:
        paths: folders and files of reports; none means the corpus that ships.
        base: coefficients to start from; those that ship by default.
        output: file to write; the user's next versioned file by default.
        progress: told (designs parsed, designs in all).
        report: told one line per held-out group.

    Raises:
        CalibrationError: nothing could be read, or no stage has enough records with an architecture.
    """
    records, rejections = collect_records(paths, progress=progress)
    try:
        coefficients = load_coefficients(base)
    except ModelError as error:
        raise CalibrationError(str(error)) from error
    source = ", ".join(sorted({record.source for record in records})[:8])
    results: dict[str, CalibrationResult] = {}
    skipped: dict[str, str] = {}
    for stage, targets in FITTED_STAGES.items():
        usable = [record for record in records if record.report(stage) and record.layers]
        if len(usable) < MIN_RECORDS:
            skipped[stage] = f"{len(usable)} records with an architecture, {MIN_RECORDS} needed"
            continue
        try:
            if targets is not None:
                results[stage] = calibrate_offsets(
                    usable, base=coefficients, stage=stage, targets=targets
                )
            else:
                results[stage] = calibrate(
                    usable, base=coefficients, stage=stage, source=source, progress=report
                )
        except ModelError as error:
            skipped[stage] = str(error)
            continue
        coefficients = results[stage].coefficients
    coefficients, steps = refit_steps(records, coefficients)
    if not results and not steps:
        reasons = "; ".join(f"{stage}: {reason}" for stage, reason in skipped.items())
        raise CalibrationError(
            f"{len(records)} records read, none usable ({reasons}); a report needs its hls4ml project "
            "(firmware/parameters.h) beside it"
        )
    run = CalibrationRun(
        n_records=len(records),
        n_without_architecture=sum(not record.layers for record in records),
        rejections=tuple(rejections),
        results=results,
        steps=steps,
        skipped=skipped,
        output=None,
    )
    if run.is_better:
        written = output or next_user_file()
        written.parent.mkdir(parents=True, exist_ok=True)
        save_coefficients(_with_history(coefficients, base), written)
        return replace(run, output=written)
    return run


def refit_steps(
    records: Sequence[Record], coefficients: Coefficients
) -> tuple[Coefficients, dict[str, dict[str, StepError]]]:
    """Refit the steps from csynth to later stages where held-out designs are predicted better.

    A step needs no architecture, only both reports of a design.

    Returns:
        The coefficients with every better step, and the errors of all steps that could be judged.
    """
    stages = {stage: dict(steps) for stage, steps in coefficients.stages.items()}
    judged: dict[str, dict[str, StepError]] = {}
    for field, stage in LATER_STAGES:
        for target in RESOURCES:
            known = stage_pairs(records, field, target)
            if len(known) < MIN_PAIRS:
                continue
            if len({source for _, _, source in known}) < 2:  # one source alone: design by design
                known = [(early, late, str(i)) for i, (early, late, _) in enumerate(known)]
            factor = float(stages.get(stage, {}).get(target, {}).get("factor", 1.0))
            error = StepError(
                n=len(known),
                before=_step_smape(known, [factor] * len(known)),
                after=_step_smape(known, _held_out_factors(known)),
            )
            judged.setdefault(stage, {})[target] = error
            if error.after < error.before:
                stages.setdefault(stage, {})[target] = stage_step(
                    *(list(values) for values in zip(*known, strict=True))
                )
    return replace(coefficients, stages=stages), judged


def _held_out_factors(rows: Sequence[tuple[float, float, str]]) -> list[float]:
    """Fit the factor for each row on the rows of all other sources."""
    factors = {}
    for source in {row[2] for row in rows}:
        train = [row for row in rows if row[2] != source]
        factors[source] = stage_step(*(list(values) for values in zip(*train, strict=True)))[
            "factor"
        ]
    return [factors[row[2]] for row in rows]


def _step_smape(rows: Sequence[tuple[float, float, str]], factors: Sequence[float]) -> float:
    errors = [
        200 * abs(late - early * factor) / (abs(late) + abs(early * factor) + 1)
        for (early, late, _), factor in zip(rows, factors, strict=True)
    ]
    return sum(errors) / len(errors)


def _with_history(coefficients: Coefficients, base: Path | None) -> Coefficients:
    origin = "shipped" if base is None else base.name
    return replace(coefficients, provenance=dict(coefficients.provenance) | {"base_file": origin})


def calibration_table(run: CalibrationRun) -> "Table":
    """Tabulate held-out errors before and after, per stage and target."""
    from rich.table import Table

    table = Table(
        "stage",
        "target",
        "n",
        "SMAPE before",
        "SMAPE after",
        "90 % interval covers",
        title="held-out error",
    )
    for stage, result in run.results.items():
        for target, error in result.errors.items():
            table.add_row(
                stage,
                target,
                str(error.n),
                f"{error.before:.1f} %",
                f"{error.after:.1f} %",
                f"{100 * error.coverage:.0f} %",
            )
    for stage, errors in run.steps.items():
        for target, step in errors.items():
            table.add_row(
                f"csynth to {stage}",
                target,
                str(step.n),
                f"{step.before:.1f} %",
                f"{step.after:.1f} %",
                "",
            )
    return table


def run_json(run: CalibrationRun) -> dict[str, Any]:
    """Return a run as a JSON-ready object."""
    return {
        "n_records": run.n_records,
        "n_without_architecture": run.n_without_architecture,
        "rejected": [{"path": str(item.path), "reason": item.reason} for item in run.rejections],
        "stages": {
            stage: {
                "is_better": result.is_better,
                "n_records": result.n_records,
                "n_groups": result.n_groups,
                "errors": {
                    target: {
                        "n": error.n,
                        "smape_before_percent": error.before,
                        "smape_after_percent": error.after,
                        "coverage": error.coverage,
                    }
                    for target, error in result.errors.items()
                },
            }
            for stage, result in run.results.items()
        },
        "steps": {
            stage: {
                target: {
                    "n": error.n,
                    "smape_before_percent": error.before,
                    "smape_after_percent": error.after,
                }
                for target, error in errors.items()
            }
            for stage, errors in run.steps.items()
        },
        "skipped": dict(run.skipped),
        "output": None if run.output is None else str(run.output),
    }
