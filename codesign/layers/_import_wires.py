"""Nodes of other frameworks that only rearrange elements, of constants and of computed tensors alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.layers._import import Constant, Foreign, Value, event_axis

Moves = Callable[[NDArray[Any]], NDArray[Any]]


def _arranged(node: Foreign, constant: Moves, event: Moves) -> Value | Constant:
    """Rearrange a constant, which has all axes, or a value, which has no batch."""
    known = node.inputs[0]
    if isinstance(known, Constant):
        return known.arranged(constant)
    return node.value().arranged(event)


def _is_constant(node: Foreign) -> bool:
    return isinstance(node.inputs[0], Constant)


def read_identity(node: Foreign) -> Value | Constant:
    """Pass on what is read: Identity, a cast between floats, dropout in inference."""
    known = node.inputs[0]
    # TensorProto: FLOAT, FLOAT16, DOUBLE, BFLOAT16; whole numbers are cut towards zero
    is_float = int(node.attributes.get("to", 1)) in (1, 10, 11, 16)
    if node.kind == "onnx.Cast" and isinstance(known, Value) and not is_float:
        raise node.refuse("cuts fractions off towards zero; use Floor and Clip, or a quantizer")
    if node.kind == "onnx.Dropout":
        mode = node.optional(2)
        if mode is not None and mode.real.any():
            raise node.refuse(
                "drops values in training mode; export the network for inference (model.eval())"
            )
    assert known is not None
    return known


def read_flatten(node: Foreign) -> Value | Constant:
    """Read `Flatten`."""
    axis = int(node.attributes.get("axis", 1))
    if not _is_constant(node) and axis not in (1, -len(node.value().shape)):
        raise node.refuse(f"flattens from axis {axis}; expected 1, all but the batch")

    def constant(a: NDArray[Any]) -> NDArray[Any]:
        return a.reshape(prod(a.shape[:axis]), -1)

    return _arranged(node, constant, lambda a: a.reshape(-1))


def read_reshape(node: Foreign) -> Value | Constant:
    """Read `Reshape`; the first axis is the batch, whatever number stands there."""
    if node.kind.startswith("hls4ml."):
        target = [int(n) for n in node.attributes["target_shape"]]
        return node.value().arranged(lambda a: a.reshape(target))
    target = [int(n) for n in np.ravel(node.constant(1).real)]
    if _is_constant(node):
        return node.constant(0).arranged(lambda a: a.reshape(target))
    shape = node.value().shape
    whole = prod(shape)
    event = [shape[i] if n == 0 else n for i, n in enumerate(target[1:])]
    if target[0] == -1 and -1 in event:
        raise node.refuse(f"its shape {target} has two unknown axes")
    if len(target) < 2 or (-1 not in event and prod(event) != whole):
        raise node.refuse(
            f"reshapes one event of {shape} to {target}; the batch must stay the first axis"
        )
    return node.value().arranged(lambda a: a.reshape(event))


def read_transpose(node: Foreign) -> Value | Constant:
    """Read `Transpose`."""
    perm = node.attributes.get("perm")
    if node.kind.startswith("hls4ml."):
        return node.value().arranged(lambda a: np.transpose(a, [int(p) for p in perm or ()]))
    if _is_constant(node):
        return node.constant(0).arranged(lambda a: np.transpose(a, perm))
    if perm is None or int(perm[0]) != 0:
        raise node.refuse("moves the batch; it must stay the first axis")
    return node.value().arranged(lambda a: np.transpose(a, [int(p) - 1 for p in perm[1:]]))


def _axes(node: Foreign) -> list[int]:
    known = node.optional(1)
    if known is not None:
        return [int(a) for a in np.ravel(known.real)]
    return [int(a) for a in node.attributes.get("axes", [])]


def read_squeeze(node: Foreign) -> Value | Constant:
    """Read `Squeeze`."""
    axes = _axes(node)
    if _is_constant(node):
        return node.constant(0).arranged(lambda a: np.squeeze(a, tuple(axes) if axes else None))
    rank = len(node.value().shape)
    own = tuple(event_axis(node, a, rank) for a in axes)
    if not own:
        own = tuple(i for i, n in enumerate(node.value().shape) if n == 1)
    return node.value().arranged(lambda a: np.squeeze(a, own))


def read_unsqueeze(node: Foreign) -> Value | Constant:
    """Read `Unsqueeze`."""
    axes = _axes(node)
    if _is_constant(node):
        return node.constant(0).arranged(lambda a: np.expand_dims(a, tuple(axes)))
    rank = len(node.value().shape) + len(axes)
    own = tuple(event_axis(node, a, rank) for a in axes)
    return node.value().arranged(lambda a: np.expand_dims(a, own))


def read_slice(node: Foreign) -> Value | Constant:
    """Read `Slice`."""
    starts, ends = ([int(x) for x in np.ravel(node.constant(i).real)] for i in (1, 2))
    axes = [int(a) for a in np.ravel(node.constant(3).real)] if node.optional(3) else None
    steps = (
        [int(s) for s in np.ravel(node.constant(4).real)] if node.optional(4) else [1] * len(starts)
    )
    axes = list(range(len(starts))) if axes is None else axes

    def taken(a: NDArray[Any], own: list[int]) -> NDArray[Any]:
        window = [slice(None)] * a.ndim
        for axis, start, end, step in zip(own, starts, ends, steps, strict=True):
            stop = None if step < 0 and end < -a.shape[axis] else end
            window[axis] = slice(start, stop, step)
        return a[tuple(window)]

    if _is_constant(node):
        return node.constant(0).arranged(lambda a: taken(a, axes))
    rank = len(node.value().shape)
    own = [event_axis(node, a, rank) for a in axes]
    return node.value().arranged(lambda a: taken(a, own))


def read_gather(node: Foreign) -> Value | Constant:
    """Read `Gather` with constant indices."""
    indices = node.constant(1).real.astype(np.int64)
    axis = int(node.attributes.get("axis", 0))
    if _is_constant(node):
        return node.constant(0).arranged(lambda a: np.take(a, indices, axis=axis))
    own = event_axis(node, axis, len(node.value().shape))
    return node.value().arranged(lambda a: np.take(a, indices, axis=own))


def read_pad(node: Foreign) -> Value | Constant:
    """Read `Pad` by a constant: elements that read nothing."""
    mode = str(node.attributes.get("mode", "constant"))
    if mode != "constant":
        raise node.refuse(f"pads by {mode}; expected a constant")
    told = node.optional(1)
    pads = np.ravel(node.attributes.get("pads", []) if told is None else told.real).astype(int)
    filled = node.optional(2)
    fill = float(node.attributes.get("value", 0.0)) if filled is None else float(filled.real)
    shape = node.constant(0).shape if _is_constant(node) else (1, *node.value().shape)
    axes = range(len(shape)) if node.optional(3) is None else np.ravel(node.constant(3).real)
    around = [[0, 0] for _ in shape]
    for i, axis in enumerate(axes):
        around[int(axis)] = [int(pads[i]), int(pads[i + pads.size // 2])]
    if min(map(min, around)) < 0:
        raise node.refuse("cuts elements off (negative pads); use Slice")
    if _is_constant(node):
        known = node.constant(0)
        if fill:
            raise node.refuse(f"pads a constant by {fill:g}; expected zeros")
        return known.arranged(lambda a: np.pad(a, around))
    if any(around[0]):
        raise node.refuse("pads the batch; one event at a time")
    value = node.value()
    if value.function or value.pending is not None:
        raise node.refuse("pads what is not rounded yet; quantize it first")
    padded = value.arranged(lambda a: np.pad(a, around[1:]))
    # what is padded reads some word times nothing
    outside = np.pad(np.zeros(value.shape, dtype=bool), around[1:], constant_values=True)
    return replace(padded, offset=np.where(outside, fill, padded.offset))


WIRES: Mapping[str, Callable[[Foreign], Value | Constant]] = {
    "onnx.Identity": read_identity,
    "onnx.Cast": read_identity,
    "onnx.Dropout": read_identity,
    "onnx.Flatten": read_flatten,
    "onnx.Reshape": read_reshape,
    "onnx.Transpose": read_transpose,
    "onnx.Squeeze": read_squeeze,
    "onnx.Unsqueeze": read_unsqueeze,
    "onnx.Slice": read_slice,
    "onnx.Gather": read_gather,
    "onnx.Pad": read_pad,
    "hls4ml.Reshape": read_reshape,
    "hls4ml.Transpose": read_transpose,
}
