"""Hard hyperbolic tangent: x between -1 and 1, exact without a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codesign.ir import FixedPoint
from codesign.layers import LAYERS
from codesign.layers._hard import HardActivation

if TYPE_CHECKING:
    from codesign.layers._export import HlsGraph
    from codesign.layers._import import Foreign


class HardTanh(HardActivation):
    """max(-1, min(x, 1))."""

    name = "hard_tanh"
    foreign = ("hls4ml.Activation.hard_tanh",)
    result_is_signed = True
    low = -1
    hls_name = "hard_tanh"

    def line_of(self, node: Foreign) -> tuple[float, float]:
        slope, shift = (float(node.attributes.get(name, 0.5)) for name in ("slope", "shift"))
        return 2.0 * slope, 2.0 * shift - 1.0  # 2 clip(slope x + shift, 0, 1) - 1

    def hls_function(
        self, graph: HlsGraph, name: str, source: str, n_lanes: int, result: FixedPoint
    ) -> str:
        return graph.add(
            "HardActivation",
            name,
            [source],
            precision={"result": result},
            activation="hard_tanh",  # 2 clip(slope x + shift, 0, 1) - 1
            slope=0.5,
            shift=0.5,
            n_in=n_lanes,
        )


LAYERS.add(HardTanh.name, HardTanh())
