"""Open logic synthesis: Verilog to cell counts through Yosys, with no vendor tool.

What Yosys counts is a *synthesized* figure of another tool than Vivado's: LUT cells before packing,
no place and route, no timing.  Records made here say `tool: yosys`.
"""

import importlib.metadata
import json
import re
import resource
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from codesign.errors import DesignError, ReportError, ToolError, unknown_name
from codesign.tools import run_tool

#: Xilinx families Yosys maps to, by the name of its `-family` option.
FAMILIES = ("xcup", "xcu", "xc7", "xc6v", "xc6s")

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-/]*\Z")
_CHILD = Path(__file__).with_name("_yosys_child.py")

#: RAMB18 blocks per cell.
_BRAM_18K = {"RAMB18E1": 1, "RAMB18E2": 1, "RAMB36E1": 2, "RAMB36E2": 2}


@dataclass(frozen=True, kw_only=True)
class OpenSynthesisResult:
    """Cells that Yosys maps one design to.

    Attributes:
        lut: LUT1..LUT6 cells, before packing into LUT6_2, plus LUTs used as shift registers or memory.
        lut_as_memory: the part of `lut` in shift registers and distributed memory.
        ff: flip-flops of every kind.
        dsp: DSP48 cells.
        bram_18k: RAMB18 blocks; a RAMB36 counts twice.
        uram: URAM288 cells.
        carry4: CARRY4 cells (a CARRY8 counts twice).
        packed_logic_cells: Yosys' own estimate of LUT6 sites after packing.
        cells_by_type: every cell type and its count.
        family: Xilinx family of the mapping.
        tool_version: of pyosys.
        wall_s: time of the run.
        cpu_s: processor time of the run.
    """

    lut: int
    lut_as_memory: int
    ff: int
    dsp: int
    bram_18k: int
    uram: int
    carry4: int
    packed_logic_cells: int
    cells_by_type: Mapping[str, int]
    family: str
    tool_version: str
    wall_s: float
    cpu_s: float


