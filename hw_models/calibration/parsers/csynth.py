"""HLS reports of Vivado HLS (2016 on) and Vitis HLS (to 2025), text and XML, and cosimulation reports."""

import re
from collections.abc import Mapping
from typing import Any
from xml.etree.ElementTree import Element, ParseError

from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from hw_models.calibration.parsers.errors import ReportError
from hw_models.calibration.parsers.numbers import (
    count_of,
    count_or_none,
    period_ns_of,
    uncertainty_ns_of,
)

_RESOURCES = {
    "BRAM_18K": "bram_18k",
    "DSP": "dsp",
    "DSP48E": "dsp",
    "FF": "ff",
    "LUT": "lut",
    "URAM": "uram",
}


#: How hls4ml and its users name the function around a network: by the network's name and one of these.
_WRAPPER = re.compile(r"(.+?)_(?:axi|axis|axim|axi_master|axi_stream|axi_wrapper|wrapper|gmem)")


def network_in(function: str) -> str | None:
    """Return the name of the network that a function named as a wrapper is around, None for any other name."""
    match = _WRAPPER.fullmatch(function)
    return match[1] if match else None


def check_counts(metrics: Mapping[str, Any], *, origin: str) -> None:
    """Refuse a report that counts nothing where there must be something: an unfinished run, never a free design.

    Raises:
        ReportError: LUT are zero or missing; or flip-flops are, though the design takes cycles.
    """
    if not metrics.get("lut"):
        raise ReportError(
            f"{origin}: counts no LUT, so the run did not finish or the design is a black box; synthesise again"
        )
    low, high = metrics.get("latency_cycles_min"), metrics.get("latency_cycles_max")
    if not metrics.get("ff") and (high or low or "ff" not in metrics):
        raise ReportError(
            f"{origin}: counts no flip-flop in a design of {high} cycles; the report is damaged or of another run"
        )
    if low is not None and high is not None and low > high:
        raise ReportError(
            f"{origin}: minimum latency {low} above maximum {high}; the report is damaged"
        )
    low, high = metrics.get("interval_cycles_min"), metrics.get("interval_cycles_max")
    if low is not None and high is not None and low > high:
        raise ReportError(
            f"{origin}: minimum interval {low} above maximum {high}; the report is damaged"
        )


def _text(node: Element, path: str) -> str | None:
    found = node.find(path)
    return None if found is None or found.text is None else found.text.strip()


def _required(node: Element, path: str, *, origin: str) -> str:
    value = _text(node, path)
    if not value:
        raise ReportError(
            f"{origin}: element {path} is missing or empty; the report is truncated or foreign"
        )
    return value


