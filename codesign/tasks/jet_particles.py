"""The leading particles of simulated jets: class and pT of the jet, two heads."""

from typing import Literal

import numpy as np

from codesign.tasks._bundled import read_bundled
from codesign.tasks._options import TaskOptions
from codesign.tasks._prepare import Truth, from_parts
from codesign.tasks.base import TASKS, Task, TaskData

_FIELDS = ("pt", "eta", "phi")
_TEST_SHARE = 0.2


class JetParticlesOptions(TaskOptions):
    """Options of the jets' particles.

    Attributes:
        n_particles: how many of the leading particles, by pT.
        shape: "flat": one vector, particle after particle; "particles": [n_particles, 3].
    """

    n_particles: Literal[8, 16] = 8
    shape: Literal["flat", "particles"] = "flat"


class JetParticles(Task):
    """Simulated g, q, t, w and z jets by their leading particles."""

    name = "jet_particles"
    description = "bundled simulated jets: 8 or 16 leading particles x (pT, eta, phi); heads class (5) and pt (GeV)"
    needs = "nothing"
    options_type = JetParticlesOptions

    def load(self, options: JetParticlesOptions) -> TaskData:
        """Load the bundled file; see `Task.load`."""
        arrays, provenance = read_bundled("jet_particles_20k")
        x = arrays["particles"][:, : options.n_particles].astype(np.float32)
        names = list(_FIELDS)
        if options.shape == "flat":
            names = [f"{field}_{i + 1}" for i in range(options.n_particles) for field in _FIELDS]
            x = x.reshape(len(x), -1)
        classes = tuple(arrays["class_names"].tolist())
        y = np.stack([arrays["y"].astype(np.float32), arrays["pt"]], axis=1)
        n_train = len(x) - round(_TEST_SHARE * len(x))
        return from_parts(
            name=self.name,
            benchmark=f"codesign-jet-particles-v1-{options.n_particles}",
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


TASKS.add(JetParticles.name, JetParticles())
