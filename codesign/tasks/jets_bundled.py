"""The jets that ship with codesign: 16 k for training, 4 k for testing, 16 features, 5 classes.

Simulated here with Pythia 8; a look-alike of the public LHC jet set, never to be reported as it.
"""

import json
from pathlib import Path

import numpy as np

from codesign.errors import DataError
from codesign.tasks._options import TaskOptions
from codesign.tasks._prepare import from_parts
from codesign.tasks.base import TASKS, Task, TaskData

_FOLDER = Path(__file__).resolve().parent / "data"
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
        path = _FOLDER / "jets_20k.npz"
        if not path.is_file():
            raise DataError(
                f"{path.name} is missing from this installation of codesign; reinstall it"
            )
        with np.load(path, allow_pickle=False) as file:
            x, y = file["x"], file["y"].astype(np.int64)
            features, classes = file["feature_names"].tolist(), file["class_names"].tolist()
        provenance = json.loads((_FOLDER / "jets_20k.json").read_text(encoding="utf-8"))
        return from_parts(
            name=self.name,
            benchmark="codesign-jets-v1",
            x_train=x[:N_TRAIN],
            y_train=y[:N_TRAIN],
            x_test=x[N_TRAIN:],
            y_test=y[N_TRAIN:],
            feature_names=features,
            class_names=classes,
            options=options,
            split=f"given: rows 0 to {N_TRAIN - 1} train, the rest test",
            provenance=provenance,
        )


TASKS.add(BundledJets.name, BundledJets())
