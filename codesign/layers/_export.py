"""What a layer writes itself into when it is exported: interfaces that `codesign.export` implements.

They live beside the layers so that imports point down: `codesign.export` imports the layers, never the
other way round.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, final

import numpy as np
from numpy.typing import NDArray

from codesign.errors import ExportError
from codesign.ir import FixedPoint, HardwareConfig, TensorType, Words, covering_format

if TYPE_CHECKING:
    from alkaid.trace import FVArray


class OnnxGraph(Protocol):
    """A graph of ONNX operators on real values, under construction.

    Two implementations exist: standard operators with QuantizeLinear/DequantizeLinear, and QONNX.
    """

    def operator(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Add a standard operator with one output and return that output's name."""

    def real(self, values: NDArray[np.float64]) -> str:
        """Add a constant of real values and return its name."""

    def indices(self, tensor: str) -> str:
        """Convert a tensor of whole real numbers to int64 and return its name."""

    def reals(self, tensor: str) -> str:
        """Convert a tensor of truth values to real numbers, 0 and 1, and return its name."""

    def integers(self, values: Sequence[int]) -> str:
        """Add a constant int64 vector (shapes, axes) and return its name."""

    def stored(self, name: str, words: Words) -> str:
        """Add the real values of constant words (weights, biases), kept as integers if possible."""

    def quantize(self, tensor: str, result: TensorType) -> str:
        """Round a tensor to a type, element by element; the values stay real."""


class HlsGraph(ABC):
    """A list of hls4ml layers under construction: for a project, or for a record of the network."""

    #: only a record of plain RTL is written: what hls4ml needs other layers for is named as the logic it is
    is_logic: bool = False

    @abstractmethod
    def add(
        self,
        class_name: str,
        name: str,
        inputs: Sequence[str],
        *,
        precision: Mapping[str, FixedPoint],
        configuration: Mapping[str, Any] | None = None,
        **attributes: Any,
    ) -> str:
        """Add a layer and return its name.

        Args:
            class_name: hls4ml's class of the layer.
            name: unique name.
            inputs: names of the layers it reads.
            precision: format of each of its types ("result", "weight", "bias", "accum", ...).
            configuration: further entries of its configuration ("Strategy", "ReuseFactor", ...).
            attributes: what the class needs (n_in, weight_data, ...); `table_words` of a table, and the
                `function` that it holds.
        """

    @abstractmethod
    def quantize(self, name: str, source: str, result: TensorType) -> str:
        """Round every element of `source` to its own type and return the name of the result."""

    @final
    def table(
        self,
        name: str,
        source: str,
        *,
        function: str,
        words: NDArray[np.int64],
        n_lanes: int,
        result: FixedPoint,
    ) -> str:
        """Look every lane of `source` up in a table and return the name of the result.

        Args:
            name: unique name.
            source: a layer whose words index the table.
            function: name of the function ("tanh"), for messages.
            words: int64[n_entries] result words, entry 0 for the smallest index word.
            n_lanes: how many lanes.
            result: format of the result words.
        """
        return self.add(
            "UnaryLUT",
            name,
            [source],
            precision={"result": result, "table": result},
            activation="unary_lut",
            n_in=n_lanes,
            function=function,
            table_words=words,
        )


def hls_hardware(name: str, hardware: HardwareConfig) -> dict[str, Any]:
    """Return hls4ml's configuration of a node with multipliers: its strategy and reuse factor."""
    return {"Strategy": hardware.strategy[name], "ReuseFactor": hardware.reuse_factor[name]}


def exact(fmt: FixedPoint) -> FixedPoint:
    """Return `fmt` without rounding and saturation logic, for values that are known to fit."""
    return FixedPoint(
        bits=fmt.bits,
        integer_bits=fmt.integer_bits,
        signed=fmt.signed,
        rounding="TRN",
        overflow="WRAP",
    )


def add_hls_matrix(
    graph: HlsGraph,
    name: str,
    source: str,
    matrix: NDArray[np.floating],
    result: FixedPoint,
    *,
    one: float = 1.0,
    bias: NDArray[np.floating] | None = None,
) -> str:
    """Add a product with a matrix of small constants: hls4ml has no gather and no sum, and folds it to wires and adders.

    Args:
        graph: hls4ml layers so far.
        name: unique name.
        source: a layer of matrix.shape[0] values.
        matrix: float64[n_in, n_out], whole numbers, most of them 0 and 1.
        result: format that holds every sum.
        one: power of two that every 1 stands for.
        bias: float64[n_out], values on the grid of `result`; 0 where left out.
    """
    fraction = -round(np.log2(one))

    def format_of(values: NDArray[np.floating], fraction_bits: int) -> FixedPoint:
        low, high = min(int(values.min()), -1), max(int(values.max()), 1)
        return exact(covering_format(low, high, fraction_bits))

    weight = format_of(matrix, fraction)

    return graph.add(
        "Dense",
        name,
        [source],
        precision={
            "weight": weight,
            "bias": weight if bias is None else format_of(bias / result.lsb, result.fraction_bits),
            "accum": exact(result),
            "result": exact(result),
        },
        configuration={"Strategy": "latency", "ReuseFactor": 1},
        n_in=matrix.shape[0],
        n_out=matrix.shape[1],
        use_bias=True,
        weight_data=matrix * one,
        bias_data=np.zeros(matrix.shape[1]) if bias is None else bias,
    )


