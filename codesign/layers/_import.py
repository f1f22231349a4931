"""Somebody else's network, read into ours: what a layer type turns foreign nodes into.

A front end (`codesign.importing`) walks a foreign graph in order and hands every node, as a `Foreign`,
to the layer type that names its kind in `Layer.foreign`.  What flows between them is a `Value`: words of
one of our nodes, and what the foreign graph did to them that needs no hardware yet:

    value[e] = function(words[index[e]] * gain[e] + offset[e])

Wires (transpose, reshape, slice, channels first) only rearrange `index`; biases, batch norms and scales
only change `gain` and `offset`.  They are settled where they cost least: in the weights of the dense
layer before, in those of the one behind, in the type of the next rounding.  What is left becomes a
diagonal matrix.  Nothing is rounded that the foreign graph does not round; where that cannot be kept (a
scale that is no power of two, a float weight), the draft says so in `notes`, and the proof finds by how much.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError
from codesign.ir import (
    Candidate,
    FixedPoint,
    HardwareConfig,
    Network,
    Node,
    QuantizedNetwork,
    TensorType,
    Words,
    covering_format,
)
from codesign.layers._activation import RESULT_BITS
from codesign.layers.base import Site

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Widest weight word that is kept as it is; float constants nearly always need more.
MAX_WEIGHT_BITS = 24
#: Bits of a constant that stands for a scale that is no power of two.
SCALE_BITS = 18
#: Functions f with f(a x) = a f(x) for a > 0.
_HOMOGENEOUS = ("relu", "leaky_relu")
#: Nodes are typed with it; the arithmetic does not depend on it.
_NO_HARDWARE = HardwareConfig(
    part="", clock_period_ns=1.0, flow="hls", io_type="io_parallel", strategy={}, reuse_factor={}
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Constant:
    """A constant of a foreign graph.

    Attributes:
        values: float64, any shape.
        type: what a quantizer rounded it to; None: as the file has it.
        scale: what `values` are to be multiplied by, where that is no power of two.
    """

    values: Floats
    type: TensorType | None = None
    scale: Floats | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self.values.shape

    @property
    def real(self) -> Floats:
        """Its real values."""
        return self.values if self.scale is None else self.values * self.scale

    def arranged(self, move: Callable[[NDArray[Any]], NDArray[Any]]) -> Constant:
        """Return the same elements in another arrangement."""
        if self.scale is not None:
            scale = np.asarray(move(np.broadcast_to(self.scale, self.shape)))
            return replace(replace(self, scale=None).arranged(move), scale=scale)
        values = np.asarray(move(self.values))
        if self.type is None:
            return Constant(values=values)
        full: dict[str, Any] = {
            name: move(np.broadcast_to(getattr(self.type, name), self.values.shape))
            for name in ("signed", "bits", "integer_bits")
        }
        return Constant(values=values, type=replace(self.type, shape=values.shape, **full))


@dataclass(frozen=True, kw_only=True, eq=False)
class Pending:
    """A rounding to whole numbers whose range is not known yet: standard ONNX says it in several nodes.

    Attributes:
        rounding: as in `FixedPoint`.
        unit: what the whole numbers were multiplied by since.
        low: least value, where it was said.
    """

    rounding: str
    unit: float
    low: Floats | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Value:
    """A tensor of a foreign graph, without its batch axis; see the module.

    Attributes:
        node: our node that holds its words.
        index: int64[*shape], which of the node's elements each element is.
        gain, offset: float64[*shape].
        function: activation that was read but not rounded yet, "" for none.
        outer: power of two that its result was multiplied by.
        pending: a rounding of all that, not done yet.
    """

    node: str
    index: Ints
    gain: Floats
    offset: Floats
    function: str = ""
    outer: float = 1.0
    pending: Pending | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one event."""
        return self.index.shape

    @property
    def is_plain(self) -> bool:
        """Whether it is the node's words as they are, in any arrangement."""
        return bool((self.gain == 1.0).all() and (self.offset == 0.0).all())

    def arranged(self, move: Callable[[NDArray[Any]], NDArray[Any]]) -> Value:
        """Return the same elements in another arrangement: wires."""
        index, gain, offset = (np.asarray(move(a)) for a in (self.index, self.gain, self.offset))
        return replace(self, index=index, gain=gain, offset=offset)


