"""The fitted formula, once: from costs of laws and coefficients to the value of a target at csynth.

value = sum of exact terms + (sum of factor * term) * exp(sum of the offsets of the design's keys)

A fit minimises the error of this value (`calibration.fit.fit_target` holds its gradient), an estimate
returns it, shares of layers and the choice of experiments are its parts.
"""

from typing import TYPE_CHECKING

import numpy as np

from hw_models.coefficients import Coefficients
from hw_models.primitives.base import Array
from hw_models.types import MATVEC_STRATEGIES

if TYPE_CHECKING:
    from hw_models.compose import RawCosts

#: Resources, whose terms have factors; cycles have none.
RESOURCES = ("lut", "ff", "dsp", "bram_18k")
#: Size of each target below which errors are absolute, not relative: control that no law counts.  Intervals are
#: offsets of log(value + floor).  Plain RTL has no such control.
ERROR_FLOORS = {
    "latency_cycles": 1.0, "interval_cycles": 1.0, "lut": 200.0, "ff": 100.0, "dsp": 4.0, "bram_18k": 1.0,
}  # fmt: skip
#: Terms that are counted, not modelled: no factor, no offset.
EXACT_TERMS = ("design.input",)


def error_floor(target: str, *, is_rtl: bool) -> float:
    """Return what is added to a value before the logarithm of which an interval is an offset."""
    return 1.0 if is_rtl else ERROR_FLOORS[target]


def design_scale(raw: "RawCosts", target: str, coefficients: Coefficients) -> Array | float:
    """Return exp(sum of offsets) of each design, float[n], or one number where all have the same."""
    offset = coefficients.log_offset(target, raw.keys.names)
    known = coefficients.offsets.get(target, {})
    if any(f"strategy={name}" in known for name in MATVEC_STRATEGIES):
        table = np.array([known.get(f"strategy={name}", 0.0) for name in MATVEC_STRATEGIES] + [0.0])
        return np.asarray(np.exp(offset + table[raw.strategy]))
    return float(np.exp(offset))


def fitted_terms(raw: "RawCosts", target: str, coefficients: Coefficients) -> dict[str, Array]:
    """Return what each term adds to a resource, float[n] each."""
    scale = design_scale(raw, target, coefficients)
    return {
        term: amount if term in EXACT_TERMS else coefficients.factor(target, term) * amount * scale
        for term, amount in raw.terms[target].items()
    }


def fitted_value(raw: "RawCosts", target: str, coefficients: Coefficients) -> Array:
    """Return the value of a target at csynth, unrounded, float[n]."""
    if target in RESOURCES:
        value = np.zeros_like(raw.latency_cycles)
        for amount in fitted_terms(raw, target, coefficients).values():
            value += amount
        return value
    cycles = raw.latency_cycles if target == "latency_cycles" else raw.interval_cycles
    return cycles * design_scale(raw, target, coefficients)
