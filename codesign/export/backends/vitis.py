"""AMD Vitis HLS."""

from typing import Any

from codesign.export.backends import BACKENDS
from codesign.export.backends.base import Backend
from codesign.ir import QuantizedNetwork


class Vitis(Backend):
    """Vitis HLS 2020.2 and later."""

    name = "vitis"
    hls4ml_name = "Vitis"
    strategies = ("latency", "resource", "unrolled", "resource_unrolled", "distributed_arithmetic")
    has_own_tables = True
    has_c_simulation = True
    templates = {}
    executables = frozenset()

    def configuration(self, network: QuantizedNetwork) -> dict[str, Any]:
        hardware = network.candidate.hardware
        return {
            "Part": hardware.part,
            "ClockPeriod": hardware.clock_period_ns,
            "ClockUncertainty": "27%",
            "WriterConfig": {
                "Namespace": None,
                "WriteWeightsTxt": False,
                "WriteTar": False,
                "TBOutputStream": "both",
            },
        }


BACKENDS.add(Vitis.name, Vitis())