def read_stat_json(text: str, *, origin: str) -> tuple[dict[str, int], int]:
    """Read the output of Yosys' `stat -json -tech xilinx`.

    Args:
        text: the file's content.
        origin: where it came from, for messages.

    Returns:
        Cell counts by type, and the estimated number of packed logic cells.

    Raises:
        ReportError: the text is no such report, or counts no cell at all.
    """
    try:
        design = json.loads(text)["design"]
        cells = {str(name): int(count) for name, count in design["num_cells_by_type"].items()}
        packed = int(design["estimated_num_lc"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ReportError(
            f"{origin}: not a Yosys `stat -json -tech xilinx` report ({error!r}); synthesise the design again"
        ) from error
    cells.pop("$scopeinfo", None)
    if any(name.startswith(("$", "\\$")) for name in cells):
        unmapped = ", ".join(sorted(name for name in cells if name.startswith(("$", "\\$")))[:5])
        raise ReportError(f"{origin}: cells were left unmapped ({unmapped}); check the Verilog")
    return cells, packed


def verilog_sources(folder: Path, top: str) -> list[str]:
    """Return the Verilog files below `folder`, with names that are safe in a Yosys command.

    Raises:
        DesignError: the folder, a file name or the top is unusable.
    """
    if not _IDENTIFIER.match(top):
        raise DesignError(
            f"top module {top!r} is no Verilog identifier; use letters, digits and '_'"
        )
    if not folder.is_dir():
        raise DesignError(f"{folder} is not a folder; give the folder of the RTL sources")
    sources = [
        str(path.relative_to(folder))
        for pattern in ("*.v", "*.sv")
        for path in sorted(folder.rglob(pattern))
        if path.is_file()
    ]
    if not sources:
        raise DesignError(
            f"{folder} holds no Verilog file (*.v, *.sv); give the folder of the RTL sources"
        )
    for name in sources:
        if not _FILE_NAME.match(name):
            raise DesignError(
                f"{folder}: file name {name!r} holds characters that Yosys would misread; "
                "use letters, digits, '_', '-' and '.'"
            )
    return sources


def run_yosys(passes: Sequence[str], *, folder: Path, timeout_s: float) -> None:
    """Run Yosys passes in a process of their own.

    Args:
        passes: commands; whatever names they hold were checked by the caller.
        folder: working directory.
        timeout_s: the run is stopped after this many seconds.

    Raises:
        ToolError: Yosys failed or ran out of time.
    """
    with tempfile.TemporaryDirectory(prefix="codesign_yosys_") as scratch_name:
        scratch = Path(scratch_name)
        job_path, log_path = scratch / "job.json", scratch / "log"
        job = {"passes": list(passes), "folder": str(folder), "log_path": str(log_path)}
        job_path.write_text(json.dumps(job), encoding="utf-8")
        outcome = run_tool(
            [sys.executable, _CHILD, job_path],
            folder=scratch,
            timeout_s=timeout_s,
            environment={"OMP_NUM_THREADS": "1"},
            check=False,
        )
        if outcome.returncode != 0:
            log = (
                log_path.read_text(encoding="utf-8", errors="replace") if log_path.is_file() else ""
            )
            lines = (log + outcome.output).strip().splitlines()
            said = [line for line in lines if "ERROR" in line] or lines[-4:]
            raise ToolError(
                f"Yosys failed on {folder} with exit status {outcome.returncode}: "
                + " | ".join(said[-4:])
            )


def synthesize_verilog(
    folder: Path, top: str, *, family: str = "xcup", timeout_s: float = 600.0
) -> OpenSynthesisResult:
    """Synthesise every Verilog file below `folder` with Yosys, flattened, out of context.

    Args:
        folder: folder of `*.v` and `*.sv` files, searched recursively.
        top: name of the top module.
        family: one of `FAMILIES` ("xcup" is UltraScale+).
        timeout_s: the run is stopped after this many seconds.

    Raises:
        DesignError: the folder, a file name, the top or the family is unusable.
        ToolError: Yosys failed or ran out of time.
        ReportError: Yosys' report cannot be read.
    """
    folder = Path(folder).resolve()
    if family not in FAMILIES:
        raise DesignError(unknown_name("Xilinx family", family, FAMILIES))
    sources = verilog_sources(folder, top)
    with tempfile.TemporaryDirectory(prefix="codesign_yosys_") as scratch_name:
        stat_path = Path(scratch_name) / "stat.json"
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start_s = time.monotonic()
        run_yosys(
            [
                "read_verilog -sv -defer " + " ".join(sources),
                f"synth_xilinx -family {family} -top {top} -flatten -noiopad -noclkbuf",
                f"tee -q -o {stat_path} stat -json -tech xilinx",
            ],
            folder=folder,
            timeout_s=timeout_s,
        )
        wall_s = time.monotonic() - start_s
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if not stat_path.is_file():
            raise ToolError(f"Yosys wrote no statistics for {folder} (top {top}); run it again")
        cells, packed = read_stat_json(stat_path.read_text(encoding="utf-8"), origin=str(folder))
    cpu_s = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
    return count_cells(cells, packed_logic_cells=packed, family=family, wall_s=wall_s, cpu_s=cpu_s)


def count_cells(
    cells: Mapping[str, int], *, packed_logic_cells: int, family: str, wall_s: float, cpu_s: float
) -> OpenSynthesisResult:
    """Sum cell counts by type into resources.

    Sources: cell names as in AMD UG974 (UltraScale libraries guide); LUT RAM takes one LUT per
    32 or 64 bits and port, counted as one here (Yosys' networks of constant arithmetic have none).
    """
    logic = sum(count for name, count in cells.items() if re.fullmatch(r"LUT[1-6]", name))
    memory = sum(
        count for name, count in cells.items() if re.match(r"(SRL|SRLC)\d+E?|RAM\d+[XM]", name)
    )
    return OpenSynthesisResult(
        lut=logic + memory,
        lut_as_memory=memory,
        ff=sum(count for name, count in cells.items() if re.fullmatch(r"FD[RSCP]E(_1)?", name)),
        dsp=sum(count for name, count in cells.items() if name.startswith("DSP48")),
        bram_18k=sum(_BRAM_18K.get(name, 0) * count for name, count in cells.items()),
        uram=sum(count for name, count in cells.items() if name.startswith("URAM")),
        carry4=cells.get("CARRY4", 0) + 2 * cells.get("CARRY8", 0),
        packed_logic_cells=packed_logic_cells,
        cells_by_type=dict(sorted(cells.items())),
        family=family,
        tool_version=importlib.metadata.version("pyosys"),
        wall_s=wall_s,
        cpu_s=cpu_s,
    )
