"""Rectified linear unit, rounded to an unsigned word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from codesign.ir import FixedPoint, Node, QuantizedNetwork
from codesign.layers import LAYERS
from codesign.layers._activation import (
    Activation,
    add_hls_activation,
    describe_activation,
    floor_and_saturate,
)
from codesign.layers._export import cpp_cast
from codesign.layers.base import FloatColumns, WordRange
from hw_models.lowering import Described

if TYPE_CHECKING:
    from alkaid.trace import FVArray

    from codesign.layers._export import HlsGraph, OnnxGraph


class ReLU(Activation):
    """max(0, x)."""

    name = "relu"
    result_is_signed = False

    def describe(self, columns: FloatColumns) -> tuple[Described, ...]:
        return (describe_activation("relu", columns),)

    def train_function(self, values: torch.Tensor) -> torch.Tensor:
        return values  # saturation to an unsigned word cuts negative values

    def apply_words(
        self, words: NDArray[np.int64], source: FixedPoint, result: FixedPoint
    ) -> NDArray[np.int64]:
        return result.cast_words(np.maximum(words, 0), source)

    def apply_torch(
        self, values: torch.Tensor, source: FixedPoint, result: FixedPoint
    ) -> torch.Tensor:
        return floor_and_saturate(torch.relu(values), result)

    def onnx_function(self, graph: OnnxGraph, source: str) -> str:
        return graph.operator("Relu", source)

    def to_hls4ml(
        self,
        node: Node,
        network: QuantizedNetwork,
        graph: HlsGraph,
        inputs: Sequence[str],
        ranges: Sequence[WordRange],
    ) -> str:
        return add_hls_activation(
            graph, "relu", node.name, inputs[0], ranges[-1].low.size, ranges[-1].format
        )

    def cpp_function(self, word: str, source: FixedPoint, result: FixedPoint) -> str:
        return f"{cpp_cast(source, result)}({word} > 0 ? {word} : 0)"

    def rtl_function(self, source: FVArray) -> FVArray:
        return source.relu()


LAYERS.add(ReLU.name, ReLU())
