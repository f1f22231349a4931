"""Leaky rectified linear unit with slope 2**-3: a shift, exact on every back end."""

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
    describe_activation,
    floor_and_saturate,
)
from codesign.layers._export import cpp_cast
from codesign.layers.base import FloatColumns, WordRange
from hw_models.lowering import Described

if TYPE_CHECKING:
    from alkaid.trace import FVArray

    from codesign.layers._export import HlsGraph, OnnxGraph

#: log2 of the slope for negative inputs; a power of two, so that no back end rounds the product.
LOG2_SLOPE = -3


class LeakyReLU(Activation):
    """x where positive, x / 8 elsewhere."""

    name = "leaky_relu"
    result_is_signed = True

    def describe(self, columns: FloatColumns) -> tuple[Described, ...]:
        return (describe_activation("leaky_relu", columns),)

    def train_function(self, values: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.leaky_relu(values, 2.0**LOG2_SLOPE)

    def apply_words(
        self, words: NDArray[np.int64], source: FixedPoint, result: FixedPoint
    ) -> NDArray[np.int64]:
        scaled = FixedPoint(
            bits=source.bits, integer_bits=source.integer_bits + LOG2_SLOPE, signed=source.signed
        )  # the same word, read as an eighth of its value
        return np.where(
            words > 0, result.cast_words(words, source), result.cast_words(words, scaled)
        )

    def apply_torch(
        self, values: torch.Tensor, source: FixedPoint, result: FixedPoint
    ) -> torch.Tensor:
        return floor_and_saturate(torch.where(values > 0, values, values * 2.0**LOG2_SLOPE), result)

    def onnx_function(self, graph: OnnxGraph, source: str) -> str:
        return graph.operator(
            "Max", source, graph.operator("Mul", source, graph.real(np.array(2.0**LOG2_SLOPE)))
        )

    def to_hls4ml(
        self,
        node: Node,
        network: QuantizedNetwork,
        graph: HlsGraph,
        inputs: Sequence[str],
        ranges: Sequence[WordRange],
    ) -> str:
        slope = FixedPoint(bits=1, integer_bits=LOG2_SLOPE + 1, signed=False, overflow="WRAP")
        return graph.add(
            "LeakyReLU",
            node.name,
            inputs,
            precision={"result": ranges[-1].format, "param": slope},
            activation="LeakyReLU",
            activ_param=slope.max_value,
            n_in=ranges[-1].low.size,
        )

    def cpp_function(self, word: str, source: FixedPoint, result: FixedPoint) -> str:
        eighth = cpp_cast(source, result, extra_shift=-LOG2_SLOPE)
        return f"{word} > 0 ? {cpp_cast(source, result)}({word}) : {eighth}({word})"

    def rtl_function(self, source: FVArray) -> FVArray:
        negative = [lane.is_negative() for lane in np.asarray(source)]
        lanes = [
            sign.msb_mux(lane * 2.0**LOG2_SLOPE, lane)
            for sign, lane in zip(negative, np.asarray(source), strict=True)
        ]
        return type(source)(np.array(lanes), source.solver_options, hwconf=source.hwconf)


LAYERS.add(LeakyReLU.name, LeakyReLU())
