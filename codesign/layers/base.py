"""What a layer type is: one file that says everything about it.

Order of use over a layer's life: `propagate` while a population is decoded, `describe` while it is
costed, `train_*` while it is trained, `infer` and `run_words` once it is quantized (the exact
integer reference), and the `to_*` methods when the winner is exported.  Every method is abstract: a
layer that forgets one cannot be created, so nothing is ever free or silently skipped.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError
from codesign.ir import (
    FixedPoint,
    HardwareConfig,
    Node,
    Tensors,
    TensorType,
    Words,
    covering_format,
)
from codesign.ir.fixed_point import MAX_BITS
from hw_models.lowering import Described, Product, op_batches
from hw_models.types import OpBatch

if TYPE_CHECKING:
    import torch
    from alkaid.trace import FVArray

    from codesign.layers._export import HlsGraph, OnnxGraph
    from codesign.layers._import import Constant, Draft, Foreign, Value
    from codesign.layers._training import TrainModule, TrainNodes

FloatColumns = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A declared parameter of a layer type.

    Attributes:
        name: key in `Node.parameters`.
        column: population column that carries it.
        minimum, maximum: legal range, inclusive.
        is_integer: whole numbers only.
        default: value used when the node does not say; None means it must.
        is_silent: not written into networks where it holds its default, so that networks from
            before the parameter existed keep their digests.
        description: one line for documentation and error messages, with the unit.
    """

    name: str
    column: str
    minimum: float
    maximum: float
    is_integer: bool = True
    default: float | None = None
    is_silent: bool = False
    description: str


