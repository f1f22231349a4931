"""Batch normalisation after a dense layer: trained, then folded into that layer's weights and bias.

It exists in the architecture (it changes training, hence accuracy) and costs nothing in hardware.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codesign.ir import FixedPoint, Node, QuantizedNetwork
from codesign.layers import LAYERS
from codesign.layers.base import FloatColumns, InputColumns, Layer, WordRange
from hw_models.types import OpBatch

if TYPE_CHECKING:
    import torch
    from alkaid.trace import FVArray

    from codesign.layers._export import HlsGraph, OnnxGraph
    from codesign.layers._training import TrainModule, TrainNodes


class BatchNorm(Layer):
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta; directly after a dense node."""

    name = "batch_norm"
    folds_into_source = True

    def propagate(
        self, parameters: FloatColumns, inputs: InputColumns
    ) -> dict[str, NDArray[np.float64]]:
        return {"n_out": inputs.n_in, "output_bits": inputs.bits, "output_signed": inputs.is_signed}

    def lower(
        self, columns: FloatColumns, *, design: NDArray[np.int64], stage: NDArray[np.int64]
    ) -> list[OpBatch]:
        return []  # folded into the dense layer before it

    def train_module(self, nodes: TrainNodes) -> TrainModule:
        raise AssertionError("batch norms are trained inside the dense layer before them")

    def infer(
        self, node: Node, network: QuantizedNetwork, inputs: Sequence[WordRange]
    ) -> WordRange:
        raise AssertionError("batch norms are folded before a network is quantized")

    def run_words(
        self,
        node: Node,
        network: QuantizedNetwork,
        inputs: Sequence[NDArray[np.int64]],
        formats: Sequence[FixedPoint],
        result: FixedPoint,
    ) -> NDArray[np.int64]:
        raise AssertionError("batch norms are folded before a network is quantized")

    def torch_exact(
        self,
        node: Node,
        network: QuantizedNetwork,
        inputs: Sequence[torch.Tensor],
        result: FixedPoint,
    ) -> torch.Tensor:
        raise AssertionError("batch norms are folded before a network is quantized")

    def to_onnx(
        self,
        node: Node,
        network: QuantizedNetwork,
        graph: OnnxGraph,
        inputs: Sequence[str],
        result: FixedPoint,
    ) -> str:
        raise AssertionError("batch norms are folded before a network is quantized")

    def to_hls4ml(
        self,
        node: Node,
        network: QuantizedNetwork,
        graph: HlsGraph,
        inputs: Sequence[str],
        ranges: Sequence[WordRange],
    ) -> str:
        raise AssertionError("batch norms are folded before a network is quantized")

    def to_rtl(
        self, node: Node, network: QuantizedNetwork, inputs: Sequence[FVArray], result: FixedPoint
    ) -> FVArray:
        raise AssertionError("batch norms are folded before a network is quantized")

    def examples(self) -> list[dict[str, Any]]:
        return [{}]


LAYERS.add(BatchNorm.name, BatchNorm())
