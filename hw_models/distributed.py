"""Distributed arithmetic: how much a constant matrix costs as a graph of adders, without solving it.

Fitted on 504 random matrices solved by alkaid 0.8.2 (3 to 96 inputs, 3 to 64 outputs, 2 to 10 bit
weights of three laws, 3 to 12 bit inputs, 0 to 90 % zeros): mean error 7.3 %, 5.6 % above 1000 LUT
(leave one matrix out).  `tests/benchmarks/bench_estimators.py` repeats the comparison on new ones.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

# log(cost / (adders * width)) = sum of these; subexpressions are shared more where there are more
# outputs and denser matrices
_COST_ONE = -0.632
_COST_N_OUT = -0.071
_COST_N_IN = -0.075
_COST_DIGITS = -0.083
_COST_DENSITY = -0.206
_COST_INPUT_BITS = 0.072
_COST_WEIGHT_BITS = 0.173

#: A cut through a solved graph crosses this many times its mean adder bits per level (mean over 36
#: cuts of random networks; standard deviation of the logarithm 0.22).
CUT_CROSSING = 2.38
#: Unit delays of one adder beside its carry chain (alkaid's delay model).
ADDER_DELAY = 1.09

#: Post-route LUT over adder cost, 20 published designs on a VU13P (JEDI-linear): with EBOPs
#: LUT = exp(0.190) * cost * (ebops / cost)^-0.498, 2.2 % mean error leaving one out; without, 1.05.
_POST_ROUTE_ONE, _POST_ROUTE_EBOPS, _POST_ROUTE_RATIO = 0.1903, -0.4984, 0.0493
_POST_ROUTE_RANGE = (1.18, 1.50)


def graph_cost(
    n_in: Array, n_out: Array, digits: Array, nonzero: Array, input_bits: Array, weight_bits: Array
) -> Array:
    """Predict the cost of a solved adder graph, in LUTs (bits of carry chains).

    cost = adders * width * exp(sum of logs); adders = digits - outputs that have any weight,
    width = input_bits + log2(digits per used output) / 2 + 1.

    Args:
        n_in, n_out: shape of the matrix.
        digits: canonical-signed-digit digits of all weights.
        nonzero: weights that are not zero.
        input_bits, weight_bits: widths.
    """
    present = np.maximum(nonzero, 1.0)
    used = n_out * -np.expm1(-present / n_out)
    adders = np.maximum(digits - used, 0.3)
    width = input_bits + 0.5 * np.log2(np.maximum(digits / used, 1.0)) + 1
    shared = (
        _COST_ONE
        + _COST_N_OUT * np.log(n_out)
        + _COST_N_IN * np.log(n_in)
        + _COST_DIGITS * np.log(np.maximum(digits / present, 1.0))
        + _COST_DENSITY * np.log(np.minimum(present / (n_in * n_out), 1.0))
        + _COST_INPUT_BITS * np.log(input_bits)
        + _COST_WEIGHT_BITS * np.log(weight_bits)
    )
    return np.where(nonzero > 0, adders * width * np.exp(shared), 0.0)


def graph_depth(n_out: Array, digits: Array, input_bits: Array, weight_bits: Array) -> Array:
    """Predict the depth of a solved adder graph in unit delays (mean error 1.05 of 8.6 on those matrices)."""
    per_output = digits / n_out
    depth = (
        -3.642
        + 1.906 * np.log2(per_output + 1)
        + 0.898 * np.log2(input_bits)
        + 0.312 * np.log2(n_out)
        + 0.252 * np.log2(weight_bits)
    )
    return np.maximum(depth, np.where(per_output > 1, ADDER_DELAY, 0.0))


def post_route_lut(adder_cost: ArrayLike, ebops: ArrayLike | None = None) -> Array:
    """Predict post-route LUT of an adder graph on UltraScale+ from its cost, and its EBOPs if known.

    Args:
        adder_cost: cost of the solved graph, any shape.
        ebops: effective bit operations (HGQ: sum over products of the two effective widths); NaN or
            None where unknown.  Outside the published designs' ratio the nearest end is used.
    """
    cost = np.asarray(adder_cost, dtype=np.float64)
    operations = (
        np.full_like(cost, np.nan) if ebops is None else np.asarray(ebops, dtype=np.float64)
    )
    ratio = np.clip(operations / np.maximum(cost, 1.0), *_POST_ROUTE_RANGE)
    with_ebops = _POST_ROUTE_ONE + _POST_ROUTE_EBOPS * np.log(ratio)
    return cost * np.exp(np.where(np.isnan(operations), _POST_ROUTE_RATIO, with_ebops))
