"""Softmax over the last axis, exact in every form: two tables, one sum and one product per value.

With x the values at one position, W = `result_bits` + 2 and n channels:

    d_i = max(x) - x_i                    exact, never negative
    E_i = exp(-d_i), rounded down         table of 256 entries over [0, 8), W bits, at most 1 - 2**-W
    S   = sum of E_i                      exact, from 1 - 2**-W to n (1 - 2**-W)
    R   = 1 / S, rounded down             table over S, known to 2**-min(W, 6), for the largest such S
    y_i = E_i R, exact, then rounded to the result

The largest value has d = 0, so S is never 0; 1 / S is rounded down from the largest S of each entry, so the
y_i are never more than 1 together and no word wraps.  hls4ml's own softmax has widths of its own: there these
steps are layers one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError, ExportError
from codesign.ir import FixedPoint, Tensors, TensorType, covering_format
from codesign.ir.fixed_point import MAX_BITS
from codesign.layers import LAYERS
from codesign.layers._activation import (
    RESULT_BITS,
    add_hls_activation,
    quantize_rtl,
    quantize_torch,
)
from codesign.layers._export import (
    add_hls_largest,
    add_hls_matrix,
    add_hls_reshape,
    cpp_cast,
    cpp_loop,
    cpp_variable,
    cpp_word,
    exact,
    largest_rtl,
)
from codesign.layers._table import TABLE_BITS, look_up_rtl
from codesign.layers.base import FloatColumns, Layer, Site, WordRange
from hw_models.lowering import Described, Pool, activation, combination

if TYPE_CHECKING:
    import torch
    from alkaid.trace import FVArray

    from codesign.layers._export import HlsGraph, OnnxGraph
    from codesign.layers._import import Constant, Draft, Foreign, Value
    from codesign.layers._training import TrainModule, TrainNodes

#: Bits of both tables' words beyond those of the result.
GUARD_BITS = 2
#: Index of the table of exponentials: differences from 0 to 8.
DIFFERENCE = FixedPoint(bits=TABLE_BITS, integer_bits=3, signed=False)
#: Most fraction bits of a sum that the table of reciprocals looks at.
SUM_FRACTION_BITS = 6

_CPP = """\
// Products of exponentials and the reciprocal of their sum, of N channels and B events.
template <int B, int N, int SumShift, typename Exponential, typename Reciprocal, typename Index>
INLINE void softmax(const Word* x, const Exponential* exponentials, const Reciprocal* reciprocals, Index index,
                    Word* y) {
    for (int e = 0; e < B; ++e) {
        Word top = x[e], total = 0;
        for (int i = 1; i < N; ++i) top = x[i * B + e] > top ? x[i * B + e] : top;
        for (int i = 0; i < N; ++i) {
            y[i * B + e] = exponentials[index(top - x[i * B + e])];
            total += y[i * B + e];
        }
        for (int i = 0; i < N; ++i) y[i * B + e] *= reciprocals[total >> SumShift];
    }
}

