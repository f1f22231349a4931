"""`rtl:FOLDER?gaps=7`: the exported Verilog, Verilated and driven clock by clock.

The library is built once per content of the folder, in the user's cache: an export is sealed by its
certificate and must not change.

Latency and interval are measured when the device is loaded and must equal what `rtl.json` states.  With
`gaps`, up to so many idle cycles with random words follow each event.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError, DeviceError
from codesign.export.plan import ProjectPlan
from codesign.export.rtl import RtlExport
from codesign.export.templates import check_identifier
from codesign.ir import FixedPoint, QuantizedNetwork
from codesign.tools import cache_folder
from codesign.validate.device import Device, DeviceDescription, Timing, check_words
from codesign.validate.faults import DeviceFault
from codesign.validate.rtl_emulation import build_emulation
from codesign.validate.timing import measure_timing, random_idle, stream
from codesign.validate.url import DEVICES, DeviceContext, DeviceUrl


class RtlDevice(Device):
    """A Verilated pipeline in this process."""

    def __init__(self, folder: Path, network: QuantizedNetwork, *, max_gap_cycles: int) -> None:
        self._folder = folder
        self._network = network
        self._max_gap_cycles = max_gap_cycles
        self._description: DeviceDescription | None = None
        self._timing: Timing | None = None
        self._library: ctypes.CDLL | None = None
        self._handle: ctypes.c_void_p | None = None
        self._n_events = 0
        self._n_cycles = 0

    def load(self) -> None:
        self.close()
        facts = _read_facts(self._folder)
        described = _describe(facts, self._folder)
        if described.digest != self._network.digest:
            raise DeviceFault(
                "wrong-firmware", f"expected {self._network.digest}, found {described.digest}"
            )
        self._library = _load_library(_built_library(self._folder, facts, self._network))
        self._handle = ctypes.c_void_p(self._library.rtl_open())
        self._description = described
        self._n_events = self._n_cycles = 0
        timing = measure_timing(self._clock, described.input_formats)
        if (timing.latency_cycles, timing.interval_cycles) != (
            facts["latency_cycles"],
            facts["interval_cycles"],
        ):
            raise DeviceFault(
                "wrong-latency",
                f"measured latency {timing.latency_cycles} and interval {timing.interval_cycles} cycles,"
                f" rtl.json states {facts['latency_cycles']} and {facts['interval_cycles']}",
            )
        self._timing = timing

    def _clock(self, words: NDArray[np.int64]) -> NDArray[np.int64]:
        """One clock edge per row; what the output shows after each."""
        if self._library is None:
            raise DeviceFault("link-dropped", "not loaded; load the device first")
        words = np.ascontiguousarray(words, dtype=np.int64)
        out = np.empty((len(words), self.describe().n_outputs), dtype=np.int64)
        self._library.rtl_clock(self._handle, words.ctypes.data, len(words), out.ctypes.data)
        self._n_cycles += len(words)
        return out

    def describe(self) -> DeviceDescription:
        if self._description is None:
            raise DeviceFault("link-dropped", "not loaded; load the device first")
        return self._description

    def run(self, words: NDArray[np.int64]) -> NDArray[np.int64]:
        described, timing = self.describe(), self._timing
        if timing is None:
            raise DeviceFault("link-dropped", "not loaded; load the device first")
        words = check_words(words, described.input_formats)
        rng = np.random.default_rng(self._n_cycles)
        gaps = np.full(len(words), timing.interval_cycles - 1)
        if self._max_gap_cycles:
            gaps += rng.integers(0, self._max_gap_cycles, size=len(words), endpoint=True)
        idle = random_idle(described.input_formats, rng)
        inputs, cycles = stream(words, gaps, idle, timing.latency_cycles)
        self._n_events += len(words)
        return self._clock(inputs)[cycles + timing.latency_cycles]

    def counters(self) -> Mapping[str, int]:
        return {"events": self._n_events, "cycles": self._n_cycles}

    def trace(self, words: NDArray[np.int64]) -> None:
        return None  # the pipeline's registers are not the network's nodes

    def measure_timing(self) -> Timing | None:
        return self._timing

    def close(self) -> None:
        if self._library is not None and self._handle is not None:
            self._library.rtl_close(self._handle)
        self._library = self._handle = self._timing = None


def _read_facts(folder: Path) -> dict[str, Any]:
    path = folder / "rtl.json"
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DesignError(f"{folder} holds no RTL export (no rtl.json); export it first") from error
    except ValueError as error:
        raise DesignError(f"{path} is damaged ({error}); export the candidate again") from error
    if not isinstance(facts, dict) or facts.get("schema") != 1:
        raise DesignError(f"{path} has another schema; export the candidate again")
    if facts.get("flavor") != "verilog":
        raise DesignError(f"{path}: Verilator reads Verilog only; export with flavor verilog")
    return facts


def _describe(facts: Mapping[str, Any], folder: Path) -> DeviceDescription:
    def ports(side: Mapping[str, Any]) -> tuple[FixedPoint, ...]:
        fmt = FixedPoint(
            bits=int(side["bits"]),
            integer_bits=int(side["bits"]) - int(side["fraction_bits"]),
            signed=bool(side["is_signed"]),
        )
        return (fmt,) * int(side["lanes"])

    try:
        return DeviceDescription(
            kind="rtl",
            digest=str(facts["network_digest"]),
            input_formats=ports(facts["x"]),
            output_formats=ports(facts["y"]),
            latency_cycles=int(facts["latency_cycles"]),
            clock_period_ns=float(facts["clock_period_ns"]),
            stage="emulated",
        )
    except (KeyError, TypeError) as error:
        raise DesignError(
            f"{folder}/rtl.json lacks or garbles {error}; export the candidate again"
        ) from error


def _built_library(folder: Path, facts: Mapping[str, Any], network: QuantizedNetwork) -> Path:
    """Return the Verilated library of an export folder, built on first use."""
    plan = ProjectPlan.read(folder)
    work = cache_folder() / "rtl" / plan.digest
    library = work / "sim" / f"lib{facts['top']}.so"
    if not library.is_file():
        export = RtlExport(
            name=check_identifier(str(facts["top"])),
            flavor="verilog",
            plan=plan,
            sources=tuple(facts["sources"]),
            latency_cycles=int(facts["latency_cycles"]),
            interval_cycles=int(facts["interval_cycles"]),
            adder_cost=float(facts["predicted"]["lut"]),
            register_bits=int(facts["predicted"]["ff"]),
            adder_levels=float(facts["adder_levels"]),
            levels_per_cycle=float(facts["levels_per_cycle"]),
        )
        build_emulation(export, network, work).close()
    return library


def _load_library(path: Path) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(path.resolve()))
        library.rtl_open.restype = ctypes.c_void_p
        library.rtl_close.argtypes = [ctypes.c_void_p]
        pointer = ctypes.c_void_p
        library.rtl_clock.argtypes = [pointer, pointer, ctypes.c_int64, pointer]
        library.rtl_clock.restype = None
    except (OSError, AttributeError) as error:
        raise DeviceError(
            f"{path} cannot be loaded: {error}; delete it to build it anew"
        ) from error
    return library


def open_rtl(url: DeviceUrl, context: DeviceContext) -> RtlDevice:
    """Create the device; without a path, the candidate's `rtl/verilog` folder."""
    url.check_options("gaps")
    text = url.options.get("gaps", "0")
    if not text.isdigit() or int(text) > 1000:
        raise DesignError(f"device URL {url.text!r}: gaps must be 0 to 1000 cycles, got {text!r}")
    return RtlDevice(
        context.locate(url, "rtl/verilog"), context.require_network(url), max_gap_cycles=int(text)
    )


DEVICES.add("rtl", open_rtl)
