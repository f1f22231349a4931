"""Described layers and how each becomes operations of primitives: the one lowering.

A layer of a candidate, a layer of an hls4ml project and a layer of a record are described by the same
few things (products, lanes, tables, windows, pools, copies), and only these know which primitive they are
and which of its parameters they set.  Every number may be one number or an array of k of them: a population
describes the nodes of one layer type at once, a record its layers one by one.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from hw_models.errors import UnsupportedError
from hw_models.primitives import elementwise, reduce, table
from hw_models.types import OpBatch

Value = float | NDArray[np.float64]
NAN = float("nan")
#: Facts that known weights tell of a product; parameters of the primitive `matvec`.
WEIGHT_FACTS = (
    "n_multipliers",
    "n_lut_multipliers",
    "constant_adders",
    "csd_digits",
    "effective_bits",
    "adder_graph_cost",
    "adder_graph_depth",
)
#: Words and bits of a table where hls4ml is not told otherwise.
DEFAULT_TABLE_SIZE, DEFAULT_TABLE_BITS = 1024.0, 18.0


@dataclass(frozen=True, kw_only=True)
class Stream:
    """What a layer of an io_stream design writes: `depth` words of `n_channels` values."""

    n_channels: Value
    bits: Value
    depth: Value


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation of a primitive: its name and parameters."""

    primitive: str
    parameters: Mapping[str, Value]


class Described(ABC):
    """A layer's work, or a part of it, in terms that only hardware knows."""

    @abstractmethod
    def operation(self) -> Operation:
        """Return the operation of a primitive that does this work."""

    @property
    @abstractmethod
    def stream(self) -> Stream | None:
        """What it writes where layers are joined by FIFOs; None where the next part takes it directly."""


@dataclass(frozen=True, kw_only=True)
class Product(Described):
    """A matrix-vector product: of constants (dense, convolution), or of two variables (attention).

    Attributes:
        n_in, n_out: shape of the matrix.
        n_positions: products per inference, one after another.
        n_instances: copies working side by side.
        n_taps: positions that read one value: the pixels of a kernel.
        is_constant: whether the matrix is known when the design is made.
        reuse_factor, strategy: how multipliers are shared; code of `types.MATVEC_STRATEGIES`.
        input_bits, input_is_signed: of the vector.
        weight_bits: of the matrix.
        accumulator_bits, output_bits: NaN: every bit of the sum is kept.
        zero_fraction: share of constants that are zero; NaN: only a prior can say.
        has_bias: 0 or 1.
        weight_sigma_words, weight_law: prior of unknown constants (`primitives.matvec`).
        is_widest: 0 or 1, widths of single weights are learned, unknown, and at most `weight_bits`.
        facts: what is known of the constants, some of `WEIGHT_FACTS`; NaN: unknown.
        n_streamed: channels of a word of the stream that it writes, all outputs by default.
        depth: words that it writes.
    """

    n_in: Value
    n_out: Value
    input_bits: Value
    weight_bits: Value
    reuse_factor: Value = 1.0
    strategy: Value = 0.0
    n_positions: Value = 1.0
    n_instances: Value = 1.0
    n_taps: Value = 1.0
    is_constant: bool = True
    input_is_signed: Value = 1.0
    accumulator_bits: Value = NAN
    output_bits: Value = NAN
    zero_fraction: Value = 0.0
    has_bias: Value = 1.0
    weight_sigma_words: Value = NAN
    weight_law: Value = 0.0
    is_widest: Value = 0.0
    facts: Mapping[str, Value] = field(default_factory=dict)
    n_streamed: Value | None = None
    depth: Value = 1.0

    def sum_bits(self) -> NDArray[np.float64]:
        """Return the bits that hold every sum of products, whatever the constants are."""
        return sum_bits(self.n_in, self.zero_fraction, self.input_bits, self.weight_bits)

    def operation(self) -> Operation:
        shared = {
            "n_in": self.n_in,
            "n_out": self.n_out,
            "n_positions": self.n_positions,
            "n_instances": self.n_instances,
            "reuse_factor": self.reuse_factor,
            "input_bits": self.input_bits,
            "weight_bits": self.weight_bits,
            "accumulator_bits": self.accumulator_bits,
            "output_bits": self.output_bits,
        }
        if not self.is_constant:
            return Operation(primitive="product", parameters=shared)
        constants = {
            "strategy": self.strategy,
            "input_is_signed": self.input_is_signed,
            "n_taps": self.n_taps,
            "zero_fraction": self.zero_fraction,
            "has_bias": self.has_bias,
            "weight_sigma_words": self.weight_sigma_words,
            "weight_law": self.weight_law,
            "is_widest": self.is_widest,
            **{name: self.facts.get(name, NAN) for name in WEIGHT_FACTS},
        }
        return Operation(primitive="matvec", parameters=shared | constants)

    @property
    def stream(self) -> Stream:
        channels = self.n_out if self.n_streamed is None else self.n_streamed
        return Stream(n_channels=channels, bits=self.output_bits, depth=self.depth)


