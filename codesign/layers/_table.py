"""Activations that hardware looks up in a table: exact because each table entry is one input word.

The input is first rounded (floor, saturate) to `TABLE_BITS` bits over a fixed symmetric range; the
table holds the function at each of those words, rounded down to the result.  hls4ml indexes its
tables in just this way when the table has 2**TABLE_BITS entries (nnet_activation.h, sigmoid over
[-8, 8), tanh over [-4, 4)), so no interpolation or index rounding ever differs.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from codesign.ir import FixedPoint, Node, QuantizedNetwork
from codesign.layers._activation import (
    Activation,
    add_hls_activation,
    describe_activation,
    quantize_rtl,
)
from codesign.layers._export import cpp_cast, cpp_loop, cpp_variable
from codesign.layers.base import FloatColumns, WordRange
from hw_models.lowering import Described

if TYPE_CHECKING:
    from alkaid.trace import FVArray

    from codesign.layers._export import HlsGraph, OnnxGraph

#: Width of a table's index.
TABLE_BITS = 8


def _array(node: Node) -> str:
    return f"table_{node.name}"


class TableActivation(Activation):
    """Interface of table activations.

    Attributes:
        index_integer_bits: integer bits (sign included) of the table's index.
    """

    index_integer_bits: ClassVar[int]

    @abstractmethod
    def function(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Evaluate the real function."""

    @abstractmethod
    def smooth(self, values: torch.Tensor) -> torch.Tensor:
        """Evaluate the real function in torch, differentiably."""

    def train_function(self, values: torch.Tensor) -> torch.Tensor:
        from codesign.layers._training import floor_saturate

        index = self.index_format
        bits = torch.tensor(float(index.bits), device=values.device)
        integer_bits = torch.tensor(float(index.integer_bits), device=values.device)
        return self.smooth(floor_saturate(values, bits, integer_bits, is_signed=True))

    @property
    def index_format(self) -> FixedPoint:
        """Format to which inputs are rounded before the look-up."""
        return FixedPoint(bits=TABLE_BITS, integer_bits=self.index_integer_bits)

    def table_words(self, result: FixedPoint) -> NDArray[np.int64]:
        """Return the table: int64[2**TABLE_BITS], entry k for index word k - 2**(TABLE_BITS - 1)."""
        index = self.index_format
        words = np.arange(index.min_word, index.max_word + 1)
        return result.words_from_values(self.function(index.values_from_words(words)))

    def describe(self, columns: FloatColumns) -> tuple[Described, ...]:
        index_bits = np.full_like(columns["n_out"], float(TABLE_BITS))
        return (
            describe_activation("linear", {**columns, "output_bits": index_bits}),
            describe_activation(
                self.name,
                {**columns, "input_bits": index_bits},
                table_size=float(2**TABLE_BITS),
                table_bits=columns["output_bits"],
            ),
        )

    def apply_words(
        self, words: NDArray[np.int64], source: FixedPoint, result: FixedPoint
    ) -> NDArray[np.int64]:
        index = self.index_format
        return self.table_words(result)[index.cast_words(words, source) - index.min_word]

    def apply_torch(
        self, values: torch.Tensor, source: FixedPoint, result: FixedPoint
    ) -> torch.Tensor:
        index = self.index_format
        position = (
            torch.clamp(torch.floor(values / index.lsb), index.min_word, index.max_word)
            - index.min_word
        )
        table = torch.from_numpy(result.values_from_words(self.table_words(result)))
        return table[position.long()]

    def onnx_function(self, graph: OnnxGraph, source: str) -> str:
        raise AssertionError("tables replace `to_onnx` as a whole: they round before the function")

    def cpp_function(self, word: str, source: FixedPoint, result: FixedPoint) -> str:
        raise AssertionError("tables replace `to_cpp` as a whole: it names their array")

    def to_cpp(self, node: Node, network: QuantizedNetwork, ranges: Mapping[str, WordRange]) -> str:
        (name,) = node.inputs
        index = self.index_format
        word = f"{cpp_cast(ranges[name].format, index)}({cpp_variable(name)}[i])"
        value = f"{_array(node)}[{word} - ({index.min_word})]"
        return cpp_loop(node.name, ranges[node.name].low.size, value)

    def cpp_constants(
        self, node: Node, network: QuantizedNetwork, result: FixedPoint
    ) -> dict[str, NDArray[np.int64]]:
        return {_array(node): self.table_words(result)}

    def rtl_function(self, source: FVArray) -> FVArray:
        raise AssertionError("tables replace `to_rtl` as a whole: they round before the function")

    def to_onnx(
        self,
        node: Node,
        network: QuantizedNetwork,
        graph: OnnxGraph,
        inputs: Sequence[str],
        result: FixedPoint,
    ) -> str:
        index = self.index_format
        words = graph.operator(
            "Mul", graph.quantize(inputs[0], index), graph.real(np.array(1.0 / index.lsb))
        )
        position = graph.operator("Sub", words, graph.real(np.array(float(index.min_word))))
        table = graph.real(result.values_from_words(self.table_words(result)))
        return graph.quantize(
            graph.operator("Gather", table, graph.indices(position), axis=0), result
        )

    def to_hls4ml(
        self,
        node: Node,
        network: QuantizedNetwork,
        graph: HlsGraph,
        inputs: Sequence[str],
        ranges: Sequence[WordRange],
    ) -> str:
        n_lanes, result = ranges[-1].low.size, ranges[-1].format
        index = add_hls_activation(
            graph, "linear", f"{node.name}_index", inputs[0], n_lanes, self.index_format
        )
        return graph.table(
            node.name,
            index,
            function=self.name,
            words=self.table_words(result),
            n_lanes=n_lanes,
            result=result,
        )

    def to_rtl(
        self, node: Node, network: QuantizedNetwork, inputs: Sequence[FVArray], result: FixedPoint
    ) -> FVArray:
        index, table = self.index_format, result.values_from_words(self.table_words(result))

        def look_up(values: NDArray[np.float64]) -> NDArray[np.float64]:
            return table[np.rint(values / index.lsb).astype(np.int64) - index.min_word]

        looked_up = quantize_rtl(inputs[0], index).apply(look_up)
        return looked_up.quantize(
            result.signed, result.integer_bits - result.signed, result.fraction_bits
        )
