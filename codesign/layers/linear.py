"""Identity that rounds: the output of a network, or a requantization."""

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


class Linear(Activation):
    """x, rounded to a signed word."""

    name = "linear"
    result_is_signed = True

    def describe(self, columns: FloatColumns) -> tuple[Described, ...]:
        return (describe_activation("linear", columns),)

    def train_function(self, values: torch.Tensor) -> torch.Tensor:
        return values  # rounding follows

    def apply_words(
        self, words: NDArray[np.int64], source: FixedPoint, result: FixedPoint
    ) -> NDArray[np.int64]:
        return result.cast_words(words, source)

    def apply_torch(
        self, values: torch.Tensor, source: FixedPoint, result: FixedPoint
    ) -> torch.Tensor:
        return floor_and_saturate(values, result)

    def onnx_function(self, graph: OnnxGraph, source: str) -> str:
        return source

    def to_hls4ml(
        self,
        node: Node,
        network: QuantizedNetwork,
        graph: HlsGraph,
        inputs: Sequence[str],
        ranges: Sequence[WordRange],
    ) -> str:
        return add_hls_activation(
            graph, "linear", node.name, inputs[0], ranges[-1].low.size, ranges[-1].format
        )

    def cpp_function(self, word: str, source: FixedPoint, result: FixedPoint) -> str:
        return f"{cpp_cast(source, result)}({word})"

    def rtl_function(self, source: FVArray) -> FVArray:
        return source


LAYERS.add(Linear.name, Linear())