class Refused(DesignError):
    """What cannot be built; its sentence names the foreign node."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Foreign:
    """A node of a foreign graph.

    Attributes:
        kind: framework and operator: "onnx.MatMul", "hls4ml.Dense".
        name: the node's, for messages.
        inputs: what it reads; None where an optional input is left out.
        attributes: the node's, as plain values.
    """

    kind: str
    name: str
    inputs: tuple[Value | Constant | None, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.kind.partition('.')[2]} {self.name!r}"

    def refuse(self, why: str) -> DesignError:
        """Return the error that names this node."""
        return Refused(f"{self}: {why}")

    def value(self, i: int = 0) -> Value:
        """Return an input that is computed.

        Raises:
            DesignError: it is a constant.
        """
        known = self.inputs[i] if i < len(self.inputs) else None
        if not isinstance(known, Value):
            raise self.refuse(
                f"input {i} is a constant; expected a computed tensor; fold constants first"
            )
        return known

    def constant(self, i: int) -> Constant:
        """Return an input that is constant.

        Raises:
            DesignError: it is computed.
        """
        known = self.inputs[i] if i < len(self.inputs) else None
        if not isinstance(known, Constant):
            raise self.refuse(
                f"input {i} is computed, not constant; only constant weights and parameters can be built"
            )
        return known

    def optional(self, i: int) -> Constant | None:
        """Return a constant input that may be left out."""
        return None if i >= len(self.inputs) or self.inputs[i] is None else self.constant(i)

    @property
    def values(self) -> tuple[Value, ...]:
        """The computed inputs."""
        return tuple(x for x in self.inputs if isinstance(x, Value))


@dataclass(frozen=True, kw_only=True, eq=False)
class Grid:
    """What a quantizer rounds to: words times a step, per element of a value.

    Attributes:
        step: float64, value of the least significant bit, above 0.
        bits, signed: of the words.
        rounding, overflow: as in `FixedPoint`.
        narrow: the least word of a signed one is never reached.
    """

    step: Floats
    bits: Ints
    signed: NDArray[np.bool_]
    rounding: str
    overflow: str
    narrow: bool = False

    @classmethod
    def of(cls, known: TensorType | FixedPoint) -> Grid:
        """Return the grid of a type."""
        if isinstance(known, FixedPoint):
            known = TensorType.of(known, ())
        return cls(
            step=np.ldexp(1.0, known.integer_bits - known.bits),
            bits=known.bits,
            signed=known.signed,
            rounding=known.rounding,
            overflow=known.overflow,
        )

    def type(self, shape: tuple[int, ...]) -> TensorType:
        """Return the type of words on it; every step must be a power of two."""
        shift = np.asarray(np.frexp(self.step)[1], dtype=np.int64) - 1
        return TensorType(
            shape=shape,
            signed=np.asarray(self.signed),
            bits=np.asarray(self.bits),
            integer_bits=np.asarray(self.bits) + shift,
            rounding=self.rounding,
            overflow=self.overflow,
        )


def is_power_of_two(values: Floats) -> bool:
    """Whether every value is a positive power of two."""
    return bool((np.asarray(values) > 0).all() and (np.frexp(values)[0] == 0.5).all())


def exact_type(values: Floats) -> TensorType | None:
    """Return the narrowest uniform type that holds real values exactly, None beyond 62 bits."""
    values = np.asarray(values, dtype=np.float64)
    used = values[values != 0]
    if not used.size:
        return TensorType.of(FixedPoint(bits=1, integer_bits=1), values.shape)
    mantissa, exponent = np.frexp(used)
    whole = np.rint(np.ldexp(np.abs(mantissa), 53)).astype(np.int64)
    zeros = np.frexp((whole & -whole).astype(np.float64))[1] - 1
    fraction = int((53 - zeros - exponent).max())
    if int(exponent.max()) + fraction > 60 or abs(fraction) > 60:
        return None
    words = np.ldexp(values, fraction)
    fmt = covering_format(min(int(words.min()), -1), max(int(words.max()), 0), fraction)
    return TensorType.of(fmt, values.shape)


@dataclass(kw_only=True)
class _Open:
    """A dense layer whose words are not settled: biases, scales and batch norms may still be folded in."""

    weights: Constant
    bias: Floats
    source: str
    is_scaled: bool = False
    origin: str = ""


class Draft:
    """Our network under construction.

    Attributes:
        precision: type of what the foreign graph leaves in floats; None: it must not leave anything.
        rounds_results: every sum is rounded to it as well, as in a graph that quantizes nothing.
        notes: what could not be kept exactly, one sentence each.
        origins: the foreign node that each of our layers with weights comes from.
        input_value: the network's input.
        input_gain, input_offset: how a foreign input becomes a real input of ours, per element of ours.
    """

    def __init__(
        self, precision: FixedPoint | None = None, *, rounds_results: bool = False
    ) -> None:
        self.precision = precision
        self.rounds_results = rounds_results and precision is not None
        self.notes: list[str] = []
        self.origins: dict[str, str] = {}
        self.input_gain: Floats = np.zeros(0)
        self.input_offset: Floats = np.zeros(0)
        self.input_value: Value
        self._is_joined = False
        self._parts: list[tuple[Value, Grid]] = []  # of a joined input, rounded so far
        self._nodes: list[Node] = []
        self._sites: dict[str, Site] = {}
        self._open: dict[str, _Open] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}

    # ---- what front ends and layers say --------------------------------------------------------
    def note(self, sentence: str) -> None:
        """Say what is not exact, once."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def input(self, shape: tuple[int, ...], channels_first: bool = False) -> Value:
        """Declare the network's input.

        Args:
            shape: of one event, as the foreign graph has it.
            channels_first: ours has its channels last.
        """
        if not 1 <= len(shape) <= 3:
            raise DesignError(
                f"the network's input has shape {shape}; one to three axes are supported, without the batch"
            )
        index = np.arange(prod(shape), dtype=np.int64)
        ours = (*shape[1:], shape[0]) if channels_first else shape
        index = np.moveaxis(index.reshape(ours), -1, 0) if channels_first else index.reshape(ours)
        self._shapes["input"] = ours
        self.input_gain, self.input_offset = np.ones(shape), np.zeros(shape)
        self.input_value = _fresh("input", index)
        return self.input_value

    def inputs(self, shapes: Sequence[tuple[int, ...]]) -> list[Value]:
        """Declare several inputs: ours is one vector of all their elements, in order."""
        n = sum(prod(shape) for shape in shapes)
        whole, first, values = self.input((n,)), 0, []
        for shape in shapes:
            part = slice(first, first + prod(shape))
            values.append(whole.arranged(lambda a, part=part, shape=shape: a[part].reshape(shape)))  # type: ignore[misc]
            first = part.stop
        self._is_joined = True
        if self.precision is not None and self.rounds_results:  # every part at once
            node = Foreign(kind="input.input", name="input", inputs=())
            values = [self.rounded(node, value, Grid.of(self.precision)) for value in values]
        return values

    def joined(self, outputs: Mapping[str, Value]) -> Value:
        """Return several outputs as one vector of all their elements, in order."""
        if len(outputs) == 1:
            return next(iter(outputs.values()))
        sizes = ", ".join(f"{name} ({value.index.size})" for name, value in outputs.items())
        self.note(f"outputs are joined in order: {sizes}")
        node = Foreign(kind="output.output", name="outputs", inputs=())
        return self.concatenated(
            node, [value.arranged(lambda a: a.reshape(-1)) for value in outputs.values()], 0
        )

    def affine(self, value: Value, gain: Floats | float, offset: Floats | float) -> Value:
        """Return value * gain + offset, with ONNX' broadcasting."""
        shape = np.broadcast_shapes(value.shape, np.shape(gain), np.shape(offset))
        gains, offsets = np.broadcast_to(gain, shape), np.broadcast_to(offset, shape)
        if value.pending is not None:
            if np.size(gain) == 1 and float(np.ravel(gain)[0]) > 0 and not np.any(offset):
                unit = value.pending.unit * float(np.ravel(gain)[0])
                return replace(value, pending=replace(value.pending, unit=unit))
            value = self.applied(value)
        if (
            value.function
            and value.function not in _HOMOGENEOUS
            and np.size(gain) == 1
            and is_power_of_two(np.asarray(gain))
            and not np.any(offset)
        ):
            return replace(value, outer=value.outer * float(np.ravel(gain)[0]))
        is_kept = value.function in _HOMOGENEOUS and bool((gains > 0).all() and not offsets.any())
        if value.function and not is_kept:
            value = self.applied(value)
        wide = value.arranged(lambda a: np.broadcast_to(a, shape))
        return replace(wide, gain=wide.gain * gains, offset=wide.offset * gains + offsets)

    def activation(self, value: Value, function: str) -> Value:
        """Return function(value); the rounding that follows belongs to it."""
        return replace(self.applied(value), function=function)

    def dense(self, node: Foreign, value: Value, weights: Constant) -> Value:
        """Return value @ weights along its last axis, [..., n_in] by [n_in, n_out]."""
        n_in, n_out = weights.shape
        if value.shape[-1:] != (n_in,):
            raise node.refuse(f"weights {weights.shape} do not fit the {value.shape} that it reads")
        if weights.scale is not None:
            scale = np.broadcast_to(weights.scale, weights.shape)
            if (scale == scale[0]).all():
                plain = replace(weights, scale=None)
                return self.affine(self.dense(node, value, plain), scale[0], 0.0)
            weights = Constant(values=weights.real)
        value = self._read(value, node)
        gain = float(value.gain.flat[0])
        if (
            weights.type is not None
            and (value.gain == gain).all()
            and gain > 0
            and np.frexp(gain)[0] != 0.5
        ):
            # weights keep their words; the scale follows the sum
            inner = replace(value, gain=np.ones(value.shape), offset=value.offset / gain)
            return self.affine(self.dense(node, inner, weights), gain, 0.0)
        shape, rows = self._shapes[value.node], value.index.reshape(-1, n_in)
        width, n_positions = shape[-1], prod(shape[:-1])
        base = rows[:, 0] // width
        is_row_by_row = (
            len(shape) == len(value.shape)
            and (rows == base[:, None] * width + rows[0] % width).all()
            and np.array_equal(np.sort(base), np.arange(n_positions))
            and _is_constant(value.gain.reshape(-1, n_in))
            and _is_constant(value.offset.reshape(-1, n_in))
        )
        if not is_row_by_row:
            return self._matrix(node, value, weights)
        lanes = rows[0] % width
        mapped, bias = _mapped(
            weights,
            lanes,
            width,
            value.gain.reshape(-1, n_in)[0],
            value.offset.reshape(-1, n_in)[0],
        )
        name = self._add_dense(node, value.node, mapped, bias)
        index = (base[:, None] * n_out + np.arange(n_out)).reshape(*value.shape[:-1], n_out)
        return _fresh(name, index)

    def linear_map(
        self, node: Foreign, value: Value, weights: Constant, shape: tuple[int, ...]
    ) -> Value:
        """Return the elements of a value, in order, times a matrix [all elements, elements of shape]."""
        flat = self.dense(node, value.arranged(lambda a: a.reshape(-1)), weights)
        return flat.arranged(lambda a: a.reshape(shape))

    def _matrix(self, node: Foreign, value: Value, weights: Constant) -> Value:
        """Write a product at every position as one matrix of all elements: for odd arrangements."""
        n_in, n_out = weights.shape
        positions = value.index.reshape(-1, n_in).shape[0]
        if len(value.shape) > 1 and positions > 1:
            weights = weights.arranged(lambda w: np.kron(np.eye(positions), w))
        value = self._flattened(value)
        lanes = value.index.ravel()
        mapped, bias = _mapped(
            weights, lanes, self._shapes[value.node][0], value.gain.ravel(), value.offset.ravel()
        )
        name = self._add_dense(node, value.node, mapped, bias)
        return _fresh(name, np.arange(positions * n_out).reshape(*value.shape[:-1], n_out))

    def read(self, node: Foreign, value: Value) -> Value:
        """Return a value without a function pending, which any number of attempts may use."""
        return self._read(value, node)

    def rounded(self, node: Foreign, value: Value, grid: Grid) -> Value:
        """Return a value rounded to a grid, with the function that stands before it."""
        step = np.broadcast_to(grid.step, value.shape)
        if not (step > 0).all():
            raise node.refuse("its scale is not above zero; export the network again")
        if value.pending is not None:
            value = self.applied(value)
        if value.outer != 1.0:
            inner, finer = replace(value, outer=1.0), replace(grid, step=grid.step / value.outer)
            return self.affine(self.rounded(node, inner, finer), value.outer, 0.0)
        is_exact = is_power_of_two(step)
        if value.node not in self._sites and value.node not in self._open:
            return self._rounded_input(node, value, grid)
        unit = np.ones_like(step)
        if value.node in self._open or not value.is_plain:
            ratio = value.gain / step
            if value.node not in self._open and not value.offset.any() and is_power_of_two(ratio):
                unit, step, value = value.gain, 1.0 / ratio, _plain(value)
            elif is_exact:
                value = self._settled(node, value)
            else:
                inner = replace(value, gain=value.gain / step, offset=value.offset / step)
                unit, step, value = step, np.ones_like(step), self._settled(node, inner)
        elif not is_exact:
            inner = replace(value, gain=value.gain / step)
            unit, step, value = step, np.ones_like(step), self._settled(node, inner)
        value = self._selected(node, value)
        result = self._own_type(value, replace(grid, step=step))
        if value.node in self._open:
            self._close(value.node, result)
        function = value.function or "linear"
        source = self._sites[value.node].output
        if function == "linear" and _changes_nothing(result, source.type, source.low, source.high):
            return replace(value, gain=np.array(unit))
        name = self._add(function, (value.node,), {"result_bits": result.covering.bits}, result)
        self._check_narrow(node, grid, name)
        return replace(value, node=name, gain=np.array(unit), function="")

    def _check_narrow(self, node: Foreign, grid: Grid, name: str) -> None:
        known = self._sites[name].output
        if grid.narrow and ((known.low == known.type.min_words) & known.type.signed).any():
            raise node.refuse(
                "leaves out the least word of its range (narrow), which no fixed-point type does;"
                " export it with narrow = 0"
            )

    def floored(self, node: Foreign, value: Value, rounding: str) -> Value:
        """Return a value rounded to whole numbers; the range that they are held in follows."""
        if value.pending is not None:
            value = self.applied(value)
        return replace(value, pending=Pending(rounding=rounding, unit=1.0))

    def clipped(
        self, node: Foreign, value: Value, low: Floats | None, high: Floats | None
    ) -> Value:
        """Return a rounded value, held in low..high; where one end is said only, the other follows.

        Raises:
            DesignError: no word has that range.
        """
        pending = value.pending
        if pending is None:
            narrowed = self._narrowed(value, low, high)
            return self._between(node, value, low, high) if narrowed is None else narrowed
        low = pending.low if low is None else low
        if high is None:
            return replace(value, pending=replace(pending, low=low))
        if low is None:
            if value.function != "relu":
                raise node.refuse("has no least value; clip to a range of both ends")
            low = np.zeros(())
        least, most = (np.asarray(end, dtype=np.float64) / pending.unit for end in (low, high))
        bits = np.asarray(np.frexp(most)[1], dtype=np.int64) + (least < 0)
        span = np.where(least < 0, np.ldexp(1.0, bits - 1), 0.0)
        if (least != -span).any() or (most != np.ldexp(1.0, bits - (least < 0)) - 1.0).any():
            raise node.refuse(
                f"clips to {least.ravel()[0]:g}..{most.ravel()[0]:g} steps, the range of no fixed-point word;"
                " clip to -2**n..2**n - 1 or 0..2**n - 1"
            )
        grid = Grid(
            step=np.ones(()),
            bits=bits,
            signed=np.asarray(least < 0),
            rounding=pending.rounding,
            overflow="SAT",
        )
        rounded = self.rounded(node, replace(value, pending=None), grid)
        return self.affine(rounded, pending.unit, 0.0)

    def _between(
        self, node: Foreign, value: Value, low: Floats | None, high: Floats | None
    ) -> Value:
        """Hold any value in low..high: max(x, l) = l + relu(x - l), min(x, h) = h - relu(h - x)."""
        if low is not None and high is not None and (low > high).any():
            raise node.refuse("its least value is above its greatest; export the network again")
        if low is not None and not (value.function == "relu" and (low <= 0).all()):
            value = self.activation(self.affine(value, 1.0, -low), "relu")
            value = value if not low.any() else self.affine(self.applied(value), 1.0, low)
        if high is not None:
            below = self.activation(self.affine(value, -1.0, high), "relu")
            value = self.affine(self.applied(below), -1.0, high)
        return value

    def _narrowed(self, value: Value, low: Floats | None, high: Floats | None) -> Value | None:
        """Hold a value that was just rounded in a smaller range; None where no word has it, or it was not."""
        site = self._sites.get(value.node)
        known = site.result.uniform if site is not None and site.result is not None else None
        gain = float(value.gain.flat[0])
        if (
            site is None
            or known is None
            or value.function
            or self._nodes[-1].name != value.node
            or value.offset.any()
            or (value.gain != gain).any()
        ):
            return None
        lsb = gain * known.lsb
        least = (
            known.min_word if low is None else max(round(float(low.max()) / lsb), known.min_word)
        )
        most = (
            known.max_word if high is None else min(round(float(high.min()) / lsb), known.max_word)
        )
        fmt = covering_format(min(least, 0), max(most, 0), known.fraction_bits)
        fmt = replace(fmt, rounding=known.rounding, overflow="SAT")
        reached = site.output
        if (fmt.min_word < least and int(reached.low.min()) < least) or (
            fmt.max_word > most and int(reached.high.max()) > most
        ):
            return None
        if fmt.bits < known.bits or fmt.signed != known.signed:
            self._retype(value.node, TensorType.of(fmt, site.output.shape))
        return value

    def layer(
        self, node: Foreign, layer: str, values: Sequence[Value], **parameters: int | float
    ) -> Value:
        """Add a layer of ours that reads the words of values as they are; its output in its own order."""
        read = [self._words(node, self._read(value, node)) for value in values]
        return self._output(self._add(layer, tuple(v.node for v in read), parameters))

    def is_never_negative(self, value: Value) -> bool:
        """Whether the words of a value that was rounded are all zero or more."""
        site = self._sites.get(value.node)
        return site is not None and int(site.output.low.min()) >= 0

    def elementwise(self, node: Foreign, layer: str, value: Value) -> Value:
        """Add a layer of ours that maps every element alone, wherever it stands."""
        value = self._settled(node, self._read(value, node))
        name = self._add(layer, (value.node,), {})
        return replace(_plain(value), node=name)

    def combined(self, node: Foreign, layer: str, values: Sequence[Value]) -> Value:
        """Add a layer that combines values of one shape element by element."""
        first, second = (self._read(value, node) for value in values)
        shape = np.broadcast_shapes(first.shape, second.shape)
        first, second = (v.arranged(lambda a: np.broadcast_to(a, shape)) for v in (first, second))
        gain = first.gain.flat[0]
        is_common = (
            layer in ("add", "subtract")
            and not (first.offset.any() or second.offset.any())
            and (first.gain == gain).all()
            and (second.gain == gain).all()
        )
        if is_common:
            first, second = _plain(first), _plain(second)
        first, second = (self._settled(node, v) for v in (first, second))
        alike = self._shapes[first.node] == self._shapes[second.node]
        if (
            not alike
            or not np.array_equal(first.index, second.index)
            or not _is_whole(first, self._shapes[first.node])
        ):
            first, second = (self._ordered(node, v) for v in (first, second))
        name = self._add(layer, (first.node, second.node), {})
        return replace(_fresh(name, first.index), gain=np.full(shape, gain if is_common else 1.0))

    def concatenated(self, node: Foreign, values: Sequence[Value], axis: int) -> Value:
        """Return values joined along one of their axes."""
        result, *others = (self._read(value, node) for value in values)
        for other in others:
            if self._shapes[result.node][:-1] != self._shapes[other.node][:-1]:
                result, other = self._flattened(result), self._flattened(other)
            widths = [self._shapes[v.node][-1] for v in (result, other)]
            joined = []
            for value, width, start in zip((result, other), widths, (0, widths[0]), strict=True):
                position, lane = np.divmod(value.index, width)
                joined.append(replace(value, index=position * sum(widths) + lane + start))
            name = self._add("concat", (result.node, other.node), {})
            parts = [[getattr(v, key) for v in joined] for key in ("index", "gain", "offset")]
            index, gain, offset = (np.concatenate(part, axis=axis) for part in parts)
            result = Value(node=name, index=index, gain=gain, offset=offset)
        return result

    def pooled(self, node: Foreign, layer: str, value: Value, axes: Sequence[int]) -> Value | None:
        """Reduce all positions of a value to one; None where the axes are not just the positions.

        Args:
            node: the foreign node.
            layer: ours.
            value: what is reduced.
            axes: of the value, without the batch.
        """
        value = self._read(value, node)
        shape = self._shapes[value.node]
        moved = np.moveaxis(value.index, tuple(axes), tuple(range(len(axes))))
        rest = moved.shape[len(axes) :]
        rows = moved.reshape(-1, prod(rest))
        lanes = rows[0] % shape[-1]
        fits = (
            len(shape) > 1
            and rows.shape == (prod(shape[:-1]), shape[-1])
            and (rows % shape[-1] == lanes).all()
            and _is_whole(value, shape)
            and value.is_plain
        )
        if not fits:
            return None
        return _fresh(self._add(layer, (value.node,), {}), lanes.reshape(rest))

    def in_order(self, node: Foreign, value: Value) -> Value | None:
        """Return a value whose elements are a node's of its very shape, in order; None where they are arranged."""
        value = self._words(node, self._read(value, node))
        shape = self._shapes[value.node]
        if not np.array_equal(value.index.ravel(), np.arange(prod(shape))):
            return None
        if value.shape == shape or len(value.shape) == 1:
            return value if value.shape == shape else self._flattened(value)
        rows = {"rows": value.shape[0]} if len(value.shape) == 3 else {}
        return replace(
            value, node=self._add("reshape", (value.node,), {"width": value.shape[-1], **rows})
        )

    def must_be_in_order(self, node: Foreign, value: Value) -> Value:
        """Return what `in_order` returns.

        Raises:
            DesignError: its elements are arranged.
        """
        ordered = self.in_order(node, value)
        if ordered is None:
            raise node.refuse("reads elements in another order than they are computed in; move it")
        return ordered

    def applied(self, value: Value) -> Value:
        """Return a value without a function pending: rounded to the stated precision, or exactly."""
        if value.pending is not None:
            node = Foreign(kind="layer.Floor", name=value.node, inputs=())
            raise node.refuse("rounds to whole numbers of unknown range; clip its result")
        if not value.function:
            return value
        node = Foreign(kind=f"layer.{value.function}", name=value.node, inputs=())
        if self.precision is not None and (self.rounds_results or value.function != "relu"):
            return self.rounded(node, value, Grid.of(self.precision))
        if value.function != "relu":
            raise node.refuse(
                "its result is not rounded; quantize it, or state a precision (--precision ap_fixed<16,6>)"
            )
        value = self._settled(node, value)
        if value.node in self._open:
            self._close(value.node, None)
        source = self._sites[value.node].output
        fmt = covering_format(0, max(int(source.high.max()), 0), source.type.fraction_bits)
        name = self._add(
            "relu", (value.node,), {"result_bits": fmt.bits}, TensorType.of(fmt, source.shape)
        )
        return replace(value, node=name, function="")

    def shared(self, node: Foreign, value: Value) -> Value:
        """Return a value that several nodes read: none of them may change its weights any more."""
        if (
            self.rounds_results
            and value.pending is None
            and (value.function or value.node in self._open)
        ):
            return self._read(value, node)  # once for all of them
        if value.node not in self._open:
            return value
        settled = self._settled(node, replace(value, function="", pending=None))
        if settled.node in self._open:
            self._close(settled.node, None)
        return replace(settled, function=value.function, pending=value.pending)

    def finish(
        self, value: Value, hardware: Callable[[Network], HardwareConfig]
    ) -> tuple[QuantizedNetwork, Value]:
        """Return the network, and how its output words become the foreign output.

        Raises:
            DesignError: a node or type is illegal.
        """
        node = Foreign(kind="output.output", name=value.node, inputs=())
        value = self._read(value, node)
        if value.node in self._open:  # an open layer was kept for its scale
            self._close(value.node, None)
        value = self._selected(node, value)
        site = self._sites[value.node]
        if site.result is None or not site.node.inputs:
            known = site.output.type
            if (bits := known.covering.bits) > RESULT_BITS.maximum:
                raise node.refuse(
                    f"is a sum of {bits} bits that nothing rounds, expected at most {RESULT_BITS.maximum:g};"
                    " quantize the output"
                )
            name = self._add(
                "linear", (value.node,), {"result_bits": known.covering.bits},
                replace(known, rounding="TRN", overflow="SAT"),
            )  # fmt: skip
            value = replace(value, node=name)
        self._drop_unread(value.node)
        network = Network(nodes=tuple(self._nodes))
        constants = {name: dict(s.constants) for name, s in self._sites.items() if s.constants}
        kept = {n.name for n in network.nodes}
        quantized = QuantizedNetwork(
            candidate=Candidate(network=network, hardware=hardware(network)),
            network=network,
            result={
                n: s.result for n, s in self._sites.items() if s.result is not None and n in kept
            },
            constants={name: roles for name, roles in constants.items() if name in kept},
        )
        return quantized, value

    # ---- settling ---------------------------------------------------------------------------------
    def _read(self, value: Value, node: Foreign) -> Value:
        """Return a value whose words exist: rounded to the stated precision where it is of floats."""
        value = self.applied(value)
        if value.node not in self._sites and value.node not in self._open:
            if self._parts:
                raise node.refuse(
                    "reads an input before every other one is quantized; quantize all first"
                )
            if self.precision is None:
                raise node.refuse(
                    "reads the network's input, which is not quantized; quantize it first,"
                    " or state a precision (--precision ap_fixed<16,6>)"
                )
            if not _is_whole(value, self._shapes["input"]):  # all of it, once
                self.rounded(node, self.input_value, Grid.of(self.precision))
                return value
            return self.rounded(node, value, Grid.of(self.precision))
        if value.node in self._open:
            if self.rounds_results and self.precision is not None:
                return self.rounded(node, value, Grid.of(self.precision))
            value = self._settled(node, value)
            if value.node in self._open:
                self._close(value.node, None)
        return value

    def _settled(self, node: Foreign, value: Value) -> Value:
        """Return a value without gain and offset: folded into an open layer, or a diagonal matrix."""
        if value.is_plain:
            return value
        width = self._shapes[value.node][-1]
        lanes = value.index.ravel() % width
        gain: Floats = np.ones(width)
        offset: Floats = np.zeros(width)
        gain[lanes], offset[lanes] = value.gain.ravel(), value.offset.ravel()
        is_per_lane = np.array_equal(gain[lanes], value.gain.ravel()) and np.array_equal(
            offset[lanes], value.offset.ravel()
        )
        opened = self._open.get(value.node)
        if (
            opened is not None
            and is_per_lane
            and (opened.weights.type is None or is_power_of_two(np.abs(gain)))
        ):
            folded, _ = _mapped(
                opened.weights.arranged(np.transpose),
                np.arange(width),
                width,
                gain,
                np.zeros(width),
            )
            opened.weights = folded.arranged(np.transpose)
            opened.bias = opened.bias * gain + offset
            opened.is_scaled |= not is_power_of_two(np.abs(gain))
            return _plain(value)
        if opened is not None:
            self._close(value.node, None)
        function, value = value.function, replace(value, function="")
        if not is_per_lane:
            value = self._flattened(value)
            value = self._matrix(node, value, Constant(values=np.eye(value.index.size)))
            self._open[value.node].is_scaled = True
            return replace(value, function=function)
        name = self._add_dense(node, value.node, Constant(values=np.diag(gain)), offset)
        self._open[name].is_scaled = True
        return replace(_plain(value), node=name, function=function)

    def _flattened(self, value: Value) -> Value:
        """Return the same value on a node without positions."""
        if len(self._shapes[value.node]) == 1:
            return value
        if value.node in self._open:
            self._close(value.node, None)
        return replace(value, node=self._add("flatten", (value.node,), {}))

    def _selected(self, node: Foreign, value: Value) -> Value:
        """Return a value that holds every element of its node just once."""
        return value if _is_whole(value, self._shapes[value.node]) else self._ordered(node, value)

    def _ordered(self, node: Foreign, value: Value) -> Value:
        """Return a value on a node without positions, element by element."""
        function = value.function
        value = self._flattened(replace(value, function=""))
        if np.array_equal(value.index.ravel(), np.arange(self._shapes[value.node][0])):
            return replace(value, function=function)
        if value.node in self._open:
            self._close(value.node, None)
        flat = value.arranged(lambda a: a.reshape(-1))
        chosen = self._matrix(node, flat, _identity(flat.index.size))
        self._close(chosen.node, None)
        return replace(chosen.arranged(lambda a: a.reshape(value.shape)), function=function)

    def _words(self, node: Foreign, value: Value) -> Value:
        """Return a value that is its node's words, in their own order where positions allow."""
        value = self._settled(node, value)
        if value.node in self._open:
            self._close(value.node, None)
        n = prod(self._shapes[value.node])
        if np.array_equal(value.index.ravel(), np.arange(n)) or _is_whole(
            value, self._shapes[value.node]
        ):
            return value
        return self._ordered(node, value)

    def _rounded_input(self, node: Foreign, value: Value, grid: Grid) -> Value:
        if value.function:
            raise node.refuse("the input passes a function before it is rounded; round it first")
        step = np.broadcast_to(grid.step, value.shape)
        unit = np.ones(value.shape) if is_power_of_two(step) else np.array(step)
        if not value.offset.any() and is_power_of_two(value.gain / step):
            unit = value.gain
        if self._is_joined:
            return self._rounded_part(node, value, grid, unit)
        value = self._selected_input(node, value)
        plain = _plain(value)
        result = self._own_type(plain, replace(grid, step=step / unit))
        self._add_input(result)
        if grid.narrow and result.signed.any():
            self.note(
                f"{node}: inputs at the least word of the range are one step lower here (narrow)"
            )
        gain: Floats = np.empty(result.size)
        offset: Floats = np.empty(result.size)
        gain[value.index.ravel()] = (value.gain / unit).ravel()
        offset[value.index.ravel()] = (value.offset / unit).ravel()
        self.input_gain = gain.reshape(result.shape)
        self.input_offset = offset.reshape(result.shape)
        return replace(plain, gain=np.array(unit))

    def _rounded_part(self, node: Foreign, value: Value, grid: Grid, unit: Floats) -> Value:
        """Round one of several inputs; ours is placed when the last of them is."""
        if self._parts and (grid.rounding, grid.overflow) != (
            self._parts[0][1].rounding,
            self._parts[0][1].overflow,
        ):
            raise node.refuse(
                "rounds its input in another way than other inputs are; round all alike"
            )
        step = np.broadcast_to(grid.step / unit, value.shape)
        self._parts.append(
            (
                replace(value, gain=value.gain / unit, offset=value.offset / unit),
                replace(grid, step=step),
            )
        )
        index = np.concatenate([part.index.ravel() for part, _ in self._parts])
        n = prod(self._shapes["input"])
        if np.unique(index).size < index.size:
            raise node.refuse("rounds a part of the network's input again; round each input once")
        if index.size == n:

            def arranged(arrays: list[NDArray[Any]]) -> NDArray[Any]:
                flat = np.concatenate(
                    [
                        np.broadcast_to(a, p.shape).ravel()
                        for a, (p, _) in zip(arrays, self._parts, strict=True)
                    ]
                )
                result = np.empty_like(flat)
                result[index] = flat
                return result

            grids = [part for _, part in self._parts]
            whole = replace(
                grid,
                step=arranged([g.step for g in grids]),
                bits=arranged([np.asarray(g.bits) for g in grids]),
                signed=arranged([np.asarray(g.signed) for g in grids]),
            )
            self._add_input(whole.type((n,)))
            self.input_gain = arranged([part.gain for part, _ in self._parts])
            self.input_offset = arranged([part.offset for part, _ in self._parts])
        return replace(_plain(value), gain=np.array(unit))

    def _selected_input(self, node: Foreign, value: Value) -> Value:
        if not _is_whole(value, self._shapes["input"]):
            raise node.refuse("rounds a part of the network's input; round all of it first")
        return value

    # ---- nodes --------------------------------------------------------------------------------------
    def _own_type(self, value: Value, grid: Grid) -> TensorType:
        """Return the type of a grid in the order of the node's elements."""
        shape = self._shapes[value.node]

        def arranged(known: NDArray[Any]) -> NDArray[Any]:
            if np.ndim(known) == 0:
                return np.asarray(known)
            flat = np.empty(prod(shape), dtype=np.asarray(known).dtype)
            flat[value.index.ravel()] = np.broadcast_to(known, value.shape).ravel()
            return flat.reshape(shape)

        return replace(
            grid, step=arranged(grid.step), bits=arranged(grid.bits), signed=arranged(grid.signed)
        ).type(shape)

    def _name(self, layer: str) -> str:
        return f"{layer}_{1 + sum(name.rpartition('_')[0] == layer for name in self._shapes)}"

    def _add_input(self, result: TensorType) -> None:
        *positions, width = result.shape
        names = ("columns",) if len(positions) == 1 else ("rows", "columns")
        axes = dict(zip(names, positions, strict=True)) if positions else {}
        node = Node(
            name="input",
            layer="input",
            inputs=(),
            parameters={"width": width, "result_bits": result.covering.bits, **axes},
        )
        self._place(node, {}, result)

    def _add(
        self,
        layer: str,
        inputs: tuple[str, ...],
        parameters: Mapping[str, int | float],
        result: TensorType | None = None,
    ) -> str:
        for source in inputs:
            if source in self._open:
                self._close(source, None)
        name = self._name(layer)
        self._place(
            Node(name=name, layer=layer, inputs=inputs, parameters=dict(parameters)), {}, result
        )
        return name

    def _place(self, node: Node, constants: Mapping[str, Words], result: TensorType | None) -> None:
        from codesign.layers import LAYERS

        LAYERS.get(node.layer).check(node)
        site = Site(
            node=node,
            inputs=tuple(self._sites[name].output for name in node.inputs),
            constants=constants,
            result=result,
            hardware=_NO_HARDWARE,
        )
        self._shapes[node.name] = site.output.shape
        self._sites[node.name] = site
        self._nodes.append(node)

    def _retype(self, name: str, result: TensorType) -> None:
        site = self._sites[name]
        node = replace(
            site.node, parameters=dict(site.node.parameters) | {"result_bits": result.covering.bits}
        )
        self._nodes.remove(site.node)
        self._place(node, {}, result)

    def _output(self, name: str) -> Value:
        return whole(name, self._shapes[name])

    def _add_dense(self, node: Foreign, source: str, weights: Constant, bias: Floats) -> str:
        if source in self._open:
            self._close(source, None)
        name = self._name("dense")
        self.origins[name] = node.name
        self._shapes[name] = (*self._shapes[source][:-1], weights.shape[1])
        self._open[name] = _Open(weights=weights, bias=bias, source=source, origin=str(node))
        return name

    def _close(self, name: str, result: TensorType | None) -> None:
        """Settle the words of an open dense layer.

        Args:
            name: of the layer.
            result: type that its sums are rounded to next; None: they are read as they are.
        """
        opened = self._open.pop(name)
        source = self._sites[opened.source].output
        weights = self._weight_words(opened)
        grid = source.type.fraction_bits + weights.type.fraction_bits
        bias = self._bias_words(opened, grid, result)
        n_zeros = float((weights.values == 0).mean())
        node = Node(
            name=name,
            layer="dense",
            inputs=(opened.source,),
            parameters={
                "units": weights.values.shape[1],
                "weight_bits": min(max(weights.type.covering.bits, 2), MAX_WEIGHT_BITS),
                "pruned_fraction": min(n_zeros, 0.99),
            },
        )
        try:
            self._place(node, {"weight": weights, "bias": bias}, None)
        except DesignError as error:
            raise Refused(f"{opened.origin}: {error}") from error

    def _weight_words(self, opened: _Open) -> Words:
        values, known = opened.weights.values, opened.weights.type
        if known is None or known.covering.bits > MAX_WEIGHT_BITS:
            known = exact_type(values)
        if known is None or known.covering.bits > MAX_WEIGHT_BITS:
            if opened.is_scaled:
                bound = float(np.abs(values).max())
                fmt = FixedPoint(
                    bits=SCALE_BITS, integer_bits=int(np.frexp(bound)[1]) + 1, rounding="RND_CONV"
                )
                self.note(
                    f"{opened.origin}: a scale that is no power of two is a constant of {SCALE_BITS} bits"
                )
            elif self.precision is not None:
                fmt = self.precision
                self.note(f"{opened.origin}: float weights are rounded to {fmt.to_hls()}")
            else:
                raise DesignError(
                    f"{opened.origin}: its weights are floats; quantize them,"
                    " or state a precision (--precision ap_fixed<16,6>)"
                )
            known = TensorType.of(fmt, values.shape)
        return Words(values=known.words_from_values(values), type=known)

    def _bias_words(self, opened: _Open, grid: int, result: TensorType | None) -> Words:
        bias, known = opened.bias, exact_type(opened.bias)
        is_exact = known is not None and known.fraction_bits <= grid
        if known is not None and (is_exact or known.covering.bits <= MAX_WEIGHT_BITS):
            return Words(values=known.words_from_values(bias), type=known)
        if self.precision is not None:
            known = TensorType.of(self.precision, bias.shape)
            self.note(f"{opened.origin}: float biases are rounded to {self.precision.to_hls()}")
            return Words(values=known.words_from_values(bias), type=known)
        words = np.floor(np.ldexp(bias, grid))
        if result is not None and int(result.element_fraction_bits.max()) <= grid:
            # sums lie on the grid, and so do all values at which the rounding that follows steps: half a
            # last bit above the floor decides every sum as the float bias does
            words = 2 * words + (np.ldexp(bias, grid) != words)
            grid += 1
        else:
            words = np.rint(np.ldexp(bias, grid))
            self.note(f"{opened.origin}: biases are rounded to the last bit of its sums")
        whole = words.astype(np.int64)
        fmt = covering_format(min(int(whole.min()), -1), max(int(whole.max()), 0), grid)
        return Words(values=whole, type=TensorType.of(fmt, bias.shape))

    def _drop_unread(self, last: str) -> None:
        needed = {last}
        for node in reversed(self._nodes):
            if node.name in needed:
                needed.update(node.inputs)
        self._nodes = [n for n in self._nodes if n.name in needed or n.layer == "input"]
        if self._nodes[-1].name != last:  # what was read last is not what the graph puts out
            self._nodes.sort(key=lambda n: n.name == last)


