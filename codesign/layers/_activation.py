"""What all activations share: a real function, then rounding (floor) and saturation to `result_bits`.

Flooring is free in hardware and the bias before it absorbs the half-bit offset (training learns it);
saturation is bounded and safe where wrapping flips signs.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from codesign.ir import FixedPoint, Node, QuantizedNetwork, Tensors
from codesign.layers._export import cpp_loop, cpp_variable
from codesign.layers.base import FloatColumns, Layer, Parameter, WordRange
from hw_models.lowering import Described, activation

if TYPE_CHECKING:
    import torch
    from alkaid.trace import FVArray

    from codesign.layers._export import HlsGraph, OnnxGraph
    from codesign.layers._training import TrainModule, TrainNodes

RESULT_BITS = Parameter(
    name="result_bits",
    column="output_bits",
    minimum=1,
    maximum=24,
    description="bits of each output word",
)


class Activation(Layer):
    """Interface of element-wise layers that round to `result_bits`."""

    parameters = (RESULT_BITS,)
    train_family = "activation"
    #: Whether the output format carries a sign.
    result_is_signed: ClassVar[bool]

    def propagate(self, parameters: FloatColumns, inputs: Sequence[Tensors]) -> Tensors:
        (source,) = inputs
        is_signed = np.full_like(source.bits, float(self.result_is_signed))
        return replace(source, bits=parameters["output_bits"], is_signed=is_signed)

    @abstractmethod
    def train_function(self, values: torch.Tensor) -> torch.Tensor:
        """Compute the real function on float32[k, width, batch], differentiably.

        Rounding follows; saturating to an unsigned format already cuts negative values.  Returning
        `values` itself says that there is nothing to compute.
        """

    def train_module(self, nodes: TrainNodes) -> TrainModule:
        from codesign.layers._train_activation import ActivationModule

        return ActivationModule(nodes)

    @abstractmethod
    def apply_words(
        self, words: NDArray[np.int64], source: FixedPoint, result: FixedPoint
    ) -> NDArray[np.int64]:
        """Map raw words of format `source` to raw words of format `result`; monotone functions only."""

    @abstractmethod
    def apply_torch(
        self, values: torch.Tensor, source: FixedPoint, result: FixedPoint
    ) -> torch.Tensor:
        """Map exact real values (float64) to exact real values on the grid of `result`."""

    @abstractmethod
    def onnx_function(self, graph: OnnxGraph, source: str) -> str:
        """Write the real function, without the rounding that follows it."""

    @abstractmethod
    def rtl_function(self, source: FVArray) -> FVArray:
        """Trace the real function, without the rounding that follows it."""

    @abstractmethod
    def cpp_function(self, word: str, source: FixedPoint, result: FixedPoint) -> str:
        """Return the C++ expression of the result word; `word` is the expression of the source word."""

    def to_cpp(self, node: Node, network: QuantizedNetwork, ranges: Mapping[str, WordRange]) -> str:
        (name,) = node.inputs
        result = ranges[node.name]
        value = self.cpp_function(f"{cpp_variable(name)}[i]", ranges[name].format, result.format)
        return cpp_loop(node.name, result.low.size, value)

    def to_onnx(
        self,
        node: Node,
        network: QuantizedNetwork,
        graph: OnnxGraph,
        inputs: Sequence[str],
        result: FixedPoint,
    ) -> str:
        return graph.quantize(self.onnx_function(graph, inputs[0]), result)

    def to_rtl(
        self, node: Node, network: QuantizedNetwork, inputs: Sequence[FVArray], result: FixedPoint
    ) -> FVArray:
        return quantize_rtl(self.rtl_function(inputs[0]), result)

    def infer(
        self, node: Node, network: QuantizedNetwork, inputs: Sequence[WordRange]
    ) -> WordRange:
        (source,) = inputs
        result = network.result[node.name]
        return WordRange(
            format=result,
            low=self.apply_words(source.low, source.format, result),
            high=self.apply_words(source.high, source.format, result),
        )

    def run_words(
        self,
        node: Node,
        network: QuantizedNetwork,
        inputs: Sequence[NDArray[np.int64]],
        formats: Sequence[FixedPoint],
        result: FixedPoint,
    ) -> NDArray[np.int64]:
        return self.apply_words(inputs[0], formats[0], result)

    def torch_exact(
        self,
        node: Node,
        network: QuantizedNetwork,
        inputs: Sequence[torch.Tensor],
        result: FixedPoint,
    ) -> torch.Tensor:
        from codesign.layers import infer_formats

        source = infer_formats(network)[node.inputs[0]].format
        return self.apply_torch(inputs[0], source, result)

    def examples(self) -> list[dict[str, Any]]:
        return [{"result_bits": 4}, {"result_bits": 8}]


def floor_and_saturate(values: torch.Tensor, result: FixedPoint) -> torch.Tensor:
    """Round real values down to the grid of `result` and clip them to its range."""
    import torch

    words = torch.clamp(torch.floor(values / result.lsb), result.min_word, result.max_word)
    return words * result.lsb


def quantize_rtl(lanes: FVArray, fmt: FixedPoint) -> FVArray:
    """Round (floor) and saturate alkaid's lanes to a format."""
    return lanes.quantize(
        int(fmt.signed),
        fmt.integer_bits - fmt.signed,
        fmt.fraction_bits,
        overflow_mode="SAT",
        round_mode="TRN",
    )


def add_hls_activation(
    graph: HlsGraph, function: str, name: str, source: str, n_lanes: int, result: FixedPoint
) -> str:
    """Add an element-wise hls4ml activation whose result type rounds and saturates."""
    return graph.add(
        "Activation",
        name,
        [source],
        precision={"result": result},
        activation=function,
        n_in=n_lanes,
    )


def describe_activation(function: str, columns: FloatColumns, **table: Any) -> Described:
    """Describe k nodes that apply a function to every lane and saturate; `table` as `lowering.activation` has it."""
    return activation(
        function,
        n_lanes=columns["n_out"] * columns["n_copies"],
        n_positions=columns["n_turns"],
        input_bits=columns["input_bits"],
        output_bits=columns["output_bits"],
        **table,
    )
