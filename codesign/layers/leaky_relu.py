"""Leaky rectified linear unit with slope 2**-3: a shift, exact on every back end."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from codesign.ir import FixedPoint
from codesign.layers import LAYERS
from codesign.layers._activation import Activation, floor_and_saturate, lower_elementwise
from codesign.layers.base import FloatColumns
from hw_models.types import OpBatch

#: log2 of the slope for negative inputs; a power of two, so that no back end rounds the product.
LOG2_SLOPE = -3


class LeakyReLU(Activation):
    """x where positive, x / 8 elsewhere."""

    name = "leaky_relu"
    result_is_signed = True

    def lower(
        self, columns: FloatColumns, *, design: NDArray[np.int64], stage: NDArray[np.int64]
    ) -> list[OpBatch]:
        return lower_elementwise("leaky_relu", columns, design=design, stage=stage)

    def apply_words(
        self, words: NDArray[np.int64], source: FixedPoint, result: FixedPoint
    ) -> NDArray[np.int64]:
        scaled = FixedPoint(
            bits=source.bits, integer_bits=source.integer_bits + LOG2_SLOPE, signed=source.signed
        )  # the same word, read as an eighth of its value
        return np.where(
            words > 0, result.cast_words(words, source), result.cast_words(words, scaled)
        )

    def apply_torch(
        self, values: torch.Tensor, source: FixedPoint, result: FixedPoint
    ) -> torch.Tensor:
        return floor_and_saturate(torch.where(values > 0, values, values * 2.0**LOG2_SLOPE), result)


LAYERS.add(LeakyReLU.name, LeakyReLU())
