"""Broadcast: one vector at every position, so that particles learn what all of them together say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codesign.ir import Tensors
from codesign.layers import LAYERS
from codesign.layers._wires import Wires
from codesign.layers.base import FloatColumns, Parameter, Site

if TYPE_CHECKING:
    import torch


class Broadcast(Wires):
    """(channels,) as ([rows,] columns, channels), alike at each position; wires."""

    name = "broadcast"
    ranks = (1,)
    parameters = (
        Parameter(
            name="columns",
            column="n_columns",
            minimum=1,
            maximum=4096,
            description="positions along the axis before the last, particles say",
        ),
        Parameter(
            name="rows",
            column="n_rows",
            minimum=0,
            maximum=4096,
            default=0.0,
            description="positions along the axis before that; 0: no such axis",
        ),
    )

    def propagate(self, parameters: FloatColumns, inputs: Sequence[Tensors]) -> Tensors:
        (source,) = inputs
        return replace(source, n_rows=parameters["n_rows"], n_columns=parameters["n_columns"])

    def sources(self, shape: tuple[int, ...], parameters: Mapping[str, float]) -> NDArray[np.int64]:
        axes = (int(parameters[name]) for name in ("rows", "columns") if parameters[name])
        return np.tile(np.arange(shape[0]), (*axes, 1))

    def torch_exact(self, site: Site, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        *positions, n_channels = site.output.shape
        one = inputs[0].reshape(-1, *(1 for _ in positions), n_channels)
        return one.expand(-1, *positions, -1)

    def examples(self) -> list[dict[str, Any]]:
        return [{"columns": 3}, {"columns": 2, "rows": 2}]


LAYERS.add(Broadcast.name, Broadcast())
