"""Exported Verilog, built with Verilator and driven cycle by cycle on raw words."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError, ExportError, ToolError
from codesign.export.rtl import RtlExport, pack_hex, unpack_hex
from codesign.files import write_atomically
from codesign.ir import QuantizedNetwork
from codesign.layers import infer_formats
from codesign.tools import cache_folder, require_tool, run_tool
from codesign.validate.verilator import verilator_environment

#: How Verilator's run-time library is compiled; the same for every network.
_RUN_TIME_FLAGS = ("OPT_FAST=-O1", "OPT_SLOW=-O0", "OPT_GLOBAL=-O1")


class RtlEmulation:
    """The Verilog of an export, built with Verilator and driven cycle by cycle.

    Args:
        export: a Verilog export.
        network: its network.
        library: shared library that `build_emulation` made.
    """

    def __init__(self, export: RtlExport, network: QuantizedNetwork, library: Path) -> None:
        self.latency_cycles = export.latency_cycles
        ranges = infer_formats(network)
        self._n_in = ranges[network.network.nodes[0].name].low.size
        self._n_out = ranges[network.network.nodes[-1].name].low.size
        self._library = ctypes.CDLL(str(library))
        self._library.rtl_open.restype = ctypes.c_void_p
        self._library.rtl_close.argtypes = [ctypes.c_void_p]
        self._library.rtl_clock.argtypes = [
            ctypes.c_void_p,
            ctypes.c_void_p,
            ctypes.c_int64,
            ctypes.c_void_p,
        ]
        self._handle = ctypes.c_void_p(self._library.rtl_open())

    def clock(self, words: NDArray[np.int64]) -> NDArray[np.int64]:
        """Clock in one vector per edge and return what the output port shows after each edge."""
        words = np.ascontiguousarray(words, dtype=np.int64)
        if words.ndim != 2 or words.shape[1] != self._n_in:
            raise DesignError(f"input words have shape {words.shape}; expected (n, {self._n_in})")
        out = np.empty((len(words), self._n_out), dtype=np.int64)
        self._library.rtl_clock(self._handle, words.ctypes.data, len(words), out.ctypes.data)
        return out

    def run(self, words: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the output words of input words sent back to back, one per cycle."""
        words = np.asarray(words, dtype=np.int64)
        flush = np.zeros((self.latency_cycles, self._n_in), dtype=np.int64)
        return self.clock(np.concatenate([words, flush]))[self.latency_cycles :]

    def measure_latency_cycles(self, words: NDArray[np.int64], limit_cycles: int = 1000) -> int:
        """Measure the latency: edges between a change at the input and the change it makes at the output.

        Args:
            words: int64[2, n_inputs], two vectors with different outputs.
            limit_cycles: give up after so many edges.

        Raises:
            DesignError: the output never changes.
        """
        before = self.clock(np.repeat(words[:1], limit_cycles, axis=0))[-1]
        after = self.clock(np.repeat(words[1:2], limit_cycles, axis=0))
        changed = np.flatnonzero((after != before).any(axis=1))
        if changed.size == 0:
            raise DesignError("the two vectors have equal outputs; choose two that differ")
        return int(changed[0])

    def close(self) -> None:
        """End the simulation."""
        if self._handle is not None:
            self._library.rtl_close(self._handle)
            self._handle = None  # type: ignore[assignment]


def _run_time_library(
    folder: Path, name: str, environment: Mapping[str, str], timeout_s: float
) -> Path:
    """Return Verilator's run-time library, built once per Verilator and compiler and then kept."""
    compiler = require_tool("g++")
    version = run_tool([compiler, "-dumpfullversion"], folder=folder, timeout_s=60.0).output.strip()
    key = f"{environment.get('VERILATOR_ROOT')} {environment['PATH']} {compiler} {version} {_RUN_TIME_FLAGS}"
    kept = cache_folder() / f"verilated-{hashlib.sha256(key.encode()).hexdigest()[:12]}.a"
    if not kept.is_file():
        run_tool(
            ["make", "-f", f"V{name}.mk", *_RUN_TIME_FLAGS, "libverilated.a"],
            folder=folder,
            timeout_s=timeout_s,
            environment=environment,
        )
        write_atomically(kept, (folder / "libverilated.a").read_bytes())
    return kept


