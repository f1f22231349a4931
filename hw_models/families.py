"""Devices and tools as keys: which family a part belongs to, how fast it is, how tools treat the clock.

Sources of the timing constants: read from the shared synthesis records (latency of io_parallel
networks at known clocks); the fit rescales them (`timing` in the coefficients).
"""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hw_models.errors import UnsupportedError


@dataclass(frozen=True, kw_only=True)
class Family:
    """Speed of one device family.

    Attributes:
        name: key in coefficient files.
        adder_ns: delay of one 16-bit add level inside HLS, carry and net.
        multiplier_levels: delay of a DSP multiplication in units of add levels.
        rtl_level_ns: delay of one adder level in placed and routed RTL, net included.
        rtl_overhead_ns: clock to output plus set-up of a register in the fabric.
    """

    name: str
    adder_ns: float
    multiplier_levels: float
    rtl_level_ns: float
    rtl_overhead_ns: float

    @property
    def is_slow(self) -> bool:
        """Whether a 16-bit add and a comparison do not fit a 5 ns cycle together."""
        return self.adder_ns > 2.0


FAMILIES = {
    f.name: f
    for f in (
        Family(
            name="ultrascale_plus",
            adder_ns=0.85,
            multiplier_levels=2.5,
            rtl_level_ns=0.85,
            rtl_overhead_ns=0.3,
        ),
        Family(
            name="ultrascale",
            adder_ns=1.00,
            multiplier_levels=4.0,
            rtl_level_ns=1.05,
            rtl_overhead_ns=0.4,
        ),
        Family(
            name="series7",
            adder_ns=1.45,
            multiplier_levels=6.0,
            rtl_level_ns=1.40,
            rtl_overhead_ns=0.5,
        ),
        Family(
            name="zynq7000",
            adder_ns=2.90,
            multiplier_levels=3.0,
            rtl_level_ns=1.70,
            rtl_overhead_ns=0.6,
        ),
        Family(
            name="versal",
            adder_ns=0.70,
            multiplier_levels=2.5,
            rtl_level_ns=0.75,
            rtl_overhead_ns=0.3,
        ),
        Family(
            name="intel",
            adder_ns=1.00,
            multiplier_levels=3.0,
            rtl_level_ns=1.00,
            rtl_overhead_ns=0.4,
        ),
        Family(
            name="ecp5",
            adder_ns=2.40,
            multiplier_levels=6.0,
            rtl_level_ns=2.60,
            rtl_overhead_ns=0.9,
        ),
        Family(
            name="gowin",
            adder_ns=2.40,
            multiplier_levels=6.0,
            rtl_level_ns=2.60,
            rtl_overhead_ns=0.9,
        ),
    )
}

# Order matters: the first pattern that matches wins.  Patterns follow AMD's part naming (DS890, DS180, DS950).
_PATTERNS = (
    (r"xcv(p|m|c|e|h|n)\d|versal", "versal"),
    (
        r"xcup|xc(vu\d+p|ku\d+p|zu|u\d+|au\d+p|k26|vu\d+cg)|alveo|zcu\d|kv260|ultra96|ultrascale_?plus|^hls4ml$",
        "ultrascale_plus",
    ),
    (r"xc(vu|ku)\d+|^ultrascale$", "ultrascale"),
    # Zynq 7030 and above are Kintex fabric, below are Artix fabric (DS190, table 1)
    (r"xc7z0(30|35|45)|xc7z100|xc7(v|k)|series7|virtex7|kintex7", "series7"),
    (r"xc7(z|a|s)|pynq-z|zynq7000|artix7|zybo|cora", "zynq7000"),
    (r"^(lfe5|ecp5)", "ecp5"),
    (r"^gw|gowin", "gowin"),
    (r"^(10|1s|1a|5c|ep|ag)|arria|stratix|cyclone|agilex|intel", "intel"),
)


