"""Hard sigmoid of slope 1/4, that of the sigmoid at zero: a shift, exact without a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codesign.ir import FixedPoint
from codesign.layers import LAYERS
from codesign.layers._hard import HardActivation

if TYPE_CHECKING:
    from codesign.layers._export import HlsGraph
    from codesign.layers._import import Foreign


class HardSigmoid(HardActivation):
    """max(0, min(x / 4 + 1 / 2, 1)); Keras' own has the slope 1/5, which no shift is."""

    name = "hard_sigmoid"
    foreign = ("onnx.HardSigmoid", "hls4ml.Activation.hard_sigmoid")
    result_is_signed = False
    log2_slope = -2
    log2_offset = -1
    low = 0
    hls_name = "hard_sigmoid"

    def line_of(self, node: Foreign) -> tuple[float, float]:
        names = ("alpha", "beta") if node.kind.startswith("onnx.") else ("slope", "shift")
        slope, shift = (
            float(node.attributes.get(name, default))
            for name, default in zip(names, (0.2, 0.5), strict=True)
        )
        return slope, shift

    def hls_function(
        self, graph: HlsGraph, name: str, source: str, n_lanes: int, result: FixedPoint
    ) -> str:
        return graph.add(
            "HardActivation",
            name,
            [source],
            precision={"result": result},
            activation="hard_sigmoid",
            slope=2.0**self.log2_slope,
            shift=self._offset,
            n_in=n_lanes,
        )


LAYERS.add(HardSigmoid.name, HardSigmoid())
