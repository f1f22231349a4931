"""Sum of two branches of equal shape, exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError
from codesign.ir import Tensors
from codesign.layers import LAYERS
from codesign.layers._export import cpp_aligned, cpp_loop, cpp_word, exact
from codesign.layers.base import FloatColumns, Layer, Site, WordRange, aligned, common
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

    def infer(self, site: Site) -> WordRange:
        first, second = site.inputs
        if first.shape != second.shape:
            raise DesignError(
                f"add needs branches of equal shape, got {first.shape} and {second.shape}"
            )
        fraction = max(known.type.fraction_bits for known in site.inputs)
        first, second = (aligned(known, fraction) for known in site.inputs)
        return WordRange.exact(first.low + second.low, first.high + second.high, fraction)

    def largest_sum(self, site: Site) -> int:
        fraction = site.output.type.fraction_bits
        return sum(known.largest << fraction - known.type.fraction_bits for known in site.inputs)

    def run_words(self, site: Site, inputs: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
        fraction = site.output.type.fraction_bits
        first, second = (
            words << (fraction - known.type.fraction_bits)
            for words, known in zip(inputs, site.inputs, strict=True)
        )
        return first + second

    def torch_exact(self, site: Site, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        return inputs[0] + inputs[1]

    def to_onnx(self, site: Site, graph: OnnxGraph, inputs: Sequence[str]) -> str:
        return graph.operator("Add", *inputs)

    def to_hls4ml(self, site: Site, graph: HlsGraph, inputs: Sequence[str]) -> str:
        return graph.add(
            "Merge",
            site.node.name,
            inputs,
            precision={"result": exact(site.output.format)},
            op="add",
        )

    def to_rtl(self, site: Site, inputs: Sequence[FVArray]) -> FVArray:
        return inputs[0] + inputs[1]

    def to_cpp(self, site: Site) -> str:
        terms = [
            cpp_aligned(cpp_word(name), known.format, site.output.format)
            for name, known in zip(site.node.inputs, site.inputs, strict=True)
        ]
        return cpp_loop(site.node.name, site.output.size, " + ".join(terms))

    def examples(self) -> list[dict[str, Any]]:
        return [{}]


LAYERS.add(Add.name, Add())
