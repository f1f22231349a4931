"""The work behind `codesign synthesize`: choose tools, run the jobs, keep the records, tabulate."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from codesign.errors import ConfigError, unknown_name
from codesign.synthesis.jobs import STEPS, SynthesisOutcome, Tool, hls_program, plan_jobs
from codesign.synthesis.runner import open_executor, run_jobs
from codesign.tools import find_tool, require_tool

if TYPE_CHECKING:
    from rich.table import Table

_STAGES = ("csynth", "vsynth", "impl", "synthesized")


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
    if tool == "vitis":
        hls_program()
        return ("vitis",)
    if tool == "vivado":
        require_tool("vivado")
        return ("vivado",)
    raise ConfigError(unknown_name("tool", tool, ("auto", "open", "vitis", "vivado")))


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
    if {"vsynth", "impl"} & set(steps) and tools == ("vitis",):
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

    with open_executor(n_workers=n_workers, dask_scheduler=dask_scheduler) as executor:
        outcomes = run_jobs(jobs, executor=executor, progress=say)
    if output is not None:
        append_records(output, outcomes)
    return outcomes


def append_records(path: Path, outcomes: Sequence[SynthesisOutcome]) -> None:
    """Append the records of finished jobs to a JSONL file, each id and stage once."""
    known = set(path.read_text(encoding="utf-8").splitlines()) if path.is_file() else set()
    lines = [
        json.dumps(outcome.record, separators=(",", ":")) for outcome in outcomes if outcome.record
    ]
    with path.open("a", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in lines if line not in known)


def outcome_table(outcomes: Sequence[SynthesisOutcome]) -> "Table":
    """Tabulate outcomes, one row per design and stage."""
    from rich.table import Table

    table = Table("design", "stage", "latency cycles", "II", "LUT", "FF", "DSP", "BRAM18", "status")
    for outcome in outcomes:
        if outcome.record is None:
            table.add_row(outcome.name, "", "", "", "", "", "", "", f"failed: {outcome.message}")
            continue
        for stage in _STAGES:
            metrics = outcome.record.get(stage)
            if metrics:
                names = (
                    "latency_cycles_max",
                    "interval_cycles_max",
                    "lut",
                    "ff",
                    "dsp",
                    "bram_18k",
                )
                cells = [
                    "" if metrics.get(name) is None else f"{metrics[name]:,}" for name in names
                ]
                table.add_row(outcome.name, stage, *cells, outcome.status)
    return table
