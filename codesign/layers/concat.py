"""Concatenation of two branches: wires."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from codesign.ir import FixedPoint, Node, QuantizedNetwork, Tensors, covering_format
from codesign.layers import LAYERS
from codesign.layers._export import cpp_aligned, cpp_loop, exact
from codesign.layers.base import FloatColumns, Layer, WordRange, common
from hw_models.lowering import Copy, Described

if TYPE_CHECKING:
    from alkaid.trace import FVArray

    from codesign.layers._export import HlsGraph, OnnxGraph
    from codesign.layers._training import TrainModule, TrainNodes


class Concat(Layer):
    """[a, b] in a common format that holds both exactly."""

    name = "concat"
    role = "merge"
    n_inputs = (2, 2)

    def propagate(self, parameters: FloatColumns, inputs: Sequence[Tensors]) -> Tensors:
        joined = common(inputs, "n_rows", "n_columns")
        return replace(joined, n_channels=sum(x.n_channels for x in inputs))

    def describe(self, columns: FloatColumns) -> tuple[Described, ...]:
        n_lanes = columns["n_out"] * columns["n_copies"]
        return (Copy(n_lanes=n_lanes, bits=columns["output_bits"], n_positions=columns["n_turns"]),)

    def train_module(self, nodes: TrainNodes) -> TrainModule:
        from codesign.layers._train_merge import ConcatModule

        return ConcatModule(nodes)

    def infer(
        self, node: Node, network: QuantizedNetwork, inputs: Sequence[WordRange]
    ) -> WordRange:
        fraction = max(r.format.fraction_bits for r in inputs)
        low = np.concatenate([r.low << (fraction - r.format.fraction_bits) for r in inputs])
        high = np.concatenate([r.high << (fraction - r.format.fraction_bits) for r in inputs])
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
        return np.concatenate(
            [
                w << (result.fraction_bits - f.fraction_bits)
                for w, f in zip(inputs, formats, strict=True)
            ],
            axis=1,
        )

    def torch_exact(
        self,
        node: Node,
        network: QuantizedNetwork,
        inputs: Sequence[torch.Tensor],
        result: FixedPoint,
    ) -> torch.Tensor:
        return torch.cat(list(inputs), dim=1)

    def to_onnx(
        self,
        node: Node,
        network: QuantizedNetwork,
        graph: OnnxGraph,
        inputs: Sequence[str],
        result: FixedPoint,
    ) -> str:
        return graph.operator("Concat", *inputs, axis=1)

    def to_hls4ml(
        self,
        node: Node,
        network: QuantizedNetwork,
        graph: HlsGraph,
        inputs: Sequence[str],
        ranges: Sequence[WordRange],
    ) -> str:
        return graph.add(
            "Concatenate",
            node.name,
            inputs,
            precision={"result": exact(ranges[-1].format)},
            op="concatenate1d",
            axis=1,
        )

    def to_rtl(
        self, node: Node, network: QuantizedNetwork, inputs: Sequence[FVArray], result: FixedPoint
    ) -> FVArray:
        return np.concatenate(list(inputs))

    def to_cpp(self, node: Node, network: QuantizedNetwork, ranges: Mapping[str, WordRange]) -> str:
        result, lines, first_lane = ranges[node.name], [], 0
        for name in node.inputs:
            source = ranges[name]
            value = cpp_aligned(name, source.format, result.format)
            lines.append(cpp_loop(node.name, source.low.size, value, first_lane=first_lane))
            first_lane += source.low.size
        return "\n    ".join(lines)

    def examples(self) -> list[dict[str, Any]]:
        return [{}]


LAYERS.add(Concat.name, Concat())
