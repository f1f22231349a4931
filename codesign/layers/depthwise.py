"""Depthwise product: every channel of a patch with weights of its own, so that `patches` and it are a depthwise convolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError
from codesign.ir import Tensors
from codesign.layers import LAYERS
from codesign.layers.base import FloatColumns, Parameter
from codesign.layers.dense import Dense
from hw_models.lowering import sum_bits


class Depthwise(Dense):
    """(taps * channels), tap by tap, as (channels): a dense layer whose weights join like channels only."""

    name = "depthwise"
    foreign = ()
    parameters = (
        Parameter(
            name="taps",
            column="taps",
            minimum=1,
            maximum=4096,
            description="values of each channel, positions under the kernel of `patches`",
        ),
        *(p for p in Dense.parameters if p.name != "units"),
    )

    def propagate(self, parameters: FloatColumns, inputs: Sequence[Tensors]) -> Tensors:
        (source,) = inputs
        n_channels = source.n_channels / parameters["taps"]
        if (n_channels != np.floor(n_channels)).any():
            i = int(np.flatnonzero(n_channels != np.floor(n_channels))[0])
            raise DesignError(
                f"{source.n_channels[i]:g} values are no whole channels of {parameters['taps'][i]:g} taps;"
                " give the number of positions under the kernel before it"
            )
        bits = sum_bits(
            parameters["taps"],
            parameters["pruned_fraction"],
            source.bits,
            parameters["weight_bits"],
        )
        return replace(source, n_channels=n_channels, bits=bits, is_signed=np.ones_like(bits))

    def connections(self, n_in: int, n_out: int) -> NDArray[np.bool_]:
        return np.asarray(np.arange(n_in)[:, None] % n_out == np.arange(n_out))

    def zero_fraction(self, columns: FloatColumns) -> NDArray[np.float64]:
        return 1.0 - (1.0 - columns["pruned_fraction"]) / columns["n_out"]

    def examples(self) -> list[dict[str, Any]]:
        return [{"taps": 1, "weight_bits": 4}]


LAYERS.add(Depthwise.name, Depthwise())
