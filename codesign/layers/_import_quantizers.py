"""What quantizers of other frameworks say: QONNX `Quant`, ONNX pairs, clips and roundings, hls4ml's types."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.ir import TensorType
from codesign.ir.fixed_point import round_values
from codesign.layers._import import Constant, Draft, Floats, Foreign, Grid, Value, is_power_of_two

#: QONNX' names of rounding modes that `FixedPoint` has, and of those that it has of values that are never negative:
#: DOWN cuts towards zero, HALF_UP rounds halves away from it.  Source: qonnx 1.0, custom_op/general/intquant.py.
_QONNX_ROUNDINGS = {"ROUND": "RND_CONV", "HALF_EVEN": "RND_CONV", "FLOOR": "TRN"}
_UNSIGNED_ROUNDINGS = {"DOWN": "TRN", "HALF_UP": "RND"}


def read_quant(node: Foreign, draft: Draft) -> Value | Constant:
    """Read a QONNX `Quant`: scale, zero point and width are inputs, sign and rounding attributes."""
    scale, zero, width = (node.constant(i).real for i in (1, 2, 3))
    if missing := [name for name in ("signed", "narrow") if name not in node.attributes]:
        raise node.refuse(f"does not say {missing[0]}, which QONNX requires; export it again")
    mode = str(node.attributes.get("rounding_mode", "ROUND")).upper()
    signed = bool(node.attributes["signed"])
    rounding = _QONNX_ROUNDINGS.get(mode)
    if rounding is None and not (signed and _is_negative(node)):
        rounding = _UNSIGNED_ROUNDINGS.get(mode)
    if rounding is None:
        raise node.refuse(
            f"rounds {'signed values ' * signed}by {mode}, which no fixed-point type does; use"
            f" {', '.join(_QONNX_ROUNDINGS)}"
        )
    if (np.asarray(width) % 1).any() or (np.asarray(width) < 1).any():
        raise node.refuse(
            f"has a width of {np.ravel(width)[0]:g} bits; export whole numbers of bits"
        )
    if not (scale > 0).all():
        raise node.refuse("its scale is not above zero; export the network again")
    bits = np.asarray(width, dtype=np.int64)
    narrow = bool(node.attributes["narrow"])
    if signed and (bits == 1).all():
        raise node.refuse("is one signed bit, which QONNX reads as -1 and +1; use two bits")
    grid = Grid(
        step=scale,
        bits=bits,
        signed=np.asarray(signed),
        rounding=rounding,
        overflow="SAT",
        narrow=narrow,
    )
    return _quantized(node, draft, grid, zero)


def read_bipolar(node: Foreign, draft: Draft) -> Constant:
    """Read a `BipolarQuant` of constants: plus or minus the scale."""
    known = node.inputs[0]
    if not isinstance(known, Constant):
        raise node.refuse(
            "gives -1 and +1, which is no fixed-point type of an activation; use Quant"
        )
    return Constant(values=np.where(known.real >= 0, 1.0, -1.0) * node.constant(1).real)


def read_quantize_linear(node: Foreign, draft: Draft) -> Value | Constant:
    """Read `QuantizeLinear`: whole numbers, rounded to even and held in the range of an integer type."""
    known, scale = node.inputs[0], _along_axis(node, node.constant(1).real)
    third = node.optional(2)
    zero = _along_axis(node, np.zeros(()) if third is None else third.real)
    kind = np.dtype(str(node.attributes.get("stored_2", "uint8")))
    if kind.kind not in "iu":
        raise node.refuse(f"stores {kind}; expected an integer type")
    grid = Grid(
        step=scale,
        bits=np.asarray(8 * kind.itemsize),
        signed=np.asarray(kind.kind == "i"),
        rounding="RND_CONV",
        overflow="SAT",
    )
    if isinstance(known, Constant):
        quantized = _quantized(node, draft, grid, zero)
        assert isinstance(quantized, Constant)
        return Constant(values=quantized.real / scale + zero)
    real = _quantized(node, draft, grid, zero)
    assert isinstance(real, Value)
    return draft.affine(real, 1.0 / scale, zero)


def read_dequantize_linear(node: Foreign, draft: Draft) -> Value | Constant:
    """Read `DequantizeLinear`: whole numbers as multiples of a scale."""
    scale, third = _along_axis(node, node.constant(1).real), node.optional(2)
    zero = _along_axis(node, np.zeros(()) if third is None else third.real)
    known = node.inputs[0]
    if isinstance(known, Constant):
        words = known.real - zero
        low, high = float(words.min(initial=0.0)), float(words.max(initial=0.0))
        signed = low < 0
        bits = (
            max(int(np.frexp(high)[1]), int(np.frexp(-low - 1.0)[1]) if low < -1 else 0, 1) + signed
        )
        return _constant(words, np.asarray(max(bits, 2)), np.asarray(signed), scale)
    return draft.affine(node.value(), scale, -zero * scale)


def read_clip(node: Foreign, draft: Draft) -> Value | Constant:
    """Read `Clip`, or `Max` and `Min` with a constant."""
    operator = node.kind.rpartition(".")[2]
    constants = [x for x in node.inputs if isinstance(x, Constant)]
    if isinstance(node.inputs[0], Constant) and not node.values:
        low, high = (node.optional(i) for i in (1, 2))
        values = node.inputs[0].real
        values = values if low is None else np.maximum(values, low.real)
        return Constant(values=values if high is None else np.minimum(values, high.real))
    if len(node.values) == 2 and len(node.inputs) == 2:
        return _compared(node, draft, is_max=operator == "Max")
    if len(node.values) != 1:
        raise node.refuse("compares several computed tensors; compare two at a time")
    ends: list[Floats | None] = [None, None]
    if operator == "Clip":
        for i, name in ((1, "min"), (2, "max")):
            known = node.optional(i)
            ends[i - 1] = known.real if known is not None else _attribute(node, name)
    else:
        ends[operator == "Min"] = constants[0].real
    ends = [None if end is None else event_constant(node, end, node.values[0]) for end in ends]
    (value,) = node.values
    return draft.clipped(node, value, *ends)


def _compared(node: Foreign, draft: Draft, *, is_max: bool) -> Value:
    """Read the larger or the smaller of two computed values: a + relu(b - a), a - relu(a - b)."""
    first, second = (draft.shared(node, draft.read(node, value)) for value in node.values)
    more = (second, first) if is_max else (first, second)
    excess = draft.applied(draft.activation(draft.combined(node, "subtract", more), "relu"))
    return draft.combined(node, "add" if is_max else "subtract", [first, excess])


def read_rounding(node: Foreign, draft: Draft) -> Value:
    """Read `Floor` and `Round`: to whole numbers, of a range that a clip says."""
    is_floor = node.kind.endswith("Floor")
    return draft.floored(node, node.value(), "TRN" if is_floor else "RND_CONV")


def read_fixed_point(node: Foreign, draft: Draft) -> Value | Constant:
    """Read a quantizer that was traced as one node: sign, width and integer bits are inputs."""
    signed, bits, integer_bits = (
        np.asarray(np.rint(node.constant(i).real), dtype=np.int64) for i in (1, 2, 3)
    )
    rounding, overflow = (str(node.attributes[name]) for name in ("rounding", "overflow"))
    if rounding not in ("TRN", "RND", "RND_CONV"):
        raise node.refuse(
            f"rounds by {rounding}, which no hardware here does; use TRN, RND or RND_CONV"
        )
    if overflow not in ("SAT", "SAT_SYM", "WRAP", "NONE"):
        raise node.refuse(f"overflows by {overflow}, which no hardware here does; use SAT or WRAP")
    grid = Grid(
        step=np.ldexp(1.0, integer_bits - bits),
        bits=np.maximum(bits, 0),
        signed=signed > 0,
        rounding=rounding,
        overflow="WRAP" if overflow == "WRAP" else "SAT",
        narrow=overflow == "SAT_SYM",
    )
    known = node.inputs[0]
    if isinstance(known, Value):
        return draft.rounded(node, known, grid)
    assert isinstance(known, Constant), "a quantizer reads something"
    if overflow == "NONE":
        words = round_values(known.real / grid.step, rounding)
        return Constant(values=np.where(grid.bits > 0, words * grid.step, 0.0))
    held = grid.type(known.shape)
    low = np.where(grid.narrow & held.signed, held.min_words + 1, held.min_words)
    words = np.maximum(held.words_from_values(known.real), low)
    return Constant(values=held.values_from_words(words.astype(np.int64)))


def read_hls4ml_quantizer(node: Foreign, draft: Draft) -> Value:
    """Read hls4ml's `FixedPointQuantizer`: sign, width and integer bits of every element (HGQ2)."""
    signed, bits, integer_bits = (
        np.asarray(x, dtype=np.int64) for x in node.attributes["mask_kbi"]
    )
    value = node.value()

    def shaped(mask: NDArray[np.int64]) -> NDArray[np.int64]:
        return mask.ravel()[0] if mask.size == 1 else mask.reshape(value.shape)

    overflow = str(node.attributes["SAT"])
    known = TensorType(
        shape=value.shape,
        signed=np.asarray(shaped(signed)) > 0,
        bits=np.maximum(shaped(bits), 0),
        integer_bits=np.asarray(shaped(integer_bits)),
        rounding=str(node.attributes["RND"]),
        overflow="SAT" if overflow == "SAT_SYM" else overflow,
    )
    grid = replace(Grid.of(known), narrow=overflow == "SAT_SYM")
    return draft.rounded(node, value, grid)


