"""Siemens Catapult, for AMD parts."""

from collections.abc import Mapping
from typing import Any

from codesign.export.backends import BACKENDS
from codesign.export.backends.base import Backend, initial_configuration
from codesign.export.templates import render
from codesign.ir import QuantizedNetwork


class Catapult(Backend):
    """hls4ml's Catapult back end, FPGA technology."""

    name = "catapult"
    hls4ml_name = "Catapult"
    vendor = "amd"
    strategies = ("latency", "resource", "unrolled")
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
            tech="fpga",
        )

    def scripts(self, context: Mapping[str, Any]) -> dict[str, bytes]:
        return {
            "codesign.mk": render("catapult/codesign.mk.j2", **context),
        }


BACKENDS.add(Catapult.name, Catapult())
