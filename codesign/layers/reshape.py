"""Reshape: the same elements, row by row, under other axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError
from codesign.ir import Tensors
from codesign.layers import LAYERS
from codesign.layers._wires import Wires
from codesign.layers.base import FloatColumns, Parameter, Site

if TYPE_CHECKING:
    import torch


class Reshape(Wires):
    """([rows,] columns, width), with as many columns as the elements fill; wires."""

    name = "reshape"
    parameters = (
        Parameter(
            name="width", column="n_out", minimum=1, maximum=65536, description="channels then"
        ),
        Parameter(
            name="rows",
            column="n_rows",
            minimum=0,
            maximum=4096,
            default=0.0,
            description="rows then; 0: no such axis",
        ),
    )

    def propagate(self, parameters: FloatColumns, inputs: Sequence[Tensors]) -> Tensors:
        (source,) = inputs
        width, rows = parameters["n_out"], parameters["n_rows"]
        columns = source.n_positions * source.n_channels / (width * np.maximum(rows, 1.0))
        if (columns != np.floor(columns)).any():
            i = int(np.flatnonzero(columns != np.floor(columns))[0])
            raise DesignError(
                f"the elements of the shape {source.shape(i)} fill no whole columns of {width[i]:g} channels"
                f"{f' in {rows[i]:g} rows' if rows[i] else ''}; choose divisors of their number"
            )
        return replace(source, n_rows=rows, n_columns=columns, n_channels=width)

    def sources(self, shape: tuple[int, ...], parameters: Mapping[str, float]) -> NDArray[np.int64]:
        axes = (int(n) for n in (parameters["rows"], -1, parameters["width"]) if n)
        return np.arange(np.prod(shape)).reshape(*axes)

    def torch_exact(self, site: Site, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        return inputs[0].reshape(len(inputs[0]), *site.output.shape)

    def examples(self) -> list[dict[str, Any]]:
        return [{"width": 1}, {"width": 1, "rows": 1}]


LAYERS.add(Reshape.name, Reshape())
