"""Batch normalisation after a dense layer: trained, then folded into that layer's weights and bias.

It exists in the architecture (it changes training, hence accuracy) and costs nothing in hardware.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from codesign.ir import Tensors
from codesign.layers import LAYERS
from codesign.layers._export import refuse
from codesign.layers._import import Constant, Draft, Foreign, Value
from codesign.layers.base import FloatColumns, Layer
from hw_models.lowering import Described


class BatchNorm(Layer):
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta; directly after a dense node."""

    name = "batch_norm"
    is_positionwise = True
    folds_into_source = True
    foreign = ("onnx.BatchNormalization", "hls4ml.BatchNormalization", "hls4ml.ApplyAlpha")

    def propagate(self, parameters: FloatColumns, inputs: Sequence[Tensors]) -> Tensors:
        (source,) = inputs
        return source

    def describe(self, columns: FloatColumns) -> tuple[Described, ...]:
        return ()  # folded into the dense layer before it

    # trained inside the dense layer before it, folded before a network is quantized
    train_module = infer = largest_sum = run_words = torch_exact = refuse
    to_onnx = to_hls4ml = to_rtl = to_cpp = refuse

    def read(self, node: Foreign, draft: Draft) -> Value | Constant:
        value = node.value()
        if node.kind.startswith("hls4ml."):
            return draft.affine(value, node.constant(1).real, node.constant(2).real)
        gamma, beta, mean, variance = (node.constant(i).real for i in (1, 2, 3, 4))
        if int(node.attributes.get("training_mode", 0)):
            raise node.refuse(
                "is in training mode; export the network for inference (model.eval())"
            )
        gain = gamma / np.sqrt(variance + float(node.attributes.get("epsilon", 1e-5)))
        shape = (-1, *(1 for _ in value.shape[1:]))  # channels first
        return draft.affine(value, gain.reshape(shape), (beta - mean * gain).reshape(shape))

    def examples(self) -> list[dict[str, Any]]:
        return [{}]


LAYERS.add(BatchNorm.name, BatchNorm())
