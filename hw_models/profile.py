"""Operation counts of populations: parameters, FLOPs, BOPs, EBOPs, and energy, as arrays.

Definitions:
- FLOPs: two per multiplication by a weight that is not zero, one per bias and element-wise operation.
- BOPs of a matrix product: MACs * (w * x + x + w + log2(n_in)), dense layers counted in full (Baskin et
  al. 2021, UNIQ, doi:10.1145/3444943), zero weights removed.
- EBOPs: sum over the products by non-zero weights of effective weight bits * input bits (Chang et
  al. 2024, HGQ, arXiv:2405.00645), where a weight's effective bits lie between its first and last
  non-zero digit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hw_models.primitives import get_primitive
from hw_models.types import OpBatch
from hw_models.units import pj_to_nj

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class OperationCounts:
    """What a population computes, float[n_designs] each.

    Attributes:
        parameters: weights that are not zero, and biases.
        flops: floating-point operations of the same network.
        macs: multiply-accumulates by weights that are not zero.
        bops: bit operations at the declared widths.
        ebops: effective bit operations; from exact bits where given, from the declared width otherwise.
    """

    parameters: Array
    flops: Array
    macs: Array
    bops: Array
    ebops: Array


def count_operations(ops: Sequence[OpBatch], n_designs: int) -> OperationCounts:
    """Count the operations of every design of a population.

    Weights unknown: every weight that is not pruned counts with its declared width less its sign.
    """
    totals = {name: np.zeros(n_designs) for name in OperationCounts.__dataclass_fields__}

    def add(name: str, design: NDArray[np.int64], value: Array) -> None:
        totals[name] += np.bincount(design, value, minlength=n_designs)

    for op in ops:
        p = get_primitive(op.primitive).resolve(op.parameters, op.design.size)
        if op.primitive == "matvec":
            weights = p["n_in"] * p["n_out"] * (1 - np.nan_to_num(p["zero_fraction"]))
            products = weights * p["n_positions"] * p["n_instances"]
            biases = p["n_out"] * p["has_bias"]
            add("parameters", op.design, weights + biases)
            add("macs", op.design, products)
            add("flops", op.design, 2 * products + biases * p["n_positions"] * p["n_instances"])
            width = p["weight_bits"] * p["input_bits"] + p["weight_bits"] + p["input_bits"]
            add("bops", op.design, products * (width + np.log2(np.maximum(p["n_in"], 1))))
            declared = weights * np.maximum(p["weight_bits"] - 1, 1)
            bits = np.where(np.isnan(p["effective_bits"]), declared, p["effective_bits"])
            add("ebops", op.design, bits * p["input_bits"] * p["n_positions"] * p["n_instances"])
        elif op.primitive == "product":
            products = p["n_in"] * p["n_out"] * p["n_positions"] * p["n_instances"]
            add("macs", op.design, products)
            add("flops", op.design, 2 * products)
            width = p["weight_bits"] * p["input_bits"]
            add("ebops", op.design, products * width)
            add(
                "bops",
                op.design,
                products
                * (width + p["weight_bits"] + p["input_bits"] + np.log2(np.maximum(p["n_in"], 1))),
            )
        elif op.primitive == "reduce":
            add("flops", op.design, p["n_lanes"] * p["n_window"] * p["n_outputs"])
        elif "n_lanes" in p and op.primitive != "merge":
            add("flops", op.design, p["n_lanes"] * p["n_positions"])
    return OperationCounts(**totals)


#: Energy of one operation by width, picojoule at 45 nm and 0.9 V.
#: Source: Horowitz, ISSCC 2014, doi:10.1109/ISSCC.2014.6757323, figure 1.1.9.
ENERGY_45NM_PJ: Mapping[str, float] = {
    "float_add_16": 0.4, "float_add_32": 0.9, "float_multiply_16": 1.1, "float_multiply_32": 3.7,
}  # fmt: skip


def processor_energy_nj(counts: OperationCounts, *, precision: str = "float_32") -> Array:
    """Return the arithmetic energy of the same network on a processor: a lower bound, no memory traffic.

    Args:
        counts: of a population.
        precision: "float_32" or "float_16".
    """
    add, multiply = (
        ENERGY_45NM_PJ[f"float_{name}_{precision.split('_')[1]}"] for name in ("add", "multiply")
    )
    return pj_to_nj(
        counts.macs * (add + multiply) + np.maximum(counts.flops - 2 * counts.macs, 0) * add
    )
