"""Where windows lie on positions: what convolutions and pooling share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError
from codesign.ir import Tensors

#: Stands for a zero among positions or elements.
ZERO = -1


def window_axes(
    source: Tensors,
    kernel: NDArray[np.float64],
    stride: NDArray[np.float64],
    dilation: NDArray[np.float64] | float = 1.0,
    padding: NDArray[np.float64] | float = 0.0,
) -> dict[str, NDArray[np.float64]]:
    """Return how many windows k tensors have along rows and columns, by the name of the axis.

    Args:
        source: the tensors.
        kernel, stride, dilation, padding: float64[k] each, as `tap_sources` has them.

    Raises:
        DesignError: a window reaches over more positions than there are.
    """
    reach, axes = dilation * (kernel - 1.0) + 1.0, {}
    for axis in ("n_rows", "n_columns"):
        length = getattr(source, axis)
        windows = np.floor((length + 2.0 * padding - reach) / stride) + 1.0
        if ((length > 0) & (windows < 1)).any():
            i = int(np.flatnonzero((length > 0) & (windows < 1))[0])
            raise DesignError(
                f"a window that reaches over {reach[i]:g} positions does not fit the shape"
                f" {source.shape(i)}; choose a smaller kernel or dilation"
            )
        axes[axis] = np.where(length > 0, windows, 0.0)
    return axes


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
