"""Sum of two branches of equal width, exact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError
from codesign.ir import FixedPoint, Node, QuantizedNetwork, Tensors, covering_format
from codesign.layers import LAYERS
from codesign.layers._export import cpp_aligned, cpp_loop, exact
from codesign.layers.base import FloatColumns, Layer, WordRange, common
from hw_models.lowering import Described, combination

if TYPE_CHECKING:
    import torch
    from alkaid.trace import FVArray

    from codesign.layers._export import HlsGraph, OnnxGraph
    from codesign.layers._training import TrainModule, TrainNodes


class Add(Layer):
    """a + b, one bit wider than the wider of the two."""

    name = "add"
    role = "merge"
    n_inputs = (2, 2)

    def propagate(self, parameters: FloatColumns, inputs: Sequence[Tensors]) -> Tensors:
        joined = common(inputs, "n_rows", "n_columns", "n_channels")
        return replace(joined, bits=joined.bits + 1)

    def describe(self, columns: FloatColumns) -> tuple[Described, ...]:
        return (
            combination(
                "add",
                n_lanes=columns["n_out"] * columns["n_copies"],
                n_positions=columns["n_turns"],
                input_bits=columns["input_bits"],
                output_bits=columns["output_bits"],
            ),
        )

    def train_module(self, nodes: TrainNodes) -> TrainModule:
        from codesign.layers._train_merge import AddModule

        return AddModule()

    def infer(
        self, node: Node, network: QuantizedNetwork, inputs: Sequence[WordRange]
    ) -> WordRange:
        first, second = inputs
        if first.low.shape != second.low.shape:
            raise DesignError(
                f"{node.name}: add needs branches of equal width, got {first.low.size} and {second.low.size}"
            )
        fraction = max(first.format.fraction_bits, second.format.fraction_bits)
        shifts = [fraction - r.format.fraction_bits for r in inputs]
        low = (first.low << shifts[0]) + (second.low << shifts[1])
        high = (first.high << shifts[0]) + (second.high << shifts[1])
        return WordRange(
            format=covering_format(int(low.min()), int(high.max()), fraction), low=low, high=high
        )

    def run_words(
        self,
        node: Node,
        network: QuantizedNetwork,
        inputs: Sequence[NDArray[np.int64]],
        formats: Sequence[FixedPoint],
        result: FixedPoint,
    ) -> NDArray[np.int64]:
        return sum(  # type: ignore[return-value]
            words << (result.fraction_bits - fmt.fraction_bits)
            for words, fmt in zip(inputs, formats, strict=True)
        )

    def torch_exact(
        self,
        node: Node,
        network: QuantizedNetwork,
        inputs: Sequence[torch.Tensor],
        result: FixedPoint,
    ) -> torch.Tensor:
        return inputs[0] + inputs[1]

    def to_onnx(
        self,
        node: Node,
        network: QuantizedNetwork,
        graph: OnnxGraph,
        inputs: Sequence[str],
        result: FixedPoint,
    ) -> str:
        return graph.operator("Add", *inputs)

    def to_hls4ml(
        self,
        node: Node,
        network: QuantizedNetwork,
        graph: HlsGraph,
        inputs: Sequence[str],
        ranges: Sequence[WordRange],
    ) -> str:
        return graph.add(
            "Merge",
            node.name,
            inputs,
            precision={"result": exact(ranges[-1].format)},
            op="add",
        )

    def to_rtl(
        self, node: Node, network: QuantizedNetwork, inputs: Sequence[FVArray], result: FixedPoint
    ) -> FVArray:
        return inputs[0] + inputs[1]

    def to_cpp(self, node: Node, network: QuantizedNetwork, ranges: Mapping[str, WordRange]) -> str:
        result = ranges[node.name]
        terms = [cpp_aligned(name, ranges[name].format, result.format) for name in node.inputs]
        return cpp_loop(node.name, result.low.size, " + ".join(terms))

    def examples(self) -> list[dict[str, Any]]:
        return [{}]


LAYERS.add(Add.name, Add())
