"""Concatenation, reshape, clone: wires in io_parallel, a copy of every word in io_stream.

Source: hls4ml 1.3 nnet_stream.h (clone_stream), nnet_merge.h (concatenate).
"""

from collections.abc import Mapping

import numpy as np

from hw_models.primitives.base import Array, Context, OpCost, OpParameter, Primitive

PARAMETERS = (
    OpParameter(name="n_lanes", unit="lanes"),
    OpParameter(name="bits", unit="bits"),
    OpParameter(name="n_positions", unit="vectors per inference (stream)", default=1.0),
)


def cost(p: Mapping[str, Array], context: Context) -> OpCost:
    """Cost of m merges: nothing in io_parallel; control and registers in io_stream."""
    zero = np.zeros_like(p["n_lanes"])
    if not context.is_stream:
        return OpCost(
            latency_cycles=zero, interval_cycles=np.ones_like(zero), depth_levels=zero,
            input_bits=p["n_lanes"] * p["bits"] * p["n_positions"],
            cut_bits=p["n_lanes"] * p["bits"],
            output_bits=p["n_lanes"] * p["bits"],
        )  # fmt: skip
    return OpCost(
        latency_cycles=p["n_positions"] + 2,
        interval_cycles=p["n_positions"] + 1,
        depth_levels=zero,
        fill_cycles=np.full_like(zero, 2.0),
        # Vivado HLS chooses per channel (padding of 32 channels 1,249 LUT), Vitis once for the packed word
        lut={"merge.stream": 120.0 + (0.0 if context.tool == "vitis_hls" else 35.0) * p["n_lanes"]},
        ff={"merge.stream": np.full_like(zero, 18.0)},
    )


PRIMITIVE = Primitive(name="merge", parameters=PARAMETERS, cost=cost)
