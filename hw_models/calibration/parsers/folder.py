"""From any mix of folders and files to synthesis records: find reports, group them by design, parse, check.

One design is one HLS solution (or one lone report).  What contradicts itself is rejected with a
reason, never averaged or guessed.
"""

import gzip
import hashlib
import json
import os
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hw_models.calibration.parsers.baselines import (
    parse_hls4ml_json,
    parse_oneapi_ndjson,
    parse_quartus_js,
)
from hw_models.calibration.parsers.csynth import (
    network_in,
    parse_cosim_rpt,
    parse_csynth_rpt,
    parse_csynth_summary,
    parse_csynth_xml,
)
from hw_models.calibration.parsers.errors import Rejection, ReportError
from hw_models.calibration.parsers.foreign import foreign_reason
from hw_models.calibration.parsers.jsonl import read_record_lines
from hw_models.calibration.parsers.project import (
    MAX_TEXT_BYTES,
    is_project,
    read_project,
    read_text,
)
from hw_models.calibration.parsers.vivado import (
    EXPORT_RANK,
    design_of,
    parse_export_rpt,
    parse_timing_rpt,
    parse_utilization_rpt,
)
from hw_models.records import SCHEMA, WRAPPER_FLAG

Record = dict[str, Any]
Progress = Callable[[int, int], None]

#: Largest XML report in bytes, unpacked.
MAX_XML_BYTES = 256 * 2**20

#: Fewer designs than this are parsed in the calling process: starting workers costs more.
_PARALLEL_FROM = 48

#: Bytes of a file that tell what it is.
_HEAD_BYTES = 20000

_KINDS = (
    ("csynth_xml", re.compile(r"(?:(.+)_)?csynth\.xml(?:\.gz)?")),
    ("csynth_rpt", re.compile(r"(.+)_csynth\.rpt")),
    ("summary", re.compile(r"csynth\.rpt|hls_compile\.rpt")),
    ("cosim", re.compile(r"(.+)_cosim\.rpt")),
    ("export", re.compile(r"(?:(.+)_export|export_(?:syn|impl))\.rpt")),
    ("timing", re.compile(r"(.*)timing.*\.rpt")),
    ("utilization", re.compile(r"(?:.*utilization.*|vivado_synth|util)\.rpt")),
    ("oneapi", re.compile(r"summary\.ndjson")),
    ("quartus", re.compile(r"report_data\.js")),
    ("json", re.compile(r".+\.json")),
    ("jsonl", re.compile(r".+\.jsonl(?:\.gz)?")),
)

#: Vivado's other reports, which hold no figure of a record.
_IGNORED = re.compile(
    r".*(?:clock_utilization|control_sets|clock_interaction|bus_skew|incremental|ssn)\w*\.rpt"
)

#: First lines by which a report given under another name is recognised.
_SNIFF = (
    ("summary", re.compile(r"Synthesis Summary Report of '")),
    ("csynth_rpt", re.compile(r"HLS Report for '([^'\n]+)'")),
    (
        "export",
        re.compile(
            r"#=== (?:Post-\w+ )?Resource usage|== Vivado (?:RTL Synthesis|Implementation|Place)"
        ),
    ),
    ("utilization", re.compile(r"Utilization Design Information|Command\s*:\s*report_utilization")),
    ("timing", re.compile(r"WNS\(ns\)")),
    ("cosim", re.compile(r"Simulation tool\s*:|\|\s*RTL\s*\|")),
    ("csynth_xml", re.compile(r"^\s*(?:<\?xml[^>]*>\s*)?<profile>")),
)

_STAGE_FOLDERS = {"syn", "sim", "impl", "csim"}

#: Folders between a project and its reports that are named by the tools, not by the user.
_TOOL_FOLDERS = re.compile(r"solution\d*|.*_prj|hls|verilog|vhdl|reports?|syn|impl|component")


@dataclass(frozen=True, kw_only=True)
class _File:
    """One report.

    Attributes:
        kind: name in `_KINDS`.
        path: where it is.
        function: the function that an HLS report speaks of; None where only its content tells.
        is_renamed: whether its name is the user's own, not the tool's.
    """

    kind: str
    path: Path
    function: str | None = None
    is_renamed: bool = False


