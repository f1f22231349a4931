"""Slice: some channels, columns or rows of a tensor, one after another."""

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

#: What an axis is called, by its number from the last one on.
_AXES = ("n_channels", "n_columns", "n_rows")


class Slice(Wires):
    """The elements `first` to `first + size - 1` along one axis; wires."""

    name = "slice"
    parameters = (
        Parameter(
            name="axis",
            column="axis",
            minimum=0,
            maximum=2,
            default=0.0,
            description="0: channels, 1: columns (particles), 2: rows",
        ),
        Parameter(
            name="first",
            column="first",
            minimum=0,
            maximum=65535,
            default=0.0,
            description="number of the first element kept, counted from 0",
        ),
        Parameter(
            name="size", column="size", minimum=1, maximum=65536, description="elements kept"
        ),
    )

    def ranks_of(self, parameters: Mapping[str, Any]) -> tuple[int, ...]:
        return tuple(rank for rank in self.ranks if rank > parameters.get("axis", 0))

    def propagate(self, parameters: FloatColumns, inputs: Sequence[Tensors]) -> Tensors:
        (source,) = inputs
        axes = {}
        for axis, name in enumerate(_AXES):
            is_cut, length = parameters["axis"] == axis, getattr(source, name)
            beyond = is_cut & (parameters["first"] + parameters["size"] > length)
            if beyond.any():
                i = int(np.flatnonzero(beyond)[0])
                raise DesignError(
                    f"a slice of {parameters['size'][i]:g} elements from number {parameters['first'][i]:g}"
                    f" on does not fit axis {axis} (counted from the last) of the shape {source.shape(i)};"
                    " choose a smaller one or another axis"
                )
            axes[name] = np.where(is_cut, parameters["size"], length)
        return replace(source, **axes)

    def sources(self, shape: tuple[int, ...], parameters: Mapping[str, float]) -> NDArray[np.int64]:
        axis, first, size = (int(parameters[name]) for name in ("axis", "first", "size"))
        kept = np.arange(first, first + size)
        return np.arange(np.prod(shape)).reshape(shape).take(kept, axis=-1 - axis)

    def torch_exact(self, site: Site, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        axis, first, size = (int(self.value(site.node, name)) for name in ("axis", "first", "size"))
        return inputs[0].narrow(-1 - axis, first, size)

    def examples(self) -> list[dict[str, Any]]:
        return [
            {"size": 2},
            {"first": 1, "size": 3},
            {"axis": 1, "first": 1, "size": 1},
            {"axis": 2, "first": 1, "size": 1},
        ]


LAYERS.add(Slice.name, Slice())
