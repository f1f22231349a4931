"""Sign of every element: 1 from zero on, -1 below; binary activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codesign.ir import FixedPoint, TensorType
from codesign.layers import LAYERS
from codesign.layers._activation import Activation, add_hls_activation, describe_activation
from codesign.layers._export import cpp_cast
from codesign.layers.base import FloatColumns, Site, WordRange
from hw_models.lowering import Described

if TYPE_CHECKING:
    import torch
    from alkaid.trace import FVArray

    from codesign.layers._export import HlsGraph, OnnxGraph


class Sign(Activation):
    """-1 or 1; gradients pass between them, as those of the hard hyperbolic tangent."""

    name = "sign"
    foreign = ("hls4ml.Activation.binary_tanh",)
    result_is_signed = True

    def describe(self, columns: FloatColumns) -> tuple[Described, ...]:
        return (describe_activation("binary_tanh", columns),)

    def train_function(self, values: torch.Tensor) -> torch.Tensor:
        import torch

        smooth = torch.clamp(values, -1.0, 1.0)
        return smooth + (self.torch_function(values) - smooth).detach()

    def apply_words(
        self, words: NDArray[np.int64], fraction_bits: int, result: TensorType
    ) -> NDArray[np.int64]:
        return result.cast_words(np.where(words >= 0, 1, -1), 0)

    def unrounded(self, source: WordRange) -> WordRange:
        low, high = (np.where(words >= 0, 1, -1) for words in (source.low, source.high))
        return WordRange.exact(low, high, 0)

    def torch_function(self, values: torch.Tensor) -> torch.Tensor:
        import torch

        return torch.where(values >= 0, 1.0, -1.0).to(values.dtype)

    def onnx_function(self, graph: OnnxGraph, source: str) -> str:
        is_positive = graph.operator("GreaterOrEqual", source, graph.real(np.array(0.0)))
        one, minus_one = (graph.real(np.array(value)) for value in (1.0, -1.0))
        return graph.operator("Where", is_positive, one, minus_one)

    def rtl_function(self, source: FVArray) -> FVArray:
        lanes = np.empty(source.size, dtype=object)
        lanes[:] = [1.0 - lane.is_negative() * 2.0 for lane in np.asarray(source).ravel()]
        return type(source)(
            lanes.reshape(source.shape), source.solver_options, hwconf=source.hwconf
        )

    def cpp_function(self, word: str, cast: Callable[[int], str]) -> str:
        raise AssertionError("its values have no fraction bits: `cpp_value` replaces it")

    def cpp_value(self, site: Site, word: str, fmt: FixedPoint) -> str:
        return f"{cpp_cast(0, fmt)}({word} >= 0 ? 1 : -1)"

    def hls_function(
        self, graph: HlsGraph, name: str, source: str, n_lanes: int, result: FixedPoint
    ) -> str:
        return add_hls_activation(graph, "binary_tanh", name, source, n_lanes, result)

    def examples(self) -> list[dict[str, Any]]:
        return [{"result_bits": 2}, {"result_bits": 4}]


LAYERS.add(Sign.name, Sign())
