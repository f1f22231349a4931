"""What a trained network computes per inference: parameters, multiplications, bit operations."""

from dataclasses import dataclass

import numpy as np

from codesign.ir import QuantizedNetwork
from codesign.layers import infer_formats
from hw_models.weights import odd_part_bits


@dataclass(frozen=True, kw_only=True)
class OperationCounts:
    """Counts per inference.

    Attributes:
        n_parameters: weights and biases, zeros included.
        n_nonzero_weights: weights that are not zero.
        n_multiplications: of the dense network, zeros included.
        flops: two per multiplication.
        bops: sum over weights of weight bits times data bits, zeros included (Baskin et al. 2021,
            arXiv:1804.10969, without the accumulator's term).
        ebops: sum over non-zero weights of the bits between their first and last one, sign excluded,
            times data bits (Sun et al. 2024, arXiv:2405.00645, section III.C).
    """

    n_parameters: int
    n_nonzero_weights: int
    n_multiplications: int
    flops: int
    bops: int
    ebops: int


def count_operations(network: QuantizedNetwork) -> OperationCounts:
    """Count what one inference of a quantized network takes."""
    ranges = infer_formats(network)
    parameters = nonzero = multiplications = bops = ebops = 0
    for node in network.network.nodes:
        words = network.weight_words.get(node.name)
        if words is None:
            continue
        data_bits = ranges[node.inputs[0]].format.bits
        parameters += words.size + network.bias_words[node.name].size
        nonzero += int((words != 0).sum())
        multiplications += words.size
        bops += words.size * network.weight_format[node.name].bits * data_bits
        magnitude_bits = np.maximum(odd_part_bits(words) - 1, 0)
        ebops += int(magnitude_bits.sum()) * data_bits
    return OperationCounts(
        n_parameters=parameters,
        n_nonzero_weights=nonzero,
        n_multiplications=multiplications,
        flops=2 * multiplications,
        bops=bops,
        ebops=ebops,
    )
