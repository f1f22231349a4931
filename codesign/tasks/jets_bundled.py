"""The jets that ship with codesign: 16 k for training, 4 k for testing, 16 features, 5 classes.

Simulated here with Pythia 8; a look-alike of the public LHC jet set, never to be reported as it.
"""

import numpy as np

from codesign.tasks._bundled import read_bundled
from codesign.tasks._options import TaskOptions
from codesign.tasks._prepare import from_parts
from codesign.tasks.base import TASKS, Task, TaskData

#: Rows up to here are for training, the rest for testing.
N_TRAIN = 16_000


class BundledJets(Task):
    """Simulated g, q, t, w and z jets of about 1 TeV."""

    name = "jets"
    description = "bundled simulated jets: 16 features, 5 classes, 16 k train, 4 k test (a look-alike, not OpenML)"
    needs = "nothing"
    options_type = TaskOptions

    def load(self, options: TaskOptions) -> TaskData:
        """Load the bundled file; see `Task.load`."""
        arrays, provenance = read_bundled("jets_20k")
        x, y = arrays["x"], arrays["y"].astype(np.int64)
        return from_parts(
            name=self.name,
            benchmark="codesign-jets-v1",
            x_train=x[:N_TRAIN],
            y_train=y[:N_TRAIN],
            x_test=x[N_TRAIN:],
            y_test=y[N_TRAIN:],
            feature_names=arrays["feature_names"].tolist(),
            class_names=arrays["class_names"].tolist(),
            options=options,
            split=f"given: rows 0 to {N_TRAIN - 1} train, the rest test",
            provenance=provenance,
        )


TASKS.add(BundledJets.name, BundledJets())
