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
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError
from codesign.ir import FixedPoint, Node, QuantizedNetwork, Tensors
from hw_models.lowering import Described, Product, op_batches
from hw_models.types import OpBatch

if TYPE_CHECKING:
    import torch
    from alkaid.trace import FVArray

    from codesign.layers._export import HlsGraph, OnnxGraph
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


@dataclass(frozen=True, kw_only=True)
class WordRange:
    """Exact knowledge of a node's output: its format, and the least and greatest word of each lane.

    Attributes:
        format: format of the words.
        low, high: int64[n_out].
    """

    format: FixedPoint
    low: NDArray[np.int64]
    high: NDArray[np.int64]


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
        parameters: declared parameters.
        has_multipliers: whether strategy and reuse_factor apply.
        train_family: nodes of layers of one family may train together, in one module.
        folds_into_source: trained as part of the node it reads, absent from quantized networks.
    """

    name: ClassVar[str]
    role: ClassVar[str] = "compute"
    n_inputs: ClassVar[tuple[int, int]] = (1, 1)
    parameters: ClassVar[tuple[Parameter, ...]] = ()
    has_multipliers: ClassVar[bool] = False
    train_family: ClassVar[str] = ""
    folds_into_source: ClassVar[bool] = False

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
    def infer(
        self, node: Node, network: QuantizedNetwork, inputs: Sequence[WordRange]
    ) -> WordRange:
        """Derive format and range of the output, exactly, from those of the inputs."""

    @abstractmethod
    def run_words(
        self,
        node: Node,
        network: QuantizedNetwork,
        inputs: Sequence[NDArray[np.int64]],
        formats: Sequence[FixedPoint],
        result: FixedPoint,
    ) -> NDArray[np.int64]:
        """Evaluate on raw words, int64[n, width] per input, in integer arithmetic only."""

    @abstractmethod
    def torch_exact(
        self,
        node: Node,
        network: QuantizedNetwork,
        inputs: Sequence[torch.Tensor],
        result: FixedPoint,
    ) -> torch.Tensor:
        """Evaluate on real values, float64[n, width] per input; exact while words fit 53 bits."""

    # ---- exports ------------------------------------------------------------------------------
    @abstractmethod
    def to_onnx(
        self,
        node: Node,
        network: QuantizedNetwork,
        graph: OnnxGraph,
        inputs: Sequence[str],
        result: FixedPoint,
    ) -> str:
        """Write this node as ONNX operators on real values (standard or QONNX) and return its output."""

    @abstractmethod
    def to_hls4ml(
        self,
        node: Node,
        network: QuantizedNetwork,
        graph: HlsGraph,
        inputs: Sequence[str],
        ranges: Sequence[WordRange],
    ) -> str:
        """Write this node as hls4ml layers with explicit types and return the name of the last one.

        Args:
            node: this node.
            network: the network it belongs to.
            graph: hls4ml layers so far.
            inputs: names of the hls4ml layers that hold this node's inputs.
            ranges: exact knowledge of each input, and last of this node's output.
        """

    @abstractmethod
    def to_rtl(
        self, node: Node, network: QuantizedNetwork, inputs: Sequence[FVArray], result: FixedPoint
    ) -> FVArray:
        """Trace this node with alkaid's fixed-point arrays (one lane per element)."""

    @abstractmethod
    def to_cpp(self, node: Node, network: QuantizedNetwork, ranges: Mapping[str, WordRange]) -> str:
        """Write this node as C++ statements of the emulator, on raw words, for a block of B events.

        Args:
            node: this node.
            network: the network it belongs to.
            ranges: exact knowledge of every node's output, by name.
        """

    def cpp_constants(
        self, node: Node, network: QuantizedNetwork, result: FixedPoint
    ) -> dict[str, NDArray[np.int64]]:
        """Return the arrays that `to_cpp` refers to, by name; a forgotten one does not compile."""
        return {}

    # ---- contract tests -----------------------------------------------------------------------
    @abstractmethod
    def examples(self) -> list[dict[str, Any]]:
        """Return parameter sets that contract tests build this layer with."""

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
