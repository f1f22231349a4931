"""Every form of a network that this process can run, opened from what the exporters wrote.

The certificate makes them from an export, `codesign.validate.devices` from URLs.
"""

from __future__ import annotations

import ctypes
import json
import math
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError, DeviceError, ToolError
from codesign.export.backends import BACKENDS
from codesign.export.hls4ml import CSimulation, HlsProject, build_c_simulation
from codesign.export.onnx import (
    OnnxExport,
    checked_words,
    onnx_session,
    run_qonnx,
    words_needed_bits,
)
from codesign.export.rtl import RtlExport, run_trace, unpack_hex
from codesign.ir import FixedPoint, QuantizedNetwork
from codesign.layers import run_torch, run_words
from codesign.tools import require_module, require_tool
from codesign.validate.faults import DeviceFault
from codesign.validate.implementation import DeviceDescription, Form, Timing, Words
from codesign.validate.rtl_emulation import open_emulation, run_vhdl
from codesign.validate.timing import (
    measure_timing,
    measure_told_timing,
    random_idle,
    stream,
    telling_events,
)
from codesign.validate.verilator import verilator_environment

if TYPE_CHECKING:
    from alkaid.types import CombLogic

_LIBRARY = re.compile(r"^lib([a-z][a-z0-9_]*_v[0-9]+)\.so$")


class Unavailable(ToolError):
    """A form cannot run on this machine; the message is the reason."""


def needs(*tools: str) -> None:
    """Check that tools are there.

    Raises:
        Unavailable: one is not.
    """
    for tool in tools:
        try:
            require_tool(tool)
        except ToolError as error:
            raise Unavailable(str(error)) from error


def needs_package(name: str) -> None:
    """Check that a Python package is there.

    Raises:
        Unavailable: it is not: a light installation reads certificates all the same.
    """
    try:
        require_module(name)
    except ToolError as error:
        raise Unavailable(str(error)) from error


def reference_form(network: QuantizedNetwork) -> Form:
    """The exact integer evaluation: what every other form is compared with."""
    known = network.input_type

    def confine(words: Words) -> Words:
        shaped = words.reshape(len(words), *known.shape)
        return known.cast_words(shaped, known.fraction_bits).reshape(len(words), -1)

    return Form(
        confine=None if known.uniform is not None else confine,
        description=DeviceDescription.of(network, "reference"),
        run=lambda words: np.asarray(run_words(network, words)),
        trace=lambda words: dict(run_words(network, words, trace=True)),
    )


def torch_form(network: QuantizedNetwork) -> Form:
    """Torch, in float64 on real values.

    Raises:
        Unavailable: torch is not installed, or a sum is wider than the significand of a float64.
    """
    needs_package("torch")
    bits, where = words_needed_bits(network)
    if bits > 53:
        raise Unavailable(
            f"sums of {where} need {bits} bits; float64, in which torch computes, holds 53"
        )
    return Form(
        description=DeviceDescription.of(network, "torch"),
        run=lambda words: run_torch(network, words),
    )


def onnx_form(content: bytes, origin: str) -> Form:
    """Standard ONNX in ONNX Runtime; formats and digest come from the model's metadata.

    Args:
        content: the model.
        origin: where it came from, for errors.

    Raises:
        DesignError: it is no model of ours.
        ToolError: ONNX Runtime cannot be loaded.
    """
    needs_package("onnxruntime")
    session = onnx_session(content, origin)
    metadata = session.get_modelmeta().custom_metadata_map
    try:
        (source,), (sink,) = session.get_inputs(), session.get_outputs()
        shape = tuple(int(axis) for axis in source.shape[1:])
        arithmetic = np.dtype(metadata["codesign_arithmetic"])
        in_format = FixedPoint.from_hls(metadata["codesign_input_format"])
        out_format = FixedPoint.from_hls(metadata["codesign_output_format"])
        described = DeviceDescription(
            kind="onnx",
            digest=metadata["codesign_network_digest"],
            input_formats=(in_format,) * math.prod(shape),
            output_formats=(out_format,) * math.prod(sink.shape[1:]),
            latency_cycles=None,
            clock_period_ns=None,
            stage="emulated",
        )
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise DesignError(
            f"{origin} lacks codesign's metadata ({error!r}); export it again"
        ) from error

    def run(words: Words) -> Words:
        values = in_format.values_from_words(words).astype(arithmetic).reshape(-1, *shape)
        (output,) = session.run([sink.name], {source.name: values})
        return checked_words(output.reshape(len(words), -1), out_format, "ONNX Runtime")

    return Form(description=described, run=run)