@dataclass(frozen=True, kw_only=True)
class _Group:
    """Reports of one design, the project they belong to, the given root, the design's name below it."""

    folder: Path
    root: Path
    project: Path | None
    name: str
    files: tuple[_File, ...]

    def of(self, kind: str) -> list[_File]:
        """Return the files of one kind."""
        return [file for file in self.files if file.kind == kind]


def kind_of(path: Path) -> str | None:
    """Tell from its name what report a file is; None when it is none."""
    if _IGNORED.fullmatch(path.name):
        return None
    for kind, pattern in _KINDS:
        if pattern.fullmatch(path.name):
            return kind
    return None


def _sniff(path: Path) -> tuple[str, str | None] | None:
    """Tell from its first lines what report a file is, and which function an HLS report speaks of."""
    text = _head(path)
    for kind, pattern in _SNIFF:
        if match := pattern.search(text):
            return kind, match[1] if pattern.groups else None
    return None


def _head(path: Path) -> str:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return file.read(_HEAD_BYTES).decode("utf-8", errors="replace")
    except (OSError, EOFError, zlib.error):
        return ""  # whoever reads it in full says why it cannot be read


def _file_of(path: Path, *, is_given: bool = False) -> _File | None:
    """Tell what a file is, by its name and, where that may be the user's own, by its first lines.

    Raises:
        ReportError: it is another tool's file that codesign knows but does not read.
    """
    if reason := foreign_reason(path.name, lambda: _head(path)):
        raise ReportError(f"{path}: {reason}")
    kind = kind_of(path)
    match = dict(_KINDS)[kind].fullmatch(path.name) if kind else None
    function = match[1] if match and match.re.groups else None
    is_tools = any(folder.name in _STAGE_FOLDERS for folder in path.parents)
    if kind == "csynth_xml" or (is_tools and kind not in (None, "timing")):
        return _File(kind=kind or "", path=path, function=function)
    if kind is None and not (is_given or path.suffix == ".rpt"):
        return None
    if kind not in ("jsonl", "oneapi", "quartus", "utilization", "export", "summary"):
        if kind is None and _IGNORED.fullmatch(path.name) and not is_given:
            return None
        found = _sniff(path)
        if found and found[0] == kind:
            is_renamed = kind == "csynth_rpt" and found[1] != function
            return _File(kind=kind, path=path, function=found[1], is_renamed=is_renamed)
        if found and (kind is None or is_given or found[0] == "csynth_rpt"):
            return _File(kind=found[0], path=path, function=found[1], is_renamed=True)
    if kind is None:
        return None
    return _File(kind=kind, path=path, function=function)


def _bytes(path: Path, limit: int) -> bytes:
    try:
        if path.suffix != ".gz":
            if path.stat().st_size > limit:
                raise ReportError(
                    f"{path}: {path.stat().st_size / 2**20:.0f} MiB, more than any report has; remove it"
                )
            return path.read_bytes()
        with gzip.open(path) as file:
            content = file.read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ReportError(f"{path}: cannot be read ({error}); check the file") from error
    if len(content) > limit:
        raise ReportError(f"{path}: unpacks to more than {limit / 2**20:.0f} MiB; remove it")
    return content


def _solution_of(path: Path, root: Path) -> Path:
    """Return the HLS solution a report lies in: the folder above syn, sim, impl; else its own folder."""
    parents = [path.parent, *path.parent.parents]
    inside = [folder for folder in parents if folder == root or root in folder.parents]
    for folder in inside:
        if folder.name in _STAGE_FOLDERS and folder != root:
            return folder.parent
    return path.parent


def _project_of(folder: Path, root: Path, cache: dict[Path, Path | None]) -> Path | None:
    """Return the nearest hls4ml project at or above `folder`, not above `root`."""
    if folder not in cache:
        if is_project(folder):
            cache[folder] = folder
        elif folder == root or root not in folder.parents:
            cache[folder] = None
        else:
            cache[folder] = _project_of(folder.parent, root, cache)
    return cache[folder]