def parse_csynth_xml(content: bytes, *, origin: str) -> dict[str, Any]:
    """Read a `csynth.xml` or `<top>_csynth.xml`.

    Args:
        content: the file; entities and document types are refused.
        origin: where it came from, for messages.

    Returns:
        Keys `tool`, `tool_version`, `part`, `top`, `clock_*_ns` and `csynth` (the stage's metrics).

    Raises:
        ReportError: it is not such a report.
    """
    try:
        root = ElementTree.fromstring(content, forbid_dtd=True)
    except DefusedXmlException as error:
        raise ReportError(
            f"{origin}: XML with a document type or entities is refused ({error!r}); remove it"
        ) from error
    except (ParseError, ValueError, LookupError, RecursionError) as error:
        raise ReportError(
            f"{origin}: not well-formed XML ({error}); the report is truncated, synthesise again"
        ) from error
    if root.tag != "profile":
        raise ReportError(
            f"{origin}: root element is {root.tag!r}, expected 'profile' (Vivado or Vitis HLS csynth.xml)"
        )
    unit = (_text(root, "UserAssignments/unit") or "ns").lower()
    period_ns = period_ns_of(
        _required(root, "UserAssignments/TargetClockPeriod", origin=origin),
        what=f"{origin}: target clock", default_unit=unit,
    )  # fmt: skip
    estimated = _text(root, "PerformanceEstimates/SummaryOfTimingAnalysis/EstimatedClockPeriod")
    uncertainty = _text(root, "UserAssignments/ClockUncertainty")
    version = _required(root, "ReportVersion/Version", origin=origin)
    resources = root.find("AreaEstimates/Resources")
    if resources is None:
        raise ReportError(
            f"{origin}: element AreaEstimates/Resources is missing; the report is truncated or foreign"
        )
    metrics: dict[str, Any] = _xml_performance(root, origin=origin)
    for child in resources:
        if child.tag in _RESOURCES:
            metrics[_RESOURCES[child.tag]] = count_of(
                child.text or "", what=f"{origin}: {child.tag}"
            )
    for name in ("lut", "ff", "dsp"):
        if name not in metrics:
            raise ReportError(
                f"{origin}: the resources name no {name.upper()}; the report is truncated or foreign"
            )
    metrics.setdefault("bram_18k", 0)
    metrics["pipeline_type"] = _text(root, "PerformanceEstimates/PipelineType")
    check_counts(metrics, origin=origin)
    # Vitis HLS writes FlowTarget; Vivado HLS never did.
    is_vitis = root.find("UserAssignments/FlowTarget") is not None
    return {
        "tool": "Vitis HLS" if is_vitis else "Vivado HLS",
        "tool_version": version,
        "part": _text(root, "UserAssignments/Part"),
        "top": _required(root, "UserAssignments/TopModelName", origin=origin),
        "clock_period_ns": period_ns,
        "clock_uncertainty_ns": None
        if uncertainty is None
        else uncertainty_ns_of(uncertainty, period_ns, what=f"{origin}: clock uncertainty"),
        "clock_estimated_ns": None
        if not estimated or estimated.lower() in ("n/a", "undef")
        else period_ns_of(estimated, what=f"{origin}: estimated clock", default_unit=unit),
        "csynth": metrics,
    }


def _xml_performance(root: Element, *, origin: str) -> dict[str, Any]:
    base = "PerformanceEstimates/SummaryOfOverallLatency/"
    names = {
        "latency_cycles_min": "Best-caseLatency",
        "latency_cycles_max": "Worst-caseLatency",
        "interval_cycles_min": "Interval-min",
        "interval_cycles_max": "Interval-max",
    }
    unit = _text(root, base + "unit")
    if unit is not None and unit.lower() not in ("clock cycles", "cycles"):
        raise ReportError(
            f"{origin}: latency is in {unit!r}, expected clock cycles; the report is foreign"
        )
    return {
        key: count_or_none(_text(root, base + tag), what=f"{origin}: {tag}")
        for key, tag in names.items()
    }


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _section(text: str, heading: str, *, origin: str) -> str:
    match = re.search(
        rf"^== {heading}[^\n]*\n=+\n(.*?)(?=^=+\n== |\Z)", text, re.MULTILINE | re.DOTALL
    )
    if not match:
        raise ReportError(
            f"{origin}: no section '{heading}'; the report is truncated, localised or foreign"
        )
    return match[1]


def parse_csynth_rpt(text: str, *, origin: str) -> dict[str, Any]:
    """Read a `<top>_csynth.rpt`.

    Returns:
        As `parse_csynth_xml`, plus `modules`: the metrics of each instance.

    Raises:
        ReportError: it is not such a report.
    """
    text = text.replace("\r\n", "\n")
    title = re.search(r"^== (Vivado|Vitis) HLS Report for '([^'\n]+)'", text, re.MULTILINE)
    if not title:
        raise ReportError(
            f"{origin}: no title 'Vivado|Vitis HLS Report for'; the report is foreign, localised or empty"
        )
    version = re.search(r"^\* Version:\s*(\d{4}\.\d+(?:\.\d+)?)", text, re.MULTILINE)
    if not version:
        raise ReportError(
            f"{origin}: no tool version in the header; the report is truncated or localised"
        )
    part = re.search(r"^\* Target device:\s*(\S+)", text, re.MULTILINE)
    performance = _section(text, "Performance Estimates", origin=origin)
    utilization = _section(text, "Utilization Estimates", origin=origin)
    result: dict[str, Any] = {
        "tool": f"{title[1]} HLS",
        "tool_version": version[1],
        "part": part[1] if part else None,
        "top": title[2],
        **_rpt_clock(performance, origin=origin),
    }
    metrics = _rpt_latency(performance, origin=origin) | _rpt_resources(utilization, origin=origin)
    check_counts(metrics, origin=origin)
    result["csynth"] = metrics
    result["modules"] = _rpt_modules(performance, utilization, origin=origin)
    return result


