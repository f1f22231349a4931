"""Hits of muon chambers as an image, in the manner of ATLAS' thin-gap chambers: bits in, the track's angle out.

The toy of `_muon_generator` (curved to 6.8 m, scattered, displaced) passes three stations of 3, 2 and 2 layers of strips, each
layer shifted by a share of a strip. A window of 50 strips about the first station's hit is read; a strip fires
where a muon passes, 4 % of the layers miss it, and any other strip fires by noise. What is asked is the angle between
the track behind the solenoid and the radius, in mrad: the bend that tells momentum from one station on.

Nothing ships: the events are simulated when they are asked for. Same seed, same bits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from codesign.tasks._muon_generator import track_of, turned
from codesign.tasks._options import TaskOptions
from codesign.tasks._prepare import Truth, from_parts
from codesign.tasks.base import TASKS, Task, TaskData

N_STRIPS = 50
#: Layers of the three stations.
LAYERS_OF = (3, 2, 2)
#: Width of a strip in azimuth, mrad.
PITCH_MRAD = 4.0
_PT_MIN_GEV, _PT_MAX_GEV, _D0_MAX_CM = 4.0, 200.0, 10.0
_THETA_RANGE_DEG = (10.0, 40.0)
_INEFFICIENCY, _NOISE = 0.04, 0.002
#: Layers that must have fired: a coincidence of stations opens the window.
_LEAST_HITS = 5
_BENCHMARK = {"n_train": 24_000, "n_test": 6_000, "seed": 1}


class MuonHitsOptions(TaskOptions):
    """Options of the muon hits.

    Attributes:
        n_train, n_test: events to simulate.
        seed: of the simulation.
    """

    n_train: int = Field(default=_BENCHMARK["n_train"], ge=1, le=10_000_000)
    n_test: int = Field(default=_BENCHMARK["n_test"], ge=1, le=10_000_000)
    seed: int = Field(default=_BENCHMARK["seed"], ge=0, lt=2**32)


class MuonHits(Task):
    """Simulated muons as bits of strips."""

    name = "muon_hits"
    description = "simulated muon chambers: 50 strips x 7 layers of bits; head angle (mrad)"
    needs = "nothing"
    options_type = MuonHitsOptions

    def load(self, options: MuonHitsOptions) -> TaskData:
        """Simulate the events; see `Task.load`."""
        n_train = options.n_train
        x, angle = simulate(n_train + options.n_test, seed=options.seed)
        said = {"n_train": n_train, "n_test": options.n_test, "seed": options.seed}
        return from_parts(
            name=self.name,
            benchmark="codesign-muon-hits-v1" if said == _BENCHMARK else None,
            x_train=x[:n_train],
            y_train=angle[:n_train, None],
            x_test=x[n_train:],
            y_test=angle[n_train:, None],
            feature_names=[
                f"station_{station + 1}_layer_{layer + 1}"
                for station, n in enumerate(LAYERS_OF)
                for layer in range(n)
            ],
            class_names=(),
            options=options,
            split=f"given: events 0 to {n_train - 1} train, the rest test",
            provenance={"simulated by": "codesign.tasks.muon_hits", **said},
            truths=(Truth(name="angle", kind="values", names=("angle",), units=("mrad",)),),
        )


def simulate(n: int, *, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Simulate until n muons are kept.

    Returns:
        float32[n, 50, 7] bits of strips and layers, and float32[n] angles in mrad.
    """
    generator = np.random.default_rng(seed)
    images: list[NDArray[np.float32]] = []
    angles: list[NDArray[np.float32]] = []
    while sum(map(len, angles)) < n:
        image, angle = _simulate(min(n, 50_000), generator)
        images.append(image)
        angles.append(angle)
    return np.concatenate(images)[:n], np.concatenate(angles)[:n]


def _simulate(
    n: int, generator: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    curvature = generator.uniform(1 / _PT_MAX_GEV, 1 / _PT_MIN_GEV, n)
    curvature *= generator.choice([-1.0, 1.0], n)
    d0_m = generator.uniform(-_D0_MAX_CM, _D0_MAX_CM, n) / 100 * (generator.random(n) < 0.5)
    theta = np.deg2rad(generator.uniform(*_THETA_RANGE_DEG, n))
    azimuth = generator.uniform(-np.pi, np.pi, n)
    place, heading = track_of(curvature, d0_m, theta, azimuth, generator)
    phi = np.arctan2(place[..., 1], place[..., 0])
    # strips are counted from the middle of the window, which the first station's hit opens
    position = turned(phi[:, :3] - phi[:, :1]) * 1e3 / PITCH_MRAD + N_STRIPS / 2
    position += generator.uniform(-0.5, 0.5, (n, 1))  # where in its strip the track passes
    image = generator.random((n, N_STRIPS, sum(LAYERS_OF))) < _NOISE
    n_hits = np.zeros(n, dtype=np.int64)
    layer = 0
    for station, n_layers in enumerate(LAYERS_OF):
        for number in range(n_layers):
            strip = np.floor(position[:, station] + number / n_layers).astype(np.int64)
            fires = generator.random(n) >= _INEFFICIENCY
            fires &= (strip >= 0) & (strip < N_STRIPS)
            image[fires, strip[fires], layer] = True
            n_hits += fires
            layer += 1
    kept = n_hits >= _LEAST_HITS
    angle = turned(heading[:, 1] - phi[:, 1]) * 1e3
    return image[kept].astype(np.float32), angle[kept].astype(np.float32)


TASKS.add(MuonHits.name, MuonHits())