def sum_bits(
    n_in: Value, zero_fraction: Value, input_bits: Value, weight_bits: Value
) -> NDArray[np.float64]:
    """Return the bits that hold any sum of products: input + weight - 1 + ceil(log2(terms + 1)).

    Args:
        n_in: products of a sum.
        zero_fraction: share of them that vanishes.
        input_bits, weight_bits: widths, signs included.
    """
    terms = np.maximum(np.asarray(n_in) * (1.0 - np.asarray(zero_fraction)), 1.0)
    # exact at powers of two, where log2 may miss by one rounding
    bits = np.ceil(np.log2(terms + 1) - 1e-12)
    return np.asarray(input_bits) + np.asarray(weight_bits) - 1 + bits  # type: ignore[no-any-return]


@dataclass(frozen=True, kw_only=True)
class Lanes(Described):
    """One operation on each value alone: comparison, rounding, addition or product of two values.

    Attributes:
        kind: name in `elementwise.KINDS`.
        n_lanes: values side by side.
        input_bits, output_bits: of the words.
        n_positions: vectors per inference, one after another.
        saturates: 0 or 1, the result is clipped rather than wrapped.
        reuse_factor: lanes that share a multiplier (batch norm, products).
        constant_bits: of the constants of a scale; NaN: those of the result.
    """

    kind: str
    n_lanes: Value
    input_bits: Value
    output_bits: Value
    n_positions: Value = 1.0
    saturates: Value = 1.0
    reuse_factor: Value = 1.0
    constant_bits: Value = NAN

    def operation(self) -> Operation:
        return Operation(
            primitive="elementwise",
            parameters={
                "kind": float(elementwise.KINDS.index(self.kind)),
                "n_lanes": self.n_lanes,
                "input_bits": self.input_bits,
                "output_bits": self.output_bits,
                "n_positions": self.n_positions,
                "saturates": self.saturates,
                "reuse_factor": self.reuse_factor,
                "constant_bits": self.constant_bits,
            },
        )

    @property
    def stream(self) -> Stream:
        return Stream(n_channels=self.n_lanes, bits=self.output_bits, depth=self.n_positions)


@dataclass(frozen=True, kw_only=True)
class Table(Described):
    """A function looked up in a table.

    Attributes:
        kind: name in `table.KINDS`.
        n_lanes, input_bits, output_bits, n_positions: as in `Lanes`.
        table_size: words.
        table_bits: of a word; NaN: those of the result, at most 18.
    """

    kind: str
    n_lanes: Value
    input_bits: Value
    output_bits: Value
    n_positions: Value = 1.0
    table_size: Value = DEFAULT_TABLE_SIZE
    table_bits: Value = NAN

    def operation(self) -> Operation:
        return Operation(
            primitive="table",
            parameters={
                "kind": float(table.KINDS.index(self.kind)),
                "n_lanes": self.n_lanes,
                "input_bits": self.input_bits,
                "output_bits": self.output_bits,
                "table_size": self.table_size,
                "table_bits": self.table_bits,
                "n_positions": self.n_positions,
            },
        )

    @property
    def stream(self) -> Stream:
        return Stream(n_channels=self.n_lanes, bits=self.output_bits, depth=self.n_positions)


