"""alkaid's HLS flavour: the adder graph of a whole network as C++ for Vitis HLS."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from codesign.export.plan import ProjectPlan
from codesign.export.templates import check_identifier, check_part
from codesign.ir import QuantizedNetwork

if TYPE_CHECKING:
    from alkaid.types import CombLogic

#: Not written: a compressed dump with a time stamp, and AMD's simulation types, which hls4ml's projects hold.
_LEFT_OUT = ("model/", "src/static/")


def export_alkaid_hls(
    network: QuantizedNetwork, logic: CombLogic, *, name: str = "codesign_nn"
) -> ProjectPlan:
    """Return the HLS project of a traced network.

    Args:
        network: the network, for part and clock.
        logic: what `codesign.export.rtl.trace_network(network)` returned.
        name: top function is `<name>_fn`.

    Raises:
        ExportError: a name is not allowed.
    """
    from alkaid.codegen import HLSModel

    hardware = network.candidate.hardware
    with tempfile.TemporaryDirectory(prefix="codesign-alkaid-") as folder:
        HLSModel(
            logic,
            Path(folder) / name,
            check_identifier(name),
            flavor="vitis",
            part_name=check_part(hardware.part),
            clock_period=hardware.clock_period_ns,
            print_latency=False,
        ).write()
        plan = ProjectPlan.read(Path(folder) / name)
    files = {
        path: content for path, content in plan.files.items() if not path.startswith(_LEFT_OUT)
    }
    return ProjectPlan(files=files, executables=frozenset(plan.executables & set(files)))
