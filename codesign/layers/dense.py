"""Fully connected layer: a matrix-vector product with constant weights and a bias, accumulated exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from codesign.ir import FixedPoint, Node, QuantizedNetwork, Tensors, covering_format
from codesign.layers import LAYERS
from codesign.layers._export import cpp_variable, exact
from codesign.layers.base import FloatColumns, Layer, Parameter, WordRange
from hw_models.lowering import WEIGHT_FACTS, Described, Product, sum_bits

if TYPE_CHECKING:
    from alkaid.trace import FVArray

    from codesign.layers._export import HlsGraph, OnnxGraph
    from codesign.layers._training import TrainModule, TrainNodes


class Dense(Layer):
    """y = x W + b without any rounding: the activation that follows rounds."""

    name = "dense"
    has_multipliers = True
    parameters = (
        Parameter(
            name="units", column="n_out", minimum=1, maximum=4096, description="number of outputs"
        ),
        Parameter(
            name="weight_bits",
            column="weight_bits",
            minimum=2,
            maximum=24,
            description="bits of each weight",
        ),
        Parameter(
            name="pruned_fraction",
            column="pruned_fraction",
            minimum=0.0,
            maximum=0.99,
            is_integer=False,
            default=0.0,
            description="share of weights forced to zero",
        ),
    )

    def propagate(self, parameters: FloatColumns, inputs: Sequence[Tensors]) -> Tensors:
        (source,) = inputs
        return replace(
            source,
            n_channels=parameters["n_out"],
            # worst case; training knows the weights and needs fewer bits
            bits=sum_bits(
                source.n_channels,
                parameters["pruned_fraction"],
                source.bits,
                parameters["weight_bits"],
            ),
            is_signed=np.ones_like(source.bits),
        )

    def describe(self, columns: FloatColumns) -> tuple[Described, ...]:
        return (
            Product(
                n_in=columns["n_in"],
                n_out=columns["n_out"],
                n_positions=columns["n_turns"],
                n_instances=columns["n_copies"],
                depth=columns["n_turns"],
                reuse_factor=columns["reuse_factor"],
                strategy=columns["strategy"],
                weight_bits=columns["weight_bits"],
                input_bits=columns["input_bits"],
                input_is_signed=columns["input_signed"],
                accumulator_bits=columns["output_bits"],
                output_bits=columns["output_bits"],
                zero_fraction=columns["pruned_fraction"],
                facts={name: columns[name] for name in WEIGHT_FACTS if name in columns},
            ),
        )

    def train_module(self, nodes: TrainNodes) -> TrainModule:
        from codesign.layers._train_dense import DenseModule

        return DenseModule(nodes)

    def infer(
        self, node: Node, network: QuantizedNetwork, inputs: Sequence[WordRange]
    ) -> WordRange:
        (source,) = inputs
        weights = network.weight_words[node.name]
        low = np.minimum(weights * source.low[:, None], weights * source.high[:, None]).sum(axis=0)
        high = np.maximum(weights * source.low[:, None], weights * source.high[:, None]).sum(axis=0)
        fraction, bias, shift = self._aligned_bias(node, network, source.format)
        low, high = (low << shift) + bias, (high << shift) + bias
        return WordRange(
            format=covering_format(int(low.min()), int(high.max()), fraction), low=low, high=high
        )

    @staticmethod
    def _aligned_bias(
        node: Node, network: QuantizedNetwork, source: FixedPoint
    ) -> tuple[int, NDArray[np.int64], int]:
        """Return the result's fraction bits, the bias words there, and the left shift of the products."""
        product_fraction = source.fraction_bits + network.weight_format[node.name].fraction_bits
        bias_fraction = network.bias_format[node.name].fraction_bits
        fraction = max(product_fraction, bias_fraction)
        bias = network.bias_words[node.name] << (fraction - bias_fraction)
        return fraction, bias, fraction - product_fraction

    def run_words(
        self,
        node: Node,
        network: QuantizedNetwork,
        inputs: Sequence[NDArray[np.int64]],
        formats: Sequence[FixedPoint],
        result: FixedPoint,
    ) -> NDArray[np.int64]:
        _, bias, shift = self._aligned_bias(node, network, formats[0])
        weights = network.weight_words[node.name]
        if (
            result.bits <= 53
        ):  # BLAS in float64 is exact here and far faster than NumPy's integer product
            products = np.rint(inputs[0].astype(np.float64) @ weights.astype(np.float64)).astype(
                np.int64
            )
        else:
            products = inputs[0] @ weights
        return (products << shift) + bias

    def torch_exact(
        self,
        node: Node,
        network: QuantizedNetwork,
        inputs: Sequence[torch.Tensor],
        result: FixedPoint,
    ) -> torch.Tensor:
        weights = network.weight_format[node.name].values_from_words(
            network.weight_words[node.name]
        )
        bias = network.bias_format[node.name].values_from_words(network.bias_words[node.name])
        return inputs[0] @ torch.from_numpy(weights) + torch.from_numpy(bias)

    def to_onnx(
        self,
        node: Node,
        network: QuantizedNetwork,
        graph: OnnxGraph,
        inputs: Sequence[str],
        result: FixedPoint,
    ) -> str:
        weights = graph.stored(
            f"{node.name}_weight", network.weight_words[node.name], network.weight_format[node.name]
        )
        bias = graph.stored(
            f"{node.name}_bias", network.bias_words[node.name], network.bias_format[node.name]
        )
        return graph.operator("Add", graph.operator("MatMul", inputs[0], weights), bias)

    def to_hls4ml(
        self,
        node: Node,
        network: QuantizedNetwork,
        graph: HlsGraph,
        inputs: Sequence[str],
        ranges: Sequence[WordRange],
    ) -> str:
        weight, bias = network.weight_format[node.name], network.bias_format[node.name]
        n_in, n_out = network.weight_words[node.name].shape
        accumulator = exact(ranges[-1].format)  # sums wrap modulo 2**bits on the way and end exact
        return graph.add(
            "Dense",
            node.name,
            inputs,
            precision={
                "weight": exact(weight),
                "bias": exact(bias),
                "accum": accumulator,
                "result": accumulator,
            },
            configuration=graph.hardware(node.name),
            n_in=n_in,
            n_out=n_out,
            use_bias=True,
            weight_data=weight.values_from_words(network.weight_words[node.name]),
            bias_data=bias.values_from_words(network.bias_words[node.name]),
        )

    def to_rtl(
        self, node: Node, network: QuantizedNetwork, inputs: Sequence[FVArray], result: FixedPoint
    ) -> FVArray:
        weights = network.weight_format[node.name].values_from_words(
            network.weight_words[node.name]
        )
        bias = network.bias_format[node.name].values_from_words(network.bias_words[node.name])
        lanes = _without_signed_bit_tables(inputs[0])
        lowest = np.array([lane.low for lane in np.asarray(lanes)], dtype=np.float64)
        highest = np.array([lane.high for lane in np.asarray(lanes)], dtype=np.float64)
        if not weights[
            lowest != highest
        ].any():  # alkaid cannot multiply when every product is a constant
            constants = lowest @ weights + bias
            return type(lanes)(constants, lanes.solver_options, hwconf=lanes.hwconf)
        return lanes @ weights + bias

    def to_cpp(self, node: Node, network: QuantizedNetwork, ranges: Mapping[str, WordRange]) -> str:
        (name,) = node.inputs
        source, result = ranges[name], ranges[node.name]
        fraction = result.format.fraction_bits
        weight, bias = network.weight_format[node.name], network.bias_format[node.name]
        product_shift = fraction - source.format.fraction_bits - weight.fraction_bits
        return (
            f"dense<B, {source.low.size}, {result.low.size}, {product_shift},"
            f" {fraction - bias.fraction_bits}>"
            f"({cpp_variable(name)}, {', '.join(self.cpp_constants(node, network, result.format))},"
            f" {cpp_variable(node.name)});"
        )

    def cpp_constants(
        self, node: Node, network: QuantizedNetwork, result: FixedPoint
    ) -> dict[str, NDArray[np.int64]]:
        return {
            f"weights_{node.name}": network.weight_words[node.name],
            f"bias_{node.name}": network.bias_words[node.name],
        }

    def examples(self) -> list[dict[str, Any]]:
        return [
            {"units": 3, "weight_bits": 4},
            {"units": 5, "weight_bits": 8, "pruned_fraction": 0.5},
        ]


def _without_signed_bit_tables(lanes: FVArray) -> FVArray:
    """Return lanes whose products alkaid solves with adders only if any of them is one signed bit.

    alkaid 0.8.2 packs one-bit lanes into the address of a look-up table and takes them for unsigned, so a
    lane of the values {-1, 0} ends in a failed assertion.
    """
    signed, integer_bits, fraction_bits = lanes.kif
    has_signed_bit = bool(((signed == 1) & (integer_bits + fraction_bits == 0)).any())
    options = {**(lanes.solver_options or {}), "binary_lut": not has_signed_bit}
    return type(lanes)(np.asarray(lanes), options, hwconf=lanes.hwconf)


LAYERS.add(Dense.name, Dense())