@dataclass(frozen=True, kw_only=True)
class Window(Described):
    """Line buffer and window of a streaming convolution; the product behind it takes its words."""

    kernel_height: Value
    kernel_width: Value
    n_channels: Value
    bits: Value
    image_width: Value
    n_positions: Value

    def operation(self) -> Operation:
        return Operation(primitive="window", parameters=_fields(self))

    @property
    def stream(self) -> None:
        return None


@dataclass(frozen=True, kw_only=True)
class Pool(Described):
    """The largest or the mean of each window.

    Attributes:
        kind: name in `reduce.KINDS`.
        n_lanes: channels.
        n_window: values reduced to one.
        n_outputs: windows per inference and channel.
        bits: of the words.
        n_positions: pixels of the input.
    """

    kind: str
    n_lanes: Value
    n_window: Value
    n_outputs: Value
    bits: Value
    n_positions: Value

    def operation(self) -> Operation:
        parameters = _fields(self) | {"kind": float(reduce.KINDS.index(self.kind))}
        return Operation(primitive="reduce", parameters=parameters)

    @property
    def stream(self) -> Stream:
        return Stream(n_channels=self.n_lanes, bits=self.bits, depth=self.n_outputs)


@dataclass(frozen=True, kw_only=True)
class Copy(Described):
    """Values moved and not changed: concatenation, padding, transposition, reshaping.

    Attributes:
        n_lanes: channels of a word of the result.
        bits: of a value.
        n_positions: words of the result.
    """

    n_lanes: Value
    bits: Value
    n_positions: Value = 1.0

    def operation(self) -> Operation:
        return Operation(primitive="merge", parameters=_fields(self))

    @property
    def stream(self) -> Stream:
        return Stream(n_channels=self.n_lanes, bits=self.bits, depth=self.n_positions)


@dataclass(frozen=True, kw_only=True)
class Recurrence(Described):
    """State update of a recurrent layer beside its products.

    Attributes:
        n_units, n_gates: state values, and gates of each.
        bits: of the state.
        n_steps: time steps.
        reuse_factor, strategy: of the products of one step.
        table_size: words of the gates' tables.
    """

    n_units: Value
    n_gates: Value
    bits: Value
    n_steps: Value
    reuse_factor: Value = 1.0
    strategy: Value = 0.0
    table_size: Value = DEFAULT_TABLE_SIZE

    def operation(self) -> Operation:
        return Operation(primitive="recurrent", parameters=_fields(self))

    @property
    def stream(self) -> Stream | None:
        return None


def _fields(item: Described) -> dict[str, Value]:
    return {name: getattr(item, name) for name in item.__dataclass_fields__}  # type: ignore[attr-defined]


#: Functions that compare, shift or round: kind of lanes of each.
_COMPARED = {
    "relu": "relu", "relu1": "relu", "relu6": "relu", "clip": "relu", "leaky_relu": "leaky_relu", "leakyrelu": "leaky_relu",
    "prelu": "relu", "parametrizedactivation": "leaky_relu", "thresholded_relu": "relu", "thresholdedrelu": "relu",
    "linear": "quantize", "ternary_tanh": "relu", "binary_tanh": "relu", "hard_sigmoid": "hard_sigmoid",
    "hard_tanh": "hard_sigmoid",
}  # fmt: skip
#: Functions of a table: kind of table of each.
_TABULATED = {
    "softmax": "softmax", "elu": "piecewise", "selu": "piecewise",
    **dict.fromkeys(
        ("sigmoid", "tanh", "unary_lut", "softplus", "softsign", "gelu", "silu", "swish", "exponential"), "function"
    ),
}  # fmt: skip
#: Operations on two values: kind of lanes of each.
_COMBINED = {
    "add": "add", "sum": "add", "subtract": "add", "average": "add", "maximum": "add", "minimum": "add",
    "multiply": "multiply", "square": "multiply",
}  # fmt: skip


