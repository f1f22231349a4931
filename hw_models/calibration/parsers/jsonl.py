"""Synthesis records, one JSON object a line: checked on the way in."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hw_models.calibration.parsers.errors import Rejection, ReportError
from hw_models.calibration.parsers.strict_json import load_json
from hw_models.errors import ModelError
from hw_models.records import REPORT_STAGES, in_schema_2

_COUNTS = (
    "latency_cycles_min", "latency_cycles_max", "interval_cycles_min", "interval_cycles_max",
    "lut", "ff", "dsp", "bram_18k", "uram", "carry4",
)  # fmt: skip


def check_record(record: object, *, origin: str) -> dict[str, Any]:
    """Check one record, and return it in the present schema.

    Raises:
        ReportError: the schema is another, the identity is missing, or a figure is no count.
    """
    try:
        record = dict(in_schema_2(record, where=origin))
    except ModelError as error:
        raise ReportError(str(error)) from error
    for key in ("id", "source"):
        if not isinstance(record.get(key), str) or not record[key]:
            raise ReportError(
                f"{origin}: {key} is {record.get(key)!r}, expected a name; the record is damaged"
            )
    layers = record.get("layers", [])
    if not isinstance(layers, list) or not all(isinstance(layer, dict) for layer in layers):
        raise ReportError(f"{origin}: layers are no list of objects; the record is damaged")
    found = False
    for stage in REPORT_STAGES:
        metrics = record.get(stage)
        if metrics is None:
            continue
        if not isinstance(metrics, Mapping):
            raise ReportError(
                f"{origin}: {stage} is {metrics!r}, expected an object; the record is damaged"
            )
        found = True
        for name in _COUNTS:
            value = metrics.get(name)
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, int | float) or value < 0
            ):
                raise ReportError(
                    f"{origin}: {stage}.{name} is {value!r}, expected a count; the record is damaged"
                )
    # Older records of routed designs keep their figures at the top level.
    if not found and not isinstance(record.get("lut"), int | float):
        raise ReportError(
            f"{origin}: no figures of any stage ({', '.join(REPORT_STAGES)}); nothing to calibrate on"
        )
    period = record.get("clock_period_ns")
    if period is not None and (
        isinstance(period, bool) or not isinstance(period, int | float) or period <= 0
    ):
        raise ReportError(
            f"{origin}: clock_period_ns is {period!r}, expected a period above zero; damaged"
        )
    return record


def read_record_lines(text: str, *, path: Path) -> tuple[list[dict[str, Any]], list[Rejection]]:
    """Read a JSONL file of records; a bad line is rejected, the others are kept."""
    records: list[dict[str, Any]] = []
    rejections: list[Rejection] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        origin = f"{path}:{number}"
        try:
            records.append(check_record(load_json(line, origin=origin), origin=origin))
        except ReportError as error:
            rejections.append(Rejection(path=path, reason=str(error)))
    if not records and not rejections:
        rejections.append(
            Rejection(path=path, reason=f"{path}: holds no record; the file is empty")
        )
    return records, rejections