def _design_name(folder: Path, root: Path, project: Path | None) -> str:
    """Name a design by its project's folder below `root`; without a project, by the folders the user named."""
    parts = list((project or folder).relative_to(root).parts)
    while project is None and parts and _TOOL_FOLDERS.fullmatch(parts[-1]):
        parts.pop()
    if parts:
        return "/".join(parts)
    above = [p.name for p in (root, *root.resolve().parents) if p.name]
    return next((name for name in above if project or not _TOOL_FOLDERS.fullmatch(name)), root.name)


def _find(root: Path) -> tuple[list[_Group], list[Rejection]]:
    """Group every report below `root`."""
    by_solution: dict[Path, list[_File]] = {}
    rejections: list[Rejection] = []
    projects: set[Path] = set()

    def unreadable(error: OSError) -> None:
        rejections.append(
            Rejection(
                path=Path(error.filename or root), reason=f"cannot be listed ({error.strerror})"
            )
        )

    for folder_name, subfolders, names in os.walk(root, onerror=unreadable):
        # the scheduler's own intermediate reports repeat what syn/report says in the end
        subfolders[:] = sorted(name for name in subfolders if name != ".autopilot")
        folder = Path(folder_name)
        if is_project(folder):
            projects.add(folder)
        for name in sorted(names):
            try:
                file = _file_of(folder / name)
            except ReportError as error:
                rejections.append(Rejection(path=folder / name, reason=str(error)))
                continue
            if file is not None:
                by_solution.setdefault(_solution_of(folder / name, root), []).append(file)
    cache: dict[Path, Path | None] = {}
    groups: list[_Group] = []
    attached = _attach_project_reports(by_solution, root, cache)
    solutions: dict[Path, int] = {}
    for solution in attached:
        if home := _project_of(solution, root, cache):
            solutions[home] = solutions.get(home, 0) + 1
    for solution, files in attached.items():
        project = _project_of(solution, root, cache)
        name = _design_name(solution, root, project)
        if project and solutions[project] > 1 and solution != project:
            name += f"/{solution.relative_to(project).as_posix()}"
        for lone, members in _split(files):
            groups.append(
                _Group(
                    folder=solution,
                    root=root,
                    project=project,
                    name=f"{name}/{lone}" if lone else name,
                    files=tuple(members),
                )
            )
    seen = {
        group.project for group in groups if any(file.kind not in ("json",) for file in group.files)
    }
    rejections += [
        Rejection(
            path=folder, reason="an hls4ml project without any report; run its synthesis first"
        )
        for folder in sorted(projects - seen)
    ]
    return groups, rejections


def _stem(path: Path) -> str:
    """Return a report's name without its endings."""
    return re.sub(r"\.(?:json|jsonl|rpt|xml|txt|ndjson|js)(?:\.gz)?$", "", path.name)


def _split(files: Sequence[_File]) -> list[tuple[str | None, list[_File]]]:
    """Split the reports of a folder into designs, each with the name of its file where that is all it has.

    Renamed HLS reports beside one another are designs of their own: their names are all that tells
    them apart, and no later report says to which of them it belongs.
    """
    lone = [file for file in files if file.kind in ("json", "jsonl")]
    rest = [file for file in files if file.kind not in ("json", "jsonl")]
    renamed = [file for file in rest if file.is_renamed and file.kind in ("csynth_rpt", "summary")]
    if len(renamed) > 1 or (
        renamed and any(f.kind.startswith("csynth") and f not in renamed for f in rest)
    ):
        lone += renamed + [
            f for f in rest if f.is_renamed and f not in renamed and f.kind != "timing"
        ]
        rest = [file for file in rest if not file.is_renamed]
    designs: list[tuple[str | None, list[_File]]] = [(_stem(file.path), [file]) for file in lone]
    return designs + ([(None, rest)] if rest else [])