def _quantized(node: Foreign, draft: Draft, grid: Grid, zero: Floats) -> Value | Constant:
    """Round a constant, or a value, to a grid whose words start at a zero point."""
    known = node.inputs[0]
    zero = np.asarray(zero, dtype=np.float64)
    low = np.where(grid.signed, -np.ldexp(1.0, grid.bits - 1), 0.0)
    high = np.ldexp(1.0, grid.bits - grid.signed) - 1.0
    if grid.narrow:
        low = np.where(grid.signed, low + 1.0, low)
        high = np.where(grid.signed, high, high - 1.0)
    if isinstance(known, Constant):
        # frameworks decide in float32, where 0.35 / 0.1 is a tie
        steps = (known.real.astype(np.float32) / grid.step.astype(np.float32)).astype(float) + zero
        words = np.clip(round_values(steps, grid.rounding), low, high) - zero
        bits = grid.bits if not zero.any() else grid.bits + 1
        return _constant(words, bits, np.asarray(grid.signed) | zero.any(), grid.step)
    value = node.value()
    low, high = low - zero, high - zero
    bits = np.asarray(np.frexp(np.maximum(high, 0.0))[1], dtype=np.int64)
    if not zero.any():
        return draft.rounded(node, value, grid)
    if (low == -high - 1.0).all():  # a zero point in the middle: a signed word
        return draft.rounded(
            node, value, replace(grid, bits=bits + 1, signed=np.asarray(True), narrow=False)
        )
    if (low == 0.0).all():
        return draft.rounded(
            node, value, replace(grid, bits=bits, signed=np.asarray(False), narrow=False)
        )
    scaled = draft.affine(value, 1.0 / grid.step, zero)
    rounded = draft.rounded(node, scaled, replace(grid, step=np.ones(())))
    return draft.affine(rounded, grid.step, -zero * grid.step)


