"""Muon momentum: regression of charge over pT and of displacement from four stations of an end cap."""

import numpy as np

from codesign.tasks._bundled import BundledOptions, read_archive
from codesign.tasks._prepare import Truth, from_parts
from codesign.tasks.base import TASKS, Task, TaskData

_TRAIN_SHARE = 0.8
_TRUTHS = (
    Truth(name="momentum", kind="values", names=("q_over_pt",), units=("1/GeV",)),
    Truth(name="displacement", kind="values", names=("d0",), units=("cm",)),
)


class Muons(Task):
    """Simulated muons in a toy end cap, in hardware integers."""

    name = "muons"
    description = "bundled muon toy: 21 integers of four stations; heads momentum (q/pT, 1/GeV) and displacement (d0, cm)"
    needs = "nothing"
    options_type = BundledOptions

    def load(self, options: BundledOptions) -> TaskData:
        """Load the bundled file, or one of `codesign data generate muons`; see `Task.load`."""
        keys = ("x", "q_over_pt", "d0", "feature_names")
        arrays, provenance = read_archive(
            options.path, bundled="muons_40k", keys=keys, where="task.muons"
        )
        n_train = round(_TRAIN_SHARE * len(arrays["x"]))
        x = arrays["x"].astype(np.float32)
        y = np.stack([arrays["q_over_pt"], arrays["d0"]], axis=1)
        return from_parts(
            name=self.name,
            benchmark=None if options.path else "codesign-muons-v1",
            x_train=x[:n_train],
            y_train=y[:n_train],
            x_test=x[n_train:],
            y_test=y[n_train:],
            feature_names=arrays["feature_names"].tolist(),
            class_names=(),
            options=options,
            split=f"given: rows 0 to {n_train - 1} train, the rest test",
            provenance=provenance,
            truths=_TRUTHS,
        )


TASKS.add(Muons.name, Muons())