def _attach_project_reports(
    by_solution: Mapping[Path, list[_File]], root: Path, cache: dict[Path, Path | None]
) -> dict[Path, list[_File]]:
    """Move Vivado reports at a project's root to its only HLS solution."""
    result = {folder: list(files) for folder, files in by_solution.items()}
    solutions: dict[Path, list[Path]] = {}
    for folder, files in by_solution.items():
        project = _project_of(folder, root, cache)
        if project is not None and any(_is_hls(file) for file in files):
            solutions.setdefault(project, []).append(folder)
    for folder, files in by_solution.items():
        project = _project_of(folder, root, cache)
        if project is None or any(_is_hls(file) for file in files):
            continue
        homes = solutions.get(project, [])
        if len(homes) == 1:
            moved = [file for file in files if file.kind not in ("json", "jsonl")]
            result[homes[0]] += moved
            result[folder] = [file for file in result[folder] if file not in moved]
    return {folder: files for folder, files in result.items() if files}


def _is_hls(file: _File) -> bool:
    return file.kind.startswith("csynth") or file.kind == "summary"


def _top_name(group: _Group, project: Mapping[str, Any] | None) -> str | None:
    """Return the network's function among those that have reports: the inner one, not a wrapper around it.

    Raises:
        ReportError: several functions have reports and nothing says which of them is the top.
    """
    names = {
        file.function: None
        for kind in ("csynth_xml", "csynth_rpt")
        for file in group.of(kind)
        if file.function
    }
    if not names:
        return None
    wanted = project.get("top") if project else None
    for candidate in (network_in(wanted or ""), wanted, "myproject"):
        if candidate in names:
            return str(candidate)
    left = [name for name in names if network_in(name) not in names]
    if len(left) == 1:
        return left[0]
    general = [file.path for file in group.of("csynth_xml") if file.function is None]
    if general:
        content = _bytes(general[0], MAX_XML_BYTES)
        top = str(parse_csynth_xml(content, origin=str(general[0]))["top"])
        inner = network_in(top)
        if inner in names:
            return inner
        if top in names:
            return top
    for known in (wanted, "myproject"):
        for name in names:
            if known and network_in(name) == known:
                return name
    raise ReportError(
        f"{group.folder}: reports of {len(names)} functions and no project file that names the top; add project.tcl"
    )


def _same_part(one: str, other: str) -> bool:
    short, long = sorted((re.sub(r"[^a-z0-9]", "", part.lower()) for part in (one, other)), key=len)
    return long.startswith(short) or long.removeprefix("xc").startswith(short.removeprefix("xc"))


def _check_match(report: Mapping[str, Any], project: Mapping[str, Any], folder: Path) -> None:
    """Refuse a report that was not made from the configuration beside it.

    Raises:
        ReportError: part, clock or layers differ.
    """
    part, wanted = report.get("part"), project.get("part")
    if part and wanted and not _same_part(part, wanted):
        raise ReportError(
            f"{folder}: the report is for part {part}, the project is configured for {wanted}; synthesise again"
        )
    period, wanted_period = report.get("clock_period_ns"), project.get("clock_period_ns")
    # 2 %: reports print two decimals of a period that may be a rounded frequency.
    if period and wanted_period and abs(period - wanted_period) > 0.02 * wanted_period:
        raise ReportError(
            f"{folder}: the report has a clock of {period:g} ns, the project is configured for {wanted_period:g} ns; "
            "synthesise again"
        )
    numbers = {
        int(n)
        for module in report.get("modules", ())
        for n in re.findall(r"config(\d+)", module["module"])
    }
    known = set(project.get("config_numbers", ()))
    if numbers and known and not numbers <= known:
        raise ReportError(
            f"{folder}: the report has layers config{sorted(numbers - known)[0]}, ... that the project lacks; "
            "it was made from another network, synthesise again"
        )


