"""What layers share that combine two branches of equal shape, element by element, without rounding."""

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
from codesign.layers._export import cpp_loop, cpp_word, exact
from codesign.layers._import import Constant, Draft, Foreign, Value
from codesign.layers._import_quantizers import event_constant
from codesign.layers.base import FloatColumns, Layer, Site, WordRange, common
from hw_models.lowering import Described, combination

if TYPE_CHECKING:
    import torch
    from alkaid.trace import FVArray

    from codesign.layers._export import HlsGraph, OnnxGraph
    from codesign.layers._training import TrainModule, TrainNodes


class Combination(Layer):
    """Interface of a sum, difference or product of two branches.

    Attributes:
        onnx_operator: ONNX' name of it; hls4ml's and the cost model's is the layer's own.
        cpp_operator: C++'s sign of it.
        is_product: fraction bits of both branches add up, where a sum needs one grid.
    """

    role = "merge"
    n_inputs = (2, 2)
    is_positionwise = True
    onnx_operator: ClassVar[str]
    cpp_operator: ClassVar[str]
    is_product: ClassVar[bool] = False

    @abstractmethod
    def combine(self, first: Any, second: Any) -> Any:
        """Combine arrays of words, tensors of values or lanes of logic; monotone in each of both."""

    def propagate(self, parameters: FloatColumns, inputs: Sequence[Tensors]) -> Tensors:
        joined = common(inputs, "n_rows", "n_columns", "n_channels")
        first, second = inputs
        return replace(
            joined, bits=first.bits + second.bits if self.is_product else joined.bits + 1
        )

    def describe(self, columns: FloatColumns) -> tuple[Described, ...]:
        return (
            combination(
                self.name,
                n_lanes=columns["n_out"] * columns["n_copies"],
                n_positions=columns["n_turns"],
                input_bits=columns["input_bits"],
                output_bits=columns["output_bits"],
            ),
        )

    def train_module(self, nodes: TrainNodes) -> TrainModule:
        from codesign.layers._train_merge import CombinationModule

        return CombinationModule(self.combine, is_product=self.is_product)

    def _grid(self, site: Site) -> tuple[int, tuple[int, int]]:
        """Return the result's fraction bits, and the left shifts of both inputs before they combine."""
        first, second = (known.type.fraction_bits for known in site.inputs)
        if self.is_product:
            return first + second, (0, 0)
        fraction = max(first, second)
        return fraction, (fraction - first, fraction - second)

    def infer(self, site: Site) -> WordRange:
        first, second = site.inputs
        if first.shape != second.shape:
            raise DesignError(
                f"{self.name} needs branches of equal shape, got {first.shape} and {second.shape}"
            )
        if (bits := self.largest_sum(site).bit_length() + 1) > MAX_BITS:
            raise DesignError(
                f"its words need {bits} bits, words hold {MAX_BITS}; round its branches first"
            )
        fraction, (shift, other) = self._grid(site)
        corners = [
            self.combine(a << shift, b << other)
            for a in (first.low, first.high)
            for b in (second.low, second.high)
        ]
        return WordRange.exact(np.minimum.reduce(corners), np.maximum.reduce(corners), fraction)

    def largest_sum(self, site: Site) -> int:
        _, shifts = self._grid(site)
        first, second = (
            known.largest << shift for known, shift in zip(site.inputs, shifts, strict=True)
        )
        return first * second if self.is_product else first + second

    def run_words(self, site: Site, inputs: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
        _, (shift, other) = self._grid(site)
        return np.asarray(self.combine(inputs[0] << shift, inputs[1] << other))

    def torch_exact(self, site: Site, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        return self.combine(*inputs)  # type: ignore[no-any-return]

    def to_onnx(self, site: Site, graph: OnnxGraph, inputs: Sequence[str]) -> str:
        return graph.operator(self.onnx_operator, *inputs)

    def to_hls4ml(self, site: Site, graph: HlsGraph, inputs: Sequence[str]) -> str:
        return graph.add(
            "Merge",
            site.node.name,
            inputs,
            precision={"result": exact(site.output.format)},
            op=self.name,
        )

    def to_rtl(self, site: Site, inputs: Sequence[FVArray]) -> FVArray:
        return self.combine(*inputs)

    def to_cpp(self, site: Site) -> str:
        _, shifts = self._grid(site)
        first, second = (
            f"shift_left({cpp_word(name)}, {shift})"
            for name, shift in zip(site.node.inputs, shifts, strict=True)
        )
        value = f"{first} {self.cpp_operator} {second}"
        return cpp_loop(site.node.name, site.output.size, value)

    def read(self, node: Foreign, draft: Draft) -> Value | Constant:
        if len(node.values) == 1:
            return self.read_constant(node, draft, node.values[0])
        return draft.combined(node, self.name, node.values)

    def read_constant(self, node: Foreign, draft: Draft, value: Value) -> Value:
        """Combine a value with a constant: a gain and an offset."""
        is_first = isinstance(node.inputs[0], Constant)
        constant = event_constant(node, node.constant(0 if is_first else 1).real, value)
        if self.is_product:
            if node.kind.endswith("Div"):
                constant = 1.0 / constant
            return draft.affine(value, constant, 0.0)
        at_zero = self.combine(constant, 0.0) if is_first else self.combine(0.0, constant)
        slope = self.combine(0.0, 1.0) if is_first else 1.0
        return draft.affine(value, slope, at_zero)

    def examples(self) -> list[dict[str, Any]]:
        return [{}]
