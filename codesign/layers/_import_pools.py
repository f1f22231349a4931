"""Reductions of other frameworks: pools over all positions, or one matrix where they are sums of anything else."""

from __future__ import annotations

from math import prod

import numpy as np

from codesign.ir import FixedPoint, TensorType
from codesign.layers._import import Constant, Draft, Foreign, Value, event_axis
from codesign.layers._import_convolution import window_matrix, window_of


def read_pool(node: Foreign, draft: Draft, kind: str) -> Value:
    """Read a reduction over some axes.

    Args:
        node: the foreign node.
        draft: the network under construction.
        kind: "max", or anything else for sums, which means divide.
    """
    value = draft.read(node, node.value())
    rank = len(value.shape)
    operator = node.kind.rpartition(".")[2]
    if operator in ("MaxPool", "AveragePool") or node.kind.startswith("hls4ml.Pooling."):
        return _windows(node, draft, value, "max_pool" if kind == "max" else "sum_pool")
    if node.kind.startswith("hls4ml."):
        axes, keeps = list(range(rank - 1)), False
    elif operator.startswith("Global"):
        axes, keeps = list(range(1, rank)), True
    else:
        known = node.optional(1)
        listed = node.attributes.get("axes") if known is None else np.ravel(known.real)
        if listed is None:
            raise node.refuse("reduces the batch, too; name its axes")
        axes = [event_axis(node, int(a), rank) for a in listed]
        keeps = bool(int(node.attributes.get("keepdims", 1)))
    n = prod(value.shape[a] for a in axes)
    is_max = kind == "max"
    pooled = draft.pooled(node, "max_pool" if is_max else "sum_pool", value, axes)
    if pooled is None:
        if is_max:
            raise node.refuse(
                f"takes the largest along axes {axes} of {value.shape}; only all positions at once are supported"
            )
        pooled = _as_matrix(node, draft, value, axes)
    if operator in ("ReduceMean", "GlobalAveragePool", "Average"):
        pooled = draft.affine(pooled, 1.0 / n, 0.0)
    return pooled.arranged(lambda a: np.expand_dims(a, tuple(axes))) if keeps else pooled


def _windows(node: Foreign, draft: Draft, value: Value, layer: str) -> Value:
    """Read pooling over windows: ONNX' channels first, hls4ml's last."""
    known = node.attributes
    is_onnx = node.kind.startswith("onnx.")
    if is_onnx:
        kernel = [int(k) for k in known["kernel_shape"]]
        value = value.arranged(lambda a: np.moveaxis(a, 0, -1))
        strides, dilations, pads = window_of(node, kernel, value.shape[:-1])
        odd = {name for name in ("ceil_mode", "storage_order") if known.get(name)}
        odd |= {n for n, x in (("pads", pads), ("dilations", [d - 1 for d in dilations])) if any(x)}
        is_odd = bool(odd) or len({*kernel}) > 1 or len({*strides}) > 1
        fits = len(kernel) == len(value.shape) - 1 and odd <= {"pads"}
        if layer == "sum_pool" and is_odd and fits:
            return _odd_average(node, draft, value, (kernel, strides, pads))
    else:
        axes = ("height", "width")[-(len(value.shape) - 1) :]
        kernel, strides = (
            [int(known[f"{name}_{axis}"]) for axis in axes] for name in ("pool", "stride")
        )
        odd = {k for k, v in known.items() if k.startswith("pad_") and np.any(v)}
    if odd or len({*kernel}) > 1 or len({*strides}) > 1 or len(kernel) != len(value.shape) - 1:
        raise node.refuse(
            f"pools windows {kernel} by strides {strides}{' with ' + ', '.join(sorted(odd)) if odd else ''};"
            " expected square windows of one stride, without padding"
        )
    last = draft.in_order(node, value)
    if last is None:
        raise node.refuse("pools elements in another order than they are computed in; pool first")
    pooled = draft.layer(node, layer, [last], kernel=kernel[0], stride=strides[0])
    if layer == "sum_pool":
        pooled = draft.affine(pooled, 1.0 / prod(kernel), 0.0)
    return pooled.arranged(lambda a: np.moveaxis(a, -1, 0)) if is_onnx else pooled


def _odd_average(
    node: Foreign, draft: Draft, value: Value, window: tuple[list[int], list[int], list[int]]
) -> Value:
    """Write averages over padded or oblong windows as one matrix of ones; channels last, then first."""
    kernel, strides, pads = window
    n_channels = value.shape[-1]
    one = TensorType.of(FixedPoint(bits=2, integer_bits=2), (*kernel, 1, n_channels))
    ones = Constant(values=np.ones(one.shape), type=one)
    matrix, shape = window_matrix(
        value.shape, ones, strides, [1] * len(kernel), pads, groups=n_channels
    )
    if min(shape) < 1:
        raise node.refuse(f"its window does not fit the shape {value.shape}")
    counted = matrix.values.sum(axis=0).reshape(shape)  # values that a window reads
    n = counted if not node.attributes.get("count_include_pad") else np.full(shape, prod(kernel))
    pooled = draft.affine(draft.linear_map(node, value, matrix, shape), 1.0 / n, 0.0)
    return pooled.arranged(lambda a: np.moveaxis(a, -1, 0))


def _as_matrix(node: Foreign, draft: Draft, value: Value, axes: list[int]) -> Value:
    rest = tuple(n for i, n in enumerate(value.shape) if i not in axes)
    moved = value.arranged(lambda a: np.moveaxis(a, tuple(axes), tuple(range(len(axes)))))
    n, size = prod(value.shape[a] for a in axes), prod(rest)
    ones = np.tile(np.eye(size), (n, 1))
    one = TensorType.of(FixedPoint(bits=2, integer_bits=2), ones.shape)
    return draft.linear_map(node, moved, Constant(values=ones, type=one), rest)