def whole(node: str, shape: tuple[int, ...]) -> Value:
    """Return all words of a node, in order."""
    return _fresh(node, np.arange(prod(shape), dtype=np.int64).reshape(shape))


def _fresh(name: str, index: Ints) -> Value:
    return Value(node=name, index=index, gain=np.ones(index.shape), offset=np.zeros(index.shape))


def _plain(value: Value) -> Value:
    return replace(value, gain=np.ones(value.shape), offset=np.zeros(value.shape))


def _identity(n: int) -> Constant:
    one = FixedPoint(bits=2, integer_bits=2)
    return Constant(values=np.eye(n), type=TensorType.of(one, (n, n)))


def _is_constant(rows: Floats) -> bool:
    return bool((rows == rows[0]).all())


def _is_whole(value: Value, shape: tuple[int, ...]) -> bool:
    n = prod(shape)
    return value.index.size == n and np.array_equal(np.sort(value.index.ravel()), np.arange(n))


def _changes_nothing(result: TensorType, source: TensorType, low: Ints, high: Ints) -> bool:
    """Whether words of a range are words of `result`, too."""
    shift = source.fraction_bits - result.element_fraction_bits
    if (shift > 0).any() or result.fraction_bits - source.fraction_bits > 30:
        return False
    up = result.fraction_bits - source.fraction_bits
    if up < 0:
        return False
    if max(int(np.abs(low).max()), int(np.abs(high).max())).bit_length() + up > 60:
        return False
    return bool(
        ((low << up) >= result.min_words).all() and ((high << up) <= result.max_words).all()
    )


