"""What pooling over all positions shares: every channel of many positions becomes one value."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError
from codesign.ir import Tensors
from codesign.ir.fixed_point import MAX_BITS
from codesign.layers._export import add_hls_matrix, add_hls_reshape, cpp_loop, cpp_word
from codesign.layers.base import FloatColumns, Layer, Site, WordRange
from hw_models.lowering import Described, Pool

if TYPE_CHECKING:
    import torch
    from alkaid.trace import FVArray

    from codesign.layers._export import HlsGraph, OnnxGraph
    from codesign.layers._training import TrainModule, TrainNodes


class GlobalPool(Layer):
    """Interface of layers that reduce all positions to one (or, of rank 1, all elements)."""

    ranks = (2, 3)
    #: How the primitive `reduce` calls it.
    kind: ClassVar[str]

    @abstractmethod
    def extra_bits(self, n_positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how many bits wider than one value the result is."""

    def propagate(self, parameters: FloatColumns, inputs: Sequence[Tensors]) -> Tensors:
        (source,) = inputs
        none = np.zeros_like(source.bits)
        bits = source.bits + self.extra_bits(source.n_positions)
        return replace(source, n_rows=none, n_columns=none, bits=bits)

    def describe(self, columns: FloatColumns) -> tuple[Described, ...]:
        return (
            Pool(
                kind=self.kind,
                n_lanes=columns["n_out"],
                n_window=columns["input_positions"],
                n_outputs=np.ones_like(columns["n_out"]),
                bits=columns["output_bits"],
                n_positions=columns["input_positions"],
            ),
        )

    def examples(self) -> list[dict[str, Any]]:
        return [{}]


class Total(GlobalPool):
    """Interface of sums, over positions where nothing else is said, which may move the binary point."""

    kind = "mean"  # the hardware of a mean over a power of two: adders

    @abstractmethod
    def shift(self, n_positions: int) -> int:
        """Return how many places the binary point of the sum moves up."""

    def extra_bits(self, n_positions: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.ceil(np.log2(n_positions)))

    def train_module(self, nodes: TrainNodes) -> TrainModule:
        from codesign.layers._train_pool import TotalModule

        return TotalModule(nodes, self.shift(nodes.input_positions[0]))

    def n_terms(self, site: Site) -> int:
        """Return how many values each sum has."""
        return n_positions(site)

    def _terms(self, site: Site, words: NDArray[Any]) -> NDArray[Any]:
        """Return words [*shape] as [terms, sums]."""
        return words.reshape(self.n_terms(site), -1)

    def largest_sum(self, site: Site) -> int:
        words = np.maximum(np.abs(site.source.low), np.abs(site.source.high))
        return int(self._terms(site, words.astype(object)).sum(axis=0).max())

    def infer(self, site: Site) -> WordRange:
        if self.largest_sum(site).bit_length() >= MAX_BITS:
            raise DesignError(f"its sums need more than {MAX_BITS} bits; round before it")
        source = site.source
        low, high = (self._terms(site, words).sum(axis=0) for words in (source.low, source.high))
        return WordRange.exact(low, high, source.type.fraction_bits + self._shift(site))

    def _shift(self, site: Site) -> int:
        return self.shift(self.n_terms(site))

    def run_words(self, site: Site, inputs: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
        words = inputs[0].reshape(len(inputs[0]), self.n_terms(site), -1)
        return np.asarray(words.sum(axis=1))

    def torch_exact(self, site: Site, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        terms = inputs[0].reshape(len(inputs[0]), self.n_terms(site), -1)
        return terms.sum(dim=1) * 2.0 ** -self._shift(site)

    def to_onnx(self, site: Site, graph: OnnxGraph, inputs: Sequence[str]) -> str:
        rank = len(site.source.shape)
        axes = graph.integers(range(1, max(rank, 2)))
        total = graph.operator("ReduceSum", inputs[0], axes, keepdims=int(rank == 1))
        if self._shift(site) == 0:
            return total
        return graph.operator("Mul", total, graph.real(np.array(2.0 ** -self._shift(site))))

    def to_hls4ml(self, site: Site, graph: HlsGraph, inputs: Sequence[str]) -> str:
        name, source, flat = site.node.name, site.source, inputs[0]
        if len(source.shape) > 1:
            flat = add_hls_reshape(graph, f"{name}_flat", flat, (source.size,), source.format)
        ones = np.tile(np.eye(site.output.size), (self.n_terms(site), 1))
        one = 2.0 ** -self._shift(site)
        return add_hls_matrix(graph, name, flat, ones, site.output.format, one=one)

    def to_rtl(self, site: Site, inputs: Sequence[FVArray]) -> FVArray:
        lanes = inputs[0].reshape(self.n_terms(site), -1)
        return np.sum(lanes, axis=0) * 2.0 ** -self._shift(site)

    def to_cpp(self, site: Site) -> str:
        (name,), n_sums = site.node.inputs, site.output.size
        terms = [cpp_word(name, term * n_sums) for term in range(self.n_terms(site))]
        return cpp_loop(site.node.name, n_sums, " + ".join(terms))


def n_positions(site: Site) -> int:
    """Return how many positions a node reads."""
    return site.source.size // site.source.shape[-1]
