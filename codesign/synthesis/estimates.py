"""The work behind `codesign estimate`: designs of any kind to estimates, in all and layer by layer."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codesign.errors import CalibrationError, ConfigError, DesignError, ReportError, unknown_name
from codesign.files import write_atomically
from codesign.tools import cache_folder
from hw_models.calibration import Coefficients, estimate_records, load_coefficients, load_records
from hw_models.calibration.parsers import read_project
from hw_models.calibration.records import batch_records, lower_record
from hw_models.compose import estimate
from hw_models.errors import ModelError
from hw_models.types import METRICS

if TYPE_CHECKING:
    from rich.table import Table

#: Stages that an estimate can speak of.
STAGES = ("csynth", "vsynth", "implemented")

#: Compiler behind each hls4ml back end.
_TOOLS = {
    "vitis": "Vitis HLS", "vitisunified": "Vitis HLS", "vivado": "Vivado HLS", "vivadoaccelerator": "Vivado HLS",
    "quartus": "Quartus", "oneapi": "oneAPI", "catapult": "Catapult", "libero": "Libero",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class LayerShare:
    """What one layer contributes.

    Attributes:
        name: the layer's.
        kind: its type.
        metrics: contribution per metric; shares of latency do not add up in a dataflow design.
    """

    name: str
    kind: str
    metrics: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class DesignEstimate:
    """An estimate of one design.

    Attributes:
        summary: one line of `codesign estimate --output`: values, intervals, notes.
        layers: shares, in the order of the network.
        clock_period_ns: clock the design is expected to reach, None when nothing supports the design.
    """

    summary: Mapping[str, Any]
    layers: tuple[LayerShare, ...]
    clock_period_ns: float | None


def user_coefficients_folder() -> Path:
    """Return where `codesign calibrate` keeps a user's coefficients."""
    return cache_folder() / "coefficients"


def latest_user_coefficients() -> Path | None:
    """Return the user's newest coefficients file, or None."""
    files = sorted(user_coefficients_folder().glob("coefficients-*.json"))
    return files[-1] if files else None


def open_coefficients(path: Path | None) -> tuple[Coefficients, str]:
    """Load coefficients: a given file, else the user's newest, else those that ship.

    Returns:
        The coefficients and where they come from.

    Raises:
        CalibrationError: the file cannot be used.
    """
    chosen = path or latest_user_coefficients()
    try:
        return load_coefficients(chosen), "shipped with codesign" if chosen is None else str(chosen)
    except ModelError as error:
        raise CalibrationError(str(error)) from error


def check_stage(stage: str) -> None:
    """Check the name of a stage.

    Raises:
        ConfigError: unknown.
    """
    if stage not in STAGES:
        raise ConfigError(unknown_name("stage", stage, STAGES))


def project_record(folder: Path) -> dict[str, Any]:
    """Describe an hls4ml project, reports or not, as a synthesis record.

    Raises:
        ReportError: it cannot be read.
        DesignError: its firmware holds no layer.
    """
    try:
        project = read_project(folder)
    except ModelError as error:
        raise ReportError(str(error)) from error
    if not project["layers"]:
        raise DesignError(
            f"{folder}: no layer in firmware/*.cpp; write the project with hls4ml first"
        )
    backend = str(project.get("backend") or "vitis")
    return {
        "schema": 1,
        "id": folder.resolve().name,
        "source": "hls4ml project",
        "tool": _TOOLS.get(backend.lower(), backend),
        "tool_version": None,
        **{key: value for key, value in project.items() if key not in ("top", "config_numbers")},
        "part": project.get("part") or "hls4ml",
        "clock_period_ns": project.get("clock_period_ns") or 5.0,
    }


