"""What can be synthesised, and how a run of it is described, remembered and turned into a record."""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from codesign.errors import DesignError, ReportError, ToolError
from codesign.files import write_atomically
from codesign.ir import QuantizedNetwork
from codesign.synthesis.networks import network_record
from codesign.tools import find_tool, override_variable
from hw_models.calibration.parsers import ReportError as UnreadableReport
from hw_models.calibration.parsers import read_project
from hw_models.calibration.parsers.project import is_project
from hw_models.records import record_json

#: Steps of a synthesis run in order.
STEPS = ("csynth", "cosim", "vsynth", "implemented")

Tool = Literal["open", "ecp5", "vitis", "vivado"]

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,60}\Z")
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_\-]{1,60}\Z")
_STATE = "codesign_synthesis.json"


@dataclass(frozen=True, kw_only=True)
class SynthesisJob:
    """One design for one tool.

    Attributes:
        tool: "open" (Yosys), "ecp5" (Yosys and nextpnr), "vitis" (HLS and, for later steps, Vivado) or
            "vivado" (plain RTL).
        folder: an hls4ml project, or a folder of Verilog.
        work: folder the tool runs in; made when absent.
        top: top function or module.
        part: device part number.
        clock_period_ns: target clock period.
        steps: members of `STEPS`.
        timeout_s: limit of each step.
        description: keys of a synthesis record that the design itself gives (layers, strategy, ...).
    """

    tool: Tool
    folder: Path
    work: Path
    top: str
    part: str
    clock_period_ns: float
    steps: tuple[str, ...]
    timeout_s: float
    description: Mapping[str, Any]

    def __post_init__(self) -> None:
        if not _IDENTIFIER.match(self.top):
            raise DesignError(f"top {self.top!r} is no identifier; use letters, digits and '_'")
        if not _PART.match(self.part):
            raise DesignError(
                f"{self.part!r} is no device part; expected one like 'xcvu13p-flga2577-2-e'"
            )
        if not 0.1 <= self.clock_period_ns <= 1e4:
            raise DesignError(f"clock period {self.clock_period_ns} ns; expected 0.1 to 10000 ns")
        if unknown := set(self.steps) - set(STEPS):
            raise DesignError(
                f"unknown step {sorted(unknown)[0]!r}; expected some of {', '.join(STEPS)}"
            )

    @property
    def name(self) -> str:
        """What a table calls the job."""
        return f"{self.tool}:{self.folder.name}"

    @property
    def state_path(self) -> Path:
        """File that remembers the finished job."""
        return self.work / _STATE

    def digest(self) -> str:
        """Digest of the sources and the settings: a finished job with it need not run again."""
        settings = [self.tool, self.top, self.part, self.clock_period_ns, list(self.steps)]
        value = hashlib.sha256(json.dumps(settings).encode())
        roots = [self.folder / "firmware"] if (self.folder / "firmware").is_dir() else [self.folder]
        for root in roots:
            for path in sorted(root.rglob("*")):
                if (
                    path.suffix in (".v", ".sv", ".vhd", ".cpp", ".h", ".txt", ".dat")
                    and path.is_file()
                ):
                    value.update(str(path.relative_to(self.folder)).encode() + b"\0")
                    value.update(hashlib.sha256(path.read_bytes()).digest())
        return value.hexdigest()


@dataclass(frozen=True, kw_only=True)
class SynthesisOutcome:
    """How a job ended.

    Attributes:
        name: the job's.
        status: "done", "resumed" (finished before) or "failed".
        record: a synthesis record, None when failed.
        message: why it failed, or what the reader should know.
        wall_s: seconds of the run.
    """

    name: str
    status: Literal["done", "resumed", "failed"]
    record: Mapping[str, Any] | None
    message: str
    wall_s: float