def _rpt_clock(section: str, *, origin: str) -> dict[str, Any]:
    row = re.search(
        r"^\s*\|\s*Clock\s*\|([^\n]*)\n\s*\+[-+]+\n\s*\|([^\n]*)", section, re.MULTILINE
    )
    if not row:
        raise ReportError(
            f"{origin}: no clock table under Timing; the report is truncated or localised"
        )
    names, values = ["clock", *_cells(row[1])], _cells(row[2])
    table = dict(zip((name.lower() for name in names), values, strict=False))
    unit_match = re.search(r"Timing \((\w+)\)", section)
    unit = unit_match[1] if unit_match else "ns"
    if "target" not in table:
        raise ReportError(
            f"{origin}: the clock table has no column Target; the report is localised or foreign"
        )
    period_ns = period_ns_of(table["target"], what=f"{origin}: target clock", default_unit=unit)
    estimated = table.get("estimated", "")
    uncertainty = table.get("uncertainty", "")
    return {
        "clock_period_ns": period_ns,
        "clock_uncertainty_ns": uncertainty_ns_of(
            uncertainty, period_ns, what=f"{origin}: uncertainty"
        )
        if uncertainty
        else None,
        "clock_estimated_ns": period_ns_of(
            estimated, what=f"{origin}: estimated clock", default_unit=unit
        )
        if re.search(r"\d", estimated)
        else None,
    }


def _rpt_latency(section: str, *, origin: str) -> dict[str, Any]:
    rows = re.search(
        r"^\s*\|[ \t]*min[ \t]*\|[ \t]*max[ \t]*\|([^\n]*)\n\s*\+[-+]+\n\s*\|([^\n]*)",
        section,
        re.MULTILINE,
    )
    if not rows:
        raise ReportError(f"{origin}: no latency summary; the report is truncated or localised")
    names, values = ["min", "max", *_cells(rows[1])], _cells(rows[2])
    if len(names) != len(values) or len(values) < 5:
        raise ReportError(
            f"{origin}: the latency summary has {len(values)} values under {len(names)} columns; damaged"
        )
    # min | max [| absolute min | absolute max] | interval min | interval max | type
    low, high, type_name = values[-3], values[-2], values[-1]
    what = f"{origin}: latency summary"
    return {
        "latency_cycles_min": count_or_none(values[0], what=what),
        "latency_cycles_max": count_or_none(values[1], what=what),
        "interval_cycles_min": count_or_none(low, what=what),
        "interval_cycles_max": count_or_none(high, what=what),
        "pipeline_type": type_name or None,
    }


def _rpt_resources(section: str, *, origin: str) -> dict[str, Any]:
    header = re.search(r"^\s*\|\s*Name\s*\|([^\n]*)", section, re.MULTILINE)
    total = re.search(r"^\s*\|\s*Total\s*\|([^\n]*)", section, re.MULTILINE)
    if not header or not total:
        raise ReportError(
            f"{origin}: no row Total in the utilization summary; the report is truncated or localised"
        )
    names, values = _cells(header[1]), _cells(total[1])
    if len(names) != len(values):
        raise ReportError(
            f"{origin}: the row Total has {len(values)} values under {len(names)} columns; damaged"
        )
    metrics = {
        _RESOURCES[name]: count_of(value, what=f"{origin}: total {name}")
        for name, value in zip(names, values, strict=True)
        if name in _RESOURCES
    }
    for name in ("lut", "ff", "dsp"):
        if name not in metrics:
            raise ReportError(
                f"{origin}: the utilization summary names no {name.upper()}; localised or foreign"
            )
    metrics.setdefault("bram_18k", 0)
    return metrics