def qonnx_form(export: OnnxExport, network: QuantizedNetwork) -> Form:
    """QONNX, executed by its own library."""
    needs_package("qonnx")
    return Form(
        description=DeviceDescription.of(network, "qonnx"),
        run=lambda words: run_qonnx(export, network, words),
    )


def adder_graph_form(logic: CombLogic, network: QuantizedNetwork) -> Form:
    """The adder graph in front of RTL generation, in alkaid's interpreter."""
    return Form(
        description=DeviceDescription.of(network, "alkaid"),
        run=lambda words: run_trace(logic, network, words),
    )


def c_simulation_form(
    project: HlsProject, network: QuantizedNetwork, folder: Path, *, optimize: bool = True
) -> Form:
    """hls4ml's C++, compiled with g++ in `folder` (or taken from there).

    Where it was not optimised and would take long for the words it is given, it is compiled again, optimised: of
    convolutions on 50 strips that takes four times as long to build and a thirtieth to run.

    The C++ carries no digest of the network, so the form answers for the network it is given.

    Raises:
        Unavailable: g++ is missing, or the back end needs its vendor's compiler.
        ToolError: g++ failed.
    """
    if not BACKENDS.get(project.backend).has_c_simulation:
        raise Unavailable(f"{project.backend} projects compile with the vendor's compiler only")
    needs("g++")
    library = folder / f"lib{project.name}.so"
    if library.is_file():
        simulation = CSimulation(library, project.name, network)
    else:
        simulation = build_c_simulation(project, network, folder, optimize=optimize)
    is_quick = optimize

    def run(words: Words) -> Words:
        nonlocal simulation, is_quick
        if not is_quick and len(words) > _TRIED:
            started_s = time.thread_time()
            simulation.run(words[:_TRIED])
            took_s = (time.thread_time() - started_s) * len(words) / _TRIED
            if took_s > _PATIENCE_S:
                other = folder / "optimized"  # a library of the same path would not be loaded again
                simulation = build_c_simulation(project, network, other, optimize=True)
                is_quick = True
        return simulation.run(words)

    return Form(description=DeviceDescription.of(network, f"csim-{project.backend}"), run=run)


#: Vectors that tell how fast C++ is, and seconds of processor time from which it is worth optimising.
_TRIED, _PATIENCE_S = 20, 60.0


class EmulatorLibrary:
    """The C interface of one emulator library."""

    def __init__(self, path: Path) -> None:
        match = _LIBRARY.match(path.name)
        if match is None:
            raise DesignError(f"{path} is no emulator library; expected a name like libjets_v1.so")
        self.prefix = match.group(1)
        try:
            library = ctypes.CDLL(str(path.resolve()))
            self._run = getattr(library, f"{self.prefix}_run")
            self._trace = getattr(library, f"{self.prefix}_trace")
            describe = getattr(library, f"{self.prefix}_description")
        except (OSError, AttributeError) as error:
            raise DeviceError(f"{path} cannot be loaded: {error}; build it again") from error
        for function in (self._run, self._trace):
            function.restype = ctypes.c_int64
            function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
        describe.restype = ctypes.c_char_p
        value = json.loads(describe())
        self._nodes: list[tuple[str, int]] = [(str(n), int(w)) for n, w in value["nodes"]]
        no_clock = {"latency_cycles": None, "clock_period_ns": None}
        self.description = DeviceDescription.from_json(
            value | no_clock | {"kind": "emulator", "stage": "emulated"}
        )

    def run(self, words: Words) -> Words:
        """Return the output words of a batch."""
        return self._call(self._run, words, self.description.n_outputs)

    def trace(self, words: Words) -> dict[str, Words]:
        """Return the words of every node of a batch."""
        table = self._call(self._trace, words, sum(width for _, width in self._nodes))
        ends = np.cumsum([width for _, width in self._nodes])
        parts = np.split(table, ends[:-1], axis=1)
        return {name: part for (name, _), part in zip(self._nodes, parts, strict=True)}

    def _call(self, function: ctypes._NamedFuncPointer, words: Words, n_columns: int) -> Words:
        out = np.empty((len(words), n_columns), dtype=np.int64)
        bad = function(words.ctypes.data, out.ctypes.data, len(words))
        if bad:
            raise DeviceFault("refused", f"event {bad - 1} lies outside the input format")
        return out


