"""Product of two variables: what attention multiplies, where neither side is a constant of the design.

hls4ml 1.3 computes such products (nnet_einsum_dense.h, nnet_multiheadattention.h, nnet_merge.h: dot1d)
with the multipliers of `nnet::product::mult` under the same ALLOCATION limit as a dense layer of the
Resource strategy, so the laws of its multipliers and accumulators hold; no report of such a layer is
among the records, which the estimate says by an unfitted factor and the widest interval.
"""

from collections.abc import Mapping

import numpy as np

from hw_models.primitives.base import (
    Array,
    Context,
    OpCost,
    OpParameter,
    Primitive,
    ceil_log2,
    dsp_per_multiplier,
    dsp_share,
    rtl_dsp_share,
)
from hw_models.primitives.matvec import (
    ADD_PJ_PER_BIT,
    MULTIPLY_PJ_PER_BIT2,
    SOFT_LOGIC_FACTOR,
)

PARAMETERS = (
    OpParameter(name="n_in", unit="products of a sum"),
    OpParameter(name="n_out", unit="sums"),
    OpParameter(name="n_positions", unit="times per inference, one after another", default=1.0),
    OpParameter(name="n_instances", unit="copies working in parallel", default=1.0),
    OpParameter(name="reuse_factor", unit="multiplications per multiplier", default=1.0),
    OpParameter(name="input_bits", unit="bits of one side"),
    OpParameter(name="weight_bits", unit="bits of the other side"),
    OpParameter(
        name="accumulator_bits", unit="bits", unknown="every bit of the sum", default=float("nan")
    ),
    OpParameter(name="output_bits", unit="bits", unknown="accumulator bits", default=float("nan")),
)


def cost(p: Mapping[str, Array], context: Context) -> OpCost:
    """Cost of m products of two variables.

    multipliers = ceil(n_in n_out / reuse); each takes `dsp_per_multiplier` blocks where the area of its
    operands (in plain RTL the width of the product) asks for one, x y / 1.2 LUTs else; sums are trees of n_in / reuse terms.
    """
    x, y = p["input_bits"], p["weight_bits"]
    full = x + y + ceil_log2(p["n_in"])
    a = np.where(np.isnan(p["accumulator_bits"]), full, p["accumulator_bits"])
    total = p["n_in"] * p["n_out"]
    reuse = np.clip(p["reuse_factor"], 1.0, total)
    multipliers = np.ceil(total / reuse)
    share = rtl_dsp_share(x + y) if context.is_rtl else dsp_share(x, y)
    levels = ceil_log2(np.maximum(p["n_in"] / reuse, 1.0)) + context.family.multiplier_levels
    per_cycle = np.maximum(context.usable_ns / context.family.adder_ns, 1.0)
    cuts = np.maximum(np.ceil(levels / per_cycle) - 1, 0.0)
    once = reuse - 1 + cuts
    interval = reuse * p["n_positions"]
    copies = p["n_instances"]
    out = np.where(np.isnan(p["output_bits"]), a, p["output_bits"])
    return OpCost(
        latency_cycles=once + reuse * (p["n_positions"] - 1),
        interval_cycles=interval,
        fill_cycles=once,
        depth_levels=levels,
        boundary_cycles=np.ones_like(once),
        input_bits=(p["n_in"] * x + total * y) * p["n_positions"] * copies,
        lut={
            "product.accumulate": (a + 3) * np.maximum(multipliers - p["n_out"], 0.0) * copies,
            # an array multiplier: a row of y adders of x bits, two rows to a carry chain's LUT level
            "product.multiply": (1 - share) * multipliers * x * y / 1.2 * copies,
            # with reuse a multiplexer of both operands: four inputs of one bit a LUT
            "product.select": np.where(reuse > 1, (x + y) * multipliers * reuse / 4, 0.0) * copies,
        },
        ff={
            "product.output": p["n_out"] * out * copies,
            "product.operands": np.where(cuts > 0, (x + y) * multipliers, 0.0) * copies,
        },
        dsp={"product.multipliers": share * multipliers * dsp_per_multiplier(x, y) * copies},
        energy_pj=total
        * p["n_positions"]
        * copies
        * (MULTIPLY_PJ_PER_BIT2 * x * y + SOFT_LOGIC_FACTOR * ADD_PJ_PER_BIT * a),
        cut_bits=p["n_out"] * a * copies,
        output_bits=p["n_out"] * out * copies,
    )


PRIMITIVE = Primitive(name="product", parameters=PARAMETERS, cost=cost)
