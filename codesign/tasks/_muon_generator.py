"""Simulate muon tracks in the four stations of an end cap: integers in, momentum and displacement out.

A detector toy, as array code, without any generator of collisions:

1. muons of both charges, flat in 1 / pT from 2 to 200 GeV, in 10 to 40 degrees of polar angle; half of
   them start up to 100 cm beside the beam line (long-lived parents);
2. a helix in a solenoid of 3.8 T up to 6.8 m, a straight line behind it, and multiple scattering in
   the iron in front of each station (Highland's formula, PDG review of particle physics 2024, eq. 34.16);
3. stations at 6.2, 8.3, 9.4 and 10.3 m that measure azimuth, polar angle and the local bend with finite
   resolution, miss 4 % of the muons and see noise instead of 1 % of them; tracks with three stations or
   more are kept.

An event is 21 integers: six differences of azimuth and six of polar angle between stations, four
bends, the first polar angle, and which stations were hit.  Differences with a missing station are 0.
Same seed, same bits.
"""

import io
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from codesign.errors import ConfigError
from codesign.files import write_atomically

_STATION_Z_M = np.array([6.2, 8.3, 9.4, 10.3])
_FIELD_T, _FIELD_END_M = 3.8, 6.8
#: Radiation lengths of iron (and, in front of the first station, calorimeters) before each station.
_RADIATION_LENGTHS = np.array([25.0, 35.0, 17.0, 17.0])
_PT_MIN_GEV, _PT_MAX_GEV, _D0_MAX_CM = 2.0, 200.0, 100.0
_THETA_RANGE_DEG = (10.0, 40.0)
_PHI_RESOLUTION, _THETA_RESOLUTION, _BEND_RESOLUTION = 0.3e-3, 2.0e-3, 8.0e-3
_INEFFICIENCY, _NOISE, _NOISE_WIDTH = 0.04, 0.01, 0.05
#: Units of the integers: radians.
UNITS = {"phi": np.pi / 10800, "theta": np.pi / 720, "bend": np.pi / 360}
_WORD_MAX = {"phi": 2047, "theta": 255, "bend": 127}
_PAIRS = tuple(combinations(range(4), 2))
FEATURES = (
    *(f"dphi_{a + 1}{b + 1}" for a, b in _PAIRS),
    *(f"dtheta_{a + 1}{b + 1}" for a, b in _PAIRS),
    *(f"bend_{i + 1}" for i in range(4)),
    "theta",
    *(f"hit_{i + 1}" for i in range(4)),
)


@dataclass(frozen=True, kw_only=True)
class Muons:
    """Generated muons.

    Attributes:
        x: int16 [n, 21] in the order of FEATURES and the units of UNITS.
        q_over_pt: float32 [n], charge over transverse momentum in 1/GeV.
        d0: float32 [n], signed distance of the straight start from the beam line in cm.
    """

    x: NDArray[np.int16]
    q_over_pt: NDArray[np.float32]
    d0: NDArray[np.float32]


def generate(n: int, *, seed: int) -> Muons:
    """Simulate until n muons are kept.

    Raises:
        ConfigError: n is below 1.
    """
    if n < 1:
        raise ConfigError(f"n is {n}; expected at least 1 muon")
    generator = np.random.default_rng(seed)
    parts: list[Muons] = []
    while sum(len(p.d0) for p in parts) < n:
        parts.append(_simulate(n, generator))
    return Muons(
        x=np.concatenate([p.x for p in parts])[:n],
        q_over_pt=np.concatenate([p.q_over_pt for p in parts])[:n],
        d0=np.concatenate([p.d0 for p in parts])[:n],
    )


def write_muons(muons: Muons, path: Path) -> None:
    """Write muons as the archive that the task `muons` reads."""
    content = io.BytesIO()
    np.savez_compressed(
        content, x=muons.x, q_over_pt=muons.q_over_pt, d0=muons.d0, feature_names=np.array(FEATURES)
    )
    write_atomically(path, content.getvalue())


