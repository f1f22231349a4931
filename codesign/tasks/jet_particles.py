"""The leading particles of simulated jets: class and pT of the jet, two heads."""

from typing import Literal

import numpy as np
from pydantic import Field

from codesign.errors import DataError
from codesign.tasks._bundled import BundledOptions, read_archive, read_bundled
from codesign.tasks._prepare import Truth, from_parts
from codesign.tasks.base import TASKS, Task, TaskData

_TEST_SHARE = 0.2
#: What is stored of a particle.
_STORED = ("pt", "eta", "phi")
#: What follows from it, its kind, and the other particles; angles are relative to the jet axis.
_DERIVED = (
    "log_pt", "pt_share", "log_pt_share", "distance", "pt_eta", "pt_phi", "pt_distance", "eta_turned", "phi_turned",
    "share_distance", "is_track", "is_electromagnetic", "is_hadronic",
)  # fmt: skip
_KINDS = (1, 2, 3)


class JetParticlesOptions(BundledOptions):
    """Options of the jets' particles.

    Attributes:
        path: a file of `codesign data generate jets --n-constituents 32`; the bundled one when left out.
        n_particles: how many of the leading particles, by pT.
        n_features: of each particle: 3 (pT, eta, phi), or 16 that a sender can compute of these and its kind.
        shape: "flat": one vector, particle after particle; "particles": [n_particles, n_features].
    """

    n_particles: int = Field(default=8, ge=1, le=1000)
    n_features: Literal[3, 16] = 3
    shape: Literal["flat", "particles"] = "flat"


class JetParticles(Task):
    """Simulated g, q, t, w and z jets by their leading particles."""

    name = "jet_particles"
    description = "bundled simulated jets: up to 32 leading particles x 3 (pT, eta, phi) or 16; heads class (5) and pt (GeV)"
    needs = "nothing, or a path"
    options_type = JetParticlesOptions

    def load(self, options: JetParticlesOptions) -> TaskData:
        """Load the bundled file, or a generated one; see `Task.load`."""
        where = f"task.{self.name}"
        is_bundled = options.path is None
        arrays, provenance = read_archive(
            options.path,
            bundled="jet_particles_20k",
            keys=("constituents", "kinematics", "y", "class_names"),
            where=where,
        )
        particles, kind, pt = _of(arrays, is_bundled=is_bundled)
        if particles.shape[1] < options.n_particles:
            raise DataError(
                f"{where}: n_particles is {options.n_particles}, the file has {particles.shape[1]} of each jet; lower it"
                + ("" if is_bundled else ", or generate more with --n-constituents")
            )
        x, fields = particles[:, : options.n_particles], list(_STORED)
        if options.n_features > len(_STORED):
            x, fields = with_derived(x, kind[:, : options.n_particles]), [*_STORED, *_DERIVED]
        names = fields
        if options.shape == "flat":
            names = [f"{field}_{i + 1}" for i in range(options.n_particles) for field in fields]
            x = x.reshape(len(x), -1)
        classes = tuple(arrays["class_names"].tolist())
        y = np.stack([arrays["y"].astype(np.float32), pt], axis=1)
        n_train = len(x) - round(_TEST_SHARE * len(x))
        size = str(options.n_particles) + (f"x{x.shape[-1]}" if len(fields) > 3 else "")
        return from_parts(
            name=self.name,
            benchmark=f"codesign-jet-particles-v1-{size}" if is_bundled else None,
            x_train=x[:n_train],
            y_train=y[:n_train],
            x_test=x[n_train:],
            y_test=y[n_train:],
            feature_names=names,
            class_names=classes,
            options=options,
            split=f"given: rows 0 to {n_train - 1} train, the rest test",
            provenance=provenance,
            truths=(
                Truth(name="class", kind="classes", names=classes),
                Truth(name="pt", kind="values", names=("pt",), units=("GeV",)),
            ),
        )


def _of(
    arrays: dict[str, np.ndarray], *, is_bundled: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return particles float32[n, k, 3], kinds int[n, k] and the jets' pT float32[n], in GeV.

    Generated particles are brought to the steps of the bundled ones: 0.5 GeV and 1/256.
    """
    if is_bundled:
        more, _ = read_bundled("jet_particles_20k_more")
        particles = np.concatenate([arrays["particles"], more["particles"]], axis=1)
        return particles.astype(np.float32), more["kind"], arrays["pt"]
    steps = np.array([0.5, 1 / 256, 1 / 256], dtype=np.float32)
    particles = np.rint(arrays["constituents"][..., :3] / steps) * steps
    return particles, arrays["constituents"][..., 3].astype(np.int8), arrays["kinematics"][:, 0]


def with_derived(particles: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """Append to pT, eta and phi what follows from them: float32[n, k, 16], zero where there is no particle.

    Shares are of the summed pT of the particles given; products of pT are in units of 64 GeV; angles are turned about
    the jet axis so that the second particle lies at phi 0.
    """
    pt, eta, phi = np.moveaxis(particles.astype(np.float32), -1, 0)
    is_there = pt > 0
    share = pt / np.maximum(pt.sum(axis=1, keepdims=True), 0.5)
    distance = np.hypot(eta, phi)
    second = slice(1, 2) if pt.shape[1] > 1 else slice(0, 1)
    angle = np.arctan2(phi[:, second], eta[:, second])
    cosine, sine = np.cos(angle), np.sin(angle)
    derived = [
        np.log2(np.maximum(pt, 0.5)),
        share,
        np.log2(np.maximum(share, 2.0**-12)),
        distance,
        pt * eta / 64,
        pt * phi / 64,
        pt * distance / 64,
        eta * cosine + phi * sine,
        phi * cosine - eta * sine,
        share * distance,
        *(kind == code for code in _KINDS),
    ]
    columns = np.stack([pt, eta, phi, *derived], axis=-1)
    return np.asarray(columns * is_there[..., None], dtype=np.float32)


TASKS.add(JetParticles.name, JetParticles())