"""


@dataclass(frozen=True, kw_only=True)
class SoftmaxTables:
    """Formats and tables of one softmax.

    Attributes:
        result_bits: bits of the result that they are made for.
        n: channels.
    """

    result_bits: int
    n: int

    @property
    def exponential(self) -> FixedPoint:
        """Format of exponentials: [0, 1)."""
        return FixedPoint(bits=self.result_bits + GUARD_BITS, integer_bits=0, signed=False)

    @property
    def reciprocal(self) -> FixedPoint:
        """Format of reciprocals: [0, 2)."""
        bits = self.exponential.bits
        return FixedPoint(bits=bits + 1, integer_bits=1, signed=False)

    @property
    def total(self) -> FixedPoint:
        """Format of the sums."""
        bits = self.exponential.bits
        return covering_format(0, self.n * self.exponential.max_word, bits)

    @property
    def index(self) -> FixedPoint:
        """Format of the sums as the table of reciprocals is indexed."""
        total = self.total
        fraction = min(total.fraction_bits, SUM_FRACTION_BITS)
        return replace(total, bits=total.integer_bits + fraction)

    @cached_property
    def exponentials(self) -> NDArray[np.int64]:
        """int64[256], words of exp(-d), entry k for d = k / 32."""
        values = DIFFERENCE.values_from_words(np.arange(DIFFERENCE.max_word + 1))
        return self.exponential.words_from_values(np.exp(-values))

    @cached_property
    def reciprocals(self) -> NDArray[np.int64]:
        """int64[entries], words of 1 / S, entry k for sums that round down to k; constant below the least sum."""
        shift = self.total.fraction_bits - self.index.fraction_bits
        least = self.exponential.max_word >> shift
        entry = np.maximum(np.arange(self.index.max_word + 1), least)
        largest = (((entry + 1) << shift) - 1).astype(np.float64)
        scale = np.ldexp(1.0, self.total.fraction_bits + self.reciprocal.fraction_bits)
        return np.asarray(np.floor(scale / largest), dtype=np.int64)

    @property
    def product_fraction_bits(self) -> int:
        """Fraction bits of a product of an exponential and a reciprocal."""
        return self.exponential.fraction_bits + self.reciprocal.fraction_bits

    @property
    def largest_product(self) -> int:
        """The greatest word of such a product: a single value that is not 0."""
        return int(self.exponentials[0]) * int(self.reciprocals[0])


class Softmax(Layer):
    """exp(x_i) / sum of exp(x_j) over the channels of each position, rounded to `result_bits`."""

    name = "softmax"
    foreign = ("onnx.Softmax", "hls4ml.Softmax", "hls4ml.Activation.softmax")
    parameters = (RESULT_BITS,)
    cpp_support = _CPP
    #: As of activations: whether the output format carries a sign.
    result_is_signed = False

    def propagate(self, parameters: FloatColumns, inputs: Sequence[Tensors]) -> Tensors:
        (source,) = inputs
        return replace(source, bits=parameters["output_bits"], is_signed=np.zeros_like(source.bits))

    def describe(self, columns: FloatColumns) -> tuple[Described, ...]:
        n, copies, turns = columns["n_out"], columns["n_copies"], columns["n_turns"]
        input_bits, bits = columns["input_bits"], columns["output_bits"] + GUARD_BITS
        growth = np.ceil(np.log2(n))
        once = np.ones_like(n)
        index_bits = np.minimum(bits, SUM_FRACTION_BITS) + growth

        def pool(kind: str, bits: NDArray[np.float64]) -> Pool:
            return Pool(
                kind=kind, n_lanes=copies, n_window=n, n_outputs=once, bits=bits, n_positions=n
            )

        def table(n_lanes: NDArray[np.float64], bits_in: Any, bits: Any) -> Described:
            return activation(
                "exponential",
                n_lanes=n_lanes,
                n_positions=turns,
                input_bits=bits_in,
                output_bits=bits,
                table_size=2.0**bits_in,
                table_bits=bits,
            )

        def pairs(function: str, bits_in: Any, bits: Any) -> Described:
            return combination(
                function,
                n_lanes=n * copies,
                n_positions=turns,
                input_bits=bits_in,
                output_bits=bits,
            )

        return (
            pool("max", input_bits),
            pairs("subtract", input_bits, input_bits),
            table(n * copies, np.full_like(n, float(TABLE_BITS)), bits),
            pool("mean", bits + growth),
            table(copies, index_bits, bits + 1),
            pairs("multiply", bits, 2 * bits + 1),
        )

    def train_module(self, nodes: TrainNodes) -> TrainModule:
        from codesign.layers._train_softmax import SoftmaxModule

        tables = [
            SoftmaxTables(result_bits=int(bits), n=int(n))
            for bits, n in zip(nodes.columns["output_bits"], nodes.columns["n_out"], strict=True)
        ]
        return SoftmaxModule(nodes, tables)

    def _tables(self, site: Site) -> SoftmaxTables:
        bits = int(self.value(site.node, "result_bits"))
        return SoftmaxTables(result_bits=bits, n=site.source.shape[-1])

    def infer(self, site: Site) -> WordRange:
        result, tables = site.rounded, self._tables(site)
        if result.shape != site.source.shape:
            raise DesignError(
                f"its type has shape {result.shape}, it reads {site.source.shape}; quantize the network again"
            )
        if (bits := self.largest_sum(site).bit_length()) > MAX_BITS:
            raise DesignError(
                f"its products need {bits} bits, words hold {MAX_BITS}; give its result fewer bits"
            )
        if result.overflow == "WRAP":
            return WordRange(type=result, low=result.min_words, high=result.max_words)
        low, high = (
            result.cast_words(np.full(result.shape, word), tables.product_fraction_bits)
            for word in (0, tables.largest_product)
        )
        return WordRange(type=result, low=low, high=high)

    def largest_sum(self, site: Site) -> int:
        tables, result = self._tables(site), site.rounded
        product = tables.largest_product << max(
            0, result.fraction_bits - tables.product_fraction_bits
        )
        product = (product << 2) + (
            2 << result.covering.bits
        )  # half a bit added, a span subtracted
        distance = int(site.source.high.max() - site.source.low.min())
        shift = max(0, DIFFERENCE.fraction_bits - site.source.type.fraction_bits)
        return max(distance << shift, tables.total.max_word, product)

    def run_words(self, site: Site, inputs: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
        tables = self._tables(site)
        (words,), fraction = inputs, site.source.type.fraction_bits
        distance = words.max(axis=-1, keepdims=True) - words
        index = TensorType.of(DIFFERENCE, site.source.shape).cast_words(distance, fraction)
        exponentials = tables.exponentials[index]
        total = exponentials.sum(axis=-1, keepdims=True)
        reciprocals = tables.reciprocals[
            total >> (tables.total.fraction_bits - tables.index.fraction_bits)
        ]
        return site.rounded.cast_words(exponentials * reciprocals, tables.product_fraction_bits)

    def torch_exact(self, site: Site, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        import torch

        tables, (values,) = self._tables(site), inputs
        exponentials, reciprocals = _values(tables)
        distance = values.amax(dim=-1, keepdim=True) - values
        step = torch.floor(distance / DIFFERENCE.lsb).clamp(max=float(DIFFERENCE.max_word))
        looked_up = torch.from_numpy(exponentials)[step.long()]
        total = torch.floor(looked_up.sum(dim=-1, keepdim=True) / tables.index.lsb)
        product = looked_up * torch.from_numpy(reciprocals)[total.long()]
        return quantize_torch(product, site.rounded)

    def to_onnx(self, site: Site, graph: OnnxGraph, inputs: Sequence[str]) -> str:
        tables = self._tables(site)

        def look_up(values: str, index: FixedPoint, table: NDArray[np.float64]) -> str:
            scaled = graph.operator("Mul", values, graph.real(np.array(1.0 / index.lsb)))
            last = graph.real(np.array(float(index.max_word)))
            step = graph.operator("Min", graph.operator("Floor", scaled), last)
            return graph.operator("Gather", graph.real(table), graph.indices(step), axis=0)

        exponentials, reciprocals = _values(tables)
        axis = graph.integers([len(site.source.shape)])
        top = graph.operator("ReduceMax", inputs[0], axis, keepdims=1)
        looked_up = look_up(graph.operator("Sub", top, inputs[0]), DIFFERENCE, exponentials)
        total = graph.operator("ReduceSum", looked_up, axis, keepdims=1)
        reciprocal = look_up(total, tables.index, reciprocals)
        return graph.quantize(graph.operator("Mul", looked_up, reciprocal), site.rounded)

    def to_hls4ml(self, site: Site, graph: HlsGraph, inputs: Sequence[str]) -> str:
        name, shape, tables = site.node.name, site.source.shape, self._tables(site)
        if site.hardware.io_type != "io_parallel":
            raise ExportError(
                f"{name}: hls4ml has no layers that stream the steps of an exact softmax; use io_parallel or"
                " plain RTL"
            )
        n, size, source = shape[-1], site.source.size, site.source.format
        n_positions, result = size // n, site.rounded
        spread = np.repeat(np.eye(n_positions), n, axis=1)  # [positions, positions * n]

        def add(step: str) -> str:
            return f"{name}_{step}"

        flat = add_hls_reshape(graph, add("flat"), inputs[0], (size,), source)
        top = add_hls_largest(graph, name, flat, shape, source)
        top = add_hls_matrix(graph, add("tops"), top, spread, source)
        widest = int(site.source.high.max() - site.source.low.min())
        above = covering_format(0, max(widest, 1), site.source.type.fraction_bits)
        distance = graph.add(
            "Merge",
            add("distance"),
            [top, flat],
            precision={"result": exact(above)},
            op="subtract",
        )
        index = add_hls_activation(graph, "linear", add("step"), distance, size, DIFFERENCE)
        looked_up = graph.table(
            add("exponential"),
            index,
            function=self.name,
            words=tables.exponentials,
            n_lanes=size,
            result=exact(tables.exponential),
        )
        total = add_hls_matrix(graph, add("total"), looked_up, spread.T, tables.total)
        index = add_hls_activation(
            graph, "linear", add("entry"), total, n_positions, exact(tables.index)
        )
        reciprocal = graph.table(
            add("reciprocal"),
            index,
            function=self.name,
            words=tables.reciprocals,
            n_lanes=n_positions,
            result=exact(tables.reciprocal),
        )
        reciprocal = add_hls_matrix(
            graph, add("reciprocals"), reciprocal, spread, tables.reciprocal
        )
        product = covering_format(0, tables.largest_product, tables.product_fraction_bits)
        values = graph.add(
            "Merge",
            add("product"),
            [looked_up, reciprocal],
            precision={"result": exact(product)},
            op="multiply",
        )
        if result.uniform is None:
            rounded = graph.quantize(add("rounded"), values, result.reshaped((size,)))
        else:
            rounded = add_hls_activation(
                graph, "linear", add("rounded"), values, size, result.uniform
            )
        return add_hls_reshape(graph, name, rounded, shape, site.output.format)

    def to_rtl(self, site: Site, inputs: Sequence[FVArray]) -> FVArray:
        tables, n = self._tables(site), site.source.shape[-1]
        exponentials, reciprocals = _values(tables)
        lanes = inputs[0].reshape(-1, n)
        top = largest_rtl(lanes.transpose(1, 0)).reshape(-1, 1)
        widest = int(site.source.high.max() - site.source.low.min())
        # alkaid's intervals do not know that no difference is negative: wrapping tells them for nothing
        distance = exact(covering_format(0, max(widest, 1), site.source.type.fraction_bits))
        steps = top - lanes
        for fmt in (distance, DIFFERENCE):
            steps = quantize_rtl(steps, TensorType.of(fmt, steps.shape))
        looked_up = look_up_rtl(steps, DIFFERENCE, exponentials, tables.exponential)
        total = np.sum(looked_up, axis=1).reshape(-1, 1)
        index = exact(tables.index)
        total = quantize_rtl(total, TensorType.of(index, total.shape))
        reciprocal = look_up_rtl(total, index, reciprocals, tables.reciprocal)
        return quantize_rtl((looked_up * reciprocal).reshape(site.output.shape), site.rounded)

    def to_cpp(self, site: Site) -> str:
        node, tables, n = site.node, self._tables(site), site.source.shape[-1]
        (name,), arrays = node.inputs, ", ".join(self.cpp_constants(site))
        cast = cpp_cast(site.source.type.fraction_bits, DIFFERENCE)
        index = f"[](Word distance) {{ return {cast}(distance); }}"
        shift = tables.total.fraction_bits - tables.index.fraction_bits
        lines = []
        for first in range(0, site.source.size, n):
            x, y = (f"{cpp_variable(of)} + {first} * B" for of in (name, node.name))
            lines.append(f"softmax<B, {n}, {shift}>({x}, {arrays}, {index}, {y});")
        for first, n_lanes, fmt in site.rounded.elements():
            value = "0"
            if fmt is not None:
                word = cpp_word(node.name, first)
                value = f"{cpp_cast(tables.product_fraction_bits, fmt)}({word})"
                if zeros := site.rounded.fraction_bits - fmt.fraction_bits:
                    value = f"shift_left({value}, {zeros})"
            lines.append(cpp_loop(node.name, n_lanes, value, first_lane=first))
        return "\n    ".join(lines)

    def cpp_constants(self, site: Site) -> dict[str, NDArray[np.int64]]:
        tables, name = self._tables(site), site.node.name
        return {
            f"exponentials_{name}": tables.exponentials,
            f"reciprocals_{name}": tables.reciprocals,
        }

    def read(self, node: Foreign, draft: Draft) -> Value | Constant:
        value, axis = node.value(), int(node.attributes.get("axis", -1))
        if axis not in (-1, len(value.shape)):
            raise node.refuse(
                f"sums along axis {axis} of {len(value.shape) + 1}; expected the last"
            )
        ordered = draft.must_be_in_order(node, value)
        draft.note(
            f"{node}: exponentials and the reciprocal of their sum are tables of 8 bits; the difference is told"
        )
        return draft.activation(ordered, self.name)

    def examples(self) -> list[dict[str, Any]]:
        return [{"result_bits": 4}, {"result_bits": 8}]


def _values(tables: SoftmaxTables) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the real values of both tables."""
    return (
        tables.exponential.values_from_words(tables.exponentials),
        tables.reciprocal.values_from_words(tables.reciprocals),
    )


LAYERS.add(Softmax.name, Softmax())
