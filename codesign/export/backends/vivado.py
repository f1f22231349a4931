"""AMD Vivado HLS."""

from collections.abc import Mapping
from typing import Any

from codesign.export.backends import BACKENDS
from codesign.export.backends._amd import amd_scripts
from codesign.export.backends.base import Backend, initial_configuration
from codesign.ir import QuantizedNetwork

#: What Vivado HLS subtracts from the period by default (AMD UG902, `set_clock_uncertainty`).
CLOCK_UNCERTAINTY = "12.5%"


class Vivado(Backend):
    """Vivado HLS up to 2020.1."""

    name = "vivado"
    hls4ml_name = "Vivado"
    vendor = "amd"
    strategies = ("latency", "resource", "unrolled", "resource_unrolled", "distributed_arithmetic")
    has_own_tables = True
    rounds_elements = True
    has_c_simulation = True

    def configuration(self, network: QuantizedNetwork) -> dict[str, Any]:
        hardware = network.candidate.hardware
        return initial_configuration(
            self.hls4ml_name,
            part=hardware.part,
            clock_period=hardware.clock_period_ns,
            clock_uncertainty=CLOCK_UNCERTAINTY,
            io_type=hardware.io_type,
            write_weights_txt=False,
        )

    def scripts(self, context: Mapping[str, Any]) -> dict[str, bytes]:
        name = context["name"]
        return amd_scripts(
            context,
            tool="vivado_hls",
            clock_uncertainty=CLOCK_UNCERTAINTY,
            top=name,
            design_files=(f"firmware/{name}.cpp",),
        )


BACKENDS.add(Vivado.name, Vivado())
