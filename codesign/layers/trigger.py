"""Trigger bit: whether a word reaches a threshold, which is a word itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError
from codesign.ir import (
    FixedPoint,
    Network,
    Node,
    QuantizedNetwork,
    Tensors,
    TensorType,
    covering_format,
)
from codesign.layers import LAYERS
from codesign.layers._activation import add_hls_activation
from codesign.layers._export import cpp_loop, cpp_word, exact
from codesign.layers.base import FloatColumns, Layer, Parameter, Site, WordRange
from hw_models.lowering import Described, combination

if TYPE_CHECKING:
    import torch
    from alkaid.trace import FVArray

    from codesign.layers._export import HlsGraph, OnnxGraph
    from codesign.layers._training import TrainModule, TrainNodes

#: One unsigned bit.
BIT = FixedPoint(bits=1, integer_bits=1, signed=False)


class Trigger(Layer):
    """1 where the word that is read is at least `threshold_word`, else 0; exact.

    The threshold is a word of what is read, so no form converts it.
    """

    name = "trigger"
    parameters = (
        Parameter(
            name="threshold_word",
            column="threshold_word",
            minimum=-(2**40),
            maximum=2**40,
            description="least word of the input that fires",
        ),
    )

    def threshold(self, node: Node) -> int:
        """Return the least word that fires."""
        return int(self.value(node, "threshold_word"))

    def propagate(self, parameters: FloatColumns, inputs: Sequence[Tensors]) -> Tensors:
        (source,) = inputs
        one = np.ones_like(source.bits)
        return replace(source, bits=one, is_signed=np.zeros_like(one))

    def describe(self, columns: FloatColumns) -> tuple[Described, ...]:
        return (
            combination(  # a comparison is a subtraction of which the sign is kept
                "subtract",
                n_lanes=columns["n_out"] * columns["n_copies"],
                n_positions=columns["n_turns"],
                input_bits=columns["input_bits"],
                output_bits=columns["output_bits"],
            ),
        )

    def train_module(self, nodes: TrainNodes) -> TrainModule:
        raise DesignError(
            "a trigger bit has no gradient and is not trained; train the score, then append the bit"
            " (export.trigger_bit)"
        )

    def infer(self, site: Site) -> WordRange:
        threshold, source = self.threshold(site.node), site.source
        return WordRange(
            type=TensorType.of(BIT, source.shape),
            low=(source.low >= threshold).astype(np.int64),
            high=(source.high >= threshold).astype(np.int64),
        )

    def largest_sum(self, site: Site) -> int:
        return site.source.largest + abs(self.threshold(site.node)) + 1

    def run_words(self, site: Site, inputs: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
        return (inputs[0] >= self.threshold(site.node)).astype(np.int64)

    def _value(self, site: Site) -> float:
        """Return the threshold as a value."""
        return float(np.ldexp(self.threshold(site.node), -site.source.type.fraction_bits))

    def torch_exact(self, site: Site, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        return (inputs[0] >= self._value(site)).to(inputs[0].dtype)

    def to_onnx(self, site: Site, graph: OnnxGraph, inputs: Sequence[str]) -> str:
        level = graph.real(np.array(self._value(site)))
        return graph.reals(graph.operator("GreaterOrEqual", inputs[0], level))

    def to_hls4ml(self, site: Site, graph: HlsGraph, inputs: Sequence[str]) -> str:
        # hls4ml compares nothing: word - threshold + 1, which one unsigned bit saturates at 0 and 1
        name, source, n = site.node.name, site.source, site.output.size
        start = 1 - self.threshold(site.node)
        bias = exact(covering_format(min(start, 0), max(start, 0), 0))
        count = exact(
            covering_format(
                int(min(source.low.min(), 0)) + min(start, 0),
                int(max(source.high.max(), 0)) + max(start, 0),
                0,
            )
        )
        unit = FixedPoint(bits=2, integer_bits=2 + source.type.fraction_bits)
        counted = graph.add(
            "Dense",
            f"{name}_count",
            inputs,
            precision={
                "weight": exact(unit),
                "bias": bias,
                "accum": count,
                "result": count,
            },
            configuration={"Strategy": "latency", "ReuseFactor": 1},
            n_in=n,
            n_out=n,
            use_bias=True,
            weight_data=np.eye(n) * unit.lsb,
            bias_data=np.full(n, float(start)),
        )
        return add_hls_activation(graph, "relu", name, counted, n, BIT)

    def to_rtl(self, site: Site, inputs: Sequence[FVArray]) -> FVArray:
        lanes, level = inputs[0], self._value(site)
        bits = np.array([_fires(lane, level) for lane in np.asarray(lanes).ravel()], dtype=object)
        return type(lanes)(bits.reshape(lanes.shape), lanes.solver_options, hwconf=lanes.hwconf)

    def to_cpp(self, site: Site) -> str:
        (name,) = site.node.inputs
        value = f"{cpp_word(name)} >= {self.threshold(site.node)}"
        return cpp_loop(site.node.name, site.output.size, value)

    def examples(self) -> list[dict[str, Any]]:
        return [{"threshold_word": 0}, {"threshold_word": 9}, {"threshold_word": -2}]


def _fires(lane: Any, level: float) -> Any:
    """Compare one lane of alkaid's with a value: the sign of their difference."""
    low, high = float(lane.low), float(lane.high)
    if low >= level or high < level:
        return float(low >= level)
    span = 2.0 ** np.ceil(np.log2(max(level - low, 2 * (high - level), 2.0 ** -int(lane.kif[2]))))
    return ((lane - level) * (1.0 / span)).quantize(1, 0, 0, "WRAP", "TRN") + 1.0


def with_trigger(network: QuantizedNetwork, threshold_word: int) -> QuantizedNetwork:
    """Return the network followed by a trigger bit for each output.

    Args:
        network: whose outputs are scores.
        threshold_word: least output word that fires.

    Raises:
        DesignError: the word is out of range, or the network ends in a trigger bit already.
    """
    last = network.network.nodes[-1]
    if last.layer == Trigger.name:
        raise DesignError(f"{last.name} is a trigger bit already; append one to the score")
    node = Node(
        name="trigger",
        layer=Trigger.name,
        inputs=(last.name,),
        parameters={"threshold_word": threshold_word},
    )
    LAYERS.get(Trigger.name).check(node)
    shape = network.result[last.name].shape
    return replace(
        network,
        network=Network(nodes=(*network.network.nodes, node)),
        result={**network.result, node.name: TensorType.of(BIT, shape)},
    )


LAYERS.add(Trigger.name, Trigger())
