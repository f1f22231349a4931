"""Transpose: channels become columns and columns channels, so that dense layers mix over particles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codesign.ir import Tensors
from codesign.layers import LAYERS
from codesign.layers._wires import Wires
from codesign.layers.base import FloatColumns, Site

if TYPE_CHECKING:
    import torch


class Transpose(Wires):
    """(columns, channels) as (channels, columns), in every row of an image; wires."""

    name = "transpose"
    ranks = (2, 3)

    def propagate(self, parameters: FloatColumns, inputs: Sequence[Tensors]) -> Tensors:
        (source,) = inputs
        return replace(source, n_columns=source.n_channels, n_channels=source.n_columns)

    def sources(self, shape: tuple[int, ...], parameters: Mapping[str, float]) -> NDArray[np.int64]:
        return np.arange(np.prod(shape)).reshape(shape).swapaxes(-1, -2)

    def torch_exact(self, site: Site, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        return inputs[0].transpose(-1, -2)

    def examples(self) -> list[dict[str, Any]]:
        return [{}]


LAYERS.add(Transpose.name, Transpose())
