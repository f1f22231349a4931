"""Flatten: the vectors of this product are flat already, so it is the identity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codesign.ir import FixedPoint, Node, QuantizedNetwork, Tensors
from codesign.layers import LAYERS
from codesign.layers._export import cpp_loop, cpp_variable
from codesign.layers.base import FloatColumns, Layer, WordRange
from hw_models.lowering import Described

if TYPE_CHECKING:
    import torch
    from alkaid.trace import FVArray

    from codesign.layers._export import HlsGraph, OnnxGraph
    from codesign.layers._training import TrainModule, TrainNodes


class Flatten(Layer):
    """x, unchanged."""

    name = "flatten"
    role = "identity"

    def propagate(self, parameters: FloatColumns, inputs: Sequence[Tensors]) -> Tensors:
        (source,) = inputs
        none = np.zeros_like(source.n_channels)
        size = source.n_positions * source.n_channels
        return replace(source, n_rows=none, n_columns=none, n_channels=size)

    def describe(self, columns: FloatColumns) -> tuple[Described, ...]:
        return ()  # wires

    def train_module(self, nodes: TrainNodes) -> TrainModule:
        from codesign.layers._train_merge import FlattenModule

        return FlattenModule(nodes)

    def infer(
        self, node: Node, network: QuantizedNetwork, inputs: Sequence[WordRange]
    ) -> WordRange:
        return inputs[0]

    def run_words(
        self,
        node: Node,
        network: QuantizedNetwork,
        inputs: Sequence[NDArray[np.int64]],
        formats: Sequence[FixedPoint],
        result: FixedPoint,
    ) -> NDArray[np.int64]:
        return inputs[0]

    def torch_exact(
        self,
        node: Node,
        network: QuantizedNetwork,
        inputs: Sequence[torch.Tensor],
        result: FixedPoint,
    ) -> torch.Tensor:
        return inputs[0]

    def to_onnx(
        self,
        node: Node,
        network: QuantizedNetwork,
        graph: OnnxGraph,
        inputs: Sequence[str],
        result: FixedPoint,
    ) -> str:
        return inputs[0]

    def to_hls4ml(
        self,
        node: Node,
        network: QuantizedNetwork,
        graph: HlsGraph,
        inputs: Sequence[str],
        ranges: Sequence[WordRange],
    ) -> str:
        return inputs[0]

    def to_rtl(
        self, node: Node, network: QuantizedNetwork, inputs: Sequence[FVArray], result: FixedPoint
    ) -> FVArray:
        return inputs[0]

    def to_cpp(self, node: Node, network: QuantizedNetwork, ranges: Mapping[str, WordRange]) -> str:
        (name,) = node.inputs
        return cpp_loop(node.name, ranges[node.name].low.size, f"{cpp_variable(name)}[i]")

    def examples(self) -> list[dict[str, Any]]:
        return [{}]


LAYERS.add(Flatten.name, Flatten())
