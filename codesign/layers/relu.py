"""Rectified linear unit, rounded to an unsigned word."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from codesign.ir import FixedPoint, TensorType
from codesign.layers import LAYERS
from codesign.layers._activation import (
    Activation,
    add_hls_activation,
    describe_activation,
)
from codesign.layers.base import FloatColumns
from hw_models.lowering import Described

if TYPE_CHECKING:
    import torch
    from alkaid.trace import FVArray

    from codesign.layers._export import HlsGraph, OnnxGraph


class ReLU(Activation):
    """max(0, x)."""

    name = "relu"
    foreign = ("onnx.Relu", "hls4ml.Activation.relu")
    result_is_signed = False
    luts_per_bit = 0.5  # a bit and the sign: two to a LUT6_2

    def describe(self, columns: FloatColumns) -> tuple[Described, ...]:
        return (describe_activation("relu", columns),)

    def train_function(self, values: torch.Tensor) -> torch.Tensor:
        return values  # saturation to an unsigned word cuts negative values

    def apply_words(
        self, words: NDArray[np.int64], fraction_bits: int, result: TensorType
    ) -> NDArray[np.int64]:
        return result.cast_words(np.maximum(words, 0), fraction_bits)

    def torch_function(self, values: torch.Tensor) -> torch.Tensor:
        import torch

        return torch.relu(values)

    def onnx_function(self, graph: OnnxGraph, source: str) -> str:
        return graph.operator("Relu", source)

    def hls_function(
        self, graph: HlsGraph, name: str, source: str, n_lanes: int, result: FixedPoint
    ) -> str:
        return add_hls_activation(graph, "relu", name, source, n_lanes, result)

    def cpp_function(self, word: str, cast: Callable[[int], str]) -> str:
        return f"{cast(0)}({word} > 0 ? {word} : 0)"

    def rtl_function(self, source: FVArray) -> FVArray:
        return source.relu()


LAYERS.add(ReLU.name, ReLU())
