"""Intel HLS compiler and Quartus."""

from collections.abc import Mapping
from typing import Any

from codesign.export.backends import BACKENDS
from codesign.export.backends.base import Backend, initial_configuration
from codesign.export.templates import render
from codesign.ir import QuantizedNetwork


class Quartus(Backend):
    """hls4ml's Quartus back end multiplies with the resource strategy only."""

    name = "quartus"
    hls4ml_name = "Quartus"
    vendor = "intel"
    strategies = ("resource",)
    has_own_tables = False
    rounds_elements = False
    has_c_simulation = True

    def configuration(self, network: QuantizedNetwork) -> dict[str, Any]:
        hardware = network.candidate.hardware
        return initial_configuration(
            self.hls4ml_name,
            part=hardware.part,
            clock_period=hardware.clock_period_ns,
            io_type=hardware.io_type,
        )

    def scripts(self, context: Mapping[str, Any]) -> dict[str, bytes]:
        return {
            "codesign.mk": render("quartus/codesign.mk.j2", **context),
            "codesign.sdc": render("quartus/constraints.sdc.j2", **context),
        }


BACKENDS.add(Quartus.name, Quartus())