def _rpt_modules(performance: str, utilization: str, *, origin: str) -> list[dict[str, Any]]:
    """Read the instance tables; a report without them (or with a damaged one) has no modules."""
    modules: dict[str, dict[str, Any]] = {}
    table = re.search(r"\* Instance:\s*\n(.*?)(?=\n\s*\* |\Z)", performance, re.DOTALL)
    for line in table[1].splitlines() if table else ():
        cells = _cells(line) if line.strip().startswith("|") else []
        if len(cells) >= 7 and re.fullmatch(r"\d+", cells[2]):
            what = f"{origin}: instance {cells[0]}"
            modules[cells[0]] = {
                "module": cells[1],
                "latency_cycles_min": count_or_none(cells[2], what=what),
                "latency_cycles_max": count_or_none(cells[3], what=what),
                "interval_cycles_min": count_or_none(cells[-3], what=what),
                "interval_cycles_max": count_or_none(cells[-2], what=what),
                "pipeline_type": cells[-1],
            }
    table = re.search(r"\* Instance:\s*\n(.*?)(?=\n\s*\* |\Z)", utilization, re.DOTALL)
    names: list[str] = []
    for line in table[1].splitlines() if table else ():
        cells = _cells(line) if line.strip().startswith("|") else []
        if cells and cells[0] == "Instance":
            names = cells
        elif cells and len(cells) == len(names) and cells[0] in modules:
            for name, value in zip(names, cells, strict=True):
                if name in _RESOURCES:
                    modules[cells[0]][_RESOURCES[name]] = count_of(
                        value, what=f"{origin}: instance {cells[0]}"
                    )
    return [module for module in modules.values() if "lut" in module]


def parse_csynth_summary(text: str, *, origin: str, top: str | None = None) -> dict[str, Any]:
    """Read Vitis HLS' summary of a synthesis, `csynth.rpt`: one line per module.

    It gives no clock; where it gives a latency in cycles and in ns, their ratio is the target period.

    Args:
        text: the file.
        origin: where it came from, for messages.
        top: the function to read; by default the outermost one that is not a wrapper around another.

    Returns:
        As `parse_csynth_xml`, plus `modules`.

    Raises:
        ReportError: it is not such a report, or lacks the function.
    """
    text = text.replace("\r\n", "\n")
    title = re.search(r"^== Synthesis Summary Report of '([^'\n]+)'", text, re.MULTILINE)
    version = re.search(r"^\s*\* Version:\s*(\d{4}\.\d+(?:\.\d+)?)", text, re.MULTILINE)
    if not title or not version:
        raise ReportError(
            f"{origin}: no title 'Synthesis Summary Report of' or no version; the report is truncated or foreign"
        )
    part = re.search(r"^\s*\* Target device:\s*(\S+)", text, re.MULTILINE)
    rows = _summary_rows(text, origin=origin)
    inner = network_in(title[1])
    wanted = top or (inner if inner in rows else title[1])
    row = rows.get(wanted)
    if row is None:
        raise ReportError(
            f"{origin}: the table of modules has no line for {wanted}; the report is truncated or foreign"
        )
    what = f"{origin}: {wanted}"
    metrics = _summary_metrics(row, what=what)
    for name in ("lut", "ff", "dsp"):
        if name not in metrics:
            raise ReportError(f"{what} has no column {name.upper()}; localised or foreign")
    check_counts(metrics, origin=origin)
    period_ns = None
    cycles, span = metrics["latency_cycles_max"], row.get("Latency (ns)", "")
    if cycles and re.fullmatch(r"\d+(?:\.\d*)?(?:e\+?\d{1,2})?", span):
        period_ns = round(float(span) / cycles, 3)
    return {
        "tool": "Vitis HLS",
        "tool_version": version[1],
        "part": part[1] if part else None,
        "top": wanted,
        "clock_period_ns": period_ns if period_ns and 0 < period_ns < 1e6 else None,
        "clock_uncertainty_ns": None,
        "clock_estimated_ns": None,
        "csynth": metrics,
        "modules": [
            {"module": name, **_summary_metrics(cells, what=f"{origin}: {name}")}
            for name, cells in rows.items()
            if name not in (wanted, title[1])
        ],
    }


