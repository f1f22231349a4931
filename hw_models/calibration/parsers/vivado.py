"""Vivado's own reports: utilization (flat and hierarchical), HLS export summaries and timing summaries."""

import re
from collections.abc import Mapping
from typing import Any

from hw_models.calibration.parsers.csynth import check_counts
from hw_models.calibration.parsers.errors import ReportError
from hw_models.calibration.parsers.numbers import count_of, decimal_of, period_ns_of

#: What "Design State" may say, in the order in which Vivado goes through it: stage of the record, rank, pattern.
#: Each later state supersedes the earlier ones of its stage.
_STATES = (
    ("vsynth", 0.0, re.compile(r"synthesized", re.IGNORECASE)),
    ("implemented", 1.0, re.compile(r"optimized", re.IGNORECASE)),
    ("implemented", 2.0, re.compile(r"(?:fully |partially )?placed", re.IGNORECASE)),
    ("implemented", 3.0, re.compile(r"physopt postplace", re.IGNORECASE)),
    ("implemented", 4.0, re.compile(r"(?:fully |partially )?routed", re.IGNORECASE)),
    ("implemented", 5.0, re.compile(r"physopt postroute", re.IGNORECASE)),
)
#: HLS' own run of Vivado: final for HLS, but not for a project that places and routes by itself.
EXPORT_RANK = 3.5


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def parse_utilization_rpt(text: str, *, origin: str) -> dict[str, Any]:
    """Read `report_utilization`.

    Returns:
        `stage` ("vsynth" or "implemented"), `rank` among the states of a stage, `design`, `part`, `tool_version` and
        `metrics`, which of an implementation name the design's `state`.

    Raises:
        ReportError: it is not such a report, or counts nothing.
    """
    if re.search(r"\|\s*Instance\s*\|\s*Module\s*\|\s*Total LUTs\s*\|", text):
        return _parse_hierarchical(text, origin=origin)
    state = re.search(r"^\| Design State\s*:\s*(.+?)\s*\|?\s*$", text, re.MULTILINE)
    if not state:
        raise ReportError(
            f"{origin}: no 'Design State' in the header; the report is truncated, localised or foreign"
        )
    metrics: dict[str, Any] = {}
    patterns = (
        ("lut", r"(?:Slice|CLB|Registers/)? ?LUTs\*?"),
        ("ff", r"(?:(?:Slice|CLB) )?Registers\*?"),
        ("bram_tiles", r"Block RAM Tile"),
        ("dsp", r"(?:DSPs|DSP Slices|DSP Blocks)\*?"),
        ("uram", r"URAM"),
    )
    for line in text.splitlines():
        if not line.startswith("|"):
            continue
        cells = _cells(line)
        if len(cells) < 2:
            continue
        for name, pattern in patterns:
            if name not in metrics and re.fullmatch(pattern, cells[0]):
                what = f"{origin}: {cells[0]}"
                metrics[name] = (
                    decimal_of(cells[1], what=what)
                    if name == "bram_tiles"
                    else count_of(cells[1], what=what)
                )
    for name in ("lut", "ff"):
        if name not in metrics:
            raise ReportError(
                f"{origin}: no row for {name.upper()} in the utilization tables; truncated or foreign"
            )
    tiles = metrics.pop("bram_tiles", None)
    if tiles is not None:
        metrics["bram_18k"] = round(2 * tiles)
    check_counts(metrics, origin=origin)
    part = re.search(r"^\| Device\s*:\s*(\S+)", text, re.MULTILINE)
    version = re.search(r"Vivado v\.(\d{4}\.\d+(?:\.\d+)?)", text)
    stage, rank = _stage_of(state[1], origin=origin)
    if stage == "implemented":
        metrics["state"] = state[1].lower()
    return {
        "stage": stage,
        "rank": rank,
        "design": design_of(text),
        "part": part[1] if part else None,
        "tool_version": version[1] if version else None,
        "metrics": metrics,
    }


def design_of(text: str) -> str | None:
    """Return the name of the design that one of Vivado's reports speaks of, where its header says it."""
    match = re.search(r"^\| Design\s*:\s*(\S+)", text, re.MULTILINE)
    return match[1] if match else None


