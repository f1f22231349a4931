"""Dense layer of learned truth tables: every connection is a function of one word, looked up and summed.

    y_j = sum over i of T_ij[x_i]         exact

Where a dense layer multiplies by constants, which are adders, this one looks words of few bits up, which are
LUTs: one per bit of the result and 64 entries (KANELE, arXiv 2512.12850).  Tables look at whole words, so what
it reads must have been rounded.  With one channel in, it is an embedding.

Meant for plain RTL: hls4ml has one table for all lanes, so all tables stand in one there, between two matrices
that bring every word to its own table and sum up.  That is exact, but grows so fast that larger layers are
refused as hls4ml projects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError, ExportError
from codesign.ir import FixedPoint, Tensors, Words
from codesign.ir.fixed_point import MAX_BITS
from codesign.layers import LAYERS
from codesign.layers._export import add_hls_matrix, add_hls_reshape, cpp_variable, exact
from codesign.layers._table import look_up_rtl
from codesign.layers.base import FloatColumns, Layer, Parameter, Site, WordRange
from hw_models.lowering import Described, Pool, activation

if TYPE_CHECKING:
    import torch
    from alkaid.trace import FVArray

    from codesign.layers._export import HlsGraph, OnnxGraph
    from codesign.layers._training import TrainModule, TrainNodes

#: Widest word that a table looks at: four LUTs per bit of the result.
MAX_INDEX_BITS = 8

#: Weights of the matrices around a layer's tables in an hls4ml project: without a limit, the compiler of one study's
#: design had not ended after four minutes.
_MAX_HLS_WEIGHTS = 4096

_CPP = """\
// Sum of one table entry per input, for B events; a table is Entries rows of NOut words.
template <int B, int NIn, int NOut, int Entries, int Least, typename Entry>
INLINE void lookup(const Word* __restrict__ x, const Entry* tables, Word* __restrict__ y) {
    for (int j = 0; j < NOut * B; ++j) y[j] = 0;
    for (int i = 0; i < NIn; ++i)
        for (int e = 0; e < B; ++e) {
            const Entry* row = tables + (i * Entries + x[i * B + e] - Least) * NOut;
            for (int j = 0; j < NOut; ++j) y[j * B + e] += row[j];
        }
}

