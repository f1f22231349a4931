"""Difference of two branches of equal shape, exact."""

from __future__ import annotations

from typing import Any

from codesign.layers import LAYERS
from codesign.layers._merge import Combination


class Subtract(Combination):
    """a - b, one bit wider than the wider of the two."""

    name = "subtract"
    foreign = ("onnx.Sub", "hls4ml.Merge.subtract")
    onnx_operator = "Sub"
    cpp_operator = "-"

    def combine(self, first: Any, second: Any) -> Any:
        return first - second


LAYERS.add(Subtract.name, Subtract())
