"""Product of two branches of equal shape, element by element, exact."""

from __future__ import annotations

from typing import Any

from codesign.layers import LAYERS
from codesign.layers._import import Constant, Draft, Foreign, Value
from codesign.layers._merge import Combination


class Multiply(Combination):
    """a * b, as wide as both together."""

    name = "multiply"
    foreign = ("onnx.Mul", "onnx.Div", "hls4ml.Merge.multiply")
    onnx_operator = "Mul"
    cpp_operator = "*"
    is_product = True

    def read(self, node: Foreign, draft: Draft) -> Value | Constant:
        if node.kind == "onnx.Div" and not isinstance(node.inputs[1], Constant):
            raise node.refuse("divides by a computed tensor; no layer does")
        return super().read(node, draft)

    def combine(self, first: Any, second: Any) -> Any:
        return first * second


LAYERS.add(Multiply.name, Multiply())
