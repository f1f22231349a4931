"""The work behind `codesign estimate`: designs of any kind to estimates, in all and layer by layer."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codesign.errors import CalibrationError, ConfigError, DesignError, ReportError, unknown_name
from codesign.export.rtl import solve_network
from codesign.files import write_atomically
from codesign.hardware.device import RESOURCES, Device
from codesign.hardware.scorer import HardwareScorer
from codesign.ir import QuantizedNetwork
from codesign.synthesis.coefficient_files import path_in_use
from hw_models.calibration import Coefficients, estimate_records, load_coefficients
from hw_models.calibration.estimate import estimate_documents, summarize
from hw_models.calibration.parsers import read_project, read_reports
from hw_models.compose import PREDICTED_STAGES, estimate, operation_shares
from hw_models.errors import ModelError
from hw_models.record_lowering import batch_records, lower_record
from hw_models.records import Record, load_documents, read_record
from hw_models.types import METRICS

if TYPE_CHECKING:
    from rich.table import Table

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


def open_coefficients(path: Path | None) -> tuple[Coefficients, str]:
    """Load coefficients: a given file, else the user's version in use, else those that ship.

    Returns:
        The coefficients and where they come from.

    Raises:
        CalibrationError: the file cannot be used.
    """
    chosen = path or path_in_use()
    try:
        return load_coefficients(chosen), "shipped with codesign" if chosen is None else str(chosen)
    except ModelError as error:
        raise CalibrationError(str(error)) from error


def check_stage(stage: str) -> None:
    """Check the name of a stage.

    Raises:
        ConfigError: unknown.
    """
    if stage not in PREDICTED_STAGES:
        raise ConfigError(unknown_name("stage", stage, PREDICTED_STAGES))


def project_record(folder: Path) -> Record:
    """Describe an hls4ml project, reports or not, as a synthesis record.

    Reports in it tell the tool and its version, which no other file of a project does, and a part that the
    project leaves open.

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
    told = _told_by_reports(folder)
    try:
        record = read_record({"schema": 1, **project}, where=str(folder))
    except ModelError as error:
        raise ReportError(str(error)) from error
    return replace(
        record,
        id=folder.resolve().name,
        source="hls4ml project",
        tool=told.get("tool") or _TOOLS.get(backend.lower(), backend),
        tool_version=told.get("tool_version"),
        part=record.part or told.get("part") or "hls4ml",
        clock_period_ns=record.clock_period_ns or 5.0,
        others={},
    )


def _told_by_reports(folder: Path) -> dict[str, str]:
    """Return the tool, its version and the part that all HLS reports of a project agree on."""
    reports = [report for report in read_reports(folder)[0] if report.get("csynth")]
    told = {}
    for key in ("tool", "tool_version", "part"):
        values = {report.get(key) for report in reports}
        if len(values) == 1 and (value := values.pop()):
            told[key] = str(value)
    return told


def _shares(
    rows: Iterable[Mapping[str, Any]], layers: Sequence[tuple[str, str]]
) -> tuple[LayerShare, ...]:
    """Sum what the operations of one design contribute, per layer.

    Args:
        rows: shares of its operations, as `operation_shares` returns them.
        layers: (name, kind) of each layer, in the order of the origins.
    """
    totals = [dict.fromkeys(METRICS, 0.0) for _ in layers]
    for row in rows:
        known = totals[row["origin"]]
        for metric in METRICS:
            both = known[metric], float(row[metric])
            known[metric] = max(both) if metric == "interval_cycles" else sum(both)
    return tuple(
        LayerShare(name=name, kind=kind, metrics=total)
        for (name, kind), total in zip(layers, totals, strict=True)
    )


def estimate_design(
    record: Record, *, stage: str = "csynth", coefficients: Coefficients | None = None
) -> DesignEstimate:
    """Estimate one design, with its layers' shares.

    Raises:
        ConfigError: unknown stage.
    """
    check_stage(stage)
    (summary,) = estimate_records([record], stage, coefficients)
    if not summary["supported"]:
        return DesignEstimate(summary=summary, layers=(), clock_period_ns=None)
    ((_, batch),) = batch_records([record], [lower_record(record)])
    metrics = estimate(batch, coefficients, stage=stage, with_per_op=True)
    (rows,) = operation_shares(batch.ops, metrics.per_op, 1)
    return DesignEstimate(
        summary=summary,
        layers=_shares(rows, [(str(layer.name), layer.type) for layer in record.layers]),
        clock_period_ns=float(metrics.clock_period_ns[0]),
    )


def estimate_network(
    network: QuantizedNetwork,
    device: Device,
    *,
    stage: str = "csynth",
    coefficients: Coefficients | None = None,
) -> DesignEstimate:
    """Estimate a trained candidate, as the search and its finalists are scored, with its layers' shares.

    Raises:
        ConfigError: unknown stage.
    """
    check_stage(stage)
    scorer = HardwareScorer(device=device, stage=stage, coefficients=coefficients)
    scores = scorer.score_quantized(
        [network], with_notes=True, with_nodes=True, solve=solve_network
    )
    shares = {r: scores.metrics[r].value / getattr(device, r) for r in RESOURCES}
    return DesignEstimate(
        summary={
            "id": network.digest,
            "supported": True,
            "stage": scores.stage,
            **summarize(scores.metrics, shares, 0),
            "notes": list(scores.notes[0]),
        },
        layers=_shares(
            scores.per_node[0],
            [(node.name, node.layer) for node in network.candidate.network.nodes],
        ),
        clock_period_ns=float(scores.clock_period_ns[0]),
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
        results = estimate_documents(load_documents([records_path]), stage, coefficients)
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

    title = f"{item.summary['id']}: predicted, tool stage {item.summary['stage']}"
    total = Table("metric", "value", "90 % interval", title=title, min_width=len(title))
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