def _csynth(group: _Group, top: str | None) -> Record | None:
    """Read the HLS reports of `top` (of whatever there is, when nothing says the top)."""
    found: dict[str, tuple[Record, Path]] = {}
    for file in sorted(group.of("csynth_xml"), key=lambda file: file.function is None):
        if top is None or file.function in (top, None):
            read = parse_csynth_xml(_bytes(file.path, MAX_XML_BYTES), origin=str(file.path))
            # csynth.xml speaks of the outermost function, which may be a wrapper
            if top is None or file.function == top or read["top"] == top:
                found["xml"] = read, file.path
                break
    texts = group.of("csynth_rpt")
    for file in texts:
        if file.function == top or (top is None and len(texts) == 1):
            found["rpt"] = parse_csynth_rpt(read_text(file.path), origin=str(file.path)), file.path
            break
    if not found:
        for file in group.of("summary"):
            return parse_csynth_summary(read_text(file.path), origin=str(file.path), top=top)
    xml, rpt = (found.get(kind, ({}, None))[0] for kind in ("xml", "rpt"))
    if xml and rpt and xml["top"] == rpt["top"]:
        for name in ("lut", "ff", "dsp", "latency_cycles_max"):
            if xml["csynth"].get(name) != rpt["csynth"].get(name):
                raise ReportError(
                    f"{group.folder}: XML and text report disagree on {name} ({xml['csynth'].get(name)} and "
                    f"{rpt['csynth'].get(name)}); they are of different runs, synthesise again"
                )
        return rpt | xml
    return rpt or xml or None


def _later_stages(group: _Group, report: Record, top: str | None) -> list[Rejection]:
    """Add cosimulation, logic synthesis, implementation and timing to `report`; return what was unusable."""
    rejections: list[Rejection] = []
    ranks: dict[str, float] = {}

    def attempt(kind: str, parse: Callable[[Path], None]) -> None:
        for file in group.of(kind):
            try:
                parse(file.path)
            except ReportError as error:
                rejections.append(Rejection(path=file.path, reason=str(error)))

    def keep(stage: str, rank: float, metrics: Record, path: Path) -> None:
        """Keep the figures of the latest state of a stage."""
        known = report.get(stage)
        if known and ranks.get(stage) == rank and known["lut"] != metrics["lut"]:
            raise ReportError(
                f"{path}: counts {metrics['lut']} LUT where another report of the same state counts "
                f"{known['lut']}; of another run, left out"
            )
        if not known or rank > ranks[stage]:
            report[stage], ranks[stage] = metrics, rank

    def adopt(found: Mapping[str, Any]) -> None:
        for key in ("part", "tool_version", "clock_period_ns"):
            if report.get(key) is None and found.get(key) is not None:
                report[key] = found[key]

    def cosim(path: Path) -> None:
        if top is None or path.name == f"{top}_cosim.rpt" or len(group.of("cosim")) == 1:
            report["cosim"] = parse_cosim_rpt(read_text(path), origin=str(path))

    def export(path: Path) -> None:
        found = parse_export_rpt(read_text(path), origin=str(path))
        for stage in ("vsynth", "implemented"):
            if stage in found:
                keep(stage, EXPORT_RANK, found[stage], path)
        adopt(found)

    def utilization(path: Path) -> None:
        text = read_text(path)
        # block designs and out-of-context adapters around the network are other designs
        design = design_of(text)
        if design and (design != top if top else _is_adapter(design)):
            return
        found = parse_utilization_rpt(text, origin=str(path))
        if report.get("part") and found["part"] and not _same_part(report["part"], found["part"]):
            raise ReportError(
                f"{path}: for part {found['part']}, HLS used {report['part']}; of another run"
            )
        keep(found["stage"], found["rank"], found["metrics"], path)
        adopt(found)

    def timing(path: Path) -> None:
        period = report.get("clock_period_ns")
        found = parse_timing_rpt(read_text(path), origin=str(path), period_ns=period)
        latest = "implemented" if "implemented" in report else "vsynth"
        stage = found["stage"] or latest
        period = found.get("clock_period_ns", period)
        if stage in report and period and found["rank"] >= ranks.get(f"{stage} timing", -1.0):
            report[stage]["clock_achieved_ns"] = round(period - found["wns_ns"], 6)
            ranks[f"{stage} timing"] = found["rank"]

    attempt("cosim", cosim)
    attempt("export", export)
    attempt("utilization", utilization)
    attempt("timing", timing)
    return rejections


