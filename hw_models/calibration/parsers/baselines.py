"""Reports that are JSON already: hls4ml's baselines, oneAPI's and Quartus' reports, text of hls4ml's Quartus parser."""

import json
import re
from collections.abc import Mapping
from typing import Any

from hw_models.calibration.parsers.csynth import check_counts
from hw_models.calibration.parsers.errors import ReportError
from hw_models.calibration.parsers.numbers import count_of, count_or_none, period_ns_of
from hw_models.calibration.parsers.strict_json import load_json

_CSYNTH = {
    "LUT": "lut",
    "FF": "ff",
    "DSP": "dsp",
    "DSP48E": "dsp",
    "BRAM_18K": "bram_18k",
    "URAM": "uram",
}


def _count(value: object, *, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ReportError(f"{what} is {value!r}; expected a whole number; the report is damaged")
    if isinstance(value, float):
        if not value.is_integer():
            raise ReportError(
                f"{what} is {value!r}; expected a whole number; the report is damaged"
            )
        value = int(value)
    return count_of(str(value), what=what)


def parse_hls4ml_json(text: str, *, origin: str) -> dict[str, Any]:
    """Read the dictionary that hls4ml's report parsers return, as JSON (also its test baselines).

    Returns:
        As `csynth.parse_csynth_xml` without `top`; `vsynth` and `cosim` where present; `problems`, why a
        cosimulation was left out.

    Raises:
        ReportError: it is not such a dictionary.
    """
    data = load_json(text, origin=origin)
    if not isinstance(data, Mapping):
        raise ReportError(
            f"{origin}: a JSON {type(data).__name__}, expected an object with hls4ml's report sections"
        )
    if isinstance(data.get("CSynthesisReport"), Mapping):
        return _xilinx(data, origin=origin)
    reports = [value for value in data.values() if isinstance(value, Mapping) and "HLS" in value]
    if len(reports) == 1:
        return _oneapi(reports[0], origin=origin)
    raise ReportError(
        f"{origin}: neither CSynthesisReport nor an oneAPI HLS section; not an hls4ml report"
    )


def _xilinx(data: Mapping[str, Any], *, origin: str) -> dict[str, Any]:
    section = data["CSynthesisReport"]
    metrics: dict[str, Any] = {}
    for key, name in _CSYNTH.items():
        if key in section:
            metrics[name] = _count(section[key], what=f"{origin}: {key}")
    for name in ("lut", "ff", "dsp"):
        if name not in metrics:
            raise ReportError(
                f"{origin}: CSynthesisReport has no {name.upper()}; the report is damaged"
            )
    for key, name in (
        ("BestLatency", "latency_cycles_min"), ("WorstLatency", "latency_cycles_max"),
        ("IntervalMin", "interval_cycles_min"), ("IntervalMax", "interval_cycles_max"),
    ):  # fmt: skip
        value = section.get(key)
        metrics[name] = (
            None if value is None else count_or_none(str(value), what=f"{origin}: {key}")
        )
    check_counts(metrics, origin=origin)
    if "TargetClockPeriod" not in section:
        raise ReportError(
            f"{origin}: CSynthesisReport has no TargetClockPeriod; the report is damaged"
        )
    estimated = section.get("EstimatedClockPeriod")
    result: dict[str, Any] = {
        "clock_period_ns": period_ns_of(
            str(section["TargetClockPeriod"]), what=f"{origin}: target clock"
        ),
        "clock_estimated_ns": period_ns_of(str(estimated), what=f"{origin}: estimated clock")
        if estimated
        else None,
        "csynth": metrics,
    }
    synth = data.get("VivadoSynthReport")
    if isinstance(synth, Mapping) and synth:
        # hls4ml copies "Block RAM Tile" under the name BRAM_18K: a tile is two RAMB18.
        counts = {_CSYNTH[key]: value for key, value in synth.items() if key in _CSYNTH}
        tiles = counts.pop("bram_18k", None)
        result["vsynth"] = {
            name: _count(value, what=f"{origin}: {name}") for name, value in counts.items()
        }
        if tiles is not None:
            result["vsynth"]["bram_18k"] = (
                round(2 * float(tiles)) if re.fullmatch(r"\d+(\.\d)?", str(tiles)) else None
            )
        check_counts(result["vsynth"], origin=f"{origin}: VivadoSynthReport")
    cosim = data.get("CosimReport")
    if isinstance(cosim, Mapping) and str(cosim.get("Status", "")).lower() == "pass":
        try:
            result["cosim"] = _cosim(cosim, origin=origin)
        except ReportError as error:  # the rest of the report does not depend on it
            result["problems"] = [str(error)]
    return result


def _cosim(section: Mapping[str, Any], *, origin: str) -> dict[str, Any]:
    """Read what the RTL simulation measured; NA where it saw no transaction."""
    found: dict[str, Any] = {"status": "Pass"}
    for name, key in (("latency_cycles_min", "LatencyMin"), ("latency_cycles_max", "LatencyMax")):
        cycles = count_or_none(str(section.get(key)), what=f"{origin}: cosim {key}")
        if cycles is not None:
            found[name] = cycles
    return found


def _oneapi(data: Mapping[str, Any], *, origin: str) -> dict[str, Any]:
    hls = data["HLS"]
    total = hls.get("total") if isinstance(hls, Mapping) else None
    if not isinstance(total, Mapping):
        raise ReportError(f"{origin}: the oneAPI section HLS has no totals; the report is damaged")
    loop = data.get("Loop") if isinstance(data.get("Loop"), Mapping) else {}
    return {"tool": "oneAPI", **_intel(total, loop or {}, origin=origin)}


def _intel(total: Mapping[str, Any], loop: Mapping[str, Any], *, origin: str) -> dict[str, Any]:
    metrics: dict[str, Any] = {}
    for key, name in (
        ("alut", "lut"),
        ("reg", "ff"),
        ("dsp", "dsp"),
        ("ram", "m20k"),
        ("mlab", "mlab"),
    ):
        if key not in total:
            raise ReportError(f"{origin}: the oneAPI totals have no {key}; the report is damaged")
        metrics[name] = _count(total[key], what=f"{origin}: {key}")
    # An M20K is no RAMB18; leave the Xilinx count unknown rather than wrong.
    metrics["bram_18k"] = None
    check_counts(metrics, origin=origin)
    latency, interval = loop.get("worstLatency"), loop.get("worstII")
    if latency is not None:
        cycles = _count(
            float(latency) if _is_number(latency) else latency, what=f"{origin}: worst latency"
        )
        metrics |= {"latency_cycles_min": cycles, "latency_cycles_max": cycles}
    if interval is not None:
        cycles = _count(interval, what=f"{origin}: worst II")
        metrics |= {"interval_cycles_min": cycles, "interval_cycles_max": cycles}
    frequency = loop.get("worstFrequency")
    period = (
        period_ns_of(f"{frequency} MHz", what=f"{origin}: worst frequency")
        if frequency is not None and _is_number(frequency) and 0 < float(frequency) < 1e5
        else None
    )
    return {"clock_period_ns": None, "clock_estimated_ns": period, "csynth": metrics}


def _is_number(value: object) -> bool:
    return bool(re.fullmatch(r"\d+(\.\d+)?([eE]\+?\d+)?", str(value)))


def parse_oneapi_ndjson(summary: str, loops: str, *, origin: str) -> dict[str, Any]:
    """Read oneAPI's `summary.ndjson` and `loop_attr.ndjson` as hls4ml does: totals, worst II and latency.

    Raises:
        ReportError: the files have no totals.
    """
    total: dict[str, Any] | None = None
    for line in summary.splitlines():
        if not line.strip():
            continue
        row = load_json(line, origin=origin)
        if (
            isinstance(row, Mapping)
            and row.get("name") == "Total"
            and isinstance(row.get("data"), list)
        ):
            total = dict(zip(("alut", "reg", "ram", "dsp", "mlab"), row["data"], strict=False))
    if total is None:
        raise ReportError(
            f"{origin}: summary.ndjson has no line named Total; the report is truncated or foreign"
        )
    interval, latency, frequency = 0, 0.0, None
    for line in loops.splitlines():
        row = load_json(line, origin=origin) if line.strip() else None
        if not isinstance(row, Mapping) or not {"af", "ii", "lt"} <= set(row):
            continue
        if _is_number(row["ii"]):
            interval = max(interval, int(float(row["ii"])))
        if _is_number(row["lt"]):
            latency = max(latency, float(row["lt"]))
        if _is_number(row["af"]):
            frequency = min(frequency or float("inf"), float(row["af"]))
    loop: dict[str, Any] = {"worstFrequency": frequency}
    if interval:
        loop["worstII"] = interval
    if latency:
        loop["worstLatency"] = float(round(latency))
    return {"tool": "oneAPI", **_intel(total, loop, origin=origin)}


def parse_quartus_js(text: str, *, origin: str) -> dict[str, Any]:
    """Read `reports/lib/report_data.js` of Intel's HLS compiler (the hls4ml back end Quartus).

    hls4ml's own parser needs a JavaScript parser and prints while it reads; the one statement that
    matters, `var areaJSON={...};`, is JSON.

    Raises:
        ReportError: there is no such statement.
    """
    match = re.search(r"var areaJSON\s*=\s*", text)
    if not match:
        raise ReportError(
            f"{origin}: no statement 'var areaJSON'; not a report of Intel's HLS compiler"
        )
    try:
        area, _ = json.JSONDecoder().raw_decode(text, match.end())
    except (ValueError, RecursionError) as error:
        raise ReportError(
            f"{origin}: areaJSON is not JSON ({error}); the report is truncated"
        ) from error
    total = area.get("total") if isinstance(area, Mapping) else None
    if not isinstance(total, list) or len(total) < 5:
        raise ReportError(
            f"{origin}: areaJSON has no five totals; the report is truncated or foreign"
        )
    names = dict(zip(("alut", "reg", "ram", "dsp", "mlab"), total, strict=False))
    return {"tool": "Quartus", **_intel(names, {}, origin=origin)}
