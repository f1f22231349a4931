"""Hyperbolic tangent, by table."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from codesign.layers import LAYERS
from codesign.layers._table import TableActivation


class Tanh(TableActivation):
    """Hyperbolic tangent over [-4, 4)."""

    name = "tanh"
    result_is_signed = True
    index_integer_bits = 3

    def function(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.tanh(values)

    def smooth(self, values: torch.Tensor) -> torch.Tensor:
        return torch.tanh(values)


LAYERS.add(Tanh.name, Tanh())
