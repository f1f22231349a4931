"""The work behind `codesign calibrate`: reports in, better coefficients out, or none."""

import datetime
import json
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from codesign.errors import CalibrationError
from codesign.processes import worker_pool
from codesign.synthesis.coefficient_files import (
    records_behind,
    records_path,
    save_version,
    version_in_use,
    version_path,
)
from hw_models.calibration import (
    CalibrationResult,
    Coefficients,
    TargetError,
    calibrate,
    load_coefficients,
    load_corpus,
    save_coefficients,
)
from hw_models.calibration.calibrate import (
    covered_by,
    fold_groups,
    is_beyond_chance,
    speaking_for,
)
from hw_models.calibration.fit import SCALED, Dataset, predict, smape
from hw_models.calibration.parsers import Rejection, read_reports
from hw_models.calibration.stages import stage_pairs, stage_step
from hw_models.compose import RTL_TOOLS
from hw_models.errors import ModelError
from hw_models.families import family_of, tool_key
from hw_models.formula import RESOURCES
from hw_models.records import Record, read_record, record_json
from hw_models.types import METRICS

if TYPE_CHECKING:
    from rich.table import Table

#: Stages that a calibration can fit, in the order in which it does; vsynth of plain RTL alone.  Where a tool tells little
#: about the laws themselves only its offsets on these targets are fitted: Yosys packs adders otherwise than
#: Vivado, and a run on a device or a simulator shows cycles alone.
FITTED_STAGES: Mapping[str, tuple[str, ...] | None] = {
    "csynth": None,
    "vsynth": SCALED,
    "emulated": ("latency_cycles", "interval_cycles"),
    "measured": ("latency_cycles", "interval_cycles"),
}

#: Stages that are reached from csynth by a step.
LATER_STAGES = ("vsynth", "implemented")

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
class DesignUse:
    """What became of one design.

    Attributes:
        id: the design's.
        used_for: stages and steps that it was fitted on.
        reason: why it was not used; where it was, what of it was not.  Empty when there is nothing to say.
        is_new: whether its reports were given now, not kept from an earlier calibration.
    """

    id: str
    used_for: tuple[str, ...]
    reason: str
    is_new: bool = True


