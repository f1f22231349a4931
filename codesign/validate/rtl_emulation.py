"""Exported Verilog, built with Verilator and driven cycle by cycle on raw words."""

from __future__ import annotations

import ctypes
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError, DeviceError, ExportError, ToolError
from codesign.export.rtl import RtlExport, pack_hex, unpack_hex
from codesign.files import write_atomically
from codesign.ir import FixedPoint, QuantizedNetwork
from codesign.layers import typed
from codesign.tools import cache_folder, require_tool, run_tool
from codesign.validate.implementation import DeviceDescription
from codesign.validate.verilator import verilator_environment

#: How Verilator's run-time library is compiled; the same for every network.
_RUN_TIME_FLAGS = ("OPT_FAST=-O1", "OPT_SLOW=-O0", "OPT_GLOBAL=-O1")


class RtlEmulation:
    """The Verilog of an export, built with Verilator and driven cycle by cycle.

    Args:
        export: a Verilog export.
        library: shared library built from it.

    Raises:
        DeviceError: the library cannot be loaded.
        DesignError: the export describes its ports wrongly.
    """

    def __init__(self, export: RtlExport, library: Path) -> None:
        self.description = _describe(export)
        self._is_told = export.interval_cycles > 1
        pointer = ctypes.c_void_p
        try:
            self._library = ctypes.CDLL(str(library))
            self._library.rtl_open.restype = pointer
            self._library.rtl_close.argtypes = [pointer]
            self._library.rtl_clock.argtypes = [pointer, pointer, ctypes.c_int64, pointer]
            self._library.rtl_clock.restype = None
        except (OSError, AttributeError) as error:
            raise DeviceError(
                f"{library} cannot be loaded: {error}; delete it to build it anew"
            ) from error
        self._handle: ctypes.c_void_p | None = pointer(self._library.rtl_open())

    def clock(
        self, words: NDArray[np.int64], starts: NDArray[np.bool_] | None = None
    ) -> NDArray[np.int64]:
        """Clock in one vector per edge and return what the output port shows after each edge.

        Args:
            words: int64[n, n_inputs].
            starts: bool[n], whether each vector is an event; for designs that are told, and only these.
        """
        words = np.asarray(words, dtype=np.int64)
        n_in, n_out = self.description.n_inputs, self.description.n_outputs
        if words.ndim != 2 or words.shape[1] != n_in:
            raise DesignError(f"input words have shape {words.shape}; expected (n, {n_in})")
        if self._is_told:
            told = np.zeros(len(words), dtype=bool) if starts is None else starts
            words = np.column_stack([words, told])
        words = np.ascontiguousarray(words, dtype=np.int64)
        out = np.empty((len(words), n_out), dtype=np.int64)
        self._library.rtl_clock(self._handle, words.ctypes.data, len(words), out.ctypes.data)
        return out

    def close(self) -> None:
        """End the simulation."""
        if self._handle is not None:
            self._library.rtl_close(self._handle)
            self._handle = None


def _describe(export: RtlExport) -> DeviceDescription:
    def ports(side: Mapping[str, Any]) -> tuple[FixedPoint, ...]:
        fmt = FixedPoint(
            bits=int(side["bits"]),
            integer_bits=int(side["bits"]) - int(side["fraction_bits"]),
            signed=bool(side["is_signed"]),
        )
        return (fmt,) * int(side["lanes"])

    try:
        facts = json.loads(export.plan.files["rtl.json"])
        return DeviceDescription(
            kind="rtl",
            digest=str(facts["network_digest"]),
            input_formats=ports(facts["x"]),
            output_formats=ports(facts["y"]),
            latency_cycles=export.latency_cycles,
            clock_period_ns=float(facts["clock_period_ns"]),
            stage="emulated",
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DesignError(
            f"rtl.json lacks or garbles {error}; export the candidate again"
        ) from error


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


def open_emulation(
    export: RtlExport, folder: Path, *, optimize: bool = True, timeout_s: float = 1800.0
) -> RtlEmulation:
    """Open the Verilog of an export, built with Verilator in `folder` unless it was built there before.

    Args:
        export: a Verilog export.
        folder: where to build; the sources are written there.
        optimize: optimise the C++ (slower to build, faster to run).
        timeout_s: of each tool.

    Raises:
        ToolError: Verilator, g++, make or perl is missing or failed.
        ExportError: the export is VHDL, which Verilator does not read.
    """
    folder = folder.resolve()
    library = folder / "sim" / f"lib{export.name}.so"
    if not library.is_file():
        build_library(export, folder, library, optimize=optimize, timeout_s=timeout_s)
    return RtlEmulation(export, library)


def build_library(
    export: RtlExport,
    folder: Path,
    library: Path,
    *,
    module: str | None = None,
    sources: tuple[str, ...] = (),
    harness: str = "sim/harness.cc",
    optimize: bool = True,
    timeout_s: float = 1800.0,
) -> None:
    """Build a shared library of a Verilated module of an export and C++ that drives it.

    Args:
        export: a Verilog export.
        folder: where to build; the files of the export are written there.
        library: what to write.
        module: which module; default the export's own.
        sources: more of the export's files that it needs.
        harness: C++ that includes `V<module>.h`, relative to the folder.
        optimize, timeout_s: as in `open_emulation`.

    Raises:
        ToolError, ExportError: as `open_emulation`.
    """
    top = export.name if module is None else module
    if export.flavor != "verilog":
        raise ExportError("Verilator reads Verilog only; export with flavor='verilog'")
    environment, compiler = verilator_environment(), require_tool("g++")
    export.plan.write(folder)
    objects, level = folder / "sim" / "objects", "-O1" if optimize else "-O0"
    run_tool(
        [
            "verilator", "--cc", "--top-module", top, "--prefix", f"V{top}",
            "-Wno-lint", "-Wno-style", "-Wno-fatal", "-Mdir", objects, "-CFLAGS", "-fPIC", *export.sources, *sources,
        ],
        folder=folder,
        timeout_s=timeout_s,
        environment=environment,
    )  # fmt: skip
    run_tool(
        [
            "make", "-f", f"V{top}.mk", f"OPT_FAST={level}", "OPT_SLOW=-O0", f"OPT_GLOBAL={level}",
            f"libV{top}.a",
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
    partial = library.with_suffix(".part")  # g++ may be killed
    run_tool(
        [
            compiler, "-std=c++17", level, "-fPIC", "-shared", "-pthread", "-o", partial, harness,
            f"-I{objects}", f"-I{root}/include", f"-I{root}/include/vltstd",
            objects / f"libV{top}.a",
            _run_time_library(objects, top, environment, timeout_s),
        ],
        folder=folder,
        timeout_s=timeout_s,
    )  # fmt: skip
    if not partial.is_file():
        raise ToolError(f"g++ wrote no {partial.name}; look at {folder}")
    partial.replace(library)


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
    n_outputs = typed(network).output.size
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
