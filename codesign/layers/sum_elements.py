"""Sum of all elements of a vector: squared distances, and any score that adds up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codesign.ir import Tensors
from codesign.layers import LAYERS
from codesign.layers._pool import Total
from codesign.layers.base import FloatColumns, Site
from hw_models.lowering import Described, Pool

if TYPE_CHECKING:
    import torch

    from codesign.layers._export import OnnxGraph
    from codesign.layers._training import TrainModule, TrainNodes


class SumElements(Total):
    """One value, the exact sum of all elements."""

    name = "sum_elements"
    foreign = ()
    ranks = (1,)
    parameters = ()

    def shift(self, n_terms: int) -> int:
        return 0

    def terms(self, site: Site) -> NDArray[np.int64]:
        return np.arange(site.source.size)[:, None]

    def shape(self, site: Site) -> tuple[int, ...]:
        return (1,)

    def torch_exact(self, site: Site, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        return inputs[0].sum(dim=1, keepdim=True)

    def onnx_reduced(self, operator: str, site: Site, graph: OnnxGraph, source: str) -> str:
        return graph.operator(operator, source, graph.integers([1]), keepdims=1)

    def examples(self) -> list[dict[str, Any]]:
        return [{}]

    def propagate(self, parameters: FloatColumns, inputs: Sequence[Tensors]) -> Tensors:
        (source,) = inputs
        bits = source.bits + self.extra_bits(source.n_channels)
        return replace(source, n_channels=np.ones_like(source.n_channels), bits=bits)

    def describe(self, columns: FloatColumns) -> tuple[Described, ...]:
        one = np.ones_like(columns["n_in"])
        return (
            Pool(
                kind=self.kind,
                n_lanes=one,
                n_window=columns["n_in"],
                n_outputs=one,
                bits=columns["output_bits"],
                n_positions=one,
            ),
        )

    def train_module(self, nodes: TrainNodes) -> TrainModule:
        from codesign.layers._train_pool import SumModule

        return SumModule(nodes)


LAYERS.add(SumElements.name, SumElements())
