"""Activations of straight lines: a shift, a constant and two limits, exact without a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from codesign.ir import FixedPoint, TensorType
from codesign.ir.fixed_point import MAX_BITS
from codesign.layers._activation import (
    Activation,
    add_hls_activation,
    describe_activation,
    quantize_rtl,
)
from codesign.layers._export import cpp_cast
from codesign.layers.base import FloatColumns, Site, WordRange
from hw_models.lowering import Described

if TYPE_CHECKING:
    import torch
    from alkaid.trace import FVArray

    from codesign.layers._export import HlsGraph, OnnxGraph
    from codesign.layers._import import Constant, Draft, Foreign, Value


class HardActivation(Activation):
    """Interface of clip(2**log2_slope * x + offset, low, high).

    Attributes:
        log2_slope: at most 0: a power of two is a shift.
        log2_offset: of the constant added; None: none is.
        low, high: limits of the result, whole numbers.
        hls_name: hls4ml's name of it, and the cost model's.
    """

    log2_slope: ClassVar[int] = 0
    log2_offset: ClassVar[int | None] = None
    low: ClassVar[int]
    high: ClassVar[int] = 1
    hls_name: ClassVar[str]
    luts_per_bit = 1.0  # a choice of three

    @property
    def _offset(self) -> float:
        return 0.0 if self.log2_offset is None else 2.0**self.log2_offset

    def _grid(self, fraction_bits: int) -> tuple[int, int, int]:
        """Return the result's fraction bits, the left shift to there of a source word, and the constant."""
        own = 0 if self.log2_offset is None else -self.log2_offset
        grid = max(fraction_bits - self.log2_slope, own, 0)
        offset = 0 if self.log2_offset is None else 1 << (grid - own)
        return grid, grid - (fraction_bits - self.log2_slope), offset

    def describe(self, columns: FloatColumns) -> tuple[Described, ...]:
        return (describe_activation(self.hls_name, columns),)

    def train_function(self, values: torch.Tensor) -> torch.Tensor:
        return self.torch_function(values)

    def apply_words(
        self, words: NDArray[np.int64], fraction_bits: int, result: TensorType
    ) -> NDArray[np.int64]:
        grid, shift, offset = self._grid(fraction_bits)
        limits = (self.low << grid, self.high << grid)
        return result.cast_words(np.clip((words << shift) + offset, *limits), grid)

    def unrounded(self, source: WordRange) -> WordRange:
        grid, _, _ = self._grid(source.type.fraction_bits)
        bits = min(MAX_BITS, 64 + grid)
        wide = TensorType.of(FixedPoint(bits=bits, integer_bits=bits - grid), source.shape)
        low, high = (
            self.apply_words(words, source.type.fraction_bits, wide)
            for words in (source.low, source.high)
        )
        return WordRange.exact(low, high, grid)

    def largest_sum(self, site: Site) -> int:
        _, shift, offset = self._grid(site.source.type.fraction_bits)
        return max(super().largest_sum(site), (site.source.largest << shift) + offset)

    def torch_function(self, values: torch.Tensor) -> torch.Tensor:
        import torch

        return torch.clamp(values * 2.0**self.log2_slope + self._offset, self.low, self.high)

    def onnx_function(self, graph: OnnxGraph, source: str) -> str:
        values = source
        if self.log2_slope:
            values = graph.operator("Mul", values, graph.real(np.array(2.0**self.log2_slope)))
        if self._offset:
            values = graph.operator("Add", values, graph.real(np.array(self._offset)))
        limits = (graph.real(np.array(float(limit))) for limit in (self.low, self.high))
        return graph.operator("Clip", values, *limits)

    def rtl_function(self, source: FVArray) -> FVArray:
        return np.clip(self._line(source), float(self.low), float(self.high))

    def _line(self, source: FVArray) -> FVArray:
        return source * 2.0**self.log2_slope + self._offset

    def to_rtl(self, site: Site, inputs: Sequence[FVArray]) -> FVArray:
        result = site.rounded
        low, high = (result.values_from_words(w) for w in (result.min_words, result.max_words))
        is_narrow = ((low >= self.low) & (high <= self.high)).all()
        if result.overflow == "SAT" and is_narrow:  # saturation is the limit
            return quantize_rtl(self._line(inputs[0]), result)
        return super().to_rtl(site, inputs)

    def cpp_function(self, word: str, cast: Callable[[int], str]) -> str:
        raise AssertionError("limits depend on the grid: `cpp_value` replaces it")

    def cpp_value(self, site: Site, word: str, fmt: FixedPoint) -> str:
        grid, shift, offset = self._grid(site.source.type.fraction_bits)
        line = f"shift_left({word}, {shift}) + {offset}"
        low, high = (f"static_cast<Word>({limit << grid}LL)" for limit in (self.low, self.high))
        return f"{cpp_cast(grid, fmt)}(std::min(std::max<Word>({line}, {low}), {high}))"

    def hls_function(
        self, graph: HlsGraph, name: str, source: str, n_lanes: int, result: FixedPoint
    ) -> str:
        return add_hls_activation(graph, self.hls_name, name, source, n_lanes, result)

    def read(self, node: Foreign, draft: Draft) -> Value | Constant:
        """Read clip(slope x + shift, low, high) of any slope and shift: a scale before this layer's own."""
        slope, shift = self.line_of(node)
        own = 2.0**self.log2_slope
        inner = draft.affine(node.value(), slope / own, (shift - self._offset) / own)
        return draft.activation(inner, self.name)

    def line_of(self, node: Foreign) -> tuple[float, float]:
        """Return slope and shift that a foreign node states, before it clips."""
        return 1.0, 0.0

    def examples(self) -> list[dict[str, Any]]:
        return [{"result_bits": 3}, {"result_bits": 8}]
