"""Conversions between units; the only place with factors of a thousand."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

PJ_PER_NJ = 1000.0
MHZ_NS = 1000.0


def cycles_to_ns(cycles: ArrayLike, clock_period_ns: ArrayLike) -> NDArray[np.float64]:
    """Convert a count of clock cycles to nanoseconds."""
    return np.asarray(cycles, dtype=np.float64) * np.asarray(clock_period_ns, dtype=np.float64)


def period_to_mhz(clock_period_ns: ArrayLike) -> NDArray[np.float64]:
    """Convert a clock period in nanoseconds to a frequency in MHz, to the millihertz (480, not 479.99999999999994)."""
    return np.round(MHZ_NS / np.asarray(clock_period_ns, dtype=np.float64), 9)


def mhz_to_period(clock_mhz: ArrayLike) -> NDArray[np.float64]:
    """Convert a frequency in MHz to a clock period in nanoseconds."""
    return MHZ_NS / np.asarray(clock_mhz, dtype=np.float64)


def pj_to_nj(energy_pj: ArrayLike) -> NDArray[np.float64]:
    """Convert picojoules to nanojoules."""
    return np.asarray(energy_pj, dtype=np.float64) / PJ_PER_NJ