def _simulate(n: int, generator: np.random.Generator) -> Muons:
    curvature = generator.uniform(1 / _PT_MAX_GEV, 1 / _PT_MIN_GEV, n)
    curvature *= generator.choice([-1.0, 1.0], n)
    d0_cm = generator.uniform(-_D0_MAX_CM, _D0_MAX_CM, n) * (generator.random(n) < 0.5)
    theta = np.deg2rad(generator.uniform(*_THETA_RANGE_DEG, n))
    azimuth = generator.uniform(-np.pi, np.pi, n)
    position, direction = track_of(curvature, d0_cm / 100.0, theta, azimuth, generator)
    measured = {
        "phi": np.arctan2(position[..., 1], position[..., 0]),
        "theta": np.arctan2(np.hypot(position[..., 0], position[..., 1]), _STATION_Z_M),
    }
    measured["bend"] = turned(direction - measured["phi"])
    for name, width in (
        ("phi", _PHI_RESOLUTION),
        ("theta", _THETA_RESOLUTION),
        ("bend", _BEND_RESOLUTION),
    ):
        is_noise = generator.random((n, 4)) < _NOISE
        spread = np.where(is_noise, _NOISE_WIDTH, width)
        measured[name] = measured[name] + spread * generator.standard_normal((n, 4))
    is_hit = generator.random((n, 4)) >= _INEFFICIENCY
    x = _words(measured, is_hit)
    kept = is_hit.sum(axis=1) >= 3
    return Muons(
        x=x[kept],
        q_over_pt=curvature[kept].astype(np.float32),
        d0=d0_cm[kept].astype(np.float32),
    )


def turned(angle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return angles brought into -pi to pi."""
    return np.asarray((angle + np.pi) % (2 * np.pi) - np.pi)


def track_of(
    curvature: NDArray[np.float64],
    d0_m: NDArray[np.float64],
    theta: NDArray[np.float64],
    azimuth: NDArray[np.float64],
    generator: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Follow muons through the stations.

    Args:
        curvature: float64[n], charge over transverse momentum, 1/GeV.
        d0_m: float64[n], distance of the start from the beam line.
        theta, azimuth: float64[n], of the start.
        generator: of the scattering.

    Returns:
        float64 [n, 4, 2] x and y (m), and float64 [n, 4] transverse direction, at each station.
    """
    n = len(theta)
    place = np.stack([-d0_m * np.sin(azimuth), d0_m * np.cos(azimuth)], axis=1)
    heading, slope = azimuth.copy(), np.tan(theta)
    momentum = 1.0 / (np.abs(curvature) * np.sin(theta))
    positions, directions = np.empty((n, 4, 2)), np.empty((n, 4))
    z = 0.0
    for station, z_station in enumerate(_STATION_Z_M):
        for stop in (min(z_station, max(z, _FIELD_END_M)), z_station):
            length = (stop - z) * slope
            # per metre of transverse path a particle turns by 0.3 B q / pT
            rate = -0.299792458 * _FIELD_T * curvature if z < _FIELD_END_M else 0.0 * curvature
            middle = heading + 0.5 * rate * length
            chord = length * np.sinc(0.5 * rate * length / np.pi)
            place = place + (chord * np.stack([np.cos(middle), np.sin(middle)])).T
            heading, z = heading + rate * length, stop
        positions[:, station] = place
        directions[:, station] = heading
        depth = _RADIATION_LENGTHS[station]
        kick = 13.6e-3 / momentum * np.sqrt(depth) * (1 + 0.038 * np.log(depth))
        heading = heading + kick / np.sin(theta) * generator.standard_normal(n)
        slope = slope + kick / np.cos(theta) ** 2 * generator.standard_normal(n)
    return positions, directions


def _words(
    measured: dict[str, NDArray[np.float64]], is_hit: NDArray[np.bool_]
) -> NDArray[np.int16]:
    def words(name: str, angle: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.clip(np.floor(angle / UNITS[name]), -_WORD_MAX[name] - 1, _WORD_MAX[name])

    columns = []
    for name in ("phi", "theta"):
        for a, b in _PAIRS:
            both = is_hit[:, a] & is_hit[:, b]
            difference = turned(measured[name][:, b] - measured[name][:, a])
            columns.append(np.where(both, words(name, difference), 0))
    columns += list((words("bend", measured["bend"]) * is_hit).T)
    first = is_hit.argmax(axis=1)
    columns.append(words("theta", measured["theta"][np.arange(len(first)), first]))
    columns += list(is_hit.T.astype(np.float64))
    return np.stack(columns, axis=1).astype(np.int16)