@dataclass(frozen=True, kw_only=True, eq=False)
class WordRange:
    """Exact knowledge of a tensor: its type, and the least and greatest word of each element.

    Attributes:
        type: type of the words.
        low, high: int64[*type.shape].
    """

    type: TensorType
    low: NDArray[np.int64]
    high: NDArray[np.int64]

    @classmethod
    def exact(
        cls, low: NDArray[np.int64], high: NDArray[np.int64], fraction_bits: int
    ) -> WordRange:
        """Describe what is computed without rounding: one format for all elements covers the range.

        Raises:
            DesignError: more than 62 bits would be needed.
        """
        fmt = covering_format(int(low.min()), int(high.max()), fraction_bits)
        return cls(type=TensorType.of(fmt, low.shape), low=low, high=high)

    @property
    def format(self) -> FixedPoint:
        """The format that covers every element."""
        return self.type.covering

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one event."""
        return self.type.shape

    @property
    def size(self) -> int:
        """Elements of one event."""
        return self.type.size

    @property
    def element_bits(self) -> NDArray[np.int64]:
        """int64[*shape], bits that the words of each element need; those at its end that are always 0 do not count."""
        magnitude = np.maximum(self.high, -self.low - 1)
        length = np.frexp(np.maximum(magnitude, 0).astype(np.float64))[1]
        needed = length + (self.low < 0) - np.broadcast_to(self.type.trailing_zeros, self.shape)
        return np.where((self.low != 0) | (self.high != 0), np.maximum(needed, 1), 0)

    @property
    def largest(self) -> int:
        """Greatest magnitude of any word."""
        return max(-int(self.low.min()), int(self.high.max()), 0)


def aligned(known: WordRange, fraction_bits: int) -> WordRange:
    """Return the same range on a grid of as many fraction bits or more.

    Raises:
        DesignError: words would need more than 62 bits there.
    """
    shift = fraction_bits - known.type.fraction_bits
    if known.largest.bit_length() + shift > MAX_BITS:
        raise DesignError(
            f"words of {known.format.to_hls()} need more than {MAX_BITS} bits with {fraction_bits}"
            " fraction bits; bring the scales of what is joined closer together"
        )
    return WordRange.exact(known.low << shift, known.high << shift, fraction_bits)


@dataclass(frozen=True, kw_only=True, eq=False)
class Site:
    """One node where it stands in a quantized network: all that its layer type is asked about.

    Attributes:
        node: the node.
        inputs: what is known of each tensor that it reads.
        constants: its constant words, by role.
        result: type that its output is rounded to; None where it does not round.
        hardware: strategies, reuse factors, part and clock of the candidate.
    """

    node: Node
    inputs: tuple[WordRange, ...]
    constants: Mapping[str, Words]
    result: TensorType | None
    hardware: HardwareConfig

    @cached_property
    def output(self) -> WordRange:
        """What is known of its output.

        Raises:
            DesignError: what it reads does not fit, or a word would need more than 62 bits; names the node.
        """
        from codesign.layers import LAYERS

        try:
            output = LAYERS.get(self.node.layer).infer(self)
        except DesignError as error:
            raise DesignError(f"{self.node.name}: {error}") from error
        return output

    @property
    def source(self) -> WordRange:
        """What is known of its only input."""
        (source,) = self.inputs
        return source

    @property
    def rounded(self) -> TensorType:
        """The type of its output, which must have been stated because it rounds.

        Raises:
            DesignError: it was not stated.
        """
        if self.result is None:
            raise DesignError(f"layer {self.node.layer!r} rounds, but its result has no type")
        return self.result


def common(inputs: Sequence[Tensors], *same: str) -> Tensors:
    """Return the first input of each of k nodes, with the widest word and any sign of all its inputs.

    Args:
        inputs: what each node reads.
        same: fields that must be equal in all inputs.

    Raises:
        DesignError: they differ.
    """
    first, *others = inputs
    for other in others:
        fits = np.all([getattr(first, name) == getattr(other, name) for name in same], axis=0)
        if not fits.all():
            i = int(np.flatnonzero(~fits)[0])
            raise DesignError(
                f"two branches of shapes {first.shape(i)} and {other.shape(i)} do not fit together;"
                " bring them to one shape first"
            )
    return replace(
        first,
        bits=np.maximum.reduce([x.bits for x in inputs]),
        is_signed=np.maximum.reduce([x.is_signed for x in inputs]),
    )


class Layer(ABC):
    """Interface of a layer type; leaves live in one file each and register an instance in `LAYERS`.

    Attributes:
        name: registered name; a file format, never renamed.
        role: "compute", "merge", "identity" or "input": how graph canonicalisation treats it.
        n_inputs: least and greatest number of inputs.
        ranks: how many axes its inputs may have.
        parameters: declared parameters.
        has_multipliers: whether strategy and reuse_factor apply.
        is_wiring: it only moves elements; its result has no word that its inputs lack.
        train_family: nodes of layers of one family may train together, in one module.
        is_positionwise: each position of its result follows from that of its inputs, at all of them alike.
        folds_into_source: trained as part of the node it reads, absent from quantized networks.
        cpp_support: C++ that `to_cpp` calls, written once where a network has such a layer.
        max_input_bits: widest word that it reads; None where any will do.
        foreign: kinds of foreign nodes that `read` turns into this layer: "onnx.MatMul", "hls4ml.Dense".
    """

    name: ClassVar[str]
    role: ClassVar[str] = "compute"
    n_inputs: ClassVar[tuple[int, int]] = (1, 1)
    ranks: ClassVar[tuple[int, ...]] = (1, 2, 3)
    parameters: ClassVar[tuple[Parameter, ...]] = ()
    has_multipliers: ClassVar[bool] = False
    is_wiring: ClassVar[bool] = False
    train_family: ClassVar[str] = ""
    is_positionwise: ClassVar[bool] = False
    folds_into_source: ClassVar[bool] = False
    cpp_support: ClassVar[str] = ""
    max_input_bits: ClassVar[int | None] = None
    foreign: ClassVar[tuple[str, ...]] = ()

    # ---- populations ------------------------------------------------------------------------
    @abstractmethod
    def propagate(self, parameters: FloatColumns, inputs: Sequence[Tensors]) -> Tensors:
        """Derive what k nodes write from their parameters and from what they read.

        Args:
            parameters: the columns that the layer type declares, float64[k] each.
            inputs: per input: what each node reads there.

        Raises:
            DesignError: shapes do not fit.
        """

    def fan_in(self, parameters: FloatColumns, inputs: Sequence[Tensors]) -> NDArray[np.float64]:
        """Return how many values each of k nodes combines per position: the channels of all inputs.

        A layer whose sums join several positions (a convolution) returns the terms of each sum.
        """
        return np.asarray(sum(x.n_channels for x in inputs))

    @abstractmethod
    def describe(self, columns: FloatColumns) -> tuple[Described, ...]:
        """Describe what k nodes of this type do in hardware: products, lanes, tables, ...; () for wires.

        Everything that is counted or priced is derived from it: cost, products, bits of sums, EBOPs.

        Args:
            columns: the population columns, restricted to these nodes, float64[k] each.
        """

    @final
    def products(self, columns: FloatColumns) -> tuple[Product, ...]:
        """Return the matrix products among what k nodes do."""
        return tuple(part for part in self.describe(columns) if isinstance(part, Product))

    @final
    def lower(
        self,
        columns: FloatColumns,
        *,
        design: NDArray[np.int64],
        stage: NDArray[np.int64],
        has_fifo: NDArray[np.bool_] | None = None,
    ) -> list[OpBatch]:
        """Turn k nodes of this type into primitive hardware operations.

        Args:
            columns: the population columns, restricted to these nodes, float64[k] each.
            design: int64[k], index of each node's candidate.
            stage: int64[k], position of each node along the data flow.
            has_fifo: bool[k], nodes that write into a FIFO; None: none (io_parallel).
        """
        return op_batches(self.describe(columns), design=design, stage=stage, has_fifo=has_fifo)

    # ---- training -----------------------------------------------------------------------------
    @abstractmethod
    def train_module(self, nodes: TrainNodes) -> TrainModule:
        """Build the torch module that trains k nodes at once, on the fixed-point grid.

        Args:
            nodes: of this type, or of any type of its `train_family` where it names one.
        """

    # ---- the exact reference ------------------------------------------------------------------
    @abstractmethod
    def infer(self, site: Site) -> WordRange:
        """Derive type and range of the output, exactly, from all of `site` but its output.

        Raises:
            DesignError: what it reads does not fit; the caller adds the node's name.
        """

    @abstractmethod
    def largest_sum(self, site: Site) -> int:
        """Return the greatest magnitude of any word or partial sum, in any order of summation.

        In units of the output's least significant bit; what is computed in floats or narrow integers
        is exact while this fits them.
        """

    @abstractmethod
    def run_words(self, site: Site, inputs: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
        """Evaluate on raw words, int64[n, *shape] per input, in integer arithmetic only."""

    @abstractmethod
    def torch_exact(self, site: Site, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        """Evaluate on real values, float64[n, *shape] per input; exact while words fit 53 bits."""

    # ---- exports ------------------------------------------------------------------------------
    @abstractmethod
    def to_onnx(self, site: Site, graph: OnnxGraph, inputs: Sequence[str]) -> str:
        """Write this node as ONNX operators on real values (standard or QONNX) and return its output."""

    @abstractmethod
    def to_hls4ml(self, site: Site, graph: HlsGraph, inputs: Sequence[str]) -> str:
        """Write this node as hls4ml layers with explicit types and return the name of the last one.

        Args:
            site: this node.
            graph: hls4ml layers so far.
            inputs: names of the hls4ml layers that hold this node's inputs.
        """

    @abstractmethod
    def to_rtl(self, site: Site, inputs: Sequence[FVArray]) -> FVArray:
        """Trace this node with alkaid's fixed-point arrays, of the shape of each input."""

    @abstractmethod
    def to_cpp(self, site: Site) -> str:
        """Write this node as C++ statements of the emulator, on raw words, for a block of B events."""

    def cpp_constants(self, site: Site) -> dict[str, NDArray[np.int64]]:
        """Return the arrays that `to_cpp` refers to, by name; a forgotten one does not compile."""
        return {}

    # ---- networks from elsewhere ------------------------------------------------------------------
    def read(self, node: Foreign, draft: Draft) -> Value | Constant:
        """Turn a foreign node of one of the kinds in `foreign` into this layer, or into what it amounts to.

        Raises:
            DesignError: it says something that this layer does not compute; names the node.
        """
        raise AssertionError(f"layer {self.name!r} names no foreign kinds")

    # ---- contract tests -----------------------------------------------------------------------
    @abstractmethod
    def examples(self) -> list[dict[str, Any]]:
        """Return parameter sets that contract tests build this layer with."""

    def ranks_of(self, parameters: Mapping[str, Any]) -> tuple[int, ...]:
        """Return the numbers of axes, of `ranks`, at which an example is legal."""
        return self.ranks

    def draw_constants(self, site: Site, generator: np.random.Generator) -> dict[str, Words]:
        """Draw constants of a node whose inputs are known; layers with constants of their own say how."""
        return {}

    # ---- shared checks ------------------------------------------------------------------------
    def check(self, node: Node) -> None:
        """Check a node's parameters and number of inputs.

        Raises:
            DesignError: a parameter is unknown, missing or out of range.
        """
        low, high = self.n_inputs
        if not low <= len(node.inputs) <= high:
            raise DesignError(
                f"{node.name}: layer {self.name!r} takes {low} to {high} inputs, got {len(node.inputs)}"
            )
        known = {p.name: p for p in self.parameters}
        for key in node.parameters:
            if key not in known:
                raise DesignError(
                    f"{node.name}: layer {self.name!r} has no parameter {key!r}; it has {', '.join(known) or 'none'}"
                )
        for parameter in self.parameters:
            value = node.parameters.get(parameter.name, parameter.default)
            if value is None:
                raise DesignError(
                    f"{node.name}: layer {self.name!r} needs {parameter.name} ({parameter.description})"
                )
            legal = (
                isinstance(value, (int, float))
                and parameter.minimum <= value <= parameter.maximum
                and (not parameter.is_integer or float(value).is_integer())
            )
            if not legal:
                raise DesignError(
                    f"{node.name}: {parameter.name} must be {'an integer' if parameter.is_integer else 'a number'} in"
                    f" {parameter.minimum:g}..{parameter.maximum:g} ({parameter.description}), got {value!r}"
                )

    def value(self, node: Node, name: str) -> float:
        """Return a declared parameter of `node`, or its default."""
        parameter = next(p for p in self.parameters if p.name == name)
        return float(node.parameters.get(name, parameter.default))  # type: ignore[arg-type]
