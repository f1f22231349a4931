"""Pooling: the largest or the mean of each window.

Source: hls4ml 1.3 nnet_pooling.h, nnet_pooling_stream.h.
"""

from collections.abc import Mapping

import numpy as np

from hw_models.primitives.base import Array, Context, OpCost, OpParameter, Primitive, ceil_log2
from hw_models.primitives.matvec import ADD_PJ_PER_BIT, SOFT_LOGIC_FACTOR

#: Codes of the parameter `kind`; only append.
KINDS = ("max", "mean")

PARAMETERS = (
    OpParameter(name="kind", unit="code of KINDS"),
    OpParameter(name="n_lanes", unit="channels"),
    OpParameter(name="n_window", unit="values reduced to one"),
    OpParameter(name="n_outputs", unit="windows per inference"),
    OpParameter(name="bits", unit="bits"),
    OpParameter(name="n_positions", unit="pixels of the input", default=1.0),
)


def cost(p: Mapping[str, Array], context: Context) -> OpCost:
    """Cost of m poolings: (window - 1) compares or adds per lane; all windows at once in io_parallel."""
    copies = 1.0 if context.is_stream else p["n_outputs"]
    compares = p["n_lanes"] * (p["n_window"] - 1) * copies
    levels = ceil_log2(p["n_window"])
    # a comparison and a choice: 25 to 31 LUT at 6 bits, 45 at 16 (module tables of the shared records)
    control = 0.0 if context.is_rtl else np.where(p["kind"] == 0, 18.0, 3.0)
    lut = compares * (control + np.where(p["kind"] == 0, 1.5, 1.0) * p["bits"])
    energy = (
        SOFT_LOGIC_FACTOR
        * ADD_PJ_PER_BIT
        * p["n_lanes"]
        * p["n_window"]
        * p["n_outputs"]
        * p["bits"]
    )
    if context.is_stream:
        # a slow fabric takes two cycles a pixel at 5 ns (16,387 for 8,192 pixels on a Zynq-7020)
        slope = np.where(context.family.is_slow & (context.usable_ns < 6.0), 2.0, 1.0)
        per_bit = 2.0 if context.family.is_slow else 1.0
        return OpCost(
            latency_cycles=slope * p["n_positions"] + 4,
            interval_cycles=slope * p["n_positions"],
            depth_levels=levels,
            fill_cycles=np.full_like(lut, 4.0),
            lut={"reduce.compare": lut, "reduce.control": np.full_like(lut, 450.0)},
            ff={
                "reduce.window": p["n_lanes"] * p["n_window"] * (14 + per_bit * p["bits"]),
                "reduce.control": np.full_like(lut, 200.0),
            },
            energy_pj=energy,
        )
    # comparisons chain two to a level, additions do not; a cut sum registers all of its parts (10,792 FF for
    # 32 means of 16 values of 18 bits on a VU9P at 2.8 ns)
    is_mean = p["kind"] == 1
    share = np.where(is_mean, 1.0, 0.5) * context.family.adder_ns / context.usable_ns
    cycles = np.ceil(levels * share) - 1
    alive = np.where(is_mean & (cycles > 0), p["n_window"] - 1, cycles)
    # Where windows reach beyond the input, a mean has fewer values than the rest and Vivado HLS divides each by
    # its own count (489 and 521 LUT, 750 and 838 FF an output of 16 bits, 21 cycles; 2020.1)
    is_divided = is_mean & (p["n_outputs"] * p["n_window"] > p["n_positions"])
    is_divided &= context.tool == "vivado_hls"
    divided = np.where(is_divided, p["n_lanes"] * copies * p["bits"], 0.0)
    cycles = np.where(is_divided, p["bits"] + 5, cycles)
    return OpCost(
        latency_cycles=cycles,
        input_bits=p["n_positions"] * p["n_lanes"] * p["bits"],
        interval_cycles=np.ones_like(lut),
        depth_levels=levels,
        lut={"reduce.compare": lut, "reduce.divide": 31.5 * divided},
        ff={
            "reduce.window": p["n_lanes"] * copies * p["bits"] * alive,
            "reduce.divide": 50.0 * divided,
        },
        energy_pj=energy,
        cut_bits=p["n_lanes"] * copies * p["bits"],
        output_bits=p["n_lanes"] * copies * p["bits"],
    )


PRIMITIVE = Primitive(name="reduce", parameters=PARAMETERS, cost=cost)
