"""Functions looked up in a table: sigmoid, tanh, elu, and softmax with its two tables and a sum.

Source: hls4ml 1.3 nnet_activation.h; module tables of the shared synthesis records.
"""

from collections.abc import Mapping

import numpy as np

from hw_models.primitives.base import (
    Array,
    Context,
    OpCost,
    OpParameter,
    Primitive,
    bram_18k_for,
    ceil_log2,
    stream_interval,
)
from hw_models.primitives.matvec import ADD_PJ_PER_BIT, SOFT_LOGIC_FACTOR

#: Codes of the parameter `kind`; only append.
KINDS = ("function", "softmax", "piecewise", "softmax_latency")

PARAMETERS = (
    OpParameter(name="n_lanes", unit="lanes"),
    OpParameter(name="input_bits", unit="bits"),
    OpParameter(name="output_bits", unit="bits"),
    OpParameter(name="table_size", unit="words"),
    OpParameter(name="kind", unit="code of KINDS", default=0.0),
    OpParameter(
        name="table_bits",
        unit="bits of a table word",
        unknown="output bits, at most 18",
        default=float("nan"),
    ),
    OpParameter(name="n_positions", unit="vectors per inference (stream)", default=1.0),
)

#: A table of at most this many bits is built from LUTs rather than a memory block.
LUT_TABLE_BITS = 1024.0


def cost(p: Mapping[str, Array], context: Context) -> OpCost:
    """Cost of m table look-ups; two lanes share a dual-ported block."""
    lanes, x, y = p["n_lanes"], p["input_bits"], p["output_bits"]
    is_softmax = (p["kind"] == 1) | (p["kind"] == 3)
    is_stable = p["kind"] == 1
    word = np.where(np.isnan(p["table_bits"]), np.minimum(y, 18.0), p["table_bits"])
    size = p["table_size"]
    small = (size * word <= LUT_TABLE_BITS) | context.is_rtl
    blocks = bram_18k_for(size, word)
    # Vitis gives each use of a softmax table its own copy (5 classes: 8 blocks, Vivado: 4); before 2022 every
    # class has one and the inversion none (2, 5 and 16 blocks for as many classes, 2021.1)
    is_vitis = context.tool == "vitis_hls"
    copies = np.where(is_softmax & is_vitis, 2.0, 1.0)
    halves = np.ceil(lanes / 2) * blocks + np.where(is_softmax, blocks, 0.0)
    each = is_softmax & is_vitis & bool(context.version < 2022)
    bram = np.where(small, 0.0, np.where(each, lanes * blocks, copies * halves))
    # 64 words of one bit fit a 6-input LUT
    table_lut = np.where(small, lanes * word * np.maximum(size / 64, 1.0), 0.0)
    # stable: every class is compared with every other (500 to 700 LUT for 5 classes, 1,700 to 3,100 for 10)
    glue = (
        np.where(
            is_stable,
            28.0 * lanes**1.8,
            np.where(is_softmax, 16.0, np.where(p["kind"] == 2, 72.0, 140.0)) * lanes,
        )
        * x
        / 16
    )
    softmax_sum = np.where(is_stable, lanes * 18.0, 0.0)
    # an exponent table, a tree of adds, an inversion table and a product
    family = context.family
    adder_ns = family.adder_ns * context.constant(f"adder_ns|{family.name}")
    per_cycle = np.maximum(context.usable_ns / adder_ns, 1.0)
    # on a slow fabric a comparison, its choice and a sum are levels of their own, and the product takes whole cycles
    softmax_levels = ceil_log2(lanes) + 2 * family.multiplier_levels
    if family.is_slow:
        product = np.ceil(family.multiplier_levels * adder_ns / context.usable_ns * (x + word) / 32)
        softmax_levels = 3 * ceil_log2(lanes) + 1 + product * per_cycle
    # elu and the like look up one half only and start no later than the others' second cycle
    lookup = np.where((p["kind"] != 2) & (context.tool == "vitis_hls"), 3.0, 2.0)
    cycles = np.where(is_stable, lookup + np.ceil(softmax_levels / per_cycle), lookup)
    vectors = p["n_positions"]
    stream = context.is_stream
    # Vitis looks up a cycle later: the address is registered too
    later = 10.0 if context.tool == "vitis_hls" else 0.0
    return OpCost(
        latency_cycles=np.where(vectors > 1, vectors + cycles + 1, cycles) if stream else cycles,
        interval_cycles=(
            np.where(vectors > 1, vectors + 1, stream_interval(cycles, context))
            if stream
            else np.ones_like(lanes)
        ),
        boundary_cycles=np.where(is_stable, 1.0, 0.0),
        input_bits=lanes * x,
        depth_levels=np.where(
            is_softmax, 6.0 + ceil_log2(lanes), 0.5 * np.maximum(np.log2(size) - 6, 1.0)
        ),
        fill_cycles=cycles,
        lut={
            "table.glue": np.zeros_like(lanes) if context.is_rtl else glue,
            "table.words": table_lut,
            "table.sum": softmax_sum,
        },
        ff={
            "table.registers": np.zeros_like(lanes)
            if context.is_rtl
            else lanes
            * np.where(
                is_stable,
                4.0 * word,
                np.where(is_softmax, word, np.where(p["kind"] == 2, 2.0 * x, x + later)),
            )
        },
        dsp={"table.softmax": np.where(is_softmax & (not context.is_rtl), lanes, 0.0)},
        bram_18k={"table.memory": bram},
        energy_pj=SOFT_LOGIC_FACTOR
        * ADD_PJ_PER_BIT
        * lanes
        * word
        * np.maximum(size / 64, 1.0)
        * vectors,
        cut_bits=lanes * y,
        output_bits=lanes * y,
    )


PRIMITIVE = Primitive(name="table", parameters=PARAMETERS, cost=cost)
