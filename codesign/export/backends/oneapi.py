"""Intel oneAPI (icpx)."""

from collections.abc import Mapping
from typing import Any

from codesign.export.backends import BACKENDS
from codesign.export.backends.base import Backend, initial_configuration
from codesign.export.templates import render
from codesign.ir import QuantizedNetwork


class OneApi(Backend):
    """hls4ml's oneAPI back end multiplies with the resource strategy only."""

    name = "oneapi"
    hls4ml_name = "oneAPI"
    vendor = "intel"
    strategies = ("resource",)
    has_own_tables = False
    rounds_elements = False
    has_c_simulation = False

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
            "codesign.mk": render("oneapi/codesign.mk.j2", **context),
        }


BACKENDS.add(OneApi.name, OneApi())
