"""What all activations share: a real function, then rounding (floor) and saturation to `result_bits`.

Flooring is free in hardware and the bias before it absorbs the half-bit offset (training learns it);
saturation is bounded and safe where wrapping flips signs.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError
from codesign.ir import FixedPoint, Tensors, TensorType
from codesign.ir.fixed_point import MAX_BITS
from codesign.layers._export import cpp_cast, cpp_loop, cpp_word, exact
from codesign.layers.base import FloatColumns, Layer, Parameter, Site, WordRange
from hw_models.lowering import Described, activation

if TYPE_CHECKING:
    import torch
    from alkaid.trace import FVArray

    from codesign.layers._export import HlsGraph, OnnxGraph
    from codesign.layers._import import Constant, Draft, Foreign, Value
    from codesign.layers._training import TrainModule, TrainNodes

RESULT_BITS = Parameter(
    name="result_bits",
    column="output_bits",
    minimum=1,
    maximum=32,
    description="bits of each output word",
)


class Activation(Layer):
    """Interface of element-wise layers that round to `result_bits`."""

    parameters = (RESULT_BITS,)
    train_family = "activation"
    is_positionwise = True
    #: Whether the output format carries a sign.
    result_is_signed: ClassVar[bool]
    #: LUTs that each bit of the result takes in plain RTL, about.
    luts_per_bit: ClassVar[float] = 0.0

    def propagate(self, parameters: FloatColumns, inputs: Sequence[Tensors]) -> Tensors:
        (source,) = inputs
        is_signed = np.full_like(source.bits, float(self.result_is_signed))
        return replace(source, bits=parameters["output_bits"], is_signed=is_signed)

    @abstractmethod
    def train_function(self, values: torch.Tensor) -> torch.Tensor:
        """Compute the real function on float32[k, width, batch], differentiably.

        Rounding follows; saturating to an unsigned format already cuts negative values.  Returning
        `values` itself says that there is nothing to compute.
        """

    def train_module(self, nodes: TrainNodes) -> TrainModule:
        from codesign.layers._train_activation import ActivationModule

        if nodes.granularity is not None:
            from codesign.layers._train_learned import LearnedActivation

            return LearnedActivation(nodes)
        return ActivationModule(nodes)

    #: Fraction bits that the real function adds to those of its argument.
    extra_fraction_bits: ClassVar[int] = 0

    @abstractmethod
    def apply_words(
        self, words: NDArray[np.int64], fraction_bits: int, result: TensorType
    ) -> NDArray[np.int64]:
        """Map raw words [..., *shape] with so many fraction bits to raw words of `result`.

        Monotone functions only: rounding keeps the order of words, and so do they.
        """

    @abstractmethod
    def torch_function(self, values: torch.Tensor) -> torch.Tensor:
        """Compute the real function exactly on float64."""

    @abstractmethod
    def onnx_function(self, graph: OnnxGraph, source: str) -> str:
        """Write the real function, without the rounding that follows it."""

    @abstractmethod
    def rtl_function(self, source: FVArray) -> FVArray:
        """Trace the real function, without the rounding that follows it."""

    @abstractmethod
    def cpp_function(self, word: str, cast: Callable[[int], str]) -> str:
        """Return the C++ expression of the result word.

        Args:
            word: expression of the source word.
            cast: returns the function that rounds; its argument counts the fraction bits that words have
                in addition to those of the source.
        """

    @abstractmethod
    def hls_function(
        self, graph: HlsGraph, name: str, source: str, n_lanes: int, result: FixedPoint
    ) -> str:
        """Add the function as an hls4ml layer whose result type rounds, and return its name."""

    def unrounded(self, source: WordRange) -> WordRange:
        """Return the exact range of the real function's values."""
        fraction_bits = source.type.fraction_bits + self.extra_fraction_bits
        bits = min(MAX_BITS, 64 + fraction_bits)
        wide = FixedPoint(bits=bits, integer_bits=bits - fraction_bits)
        result = TensorType.of(wide, source.shape)
        low, high = (
            self.apply_words(words, source.type.fraction_bits, result)
            for words in (source.low, source.high)
        )
        return WordRange.exact(low, high, fraction_bits)

    def leaves(
        self, words: NDArray[np.int64], fraction_bits: int, result: TensorType
    ) -> NDArray[np.bool_]:
        """Whether words [..., *shape] are mapped beyond the range of `result`, where they saturate or wrap."""
        is_used = result.bits > 0
        beyond = replace(  # of twice the range and more: its words tell what `result` cannot hold
            result,
            signed=is_used,
            bits=np.where(is_used, result.bits + 2, 0),
            integer_bits=result.integer_bits + 2,
            overflow="SAT",
        )
        reached = self.apply_words(words, fraction_bits, beyond)
        return (reached < result.min_words) | (reached > result.max_words)

    def infer(self, site: Site) -> WordRange:
        source, result = site.source, site.rounded
        if result.shape != source.shape:
            raise DesignError(
                f"its type has shape {result.shape}, it reads {source.shape}; quantize the network again"
            )

        fraction_bits = source.type.fraction_bits
        low, high = (
            self.apply_words(words, fraction_bits, result) for words in (source.low, source.high)
        )
        if result.overflow == "WRAP":  # where a word can leave its range, it may be any word of it
            wraps = self.leaves(source.low, fraction_bits, result)
            wraps |= self.leaves(source.high, fraction_bits, result)
            low = np.where(wraps, result.min_words, low)
            high = np.where(wraps, result.max_words, high)
        return WordRange(type=result, low=low, high=high)

    def largest_sum(self, site: Site) -> int:
        source, result = site.source, site.rounded
        largest = max(source.largest, site.output.largest)
        if result.rounding == "RND":  # half a bit is added, which may lie below the finest one
            largest = max(largest, self.unrounded(source).largest << 2)
        if result.overflow == "WRAP":  # a multiple of the span is subtracted
            exact = self.unrounded(source)
            shift = max(result.fraction_bits - exact.type.fraction_bits, 0)
            largest = max(largest, (exact.largest << shift) + (2 << result.covering.bits))
        return largest

    def run_words(self, site: Site, inputs: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
        return self.apply_words(inputs[0], site.source.type.fraction_bits, site.rounded)

    def torch_exact(self, site: Site, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        return quantize_torch(self.torch_function(inputs[0]), site.rounded)

    def to_onnx(self, site: Site, graph: OnnxGraph, inputs: Sequence[str]) -> str:
        return graph.quantize(self.onnx_function(graph, inputs[0]), site.rounded)

    def to_hls4ml(self, site: Site, graph: HlsGraph, inputs: Sequence[str]) -> str:
        name, result, size = site.node.name, site.rounded, site.output.size
        wide = exact(self.unrounded(site.source).format)
        n_bits = min(wide.bits, site.source.format.bits)
        # ap_fixed fails to round to nearest where all bits and more are lost: give it bits to lose
        lost = wide.fraction_bits - int(result.element_fraction_bits.min()) + 2
        is_short = result.rounding != "TRN" and lost > n_bits
        if result.uniform is not None and not is_short:
            return self.hls_function(graph, name, inputs[0], size, result.uniform)
        if is_short and lost > wide.bits:
            wide = replace(wide, bits=lost, integer_bits=lost - wide.fraction_bits)
        values = self.hls_function(graph, f"{name}_exact", inputs[0], size, wide)
        if result.uniform is not None:
            return add_hls_activation(graph, "linear", name, values, size, result.uniform)
        return graph.quantize(name, values, result)

    def to_rtl(self, site: Site, inputs: Sequence[FVArray]) -> FVArray:
        return quantize_rtl(self.rtl_function(inputs[0]), site.rounded)

    def cpp_value(self, site: Site, word: str, fmt: FixedPoint) -> str:
        """Return the C++ expression of the word of one element of format `fmt`."""
        return self.cpp_function(word, _rounder(site, fmt))

    def to_cpp(self, site: Site) -> str:
        (name,), result, lines = site.node.inputs, site.rounded, []
        for first, n_lanes, fmt in result.elements():
            value = "0"
            if fmt is not None:
                value = self.cpp_value(site, cpp_word(name, first), fmt)
                if zeros := result.fraction_bits - fmt.fraction_bits:
                    value = f"shift_left({value}, {zeros})"
            lines.append(cpp_loop(site.node.name, n_lanes, value, first_lane=first))
        return "\n    ".join(lines)

    def read(self, node: Foreign, draft: Draft) -> Value | Constant:
        return draft.activation(node.value(), self.name)

    def examples(self) -> list[dict[str, Any]]:
        return [{"result_bits": 4}, {"result_bits": 8}]


def _rounder(site: Site, fmt: FixedPoint) -> Callable[[int], str]:
    return lambda extra: cpp_cast(site.source.type.fraction_bits + extra, fmt)


def quantize_torch(values: torch.Tensor, result: TensorType) -> torch.Tensor:
    """Round real values (float64) to the grid of each element and bring them into its range."""
    import torch

    lsb = torch.from_numpy(np.asarray(np.ldexp(1.0, -result.element_fraction_bits)))
    low = torch.from_numpy(result.values_from_words(result.min_words)) / lsb
    high = torch.from_numpy(result.values_from_words(result.max_words)) / lsb
    steps = values / lsb
    if result.rounding == "RND_CONV":
        words = torch.round(steps)
    else:
        words = torch.floor(steps + 0.5 if result.rounding == "RND" else steps)
    if result.overflow == "SAT":
        words = torch.minimum(torch.maximum(words, low), high)
    else:
        span = high - low + 1.0
        words = words - span * torch.floor((words - low) / span)
    return words * lsb


def quantize_rtl(lanes: FVArray, result: TensorType) -> FVArray:
    """Round alkaid's lanes to a type, each to its own."""
    formats = [fmt for _, count, fmt in result.elements() for _ in range(count)]
    rounded = np.array(
        [_round_lane(*pair) for pair in zip(np.asarray(lanes).ravel(), formats, strict=True)],
        dtype=object,
    )
    return type(lanes)(rounded.reshape(lanes.shape), lanes.solver_options, hwconf=lanes.hwconf)


def _round_lane(lane: Any, fmt: FixedPoint | None) -> Any:
    """Round one lane of alkaid's, around what its version 0.8.2 gets wrong: constants, ties, single bits."""
    if fmt is None:
        return 0.0
    if lane.low == lane.high:
        return float(fmt.values_from_words(fmt.words_from_values(np.array(float(lane.low)))))
    rounding, fraction = fmt.rounding, int(lane.kif[2])
    if rounding == "RND_CONV":
        rounding = "TRN"
        if fraction > fmt.fraction_bits:
            # half a bit less one part, and that part where the bit above is set: ties go to even words
            is_odd = _single_bit(lane, 1 - fmt.fraction_bits, fmt.fraction_bits, "WRAP")
            part = 2.0**-fraction
            lane = lane + (fmt.lsb / 2 - part) + is_odd * (part / fmt.lsb)
    # a lane on a coarser grid fills fewer bits; saturation may still reach the finest one
    finest = min(fmt.fraction_bits, fraction) if fmt.overflow == "WRAP" else fmt.fraction_bits
    if not fmt.signed and fmt.integer_bits + finest == 1:
        if rounding == "RND" and fraction > fmt.fraction_bits:
            lane = lane + fmt.lsb / 2
        return _single_bit(lane, fmt.integer_bits, finest, fmt.overflow)
    return lane.quantize(
        fmt.signed, fmt.integer_bits - fmt.signed, fmt.fraction_bits, fmt.overflow, rounding
    )


def _single_bit(lane: Any, integer_bits: int, fraction_bits: int, overflow: str) -> Any:
    """Round one lane down to one unsigned bit, by way of a signed word of two.

    alkaid takes the wrong bit of a lane that it holds scaled (`canonicalize_msb_wraps`); what comes out
    of the first step is not.
    """
    two = lane.quantize(1, integer_bits, fraction_bits, overflow, "TRN")
    if overflow == "SAT":
        return two.relu()
    if two.low == two.high:  # of constants it keeps a bit too many
        return float(two.low) % 2.0**integer_bits
    return two.quantize(0, integer_bits, fraction_bits)


def add_hls_activation(
    graph: HlsGraph, function: str, name: str, source: str, n_lanes: int, result: FixedPoint
) -> str:
    """Add an element-wise hls4ml activation whose result type rounds and saturates."""
    return graph.add(
        "Activation",
        name,
        [source],
        precision={"result": result},
        activation=function,
        n_in=n_lanes,
    )


def describe_activation(function: str, columns: FloatColumns, **other: Any) -> Described:
    """Describe k nodes that apply a function to every lane and saturate.

    Args:
        function: name, as `lowering.activation` has it.
        columns: of the nodes.
        other: more that it has (tables), or bits that are not those of the columns.
    """
    return activation(
        function,
        n_lanes=columns["n_out"] * columns["n_copies"],
        n_positions=columns["n_turns"],
        **{name: columns[name] for name in ("input_bits", "output_bits")} | other,
    )
