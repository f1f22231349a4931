"""AMD Vivado HLS with a block design and driver for boards (PYNQ-Z2, ZCU102, Alveo)."""

from collections.abc import Mapping
from typing import Any

from codesign.errors import ExportError
from codesign.export.backends import BACKENDS
from codesign.export.backends._amd import amd_scripts
from codesign.export.backends.base import Backend, initial_configuration
from codesign.ir import QuantizedNetwork

#: Board by part.  Source: hls4ml 1.3, backends/vivado_accelerator/supported_boards.json.
BOARDS = {
    "xc7z020clg400-1": "pynq-z2",
    "xczu9eg-ffvb1156-2-e": "zcu102",
    "xcu50-fsvh2104-2-e": "alveo-u50",
    "xcu200-fsgd2104-2-e": "alveo-u200",
    "xcu250-figd2104-2L-e": "alveo-u250",
    "xcu280-fsvh2892-2L-e": "alveo-u280",
}


class VivadoAccelerator(Backend):
    """hls4ml's VivadoAccelerator: the board follows from the part."""

    name = "vivado_accelerator"
    hls4ml_name = "VivadoAccelerator"
    vendor = "amd"
    strategies = ("latency", "resource", "unrolled", "resource_unrolled")
    has_own_tables = True
    rounds_elements = True
    has_c_simulation = True

    def configuration(self, network: QuantizedNetwork) -> dict[str, Any]:
        hardware = network.candidate.hardware
        if hardware.part not in BOARDS:
            raise ExportError(
                f"no board of back end 'vivado_accelerator' carries part {hardware.part}; it knows"
                f" {', '.join(f'{board} ({part})' for part, board in BOARDS.items())}"
            )
        if hardware.io_type != "io_stream" and BOARDS[hardware.part].startswith("alveo"):
            raise ExportError(
                "Alveo boards take io_stream only; choose io_stream or another back end"
            )
        configuration = initial_configuration(
            self.hls4ml_name,
            board=BOARDS[hardware.part],
            part=hardware.part,
            clock_period=hardware.clock_period_ns,
            io_type=hardware.io_type,
            interface="axi_stream",
            driver="python",
            input_type="float",
            output_type="float",
        )
        configuration["WriterConfig"] = {**configuration["WriterConfig"], "WriteWeightsTxt": False}
        return configuration

    def scripts(self, context: Mapping[str, Any]) -> dict[str, bytes]:
        name = context["name"]
        scripts = amd_scripts(
            context,
            tool="vivado_hls",
            clock_uncertainty="12.5%",
            top=f"{name}_axi",
            design_files=(f"firmware/{name}_axi.cpp", f"firmware/{name}.cpp"),
        )
        del scripts["codesign_csim.cpp"]  # the top speaks AXI streams of floats
        return scripts


BACKENDS.add(VivadoAccelerator.name, VivadoAccelerator())