def _stage_of(state: str, *, origin: str) -> tuple[str, float]:
    """Return the stage of a design's state and its rank.

    Raises:
        ReportError: Vivado has no such state.
    """
    for stage, rank, pattern in _STATES:
        if pattern.fullmatch(state.strip()):
            return stage, rank
    raise ReportError(
        f"{origin}: design state {state!r}, expected Synthesized, Placed, Routed or Physopt postRoute; "
        "the report is damaged or foreign"
    )


def _parse_hierarchical(text: str, *, origin: str) -> dict[str, Any]:
    names: list[str] = []
    for line in text.splitlines():
        if not line.startswith("|"):
            continue
        cells = _cells(line)
        if cells[0] == "Instance":
            names = cells
        elif names and len(cells) == len(names) and cells[1] == "(top)":
            row = dict(
                zip(names, (re.sub(r"\([\d.]+%\)", "", cell) for cell in cells), strict=True)
            )
            what = f"{origin}: top"
            dsp = row.get("DSP Blocks", row.get("DSP48 Blocks"))
            if dsp is None or "FFs" not in row:
                raise ReportError(
                    f"{origin}: the hierarchical table has no column FFs or DSP; foreign"
                )
            metrics = {
                "lut": count_of(row["Total LUTs"], what=what),
                "ff": count_of(row["FFs"], what=what),
                "dsp": count_of(dsp, what=what),
                "bram_18k": 2 * count_of(row.get("RAMB36", "0"), what=what)
                + count_of(row.get("RAMB18", "0"), what=what),
                "uram": count_of(row.get("URAM", "0"), what=what),
            }
            check_counts(metrics, origin=origin)
            state = re.search(r"^\| Design State\s*:\s*(.+)", text, re.MULTILINE)
            stage, rank = _stage_of(state[1].rstrip(" |") if state else "Routed", origin=origin)
            return {
                "stage": stage, "rank": rank, "design": cells[0], "part": None, "tool_version": None, "metrics": metrics,
            }  # fmt: skip
    raise ReportError(f"{origin}: the hierarchical utilization table has no row '(top)'; truncated")


def parse_export_rpt(text: str, *, origin: str) -> dict[str, Any]:
    """Read HLS' summary of Vivado runs: `<top>_export.rpt`, `export_syn.rpt`, `export_impl.rpt`.

    Returns:
        `part`, `tool_version`, `clock_period_ns`, and `vsynth` and/or `implemented` with their metrics and
        `clock_achieved_ns`.

    Raises:
        ReportError: it is not such a report, or counts nothing.
    """
    blocks = re.findall(
        r"(?:#=== |== )(?:Post-|RTL )(Synthesis|Implementation) Resource (?:usage|Summary)[^\n]*\n(.*?)(?=^#?===|\Z)",
        re.sub(r"^=+\n(?=LUT)", "", text.replace("\r\n", "\n"), flags=re.MULTILINE),
        re.MULTILINE | re.DOTALL,
    )
    # Vivado HLS heads the only block "Resource usage"; its stage is the last timing line's.
    if not blocks:
        block = re.search(
            r"#=== Resource usage ===\n(.*?)(?=^#===|\Z)", text, re.MULTILINE | re.DOTALL
        )
        if not block:
            raise ReportError(
                f"{origin}: no resource summary of Vivado; the report is truncated, localised or foreign"
            )
        stage = "Implementation" if "post-implementation" in text else "Synthesis"
        blocks = [(stage, block[1])]
    result: dict[str, Any] = {}
    for stage, body in blocks:
        counts = dict(re.findall(r"^(LUT|FF|DSP|BRAM|URAM):\s*(\S+)", body, re.MULTILINE))
        if not {"LUT", "FF", "DSP"} <= set(counts):
            raise ReportError(
                f"{origin}: the resource summary lacks LUT, FF or DSP; the report is truncated"
            )
        what = f"{origin}: {stage}"
        metrics: dict[str, Any] = {
            "lut": count_of(counts["LUT"], what=what),
            "ff": count_of(counts["FF"], what=what),
            "dsp": count_of(counts["DSP"], what=what),
            # HLS counts RAMB18 here: 20 beside ten RAMB36 in the utilization report of the same run.
            "bram_18k": count_of(counts.get("BRAM", "0"), what=what),
            "uram": count_of(counts.get("URAM", "0"), what=what),
        }
        check_counts(metrics, origin=origin)
        achieved = re.search(rf"CP achieved post-{stage.lower()}:\s*(\S+)", text)
        achieved = achieved or re.search(
            r"^\|\s*Post-(?:Route|Synthesis)\s*\|\s*([\d.,]+)", text, re.MULTILINE
        )
        if achieved:
            metrics["clock_achieved_ns"] = period_ns_of(achieved[1], what=f"{what}: achieved clock")
        result["vsynth" if stage == "Synthesis" else "implemented"] = metrics
    target = re.search(
        r"(?:CP required:|RTL Synthesis target clock:|Implementation target clock:)\s*([\d.,]+)",
        text,
    )
    part = re.search(r"(?:Device target:|Target device:)\s*(\S+)", text)
    version = re.search(r"(?:Vivado v\.|Version:\s*)(\d{4}\.\d+(?:\.\d+)?)", text)
    result |= {
        "part": part[1] if part else None,
        "tool_version": version[1] if version else None,
        "clock_period_ns": period_ns_of(target[1], what=f"{origin}: target clock")
        if target
        else None,
    }
    return result


