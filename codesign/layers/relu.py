"""Rectified linear unit, rounded to an unsigned word."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from codesign.ir import FixedPoint
from codesign.layers import LAYERS
from codesign.layers._activation import Activation, floor_and_saturate, lower_elementwise
from codesign.layers.base import FloatColumns
from hw_models.types import OpBatch


class ReLU(Activation):
    """max(0, x)."""

    name = "relu"
    result_is_signed = False

    def lower(
        self, columns: FloatColumns, *, design: NDArray[np.int64], stage: NDArray[np.int64]
    ) -> list[OpBatch]:
        return lower_elementwise("relu", columns, design=design, stage=stage)

    def apply_words(
        self, words: NDArray[np.int64], source: FixedPoint, result: FixedPoint
    ) -> NDArray[np.int64]:
        return result.cast_words(np.maximum(words, 0), source)

    def apply_torch(
        self, values: torch.Tensor, source: FixedPoint, result: FixedPoint
    ) -> torch.Tensor:
        return floor_and_saturate(torch.relu(values), result)


LAYERS.add(ReLU.name, ReLU())