def _is_adapter(design: str) -> bool:
    return bool(network_in(design) or re.fullmatch(r"bd_\w+_wrapper", design))


def _intel(group: _Group) -> Record | None:
    for file in group.of("oneapi"):
        loops = file.path.with_name("loop_attr.ndjson")
        return parse_oneapi_ndjson(
            read_text(file.path),
            read_text(loops) if loops.is_file() else "",
            origin=str(file.path),
        )
    for file in group.of("quartus"):
        return parse_quartus_js(read_text(file.path), origin=str(file.path))
    return None


def _design_record(group: _Group) -> tuple[list[Record], list[Rejection]]:
    project = read_project(group.project) if group.project else None
    top = _top_name(group, project)
    report = _csynth(group, top) or _intel(group) or {}
    top = top or report.get("top") or (project or {}).get("top")
    rejections = _later_stages(group, report, top)
    if not any(stage in report for stage in ("csynth", "vsynth", "implemented")):
        if not rejections:
            if group.root.is_dir() and len(group.of("utilization")) == len(group.files):
                return [], []  # adapters and block designs alone
            raise ReportError(
                f"{group.folder}: no synthesis report of {top or 'the design'} among the files; synthesise it"
            )
        return [], rejections
    if project:
        _check_match(report, project, group.folder)
    flags = [WRAPPER_FLAG] if _is_wrapper(top, project) else []
    return [_record(report, project or {}, group, flags)], rejections


def _is_wrapper(top: str | None, project: Mapping[str, Any] | None) -> bool:
    """Say whether `top`, of which there is a report, is not the function that holds the network."""
    inner = network_in(top or "")
    return inner is not None and inner in ((project or {}).get("top"), "myproject")


def _json_record(group: _Group, path: Path) -> tuple[list[Record], list[Rejection]]:
    text = _bytes(path, MAX_TEXT_BYTES).decode("utf-8", errors="replace")
    if '"CSynthesisReport"' not in text and '"HLS"' not in text:
        if group.root == path:
            raise ReportError(f"{path}: no hls4ml report (no CSynthesisReport, no HLS section)")
        return [], []
    report = parse_hls4ml_json(text, origin=str(path))
    named = re.search(
        r"(Vitis|Vivado|oneAPI|Quartus|Catapult)[_/\\](\d{4}\.\d+(?:\.\d+)?)", str(path)
    )
    if named:
        report.setdefault(
            "tool", {"Vitis": "Vitis HLS", "Vivado": "Vivado HLS"}.get(named[1], named[1])
        )
        report["tool_version"] = named[2]
    project = read_project(group.project) if group.project else {}
    if project:
        _check_match(report, project, group.folder)
    rejections = [Rejection(path=path, reason=reason) for reason in report.get("problems", ())]
    return [_record(report, project, group, [])], rejections


def _record(
    report: Record, project: Mapping[str, Any], group: _Group, flags: Sequence[str]
) -> Record:
    body = {
        "tool": report.get("tool"),
        "tool_version": report.get("tool_version"),
        "part": report.get("part") or project.get("part"),
        "part_is_inferred": report.get("part") is None,
        "clock_period_ns": report.get("clock_period_ns") or project.get("clock_period_ns"),
        "clock_uncertainty_ns": report.get("clock_uncertainty_ns")
        or project.get("clock_uncertainty_ns"),
        "clock_estimated_ns": report.get("clock_estimated_ns"),
        **{
            key: project.get(key)
            for key in ("backend", "strategy", "io_type", "model_precision", "family")
        },
        "layers": project.get("layers") or [],
        **{stage: report.get(stage) for stage in ("csynth", "vsynth", "cosim", "implemented")},
    }
    identity = body | {"modules": report.get("modules")}
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    flags = [*flags, *([] if body["layers"] else ["no_architecture"])]
    if report.get("csynth", {}).get("latency_cycles_max", 0) is None:
        flags.append("latency_unknown")
    record = {
        "schema": SCHEMA,
        "id": f"{group.name}@{digest[:8]}",
        "source": group.name.split("/")[0],
        "digest": digest,
        "hls4ml_version": project.get("hls4ml_version"),
        "flags": flags,
        **body,
    }
    if report.get("modules"):
        record["modules"] = report["modules"]
    return record


