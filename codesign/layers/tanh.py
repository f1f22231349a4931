"""Hyperbolic tangent, by table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from codesign.layers import LAYERS
from codesign.layers._table import TableActivation

if TYPE_CHECKING:
    import torch


class Tanh(TableActivation):
    """Hyperbolic tangent over [-4, 4)."""

    name = "tanh"
    foreign = ("onnx.Tanh", "hls4ml.Activation.tanh")
    result_is_signed = True
    index_integer_bits = 3

    def function(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.tanh(values)

    def smooth(self, values: torch.Tensor) -> torch.Tensor:
        from codesign.layers._train_activation import FastTanh

        return FastTanh.apply(values)  # type: ignore[no-any-return,no-untyped-call]


LAYERS.add(Tanh.name, Tanh())