def add_hls_largest(
    graph: HlsGraph, name: str, source: str, shape: Sequence[int], fmt: FixedPoint
) -> str:
    """Add the largest channel of each position, as a vector; `source` is a vector of all of `shape`."""
    n, size = shape[-1], int(np.prod(shape))
    order = np.arange(size).reshape(-1, n).T.ravel()  # channels first: hls4ml pools over positions
    by_channel = add_hls_matrix(graph, f"{name}_turned", source, np.eye(size)[:, order], fmt)
    rows = add_hls_reshape(graph, f"{name}_rows", by_channel, (n, size // n), fmt)
    return graph.add(
        "GlobalMaxPooling1D",
        f"{name}_top",
        [rows],
        precision={"result": exact(fmt), "accum": exact(fmt)},
        pool_op="Max",
        n_in=n,
        n_filt=size // n,
        data_format="channels_last",
    )


def add_hls_reshape(
    graph: HlsGraph, name: str, source: str, shape: Sequence[int], result: FixedPoint
) -> str:
    """Add an hls4ml layer that gives the values of `source` another shape."""
    return graph.add(
        "Reshape", name, [source], precision={"result": exact(result)}, target_shape=list(shape)
    )


def refuse(*arguments: Any, **named: Any) -> NoReturn:
    """Stand in for a method that is never called: inputs are given, batch norms folded before."""
    raise AssertionError("this layer is not evaluated by itself")


# ---- ONNX -----------------------------------------------------------------------------------------
def onnx_flat(graph: OnnxGraph, source: str, rank: int) -> str:
    """Return the elements of a tensor of a rank as one vector per event."""
    if rank == 1:
        return source
    # ONNX Runtime 1.31 moves 8-bit pairs behind a Reshape and gives them a zero of another type
    return graph.operator("Flatten", source, axis=1)


# ---- RTL ------------------------------------------------------------------------------------------
def _sign_rtl(first: Any, second: Any) -> tuple[Any, bool | None]:
    """Return the difference of two of alkaid's lanes, and whether it is below 0 where that is known.

    alkaid 0.8.2 takes the top bit of a difference for its sign, also where it knows that the difference of
    two lanes with common inputs is never below 0.
    """
    difference = first - second
    is_constant = not hasattr(difference, "low")
    low, high = (difference,) * 2 if is_constant else (difference.low, difference.high)
    return difference, False if low >= 0 else True if high < 0 else None


def chosen_rtl(first: Any, second: Any, if_less: Any, if_not: Any) -> Any:
    """Return `if_less` where the first of two of alkaid's lanes is less than the second, else `if_not`."""
    difference, is_less = _sign_rtl(first, second)
    if is_less is None:
        return difference.msb_mux(if_less, if_not)
    return if_less if is_less else if_not


def larger_rtl(first: Any, second: Any) -> Any:
    """Return the larger of two of alkaid's lanes."""
    _, is_less = _sign_rtl(first, second)
    if is_less is None:
        return first.max_of(second) if hasattr(first, "max_of") else second.max_of(first)
    return second if is_less else first


def largest_rtl(lanes: FVArray) -> FVArray:
    """Return the largest of alkaid's lanes along the first axis, by a balanced tree."""
    rows = list(np.asarray(lanes).reshape(len(lanes), -1))
    while len(rows) > 1:
        rows = [
            np.array(
                [larger_rtl(*pair) for pair in zip(*rows[i : i + 2], strict=True)], dtype=object
            )
            if i + 1 < len(rows)
            else rows[i]
            for i in range(0, len(rows), 2)
        ]
    shaped = rows[0].reshape(lanes.shape[1:])
    return type(lanes)(shaped, lanes.solver_options, hwconf=lanes.hwconf)


# ---- C++ of the emulator --------------------------------------------------------------------------
def cpp_variable(name: str) -> str:
    """Return the C++ variable of a node; the prefix keeps it apart from every keyword."""
    return f"n_{name}"


def cpp_cast(fraction_bits: int, result: FixedPoint) -> str:
    """Return the C++ function that converts words with so many fraction bits to a format.

    Raises:
        ExportError: the shift does not fit 64-bit words.
    """
    shift = fraction_bits - result.fraction_bits
    if not -62 <= shift <= 62:
        raise ExportError(f"no shift by {shift} bits to {result.to_hls()} fits 64-bit words")
    return (
        f"cast<{shift}, Rounding::{result.rounding}, Overflow::{result.overflow},"
        f" {result.bits}, {str(result.signed).lower()}>"
    )


def cpp_word(name: str, first_lane: int = 0) -> str:
    """Return word i of node `name`, counted from a lane, in a `cpp_loop`."""
    return f"{cpp_variable(name)}[{f'{first_lane} * B + i' if first_lane else 'i'}]"


def cpp_loop(name: str, n_lanes: int, value: str, *, first_lane: int = 0) -> str:
    """Return the loop that sets lanes of node `name` to `value`, an expression of the index i."""
    return f"for (int i = 0; i < {n_lanes} * B; ++i) {cpp_word(name, first_lane)} = {value};"


def cpp_aligned(word: str, source: FixedPoint, result: FixedPoint) -> str:
    """Return a word, shifted to the finer grid of `result`."""
    return f"shift_left({word}, {result.fraction_bits - source.fraction_bits})"
