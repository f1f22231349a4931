"""State update of a GRU or LSTM beside its two matrix products: gates, products, state registers.

The products are `matvec` operations of the same stage with `n_positions` = time steps.
Source: hls4ml 1.3 nnet_recurrent.h; two reports only, so every estimate carries a note.
"""

from collections.abc import Mapping

import numpy as np

from hw_models.primitives.base import Array, Context, OpCost, Parameter, Primitive
from hw_models.primitives.matvec import MULTIPLY_PJ_PER_BIT2

PARAMETERS = (
    Parameter(name="n_units", unit="state values"),
    Parameter(name="n_gates", unit="3 for GRU, 4 for LSTM"),
    Parameter(name="bits", unit="bits"),
    Parameter(name="n_steps", unit="time steps"),
    Parameter(name="reuse_factor", unit="cycles of the products of one step", default=1.0),
    Parameter(name="table_size", unit="words", default=1024.0),
)


def cost(p: Mapping[str, Array], context: Context) -> OpCost:
    """Cost of m recurrent updates: per step three products per unit (two in GRU) and gate tables."""
    units, gates, bits = p["n_units"], p["n_gates"], p["bits"]
    # constant weights: 6 cycles a step in all (an LSTM of 4 units on an XCU250 at 5 ns); shared multipliers
    # wait for the products, then for gates and state one after another
    step = p["reuse_factor"] + np.where(p["reuse_factor"] > 1, 14.0, 5.0)
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
