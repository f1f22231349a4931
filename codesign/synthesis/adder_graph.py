"""Exact costs of distributed arithmetic: constant matrices solved as adder graphs (alkaid).

The fast cost of a population lives in `hw_models`; this is what it is calibrated against.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from codesign.errors import DesignError


@dataclass(frozen=True, kw_only=True)
class ConstantMatrix:
    """One matrix of constants and the range of the integers that it multiplies.

    Attributes:
        weights_in_out: int[n_in, n_out]; the scale (a power of two) does not change the cost.
        input_low: int[n_in] or one int, smallest raw input word.
        input_high: int[n_in] or one int, largest raw input word.
    """

    weights_in_out: NDArray[np.int64]
    input_low: ArrayLike
    input_high: ArrayLike


@dataclass(frozen=True, kw_only=True)
class AdderGraphCost:
    """What the solved adder graph of one matrix costs.

    Attributes:
        adder_cost: LUTs of its adders, in bits of carry chain (alkaid's cost).
        n_adders: two-input adders and subtractors.
        delay: alkaid's delay of the slowest output, about one unit per adder level plus carries.
    """

    adder_cost: float
    n_adders: int
    delay: float


def solve_adder_graph(matrix: ConstantMatrix) -> AdderGraphCost:
    """Solve one constant matrix as an adder graph.

    Raises:
        DesignError: the matrix is no integer matrix, or the input range does not fit it.
    """
    from alkaid.cmvm import cmvm_solve

    weights = np.asarray(matrix.weights_in_out)
    if weights.ndim != 2 or weights.size == 0 or not np.issubdtype(weights.dtype, np.integer):
        raise DesignError(
            f"adder graph: expected an integer matrix (n_in, n_out), got {weights.dtype} of shape "
            f"{weights.shape}; scale fixed-point weights to raw integers first"
        )
    if np.abs(weights).max() >= 2**24:
        raise DesignError(
            "adder graph: a weight needs more than 24 bits, which the solver would round; use fewer bits"
        )
    low = np.broadcast_to(np.asarray(matrix.input_low, dtype=np.float64), (weights.shape[0],))
    high = np.broadcast_to(np.asarray(matrix.input_high, dtype=np.float64), (weights.shape[0],))
    if np.any(low > high):
        raise DesignError("adder graph: an input's low end lies above its high end; swap them")
    live = np.any(weights != 0, axis=1) & ((low != 0) | (high != 0))
    if not live.any():
        return AdderGraphCost(adder_cost=0.0, n_adders=0, delay=0.0)
    intervals = [(float(a), float(b), 1.0) for a, b in zip(low[live], high[live], strict=True)]
    stages = cmvm_solve(
        np.ascontiguousarray(weights[live].astype(np.float32)),
        qintervals=intervals,
        latencies=[0.0] * len(intervals),
    )
    return AdderGraphCost(
        adder_cost=math.fsum(op.cost for stage in stages for op in stage.ops),
        n_adders=sum(op.opcode in (0, 1) for stage in stages for op in stage.ops),
        delay=float(stages[-1].latency[1]),
    )