"""


class LookupDense(Layer):
    """Sums of one table entry per input: `units` outputs at each position, without rounding."""

    name = "lookup_dense"
    cpp_support = _CPP
    max_input_bits = MAX_INDEX_BITS
    parameters = (
        Parameter(
            name="units", column="n_out", minimum=1, maximum=4096, description="number of outputs"
        ),
        Parameter(
            name="weight_bits",
            column="weight_bits",
            minimum=2,
            maximum=24,
            description="bits of each table entry",
        ),
        Parameter(
            name="pruned_fraction",
            column="pruned_fraction",
            minimum=0.0,
            maximum=0.99,
            is_integer=False,
            default=0.0,
            description="share of tables forced to zero",
        ),
    )

    def propagate(self, parameters: FloatColumns, inputs: Sequence[Tensors]) -> Tensors:
        (source,) = inputs
        if (source.bits > MAX_INDEX_BITS).any():
            raise DesignError(
                f"tables look at words of up to {MAX_INDEX_BITS} bits, got {source.bits.max():g}; round before"
                " lookup_dense"
            )
        n_terms = np.maximum(source.n_channels * (1.0 - parameters["pruned_fraction"]), 1.0)
        return replace(
            source,
            n_channels=parameters["n_out"],
            bits=parameters["weight_bits"] + np.ceil(np.log2(n_terms)),
            is_signed=np.ones_like(source.bits),
        )

    def describe(self, columns: FloatColumns) -> tuple[Described, ...]:
        kept = 1.0 - columns["pruned_fraction"]
        n_terms = np.maximum(np.ceil(columns["n_in"] * kept), 1.0)
        return (
            activation(
                "unary_lut",
                n_lanes=n_terms * columns["n_out"] * columns["n_copies"],
                n_positions=columns["n_turns"],
                input_bits=columns["input_bits"],
                output_bits=columns["weight_bits"],
                table_size=2.0 ** columns["input_bits"],
                table_bits=columns["weight_bits"],
            ),
            Pool(
                kind="mean",
                n_lanes=columns["n_out"] * columns["n_copies"],
                n_window=n_terms,
                n_outputs=np.ones_like(n_terms),
                bits=columns["output_bits"],
                n_positions=columns["n_turns"],
            ),
        )

    def train_module(self, nodes: TrainNodes) -> TrainModule:
        from codesign.layers._train_lookup import LookupModule

        return LookupModule(nodes)

    def draw_constants(self, site: Site, generator: np.random.Generator) -> dict[str, Words]:
        fmt = FixedPoint(bits=int(self.value(site.node, "weight_bits")), integer_bits=1)
        n_entries, n_out = 1 << site.source.format.bits, int(self.value(site.node, "units"))
        shape = (site.source.shape[-1], n_entries, n_out)
        words = generator.integers(fmt.min_word, fmt.max_word + 1, shape)
        kept = generator.random(shape[::2])[:, None] >= self.value(site.node, "pruned_fraction")
        return {"table": Words.of(words * kept, fmt)}

    @staticmethod
    def _table(site: Site) -> NDArray[np.int64]:
        """Return the words of all tables, int64[n_in, n_entries, n_out], entry 0 for the least word."""
        return site.constants["table"].values

    def _reachable(self, site: Site) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the least and the greatest entry that each element can reach, int64[*source shape, n_out]."""
        table, known = self._table(site), site.source
        least = known.format.min_word
        entry = np.arange(table.shape[1])[:, None]
        rows = [
            (known_words - least).reshape(-1, known.shape[-1])
            for known_words in (known.low, known.high)
        ]
        low, high = np.empty((*rows[0].shape, table.shape[2]), dtype=np.int64), None
        high = np.empty_like(low)
        for position, (first, last) in enumerate(zip(*rows, strict=True)):
            inside = (entry[:, 0] >= first[:, None]) & (entry[:, 0] <= last[:, None])
            low[position] = np.where(inside[:, :, None], table, np.iinfo(np.int64).max).min(axis=1)
            high[position] = np.where(inside[:, :, None], table, np.iinfo(np.int64).min).max(axis=1)
        shape = (*known.shape, table.shape[2])
        return low.reshape(shape), high.reshape(shape)

    def infer(self, site: Site) -> WordRange:
        table, source = site.constants["table"], site.source
        expected = (source.shape[-1], 1 << source.format.bits)
        if table.values.shape[:2] != expected:
            raise DesignError(
                f"its tables of shape {table.values.shape} do not fit {expected[0]} words of"
                f" {source.format.bits} bits; quantize the network again"
            )
        if (self.largest_sum(site)).bit_length() >= MAX_BITS:
            raise DesignError(f"its sums need more than {MAX_BITS} bits; use narrower tables")
        low, high = (words.sum(axis=-2) for words in self._reachable(site))
        return WordRange.exact(low, high, table.type.fraction_bits)

    def largest_sum(self, site: Site) -> int:
        table = np.abs(self._table(site))
        sums = table.max(axis=1).sum(axis=0).max()
        return max(int(sums), table[..., 0].size, site.source.largest)

    def run_words(self, site: Site, inputs: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
        table = self._table(site)
        entry = inputs[0] - site.source.format.min_word
        entries = table[np.arange(table.shape[0]), entry]  # [n, *positions, n_in, n_out]
        return np.asarray(entries.sum(axis=-2))

    def torch_exact(self, site: Site, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        import torch

        fmt, tables = site.source.format, torch.from_numpy(site.constants["table"].real)
        result = torch.zeros(*inputs[0].shape[:-1], tables.shape[2], dtype=torch.float64)
        for i, table in enumerate(tables):
            step = torch.round((inputs[0][..., i] - fmt.min_value) / fmt.lsb)
            entry = step.clamp(0, len(table) - 1).long()
            result = result + torch.nn.functional.embedding(entry, table)
        return result

    def to_onnx(self, site: Site, graph: OnnxGraph, inputs: Sequence[str]) -> str:
        fmt, real = site.source.format, site.constants["table"].real
        n_in, n_entries, n_out = real.shape
        words = graph.operator("Mul", inputs[0], graph.real(np.array(1.0 / fmt.lsb)))
        first = graph.real(np.arange(n_in, dtype=np.float64) * n_entries - fmt.min_word)
        position = graph.indices(graph.operator("Add", words, first))
        table = graph.real(real.reshape(n_in * n_entries, n_out))
        entries = graph.operator("Gather", table, position, axis=0)
        axis = graph.integers([len(site.source.shape)])
        return graph.operator("ReduceSum", entries, axis, keepdims=0)

    def to_hls4ml(self, site: Site, graph: HlsGraph, inputs: Sequence[str]) -> str:
        name, source, table = site.node.name, site.source, self._table(site)
        n_in, n_entries, n_out = table.shape
        if site.hardware.io_type != "io_parallel":
            raise ExportError(
                f"{name}: hls4ml has no layer that streams learned tables; use io_parallel or plain RTL"
            )
        # hls4ml has one table for all lanes: all tables in a row, and each lane counts from its own
        n_positions, fmt = source.size // n_in, source.format
        connections = n_in * n_out
        n_weights = n_positions**2 * connections * (n_in + n_out)
        if n_weights > _MAX_HLS_WEIGHTS and not graph.is_logic:
            raise ExportError(
                f"{name}: its learned tables would take matrices of {n_weights:,} weights in hls4ml, expected"
                f" {_MAX_HLS_WEIGHTS:,} or fewer, which its C simulation still compiles; export plain RTL"
            )
        bits = max((connections * n_entries - 1).bit_length(), 1)
        index = FixedPoint(bits=bits, integer_bits=bits - fmt.fraction_bits, signed=False)
        spread = np.repeat(np.eye(source.size), n_out, axis=1)
        first = np.tile(np.arange(connections) * n_entries - fmt.min_word, n_positions) * fmt.lsb
        flat = add_hls_reshape(graph, f"{name}_flat", inputs[0], (source.size,), fmt)
        position = add_hls_matrix(graph, f"{name}_position", flat, spread, index, bias=first)
        words = np.zeros(1 << bits, dtype=np.int64)
        words[: table.size] = table.transpose(0, 2, 1).ravel()
        entries = graph.table(
            f"{name}_entry",
            position,
            function=self.name,
            words=words,
            n_lanes=n_positions * connections,
            result=exact(site.constants["table"].type.covering),
        )
        sums = np.kron(np.eye(n_positions), np.tile(np.eye(n_out), (n_in, 1)))
        total = add_hls_matrix(graph, f"{name}_sum", entries, sums, site.output.format)
        return add_hls_reshape(graph, name, total, site.output.shape, site.output.format)

    def to_rtl(self, site: Site, inputs: Sequence[FVArray]) -> FVArray:
        constants, fmt = site.constants["table"], exact(site.source.format)
        real, lanes = constants.real, inputs[0]
        n_in, _, n_out = real.shape
        rows = lanes.reshape(-1, n_in)
        covering = constants.type.covering
        results: list[Any] = []
        for position in range(rows.shape[0]):
            for j in range(n_out):
                terms: list[Any] = []
                for i in range(n_in):
                    table = real[i, :, j]
                    if (table == table[0]).all():
                        terms.append(float(table[0]))
                        continue
                    lane = rows[position, i : i + 1]
                    terms.append(np.asarray(look_up_rtl(lane, fmt, table, covering))[0])
                results.append(_total(lanes, terms))
        shaped = np.array(results, dtype=object).reshape(site.output.shape)
        return type(lanes)(shaped, lanes.solver_options, hwconf=lanes.hwconf)

    def to_cpp(self, site: Site) -> str:
        node, (n_in, n_entries, n_out) = site.node, self._table(site).shape
        (name,), (array,) = node.inputs, self.cpp_constants(site)
        sizes = f"B, {n_in}, {n_out}, {n_entries}, {site.source.format.min_word}"
        lines = []
        for position in range(site.source.size // n_in):
            x, y = (
                f"{cpp_variable(of)} + {position * n} * B"
                for of, n in ((name, n_in), (node.name, n_out))
            )
            lines.append(f"lookup<{sizes}>({x}, {array}, {y});")
        return "\n    ".join(lines)

    def cpp_constants(self, site: Site) -> dict[str, NDArray[np.int64]]:
        return {f"tables_{site.node.name}": self._table(site)}

    def examples(self) -> list[dict[str, Any]]:
        return [
            {"units": 3, "weight_bits": 4},
            {"units": 4, "weight_bits": 7, "pruned_fraction": 0.4},
        ]


def _total(lanes: FVArray, terms: list[Any]) -> Any:
    """Return the sum of lanes and constants."""
    constant = sum(term for term in terms if isinstance(term, float))
    varying = [term for term in terms if not isinstance(term, float)]
    if not varying:
        return constant
    row = type(lanes)(np.array(varying, dtype=object), lanes.solver_options, hwconf=lanes.hwconf)
    return np.asarray(np.sum(row)).item() + constant


LAYERS.add(LookupDense.name, LookupDense())
