"""Maximum over positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codesign.layers import LAYERS
from codesign.layers._activation import add_hls_activation
from codesign.layers._export import cpp_loop, cpp_word, exact, largest_rtl
from codesign.layers._pool import Pool, windows_of
from codesign.layers.base import Site, WordRange

if TYPE_CHECKING:
    import torch
    from alkaid.trace import FVArray

    from codesign.layers._export import HlsGraph, OnnxGraph
    from codesign.layers._training import TrainModule, TrainNodes


class MaxPool(Pool):
    """The largest value of each channel over the positions of a window, or over all, exact."""

    name = "max_pool"
    foreign = (
        "onnx.ReduceMax",
        "onnx.MaxPool",
        "onnx.GlobalMaxPool",
        "hls4ml.GlobalPooling.Max",
        "hls4ml.Pooling.Max",
    )
    kind = "max"

    def extra_bits(self, n_terms: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.zeros_like(n_terms)

    def train_module(self, nodes: TrainNodes) -> TrainModule:
        from codesign.layers._train_pool import MaxModule

        return MaxModule(nodes)

    def infer(self, site: Site) -> WordRange:
        shape, terms = self.shape(site), self.terms(site)
        low, high = (
            words.ravel()[terms].max(axis=0).reshape(shape)
            for words in (site.source.low, site.source.high)
        )
        return WordRange.exact(low, high, site.source.type.fraction_bits)

    def largest_sum(self, site: Site) -> int:
        return site.source.largest

    def run_words(self, site: Site, inputs: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
        flat = inputs[0].reshape(len(inputs[0]), -1)
        return np.asarray(flat[:, self.terms(site)].max(axis=1).reshape(-1, *site.output.shape))

    def torch_exact(self, site: Site, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        return windows_of(inputs[0], *self.window(site)).amax(dim=-1)

    def to_onnx(self, site: Site, graph: OnnxGraph, inputs: Sequence[str]) -> str:
        return self.onnx_reduced("ReduceMax", site, graph, inputs[0])

    def to_hls4ml(self, site: Site, graph: HlsGraph, inputs: Sequence[str]) -> str:
        name, shape, result = site.node.name, site.source.shape, exact(site.source.format)
        cut = exact(site.output.format)
        axes: dict[str, Any] = (
            {"n_in": shape[0]} if len(shape) == 2 else {"in_height": shape[0], "in_width": shape[1]}
        )
        kernel, stride = self.window(site)
        if kernel:
            *windows, _ = site.output.shape
            names = ("n_out",) if len(shape) == 2 else ("out_height", "out_width")
            axes |= dict(zip(names, windows, strict=True))
            for side in ("width",) if len(shape) == 2 else ("height", "width"):
                axes |= {f"pool_{side}": kernel, f"stride_{side}": stride}
            sides = ("left", "right") if len(shape) == 2 else ("left", "right", "top", "bottom")
            axes |= {f"pad_{side}": 0 for side in sides} | {"padding": "valid"}
        pooled = graph.add(
            f"{'' if kernel else 'Global'}MaxPooling{len(shape) - 1}D",
            name if cut == result else f"{name}_values",
            inputs,
            precision={"result": result, "accum": result},
            pool_op="Max",
            n_filt=shape[-1],
            data_format="channels_last",
            **axes,
        )
        if cut == result:
            return pooled
        # the largest needs fewer bits than the values, which hls4ml's pooling leaves as they are
        return add_hls_activation(graph, "linear", name, pooled, site.output.size, cut)

    def to_rtl(self, site: Site, inputs: Sequence[FVArray]) -> FVArray:
        terms = self.terms(site)
        lanes = inputs[0].reshape(-1)[terms.ravel()].reshape(terms.shape)
        return largest_rtl(lanes).reshape(site.output.shape)

    def to_cpp(self, site: Site) -> str:
        lines = []
        for first, n_lanes, words in self.cpp_runs(site):
            best = cpp_word(site.node.name, first)
            values = [words[0], *(f"{word} > {best} ? {word} : {best}" for word in words[1:])]
            lines += [cpp_loop(site.node.name, n_lanes, v, first_lane=first) for v in values]
        return "\n    ".join(lines)


LAYERS.add(MaxPool.name, MaxPool())