def _operations_per_layer(record: Mapping[str, Any]) -> list[dict[str, int]]:
    """Count, per layer, the operations of each primitive that it lowers to.

    Lowering goes layer by layer in order, so the operations of the first k layers are the first ones.
    """
    counts: list[dict[str, int]] = []
    before: dict[str, int] = {}
    layers = record["layers"]
    for n_layers in range(1, len(layers) + 1):
        rows = lower_record({**record, "layers": layers[:n_layers]}).rows
        now = {name: len(operations) for name, operations in rows.items()}
        counts.append(
            {name: n - before.get(name, 0) for name, n in now.items() if n > before.get(name, 0)}
        )
        before = now
    return counts


def estimate_design(
    record: Mapping[str, Any], *, stage: str = "csynth", coefficients: Coefficients | None = None
) -> DesignEstimate:
    """Estimate one design, with its layers' shares.

    Raises:
        ConfigError: unknown stage.
    """
    check_stage(stage)
    (summary,) = estimate_records([record], stage, coefficients)
    if not summary["supported"]:
        return DesignEstimate(summary=summary, layers=(), clock_period_ns=None)
    lowered = lower_record(record)
    ((_, batch),) = batch_records([record], [lowered])
    metrics = estimate(batch, coefficients, stage=stage, with_per_op=True)
    position: dict[str, int] = {}
    shares = []
    for layer, counts in zip(record["layers"], _operations_per_layer(record), strict=True):
        total = dict.fromkeys(METRICS, 0.0)
        for primitive, n in counts.items():
            start = position.get(primitive, 0)
            position[primitive] = start + n
            for metric in METRICS:
                values = metrics.per_op[primitive][metric][start : start + n]
                if metric == "interval_cycles":
                    total[metric] = max(total[metric], float(values.max(initial=0.0)))
                else:
                    total[metric] += float(values.sum())
        shares.append(
            LayerShare(name=str(layer.get("name")), kind=str(layer["type"]), metrics=total)
        )
    return DesignEstimate(
        summary=summary, layers=tuple(shares), clock_period_ns=float(metrics.clock_period_ns[0])
    )


def estimate_file(
    records_path: Path, output: Path, *, stage: str, coefficients: Coefficients | None = None
) -> tuple[int, int]:
    """Estimate every record of a JSONL file into another, one line each, in order.

    Returns:
        How many records there are, and how many of them are supported.

    Raises:
        ConfigError: unknown stage.
        ReportError: the file cannot be read.
    """
    check_stage(stage)
    try:
        records = load_records([records_path])
        results = estimate_records(records, stage, coefficients)
    except ModelError as error:
        raise ReportError(str(error)) from error
    write_atomically(output, "".join(json.dumps(result) + "\n" for result in results))
    return len(results), sum(result["supported"] for result in results)


def estimate_json(estimates: Sequence[DesignEstimate]) -> list[dict[str, Any]]:
    """Return estimates as JSON-ready objects, layers included."""
    return [
        dict(item.summary)
        | {
            "clock_period_ns": item.clock_period_ns,
            "layers": [
                {
                    "name": share.name,
                    "type": share.kind,
                    **{k: round(v, 2) for k, v in share.metrics.items()},
                }
                for share in item.layers
            ],
        }
        for item in estimates
    ]


def estimate_tables(item: DesignEstimate) -> "list[Table]":
    """Tabulate one estimate: totals with 90 % intervals, then the layers' shares."""
    from rich.table import Table

    title = f"{item.summary['id']}: predicted {item.summary['stage']}"
    total = Table("metric", "value", "90 % interval", title=title)
    for metric in METRICS:
        known = item.summary[metric]
        if known is not None:
            total.add_row(metric, f"{known['value']:,}", f"{known['low']:,} to {known['high']:,}")
    if not item.layers:
        return [total]
    layers = Table(
        "layer", "type", "latency", "II", "LUT", "FF", "DSP", "BRAM18", title="share of each layer"
    )
    for share in item.layers:
        layers.add_row(
            share.name, share.kind, *(f"{share.metrics[metric]:,.0f}" for metric in METRICS)
        )
    return [total, layers]
