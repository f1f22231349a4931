"""`emp://FOLDER?timeout_s=60`: pattern files through a test stand.

The folder is the meeting point: `stand.json` says what the firmware is and which links it uses; for
every batch we write `tx_NNNNNN.txt`, the stand plays it and leaves what it captured as `rx_NNNNNN.txt`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError
from codesign.files import write_atomically
from codesign.validate.emp_files import (
    DEPTH_FRAMES,
    MAX_FILE_BYTES,
    PatternFile,
    frames_per_event,
    pack_events,
    unpack_events,
)
from codesign.validate.faults import DeviceFault
from codesign.validate.implementation import DeviceDescription, Implementation, Timing, check_words
from codesign.validate.url import DEVICES, DeviceContext, DeviceUrl

#: How often the folder is looked at.
POLL_S = 0.005


class EmpDevice(Implementation):
    """Plays files and waits for captures."""

    def __init__(self, folder: Path, *, expected_digest: str | None, timeout_s: float) -> None:
        self._folder = folder
        self._expected_digest = expected_digest
        self._timeout_s = timeout_s
        self._description: DeviceDescription | None = None
        self._links: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
        self._margin_frames = 0
        self._sequence = 0
        self._n_events = 0
        self._timing: Timing | None = None

    def load(self) -> None:
        stand = read_stand(self._folder)
        described = DeviceDescription.from_json(stand["description"])
        described.require_digest(self._expected_digest)
        self._links = (tuple(stand["input_links"]), tuple(stand["output_links"]))
        self._margin_frames = int(stand["margin_frames"])
        taken = [int(p.stem[3:]) for p in self._folder.glob("[tr]x_*.txt") if p.stem[3:].isdigit()]
        self._sequence = max(taken, default=0)  # never take an old capture for a new one
        self._description, self._n_events, self._timing = described, 0, None

    def describe(self) -> DeviceDescription:
        if self._description is None:
            raise DeviceFault("link-dropped", "not loaded; load the device first")
        return self._description

    @property
    def events_per_file(self) -> int:
        """Events that fit one buffer, with room for the latency."""
        return events_per_file(self.describe(), self._links, self._margin_frames)

    def run(self, words: NDArray[np.int64]) -> NDArray[np.int64]:
        described = self.describe()
        words = check_words(words, described.input_formats)
        step = self.events_per_file
        parts = [
            self._play(words[start : start + step], described)
            for start in range(0, len(words), step)
        ]
        return (
            np.concatenate(parts) if parts else np.empty((0, described.n_outputs), dtype=np.int64)
        )

    def _play(self, words: NDArray[np.int64], described: DeviceDescription) -> NDArray[np.int64]:
        self._sequence += 1
        tx = playback(words, described, self._links)
        write_atomically(self._folder / f"tx_{self._sequence:06d}.txt", tx.to_text())
        path = self._folder / f"rx_{self._sequence:06d}.txt"
        rx = PatternFile.from_text(self._wait_for(path))
        if rx.links != self._links[1]:
            raise DeviceFault(
                "wrong-width", f"captured links {rx.links}, expected {self._links[1]}"
            )
        valid = rx.valid[:, 0]
        if (rx.valid != valid[:, None]).any():
            raise DeviceFault("garbage", "the links are not valid in the same frames")
        n_frames = frames_per_event(described.output_formats, len(rx.links))
        if valid.sum() != len(words) * n_frames:
            raise DeviceFault(
                "wrong-count", f"{valid.sum()} valid frames for {len(words)} events of {n_frames}"
            )
        got = unpack_events(rx.data[valid], described.output_formats, len(rx.links))
        starts_in = np.flatnonzero(tx.start_of_packet[:, 0])
        starts_out = np.flatnonzero(valid)[::n_frames]
        latency = np.unique(starts_out - starts_in)
        if latency.size != 1 or latency[0] < 0:
            raise DeviceFault("wrong-latency", f"events come after {latency.tolist()} frames")
        if len(words) > 1:
            self._timing = Timing(
                latency_cycles=int(latency[0]),
                interval_cycles=int(np.diff(starts_in).max()),
                events=len(words),
                how="frames between the first played and the first captured frame of every event",
            )
        self._n_events += len(words)
        return got

    def _wait_for(self, path: Path) -> str:
        deadline_s = time.monotonic() + self._timeout_s
        while not path.exists():
            if time.monotonic() > deadline_s:
                raise DeviceFault("late-answer", f"no {path.name} after {self._timeout_s:g} s")
            time.sleep(POLL_S)
        if path.stat().st_size > MAX_FILE_BYTES:
            raise DeviceFault("oversize-message", f"{path.name} exceeds {MAX_FILE_BYTES} bytes")
        try:
            return path.read_text(encoding="ascii")
        except UnicodeDecodeError as error:
            raise DeviceFault("garbage", f"{path.name} is no text") from error

    def counters(self) -> Mapping[str, int]:
        return {"events": self._n_events, "files": self._sequence}

    def trace(self, words: NDArray[np.int64]) -> None:
        return None  # nothing inside a board shows

    def measure_timing(self) -> Timing | None:
        return self._timing

    def close(self) -> None:
        self._description = None


def events_per_file(
    described: DeviceDescription,
    links: tuple[tuple[int, ...], tuple[int, ...]],
    margin_frames: int,
) -> int:
    """Return how many events one pattern file carries.

    Raises:
        DeviceFault: not even one.
    """
    per_event = max(
        frames_per_event(described.input_formats, len(links[0])),
        frames_per_event(described.output_formats, len(links[1])),
    )
    count = (DEPTH_FRAMES - margin_frames) // per_event
    if count < 1:
        raise DeviceFault(
            "bad-description", f"an event of {per_event} frames does not fit a buffer"
        )
    return count


def playback(
    words: NDArray[np.int64],
    described: DeviceDescription,
    links: tuple[tuple[int, ...], tuple[int, ...]],
) -> PatternFile:
    """Return the pattern file that plays events, one packet each, back to back."""
    n_in = frames_per_event(described.input_formats, len(links[0]))
    n_out = frames_per_event(described.output_formats, len(links[1]))
    interval = max(n_in, n_out)
    shape = (len(words) * interval, len(links[0]))
    data = np.zeros(shape, dtype=np.uint64)
    packed = pack_events(words, described.input_formats, len(links[0]))
    frames = np.arange(shape[0]).reshape(len(words), interval)
    data[frames[:, :n_in].ravel()] = packed
    flags = np.zeros((3, *shape), dtype=bool)
    flags[0][frames[:, :n_in].ravel()] = True
    flags[1][frames[:, 0]] = True
    flags[2][frames[:, n_in - 1]] = True
    orbit = np.zeros(shape, dtype=bool)
    orbit[:1] = True
    return PatternFile(
        board="codesign",
        links=links[0],
        data=data,
        valid=flags[0],
        start_of_packet=flags[1],
        end_of_packet=flags[2],
        start_of_orbit=orbit,
    )


def read_stand(folder: Path) -> dict[str, Any]:
    """Read `stand.json`.

    Raises:
        DesignError: missing or malformed.
    """
    path = folder / "stand.json"
    try:
        stand = json.loads(path.read_text(encoding="utf-8"))
        links = [stand["input_links"], stand["output_links"]]
        ok = all(side and all(isinstance(n, int) and 0 <= n < 1000 for n in side) for side in links)
        ok = ok and 0 <= int(stand["margin_frames"]) < DEPTH_FRAMES and "description" in stand
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DesignError(
            f"{path} cannot be used ({error}); see docs/hardware-in-the-loop.md for its form"
        ) from error
    if not ok:
        raise DesignError(f"{path}: links or margin out of range; see docs/hardware-in-the-loop.md")
    return dict(stand)


def write_stand(
    folder: Path,
    described: DeviceDescription,
    *,
    input_links: tuple[int, ...],
    output_links: tuple[int, ...],
    margin_frames: int = 128,
) -> None:
    """Write `stand.json`: what the firmware is, its links, and the frames kept free for the latency."""
    folder.mkdir(parents=True, exist_ok=True)
    value = {
        "description": described.to_json(),
        "input_links": list(input_links),
        "output_links": list(output_links),
        "margin_frames": margin_frames,
    }
    write_atomically(folder / "stand.json", json.dumps(value, indent=1) + "\n")


def open_emp(url: DeviceUrl, context: DeviceContext) -> EmpDevice:
    """Create the device."""
    url.check_options("timeout_s")
    if not url.path or not os.path.isdir(url.path):
        raise DesignError(f"device URL {url.text!r} names no folder; expected emp://FOLDER")
    return EmpDevice(
        Path(url.path),
        expected_digest=context.expected_digest,
        timeout_s=url.number("timeout_s", 60.0),
    )


DEVICES.add("emp", open_emp)
