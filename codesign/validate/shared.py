"""RTL in which particles share logic, written and proved beside an export that exists."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from codesign.errors import MismatchError
from codesign.export.bundle import read_manifest
from codesign.export.shared_rtl import export_shared_rtl
from codesign.export.templates import check_identifier
from codesign.ir import QuantizedNetwork
from codesign.validate.forms import Unavailable, verilog_form


def share_logic(folder: Path, interval_cycles: int) -> tuple[Path, str]:
    """Write Verilog of an exported network that takes an event every so many cycles, and compare it.

    Args:
        folder: of the export.
        interval_cycles: as in `export_shared_rtl`.

    Returns:
        The folder beside it, and what was built and compared.

    Raises:
        StudyError: there is no export.
        ExportError: particles of this network cannot take turns.
        MismatchError: the emulated Verilog gives another word than the network; nothing is written.
    """
    name = check_identifier(str(read_manifest(folder)["name"]))
    network = QuantizedNetwork.load(folder / "weights.npz")
    exported = export_shared_rtl(network, interval_cycles, name=name)
    with np.load(folder / "golden" / "vectors.npz", allow_pickle=False) as archive:
        words, expected = archive["input_words"], archive["output_words"]
    try:
        with tempfile.TemporaryDirectory(prefix="codesign-shared-") as build:
            form = verilog_form(exported, Path(build), max_gap_cycles=3)
            differing = int((form.run(words) != expected).any(axis=1).sum())
            form.close()
        compared = f"{len(words)} vectors equal in emulation"
    except Unavailable as error:
        differing, compared = 0, f"not compared: {error}"
    if differing:
        raise MismatchError(
            f"the Verilog of an event every {interval_cycles} cycles differs from the network on {differing} of"
            f" {len(words)} vectors; nothing was written: report this"
        )
    target = folder.with_name(f"{folder.name}_interval_{interval_cycles}")
    exported.plan.write(target)
    return target, (
        f"an event every {interval_cycles} cycles: latency {exported.latency_cycles} cycles, about"
        f" {exported.adder_cost:,.0f} LUT and {exported.register_bits:,} FF (predicted); {compared}"
    )