def activation(
    function: str,
    *,
    n_lanes: Value,
    input_bits: Value,
    output_bits: Value,
    n_positions: Value = 1.0,
    saturates: Value = 1.0,
    table_size: Value = DEFAULT_TABLE_SIZE,
    table_bits: Value = NAN,
    implementation: str = "",
) -> Lanes | Table:
    """Describe an activation function by its name, as hls4ml and Keras spell it.

    Args:
        function: "relu", "sigmoid", "softmax", ...
        n_lanes, input_bits, output_bits, n_positions, saturates: as in `Lanes`.
        table_size, table_bits: as in `Table`, where the function needs one.
        implementation: of softmax: "latency", or anything else for the stable one.

    Raises:
        UnsupportedError: no law covers the function.
    """
    name = function.lower()
    if name in _TABULATED:
        kind = _TABULATED[name]
        if kind == "softmax" and "latency" in implementation.lower():
            kind = "softmax_latency"
        return Table(
            kind=kind,
            n_lanes=n_lanes,
            input_bits=input_bits,
            output_bits=output_bits,
            n_positions=n_positions,
            table_size=table_size,
            table_bits=table_bits,
        )
    if name not in _COMPARED:
        raise UnsupportedError(
            f"activation {function!r} has no cost law; its design is not estimated"
        )
    return Lanes(
        kind=_COMPARED[name],
        n_lanes=n_lanes,
        input_bits=input_bits,
        output_bits=output_bits,
        n_positions=n_positions,
        saturates=saturates,
    )


def is_combination(function: str) -> bool:
    """Say whether a function combines two values, lane by lane."""
    return function in _COMBINED


def combination(
    function: str,
    *,
    n_lanes: Value,
    input_bits: Value,
    output_bits: Value,
    n_positions: Value = 1.0,
    saturates: Value = 0.0,
) -> Lanes:
    """Describe the sum, difference or product of two values, lane by lane; arguments as in `Lanes`."""
    return Lanes(
        kind=_COMBINED[function],
        n_lanes=n_lanes,
        input_bits=input_bits,
        output_bits=output_bits,
        n_positions=n_positions,
        saturates=saturates,
    )


def fifo(stream: Stream) -> Operation:
    """Return the FIFO behind a layer of an io_stream design."""
    return Operation(
        primitive="fifo",
        parameters={"n_channels": stream.n_channels, "bits": stream.bits, "depth": stream.depth},
    )


def op_batches(
    parts: Sequence[Described],
    *,
    design: NDArray[np.int64],
    stage: NDArray[np.int64],
    has_fifo: NDArray[np.bool_] | None = None,
) -> list[OpBatch]:
    """Turn what k nodes do into operations, all parts of a node at its stage.

    Args:
        parts: in order, each of k numbers.
        design, stage: int64[k], candidate of each node and its place along the data flow.
        has_fifo: bool[k], nodes whose last part writes into a FIFO; None: none (io_parallel).
    """
    batches = [_batch(part.operation(), design, stage) for part in parts]
    written = parts[-1].stream if parts else None
    if has_fifo is not None and written is not None and has_fifo.any():
        behind = _batch(fifo(written), design, stage)
        batches.append(
            replace(
                behind,
                design=design[has_fifo],
                stage=stage[has_fifo],
                parameters={name: v[has_fifo] for name, v in behind.parameters.items()},
            )
        )
    return batches


def _batch(operation: Operation, design: NDArray[np.int64], stage: NDArray[np.int64]) -> OpBatch:
    return OpBatch(
        primitive=operation.primitive,
        design=design,
        stage=stage,
        parameters={
            name: np.broadcast_to(np.asarray(value, dtype=np.float64), design.shape)
            for name, value in operation.parameters.items()
        },
    )
