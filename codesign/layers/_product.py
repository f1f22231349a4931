"""What products of two computed tensors share: sums of products, exact, in whole blocks of rows."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError, ExportError
from codesign.ir import Tensors
from codesign.ir.fixed_point import MAX_BITS
from codesign.layers._export import add_hls_matrix, add_hls_reshape, cpp_variable, exact
from codesign.layers.base import FloatColumns, Layer, Site, WordRange
from hw_models.lowering import Described, Product

if TYPE_CHECKING:
    import torch
    from alkaid.trace import FVArray

    from codesign.layers._export import HlsGraph, OnnxGraph
    from codesign.layers._training import TrainModule, TrainNodes

_CPP = """\
// y[p, q] = sum over c of a[p, c] b[q, c], exact, for B events at once.
template <int B, int P, int Q, int C>
INLINE void product(const Word* __restrict__ a, const Word* __restrict__ b, Word* __restrict__ y) {
    for (int p = 0; p < P; ++p)
        for (int q = 0; q < Q; ++q)
            for (int e = 0; e < B; ++e) {
                Word total = 0;
                for (int c = 0; c < C; ++c) total += a[(p * C + c) * B + e] * b[(q * C + c) * B + e];
                y[(p * Q + q) * B + e] = total;
            }
}

"""

Blocks = tuple[int, int, int, int]


class RowProduct(Layer):
    """Interface of y[i, p, q] = sum over c of a[i, p, c] b[i, q, c]: rows of one input times rows of the other."""

    n_inputs = (2, 2)
    cpp_support = _CPP

    @abstractmethod
    def blocks(self, first: tuple[int, ...], second: tuple[int, ...]) -> Blocks:
        """Return how many blocks i, rows p and q of both and channels c two shapes are.

        Raises:
            DesignError: they do not fit.
        """

    @abstractmethod
    def output_shape(self, first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the result."""

    def fan_in(self, parameters: FloatColumns, inputs: Sequence[Tensors]) -> NDArray[np.float64]:
        return inputs[0].n_channels

    @staticmethod
    def sum_bits(inputs: Sequence[Tensors]) -> NDArray[np.float64]:
        """Return the bits that hold every sum of products of k nodes."""
        first, second = inputs
        bits = first.bits + second.bits + np.ceil(np.log2(first.n_channels))
        return np.asarray(bits)

    def describe(self, columns: FloatColumns) -> tuple[Described, ...]:
        return (
            Product(
                is_constant=False,
                n_in=columns["n_in"],
                n_out=columns["n_out"],
                n_positions=columns["n_turns"],
                n_instances=columns["n_copies"],
                depth=columns["n_turns"],
                input_bits=columns["input_bits"],
                weight_bits=columns["input_bits"],
                accumulator_bits=columns["output_bits"],
                output_bits=columns["output_bits"],
            ),
        )

    def _blocks(self, site: Site) -> Blocks:
        return self.blocks(*(known.shape for known in site.inputs))

    def _arranged(self, site: Site, *pair: Any) -> tuple[Any, Any]:
        """Return arrays [..., *shape] of both inputs as [..., i, p, 1, c] and [..., i, 1, q, c]."""
        n, p, q, c = self._blocks(site)
        first, second = pair
        lead = first.shape[: first.ndim - len(site.inputs[0].shape)]
        return first.reshape(*lead, n, p, 1, c), second.reshape(*lead, n, 1, q, c)

    def train_module(self, nodes: TrainNodes) -> TrainModule:
        from codesign.layers._train_product import ProductModule

        return ProductModule(nodes, self.is_between_positions)

    #: Whether rows are positions (a matrix product), or every position is a block of its own.
    is_between_positions: bool

    def infer(self, site: Site) -> WordRange:
        first, second = site.inputs
        n, p, q, c = self._blocks(site)
        if first.largest.bit_length() + second.largest.bit_length() + c.bit_length() >= MAX_BITS:
            raise DesignError(
                f"its sums of {c} products of words of {first.format.bits} and {second.format.bits} bits need"
                f" more than {MAX_BITS} bits; round its inputs first"
            )
        corners = [
            np.multiply(*self._arranged(site, a, b))
            for a in (first.low, first.high)
            for b in (second.low, second.high)
        ]
        shape = self.output_shape(first.shape, second.shape)
        low, high = (
            extreme.reduce(corners).sum(axis=-1).reshape(shape)
            for extreme in (np.minimum, np.maximum)
        )
        return WordRange.exact(low, high, first.type.fraction_bits + second.type.fraction_bits)

    def largest_sum(self, site: Site) -> int:
        words = (np.maximum(np.abs(x.low), np.abs(x.high)) for x in site.inputs)
        return int(np.multiply(*self._arranged(site, *words)).sum(axis=-1).max())

    def run_words(self, site: Site, inputs: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
        n, p, q, c = self._blocks(site)
        first, second = inputs[0].reshape(-1, n, p, c), inputs[1].reshape(-1, n, q, c)
        return (first @ second.swapaxes(2, 3)).reshape(-1, *site.output.shape)

    def torch_exact(self, site: Site, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        first, second = self._arranged(site, *inputs)
        result: torch.Tensor = (first * second).sum(dim=-1)
        return result.reshape(-1, *site.output.shape)

    def to_onnx(self, site: Site, graph: OnnxGraph, inputs: Sequence[str]) -> str:
        if self.is_between_positions:
            # no Reshape, Transpose: ONNX Runtime 1.31 moves 8-bit pairs behind them, with a zero of another type
            return graph.operator("Einsum", *inputs, equation="bpc,bqc->bpq")
        axis = graph.integers([len(site.inputs[0].shape)])
        return graph.operator("ReduceSum", graph.operator("Mul", *inputs), axis, keepdims=1)

    def to_hls4ml(self, site: Site, graph: HlsGraph, inputs: Sequence[str]) -> str:
        name, (n, p, q, c) = site.node.name, self._blocks(site)
        if site.hardware.io_type != "io_parallel":
            raise ExportError(
                f"{name}: hls4ml has no layer that streams products of two tensors; use io_parallel or plain RTL"
            )
        # hls4ml multiplies element by element: every factor where it is used, then sums of the products
        spread = []
        places = (
            np.arange(n * p * c).reshape(n, p, 1, c),
            np.arange(n * q * c).reshape(n, 1, q, c),
        )
        for known, source, place, of in zip(
            site.inputs, inputs, places, ("first", "second"), strict=True
        ):
            used = np.broadcast_to(place, (n, p, q, c)).ravel()
            chosen = (np.arange(known.size)[:, None] == used).astype(np.float64)
            flat = add_hls_reshape(graph, f"{name}_{of}", source, (known.size,), known.format)
            spread.append(add_hls_matrix(graph, f"{name}_{of}s", flat, chosen, known.format))
        widest = site.inputs[0].largest * site.inputs[1].largest
        products = WordRange.exact(
            np.array([-widest]), np.array([widest]), site.output.type.fraction_bits
        )
        terms = graph.add(
            "Merge",
            f"{name}_products",
            spread,
            precision={"result": exact(products.format)},
            op="multiply",
        )
        sums = np.repeat(np.eye(n * p * q), c, axis=0)
        total = add_hls_matrix(graph, f"{name}_sums", terms, sums, site.output.format)
        return add_hls_reshape(graph, name, total, site.output.shape, site.output.format)

    def to_rtl(self, site: Site, inputs: Sequence[FVArray]) -> FVArray:
        first, second = self._arranged(site, *inputs)
        return np.sum(first * second, axis=3).reshape(site.output.shape)

    def to_cpp(self, site: Site) -> str:
        n, p, q, c = self._blocks(site)
        lines = []
        for i in range(n):
            a, b, y = (
                f"{cpp_variable(name)} + {i * step} * B"
                for name, step in zip(
                    (*site.node.inputs, site.node.name), (p * c, q * c, p * q), strict=True
                )
            )
            lines.append(f"product<B, {p}, {q}, {c}>({a}, {b}, {y});")
        return "\n    ".join(lines)

    def examples(self) -> list[dict[str, Any]]:
        return [{}]
