"""Mask: zero at the positions of absent particles, which padding would else let speak through biases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError, ExportError
from codesign.ir import FixedPoint, Tensors, Words
from codesign.layers import LAYERS
from codesign.layers._activation import add_hls_activation
from codesign.layers._export import (
    add_hls_matrix,
    add_hls_reshape,
    chosen_rtl,
    cpp_variable,
    cpp_word,
    exact,
)
from codesign.layers.base import FloatColumns, Layer, Parameter, Site, WordRange
from hw_models.lowering import Described, activation

if TYPE_CHECKING:
    import torch
    from alkaid.trace import FVArray

    from codesign.layers._export import HlsGraph, OnnxGraph
    from codesign.layers._training import TrainModule, TrainNodes


class Mask(Layer):
    """The first input where the position is present, else 0; exact.

    A position is present where one channel of the second input (the transverse momentum, or a flag) is
    above a constant word, "absent": the least that training saw, which is what absent particles have.
    """

    name = "mask"
    is_positionwise = True
    n_inputs = (2, 2)
    parameters = (
        Parameter(
            name="channel",
            column="channel",
            minimum=0,
            maximum=4095,
            default=0.0,
            description="channel of the second input that tells absent particles, counted from 0",
        ),
    )

    def propagate(self, parameters: FloatColumns, inputs: Sequence[Tensors]) -> Tensors:
        values, reference = inputs
        fits = (values.n_rows == reference.n_rows) & (values.n_columns == reference.n_columns)
        fits &= parameters["channel"] < reference.n_channels
        if not fits.all():
            i = int(np.flatnonzero(~fits)[0])
            raise DesignError(
                f"values of shape {values.shape(i)} are not masked by channel {parameters['channel'][i]:g} of"
                f" {reference.shape(i)}; bring both to the same positions, and name a channel that there is"
            )
        return values

    def describe(self, columns: FloatColumns) -> tuple[Described, ...]:
        # a comparison at each position, and a gate in front of every bit, like a ReLU's
        return (
            activation(
                "relu",
                n_lanes=columns["n_out"] * columns["n_copies"],
                n_positions=columns["n_turns"],
                input_bits=columns["output_bits"],
                output_bits=columns["output_bits"],
            ),
        )

    def train_module(self, nodes: TrainNodes) -> TrainModule:
        from codesign.layers._train_mask import MaskModule

        return MaskModule(nodes)

    def draw_constants(self, site: Site, generator: np.random.Generator) -> dict[str, Words]:
        reference = site.inputs[1]
        channel = reference.low[..., self._channel(site)], reference.high[..., self._channel(site)]
        word = generator.integers(channel[0].min(), max(int(channel[1].max()), 1))
        return {"absent": Words.of(np.array(word), reference.format)}

    def _channel(self, site: Site) -> int:
        return int(self.value(site.node, "channel"))

    def _absent(self, site: Site) -> int:
        """Return the constant as a word of the second input's grid.

        Raises:
            DesignError: it lies on a finer one.
        """
        absent, known = site.constants["absent"], site.inputs[1].type
        shift = known.fraction_bits - absent.type.fraction_bits
        word = int(absent.values)
        if shift < 0 and word & ((1 << -shift) - 1):
            raise DesignError(
                "its constant lies between the words that it is compared with; quantize the network again"
            )
        return word << shift if shift >= 0 else word >> -shift

    def infer(self, site: Site) -> WordRange:
        values, reference = site.inputs
        if values.shape[:-1] != reference.shape[:-1]:
            raise DesignError(
                f"values of shape {values.shape} are not masked by {reference.shape}; bring both to one shape"
            )
        self._absent(site)
        low, high = np.minimum(values.low, 0), np.maximum(values.high, 0)
        return WordRange.exact(low, high, values.type.fraction_bits)

    def largest_sum(self, site: Site) -> int:
        values, reference = site.inputs
        return max(values.largest, reference.largest + abs(self._absent(site)))

    def run_words(self, site: Site, inputs: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
        values, reference = inputs
        is_present = reference[..., self._channel(site), None] > self._absent(site)
        return np.where(is_present, values, 0)

    def torch_exact(self, site: Site, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        values, reference = inputs
        channel = reference.narrow(-1, self._channel(site), 1)
        return values.masked_fill(channel <= float(site.constants["absent"].real), 0.0)

    def to_onnx(self, site: Site, graph: OnnxGraph, inputs: Sequence[str]) -> str:
        channel = graph.integers([self._channel(site)])
        told = graph.operator("Gather", inputs[1], channel, axis=len(site.inputs[1].shape))
        is_present = graph.operator("Greater", told, graph.real(site.constants["absent"].real))
        return graph.operator("Where", is_present, inputs[0], graph.real(np.array(0.0)))

    def to_hls4ml(self, site: Site, graph: HlsGraph, inputs: Sequence[str]) -> str:
        name, (values, reference) = site.node.name, site.inputs
        if site.hardware.io_type != "io_parallel":
            raise ExportError(
                f"{name}: hls4ml has no layer that streams a mask; use io_parallel or plain RTL"
            )
        if graph.is_logic:  # a gate in front of every bit, as `describe` has it
            return add_hls_activation(
                graph, "relu", name, inputs[0], values.size, site.output.format
            )
        # hls4ml has no comparison: what is above the constant saturates at one bit, which multiplies
        n_channels, fraction = values.shape[-1], reference.type.fraction_bits
        n_positions = values.size // n_channels
        told = np.arange(n_positions) * reference.shape[-1] + self._channel(site)
        chosen = np.eye(reference.size)[:, told]
        word = self._absent(site)
        reach = reference.largest + abs(word)
        above = WordRange.exact(np.array([-reach]), np.array([reach]), fraction).format
        flat = add_hls_reshape(
            graph, f"{name}_told", inputs[1], (reference.size,), reference.format
        )
        bias = np.full(n_positions, -word * above.lsb)
        distance = add_hls_matrix(graph, f"{name}_above", flat, chosen, above, bias=bias)
        bit = FixedPoint(bits=1, integer_bits=1 - fraction, signed=False)
        present = add_hls_activation(graph, "linear", f"{name}_present", distance, n_positions, bit)
        one = FixedPoint(bits=1, integer_bits=1, signed=False)
        spread = np.repeat(np.eye(n_positions), n_channels, axis=1)
        gate = add_hls_matrix(graph, f"{name}_gate", present, spread, one, one=2.0**fraction)
        flat = add_hls_reshape(graph, f"{name}_values", inputs[0], (values.size,), values.format)
        gated = graph.add(
            "Merge",
            f"{name}_gated",
            [flat, gate],
            precision={"result": exact(site.output.format)},
            op="multiply",
        )
        return add_hls_reshape(graph, name, gated, values.shape, site.output.format)

    def to_rtl(self, site: Site, inputs: Sequence[FVArray]) -> FVArray:
        values, reference = inputs
        absent = float(site.constants["absent"].real)
        n_channels = site.inputs[0].shape[-1]
        told = np.asarray(reference).reshape(-1, site.inputs[1].shape[-1])[:, self._channel(site)]
        gated = [
            # a lane of the reference is told from the constant by the sign of their difference
            chosen_rtl(told[i // n_channels] * -1.0, -absent, lane, 0.0)
            for i, lane in enumerate(np.asarray(values).ravel())
        ]
        shaped = np.array(gated, dtype=object).reshape(values.shape)
        return type(values)(shaped, values.solver_options, hwconf=values.hwconf)

    def to_cpp(self, site: Site) -> str:
        values, reference = site.inputs
        (name, told), n_channels = site.node.inputs, values.shape[-1]
        lines = []
        for position in range(values.size // n_channels):
            first = position * n_channels
            at = position * reference.shape[-1] + self._channel(site)
            word = cpp_word(name, first)
            is_present = f"{cpp_variable(told)}[{at} * B + i % B] > {self._absent(site)}"
            lines.append(
                f"for (int i = 0; i < {n_channels} * B; ++i)"
                f" {cpp_word(site.node.name, first)} = {is_present} ? {word} : 0;"
            )
        return "\n    ".join(lines)

    def examples(self) -> list[dict[str, Any]]:
        return [{}, {"channel": 2}]


LAYERS.add(Mask.name, Mask())