def emulator_form(library: Path) -> Form:
    """A versioned emulator library.

    Raises:
        DesignError: the file is none.
        DeviceError: it cannot be loaded.
    """
    emulator = EmulatorLibrary(library)
    return Form(description=emulator.description, run=emulator.run, trace=emulator.trace)


def verilog_form(
    export: RtlExport, folder: Path, *, optimize: bool = True, max_gap_cycles: int = 0
) -> Form:
    """The exported Verilog, Verilated in `folder` (or taken from there) and driven clock by clock.

    Args:
        export: the Verilog.
        folder: where it is built.
        optimize: optimise the C++ (slower to build, faster to run).
        max_gap_cycles: up to so many idle cycles with random words follow each event.

    Raises:
        Unavailable: Verilator, g++, make or perl is missing.
        ToolError: one of them failed.
    """
    try:
        verilator_environment()
    except ToolError as error:
        raise Unavailable(str(error)) from error
    emulation = open_emulation(export, folder, optimize=optimize)
    described = emulation.description
    n_cycles = 0

    def clock(words: Words, starts: NDArray[np.bool_] | None = None) -> Words:
        nonlocal n_cycles
        n_cycles += len(words)
        return emulation.clock(words, starts)

    def run(words: Words) -> Words:
        rng = np.random.default_rng(n_cycles)
        gaps = np.full(len(words), export.interval_cycles - 1)
        if max_gap_cycles:
            gaps += rng.integers(0, max_gap_cycles, size=len(words), endpoint=True)
        idle = random_idle(described.input_formats, rng)
        inputs, cycles = stream(words, gaps, idle, export.latency_cycles)
        starts = np.zeros(len(inputs), dtype=bool)
        starts[cycles] = True
        return clock(inputs, starts)[cycles + export.latency_cycles]

    def timing() -> Timing:
        formats, events = described.input_formats, _golden_events(export, described)
        if export.interval_cycles == 1:
            measured = measure_timing(clock, formats, events=events)
        else:
            measured = measure_told_timing(clock, formats, export.latency_cycles, events=events)
        stated = (export.latency_cycles, export.interval_cycles)
        if (measured.latency_cycles, measured.interval_cycles) != stated:
            raise DeviceFault(
                "wrong-latency",
                f"measured latency {measured.latency_cycles} and interval {measured.interval_cycles} cycles,"
                f" rtl.json states {stated[0]} and {stated[1]}",
            )
        return measured

    return Form(
        description=described,
        run=run,
        timing=timing,
        counters=lambda: {"cycles": n_cycles},
        close=emulation.close,
    )


def _golden_events(export: RtlExport, described: DeviceDescription) -> Words | None:
    """Return the golden vectors that tell most of a pipeline's timing; None of an export without any."""
    files = export.plan.files
    if not {"sim/golden_in.hex", "sim/golden_out.hex"} <= set(files):
        return None
    words, answers = (
        unpack_hex(files[f"sim/golden_{side}.hex"].decode(), len(formats), formats[0])
        for side, formats in (("in", described.input_formats), ("out", described.output_formats))
    )
    is_told = len(words) > 8 and bool((answers != answers[0]).any())
    return telling_events(words, answers) if is_told else None


def vhdl_form(export: RtlExport, network: QuantizedNetwork, folder: Path) -> Form:
    """The exported VHDL, simulated with GHDL and its own testbench.

    Raises:
        Unavailable: GHDL is missing.
    """
    needs("ghdl")
    return Form(
        description=DeviceDescription.of(network, "vhdl"),
        run=lambda words: run_vhdl(export, network, words, folder),
    )
