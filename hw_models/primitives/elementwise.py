"""Operations on each lane alone: comparisons, rounding, adds, products.

Source: hls4ml 1.3 nnet_activation.h, nnet_merge.h; LUT per lane read from module tables of the
shared synthesis records (relu 28 LUT per 16-bit lane; to a saturated narrow type 72 LUT per lane).
"""

from collections.abc import Mapping

import numpy as np

from hw_models.primitives.base import Array, Context, OpCost, Parameter, Primitive, stream_interval
from hw_models.primitives.matvec import ADD_PJ_PER_BIT, MULTIPLY_PJ_PER_BIT2, SOFT_LOGIC_FACTOR

#: Codes of the parameter `kind`; the order is a file format: only append.
KINDS = (
    "relu",
    "leaky_relu",
    "quantize",
    "add",
    "multiply",
    "scale",
    "hard_sigmoid",
    "copy",
    "scale_shift",
)

# LUT per bit of a lane: [per input bit, per output bit, per dropped bit (saturation and rounding logic)]
_LUT = np.array(
    [
        [0.0, 1.8, 1.2],  # relu: select by the sign
        [0.0, 0.4, 1.2],  # leaky relu: 6 to 9 LUT a lane in nine reports, a shift and a choice
        [0.0, 1.0, 1.2],  # quantize: saturate
        [0.0, 1.0, 0.0],  # add
        [0.0, 1.0, 0.0],  # multiply: glue beside the DSP
        [1.0, 1.0, 0.0],  # scale by a constant
        [1.0, 2.0, 0.0],  # hard sigmoid: scale, add, clip
        [0.0, 0.0, 0.0],  # copy: wires
        [1.5, 1.0, 0.0],  # scale and shift (batch norm)
    ]
)
# the same in the adder-graph RTL: relu and saturation share one 6-input LUT per bit
_RTL_LUT = np.array(
    [
        [0.0, 0.55, 0.15], [1.0, 1.0, 0.15], [0.0, 0.50, 0.15], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0],
        [1.5, 0.0, 0.0], [1.0, 1.0, 0.15], [0.0, 0.0, 0.0], [2.0, 0.0, 0.0],
    ]
)  # fmt: skip
_DEPTH = np.array([0.5, 1.5, 0.5, 1.0, 4.0, 2.0, 2.0, 0.0, 3.0])
_CYCLES = np.array([0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 1.0])
_DSP = np.array([0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0])
_ADDS = np.array([0.3, 1.0, 0.3, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0])

PARAMETERS = (
    Parameter(name="kind", unit="code of KINDS"),
    Parameter(name="n_lanes", unit="lanes"),
    Parameter(name="input_bits", unit="bits"),
    Parameter(name="output_bits", unit="bits"),
    Parameter(name="n_positions", unit="vectors per inference (stream)", default=1.0),
)


def cost(p: Mapping[str, Array], context: Context) -> OpCost:
    """Cost of m element-wise operations: lanes * (bits weighted by kind)."""
    kind = p["kind"].astype(np.int64)
    lanes, x, y = p["n_lanes"], p["input_bits"], p["output_bits"]
    weight = (_RTL_LUT if context.is_rtl else _LUT)[kind]
    dropped = np.maximum(x - y, 0.0)
    lut = lanes * (weight[:, 0] * x + weight[:, 1] * y + weight[:, 2] * np.minimum(dropped, 2 * y))
    is_wide = 2 * np.maximum(x, y) >= 22
    dsp = lanes * np.where(is_wide & (not context.is_rtl), _DSP[kind], 0.0)
    soft = np.where(is_wide & (not context.is_rtl) | (_DSP[kind] == 0), 0.0, 0.5 * x * y * lanes)
    vectors = p["n_positions"]
    cycles = _CYCLES[kind]
    multiplies = np.where(_DSP[kind] > 0, MULTIPLY_PJ_PER_BIT2 * x * y, 0.0)
    if context.is_stream:
        return OpCost(
            latency_cycles=np.where(vectors > 1, vectors + 3, 1) + cycles,
            interval_cycles=np.where(
                vectors > 1, vectors + 1, stream_interval(1 + cycles, context)
            ),
            fill_cycles=np.where(vectors > 1, 3, 1) + cycles,
            depth_levels=_DEPTH[kind],
            lut={
                "elementwise.lanes": lut + soft,
                "elementwise.stream": 140
                + (1.0 if context.tool == "vitis_hls" else 3.0) * lanes * y,
            },
            # Vitis registers both ends of each lane, Vivado HLS hardly any (2064 and 326 FF for 64 x 16)
            ff={
                "elementwise.stream": 20 + (2.0 if context.tool == "vitis_hls" else 0.3) * lanes * y
            },
            dsp={"elementwise.multipliers": dsp},
            energy_pj=SOFT_LOGIC_FACTOR * ADD_PJ_PER_BIT * lanes * y * vectors,
        )
    return OpCost(
        latency_cycles=cycles,
        input_bits=lanes * x,
        interval_cycles=np.ones_like(lanes),
        depth_levels=_DEPTH[kind],
        lut={"elementwise.lanes": lut + soft},
        ff={"elementwise.registers": cycles * lanes * y} if not context.is_rtl else {},
        dsp={"elementwise.multipliers": dsp},
        energy_pj=lanes
        * vectors
        * (multiplies + SOFT_LOGIC_FACTOR * ADD_PJ_PER_BIT * _ADDS[kind] * y),
        cut_bits=lanes * y,
        output_bits=lanes * y,
    )


PRIMITIVE = Primitive(name="elementwise", parameters=PARAMETERS, cost=cost)
