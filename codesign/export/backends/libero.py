"""Microchip SmartHLS and Libero; hls4ml looks for `shls` before it converts."""

from collections.abc import Mapping
from typing import Any

from codesign.export.backends import BACKENDS
from codesign.export.backends.base import Backend, initial_configuration
from codesign.export.templates import render
from codesign.ir import QuantizedNetwork


class Libero(Backend):
    """hls4ml's Libero back end."""

    name = "libero"
    hls4ml_name = "Libero"
    vendor = "microchip"
    strategies = ("latency", "resource", "unrolled")
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
            "codesign.mk": render("libero/codesign.mk.j2", **context),
        }


BACKENDS.add(Libero.name, Libero())