def _read_group(group: _Group) -> tuple[list[Record], list[Rejection]]:
    file = group.files[0]
    path = file.path if len(group.files) == 1 else group.folder
    try:
        if file.kind == "jsonl":
            text = _bytes(file.path, MAX_XML_BYTES).decode("utf-8", errors="replace")
            return read_record_lines(text, path=file.path)
        if file.kind == "json":
            return _json_record(group, file.path)
        return _design_record(group)
    except ReportError as error:
        return [], [Rejection(path=path, reason=str(error))]


def _gather(paths: Iterable[Path]) -> tuple[list[_Group], list[Rejection]]:
    groups: list[_Group] = []
    rejections: list[Rejection] = []
    for given in paths:
        path = Path(given)
        if path.is_dir():
            found, refused = _find(path)
            if not found and not refused:
                refused = [
                    Rejection(
                        path=path, reason="no report, record or hls4ml project below this folder"
                    )
                ]
            groups += found
            rejections += refused
        elif path.is_file():
            try:
                file = _file_of(path, is_given=True)
            except ReportError as error:
                rejections.append(Rejection(path=path, reason=str(error)))
                continue
            if file is None:
                reason = (
                    f"{path}: neither its name nor its first lines are those of a known report; "
                    "give a csynth, cosim, utilization, timing or export report, a JSON or a JSONL file"
                )
                rejections.append(Rejection(path=path, reason=reason))
                continue
            name = _stem(path)
            groups.append(
                _Group(folder=path.parent, root=path, project=None, name=name, files=(file,))
            )
        else:
            rejections.append(Rejection(path=path, reason="no such file or folder"))
    return groups, rejections


def read_reports(
    paths: Path | Sequence[Path],
    *,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> tuple[list[Record], list[Rejection]]:
    """Read every synthesis report below some paths.

    Args:
        paths: folders (searched recursively) and files: hls4ml projects with reports, lone reports,
            hls4ml baseline JSON, JSONL in the schema of synthesis records.
        executor: parses many designs in other processes; None stays in this one.
        progress: told (designs done, designs in all) now and then.

    Returns:
        Records in the JSON schema of synthesis records, in the order of the paths, without
        duplicates; and what was rejected, with reasons.
    """
    groups, rejections = _gather([paths] if isinstance(paths, str | Path) else paths)
    records: list[Record] = []
    results: Iterable[Any] = map(_read_group, groups)
    if executor is not None and len(groups) >= _PARALLEL_FROM:
        chunk_size = max(1, min(64, len(groups) // 16))
        results = executor.map(_read_group, groups, chunksize=chunk_size)
    parsed = list(_with_progress(results, len(groups), progress))
    for found, refused in parsed:
        records += found
        rejections += refused
    return _without_duplicates(records, rejections)


def _with_progress(
    results: Iterable[Any], n_total: int, progress: Progress | None
) -> Iterable[Any]:
    for n_done, result in enumerate(results, start=1):
        if progress is not None and (n_done % 50 == 0 or n_done == n_total):
            progress(n_done, n_total)
        yield result


def _without_duplicates(
    records: list[Record], rejections: list[Rejection]
) -> tuple[list[Record], list[Rejection]]:
    kept: dict[str, Record] = {}
    for record in records:
        key = record.get("digest") or f"id:{record['id']}"
        if key in kept:
            # Two baselines without architecture may well count the same; they are no duplicates.
            if "no_architecture" in record.get("flags", ()) and not record.get("modules"):
                key = f"{key}:{record['id']}"
            if key in kept:
                rejections.append(
                    Rejection(
                        path=Path(record["id"]),
                        reason=f"duplicate of {kept[key]['id']}; counted once",
                    )
                )
                continue
        kept[key] = record
    return list(kept.values()), rejections
