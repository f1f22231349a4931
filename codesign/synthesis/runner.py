"""Running synthesis jobs, here or on an executor: each ends in a record or in one sentence."""

import importlib.metadata
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, as_completed
from pathlib import Path
from typing import Any

from codesign.errors import CodesignError, ReportError
from codesign.export.templates import render
from codesign.synthesis.jobs import (
    SynthesisJob,
    SynthesisOutcome,
    hls_program,
    remember,
    remembered,
)
from codesign.synthesis.open_flow import synthesize_verilog
from codesign.synthesis.place_and_route import FABRICS, place_and_route
from codesign.tools import require_tool, run_tool
from hw_models.calibration.parsers import read_reports
from hw_models.records import SCHEMA

Progress = Callable[[SynthesisOutcome, int, int], None]

#: Yosys family by the start of a part number.
_FAMILY = (("xc7", "xc7"), ("xcku0", "xcu"), ("xcvu0", "xcu"), ("xcvu1", "xcup"), ("xc", "xcup"))


def yosys_family(part: str) -> str:
    """Return the Yosys family that is nearest to a part."""
    low = part.lower()
    return next((family for start, family in _FAMILY if low.startswith(start)), "xcup")


def _base_record(job: SynthesisJob) -> dict[str, Any]:
    description = {key: value for key, value in job.description.items() if key != "rtl"}
    return {
        "schema": SCHEMA,
        "id": f"{job.folder.parent.name}/{job.folder.name}:{job.top}",
        "source": "codesign export",
        "part": job.part,
        "part_is_inferred": False,
        "clock_period_ns": job.clock_period_ns,
        "flags": [] if description.get("layers") else ["no_architecture"],
        **description,
        "layers": description.get("layers") or [],
    }


def _rtl_latency(job: SynthesisJob) -> dict[str, Any]:
    facts = job.description.get("rtl", {})
    latency = facts.get("latency_cycles")
    return {} if latency is None else {
        "latency_cycles_min": latency, "latency_cycles_max": latency,
        "interval_cycles_min": facts.get("interval_cycles", 1), "interval_cycles_max": facts.get("interval_cycles", 1),
    }  # fmt: skip


def _solved(job: SynthesisJob) -> dict[str, float | None]:
    """Return what the exporter knows of the whole adder graph, in the keys of a record."""
    facts = job.description.get("rtl", {})
    predicted = facts.get("predicted")
    predicted = predicted if isinstance(predicted, dict) else {}
    return {
        "adder_cost": predicted.get("lut"),
        "register_bits": predicted.get("ff"),
        "pipeline_cycles": facts.get("latency_cycles"),
    }


def _sources(job: SynthesisJob) -> Path:
    return job.folder / "src" if (job.folder / "src").is_dir() else job.folder


def _run_open(job: SynthesisJob) -> dict[str, Any]:
    result = synthesize_verilog(
        _sources(job), job.top, family=yosys_family(job.part), timeout_s=job.timeout_s
    )
    return _base_record(job) | {
        "tool": "yosys",
        "tool_version": result.tool_version,
        "alkaid_version": importlib.metadata.version("alkaid"),
        **_solved(job),
        "vsynth": _rtl_latency(job)
        | {
            "lut": result.lut, "ff": result.ff, "dsp": result.dsp, "bram_18k": result.bram_18k, "uram": result.uram,
            "carry4": result.carry4, "packed_logic_cells": result.packed_logic_cells,
        },
        "cpu_s": round(result.cpu_s, 2),
    }  # fmt: skip


def _run_route(job: SynthesisJob) -> dict[str, Any]:
    result = place_and_route(
        _sources(job), job.top, family=job.tool, clock_period_ns=job.clock_period_ns,
        timeout_s=job.timeout_s,
    )  # fmt: skip
    achieved = {} if result.achieved_mhz is None else {
        "clock_achieved_ns": round(1e3 / result.achieved_mhz, 3)
    }  # fmt: skip
    return _base_record(job) | {
        "part": result.part,
        "tool": "nextpnr",
        "tool_version": result.tool_version,
        "alkaid_version": importlib.metadata.version("alkaid"),
        **_solved(job),
        "implemented": _rtl_latency(job)
        | {"lut": result.lut, "ff": result.ff, "dsp": result.dsp, "bram_18k": result.bram_18k}
        | achieved,
    }


def _run_vivado(job: SynthesisJob, sources: str, folder: Path) -> None:
    vivado = require_tool("vivado")
    script = render(
        "synthesis/vivado.tcl.j2", top=job.top, part=job.part, clock_period_ns=job.clock_period_ns,
        steps=job.steps, sources=sources,
    )  # fmt: skip
    (folder / "codesign_vivado.tcl").write_bytes(script)
    run_tool(
        [vivado, "-mode", "batch", "-nojournal", "-log", "vivado.log", "-source", "codesign_vivado.tcl"],
        folder=folder, timeout_s=job.timeout_s,
    )  # fmt: skip


