"""Batch normalisation after a dense layer: trained, then folded into that layer's weights and bias.

It exists in the architecture (it changes training, hence accuracy) and costs nothing in hardware.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from codesign.ir import Tensors
from codesign.layers import LAYERS
from codesign.layers._export import refuse
from codesign.layers.base import FloatColumns, Layer
from hw_models.lowering import Described


class BatchNorm(Layer):
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta; directly after a dense node."""

    name = "batch_norm"
    folds_into_source = True

    def propagate(self, parameters: FloatColumns, inputs: Sequence[Tensors]) -> Tensors:
        (source,) = inputs
        return source

    def describe(self, columns: FloatColumns) -> tuple[Described, ...]:
        return ()  # folded into the dense layer before it

    # trained inside the dense layer before it, folded before a network is quantized
    train_module = infer = largest_sum = run_words = torch_exact = refuse
    to_onnx = to_hls4ml = to_rtl = to_cpp = refuse

    def examples(self) -> list[dict[str, Any]]:
        return [{}]


LAYERS.add(BatchNorm.name, BatchNorm())
