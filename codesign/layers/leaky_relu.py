"""Leaky rectified linear unit with slope 2**-3: a shift, exact on every back end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codesign.ir import FixedPoint, TensorType
from codesign.layers import LAYERS
from codesign.layers._activation import (
    Activation,
    describe_activation,
)
from codesign.layers._import_quantizers import event_constant
from codesign.layers.base import FloatColumns
from hw_models.lowering import Described

if TYPE_CHECKING:
    import torch
    from alkaid.trace import FVArray

    from codesign.layers._export import HlsGraph, OnnxGraph
    from codesign.layers._import import Constant, Draft, Foreign, Value

#: log2 of the slope for negative inputs; a power of two, so that no back end rounds the product.
LOG2_SLOPE = -3


class LeakyReLU(Activation):
    """x where positive, x / 8 elsewhere."""

    name = "leaky_relu"
    foreign = ("onnx.LeakyRelu", "onnx.PRelu", "hls4ml.LeakyReLU")
    result_is_signed = True
    extra_fraction_bits = -LOG2_SLOPE
    luts_per_bit = 1.0  # a multiplexer

    def describe(self, columns: FloatColumns) -> tuple[Described, ...]:
        return (describe_activation("leaky_relu", columns),)

    def train_function(self, values: torch.Tensor) -> torch.Tensor:
        import torch

        return torch.nn.functional.leaky_relu(values, 2.0**LOG2_SLOPE)

    def apply_words(
        self, words: NDArray[np.int64], fraction_bits: int, result: TensorType
    ) -> NDArray[np.int64]:
        # the same word with more fraction bits is an eighth of its value
        eighth = result.cast_words(words, fraction_bits - LOG2_SLOPE)
        return np.where(words > 0, result.cast_words(words, fraction_bits), eighth)

    def torch_function(self, values: torch.Tensor) -> torch.Tensor:
        import torch

        return torch.where(values > 0, values, values * 2.0**LOG2_SLOPE)

    def onnx_function(self, graph: OnnxGraph, source: str) -> str:
        return graph.operator(
            "Max", source, graph.operator("Mul", source, graph.real(np.array(2.0**LOG2_SLOPE)))
        )

    def hls_function(
        self, graph: HlsGraph, name: str, source: str, n_lanes: int, result: FixedPoint
    ) -> str:
        slope = FixedPoint(bits=1, integer_bits=LOG2_SLOPE + 1, signed=False, overflow="WRAP")
        return graph.add(
            "LeakyReLU",
            name,
            [source],
            precision={"result": result, "param": slope},
            activation="LeakyReLU",
            activ_param=slope.max_value,
            n_in=n_lanes,
        )

    def cpp_function(self, word: str, cast: Callable[[int], str]) -> str:
        return f"{word} > 0 ? {cast(0)}({word}) : {cast(-LOG2_SLOPE)}({word})"

    def read(self, node: Foreign, draft: Draft) -> Value | Constant:
        if node.kind == "onnx.PRelu":
            slope = event_constant(node, node.constant(1).real, node.value())
        else:
            slope = np.array(node.attributes.get("alpha", node.attributes.get("activ_param", 0.01)))
        if (slope == 2.0**LOG2_SLOPE).all():
            return draft.activation(node.value(), self.name)
        if not ((slope >= 0.0) & (slope < 1.0)).all():
            raise node.refuse(
                f"has slopes from {slope.min():g} to {slope.max():g}; expected 0 to below 1"
            )
        source = draft.shared(node, node.value())  # s x + (1 - s) max(0, x)
        positive = draft.affine(draft.applied(draft.activation(source, "relu")), 1.0 - slope, 0.0)
        return draft.combined(node, "add", [draft.affine(source, slope, 0.0), positive])

    def rtl_function(self, source: FVArray) -> FVArray:
        lanes = [_leak(lane) for lane in np.asarray(source).ravel()]
        shaped = np.array(lanes).reshape(source.shape)
        return type(source)(shaped, source.solver_options, hwconf=source.hwconf)


def _leak(lane: Any) -> Any:
    """Trace one lane; alkaid 0.8.2 reads the sign of a bit slice that it holds negated the wrong way."""
    if lane.opr == "wrap" and lane._factor < 0:
        return lane.relu() - (-lane).relu() * 2.0**LOG2_SLOPE
    return lane.is_negative().msb_mux(lane * 2.0**LOG2_SLOPE, lane)


LAYERS.add(LeakyReLU.name, LeakyReLU())
