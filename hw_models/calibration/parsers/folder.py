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
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hw_models.calibration.parsers.baselines import (
    parse_hls4ml_json,
    parse_oneapi_ndjson,
    parse_quartus_js,
)
from hw_models.calibration.parsers.csynth import parse_cosim_rpt, parse_csynth_rpt, parse_csynth_xml
from hw_models.calibration.parsers.errors import Rejection, ReportError
from hw_models.calibration.parsers.jsonl import read_record_lines
from hw_models.calibration.parsers.project import (
    MAX_TEXT_BYTES,
    is_project,
    read_project,
    read_text,
)
from hw_models.calibration.parsers.vivado import (
    parse_export_rpt,
    parse_timing_rpt,
    parse_utilization_rpt,
)

Record = dict[str, Any]
Progress = Callable[[int, int], None]

#: Largest XML report in bytes, unpacked.
MAX_XML_BYTES = 256 * 2**20

#: Fewer designs than this are parsed in the calling process: starting workers costs more.
_PARALLEL_FROM = 48

_KINDS = (
    ("csynth_xml", re.compile(r"(?:(.+)_)?csynth\.xml(?:\.gz)?")),
    ("csynth_rpt", re.compile(r"(.+)_csynth\.rpt")),
    ("cosim", re.compile(r"(.+)_cosim\.rpt")),
    ("export", re.compile(r"(?:(.+)_export|export_(?:syn|impl))\.rpt")),
    ("timing", re.compile(r"(.*)timing.*\.rpt")),
    ("utilization", re.compile(r"(?:.*utilization.*|vivado_synth|util)\.rpt")),
    ("oneapi", re.compile(r"summary\.ndjson")),
    ("quartus", re.compile(r"report_data\.js")),
    ("json", re.compile(r".+\.json")),
    ("jsonl", re.compile(r".+\.jsonl(?:\.gz)?")),
)