def parse_timing_rpt(text: str, *, origin: str, period_ns: float | None = None) -> dict[str, Any]:
    """Read `report_timing_summary`: worst negative slack and the period of the design's clock.

    Args:
        text: the file.
        origin: where it came from, for messages.
        period_ns: period that HLS was given; it tells the design's clock among several.

    Returns:
        `wns_ns` (of that clock alone where the report lists clocks one by one); `clock_period_ns` where
        the clock table gives it; `stage` and `rank` as `parse_utilization_rpt`, None and 0 where no state is given.

    Raises:
        ReportError: it is not such a report, or has several clocks and none that is known to be the design's.
    """
    header = re.search(r"^\s*WNS\(ns\)\s+TNS\(ns\)[^\n]*\n\s*-[-\s]*\n\s*(\S+)", text, re.MULTILINE)
    if not header:
        raise ReportError(
            f"{origin}: no WNS in a design timing summary; the report is truncated, localised or foreign"
        )
    state = re.search(r"^\| Design State\s*:\s*(.+?)\s*\|?\s*$", text, re.MULTILINE)
    stage, rank = _stage_of(state[1], origin=origin) if state else (None, 0.0)
    result: dict[str, Any] = {"wns_ns": header[1], "stage": stage, "rank": rank}
    clocks = {
        name: period_ns_of(period, what=f"{origin}: clock period of {name}")
        for name, period in re.findall(
            r"^\s*(\S+)\s+\{[^}]*\}\s+([\d.,]+)\s+[\d.,]+\s*$", text, re.MULTILINE
        )
    }
    if clocks:
        name = _own_clock(clocks, period_ns, origin=origin)
        result["clock_period_ns"] = clocks[name]
        # the table of clocks has a line per clock: name, WNS, TNS, ...
        own = re.search(
            rf"^\s*{re.escape(name)}\s+(-?\d+\.\d+)\s+-?\d+\.\d+\s+\d+\s+\d+", text, re.MULTILINE
        )
        if own:
            result["wns_ns"] = own[1]
    result["wns_ns"] = decimal_of(result["wns_ns"], what=f"{origin}: WNS")
    return result


def _own_clock(clocks: Mapping[str, float], period_ns: float | None, *, origin: str) -> str:
    """Return the name of the clock that drives the design."""
    if len(clocks) == 1:
        return next(iter(clocks))
    for name in ("ap_clk", "clk", "ap_clk_0"):
        if name in clocks:
            return name
    # 2 %: reports print periods rounded to picoseconds, of frequencies in whole megahertz
    equal = [n for n, p in clocks.items() if period_ns and abs(p - period_ns) <= 0.02 * period_ns]
    if len(equal) == 1:
        return equal[0]
    raise ReportError(
        f"{origin}: {len(clocks)} clocks ({', '.join(list(clocks)[:3])}, ...) and none that is known to be the "
        "design's; expected ap_clk or one of its period"
    )