def _mapped(
    weights: Constant, lanes: Ints, width: int, gain: Floats, offset: Floats
) -> tuple[Constant, Floats]:
    """Return a matrix over all lanes of a node, and the bias that offsets of its inputs make.

    Args:
        weights: [n_in, n_out].
        lanes: int64[n_in], the node's lane that each input is.
        width: lanes of the node.
        gain, offset: float64[n_in].
    """
    values, known = weights.values, weights.type
    bias = offset @ values
    scaled = values * gain[:, None]
    result = np.zeros((width, values.shape[1]))
    np.add.at(result, lanes, scaled)
    is_once = np.unique(lanes).size == lanes.size
    if known is None or not is_once or not is_power_of_two(np.abs(gain)):
        return Constant(values=result), bias
    negative = gain < 0
    bits = np.zeros(result.shape, dtype=np.int64)
    integer_bits, signed = np.zeros_like(bits), np.zeros(result.shape, dtype=bool)
    shift = (np.frexp(np.abs(gain))[1] - 1)[:, None]
    # the negative of the least word, and of an unsigned one, takes a bit more
    wider = negative[:, None].astype(np.int64)
    bits[lanes] = np.broadcast_to(known.bits, values.shape) + wider
    integer_bits[lanes] = np.broadcast_to(known.integer_bits, values.shape) + shift + wider
    signed[lanes] = np.broadcast_to(known.signed, values.shape) | negative[:, None]
    # lanes that are not read have no bits; their words are zero
    arranged = replace(
        known, shape=result.shape, bits=bits, integer_bits=integer_bits, signed=signed
    )
    return Constant(values=result, type=arranged), bias


def event_axis(node: Foreign, axis: int, rank: int) -> int:
    """Return an axis that counts the batch as one of an event's.

    Args:
        node: for the message.
        axis: counted with the batch, or from the end.
        rank: of an event.

    Raises:
        DesignError: it is the batch.
    """
    known = axis - 1 if axis > 0 else axis + rank if axis < 0 else -1
    if not 0 <= known < rank:
        raise node.refuse(
            f"works along axis {axis} of {rank + 1}, the batch or none; one event at a time"
        )
    return known