def _summary_rows(text: str, *, origin: str) -> dict[str, dict[str, str]]:
    """Return the cells of each module's line, by the names of two lines of headings."""
    table = re.search(
        r"^[ \t]*\|[ \t]*Modules[ \t]*\|[^\n]*\n[^\n]*\|[^\n]*\n[^\n]*\n(?:[ \t]*\|[^\n]*\n?)*",
        text,
        re.MULTILINE,
    )
    if not table:
        raise ReportError(f"{origin}: no table of modules; the report is truncated or localised")
    first, second, _, *lines = table[0].splitlines()
    names = [
        f"{a} {b}".strip()
        for a, b in zip(_cells(first), [*_cells(second)] + [""] * 99, strict=False)
    ]
    rows: dict[str, dict[str, str]] = {}
    for line in lines:
        cells = _cells(line)
        module = re.fullmatch(r"\+\s*(\S+?)\*?", cells[0])
        if module and len(cells) == len(names):
            rows.setdefault(module[1], dict(zip(names, cells, strict=True)))
    return rows


def _summary_metrics(row: Mapping[str, str], *, what: str) -> dict[str, Any]:
    """Read one line of the summary; a dash is nothing, "undef" or "?" is not known."""
    latency, interval = (
        count_or_none(row.get(name), what=f"{what}: {name}")
        for name in ("Latency (cycles)", "Interval")
    )
    metrics: dict[str, Any] = {
        "latency_cycles_min": latency,
        "latency_cycles_max": latency,
        "interval_cycles_min": interval,
        "interval_cycles_max": interval,
        "pipeline_type": row.get("Pipelined") or None,
    }
    for column, name in (*_RESOURCES.items(), ("BRAM", "bram_18k")):
        if column in row:
            count = re.sub(r"\s*\(.*\)$", "", row[column])
            metrics[name] = count_of(count, what=f"{what}: {column}")
    return metrics


def parse_cosim_rpt(text: str, *, origin: str) -> dict[str, Any]:
    """Read a `<top>_cosim.rpt`: latency and interval of the RTL simulation.

    Raises:
        ReportError: no language passed, or it is not such a report.
    """
    statuses = []
    for line in text.splitlines():
        cells = _cells(line) if line.strip().startswith("|") else []
        if len(cells) < 8 or cells[0] not in ("VHDL", "Verilog"):
            continue
        statuses.append(cells[1])
        if cells[1].lower() != "pass":
            continue
        what = f"{origin}: {cells[0]}"
        latency_min, latency_max = (count_or_none(cells[i], what=what) for i in (2, 4))
        interval_min, interval_max = (count_or_none(cells[i], what=what) for i in (5, 7))
        result: dict[str, Any] = {"status": "Pass"}
        # without a transaction (a test bench that never starts the top) there is no latency to measure
        if latency_max is not None:
            result |= {"latency_cycles_min": latency_min, "latency_cycles_max": latency_max}
        # One transaction leaves the interval at 0 or NA: not measured.
        if interval_max:
            result |= {"interval_cycles_min": interval_min, "interval_cycles_max": interval_max}
        return result
    if statuses:
        raise ReportError(
            f"{origin}: cosimulation ended in {', '.join(statuses)}; nothing was measured"
        )
    raise ReportError(
        f"{origin}: no row for VHDL or Verilog; the report is truncated, localised or foreign"
    )