def remembered(job: SynthesisJob, digest: str) -> dict[str, Any] | None:
    """Return the record of a job that finished before with the same sources, or None."""
    try:
        state = json.loads(job.state_path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if (
        isinstance(state, dict)
        and state.get("digest") == digest
        and isinstance(state.get("record"), dict)
    ):
        return dict(state["record"])
    return None


def remember(job: SynthesisJob, digest: str, record: Mapping[str, Any]) -> None:
    """Write down that a job finished; the file appears whole or not at all."""
    state = {"schema": 1, "digest": digest, "record": record}
    write_atomically(job.state_path, json.dumps(state, indent=1))


def hls_program() -> str:
    """Return the HLS compiler that is installed: vitis_hls, or vitis-run of 2024.2 and later.

    Raises:
        ToolError: neither is.
    """
    for name in ("vitis_hls", "vitis-run"):
        if find_tool(name) is not None:
            return name
    raise ToolError(
        "neither vitis_hls nor vitis-run is on PATH; source Vitis' settings64.sh first or set "
        f"{override_variable('vitis_hls')} or {override_variable('vitis-run')}, or synthesise with `--tool open`"
    )


def _describe(project: Mapping[str, Any], *, is_rtl: bool) -> dict[str, Any]:
    keys = ("backend", "strategy", "io_type", "model_precision", "family", "layers")
    description = {key: project.get(key) for key in keys}
    if is_rtl:
        layers = [
            dict(layer)
            | (
                {"strategy": "distributed_arithmetic", "reuse_factor": 1}
                if "weight_precision" in layer
                else {}
            )
            for layer in project.get("layers") or []
        ]
        description |= {
            "layers": layers,
            "strategy": "distributed_arithmetic",
            "io_type": "io_parallel",
        }
    return description


def _project(folder: Path) -> dict[str, Any]:
    try:
        return read_project(folder)
    except UnreadableReport as error:
        raise ReportError(str(error)) from error


def _rtl_facts(folder: Path) -> dict[str, Any]:
    path = folder / "rtl.json"
    if not path.is_file():
        return {}
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ReportError(f"{path}: not JSON ({error}); export the design again") from error
    return facts if isinstance(facts, dict) else {}


def _network_beside(folder: Path, projects: Mapping[Path, Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return what the export around an RTL folder says of its network: its weights, else its hls4ml project."""
    export = folder.parent.parent
    if (export / "weights.npz").is_file():
        return record_json(network_record(QuantizedNetwork.load(export / "weights.npz")))
    return next((project for home, project in projects.items() if home.parent == export), {})


def find_designs(path: Path) -> tuple[list[Path], list[Path]]:
    """Return the hls4ml projects and the RTL folders at or below an export folder, a project or a study.

    Raises:
        DesignError: there is none.
    """
    if not path.is_dir():
        raise DesignError(
            f"{path} is not a folder; give an export, an hls4ml project or a folder of Verilog"
        )
    if is_project(path):
        return [path], []
    projects, rtl = [], []
    for folder_name, subfolders, names in os.walk(path):
        folder = Path(folder_name)
        subfolders[:] = sorted(name for name in subfolders if not name.endswith("_synthesis"))
        if is_project(folder):
            projects.append(folder)
            subfolders.clear()
        elif "rtl.json" in names and folder.name != "vhdl":
            rtl.append(folder)
            subfolders.clear()
    if not projects and not rtl and any(path.rglob("*.v")):
        rtl.append(path)
    if not projects and not rtl:
        raise DesignError(
            f"{path} holds no hls4ml project, no exported RTL and no Verilog; export a candidate first"
        )
    return projects, rtl


def plan_jobs(
    paths: Iterable[Path],
    *,
    tools: Sequence[Tool],
    steps: Sequence[str],
    timeout_s: float,
    work: Path | None = None,
    top: str | None = None,
    part: str | None = None,
    clock_period_ns: float | None = None,
) -> list[SynthesisJob]:
    """Make one job per design and tool that fits it.

    Args:
        paths: exports, hls4ml projects, folders of Verilog, study folders.
        tools: which tools; "vitis" takes hls4ml projects, the others take RTL.
        steps: what to run; each tool takes those that it knows.
        timeout_s: per step.
        work: where tools run; `<design>_synthesis` beside each design by default.
        top: overrides the design's own, needed for bare Verilog.
        part: likewise.
        clock_period_ns: likewise.

    Raises:
        DesignError: a path holds no design, or nothing fits the tools, or bare Verilog lacks a top.
    """
    jobs: list[SynthesisJob] = []

    def work_of(folder: Path, tool: str) -> Path:
        base = work / folder.name if work else folder.with_name(f"{folder.name}_synthesis")
        return base / tool

    for path in paths:
        projects, rtl_folders = find_designs(Path(path).resolve())
        described = {folder: _project(folder) for folder in projects}
        for folder, project in described.items():
            if "vitis" in tools:
                jobs.append(
                    SynthesisJob(
                        tool="vitis", folder=folder, work=work_of(folder, "vitis"),
                        top=top or project.get("top") or "myproject",
                        part=part or project.get("part") or "",
                        clock_period_ns=clock_period_ns or project.get("clock_period_ns") or 0.0,
                        steps=tuple(steps), timeout_s=timeout_s, description=_describe(project, is_rtl=False),
                    )
                )  # fmt: skip
        for folder in rtl_folders:
            facts = _rtl_facts(folder)
            sibling = _network_beside(folder, described)
            description = _describe(sibling, is_rtl=True) | {"rtl": facts}
            name = top or facts.get("top")
            if not name:
                raise DesignError(f"{folder}: which module is the top? name it with --top")
            for tool in tools:
                if tool == "vitis":
                    continue
                jobs.append(
                    SynthesisJob(
                        tool=tool, folder=folder, work=work_of(folder, tool), top=str(name),
                        part=part or facts.get("part") or sibling.get("part") or "xcvu13p-flga2577-2-e",
                        clock_period_ns=float(clock_period_ns or facts.get("clock_period_ns") or sibling.get("clock_period_ns") or 5.0),
                        steps=tuple(step for step in steps if step in ("vsynth", "implemented")) or ("vsynth",),
                        timeout_s=timeout_s, description=description,
                    )
                )  # fmt: skip
    if not jobs:
        raise DesignError(
            f"none of the designs suits {' or '.join(tools)}: vitis takes hls4ml projects, open, ecp5 and vivado take RTL; "
            "export RTL (every layer distributed arithmetic) or choose another --tool"
        )
    return jobs
