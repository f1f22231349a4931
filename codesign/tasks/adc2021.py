"""ADC2021, anomaly detection at 40 MHz (Zenodo 5046389): HDF5 files of 19 objects x (pT, eta, phi, class).

Trained on background only; signals come from files of their own and are never trained on.  Rows are
read in slices: of files of millions of events, only those asked for.
"""

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from codesign.errors import DataError
from codesign.metrics import load_metric
from codesign.tasks._download import sha256_of
from codesign.tasks._hdf5 import dataset_of, open_hdf5
from codesign.tasks._level1_generator import FEATURES
from codesign.tasks._options import TaskOptions
from codesign.tasks._prepare import Truth, from_parts, require_path
from codesign.tasks._stand_ins import CLASSES, merged_crossings, wants_stand_ins, with_stand_ins
from codesign.tasks.base import TASKS, Check, Events, Task, TaskData
from codesign.tasks.level1 import teacher_view

_DATASET = "Particles"
#: Rows that the teacher learns from at most: more do not change its ranking.
_TEACHER_ROWS = 100_000


class Adc2021Options(TaskOptions):
    """Options of ADC2021.

    Attributes:
        path: the background file.
        signals: files of signals by name.
        n_background: background events read, from the front.
        n_signal: events of each signal read.
        test_fraction: share of the background events, the last ones, that are for testing.
        judged_by: metric of the score on the test set's events.
        rate_khz: rate that the background stands for, for metrics at a rate; 40,000: every crossing.
    """

    path: Path
    signals: dict[str, Path] = Field(min_length=1)
    n_background: int = Field(default=200_000, ge=10)
    n_signal: int = Field(default=50_000, ge=1)
    test_fraction: float = Field(default=0.4, gt=0.0, lt=1.0)
    judged_by: str | dict[str, Any] = "auc"
    rate_khz: float = Field(default=40_000.0, gt=0.0)


class Adc2021(Task):
    """ADC2021 from files of one's own."""

    name = "adc2021"
    description = "ADC2021 anomaly detection (HDF5, 57 inputs): background file and signal files; anomaly score taught by an autoencoder"
    needs = "a path"
    options_type = Adc2021Options

    def load(self, options: Adc2021Options) -> TaskData:
        """Load the files; see `Task.load`."""
        where = f"task.{self.name}"
        background = _read(options.path, options.n_background, where)
        parts = [
            _read(path, options.n_signal, f"{where}.signals.{name}")
            for name, path in options.signals.items()
        ]
        n_train = len(background) - round(options.test_fraction * len(background))
        if not 0 < n_train < len(background):
            raise DataError(
                f"{where}: {len(background)} background events leave none to train or to test on; give more"
            )
        x_test = np.concatenate([background[n_train:], *parts])
        labels = np.repeat(
            np.arange(1 + len(parts)), [len(background) - n_train, *(len(p) for p in parts)]
        )
        x_train = background[:n_train]
        checks: list[Check] = []
        y_train: np.ndarray
        y_test: np.ndarray
        if wants_stand_ins(options.heads):
            truth = Truth(name="anomaly", kind="anomaly", names=CLASSES)
            merged = merged_crossings(x_train, FEATURES, turn=2 * np.pi)
            x_train, y_train, _, said = with_stand_ins(x_train, merged, None)
            y_test, checks = (labels[:, None] > 0).astype(np.int64), [said]
        else:
            truth = Truth(name="score", kind="values", names=("anomaly",), units=("log2 error",))
            both = teacher_view(np.concatenate([x_train, x_test]), FEATURES)
            from codesign.tasks._anomaly_teacher import anomaly_scores  # needs torch

            score = anomaly_scores(both[: min(n_train, _TEACHER_ROWS)], both)[:, None]
            y_train, y_test = score[:n_train], score[n_train:]
        files = {"background": options.path, **options.signals}
        return from_parts(
            name=self.name,
            benchmark=None,
            x_train=x_train,
            y_train=y_train,
            x_test=x_test,
            y_test=y_test,
            feature_names=FEATURES,
            class_names=(),
            options=options,
            split=f"the first {n_train} background events train, {len(background) - n_train} and all signals test",
            provenance={
                "zenodo_record": 5046389,
                "files": {name: path.name for name, path in files.items()},
                "sha256": {name: sha256_of(path) for name, path in files.items()},
            },
            checks=checks,
            truths=(truth,),
            events=Events(
                labels=labels.astype(np.int64),
                names=("background", *options.signals),
                metric=load_metric(options.judged_by, where=f"{where}.judged_by"),
                rate_khz=options.rate_khz,
            ),
        )


def _read(path: Path, n_rows: int, where: str) -> np.ndarray:
    """Return float32 [n, 57]: pT, eta and phi of the 19 objects, without their class."""
    path = require_path(path, kind="file", where=where)
    with open_hdf5(path, where=where) as file:
        data = dataset_of(file, _DATASET, where=where)
        if data.ndim != 3 or data.shape[1:] != (19, 4):
            raise DataError(
                f"{where}: {path.name} holds {_DATASET} of shape {data.shape}; expected (n, 19, 4)"
            )
        if len(data) == 0:
            raise DataError(f"{where}: {path.name} holds no event; expected at least one")
        return np.asarray(data[:n_rows, :, :3], dtype=np.float32).reshape(-1, 57)


TASKS.add(Adc2021.name, Adc2021())
