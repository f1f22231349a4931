"""Index of the largest channel: a class as a word, for a decision that a trigger takes without a host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import ExportError
from codesign.ir import FixedPoint, Tensors, covering_format
from codesign.layers import LAYERS
from codesign.layers._activation import add_hls_activation
from codesign.layers._export import (
    add_hls_largest,
    add_hls_matrix,
    add_hls_reshape,
    chosen_rtl,
    cpp_variable,
    exact,
    larger_rtl,
)
from codesign.layers._import import Constant, Draft, Foreign, Value, event_axis
from codesign.layers.base import FloatColumns, Layer, Site, WordRange
from hw_models.lowering import Described, Pool

if TYPE_CHECKING:
    import torch
    from alkaid.trace import FVArray

    from codesign.layers._export import HlsGraph, OnnxGraph
    from codesign.layers._training import TrainModule, TrainNodes

_CPP = """\
// Index of the largest of N channels, the first where several are, for B events.
template <int B, int N>
INLINE void argmax(const Word* x, Word* y) {
    for (int e = 0; e < B; ++e) {
        Word best = 0;
        for (int i = 1; i < N; ++i) best = x[i * B + e] > x[best * B + e] ? i : best;
        y[e] = best;
    }
}

"""


class ArgMax(Layer):
    """The index of the largest channel of each position, the lowest index where several are equal.

    A whole number without a gradient: what stands before it learns from losses of its own.
    """

    name = "argmax"
    foreign = ("onnx.ArgMax",)
    cpp_support = _CPP

    def propagate(self, parameters: FloatColumns, inputs: Sequence[Tensors]) -> Tensors:
        (source,) = inputs
        bits = np.maximum(np.ceil(np.log2(source.n_channels)), 1.0)
        return replace(
            source, n_channels=np.ones_like(bits), bits=bits, is_signed=np.zeros_like(bits)
        )

    def read(self, node: Foreign, draft: Draft) -> Value | Constant:
        value, known = node.value(), node.attributes
        axis = event_axis(node, int(known.get("axis", 0)), len(value.shape))
        if axis != len(value.shape) - 1 or int(known.get("select_last_index", 0)):
            raise node.refuse("expected the first largest along the last axis; move that axis")
        index = draft.layer(node, self.name, [draft.must_be_in_order(node, value)])
        return index if int(known.get("keepdims", 1)) else index.arranged(lambda a: a[..., 0])

    def describe(self, columns: FloatColumns) -> tuple[Described, ...]:
        return (
            Pool(  # a maximum whose words carry their index along
                kind="max",
                n_lanes=columns["n_copies"],
                n_window=columns["n_in"],
                n_outputs=np.ones_like(columns["n_in"]),
                bits=columns["input_bits"] + columns["output_bits"],
                n_positions=columns["n_in"],
            ),
        )

    def train_module(self, nodes: TrainNodes) -> TrainModule:
        from codesign.layers._train_pool import ArgMaxModule

        return ArgMaxModule(nodes)

    def infer(self, site: Site) -> WordRange:
        *positions, n = site.source.shape
        low = np.zeros((*positions, 1), dtype=np.int64)
        return WordRange.exact(low, np.full_like(low, n - 1), 0)

    def largest_sum(self, site: Site) -> int:
        return max(site.source.largest, site.source.shape[-1])

    def run_words(self, site: Site, inputs: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
        return np.asarray(inputs[0].argmax(axis=-1)[..., None])

    def torch_exact(self, site: Site, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        import torch

        (values,) = inputs
        is_largest = values == values.amax(dim=-1, keepdim=True)
        channel = torch.arange(values.shape[-1], dtype=values.dtype)
        return torch.where(is_largest, channel, torch.inf).amin(dim=-1, keepdim=True)

    def to_onnx(self, site: Site, graph: OnnxGraph, inputs: Sequence[str]) -> str:
        index = graph.operator("ArgMax", inputs[0], axis=len(site.source.shape), keepdims=1)
        channel = graph.real(np.arange(float(site.source.shape[-1])))
        return graph.operator("Gather", channel, index, axis=0)

    def to_hls4ml(self, site: Site, graph: HlsGraph, inputs: Sequence[str]) -> str:
        name, shape = site.node.name, site.source.shape
        if site.hardware.io_type != "io_parallel":
            raise ExportError(
                f"{name}: hls4ml has no layer that streams an index of the largest; use io_parallel or plain RTL"
            )
        if graph.is_logic:
            return _add_tree(site, graph, inputs[0])
        # hls4ml has no such layer: the least of the indices i + n [x_i is not the largest]
        n, size, source = shape[-1], site.source.size, site.source.format
        flat = add_hls_reshape(graph, f"{name}_flat", inputs[0], (size,), source)
        top = add_hls_largest(graph, name, flat, shape, source)
        spread = np.repeat(np.eye(size // n), n, axis=1)
        top = add_hls_matrix(graph, f"{name}_tops", top, spread, source)
        widest = max(int(site.source.high.max() - site.source.low.min()), 1)
        fraction = site.source.type.fraction_bits
        distance = graph.add(
            "Merge",
            f"{name}_distance",
            [top, flat],
            precision={"result": exact(covering_format(0, widest, fraction))},
            op="subtract",
        )
        bit = FixedPoint(bits=1, integer_bits=1 - fraction, signed=False)
        is_less = add_hls_activation(graph, "linear", f"{name}_less", distance, size, bit)
        index = covering_format(-2 * n, 0, 0)
        channel = np.tile(np.arange(float(n)), size // n)
        negated = add_hls_matrix(  # the bit is worth 2**-fraction
            graph,
            f"{name}_negated",
            is_less,
            -n * np.eye(size),
            index,
            one=2.0**fraction,
            bias=-channel,
        )
        best = add_hls_largest(graph, f"{name}_index", negated, shape, index)
        chosen = add_hls_matrix(
            graph, f"{name}_chosen", best, -np.eye(size // n), site.output.format
        )
        return add_hls_reshape(graph, name, chosen, site.output.shape, site.output.format)

    def to_rtl(self, site: Site, inputs: Sequence[FVArray]) -> FVArray:
        lanes, n = inputs[0], site.source.shape[-1]
        chosen = [_index_of_largest(list(row)) for row in np.asarray(lanes).reshape(-1, n)]
        shaped = np.array(chosen, dtype=object).reshape(site.output.shape)
        return type(lanes)(shaped, lanes.solver_options, hwconf=lanes.hwconf)

    def to_cpp(self, site: Site) -> str:
        (name,), n = site.node.inputs, site.source.shape[-1]
        return "\n    ".join(
            f"argmax<B, {n}>({cpp_variable(name)} + {i * n} * B, {cpp_variable(site.node.name)} + {i} * B);"
            for i in range(site.output.size)
        )

    def examples(self) -> list[dict[str, Any]]:
        return [{}]


def _add_tree(site: Site, graph: HlsGraph, source: str) -> str:
    """Name the tree that `to_rtl` builds, as `describe` does: a maximum whose words carry their index along."""
    name, n = site.node.name, site.source.shape[-1]
    n_rows = site.source.size // n
    carried = site.source.format.bits + site.output.format.bits
    word = FixedPoint(bits=carried, integer_bits=carried, signed=False)
    rows = add_hls_reshape(graph, f"{name}_rows", source, (n, n_rows), word)
    top = graph.add(
        "GlobalMaxPooling1D",
        f"{name}_top",
        [rows],
        precision={"result": exact(site.output.format)},
        pool_op="Max",
        target_shape=[n_rows],
    )
    return add_hls_reshape(graph, name, top, site.output.shape, site.output.format)


def _index_of_largest(row: list[Any]) -> Any:
    """Return the index of the largest lane by a balanced tree: neighbours first, so that ties go to the lower."""
    best = [(lane, float(i)) for i, lane in enumerate(row)]
    while len(best) > 1:
        pairs = [best[i : i + 2] for i in range(0, len(best), 2)]
        best = [
            pair[0]
            if len(pair) == 1
            else (
                larger_rtl(pair[0][0], pair[1][0]),
                chosen_rtl(pair[0][0], pair[1][0], pair[1][1], pair[0][1]),
            )
            for pair in pairs
        ]
    return best[0][1]


LAYERS.add(ArgMax.name, ArgMax())