def _run_vitis(job: SynthesisJob) -> None:
    program = hls_program()
    script = render(
        "synthesis/hls.tcl.j2", top=job.top, part=job.part, clock_period_ns=job.clock_period_ns, steps=job.steps,
        clock_uncertainty_ns=None,
        has_testbench=(job.work / f"{job.top}_test.cpp").is_file(),
        has_testbench_data=(job.work / "tb_data").is_dir(),
    )  # fmt: skip
    (job.work / "codesign_hls.tcl").write_bytes(script)
    arguments = ["-f"] if program == "vitis_hls" else ["--mode", "hls", "--tcl"]
    run_tool(
        [require_tool(program), *arguments, "codesign_hls.tcl"],
        folder=job.work,
        timeout_s=job.timeout_s,
    )
    if {"vsynth", "implemented"} & set(job.steps):
        _run_vivado(job, f"{job.top}_prj/solution1/syn/verilog", job.work)


def _reported(job: SynthesisJob) -> dict[str, Any]:
    """Read the reports that a vendor tool left in the work folder.

    Raises:
        ReportError: it left none that can be read.
    """
    records, rejections = read_reports(job.work)
    if len(records) != 1:
        reasons = (
            "; ".join(rejection.reason for rejection in rejections[:3]) or "no report was written"
        )
        raise ReportError(
            f"{job.work}: {len(records)} records from the tool's reports, expected one ({reasons}); see its log there"
        )
    base = _base_record(job)
    record = {**records[0], "id": base["id"], "source": base["source"]}
    for key, value in base.items():
        if record.get(key) in (None, [], ["no_architecture"]) and value is not None:
            record[key] = value
    for stage in ("vsynth", "implemented"):
        if record.get(stage) and job.tool == "vivado":
            record[stage] = _rtl_latency(job) | record[stage]
    if job.tool == "vivado":
        record["tool"] = "Vivado"
        record |= _solved(job)
    return record


def _prepare(job: SynthesisJob) -> None:
    """Copy the sources to a fresh work folder: an export that a certificate covers stays untouched."""
    if job.work.exists():
        shutil.rmtree(job.work)
    ignored = shutil.ignore_patterns("*_prj", "*.so", "*.rpt", "*.xml")
    shutil.copytree(job.folder, job.work, ignore=ignored)


def run_job(job: SynthesisJob) -> SynthesisOutcome:
    """Run one job to its end; a failure is an outcome, not an exception."""
    start_s = time.monotonic()
    digest = job.digest()
    if (record := remembered(job, digest)) is not None:
        return SynthesisOutcome(
            name=job.name, status="resumed", record=record, message="", wall_s=0.0
        )
    try:
        if job.tool in ("open", *FABRICS):
            job.work.mkdir(parents=True, exist_ok=True)
            record = _run_open(job) if job.tool == "open" else _run_route(job)
        else:
            _prepare(job)
            if job.tool == "vitis":
                _run_vitis(job)
            else:
                _run_vivado(job, "src" if (job.work / "src").is_dir() else ".", job.work)
            record = _reported(job)
        record["wall_s"] = round(time.monotonic() - start_s, 2)
        remember(job, digest, record)
    except (CodesignError, OSError) as error:
        wall_s = time.monotonic() - start_s
        return SynthesisOutcome(
            name=job.name, status="failed", record=None, message=str(error), wall_s=wall_s
        )
    return SynthesisOutcome(
        name=job.name, status="done", record=record, message="", wall_s=time.monotonic() - start_s
    )


def run_jobs(
    jobs: Sequence[SynthesisJob],
    *,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> list[SynthesisOutcome]:
    """Run jobs, in this process or on an executor, and return their outcomes in the order of the jobs.

    Args:
        jobs: what to run.
        executor: any `concurrent.futures.Executor` (a process pool, dask's); None runs one by one here.
        progress: told (outcome, jobs done, jobs in all) as they end.
    """
    outcomes: dict[int, SynthesisOutcome] = {}
    if executor is None:
        for index, job in enumerate(jobs):
            outcomes[index] = run_job(job)
            if progress is not None:
                progress(outcomes[index], len(outcomes), len(jobs))
    else:
        futures = {executor.submit(run_job, job): index for index, job in enumerate(jobs)}
        for future in as_completed(futures):
            outcomes[futures[future]] = future.result()
            if progress is not None:
                progress(outcomes[futures[future]], len(outcomes), len(jobs))
    return [outcomes[index] for index in range(len(jobs))]
