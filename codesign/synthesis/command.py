"""The work behind `codesign synthesize`: choose tools, run the jobs, keep the records, tabulate."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codesign.errors import ConfigError, unknown_name
from codesign.pools import open_pool
from codesign.results import ToolRun, ToolRuns, ToolStageFacts
from codesign.study import Study
from codesign.synthesis.estimates import estimate_design, open_coefficients
from codesign.synthesis.jobs import STEPS, SynthesisOutcome, Tool, hls_program, plan_jobs
from codesign.synthesis.place_and_route import require_fabric
from codesign.synthesis.runner import run_jobs
from codesign.tools import find_tool, require_tool
from hw_models.compose import PREDICTED_STAGES
from hw_models.records import read_record

if TYPE_CHECKING:
    from rich.table import Table

_SHOWN = ("latency_cycles", "interval_cycles", "lut", "ff", "dsp", "bram_18k")


def choose_tools(tool: str) -> tuple[Tool, ...]:
    """Turn the option `--tool` into tools.

    Raises:
        ConfigError: unknown name.
        ToolError: a vendor tool was asked for by name and is not installed.
    """
    if tool == "auto":
        found: list[Tool] = ["open"]
        if any(find_tool(name) for name in ("vitis_hls", "vitis-run")):
            found.append("vitis")
        if find_tool("vivado"):
            found.append("vivado")
        return tuple(found)
    if tool == "open":
        return ("open",)
    if tool == "ecp5":
        require_fabric("ecp5")
        return ("ecp5",)
    if tool == "vitis":
        hls_program()
        return ("vitis",)
    if tool == "vivado":
        require_tool("vivado")
        return ("vivado",)
    raise ConfigError(unknown_name("tool", tool, ("auto", "open", "ecp5", "vitis", "vivado")))


def synthesize_paths(
    paths: Sequence[Path],
    *,
    tool: str,
    steps: Sequence[str],
    output: Path | None,
    work: Path | None,
    top: str | None,
    part: str | None,
    clock_period_ns: float | None,
    timeout_s: float,
    n_workers: int,
    dask_scheduler: str | None,
    report: Callable[[str], None],
) -> list[SynthesisOutcome]:
    """Synthesise every design below `paths`; append the records to `output`.

    Raises:
        ConfigError: an unknown tool or step.
        ToolError: a tool asked for by name is missing.
        DesignError: there is nothing to synthesise.
    """
    for step in steps:
        if step not in STEPS:
            raise ConfigError(unknown_name("step", step, STEPS))
    tools = choose_tools(tool)
    if {"vsynth", "implemented"} & set(steps) and tools == ("vitis",):
        require_tool("vivado")
    jobs = plan_jobs(
        paths, tools=tools, steps=steps, timeout_s=timeout_s, work=work, top=top, part=part,
        clock_period_ns=clock_period_ns,
    )  # fmt: skip

    def say(outcome: SynthesisOutcome, n_done: int, n_total: int) -> None:
        tail = f": {outcome.message}" if outcome.message else ""
        report(
            f"[{n_done}/{n_total}] {outcome.name} {outcome.status} in {outcome.wall_s:.1f} s{tail}"
        )

    with open_pool(n_workers, dask=dask_scheduler) as executor:
        outcomes = run_jobs(jobs, executor=executor, progress=say)
    if output is not None:
        append_records(output, outcomes)
    for path in paths:
        if (path / "study.yaml").is_file():
            home = path.resolve()
            own = [o for job, o in zip(jobs, outcomes, strict=True) if home in job.folder.parents]
            record_in_study(Study.open(path), own)
    return outcomes


def obtained(record: Mapping[str, Any], tool_stage: str) -> dict[str, int | None]:
    """Return what one stage of a record reports, by the names of metrics."""
    metrics = record[tool_stage]
    names = {"latency_cycles": "latency_cycles_max", "interval_cycles": "interval_cycles_max"}
    return {metric: metrics.get(names.get(metric, metric)) for metric in _SHOWN}


def predicted(record: Mapping[str, Any], tool_stage: str) -> dict[str, dict[str, int]]:
    """Estimate what one stage of a record should report; empty where no law covers the design."""
    coefficients, _ = open_coefficients(None)
    summary = estimate_design(
        read_record(record), stage=tool_stage, coefficients=coefficients
    ).summary
    return {metric: summary[metric] for metric in _SHOWN} if summary["supported"] else {}


def record_in_study(study: Study, outcomes: Sequence[SynthesisOutcome]) -> None:
    """Keep runs in the study: what was obtained beside what was predicted."""
    runs = [
        ToolRun(
            name=outcome.name,
            status=outcome.status,
            message=outcome.message,
            tool=None if outcome.record is None else outcome.record.get("tool"),
            tool_stages={
                tool_stage: ToolStageFacts(
                    obtained=obtained(outcome.record, tool_stage),
                    predicted=predicted(outcome.record, tool_stage),
                )
                for tool_stage in PREDICTED_STAGES
                if outcome.record is not None and outcome.record.get(tool_stage)
            },
        )
        for outcome in outcomes
    ]
    seconds = sum(outcome.wall_s for outcome in outcomes)
    study.record(ToolRuns.KIND, ToolRuns(runs=runs, seconds=seconds))


def append_records(path: Path, outcomes: Sequence[SynthesisOutcome]) -> None:
    """Append the records of finished jobs to a JSONL file, each id and stage once."""
    known = set(path.read_text(encoding="utf-8").splitlines()) if path.is_file() else set()
    lines = [
        json.dumps(outcome.record, separators=(",", ":")) for outcome in outcomes if outcome.record
    ]
    with path.open("a", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in lines if line not in known)


def outcome_table(outcomes: Sequence[SynthesisOutcome]) -> "Table":
    """Tabulate outcomes, one row per design and stage: obtained, and in brackets the predicted 90 % interval."""
    from rich.table import Table

    table = Table("design", "stage", "latency cycles", "II", "LUT", "FF", "DSP", "BRAM18", "status")
    for outcome in outcomes:
        if outcome.record is None:
            table.add_row(outcome.name, "", "", "", "", "", "", "", f"failed: {outcome.message}")
            continue
        for tool_stage in PREDICTED_STAGES:
            if not outcome.record.get(tool_stage):
                continue
            expected = predicted(outcome.record, tool_stage)
            cells = []
            for metric, value in obtained(outcome.record, tool_stage).items():
                known = expected.get(metric)
                interval = f" ({known['low']:,} to {known['high']:,})" if known else ""
                cells.append("" if value is None else f"{value:,}{interval}")
            table.add_row(outcome.name, tool_stage, *cells, outcome.status)
    return table
