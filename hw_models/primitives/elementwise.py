"""Operations on each lane alone: comparisons, rounding, adds, products.

Source: hls4ml 1.3 nnet_activation.h, nnet_merge.h; LUT per lane read from module tables of the
shared synthesis records (relu 28 LUT per 16-bit lane; to a saturated narrow type 72 LUT per lane).
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from hw_models.primitives.base import (
    Array,
    Context,
    OpCost,
    OpParameter,
    Primitive,
    rtl_dsp_share,
    stream_interval,
)
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

_QUANTIZE, _MULTIPLY = KINDS.index("quantize"), KINDS.index("multiply")
#: Bits of constant and data together from which a scale is a DSP.
_DSP_SCALE_BITS = 26.0
# LUT of a lane in HLS: [per input bit, per output bit, constant]
_LUT = np.array(
    [
        [0.5, 1.0, 4.0],  # relu: compare (13 LUT at 16 bits) and select by the result
        [0.0, 0.4, 0.0],  # leaky relu: 6 to 9 LUT a lane in nine reports, a shift and a choice
        [0.0, 0.0, 0.0],  # quantize: wires, unless it saturates
        [0.0, 1.0, 3.0],  # add
        [0.0, 1.0, 0.0],  # multiply: glue beside the DSP
        [1.0, 1.0, 0.0],  # scale by a constant
        [1.0, 2.0, 0.0],  # hard sigmoid: scale, add, clip
        [0.0, 0.0, 0.0],  # copy: wires
        [1.5, 1.0, 0.0],  # scale and shift (batch norm)
    ]
)
#: Kinds whose result is cut to its type at the end, with the comparisons of saturation.
_CUT = np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0])
#: LUT of saturating and rounding one lane, per input bit and constant: 44 to 57 in the module tables.
_SATURATE_PER_BIT, _SATURATE = 1.0, 30.0
# in the adder-graph RTL: [per input bit, per output bit, per dropped bit]; relu and saturation share one
# 6-input LUT per bit
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

#: Share of a cycle that a comparison takes, from which it no longer joins its neighbours.
_FULL_CYCLE = 0.6

PARAMETERS = (
    OpParameter(name="kind", unit="code of KINDS"),
    OpParameter(name="n_lanes", unit="lanes"),
    OpParameter(name="input_bits", unit="bits"),
    OpParameter(name="output_bits", unit="bits"),
    OpParameter(name="n_positions", unit="vectors per inference (stream)", default=1.0),
    OpParameter(name="saturates", unit="0 or 1: the result is clipped, not wrapped", default=1.0),
    OpParameter(name="reuse_factor", unit="lanes that share a multiplier", default=1.0),
    OpParameter(
        name="constant_bits",
        unit="bits of a scale's constants",
        unknown="output bits",
        default=float("nan"),
    ),
)


def _multipliers(
    p: Mapping[str, Array], kind: NDArray[np.int64], context: Context
) -> tuple[Array, Array, Array]:
    """Return DSPs, LUTs of products that are too narrow for one, and how many lanes wait for one multiplier.

    A product of two values is as wide as both; of a value and a constant of few bits none is a DSP (0 of 5 lanes
    of 8-bit constants and 16-bit data, 288 of 336 at 16 bits).  Multipliers are shared as a dense layer's: one
    batch norm of 24 lanes at reuse 24 has 1 DSP and takes 23 cycles.
    """
    lanes, x, y = p["n_lanes"], p["input_bits"], p["output_bits"]
    wider = np.maximum(x, y)
    constant = np.where(np.isnan(p["constant_bits"]), wider, p["constant_bits"])
    is_wide = np.where(kind == _MULTIPLY, 2 * wider >= 22, constant + x >= _DSP_SCALE_BITS)
    limit = np.ceil(lanes / np.clip(p["reuse_factor"], 1.0, lanes))
    shared = (limit < lanes) & (_DSP[kind] > 0) & (not context.is_rtl)
    queue = np.where(shared, np.ceil(lanes / limit), 1.0)
    in_dsp = (kind == _MULTIPLY) & (rtl_dsp_share(y) > 0) if context.is_rtl else is_wide
    dsp = np.where(in_dsp, _DSP[kind] * np.where(shared, limit, lanes), 0.0)
    # a narrow constant costs what it does in a dense layer
    each = np.where(kind == _MULTIPLY, 0.5 * x * y, 0.1 * x * constant)
    soft = np.where(in_dsp | (_DSP[kind] == 0), 0.0, each * lanes)
    return dsp, soft, queue


def cost(p: Mapping[str, Array], context: Context) -> OpCost:
    """Cost of m element-wise operations: lanes * (bits weighted by kind)."""
    kind = p["kind"].astype(np.int64)
    lanes, x, y = p["n_lanes"], p["input_bits"], p["output_bits"]
    if context.is_rtl:
        weight = _RTL_LUT[kind]
        dropped = np.minimum(np.maximum(x - y, 0.0), 2 * y)
        lut = lanes * (weight[:, 0] * x + weight[:, 1] * y + weight[:, 2] * dropped)
        saturate = np.zeros_like(lut)
    else:
        weight = _LUT[kind]
        # from 2023 on, Vitis counts x + 7 LUT for a comparison instead of x / 2 + 5
        recent = context.tool == "vitis_hls" and context.version >= 2023
        compare = np.where((kind == 0) & recent, 0.5 * x + 2, 0.0)
        lut = lanes * (weight[:, 0] * x + weight[:, 1] * y + weight[:, 2] + compare)
        saturate = (
            lanes * _CUT[kind] * p["saturates"] * (x > y) * (_SATURATE + _SATURATE_PER_BIT * x)
        )
    multiplies = _DSP[kind] > 0
    dsp, soft, queue = np.zeros_like(lanes), np.zeros_like(lanes), np.ones_like(lanes)
    if multiplies.any():
        dsp, soft, queue = _multipliers(p, kind, context)
    vectors = p["n_positions"]
    # a product that is too narrow for a DSP is done within the cycle of what surrounds it (8-bit constants of a
    # batch norm on a Zynq at 5 ns)
    cycles = np.where(soft > 0, 0.0, _CYCLES[kind]) + np.where(queue > 1, queue - 2, 0.0)
    if context.is_stream:
        # a slow fabric registers both ends of each lane, Vivado HLS on a fast one neither
        is_vitis = context.tool == "vitis_hls"
        registered = is_vitis or context.family.is_slow
        start = 3.0 if is_vitis else 4.0 if registered else 2.0
        return OpCost(
            latency_cycles=np.where(vectors > 1, vectors + start, 1) + cycles,
            interval_cycles=np.where(
                vectors > 1, vectors + 1, stream_interval(1 + cycles, context)
            ),
            fill_cycles=np.where(vectors > 1, start, 1) + cycles,
            depth_levels=_DEPTH[kind],
            lut={
                "elementwise.lanes": lut + soft,
                "elementwise.saturate": saturate,
                "elementwise.stream": np.where(vectors > 1, 110.0, 30.0)
                + (2.0 if is_vitis else 19.0) * lanes,
            },
            ff={"elementwise.stream": 20 + (x + y if registered else 0.0) * lanes},
            dsp={"elementwise.multipliers": dsp},
            energy_pj=SOFT_LOGIC_FACTOR * ADD_PJ_PER_BIT * lanes * y * vectors,
        )
    if not context.is_rtl:
        # where a comparison fills most of a cycle (a Zynq-7020 at 5 ns, saturation at 3.3 ns), it gets a
        # stage of its own before and behind
        clips = _CUT[kind] * (1 + p["saturates"] * (x > y))
        share = clips * context.family.adder_ns / context.usable_ns
        cycles = cycles + np.where(share > _FULL_CYCLE, 2.0, 0.0)
    return OpCost(
        latency_cycles=cycles,
        input_bits=lanes * x,
        interval_cycles=queue,
        depth_levels=_DEPTH[kind],
        lut={"elementwise.lanes": lut + soft, "elementwise.saturate": saturate},
        # without a stage of its own the result is registered at one layer boundary in two; a word that
        # keeps its width is wires
        ff={
            "elementwise.registers": np.where(
                (kind == _QUANTIZE) & (x == y), 0.0, np.where(cycles > 0, 1.0, 0.5) * lanes * y
            )
        }
        if not context.is_rtl
        else {},
        dsp={"elementwise.multipliers": dsp},
        energy_pj=lanes
        * vectors
        * (
            multiplies * MULTIPLY_PJ_PER_BIT2 * x * y
            + SOFT_LOGIC_FACTOR * ADD_PJ_PER_BIT * _ADDS[kind] * y
        ),
        cut_bits=lanes * y,
        output_bits=lanes * y,
    )


PRIMITIVE = Primitive(name="elementwise", parameters=PARAMETERS, cost=cost)
