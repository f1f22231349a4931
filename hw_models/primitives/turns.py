"""What lets groups of an event take turns at the same logic, in plain RTL: waiting, gathering, spreading, delays.

Source: the Verilog that codesign writes (hls_templates/rtl/shared.v.j2), through Yosys (docs/hardware-models.md).
"""

from collections.abc import Mapping

import numpy as np

from hw_models.primitives.base import Array, Context, OpCost, OpParameter, Primitive

#: Codes of the parameter `kind`; only append.  wait: groups of the input that are not at work yet; sum, max: what a pool
#: has gathered so far; hold: what is spread over all groups; delay: results that a later phase reads.
KINDS = ("wait", "sum", "max", "hold", "delay")
_WAIT, _SUM, _MAX, _HOLD, _DELAY = range(len(KINDS))
#: LUT and FF per bit: an addition and a choice, a comparison and a choice, a choice; a shift register of 32 bits a LUT.
_LUT = np.array([0.0, 1.0, 2.0, 1.0, 1.0])
_FF = np.array([0.0, 1.0, 1.0, 1.0, 0.0])

PARAMETERS = (
    OpParameter(name="kind", unit="code of KINDS"),
    OpParameter(name="n_bits", unit="bits of an event that wait, or are gathered, held or delayed"),
    OpParameter(name="n_turns", unit="groups of an event"),
)


def cost(p: Mapping[str, Array], context: Context) -> OpCost:
    """Cost of m of these; a pool's interval is the turns it gathers.

    Of the waiting bits, those of the first group go straight to work: each bit is chosen between the new event and the
    register behind it, with two turns only the first group's.
    """
    kind, bits, turns = p["kind"].astype(np.intp), p["n_bits"], p["n_turns"]
    group = bits / turns
    is_wait = kind == _WAIT
    lut = np.where(is_wait, np.where(turns > 2, bits, group), _LUT[kind] * bits)
    ff = np.where(is_wait, bits - group, _FF[kind] * bits)
    zero = np.zeros_like(bits)
    return OpCost(
        latency_cycles=zero,
        interval_cycles=turns,
        depth_levels=zero,
        lut={"turns.logic": lut},
        ff={"turns.registers": ff},
    )


def is_barrier(p: Mapping[str, Array]) -> Array:
    """Return cycles of waiting behind each operation, at which the pipeline is cut too; NaN where there is no cut."""
    gathers = (p["kind"] == _SUM) | (p["kind"] == _MAX)
    return np.where(gathers, p["n_turns"], np.where(p["kind"] == _HOLD, 1.0, np.nan))


PRIMITIVE = Primitive(name="turns", parameters=PARAMETERS, cost=cost)