def build_emulation(
    export: RtlExport,
    network: QuantizedNetwork,
    folder: Path,
    *,
    optimize: bool = True,
    timeout_s: float = 1800.0,
) -> RtlEmulation:
    """Build the Verilog of an export with Verilator.

    Args:
        export: a Verilog export.
        network: its network.
        folder: where to build; the sources are written there.
        optimize: optimise the C++ (slower to build, faster to run).
        timeout_s: of each tool.

    Raises:
        ToolError: Verilator, g++, make or perl is missing or failed.
        ExportError: the export is VHDL, which Verilator does not read.
    """
    if export.flavor != "verilog":
        raise ExportError("Verilator reads Verilog only; export with flavor='verilog'")
    environment, compiler = verilator_environment(), require_tool("g++")
    folder = folder.resolve()
    export.plan.write(folder)
    objects, level = folder / "sim" / "objects", "-O1" if optimize else "-O0"
    run_tool(
        [
            "verilator", "--cc", "--top-module", export.name, "--prefix", f"V{export.name}",
            "-Wno-lint", "-Wno-style", "-Wno-fatal", "-Mdir", objects, "-CFLAGS", "-fPIC", *export.sources,
        ],
        folder=folder,
        timeout_s=timeout_s,
        environment=environment,
    )  # fmt: skip
    run_tool(
        [
            "make", "-f", f"V{export.name}.mk", f"OPT_FAST={level}", "OPT_SLOW=-O0", f"OPT_GLOBAL={level}",
            f"libV{export.name}.a",
        ],
        folder=objects,
        timeout_s=timeout_s,
        environment=environment,
    )  # fmt: skip
    root = environment.get("VERILATOR_ROOT")
    if root is None:
        answer = run_tool(
            ["verilator", "--getenv", "VERILATOR_ROOT"],
            folder=folder,
            timeout_s=60.0,
            environment=environment,
        )
        root = answer.output.strip()
    library = folder / "sim" / f"lib{export.name}.so"
    run_tool(
        [
            compiler, "-std=c++17", level, "-fPIC", "-shared", "-pthread", "-o", library, "sim/harness.cc",
            f"-I{objects}", f"-I{root}/include", f"-I{root}/include/vltstd",
            objects / f"libV{export.name}.a",
            _run_time_library(objects, export.name, environment, timeout_s),
        ],
        folder=folder,
        timeout_s=timeout_s,
    )  # fmt: skip
    if not library.is_file():
        raise ToolError(f"g++ wrote no {library.name}; look at {folder}")
    return RtlEmulation(export, network, library)


def run_vhdl(
    export: RtlExport,
    network: QuantizedNetwork,
    words: NDArray[np.int64],
    folder: Path,
    *,
    timeout_s: float = 1800.0,
) -> NDArray[np.int64]:
    """Simulate the VHDL of an export with GHDL and its own testbench.

    Args:
        export: a VHDL export with a testbench.
        network: its network.
        words: int64[n, n_inputs], sent back to back.
        folder: where to build; the sources are written there.
        timeout_s: of each of the three steps.

    Returns:
        int64[n, n_outputs] output words.

    Raises:
        ToolError: GHDL is missing or failed.
        ExportError: the export is Verilog, or outputs hold unknown bits.
    """
    testbench = f"sim/{export.name}_tb.vhd"
    if testbench not in export.plan.files:
        raise ExportError("only a VHDL export with golden vectors can be simulated with GHDL")
    ghdl = require_tool("ghdl")
    folder = folder.resolve()
    export.plan.write(folder)
    n_outputs = infer_formats(network)[network.network.nodes[-1].name].low.size
    # the expected words only set the length here: the caller compares
    unknown = np.zeros((len(words), n_outputs), dtype=np.int64)
    (folder / "golden_in.hex").write_text(pack_hex(words, network.input_format.bits))
    (folder / "golden_out.hex").write_text(pack_hex(unknown, network.output_format.bits))
    top = f"{export.name}_tb"
    run_tool(
        [ghdl, "-a", "--std=08", *export.sources, testbench], folder=folder, timeout_s=timeout_s
    )
    run_tool([ghdl, "-e", "--std=08", top], folder=folder, timeout_s=timeout_s)
    run_tool([ghdl, "-r", "--std=08", top], folder=folder, timeout_s=timeout_s, check=False)
    output = folder / "output.hex"
    if not output.is_file():
        raise ToolError(f"GHDL wrote no {output.name}; look at {folder}")
    return unpack_hex(output.read_text(), n_outputs, network.output_format)