def family_of(part: str) -> Family:
    """Return the family of a part number, board or family name.

    Raises:
        UnsupportedError: the name follows no known scheme.
    """
    text = part.strip().lower()
    if text in FAMILIES:
        return FAMILIES[text]
    for pattern, name in _PATTERNS:
        if re.search(pattern, text):
            return FAMILIES[name]
    raise UnsupportedError(
        f"unknown device part {part!r}; expected an AMD part number such as 'xcvu13p-flga2577-2-e' "
        f"or a family ({', '.join(FAMILIES)}); pass the nearest family instead"
    )


#: Clock uncertainty that a tool subtracts when the project does not set one, as a share of the period
#: (AMD UG902 and UG1399, `set_clock_uncertainty`).
DEFAULT_UNCERTAINTY = {
    "vivado_hls": 0.125,
    "vitis_hls": 0.27,
    "alkaid": 0.10,
    "yosys": 0.10,
    "generic": 0.125,
}


def tool_key(name: str) -> str:
    """Normalise a tool's name ("Vivado HLS" -> "vivado_hls"); "hls4ml" back ends map to their compiler.

    Raises:
        UnsupportedError: no law was read from that tool.
    """
    text = re.sub(r"[\s-]+", "_", name.strip().lower())
    aliases = {
        "vivado": "vivado_hls", "vivadoaccelerator": "vivado_hls", "vitis": "vitis_hls", "vitisunified": "vitis_hls",
        "vitis_run": "vitis_hls", "da4ml": "alkaid", "pyosys": "yosys",
        "quartus": "generic", "intel_hls": "generic", "oneapi": "generic", "catapult": "generic", "libero": "generic",
    }  # fmt: skip
    key = aliases.get(text, text)
    if key not in DEFAULT_UNCERTAINTY:
        raise UnsupportedError(
            f"unknown synthesis tool {name!r}; expected one of {', '.join(sorted(DEFAULT_UNCERTAINTY))}; "
            "pass the compiler behind it, or 'generic'"
        )
    return key


def usable_period_ns(
    clock_period_ns: ArrayLike, clock_uncertainty_ns: ArrayLike, tool: str
) -> NDArray[np.float64]:
    """Return the period left for logic: the target minus the uncertainty, or the tool's default share.

    Args:
        clock_period_ns: target period, any shape.
        clock_uncertainty_ns: uncertainty, NaN where the project sets none.
        tool: key of the tool.
    """
    period = np.asarray(clock_period_ns, dtype=np.float64)
    uncertainty = np.asarray(clock_uncertainty_ns, dtype=np.float64)
    share = DEFAULT_UNCERTAINTY[tool_key(tool)]
    return period - np.where(np.isnan(uncertainty), share * period, uncertainty)


def adder_levels_per_cycle(clock_period_ns: ArrayLike, part: str) -> NDArray[np.float64]:
    """Return the latency cutoff, in adder levels per pipeline stage, that meets a clock in plain RTL.

    levels = max(1, (0.9 * clock_period_ns - rtl_overhead_ns) / rtl_level_ns)

    The exporter passes this number to alkaid as `latency_cutoff`, and the cost model divides the
    depth of the adder graph by it, so both speak of the same pipeline.

    Args:
        clock_period_ns: target period, any shape, above 0.
        part: device part or family.
    """
    family = family_of(part)
    period = np.asarray(clock_period_ns, dtype=np.float64)
    usable = (1 - DEFAULT_UNCERTAINTY["alkaid"]) * period - family.rtl_overhead_ns
    return np.maximum(usable / family.rtl_level_ns, 1.0)


def period_of_levels(levels: ArrayLike, part: str) -> NDArray[np.float64]:
    """Return the clock period at which `adder_levels_per_cycle` gives `levels`; its inverse above one level."""
    family = family_of(part)
    share = 1 - DEFAULT_UNCERTAINTY["alkaid"]
    return (
        np.asarray(levels, dtype=np.float64) * family.rtl_level_ns + family.rtl_overhead_ns
    ) / share


def version_number(version: str) -> float:
    """Return "2023.1" or "2019.2.1" as 2023.1 or 2019.2; NaN when it is no such version."""
    match = re.match(r"(\d{4})(?:\.(\d))?", version)
    return float("nan") if match is None else float(f"{match.group(1)}.{match.group(2) or 0}")
