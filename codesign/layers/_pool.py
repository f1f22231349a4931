"""What pooling shares: every channel of the positions under a window, or of all, becomes one value."""

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
from codesign.layers._export import add_hls_matrix, add_hls_reshape, cpp_loop, cpp_word, onnx_flat
from codesign.layers._import import Constant, Draft, Foreign, Value
from codesign.layers._import_pools import read_pool
from codesign.layers._windows import tap_sources, window_axes
from codesign.layers.base import FloatColumns, Layer, Parameter, Site, WordRange
from hw_models import lowering
from hw_models.lowering import Described

if TYPE_CHECKING:
    import torch
    from alkaid.trace import FVArray

    from codesign.layers._export import HlsGraph, OnnxGraph
    from codesign.layers._training import TrainModule, TrainNodes


class Pool(Layer):
    """Interface of layers that reduce the positions under a window, or all, to one (of rank 1: all elements)."""

    ranks: ClassVar[tuple[int, ...]] = (2, 3)
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter(
            name="kernel",
            column="kernel",
            minimum=0,
            maximum=64,
            default=0.0,
            is_silent=True,
            description="positions under the window, along each axis; 0: all positions there are",
        ),
        Parameter(
            name="stride",
            column="stride",
            minimum=0,
            maximum=64,
            default=0.0,
            is_silent=True,
            description="positions from one window to the next; 0: as many as the window has",
        ),
    )
    #: How the primitive `reduce` calls it.
    kind: ClassVar[str]

    @abstractmethod
    def extra_bits(self, n_terms: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how many bits wider than one value the result is."""

    def propagate(self, parameters: FloatColumns, inputs: Sequence[Tensors]) -> Tensors:
        (source,) = inputs
        kernel, n_terms = parameters["kernel"], source.n_positions
        axes = dict.fromkeys(("n_rows", "n_columns"), np.zeros_like(source.bits))
        if kernel.any():
            one = np.where(kernel > 0, kernel, 1.0)
            stride = np.where(parameters["stride"] > 0, parameters["stride"], one)
            windows = window_axes(source, one, stride)
            axes = {name: np.where(kernel > 0, windows[name], 0.0) for name in axes}
            n_terms = np.where(kernel > 0, kernel ** (source.rank - 1), n_terms)
        return replace(source, **axes, bits=source.bits + self.extra_bits(n_terms))

    def describe(self, columns: FloatColumns) -> tuple[Described, ...]:
        kernel, n_axes = columns["kernel"], 1.0 + (columns["n_rows"] > 0)
        at_once = columns["input_positions"] / columns["shared_turns"]
        return (
            lowering.Pool(
                kind=self.kind,
                n_lanes=columns["n_out"],
                n_window=np.where(kernel > 0, kernel**n_axes, at_once),
                n_outputs=columns["n_positions"],
                bits=columns["output_bits"],
                n_positions=columns["input_positions"],
            ),
        )

    def window(self, site: Site) -> tuple[int, int]:
        """Return kernel and stride, the former 0 where there is one window of all positions."""
        kernel, stride = (int(self.value(site.node, name)) for name in ("kernel", "stride"))
        return kernel, stride or kernel

    def terms(self, site: Site) -> NDArray[np.int64]:
        """Return int64[n_terms, n_results]: the element that each term of each result is."""
        *positions, n_channels = site.source.shape
        taps = pool_taps(positions, *self.window(site)).T
        return (taps[..., None] * n_channels + np.arange(n_channels)).reshape(len(taps), -1)

    def shape(self, site: Site) -> tuple[int, ...]:
        """Return the shape of the result."""
        *positions, n_channels = site.source.shape
        kernel, stride = self.window(site)
        windows = tap_sources(positions, kernel, stride).shape[:-1] if kernel else ()
        return (*windows, n_channels)

    def _is_global(self, site: Site) -> bool:
        return len(site.output.shape) == 1

    def onnx_reduced(self, operator: str, site: Site, graph: OnnxGraph, source: str) -> str:
        """Reduce the terms of every result by an ONNX operator."""
        if self._is_global(site):
            axes = graph.integers(range(1, len(site.source.shape)))
            return graph.operator(operator, source, axes, keepdims=0)
        terms = self.terms(site)
        flat = onnx_flat(graph, source, len(site.source.shape))
        taken = graph.operator("Gather", flat, graph.integers(terms.ravel().tolist()), axis=1)
        taken = graph.operator("Reshape", taken, graph.integers([0, *terms.shape]))
        result = graph.operator(operator, taken, graph.integers([1]), keepdims=0)
        return graph.operator("Reshape", result, graph.integers([0, *site.output.shape]))

    def cpp_runs(self, site: Site) -> list[tuple[int, int, list[str]]]:
        """Return the first result, how many follow, and the words of the terms, for every run of results."""
        (name,), terms = site.node.inputs, self.terms(site)
        n_lanes = site.output.shape[-1]
        return [
            (first, n_lanes, [cpp_word(name, int(term)) for term in terms[:, first]])
            for first in range(0, terms.shape[1], n_lanes)
        ]

    def read(self, node: Foreign, draft: Draft) -> Value | Constant:
        return read_pool(node, draft, self.kind)

    def examples(self) -> list[dict[str, Any]]:
        return [{}, {"kernel": 2}, {"kernel": 2, "stride": 1}]


class Total(Pool):
    """Interface of sums, over positions where nothing else is said, which may move the binary point."""

    kind = "mean"  # the hardware of a mean over a power of two: adders

    @abstractmethod
    def shift(self, n_terms: int) -> int:
        """Return how many places the binary point of the sum moves up."""

    def extra_bits(self, n_terms: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.ceil(np.log2(n_terms)))

    def train_module(self, nodes: TrainNodes) -> TrainModule:
        from codesign.layers._train_pool import TotalModule

        return TotalModule(nodes, self.shift)

    def _sums(self, site: Site, words: NDArray[Any]) -> NDArray[Any]:
        """Return the sums of words [*shape]."""
        return words.ravel()[self.terms(site)].sum(axis=0)  # type: ignore[no-any-return]

    def largest_sum(self, site: Site) -> int:
        words = np.maximum(np.abs(site.source.low), np.abs(site.source.high))
        return int(self._sums(site, words.astype(object)).max())

    def infer(self, site: Site) -> WordRange:
        if self.largest_sum(site).bit_length() >= MAX_BITS:
            raise DesignError(f"its sums need more than {MAX_BITS} bits; round before it")
        source, shape = site.source, self.shape(site)
        low, high = (self._sums(site, words).reshape(shape) for words in (source.low, source.high))
        return WordRange.exact(low, high, source.type.fraction_bits + self._shift(site))

    def _shift(self, site: Site) -> int:
        return self.shift(len(self.terms(site)))

    def run_words(self, site: Site, inputs: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
        flat = inputs[0].reshape(len(inputs[0]), -1)
        return np.asarray(flat[:, self.terms(site)].sum(axis=1).reshape(-1, *site.output.shape))

    def torch_exact(self, site: Site, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        totals = windows_of(inputs[0], *self.window(site)).sum(dim=-1)
        return totals * 2.0 ** -self._shift(site)

    def to_onnx(self, site: Site, graph: OnnxGraph, inputs: Sequence[str]) -> str:
        total = self.onnx_reduced("ReduceSum", site, graph, inputs[0])
        if self._shift(site) == 0:
            return total
        return graph.operator("Mul", total, graph.real(np.array(2.0 ** -self._shift(site))))

    def to_hls4ml(self, site: Site, graph: HlsGraph, inputs: Sequence[str]) -> str:
        name, source, flat = site.node.name, site.source, inputs[0]
        if len(source.shape) > 1:
            flat = add_hls_reshape(graph, f"{name}_flat", flat, (source.size,), source.format)
        terms, one = self.terms(site), 2.0 ** -self._shift(site)
        ones = np.zeros((source.size, terms.shape[1]))
        ones[terms, np.arange(terms.shape[1])] = 1.0
        if self._is_global(site):
            return add_hls_matrix(graph, name, flat, ones, site.output.format, one=one)
        sums = add_hls_matrix(graph, f"{name}_sums", flat, ones, site.output.format, one=one)
        return add_hls_reshape(graph, name, sums, site.output.shape, site.output.format)

    def to_rtl(self, site: Site, inputs: Sequence[FVArray]) -> FVArray:
        terms = self.terms(site)
        lanes = inputs[0].reshape(-1)[terms.ravel()].reshape(terms.shape)
        sums = np.sum(lanes, axis=0) * 2.0 ** -self._shift(site)
        return sums.reshape(site.output.shape)

    def to_cpp(self, site: Site) -> str:
        return "\n    ".join(
            cpp_loop(site.node.name, n, " + ".join(words), first_lane=first)
            for first, n, words in self.cpp_runs(site)
        )


def pool_taps(positions: Sequence[int], kernel: int, stride: int) -> NDArray[np.int64]:
    """Return int64[n_windows, n_taps], the positions under every window; under the only one without a kernel."""
    if kernel == 0:
        return np.arange(int(np.prod(positions)))[None]
    taps = tap_sources(positions, kernel, stride or kernel)
    return taps.reshape(-1, taps.shape[-1])


def windows_of(values: torch.Tensor, kernel: int, stride: int) -> torch.Tensor:
    """Return values [n, *positions, channels] as [n, *windows, channels, taps]; without a kernel, all positions."""
    if kernel == 0:
        return values.flatten(1, -2).movedim(1, -1)
    n_axes = values.ndim - 2
    for axis in range(1, 1 + n_axes):
        values = values.unfold(axis, kernel, stride)
    return values.flatten(-n_axes)
