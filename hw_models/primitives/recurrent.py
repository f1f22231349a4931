"""State update of a GRU or LSTM beside its two matrix products: gates, products, state registers.

The products are `matvec` operations of the same stage with `n_positions` = time steps.
Source: hls4ml 1.3 nnet_recurrent.h; a dozen reports of three authors, so every estimate carries a note.
"""

from collections.abc import Mapping

import numpy as np

from hw_models.primitives.base import Array, Context, OpCost, OpParameter, Primitive, ceil_log2
from hw_models.primitives.matvec import MULTIPLY_PJ_PER_BIT2
from hw_models.types import MATVEC_STRATEGIES

PARAMETERS = (
    OpParameter(name="n_units", unit="state values"),
    OpParameter(name="n_gates", unit="3 for GRU, 4 for LSTM"),
    OpParameter(name="bits", unit="bits"),
    OpParameter(name="n_steps", unit="time steps"),
    OpParameter(name="reuse_factor", unit="cycles of the products of one step", default=1.0),
    OpParameter(name="strategy", unit="code of MATVEC_STRATEGIES", default=0.0),
    OpParameter(name="table_size", unit="words", default=1024.0),
)


def cost(p: Mapping[str, Array], context: Context) -> OpCost:
    """Cost of m recurrent updates: per step three products per unit (two in GRU) and gate tables."""
    units, gates, bits = p["n_units"], p["n_gates"], p["bits"]
    # A step is a chain: product and tree of the input, a table, the state's product and tree, another table,
    # a product and a sum.  Cycles beside the multipliers' reuse: Resource 10 (XCU250 and VU13P at 5 ns, reuse 1
    # and 30, 5 to 120 units), 20 on a Virtex 7; Latency 5 (4 units, XCU250), 16 (20 units, Virtex 7).
    family = context.family
    # 10 cycles are 51 levels of an UltraScale+ at 5 ns
    chain = 51.0 * family.adder_ns / context.usable_ns
    tree = ceil_log2(units + 1) + family.multiplier_levels
    unrolled = 4.3 * tree * family.adder_ns / context.usable_ns
    is_constant = (p["strategy"] != MATVEC_STRATEGIES.index("resource")) & (p["reuse_factor"] <= 1)
    step = p["reuse_factor"] + np.ceil(np.where(is_constant, unrolled, chain))
    return OpCost(
        latency_cycles=p["n_steps"] * step,
        interval_cycles=p["n_steps"] * step,
        depth_levels=np.full_like(units, 8.0),
        lut={"recurrent.gates": units * gates * 110.0 * bits / 16},
        ff={"recurrent.state": units * gates * bits * 3},
        dsp={"recurrent.products": units * np.where(gates == 4, 3.0, 2.0) * np.ceil(bits / 18)},
        bram_18k={"recurrent.tables": np.ceil(units * gates / 2)},
        energy_pj=p["n_steps"] * units * 3 * MULTIPLY_PJ_PER_BIT2 * bits**2,
    )


PRIMITIVE = Primitive(name="recurrent", parameters=PARAMETERS, cost=cost)
