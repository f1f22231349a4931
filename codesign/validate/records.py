"""What a device run measured, as a synthesis record: the form that `codesign calibrate` reads."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from codesign.errors import DeviceError
from codesign.ir import QuantizedNetwork
from codesign.synthesis.networks import network_record
from codesign.validate.run import DeviceReport
from hw_models.records import record_json
from hw_models.units import cycles_to_ns

#: Group of these records where records are split by source.
SOURCE = "codesign device runs"


def device_record(network: QuantizedNetwork, report: DeviceReport) -> dict[str, Any]:
    """Return one record of the shared schema, with one stage: "measured" on hardware, else "emulated".

    Cycles appear only where the device showed a clock; a figure that was not measured is absent, never
    zero.

    Args:
        network: what the device computes.
        report: a run that passed.

    Raises:
        DeviceError: the run did not pass; figures of a wrong design teach nothing.
    """
    described = report.description
    if not report.passed or described is None:
        raise DeviceError(
            f"the run ended with verdict {report.verdict!r}; only a run that passed becomes a record"
        )
    figures: dict[str, Any] = {
        "by": described.kind,
        "n_events": report.n_events,
        "events_per_s": report.events_per_s,
        "round_trip_us": report.round_trip_us,
    }
    timing = report.timing
    clock_ns = described.clock_period_ns
    if timing is not None:
        figures |= {
            "latency_cycles_min": timing.latency_cycles,
            "latency_cycles_max": timing.latency_cycles,
            "interval_cycles_min": timing.interval_cycles,
            "interval_cycles_max": timing.interval_cycles,
            "how": timing.how,
        }
        if clock_ns is not None:
            figures["latency_ns"] = float(cycles_to_ns(timing.latency_cycles, clock_ns))
    record = record_json(network_record(network, solve_graphs=False))
    text = json.dumps([record["id"], described.stage, figures], sort_keys=True)
    record |= {
        "id": f"{network.digest}:{described.kind}:{hashlib.sha256(text.encode()).hexdigest()[:8]}",
        "source": SOURCE,
        described.stage: figures,
    }
    return record


def append_record(path: Path, record: dict[str, Any]) -> None:
    """Append one record to a JSONL file, creating it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(record, sort_keys=True, allow_nan=False) + "\n")
