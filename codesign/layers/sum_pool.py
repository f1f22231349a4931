"""Sum over positions: what a set of particles adds up to, in any order."""

from __future__ import annotations

from codesign.layers import LAYERS
from codesign.layers._pool import Total


class SumPool(Total):
    """The sum of each channel over the positions of a window, or over all, exact."""

    name = "sum_pool"
    foreign = (
        "onnx.ReduceSum",
        "onnx.ReduceMean",
        "onnx.GlobalAveragePool",
        "onnx.AveragePool",
        "hls4ml.GlobalPooling.Average",
        "hls4ml.Pooling.Average",
    )

    def shift(self, n_terms: int) -> int:
        return 0


LAYERS.add(SumPool.name, SumPool())
