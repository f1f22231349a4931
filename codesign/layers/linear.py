"""Identity that rounds: the output of a network, or a requantization."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from codesign.layers._import import Constant, Draft, Foreign, Value
from codesign.layers._import_quantizers import (
    read_bipolar,
    read_clip,
    read_dequantize_linear,
    read_fixed_point,
    read_hls4ml_quantizer,
    read_quant,
    read_quantize_linear,
    read_rounding,
)
from codesign.layers.base import FloatColumns
from hw_models.lowering import Described

if TYPE_CHECKING:
    import torch
    from alkaid.trace import FVArray

    from codesign.layers._export import HlsGraph, OnnxGraph

_READERS: Mapping[str, Callable[[Foreign, Draft], Value | Constant]] = {
    "onnx.Quant": read_quant,
    "onnx.FixedPoint": read_fixed_point,
    "onnx.BipolarQuant": read_bipolar,
    "onnx.QuantizeLinear": read_quantize_linear,
    "onnx.DequantizeLinear": read_dequantize_linear,
    "onnx.Clip": read_clip,
    "onnx.Max": read_clip,
    "onnx.Min": read_clip,
    "onnx.Floor": read_rounding,
    "onnx.Round": read_rounding,
    "onnx.Neg": lambda node, draft: draft.affine(node.value(), -1.0, 0.0),
    "hls4ml.FixedPointQuantizer": read_hls4ml_quantizer,
    "hls4ml.Activation.linear": lambda node, draft: node.value(),
}


class Linear(Activation):
    """x, rounded to a signed word."""

    name = "linear"
    foreign = tuple(_READERS)
    result_is_signed = True

    def describe(self, columns: FloatColumns) -> tuple[Described, ...]:
        return (describe_activation("linear", columns),)

    def train_function(self, values: torch.Tensor) -> torch.Tensor:
        return values  # rounding follows

    def apply_words(
        self, words: NDArray[np.int64], fraction_bits: int, result: TensorType
    ) -> NDArray[np.int64]:
        return result.cast_words(words, fraction_bits)

    def torch_function(self, values: torch.Tensor) -> torch.Tensor:
        return values

    def onnx_function(self, graph: OnnxGraph, source: str) -> str:
        return source

    def hls_function(
        self, graph: HlsGraph, name: str, source: str, n_lanes: int, result: FixedPoint
    ) -> str:
        return add_hls_activation(graph, "linear", name, source, n_lanes, result)

    def cpp_function(self, word: str, cast: Callable[[int], str]) -> str:
        return f"{cast(0)}({word})"

    def rtl_function(self, source: FVArray) -> FVArray:
        return source

    def read(self, node: Foreign, draft: Draft) -> Value | Constant:
        return _READERS[node.kind](node, draft)


LAYERS.add(Linear.name, Linear())
