"""Convolutions of other frameworks: windows and a dense layer, or one matrix where no window of ours fits."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from codesign.layers._import import Constant, Draft, Foreign, Value


def read_convolution(node: Foreign, draft: Draft) -> Value:
    """Read ONNX `Conv`, channels first, or an hls4ml convolution, channels last.

    Whole windows of one stride on all axes are patches and a dense layer, which keep the weights once;
    anything else (padding, groups, odd strides) is written out as one matrix, exact as well.
    """
    is_onnx = node.kind.startswith("onnx.")
    value, weights = node.value(), node.constant(1)
    n_axes = weights.values.ndim - 2
    if n_axes not in (1, 2) or len(value.shape) != n_axes + 1:
        raise node.refuse(
            f"convolves {n_axes} axes of an input {value.shape}; one or two are supported"
        )
    if is_onnx:  # (filters, channels, *kernel) as (*kernel, channels, filters)
        weights = weights.arranged(lambda w: np.moveaxis(w, (0, 1), (-1, -2)))
        value = value.arranged(lambda a: np.moveaxis(a, 0, -1))
    *kernel, n_channels, n_filters = weights.shape
    strides, dilations, pads = window_of(node, kernel, value.shape[:-1])
    value, around = _without_border(value)
    pads = [a + b for a, b in zip(pads, around, strict=True)]
    groups = int(node.attributes.get("group", 1))
    if n_channels * groups != value.shape[-1]:
        raise node.refuse(
            f"has weights for {n_channels * groups} channels, reads {value.shape[-1]}"
        )
    is_plain = (
        len({*pads}) == 1
        and groups == 1
        and len({*zip(kernel, strides, dilations, strict=True)}) == 1
    )
    window = {"stride": strides[0], "dilation": dilations[0], "padding": pads[0]}
    if is_plain and (product := _as_patches(node, draft, value, weights, window)):
        result = product
    else:
        matrix, shape = window_matrix(value.shape, weights, strides, dilations, pads, groups)
        if min(shape) < 1:
            raise node.refuse(f"its window does not fit the shape {value.shape}")
        result = draft.linear_map(node, value, matrix, shape)
    if (bias := node.optional(2)) is not None:
        result = draft.affine(result, 1.0, np.ravel(bias.real))
    return result.arranged(lambda a: np.moveaxis(a, -1, 0)) if is_onnx else result


def _without_border(value: Value) -> tuple[Value, list[int]]:
    """Return a value, channels last, without the zeros that a node before has padded it with, and how many these are.

    Returns:
        The value and its pads, of all starts, then of all ends.
    """
    is_zero = (value.gain == 0.0) & (value.offset == 0.0)
    starts, ends = [], []
    for axis in range(len(value.shape) - 1):
        lines = is_zero.all(axis=tuple(i for i in range(len(value.shape)) if i != axis))
        used = np.flatnonzero(~lines)
        first, last = (int(used[0]), int(used[-1])) if used.size else (0, lines.size - 1)
        starts.append(first)
        ends.append(lines.size - 1 - last)
    inside = tuple(slice(a, n - b) for a, b, n in zip(starts, ends, value.shape, strict=False))
    return value.arranged(lambda a: a[inside]), [*starts, *ends]


def window_of(
    node: Foreign, kernel: Sequence[int], lengths: Sequence[int]
) -> tuple[list[int], list[int], list[int]]:
    """Return strides, dilations, and pads (of all starts, then of all ends) of windows over axes of such lengths."""
    n_axes = len(kernel)
    if node.kind.startswith("onnx."):
        strides, dilations = (
            [int(x) for x in node.attributes.get(name, [1] * n_axes)]
            for name in ("strides", "dilations")
        )
        automatic = str(node.attributes.get("auto_pad", "NOTSET"))
        if automatic in ("NOTSET", ""):
            pads = [int(x) for x in node.attributes.get("pads", [0] * 2 * n_axes)]
        else:  # as many windows as strides fit; an odd one goes to the end (UPPER) or the start (LOWER)
            reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
            missing = [
                max((-(-n // s) - 1) * s + r - n, 0) if automatic != "VALID" else 0
                for n, s, r in zip(lengths, strides, reach, strict=True)
            ]
            less, more = [m // 2 for m in missing], [m - m // 2 for m in missing]
            pads = [*more, *less] if automatic == "SAME_LOWER" else [*less, *more]
        return strides, dilations, pads
    axes = ("height", "width")[-n_axes:]

    def listed(stem: str, default: int) -> list[int]:
        return [int(node.attributes.get(f"{stem}_{axis}", default)) for axis in axes]

    sides = (("top", "left")[-n_axes:], ("bottom", "right")[-n_axes:])
    pads = [int(node.attributes.get(f"pad_{name}", 0)) for side in sides for name in side]
    return listed("stride", 1), listed("dilation", 1), pads


def _as_patches(
    node: Foreign, draft: Draft, value: Value, weights: Constant, window: dict[str, int]
) -> Value | None:
    *kernel, n_channels, n_filters = weights.shape
    matrix = weights.arranged(lambda w: w.reshape(-1, n_filters))
    if prod(kernel) == 1 and window["stride"] == 1 and not window["padding"]:
        return draft.dense(node, value, matrix)
    ordered = draft.in_order(node, value)
    if ordered is None:
        return None
    if not window["padding"]:
        del window["padding"]
    windows = draft.layer(node, "patches", [ordered], kernel=kernel[0], **window)
    return draft.dense(node, windows, matrix)


def window_matrix(
    shape: tuple[int, ...],
    weights: Constant,
    strides: list[int],
    dilations: list[int],
    pads: list[int],
    groups: int,
) -> tuple[Constant, tuple[int, ...]]:
    """Return the matrix from all elements, channels last, to all elements of the result."""
    *kernel, n_channels, n_filters = weights.shape
    *lengths, width = shape
    n_axes = len(kernel)
    windows = [
        (length + pads[i] + pads[i + n_axes] - dilations[i] * (kernel[i] - 1) - 1) // strides[i] + 1
        for i, length in enumerate(lengths)
    ]
    if min(windows) < 1:
        return weights, (*windows, n_filters)
    position = np.arange(prod(lengths)).reshape(lengths)
    # where each weight stands: (row, column) of the matrix, for every window
    rows: list[NDArray[np.int64]] = []
    columns: list[NDArray[np.int64]] = []
    taken: list[NDArray[np.int64]] = []
    flat = np.arange(weights.values.size).reshape(weights.shape)
    per_group = n_filters // groups
    for i_window, window in enumerate(np.ndindex(*windows)):
        for tap in np.ndindex(*kernel):
            at = [
                w * s + t * d - p
                for w, s, t, d, p in zip(window, strides, tap, dilations, pads, strict=False)
            ]
            if any(not 0 <= a < n for a, n in zip(at, lengths, strict=True)):
                continue
            base = int(position[tuple(at)]) * width
            for group in range(groups):
                filters = np.arange(group * per_group, (group + 1) * per_group)
                channels = np.arange(n_channels)
                rows.append(np.repeat(base + group * n_channels + channels, per_group))
                columns.append(np.tile(i_window * n_filters + filters, n_channels))
                taken.append(flat[tap][:, filters].ravel())
    where = np.concatenate(rows), np.concatenate(columns)
    chosen = np.concatenate(taken)
    size = prod(shape), prod(windows) * n_filters

    def spread(known: NDArray[np.generic]) -> NDArray[np.generic]:
        result = np.zeros(size, dtype=known.dtype)
        result[where] = known.ravel()[chosen]
        return result

    if weights.scale is not None:
        scale = np.broadcast_to(weights.scale, weights.shape)
        if (scale == scale.reshape(-1, n_filters)[0]).all():
            plain, _ = window_matrix(
                shape,
                Constant(values=weights.values, type=weights.type),
                strides,
                dilations,
                pads,
                groups,
            )
            scales = np.tile(scale.reshape(-1, n_filters)[0], prod(windows))
            return Constant(values=plain.values, type=plain.type, scale=scales[None, :]), (
                *windows,
                n_filters,
            )
        weights = Constant(values=weights.real)
    return weights.arranged(spread), (*windows, n_filters)