@dataclass(frozen=True, kw_only=True)
class CalibrationRun:
    """What one call of `codesign calibrate` did.

    Attributes:
        designs: every design that was read, once, and what became of it.
        start: in words, which coefficients the fit started from, and why.
        rejections: files and folders that gave no design, and why.
        results: per stage, tool, family and io type that had enough records.
        steps: per later stage and resource, the step from csynth; kept where `after` is less.
        kept: stages and flows without a new design, which stay as they are in the version in use.
        skipped: reason per stage that had not.
        output: coefficients file that was written, None when nothing improved or nothing was to be written.
        is_dry: whether nothing was to be written.
        coefficients: what came out.
    """

    designs: tuple[DesignUse, ...]
    start: str
    rejections: tuple[Rejection, ...]
    results: Mapping[str, CalibrationResult]
    steps: Mapping[str, Mapping[str, StepError]]
    kept: tuple[str, ...]
    skipped: Mapping[str, str]
    output: Path | None
    is_dry: bool
    coefficients: Coefficients

    @property
    def is_better(self) -> bool:
        """Whether any stage improved."""
        return any(result.is_better for result in self.results.values()) or any(
            error.after < error.before
            for errors in self.steps.values()
            for error in errors.values()
        )

    @property
    def unused(self) -> tuple[DesignUse, ...]:
        """The designs that no fit used."""
        return tuple(design for design in self.designs if not design.used_for)


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
            # one group alone: record by record
            folds = groups if np.unique(groups[rows]).size > 1 else np.arange(rows.size)
            for fold in np.unique(folds[rows]):
                test, train = rows & (folds == fold), rows & (folds != fold)
                held_out[test] = np.rint(before[target][test] * np.exp(np.median(ratio[train])))
            gain = smape(reported[rows], before[target][rows]) - smape(
                reported[rows], held_out[rows]
            )
            if is_beyond_chance(gain):
                after[target][rows] = held_out[rows]
                known = offsets.setdefault(target, {})
                known[str(tool)] = known.get(str(tool), 0.0) + float(np.median(ratio[rows]))
    coefficients = replace(base, offsets=offsets)
    if any(np.any(after[metric] != before[metric]) for metric in METRICS):
        coefficients = speaking_for(coefficients, dataset)
    errors = {}
    covered_before, covered = covered_by(dataset, base), covered_by(dataset, coefficients)
    for metric in METRICS:
        reported = dataset.reported[metric]
        rows = ~np.isnan(reported)
        if not rows.any():
            continue
        is_accepted = bool(np.any(after[metric][rows] != before[metric][rows]))
        error_after = float(smape(reported[rows], after[metric][rows]).mean())
        errors[metric] = TargetError(
            n=int(rows.sum()),
            before=float(smape(reported[rows], before[metric][rows]).mean()),
            tried=error_after,
            after=error_after,
            coverage_before=covered_before[metric],
            coverage=covered[metric],
            is_accepted=is_accepted,
            has_own_interval=False,
        )
    return CalibrationResult(
        coefficients=coefficients,
        is_better=any(error.is_accepted for error in errors.values()),
        errors=errors,
        n_records=len(dataset),
        n_groups=int(np.unique(groups).size),
        rejected=tuple(dataset.rejected),
        distrusted=(),
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
    with worker_pool() as pool:
        records, rejections = read_reports(paths, executor=pool, progress=progress)
    if not records:
        reasons = "; ".join(rejection.reason for rejection in rejections[:3])
        raise CalibrationError(
            f"no report could be read ({reasons}); give folders or files of synthesis reports"
        )
    typed = []
    for record in records:
        try:
            typed.append(read_record(record, where=str(record["id"])))
        except ModelError as error:
            rejections.append(Rejection(path=Path(str(record["id"])), reason=str(error)))
    return typed, rejections


@dataclass(frozen=True, kw_only=True)
class _Start:
    """Coefficients that a fit starts from, the reports that go with them, and why these, in words."""

    coefficients: Coefficients
    earlier: Sequence[Record]
    words: str
    file: str
    in_use: Coefficients | None = None


def _start_from(base: Path | None) -> _Start:
    """Choose where a fit starts: the given file; else where the version in use started, with all its reports.

    A version is not refined twice with the same reports: the fit is made anew, from what it was made from, with
    all reports so far, so that calibrating in two goes or in one comes to the same.

    Raises:
        CalibrationError: the file cannot be read.
    """
    try:
        if base is not None:
            return _Start(
                coefficients=load_coefficients(base),
                earlier=(),
                words=f"{base}, as asked",
                file=base.name,
            )
        number = version_in_use()
        if not number:
            return _Start(
                coefficients=load_coefficients(),
                earlier=(),
                words="the coefficients that ship with codesign; none of your own are in use",
                file="shipped",
            )
        used, earlier = load_coefficients(version_path(number)), records_behind(number)
    except ModelError as error:
        raise CalibrationError(str(error)) from error
    if earlier is None:
        return _Start(
            coefficients=used,
            earlier=(),
            words=f"your version {number}, whose reports are not at {records_path(number)}",
            file=version_path(number).name,
        )
    return _Start(
        coefficients=_origin(used),
        earlier=earlier,
        words=f"where your version {number} started, with its {len(earlier)} designs kept",
        file=str(used.provenance.get("base_file", "shipped")),
        in_use=used,
    )


def _origin(used: Coefficients) -> Coefficients:
    """Return what the fits of a version started from: the end of its chain, or what ships."""
    link: Coefficients | None = used
    while link is not None and link.scope:
        link = link.outside
    return load_coefficients() if link is None else link


def _joined(earlier: Sequence[Record], new: Sequence[Record]) -> tuple[list[Record], set[str]]:
    """Return all designs once, the earlier ones first, and the identities of the new ones."""
    known = {_identity(record): record for record in earlier}
    fresh = {_identity(record): record for record in new if _identity(record) not in known}
    return [*known.values(), *fresh.values()], set(fresh)


def _identity(record: Record) -> str:
    """Tell a design by what it is and what was reported of it, wherever the reports lie."""
    document = record_json(record)
    digest = document.get("digest")
    if not digest:
        return json.dumps(document)
    # two designs without an architecture may well count the same
    return str(digest) if record.layers else f"{digest}:{record.id}"


def run_calibration(
    paths: Sequence[Path],
    *,
    base: Path | None = None,
    output: Path | None = None,
    is_dry: bool = False,
    progress: Callable[[int, int], None] | None = None,
    report: Callable[[str], None] | None = None,
) -> CalibrationRun:
    """Calibrate on the reports below `paths`, judged on held-out groups; write only what is better.

    Args:
        paths: folders and files of reports; none means the corpus that ships.
        base: coefficients to start from; by default where the version in use started, with its reports.
        output: file to write; the user's next version by default.
        is_dry: whether to do everything but write.
        progress: told (designs parsed, designs in all).
        report: told one line per held-out group.

    Raises:
        CalibrationError: nothing could be read, or no stage has enough records with an architecture.
    """
    given, rejections = collect_records(paths, progress=progress)
    start = _start_from(base)
    records, new = _joined(start.earlier, given)
    results: dict[str, CalibrationResult] = {}
    kept: dict[str, Coefficients] = {}
    refused: list[tuple[str, str]] = []
    skipped: dict[str, str] = {}
    for stage, targets in FITTED_STAGES.items():
        usable = [record for record in records if record.report(stage) and record.layers]
        if stage == "vsynth":  # of an HLS design it is reached from csynth by a step
            usable = [record for record in usable if str(record.tool).lower() in RTL_TOOLS]
        if stage in ("emulated", "measured"):
            # where the tool itself was heard, its schedule is not bent to what a device adds to it
            heard = {record.tool for record in records if record.report("csynth")}
            usable = [record for record in usable if record.tool not in heard]
        flows = _flows(usable)
        if not flows and stage == "csynth":
            skipped[stage] = f"no design with a report and an architecture, {MIN_RECORDS} needed"
        for flow, members in flows.items():
            label = f"{stage}, {flow.words}"
            fresh = [record for record in members if _identity(record) in new]
            if not fresh and (link := _link_of(start, flow)) is not None:
                kept[label] = link
                continue
            try:
                if len(members) < MIN_RECORDS:
                    refused += Dataset(members, stage=stage).rejected
                    raise ModelError(f"{len(members)} of {MIN_RECORDS} designs needed")
                if targets is not None:
                    result = calibrate_offsets(
                        members, base=start.coefficients, stage=stage, targets=targets
                    )
                else:
                    result = calibrate(
                        members, base=start.coefficients, stage=stage,
                        source=", ".join(sorted({record.source for record in members})[:8]),
                        progress=report,
                    )  # fmt: skip
                    result = _with_kept_targets(result, start, flow, fresh)
                results[label] = result
            except ModelError as error:
                skipped[label] = str(error)
    coefficients, steps = _chained(results, kept, start, records)
    if not results and not steps and not kept:
        reasons = "; ".join(f"{label}: {reason}" for label, reason in skipped.items())
        raise CalibrationError(
            f"{len(records)} designs read, none usable ({reasons}); a report needs its hls4ml project "
            "(firmware/parameters.h) beside it"
        )
    run = CalibrationRun(
        designs=_designs(records, new, results, kept, steps, skipped, refused),
        start=start.words,
        rejections=tuple(rejections),
        results=results,
        steps=steps,
        kept=tuple(kept),
        skipped=skipped,
        output=None,
        is_dry=is_dry,
        coefficients=coefficients,
    )
    if is_dry or not run.is_better:
        return run
    if output is None:
        return replace(run, output=save_version(coefficients, records))
    output.parent.mkdir(parents=True, exist_ok=True)
    save_coefficients(coefficients, output)
    return replace(run, output=output)


@dataclass(frozen=True, kw_only=True)
class _Flow:
    """Designs that one calibration is made of: those of one tool, device family and io type."""

    tool: str
    family: str
    io_type: str

    @property
    def words(self) -> str:
        return f"{self.tool} on {self.family}, {self.io_type}"

    def has(self, coefficients: Coefficients) -> bool:
        """Say whether coefficients were fitted to designs of this flow."""
        start = f"{self.tool}|{self.family}|{self.io_type}|"
        return any(name.startswith(start) for name in coefficients.scope)


def _flows(records: Sequence[Record]) -> dict[_Flow, list[Record]]:
    """Group designs by tool, device family and io type: each flow is calibrated by itself, none can harm another.

    A design of a tool or part that is not known is left to the fit, which says so.
    """
    flows: dict[_Flow, list[Record]] = {}
    for record in records:
        try:
            tool, family = (
                tool_key(record.tool or record.backend or ""),
                family_of(record.part or "hls4ml").name,
            )
        except ModelError:
            tool, family = str(record.tool), str(record.part)
        flow = _Flow(tool=tool, family=family, io_type=record.io_type or "io_parallel")
        flows.setdefault(flow, []).append(record)
    return flows


def _chained(
    results: Mapping[str, CalibrationResult],
    kept: Mapping[str, Coefficients],
    start: _Start,
    records: Sequence[Record],
) -> tuple[Coefficients, dict[str, dict[str, StepError]]]:
    """Join what was fitted to each flow, now or (`kept`) before, each with its scope, in front of the start.

    The steps between stages, which tell no flows apart, go to all of them, or to everything where no flow was
    fitted.
    """
    better = {label: result for label, result in results.items() if result.is_better}
    links = [*kept.values(), *(result.coefficients for result in better.values())]
    stepped, steps = refit_steps(records, start.coefficients)
    joined: Coefficients | None = None if start.file == "shipped" else start.coefficients
    for link in reversed(links):
        joined = replace(link, stages=stepped.stages, outside=joined)
    if joined is None or not links:
        joined = stepped
    spoken = [link.provenance["speaks_for"] for link in links]
    flows = dict(start.in_use.provenance.get("flows", {})) if start.in_use else {}
    whole = {
        "base_file": start.file,
        "date": datetime.date.today().isoformat(),
        "n_records": len(records),
        "flows": {label: flows[label] for label in kept if label in flows}
        | {
            label: {
                "n_records": result.n_records,
                "held_out_smape": {m: round(e.after, 2) for m, e in result.errors.items()},
                "held_out_coverage": {m: round(e.coverage, 3) for m, e in result.errors.items()},
            }
            for label, result in better.items()
        },
        "covers": {
            what: sorted({name for names in spoken for name in names[what]})
            for what in ("tools", "parts")
        },
    }
    return replace(joined, provenance=dict(joined.provenance) | whole), steps


def _link_of(start: _Start, flow: _Flow) -> Coefficients | None:
    """Return the coefficients in use that were fitted to a flow, None where none were."""
    link = start.in_use
    while link is not None and not flow.has(link):
        link = link.outside
    return link


def _with_kept_targets(
    result: CalibrationResult, start: _Start, flow: _Flow, fresh: Sequence[Record]
) -> CalibrationResult:
    """Put back what the version in use knew and the new fit refuses, if it is good for the new designs too.

    Its fit had not seen them: they judge it fairly.  Other timing constants make the two fits incomparable:
    then the version in use keeps all of its targets.
    """
    link = _link_of(start, flow)
    if link is None or not fresh:
        return result
    try:
        dataset = Dataset(fresh, stage=result.stage)
    except ModelError:
        return result
    before, then = predict(dataset, start.coefficients), predict(dataset, link)
    lost = []
    for target in METRICS:
        reported = dataset.reported[target]
        known = ~np.isnan(reported)
        is_known = link.own_intervals.get(target) is not None
        if not is_known or result.errors[target].is_accepted or not known.any():
            continue
        errors = [smape(reported[known], np.rint(p[target][known])).mean() for p in (then, before)]
        if errors[0] <= errors[1]:
            lost.append(target)
    if not lost:
        return result
    fitted = result.coefficients
    if link.timing != fitted.timing:
        return replace(result, coefficients=replace(link, outside=None), is_better=True)
    tables: dict[str, Any] = {
        name: {**getattr(fitted, name), **{t: getattr(link, name).get(t, {}) for t in lost}}
        for name in ("factors", "offsets", "intervals", "own_intervals")
    }
    kept = replace(fitted if fitted.scope else link, **tables)
    return replace(result, coefficients=replace(kept, outside=None), is_better=True)


def _designs(
    records: Sequence[Record],
    new: Container[str],
    results: Mapping[str, CalibrationResult],
    kept: Container[str],
    steps: Mapping[str, Mapping[str, StepError]],
    skipped: Mapping[str, str],
    refused: Sequence[tuple[str, str]],
) -> tuple[DesignUse, ...]:
    """Say of every design what it was used for, or why not."""
    used: dict[str, set[str]] = {}
    for result in results.values():
        used.setdefault(result.stage, set()).update(result.identifiers)
    said: dict[str, list[str]] = {}
    for identifier, reason in refused:
        said.setdefault(identifier, []).append(reason)
    for result in results.values():
        for identifier, reason in (*result.rejected, *result.distrusted):
            said.setdefault(identifier, []).append(reason)
    designs = []
    for record in records:
        identifier = str(record.id)
        (flow,) = _flows([record])
        used_for = [
            stage
            for stage in record.reports
            if identifier in used.get(stage, ()) or f"{stage}, {flow.words}" in kept
        ]
        for stage in LATER_STAGES:
            if any(stage_pairs([record], stage, target) for target in steps.get(stage, ())):
                used_for.append(f"csynth to {stage}")
        reasons = list(dict.fromkeys(said.get(identifier, ())))
        if not used_for and not reasons:
            reasons = _why_not(record, skipped)
        designs.append(
            DesignUse(
                id=identifier,
                used_for=tuple(used_for),
                reason="; ".join(reasons),
                is_new=_identity(record) in new,
            )
        )
    return tuple(designs)


def _why_not(record: Record, skipped: Mapping[str, str]) -> list[str]:
    if not record.layers:
        return [
            "no architecture: its hls4ml project (firmware/parameters.h) is not beside the report"
        ]
    (flow,) = _flows([record])
    reasons = [
        f"{stage}: {skipped[label]}"
        for stage in record.reports
        for label in (f"{stage}, {flow.words}", stage)
        if label in skipped
    ]
    stages = ", ".join(record.reports) or "no stage"
    return reasons or [f"reports of {stages} alone, which no fit is made of"]


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
    for stage in LATER_STAGES:
        for target in RESOURCES:
            known = stage_pairs(records, stage, target)
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


def calibration_table(run: CalibrationRun) -> "Table":
    """Tabulate held-out errors before and after, per stage and target."""
    from rich.table import Table

    table = Table("stage", "target", "n", "SMAPE before", "after", "refit", "90 % interval covers",
                  title="error and coverage on held-out designs")  # fmt: skip
    for label, result in run.results.items():
        for target, error in result.errors.items():
            if error.is_accepted:
                verdict = "accepted"
            elif error.tried > error.before:
                verdict = f"refused ({error.tried:.1f} %)"
            else:
                verdict = "none"
            table.add_row(
                label,
                target,
                str(error.n),
                f"{error.before:.1f} %",
                f"{error.after:.1f} %",
                verdict,
                f"{100 * error.coverage_before:.0f} % -> {100 * error.coverage:.0f} %",
            )
    for stage, errors in run.steps.items():
        for target, step in errors.items():
            is_kept = step.after < step.before
            table.add_row(
                f"csynth to {stage}",
                target,
                str(step.n),
                f"{step.before:.1f} %",
                f"{min(step.after, step.before):.1f} %",
                "accepted"
                if is_kept
                else f"refused ({step.after:.1f} %)"
                if step.after > step.before
                else "none",
                "",
            )
    return table


def accounting(run: CalibrationRun, n_names: int = 6) -> list[str]:
    """Say in lines what became of every design and file; the numbers add up."""
    n_new = sum(design.is_new for design in run.designs)
    n_unused = len(run.unused)
    lines = [
        f"{len(run.designs)} designs: {n_new} read now, {len(run.designs) - n_new} kept from before; "
        f"{len(run.designs) - n_unused} used, {n_unused} not"
    ]
    for heading, designs in (
        ("not used", run.unused),
        ("used but for", [d for d in run.designs if d.used_for and d.reason]),
    ):
        by_reason: dict[str, list[str]] = {}
        for design in designs:
            by_reason.setdefault(design.reason, []).append(design.id)
        for reason, names in by_reason.items():
            more = f", and {len(names) - n_names} more" if len(names) > n_names else ""
            lines.append(f"  {len(names)} {heading}: {reason} ({', '.join(names[:n_names])}{more})")
    lines += [f"{label}: no new design; stays as it is" for label in run.kept]
    lines += [f"{label}: not fitted, {reason}" for label, reason in run.skipped.items()]
    if run.rejections:
        lines.append(f"{len(run.rejections)} files or folders gave no design or not all of it:")
        lines += [f"  {item.path}: {item.reason}" for item in run.rejections]
    return lines


def run_json(run: CalibrationRun) -> dict[str, Any]:
    """Return a run as a JSON-ready object."""
    return {
        "start": run.start,
        "n_designs": len(run.designs),
        "n_used": len(run.designs) - len(run.unused),
        "designs": [
            {
                "id": design.id,
                "used_for": list(design.used_for),
                "reason": design.reason or None,
                "is_new": design.is_new,
            }
            for design in run.designs
        ],
        "speaks_for": run.coefficients.provenance.get("covers"),
        "rejected": [{"path": str(item.path), "reason": item.reason} for item in run.rejections],
        "stages": {
            label: {
                "stage": result.stage,
                "is_better": result.is_better,
                "n_records": result.n_records,
                "n_groups": result.n_groups,
                "errors": {
                    target: {
                        "n": error.n,
                        "smape_before_percent": error.before,
                        "smape_tried_percent": error.tried,
                        "smape_after_percent": error.after,
                        "coverage_before": error.coverage_before,
                        "coverage": error.coverage,
                        "is_accepted": error.is_accepted,
                        "has_own_interval": error.has_own_interval,
                    }
                    for target, error in result.errors.items()
                },
            }
            for label, result in run.results.items()
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
        "kept": list(run.kept),
        "skipped": dict(run.skipped),
        "is_dry": run.is_dry,
        "output": None if run.output is None else str(run.output),
    }
