"""The EMP twin: plays and captures pattern files as a test stand does, with a device inside."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from codesign.files import write_atomically
from codesign.validate.devices.emp import write_stand
from codesign.validate.emp_files import (
    DEPTH_FRAMES,
    PatternFile,
    frames_per_event,
    pack_events,
    unpack_events,
)
from codesign.validate.implementation import DeviceDescription, Implementation

#: Changes the text of a capture on its way, None to leave it out: (sequence, text) -> text.
Spoil = Callable[[int, str], str | None]


def capture(
    tx: PatternFile,
    device: Implementation,
    output_links: tuple[int, ...],
    latency_frames: int,
) -> PatternFile:
    """Return what the board captures of a played file, a full buffer deep."""
    described: DeviceDescription = device.describe()
    valid = tx.valid[:, 0]
    words = unpack_events(tx.data[valid], described.input_formats, len(tx.links))
    out = pack_events(device.run(words), described.output_formats, len(output_links))
    n_frames = frames_per_event(described.output_formats, len(output_links))
    starts = np.flatnonzero(tx.start_of_packet[:, 0]) + latency_frames
    frames = (starts[:, None] + np.arange(n_frames)).ravel()
    shape = (DEPTH_FRAMES, len(output_links))
    data = np.zeros(shape, dtype=np.uint64)
    flags = np.zeros((3, *shape), dtype=bool)
    data[frames], flags[0][frames] = out, True
    flags[1][starts], flags[2][starts + n_frames - 1] = True, True
    return PatternFile(
        board="twin",
        links=output_links,
        data=data,
        valid=flags[0],
        start_of_packet=flags[1],
        end_of_packet=flags[2],
        start_of_orbit=np.zeros(shape, dtype=bool),
    )


@contextlib.contextmanager
def emp_twin(
    folder: Path,
    device: Implementation,
    *,
    input_links: tuple[int, ...] = (0, 1),
    output_links: tuple[int, ...] = (4,),
    latency_frames: int = 9,
    spoil: Spoil | None = None,
) -> Iterator[str]:
    """Answer every `tx_*.txt` of a folder with its `rx_*.txt`; yield the URL.

    Args:
        folder: meeting point; `stand.json` is written there.
        device: loaded device that computes the events.
        input_links, output_links: link numbers.
        latency_frames: delay of the emulated firmware.
        spoil: applied to captures, to inject faults.
    """
    write_stand(folder, device.describe(), input_links=input_links, output_links=output_links)
    stop = threading.Event()

    def serve() -> None:
        done: set[Path] = set()
        while not stop.wait(0.003):
            for path in sorted(set(folder.glob("tx_*.txt")) - done):
                done.add(path)
                tx = PatternFile.from_text(path.read_text(encoding="ascii"))
                text: str | None = capture(tx, device, output_links, latency_frames).to_text()
                if spoil is not None and text is not None:
                    text = spoil(int(path.stem[3:]), text)
                if text is not None:
                    write_atomically(path.with_name(path.name.replace("tx_", "rx_")), text)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"emp://{folder}"
    finally:
        stop.set()
        thread.join()
