"""Flatten: the elements of a tensor as one vector, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codesign.ir import Tensors
from codesign.layers import LAYERS
from codesign.layers._export import cpp_loop, cpp_word, exact, onnx_flat
from codesign.layers._import import Constant, Draft, Foreign, Value
from codesign.layers._import_wires import WIRES
from codesign.layers.base import FloatColumns, Layer, Site, WordRange
from hw_models.lowering import Described

if TYPE_CHECKING:
    import torch
    from alkaid.trace import FVArray

    from codesign.layers._export import HlsGraph, OnnxGraph
    from codesign.layers._training import TrainModule, TrainNodes


class Flatten(Layer):
    """The same words, without their shape."""

    name = "flatten"
    foreign = tuple(WIRES)
    role = "identity"
    is_wiring = True

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

    def infer(self, site: Site) -> WordRange:
        source = site.source
        return WordRange(
            type=source.type.reshaped((source.size,)),
            low=source.low.reshape(-1),
            high=source.high.reshape(-1),
        )

    def largest_sum(self, site: Site) -> int:
        return site.output.largest

    def run_words(self, site: Site, inputs: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
        return inputs[0].reshape(len(inputs[0]), -1)

    def torch_exact(self, site: Site, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        return inputs[0].flatten(start_dim=1)

    def to_onnx(self, site: Site, graph: OnnxGraph, inputs: Sequence[str]) -> str:
        return onnx_flat(graph, inputs[0], len(site.source.shape))

    def to_hls4ml(self, site: Site, graph: HlsGraph, inputs: Sequence[str]) -> str:
        if len(site.source.shape) == 1:
            return inputs[0]
        return graph.add(
            "Reshape",
            site.node.name,
            inputs,
            precision={"result": exact(site.output.format)},
            target_shape=[site.output.size],
        )

    def to_rtl(self, site: Site, inputs: Sequence[FVArray]) -> FVArray:
        return inputs[0].reshape(-1)

    def to_cpp(self, site: Site) -> str:
        (name,) = site.node.inputs
        return cpp_loop(site.node.name, site.output.size, cpp_word(name))

    def read(self, node: Foreign, draft: Draft) -> Value | Constant:
        return WIRES[node.kind](node)

    def examples(self) -> list[dict[str, Any]]:
        return [{}]


LAYERS.add(Flatten.name, Flatten())
