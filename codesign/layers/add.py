"""Sum of two branches of equal shape, exact."""

from __future__ import annotations

from typing import Any

from codesign.layers import LAYERS
from codesign.layers._merge import Combination


class Add(Combination):
    """a + b, one bit wider than the wider of the two."""

    name = "add"
    foreign = ("onnx.Add", "hls4ml.Merge.add")
    onnx_operator = "Add"
    cpp_operator = "+"

    def combine(self, first: Any, second: Any) -> Any:
        return first + second


LAYERS.add(Add.name, Add())
