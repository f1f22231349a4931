"""Patches: all positions under a window as one, so that the dense layer that follows is a convolution.

A one-dimensional convolution of kernel k is `patches` with kernel k and then `dense`; on images the window
is square.  Windows that would reach beyond the padding are left out.  Patches are wires.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from codesign.errors import DesignError
from codesign.ir import Tensors
from codesign.layers import LAYERS
from codesign.layers._wires import ZERO, Wires
from codesign.layers.base import FloatColumns, Parameter, Site


class Patches(Wires):
    """(columns, channels) as (windows, kernel * channels), tap by tap; images with square windows."""

    name = "patches"
    ranks = (2, 3)
    parameters = (
        Parameter(
            name="kernel",
            column="kernel",
            minimum=1,
            maximum=64,
            description="positions under the window, along each axis",
        ),
        Parameter(
            name="stride",
            column="stride",
            minimum=1,
            maximum=64,
            default=1.0,
            description="positions from one window to the next",
        ),
        Parameter(
            name="dilation",
            column="dilation",
            minimum=1,
            maximum=64,
            default=1.0,
            description="positions from one tap of a window to the next",
        ),
        Parameter(
            name="padding",
            column="padding",
            minimum=0,
            maximum=64,
            default=0.0,
            is_silent=True,
            description="zeros before the first and behind the last position of each axis",
        ),
    )

    def propagate(self, parameters: FloatColumns, inputs: Sequence[Tensors]) -> Tensors:
        (source,) = inputs
        reach = parameters["dilation"] * (parameters["kernel"] - 1.0) + 1.0
        axes = {}
        for axis in ("n_rows", "n_columns"):
            length = getattr(source, axis)
            padded = length + 2.0 * parameters["padding"]
            windows = np.floor((padded - reach) / parameters["stride"]) + 1.0
            if ((length > 0) & (windows < 1)).any():
                i = int(np.flatnonzero((length > 0) & (windows < 1))[0])
                raise DesignError(
                    f"a window that reaches over {reach[i]:g} positions does not fit the shape"
                    f" {source.shape(i)}; choose a smaller kernel or dilation"
                )
            axes[axis] = np.where(length > 0, windows, 0.0)
        n_taps = parameters["kernel"] ** ((source.n_rows > 0) + 1.0)
        return replace(source, n_channels=source.n_channels * n_taps, **axes)

    def sources(self, shape: tuple[int, ...], parameters: Mapping[str, float]) -> NDArray[np.int64]:
        *positions, n_channels = shape
        window = (int(parameters[name]) for name in ("kernel", "stride", "dilation", "padding"))
        taps = tap_sources(positions, *window)[..., None]
        elements = np.where(taps == ZERO, ZERO, taps * n_channels + np.arange(n_channels))
        return elements.reshape(*taps.shape[:-2], -1)

    def torch_exact(self, site: Site, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        kernel, stride, dilation, padding = (
            int(self.value(site.node, name)) for name in ("kernel", "stride", "dilation", "padding")
        )
        values = inputs[0].movedim(-1, 1)  # channels first, then windows axis by axis
        reach, n_axes = dilation * (kernel - 1) + 1, values.ndim - 2
        values = torch.nn.functional.pad(values, [padding] * 2 * n_axes)
        for axis in range(2, 2 + n_axes):
            values = values.unfold(axis, reach, stride)
        for axis in range(2 + n_axes, 2 + 2 * n_axes):
            values = values[(slice(None),) * axis + (slice(None, None, dilation),)]
        return values.movedim(1, -1).flatten(start_dim=1 + n_axes)

    def examples(self) -> list[dict[str, Any]]:
        return [
            {"kernel": 2},
            {"kernel": 2, "stride": 2},
            {"kernel": 1, "dilation": 2},
            {"kernel": 3, "padding": 1},
            {"kernel": 2, "dilation": 2, "padding": 2, "stride": 2},
        ]


def tap_sources(
    positions: Sequence[int], kernel: int, stride: int, dilation: int = 1, padding: int = 0
) -> NDArray[np.int64]:
    """Return int64[*windows, taps]: the position, counted row by row, that each tap of a window reads.

    `ZERO` where a tap lies beyond the positions, which needs padding.
    """
    sources: NDArray[np.int64] = np.zeros((1, 1), dtype=np.int64)
    windows: list[int] = []
    for length in positions:
        n_windows = max((length + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1, 0)
        windows.append(n_windows)
        axis = stride * np.arange(n_windows)[:, None] + dilation * np.arange(kernel) - padding
        axis = axis[None, :, None, :]
        sources = sources[:, None, :, None]
        is_beyond = (sources == ZERO) | (axis < 0) | (axis >= length)
        sources = np.where(is_beyond, ZERO, sources * length + axis)
        sources = sources.reshape(-1, kernel ** len(windows))
    return sources.reshape(*windows, kernel ** len(windows))


LAYERS.add(Patches.name, Patches())
