"""What layers share that map every element alone and exactly, and answer to x as to -x."""

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
from codesign.layers._export import cpp_loop, cpp_word
from codesign.layers.base import FloatColumns, Layer, Site, WordRange
from hw_models.lowering import Described, combination

if TYPE_CHECKING:
    import torch
    from alkaid.trace import FVArray

    from codesign.layers._export import OnnxGraph
    from codesign.layers._import import Constant, Draft, Foreign, Value
    from codesign.layers._training import TrainModule, TrainNodes


class EvenFunction(Layer):
    """Interface of a power of the magnitude.

    Attributes:
        power: of the magnitude; fraction bits multiply by it.
        onnx_operator: ONNX' name of it, of as many inputs as `power`.
        combination: what it costs about as much as, lane by lane (`hw_models.lowering.combination`).
    """

    is_positionwise = True
    power: ClassVar[int]
    onnx_operator: ClassVar[str]
    combination: ClassVar[str]

    @abstractmethod
    def apply(self, values: Any) -> Any:
        """Map an array of words or a tensor of values; grows with their magnitude."""

    @abstractmethod
    def cpp_value(self, word: str) -> str:
        """Return the C++ expression of the result word."""

    @abstractmethod
    def rtl_lane(self, lane: Any) -> Any:
        """Trace one lane."""

    def propagate(self, parameters: FloatColumns, inputs: Sequence[Tensors]) -> Tensors:
        (source,) = inputs
        # 2**(bits - 1) is the greatest magnitude of a signed word, and a power of two
        bits = self.power * (source.bits - source.is_signed) + source.is_signed
        return replace(source, bits=bits, is_signed=np.zeros_like(source.is_signed))

    def describe(self, columns: FloatColumns) -> tuple[Described, ...]:
        return (
            combination(
                self.combination,
                n_lanes=columns["n_out"] * columns["n_copies"],
                n_positions=columns["n_turns"],
                input_bits=columns["input_bits"],
                output_bits=columns["output_bits"],
            ),
        )

    def train_module(self, nodes: TrainNodes) -> TrainModule:
        from codesign.layers._train_merge import EvenModule

        return EvenModule(self.apply, power=self.power)

    def infer(self, site: Site) -> WordRange:
        source = site.source
        if (bits := self.largest_sum(site).bit_length() + 1) > MAX_BITS:
            raise DesignError(
                f"its words need {bits} bits, words hold {MAX_BITS}; round its input first"
            )
        ends = self.apply(source.low), self.apply(source.high)
        holds_zero = (source.low <= 0) & (source.high >= 0)
        low = np.where(holds_zero, 0, np.minimum(*ends))
        return WordRange.exact(low, np.maximum(*ends), self.power * source.type.fraction_bits)

    def largest_sum(self, site: Site) -> int:
        return int(site.source.largest**self.power)

    def run_words(self, site: Site, inputs: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
        return np.asarray(self.apply(inputs[0]))

    def torch_exact(self, site: Site, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        return self.apply(inputs[0])  # type: ignore[no-any-return]

    def to_onnx(self, site: Site, graph: OnnxGraph, inputs: Sequence[str]) -> str:
        return graph.operator(self.onnx_operator, *[inputs[0]] * self.power)

    def to_rtl(self, site: Site, inputs: Sequence[FVArray]) -> FVArray:
        (source,) = inputs
        lanes = np.empty(source.size, dtype=object)
        lanes[:] = [self.rtl_lane(lane) for lane in np.asarray(source).ravel()]
        return type(source)(
            lanes.reshape(source.shape), source.solver_options, hwconf=source.hwconf
        )

    def to_cpp(self, site: Site) -> str:
        (name,) = site.node.inputs
        return cpp_loop(site.node.name, site.output.size, self.cpp_value(cpp_word(name)))

    def read(self, node: Foreign, draft: Draft) -> Value | Constant:
        return draft.elementwise(node, self.name, node.value())

    def examples(self) -> list[dict[str, Any]]:
        return [{}]
