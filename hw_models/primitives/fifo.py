"""FIFO between two layers of an io_stream design.

Source: Vivado HLS writes one FIFO per channel: shift registers up to 16 deep, else memory of
ceil(bits / 18) * 2^ceil(log2(depth / 1024)) blocks (13,958 of 13,958 FIFOs of the shared synthesis
records, 2020.1); Vitis packs the channels into one word.
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
)

PARAMETERS = (
    OpParameter(name="n_channels", unit="channels"),
    OpParameter(name="bits", unit="bits"),
    OpParameter(name="depth", unit="words"),
)


def cost(p: Mapping[str, Array], context: Context) -> OpCost:
    """Cost of m FIFOs."""
    channels, bits, depth = p["n_channels"], p["bits"], p["depth"]
    stack = 2.0 ** ceil_log2(depth / 1024)
    if context.tool == "vitis_hls":
        total = channels * bits
        in_memory = (depth * total > 1024) & (depth > 16)
        bram = np.where(in_memory, bram_18k_for(depth, total), 0.0)
        n_fifos = np.ones_like(channels)
        # before 2023 both ends of the word are registered, shallow or not
        ends = 2.0 if context.version < 2023 else 0.0
        registers = 12 + np.where(in_memory, np.maximum(ends, 1.0), ends) * total
        shift = 30 + np.where(in_memory, 1.0, 0.85 * ends) * total
    else:
        in_memory = depth > 16
        bram = np.where(in_memory, channels * np.ceil(bits / 18) * stack, 0.0)
        n_fifos = channels
        # what reports count outside their modules: 34 to 48 LUT a channel, deep or not
        registers, shift = np.where(in_memory, bits + 24.0, 6.0), np.full_like(bits, 40.0)
    zero = np.zeros_like(channels)
    return OpCost(
        latency_cycles=zero,
        interval_cycles=np.ones_like(zero),
        depth_levels=zero,
        lut={"fifo.control": n_fifos * shift},
        ff={"fifo.registers": n_fifos * registers},
        bram_18k={"fifo.memory": bram},
    )


PRIMITIVE = Primitive(name="fifo", parameters=PARAMETERS, cost=cost)