def _constant(
    words: Floats, bits: NDArray[Any], signed: NDArray[np.bool_], scale: Floats
) -> Constant:
    grid = Grid(step=scale, bits=bits, signed=signed, rounding="TRN", overflow="SAT")
    if is_power_of_two(scale):
        return Constant(values=words * scale, type=grid.type(words.shape))
    whole = replace(grid, step=np.ones(()))
    return Constant(values=words, type=whole.type(words.shape), scale=np.asarray(scale))


def _along_axis(node: Foreign, values: Floats) -> Floats:
    """Return parameters per index of one axis, so that they broadcast against the first input."""
    if np.size(values) == 1:
        return np.asarray(values, dtype=np.float64).reshape(())
    known, axis = node.inputs[0], int(node.attributes.get("axis", 1))
    if isinstance(known, Constant):
        shape = [1] * known.values.ndim
        shape[axis] = -1
        return values.reshape(shape)
    value = node.value()
    shape = [1] * len(value.shape)
    shape[axis - 1 if axis > 0 else axis] = -1
    return values.reshape(shape)


def _attribute(node: Foreign, name: str) -> Floats | None:
    known = node.attributes.get(name)
    return None if known is None else np.asarray(float(known))


def _is_negative(node: Foreign) -> bool:
    """Whether what a quantizer reads may be negative."""
    known = node.inputs[0]
    return (
        bool((known.real < 0).any())
        if isinstance(known, Constant)
        else node.value().function != "relu"
    )


def event_constant(node: Foreign, values: Floats, value: Value) -> Floats:
    """Return a constant that broadcasts against batches of a value without its axis of the batch.

    Raises:
        DesignError: it has an axis where the batch is.
    """
    n_more = values.ndim - len(value.shape)
    if n_more > 1 or (n_more == 1 and values.shape[0] != 1):
        raise node.refuse(
            f"combines one event of {value.shape} with a constant {values.shape}, which moves the batch"
        )
    return np.asarray(values[0] if n_more == 1 else values)
