"""Line buffer and window of a streaming convolution or pooling.

Source: hls4ml 1.3 nnet_conv_stream.h (shift_line_buffer, kernel_shift), checked on module tables of
the shared synthesis records.
"""

from collections.abc import Mapping

import numpy as np

from hw_models.primitives.base import Array, Context, OpCost, OpParameter, Primitive

PARAMETERS = (
    OpParameter(name="kernel_height", unit="pixels (1 for one-dimensional)"),
    OpParameter(name="kernel_width", unit="pixels"),
    OpParameter(name="n_channels", unit="channels"),
    OpParameter(name="bits", unit="bits"),
    OpParameter(name="image_width", unit="pixels of a padded row"),
    OpParameter(name="n_positions", unit="pixels of the padded input"),
)


def cost(p: Mapping[str, Array], context: Context) -> OpCost:
    """Cost of m line buffers.

    LUT of the lines: (kernel_height - 1) * channels * bits * ceil(width / 32), as shift registers
    (AMD UG574: SRLC32E); FF: window copies.
    """
    pixel_bits = p["n_channels"] * p["bits"]
    window = p["kernel_height"] * p["kernel_width"] * pixel_bits
    line = (p["kernel_height"] - 1) * pixel_bits * np.ceil(p["image_width"] / 32)
    zero = np.zeros_like(window)
    if not context.is_stream:
        return OpCost(latency_cycles=zero, interval_cycles=np.ones_like(zero), depth_levels=zero)
    return OpCost(
        latency_cycles=p["n_positions"],
        interval_cycles=p["n_positions"],
        depth_levels=zero,
        fill_cycles=zero,
        lut={"window.lines": line, "window.control": 200 + 0.25 * window},
        ff={"window.copies": 1.6 * window, "window.control": np.full_like(window, 300.0)},
    )


PRIMITIVE = Primitive(name="window", parameters=PARAMETERS, cost=cost)
