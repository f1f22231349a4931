"""Logistic sigmoid, by table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from codesign.layers import LAYERS
from codesign.layers._table import TableActivation

if TYPE_CHECKING:
    import torch


class Sigmoid(TableActivation):
    """Logistic sigmoid over [-8, 8)."""

    name = "sigmoid"
    foreign = ("onnx.Sigmoid", "hls4ml.Activation.sigmoid")
    result_is_signed = False
    index_integer_bits = 4

    def function(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return 1.0 / (1.0 + np.exp(-values))

    def smooth(self, values: torch.Tensor) -> torch.Tensor:
        import torch

        return torch.sigmoid(values)


LAYERS.add(Sigmoid.name, Sigmoid())
