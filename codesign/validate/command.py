"""What `codesign validate` does: find the candidate, run the device, keep report and records."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from codesign.files import write_atomically
from codesign.ir import QuantizedNetwork
from codesign.study import Study
from codesign.validate.boards import check_part, write_board_server
from codesign.validate.forms import reference_form
from codesign.validate.implementation import DeviceDescription
from codesign.validate.records import append_record, device_record
from codesign.validate.run import DeviceReport, validate_device
from codesign.validate.url import DeviceContext, DeviceUrl, open_device


@dataclass(frozen=True, kw_only=True)
class DeviceTarget:
    """The candidate that a device should compute.

    Attributes:
        network: the quantized network.
        firmware_folder: its export, or None when it was not exported.
        results_folder: where reports, records and checkpoints go.
        words: int64[n, n_inputs] events to send first: the test set where it was exported.
    """

    network: QuantizedNetwork
    firmware_folder: Path | None
    results_folder: Path
    words: NDArray[np.int64]


def find_target(path: Path, digest: str | None = None) -> DeviceTarget:
    """Find the candidate in a study folder, or in an export folder.

    Args:
        path: study folder, or one that `codesign export` wrote.
        digest: candidate of the study; its winner by default.

    Raises:
        StudyError: neither, or no such trained candidate.
    """
    if (path / "weights.npz").is_file() and (path / "manifest.json").is_file():
        firmware: Path | None = path
        network = QuantizedNetwork.load(path / "weights.npz")
        results = path.with_name(path.name + "_devices")  # beside it: an export is sealed
    else:
        study = Study.open(path)
        digest = study.winner() if digest is None else digest
        network = QuantizedNetwork.load(study.trained(digest))
        folder = study.firmware_folder(digest)
        firmware = folder if folder.is_dir() else None
        results = study.candidate_folder(digest) / "devices"
    width = int(network.network.nodes[0].parameters["width"])
    words = np.empty((0, width), dtype=np.int64)
    if firmware is not None and (golden := firmware / "golden" / "vectors.npz").is_file():
        with np.load(golden, allow_pickle=False) as archive:
            words = archive["input_words"].astype(np.int64)
    return DeviceTarget(
        network=network, firmware_folder=firmware, results_folder=results, words=words
    )


def run_device(
    target: DeviceTarget,
    url: str,
    *,
    n_events: int,
    soak_s: float,
    seed: int = 0,
    batch_events: int = 4096,
    progress: Callable[[int], None] | None = None,
) -> DeviceReport:
    """Compare a device with a candidate; keep the report, and a record where the run passed.

    An interrupted run (a broken link, Ctrl-C) resumes from its checkpoint when started again.

    Raises:
        DesignError: a malformed URL, or an unknown kind of device.
    """
    kind = DeviceUrl.parse(url).scheme
    context = DeviceContext(network=target.network, firmware_folder=target.firmware_folder)
    device = open_device(url, context)
    target.results_folder.mkdir(parents=True, exist_ok=True)
    report = validate_device(
        device,
        reference_form(target.network),
        target.words,
        n_events=n_events,
        soak_s=soak_s,
        seed=seed,
        batch_events=batch_events,
        checkpoint=target.results_folder / f"{kind}.checkpoint.json",
        progress=progress,
    )
    text = json.dumps(report.to_json(), indent=1, allow_nan=False)
    write_atomically(target.results_folder / f"{kind}.report.json", text)
    if report.passed:
        append_record(
            target.results_folder / "records.jsonl", device_record(target.network, report)
        )
    return report


def write_server(
    target: DeviceTarget, board: str, folder: Path, *, bitstream: str, batch_events: int
) -> None:
    """Write the folder to copy onto a board: server, protocol, backend, what the firmware is.

    Args:
        target: the candidate that the bitstream realises.
        board: a name of `codesign.validate.boards.board_names()`.
        folder: where to write.
        bitstream: file name of the bitstream on the board.
        batch_events: events per transfer.

    Raises:
        DesignError: an unknown board, one of another device, or ports that it cannot carry exactly.
    """
    check_part(board, target.network.candidate.hardware.part)
    described = DeviceDescription.of(target.network, board, stage="measured")
    options = {"bitstream": bitstream, "batch_events": batch_events}
    write_board_server(folder, board, described, options)


def report_lines(report: DeviceReport) -> list[tuple[str, str]]:
    """Return a report as label and text, for people."""
    described = report.description
    lines = [("verdict", f"{report.verdict}: {report.to_json()['meaning']}")]
    if described is not None:
        lines.append(
            ("device", f"{described.kind} ({described.stage}), network {described.digest}")
        )
    lines.append(
        ("compared", f"{report.n_events:,} events, {report.n_mismatched_events:,} with wrong words")
    )
    if report.resumed_at_event:
        lines.append(("resumed", f"at event {report.resumed_at_event:,}"))
    if report.timing is not None:
        timing = report.timing
        text = f"{timing.latency_cycles} cycles latency, one event every {timing.interval_cycles}"
        lines.append(("timing", text))
    if report.events_per_s is not None:
        lines.append(("throughput", f"{report.events_per_s:,.0f} events/s in batches"))
    if report.round_trip_us is not None:
        text = f"{report.round_trip_us:,.0f} us median, {report.round_trip_us_p99:,.0f} us 99 %"
        lines.append(("round trip", text))
    for fault in report.faults[:10]:
        outcome = "overcome" if fault.recovered else "fatal"
        lines.append(("fault", f"event {fault.event:,}, {outcome}: {fault.message}"))
    for wrong in report.mismatches[:10]:
        text = f"event {wrong.event:,} output {wrong.output}: expected {wrong.expected}, got {wrong.got}"
        lines.append(("mismatch", text))
    if report.first_differing_layer is not None:
        lines.append(("first differs", f"in layer {report.first_differing_layer}"))
    return lines