#: First lines by which a report given under another name is recognised.
_SNIFF = (
    ("csynth_rpt", re.compile(r"HLS Report for '")),
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


@dataclass(frozen=True, kw_only=True)
class _Group:
    """Reports of one design: (kind, path) pairs, the project they belong to, the given root."""

    folder: Path
    root: Path
    project: Path | None
    files: tuple[tuple[str, Path], ...]


def kind_of(path: Path) -> str | None:
    """Tell from its name what report a file is; None when it is none."""
    for kind, pattern in _KINDS:
        if pattern.fullmatch(path.name):
            return kind
    return None


def _sniff(path: Path) -> str:
    kind = kind_of(path)
    if kind is None or kind in ("json", "timing"):
        head = _bytes(path, MAX_XML_BYTES)[:20000].decode("utf-8", errors="replace")
        for sniffed, pattern in _SNIFF:
            if pattern.search(head):
                return sniffed
    if kind is None:
        raise ReportError(
            f"{path}: neither its name nor its first lines are those of a known report; "
            "give a csynth, cosim, utilization, timing or export report, a JSON or a JSONL file"
        )
    return kind


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


def _find(root: Path) -> tuple[list[_Group], list[Rejection]]:
    """Group every report below `root`."""
    by_solution: dict[Path, list[tuple[str, Path]]] = {}
    rejections: list[Rejection] = []
    projects: set[Path] = set()

    def unreadable(error: OSError) -> None:
        rejections.append(
            Rejection(
                path=Path(error.filename or root), reason=f"cannot be listed ({error.strerror})"
            )
        )

    for folder_name, subfolders, names in os.walk(root, onerror=unreadable):
        subfolders.sort()
        folder = Path(folder_name)
        if is_project(folder):
            projects.add(folder)
        for name in sorted(names):
            kind = kind_of(Path(name))
            if kind is not None:
                by_solution.setdefault(_solution_of(folder / name, root), []).append(
                    (kind, folder / name)
                )
    cache: dict[Path, Path | None] = {}
    groups = []
    for solution, files in _attach_project_reports(by_solution, root, cache).items():
        project = _project_of(solution, root, cache)
        lone = [item for item in files if item[0] in ("json", "jsonl")]
        designs = [item for item in files if item[0] not in ("json", "jsonl")]
        groups += [
            _Group(folder=solution, root=root, project=project, files=(item,)) for item in lone
        ]
        if designs:
            groups.append(_Group(folder=solution, root=root, project=project, files=tuple(designs)))
    seen = {
        group.project for group in groups if any(kind not in ("json",) for kind, _ in group.files)
    }
    rejections += [
        Rejection(
            path=folder, reason="an hls4ml project without any report; run its synthesis first"
        )
        for folder in sorted(projects - seen)
    ]
    return groups, rejections


def _attach_project_reports(
    by_solution: Mapping[Path, list[tuple[str, Path]]], root: Path, cache: dict[Path, Path | None]
) -> dict[Path, list[tuple[str, Path]]]:
    """Move Vivado reports at a project's root to its only HLS solution."""
    result = {folder: list(files) for folder, files in by_solution.items()}
    solutions: dict[Path, list[Path]] = {}
    for folder, files in by_solution.items():
        project = _project_of(folder, root, cache)
        if project is not None and any(kind.startswith("csynth") for kind, _ in files):
            solutions.setdefault(project, []).append(folder)
    for folder, files in by_solution.items():
        project = _project_of(folder, root, cache)
        if project is None or any(kind.startswith("csynth") for kind, _ in files):
            continue
        homes = solutions.get(project, [])
        if len(homes) == 1:
            moved = [item for item in files if item[0] not in ("json", "jsonl")]
            result[homes[0]] += moved
            result[folder] = [item for item in result[folder] if item not in moved]
    return {folder: files for folder, files in result.items() if files}


def _top_name(
    kind_files: Mapping[str, list[Path]], project: Mapping[str, Any] | None, folder: Path
) -> str | None:
    names: dict[str, None] = {}
    for kind in ("csynth_xml", "csynth_rpt"):
        pattern = dict(_KINDS)[kind]
        for path in kind_files.get(kind, ()):
            match = pattern.fullmatch(path.name)
            if match and match[1]:
                names[match[1]] = None
    if not names:
        return None
    wanted = project.get("top") if project else None
    for candidate in (f"{wanted}_axi", wanted, "myproject_axi", "myproject"):
        if candidate in names:
            return str(candidate)
    if len(names) == 1:
        return next(iter(names))
    general = [
        path for path in kind_files.get("csynth_xml", ()) if path.name.startswith("csynth.xml")
    ]
    if general:
        top = str(
            parse_csynth_xml(_bytes(general[0], MAX_XML_BYTES), origin=str(general[0]))["top"]
        )
        if top in names:
            return top
    raise ReportError(
        f"{folder}: reports of {len(names)} functions and no project file that names the top; add project.tcl"
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


def _csynth(kind_files: Mapping[str, list[Path]], top: str | None, folder: Path) -> Record | None:
    xml = [
        p
        for p in kind_files.get("csynth_xml", ())
        if top is None or p.name.startswith((f"{top}_csynth", "csynth"))
    ]
    texts = kind_files.get("csynth_rpt", [])
    rpt = [p for p in texts if p.name == f"{top}_csynth.rpt"]
    # A lone file may have any name: the user says what it is.
    rpt = rpt or (texts if len(texts) == 1 and top is None else [])
    from_xml = parse_csynth_xml(_bytes(xml[0], MAX_XML_BYTES), origin=str(xml[0])) if xml else None
    from_rpt = parse_csynth_rpt(read_text(rpt[0]), origin=str(rpt[0])) if rpt else None
    if from_xml and from_rpt and from_xml["top"] == from_rpt["top"]:
        for name in ("lut", "ff", "dsp", "latency_cycles_max"):
            if from_xml["csynth"].get(name) != from_rpt["csynth"].get(name):
                raise ReportError(
                    f"{folder}: XML and text report disagree on {name} ({from_xml['csynth'].get(name)} and "
                    f"{from_rpt['csynth'].get(name)}); they are of different runs, synthesise again"
                )
        return from_rpt | from_xml
    return from_rpt or from_xml


def _later_stages(
    kind_files: Mapping[str, list[Path]], report: Record, top: str | None
) -> list[Rejection]:
    """Add cosimulation, logic synthesis, implementation and timing to `report`; return what was unusable."""
    rejections = []

    def attempt(path: Path, parse: Callable[[], None]) -> None:
        try:
            parse()
        except ReportError as error:
            rejections.append(Rejection(path=path, reason=str(error)))

    def cosim(path: Path) -> None:
        report["cosim"] = parse_cosim_rpt(read_text(path), origin=str(path))

    def export(path: Path) -> None:
        found = parse_export_rpt(read_text(path), origin=str(path))
        for stage in ("vsynth", "impl"):
            if stage in found:
                report[stage] = report.get(stage, {}) | found[stage]
        for key in ("part", "tool_version", "clock_period_ns"):
            if report.get(key) is None:
                report[key] = found.get(key)

    def utilization(path: Path) -> None:
        found = parse_utilization_rpt(read_text(path), origin=str(path))
        design = found["design"]
        # Out-of-context wrappers (bd_0_*) repeat or hide the design; the one named like the top is it.
        if (
            design is not None
            and top is not None
            and design not in (top, f"{top}_axi", f"{top}_wrapper")
        ):
            return
        if report.get("part") and found["part"] and not _same_part(report["part"], found["part"]):
            raise ReportError(
                f"{path}: for part {found['part']}, HLS used {report['part']}; of another run"
            )
        report[found["stage"]] = found["metrics"] | report.get(found["stage"], {})
        for key in ("part", "tool_version"):
            if report.get(key) is None:
                report[key] = found[key]

    def timing(path: Path) -> None:
        found = parse_timing_rpt(read_text(path), origin=str(path))
        period = found.get("clock_period_ns", report.get("clock_period_ns"))
        stage = "impl" if "impl" in report else "vsynth" if "vsynth" in report else None
        if stage and period:
            report[stage].setdefault("clock_achieved_ns", round(period - found["wns_ns"], 6))

    own = f"{top}_cosim.rpt"
    for kind, parse in (
        ("cosim", cosim),
        ("export", export),
        ("utilization", utilization),
        ("timing", timing),
    ):
        for path in kind_files.get(kind, ()):
            if kind == "cosim" and top is not None and path.name != own:
                continue
            attempt(path, partial(parse, path))
    return rejections


def _intel(kind_files: Mapping[str, list[Path]]) -> Record | None:
    if paths := kind_files.get("oneapi"):
        loops = paths[0].with_name("loop_attr.ndjson")
        return parse_oneapi_ndjson(
            read_text(paths[0]), read_text(loops) if loops.is_file() else "", origin=str(paths[0])
        )
    if paths := kind_files.get("quartus"):
        return parse_quartus_js(read_text(paths[0]), origin=str(paths[0]))
    return None


def _design_record(group: _Group) -> tuple[list[Record], list[Rejection]]:
    kind_files: dict[str, list[Path]] = {}
    for kind, path in group.files:
        kind_files.setdefault(kind, []).append(path)
    project = read_project(group.project) if group.project else None
    top = _top_name(kind_files, project, group.folder)
    report = _csynth(kind_files, top, group.folder) or _intel(kind_files) or {}
    top = top or report.get("top") or (project or {}).get("top")
    rejections = _later_stages(kind_files, report, top)
    if not any(stage in report for stage in ("csynth", "vsynth", "impl")):
        if not rejections:
            raise ReportError(
                f"{group.folder}: no synthesis report of {top or 'the design'} among the files; synthesise it"
            )
        return [], rejections
    if project:
        _check_match(report, project, group.folder)
    return [_record(report, project or {}, group, top)], rejections


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
    return [_record(report, project, group, path.stem)], []


def _record(report: Record, project: Mapping[str, Any], group: _Group, top: str | None) -> Record:
    root = group.root if group.root.is_dir() else group.root.parent
    relative = (
        group.folder.relative_to(root)
        if root in (group.folder, *group.folder.parents)
        else group.folder
    )
    source = relative.parts[0] if relative.parts else root.name
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
        **{stage: report.get(stage) for stage in ("csynth", "vsynth", "cosim", "impl")},
    }
    identity = body | {"modules": report.get("modules")}
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    flags = [] if body["layers"] else ["no_architecture"]
    if report.get("csynth", {}).get("latency_cycles_max", 0) is None:
        flags.append("latency_unknown")
    record = {
        "schema": 1,
        "id": f"{source}:{'/'.join(relative.parts[1:]) or '.'}:{top}@{digest[:8]}",
        "source": source,
        "digest": digest,
        "hls4ml_version": None,
        "flags": flags,
        **body,
    }
    if report.get("modules"):
        record["modules"] = report["modules"]
    return record


def _read_group(group: _Group) -> tuple[list[Record], list[Rejection]]:
    kind, path = group.files[0]
    try:
        if kind == "jsonl":
            text = _bytes(path, MAX_XML_BYTES).decode("utf-8", errors="replace")
            return read_record_lines(text, path=path)
        if kind == "json":
            return _json_record(group, path)
        return _design_record(group)
    except ReportError as error:
        return [], [
            Rejection(path=path if len(group.files) == 1 else group.folder, reason=str(error))
        ]


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
                item = (_sniff(path), path)
                groups.append(_Group(folder=path.parent, root=path, project=None, files=(item,)))
            except ReportError as error:
                rejections.append(Rejection(path=path, reason=str(error)))
        else:
            rejections.append(Rejection(path=path, reason="no such file or folder"))
    return groups, rejections


def read_reports(
    paths: Path | Sequence[Path], *, n_workers: int = 1, progress: Progress | None = None
) -> tuple[list[Record], list[Rejection]]:
    """Read every synthesis report below some paths.

    Args:
        paths: folders (searched recursively) and files: hls4ml projects with reports, lone reports,
            hls4ml baseline JSON, JSONL in the schema of synthesis records.
        n_workers: processes to parse in; 1 stays in this one.
        progress: told (designs done, designs in all) now and then.

    Returns:
        Records in the JSON schema of synthesis records, in the order of the paths, without
        duplicates; and what was rejected, with reasons.
    """
    groups, rejections = _gather([paths] if isinstance(paths, str | Path) else paths)
    records: list[Record] = []
    if n_workers > 1 and len(groups) >= _PARALLEL_FROM:
        with ProcessPoolExecutor(max_workers=n_workers) as executor:
            results = executor.map(
                _read_group, groups, chunksize=max(1, min(64, len(groups) // (4 * n_workers)))
            )
            parsed = list(_with_progress(results, len(groups), progress))
    else:
        parsed = list(_with_progress(map(_read_group, groups), len(groups), progress))
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
