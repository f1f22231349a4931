"""Activations that hardware looks up in a table: exact because each table entry is one input word.

The input is first rounded (floor, saturate) to `TABLE_BITS` bits over a fixed symmetric range; the
table holds the function at each of those words, rounded down to the result.  hls4ml indexes its
tables in just this way when the table has 2**TABLE_BITS entries (nnet_activation.h, sigmoid over
[-8, 8), tanh over [-4, 4)), so no interpolation or index rounding ever differs.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from codesign.errors import ExportError
from codesign.ir import FixedPoint, Node, TensorType
from codesign.layers._activation import (
    Activation,
    add_hls_activation,
    describe_activation,
    quantize_rtl,
)
from codesign.layers._export import cpp_cast, cpp_loop, cpp_word
from codesign.layers.base import FloatColumns, Site, WordRange
from hw_models.lowering import Described

if TYPE_CHECKING:
    import torch
    from alkaid.trace import FVArray

    from codesign.layers._export import HlsGraph, OnnxGraph
    from codesign.layers._import import Constant, Draft, Foreign, Value

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
    luts_per_bit = 2.0 ** (TABLE_BITS - 6)  # LUT6s of one output bit of the table

    @abstractmethod
    def function(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Evaluate the real function."""

    @abstractmethod
    def smooth(self, values: torch.Tensor) -> torch.Tensor:
        """Evaluate the real function in torch, differentiably."""

    def train_function(self, values: torch.Tensor) -> torch.Tensor:
        import torch

        from codesign.layers._training import floor_saturate

        index = self.index_format
        bits = torch.tensor(float(index.bits), device=values.device)
        integer_bits = torch.tensor(float(index.integer_bits), device=values.device)
        return self.smooth(floor_saturate(values, bits, integer_bits, is_signed=True))

    def read(self, node: Foreign, draft: Draft) -> Value | Constant:
        draft.note(
            f"{node}: is looked up in a table of {2**TABLE_BITS} entries, which rounds its input"
        )
        return super().read(node, draft)

    @property
    def index_format(self) -> FixedPoint:
        """Format to which inputs are rounded before the look-up."""
        return FixedPoint(bits=TABLE_BITS, integer_bits=self.index_integer_bits)

    def table_words(self, result: TensorType) -> NDArray[np.int64]:
        """Return the table, entry k for index word k - 2**(TABLE_BITS - 1).

        Returns:
            int64[2**TABLE_BITS] where all elements share a format, else int64[2**TABLE_BITS, *shape].
        """
        index = self.index_format
        values = self.function(
            index.values_from_words(np.arange(index.min_word, index.max_word + 1))
        )
        if result.uniform is not None:
            return result.uniform.words_from_values(values)
        every = values.reshape(-1, *(1 for _ in result.shape))
        return result.words_from_values(np.broadcast_to(every, (len(values), *result.shape)))

    def describe(self, columns: FloatColumns) -> tuple[Described, ...]:
        index_bits = np.full_like(columns["n_out"], float(TABLE_BITS))
        return (
            describe_activation("linear", columns, output_bits=index_bits),
            describe_activation(
                self.name,
                columns,
                input_bits=index_bits,
                table_size=float(2**TABLE_BITS),
                table_bits=columns["output_bits"],
            ),
        )

    def apply_words(
        self, words: NDArray[np.int64], fraction_bits: int, result: TensorType
    ) -> NDArray[np.int64]:
        index, table = self.index_format, self.table_words(result)
        rounded = TensorType.of(index, result.shape).cast_words(words, fraction_bits)
        position = rounded - index.min_word
        if table.ndim == 1:
            return np.asarray(table[position])
        return np.asarray(table[(position, *np.ogrid[tuple(map(slice, result.shape))])])

    def torch_function(self, values: torch.Tensor) -> torch.Tensor:
        raise AssertionError(
            "tables replace `torch_exact` as a whole: they round before the function"
        )

    def torch_exact(self, site: Site, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        import torch

        index, result = self.index_format, site.rounded
        steps = torch.clamp(torch.floor(inputs[0] / index.lsb), index.min_word, index.max_word)
        position = (steps - index.min_word).long()
        table = torch.from_numpy(result.values_from_words(self.table_words(result)))
        if table.ndim == 1:
            return table[position]
        return torch.gather(table.flatten(1), 0, position.flatten(1)).reshape(position.shape)

    def unrounded(self, source: WordRange) -> WordRange:
        raise AssertionError("what a table holds is rounded")

    def largest_sum(self, site: Site) -> int:
        return max(site.source.largest, site.output.largest, int(2**TABLE_BITS))

    def onnx_function(self, graph: OnnxGraph, source: str) -> str:
        raise AssertionError("tables replace `to_onnx` as a whole: they round before the function")

    def to_onnx(self, site: Site, graph: OnnxGraph, inputs: Sequence[str]) -> str:
        index, result = self.index_format, site.rounded
        rounded = graph.quantize(inputs[0], TensorType.of(index, result.shape))
        words = graph.operator("Mul", rounded, graph.real(np.array(1.0 / index.lsb)))
        position = graph.operator("Sub", words, graph.real(np.array(float(index.min_word))))
        values = result.values_from_words(self.table_words(result))
        if result.uniform is None:  # entry k of element e lies at k * size + e
            size = graph.real(np.array(float(result.size)))
            element = graph.real(np.arange(float(result.size)).reshape(result.shape))
            position = graph.operator("Add", graph.operator("Mul", position, size), element)
        table = graph.real(values.ravel())
        looked_up = graph.operator("Gather", table, graph.indices(position), axis=0)
        return looked_up if result.uniform is None else graph.quantize(looked_up, result)

    def hls_function(
        self, graph: HlsGraph, name: str, source: str, n_lanes: int, result: FixedPoint
    ) -> str:
        index = add_hls_activation(
            graph, "linear", f"{name}_index", source, n_lanes, self.index_format
        )
        return graph.table(
            name,
            index,
            function=self.name,
            words=self.table_words(TensorType.of(result, (n_lanes,))),
            n_lanes=n_lanes,
            result=result,
        )

    def to_hls4ml(self, site: Site, graph: HlsGraph, inputs: Sequence[str]) -> str:
        name, result = site.node.name, site.rounded
        if result.uniform is None:
            if result.rounding != "TRN":
                raise ExportError(
                    f"{name}: hls4ml has one table for all elements, and rounding its words again by"
                    f" {result.rounding} would differ; round down (TRN), or give all elements one type"
                )
            table = self.hls_function(
                graph, f"{name}_table", inputs[0], result.size, result.covering
            )
            return graph.quantize(name, table, result)
        return self.hls_function(graph, name, inputs[0], result.size, result.uniform)

    def rtl_function(self, source: FVArray) -> FVArray:
        raise AssertionError("tables replace `to_rtl` as a whole: they round before the function")

    def to_rtl(self, site: Site, inputs: Sequence[FVArray]) -> FVArray:
        index, result = self.index_format, site.rounded
        lanes = quantize_rtl(inputs[0], TensorType.of(index, result.shape)).reshape(-1)
        tables = result.values_from_words(self.table_words(result)).reshape(2**TABLE_BITS, -1)
        looked_up: list[Any] = []
        for first, n_lanes, fmt in result.elements():
            table = tables[:, min(first, tables.shape[1] - 1)]
            part = lanes[first : first + n_lanes]
            looked_up += list(np.asarray(look_up_rtl(part, index, table, fmt)))
        shaped = np.array(looked_up, dtype=object).reshape(result.shape)
        return type(lanes)(shaped, lanes.solver_options, hwconf=lanes.hwconf)

    def cpp_function(self, word: str, cast: Callable[[int], str]) -> str:
        raise AssertionError("tables replace `to_cpp` as a whole: it names their array")

    def to_cpp(self, site: Site) -> str:
        (name,), index, result = site.node.inputs, self.index_format, site.rounded
        word = f"{cpp_cast(site.source.type.fraction_bits, index)}({cpp_word(name)})"
        entry = f"{word} - ({index.min_word})"
        if result.uniform is None:  # entry k of element e lies at k * size + e
            entry = f"({entry}) * {result.size} + i / B"
        return cpp_loop(site.node.name, result.size, f"{_array(site.node)}[{entry}]")

    def cpp_constants(self, site: Site) -> dict[str, NDArray[np.int64]]:
        return {_array(site.node): self.table_words(site.rounded)}


def look_up_rtl(
    lanes: FVArray, index: FixedPoint, table: NDArray[np.float64], result: FixedPoint | None
) -> FVArray:
    """Look alkaid's lanes up in one table.

    Args:
        lanes: any shape, rounded to `index`.
        index: format of the lanes.
        table: float64[n_entries], entry 0 for its least word.
        result: format of the entries; None where they are all zero.
    """

    def look_up(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return table[np.rint(values / index.lsb).astype(np.int64) - index.min_word]

    bits = (0, 0, 0)
    if result is not None:
        bits = (int(result.signed), result.integer_bits - result.signed, result.fraction_bits)
    entries = np.asarray(lanes.apply(look_up).quantize(*bits))
    looked_up = [  # alkaid 0.8.2 does not look constants up
        float(look_up(np.array(float(lane.low)))) if lane.low == lane.high else entry
        for lane, entry in zip(np.asarray(lanes).ravel(), entries.ravel(), strict=True)
    ]
    shaped = np.array(looked_up, dtype=object).reshape(lanes.shape)
    return type(lanes)(shaped, lanes.solver_options, hwconf=lanes.hwconf)
