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

from hw_models.coefficients import Coefficients
from hw_models.errors import ModelError
from hw_models.primitives import get_primitive
from hw_models.types import DesignBatch, HardwareMetrics
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


def effective_bits(weight_words: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the bits between the first and the last one of each |integer|; 0 for zero."""
    magnitude = np.abs(np.asarray(weight_words, dtype=np.int64))
    odd = np.where(magnitude > 0, magnitude // np.maximum(magnitude & -magnitude, 1), 0)
    return np.where(odd > 0, np.frexp(odd.astype(np.float64))[1], 0).astype(np.int64)


def exact_ebops(weight_words: NDArray[np.integer], input_bits: int) -> float:
    """Return the EBOPs of one matrix of known weights and inputs of one width."""
    return float(effective_bits(weight_words).sum() * input_bits)


def count_operations(batch: DesignBatch) -> OperationCounts:
    """Count the operations of every design of a population.

    Weights unknown: every weight that is not pruned counts with its declared width less its sign.
    """
    n = batch.n_designs
    totals = {name: np.zeros(n) for name in ("parameters", "flops", "macs", "bops", "ebops")}

    def add(name: str, design: NDArray[np.int64], value: Array) -> None:
        totals[name] += np.bincount(design, value, minlength=n)

    for op in batch.ops:
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
            add(
                "ebops", op.design, products * np.maximum(p["weight_bits"] - 1, 1) * p["input_bits"]
            )
        elif "n_lanes" in p:
            lanes = p["n_lanes"] * p.get("n_positions", 1.0)
            if op.primitive != "merge":
                add("flops", op.design, lanes)
    return OperationCounts(**totals)


def fit_energy_scale(
    predicted: Sequence[HardwareMetrics], measured_nj: Sequence[Array], base: Coefficients
) -> float:
    """Return the multiplier of predicted energy that power reports ask for (median of the ratios).

    Args:
        predicted: estimates made with `base`.
        measured_nj: measured energy per inference of the same designs, float[n] each.
        base: coefficients whose scale was in the predictions.

    Raises:
        ModelError: nothing measured, or an energy that is not above 0.
    """
    ratios = [
        np.asarray(truth, dtype=float) / estimate.energy_nj
        for estimate, truth in zip(predicted, measured_nj, strict=True)
    ]
    joined = np.concatenate(ratios) if ratios else np.empty(0)
    if joined.size == 0 or not np.all(np.isfinite(joined)) or np.any(joined <= 0):
        raise ModelError(
            "energy calibration needs measured energies above 0 for designs with a predicted energy; "
            "give power (W) times interval (ns) per design"
        )
    return float(base.energy_scale * np.median(joined))


#: Energy of one operation by width, picojoule at 45 nm and 0.9 V.
#: Source: Horowitz, ISSCC 2014, doi:10.1109/ISSCC.2014.6757323, figure 1.1.9.
ENERGY_45NM_PJ: Mapping[str, float] = {
    "add_8": 0.03, "add_32": 0.1, "multiply_8": 0.2, "multiply_32": 3.1, "float_add_16": 0.4, "float_add_32": 0.9,
    "float_multiply_16": 1.1, "float_multiply_32": 3.7, "sram_8kb_64": 10.0, "dram_64": 1300.0,
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
