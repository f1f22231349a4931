"""Maximum over all positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import ExportError
from codesign.layers import LAYERS
from codesign.layers._export import cpp_loop, cpp_word, exact, largest_rtl
from codesign.layers._pool import GlobalPool, n_positions
from codesign.layers.base import Site, WordRange

if TYPE_CHECKING:
    import torch
    from alkaid.trace import FVArray

    from codesign.layers._export import HlsGraph, OnnxGraph
    from codesign.layers._training import TrainModule, TrainNodes


class MaxPool(GlobalPool):
    """The largest value of each channel over all positions, exact."""

    name = "max_pool"
    kind = "max"

    def extra_bits(self, n_positions: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.zeros_like(n_positions)

    def train_module(self, nodes: TrainNodes) -> TrainModule:
        from codesign.layers._train_pool import MaxModule

        return MaxModule(nodes)

    def infer(self, site: Site) -> WordRange:
        low, high = (
            words.reshape(-1, words.shape[-1]).max(axis=0)
            for words in (site.source.low, site.source.high)
        )
        return WordRange.exact(low, high, site.source.type.fraction_bits)

    def largest_sum(self, site: Site) -> int:
        return site.source.largest

    def run_words(self, site: Site, inputs: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
        words = inputs[0].reshape(len(inputs[0]), n_positions(site), -1)
        return np.asarray(words.max(axis=1))

    def torch_exact(self, site: Site, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        return inputs[0].flatten(1, -2).amax(dim=1)

    def to_onnx(self, site: Site, graph: OnnxGraph, inputs: Sequence[str]) -> str:
        axes = graph.integers(range(1, len(site.source.shape)))
        return graph.operator("ReduceMax", inputs[0], axes, keepdims=0)

    def to_hls4ml(self, site: Site, graph: HlsGraph, inputs: Sequence[str]) -> str:
        shape, result = site.source.shape, exact(site.source.format)
        if exact(site.output.format) != result:
            raise ExportError(
                f"{site.node.name}: the largest value needs another type than the values, which hls4ml's"
                " pooling does not have; use plain RTL"
            )
        axes: dict[str, Any] = (
            {"n_in": shape[0]} if len(shape) == 2 else {"in_height": shape[0], "in_width": shape[1]}
        )
        return graph.add(
            f"GlobalMaxPooling{len(shape) - 1}D",
            site.node.name,
            inputs,
            precision={"result": result, "accum": result},
            pool_op="Max",
            n_filt=shape[-1],
            data_format="channels_last",
            **axes,
        )

    def to_rtl(self, site: Site, inputs: Sequence[FVArray]) -> FVArray:
        return largest_rtl(inputs[0].reshape(n_positions(site), -1))

    def to_cpp(self, site: Site) -> str:
        (name,), n_channels, best = site.node.inputs, site.output.size, cpp_word(site.node.name)
        lines = [cpp_loop(site.node.name, n_channels, cpp_word(name))]
        for position in range(1, n_positions(site)):
            word = cpp_word(name, position * n_channels)
            lines.append(cpp_loop(site.node.name, n_channels, f"{word} > {best} ? {word} : {best}"))
        return "\n    ".join(lines)


LAYERS.add(MaxPool.name, MaxPool())
