"""Patches: all positions under a window as one, so that the dense layer that follows is a convolution.

A one-dimensional convolution of kernel k is `patches` with kernel k and then `dense`; on images the window
is square.  Windows that would reach beyond the padding are left out.  Patches are wires.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codesign.ir import Tensors
from codesign.layers import LAYERS
from codesign.layers._import import Constant, Draft, Foreign, Value
from codesign.layers._import_convolution import read_convolution
from codesign.layers._windows import ZERO, tap_sources, window_axes
from codesign.layers._wires import Wires
from codesign.layers.base import FloatColumns, Parameter, Site

_WINDOW = ("kernel", "stride", "dilation", "padding")

if TYPE_CHECKING:
    import torch


class Patches(Wires):
    """(columns, channels) as (windows, kernel * channels), tap by tap; images with square windows."""

    name = "patches"
    is_wiring = True
    foreign = (
        "onnx.Conv",
        "hls4ml.Conv1D",
        "hls4ml.Conv2D",
        "hls4ml.PointwiseConv1D",
        "hls4ml.PointwiseConv2D",
    )
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
        axes = window_axes(source, *(parameters[name] for name in _WINDOW))
        n_taps = parameters["kernel"] ** ((source.n_rows > 0) + 1.0)
        return replace(source, n_channels=source.n_channels * n_taps, **axes)

    def sources(self, shape: tuple[int, ...], parameters: Mapping[str, float]) -> NDArray[np.int64]:
        *positions, n_channels = shape
        taps = tap_sources(positions, *(int(parameters[name]) for name in _WINDOW))[..., None]
        elements = np.where(taps == ZERO, ZERO, taps * n_channels + np.arange(n_channels))
        return elements.reshape(*taps.shape[:-2], -1)

    def torch_exact(self, site: Site, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        import torch

        kernel, stride, dilation, padding = (int(self.value(site.node, name)) for name in _WINDOW)
        values = inputs[0].movedim(-1, 1)  # channels first, then windows axis by axis
        reach, n_axes = dilation * (kernel - 1) + 1, values.ndim - 2
        values = torch.nn.functional.pad(values, [padding] * 2 * n_axes)
        for axis in range(2, 2 + n_axes):
            values = values.unfold(axis, reach, stride)
        for axis in range(2 + n_axes, 2 + 2 * n_axes):
            values = values[(slice(None),) * axis + (slice(None, None, dilation),)]
        return values.movedim(1, -1).flatten(start_dim=1 + n_axes)

    def read(self, node: Foreign, draft: Draft) -> Value | Constant:
        return read_convolution(node, draft)

    def examples(self) -> list[dict[str, Any]]:
        return [
            {"kernel": 2},
            {"kernel": 2, "stride": 2},
            {"kernel": 1, "dilation": 2},
            {"kernel": 3, "padding": 1},
            {"kernel": 2, "dilation": 2, "padding": 2, "stride": 2},
        ]


LAYERS.add(Patches.name, Patches())
