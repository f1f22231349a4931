"""Level-1 objects for anomaly detection: trained on background only, judged on signals never seen."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from codesign.errors import ConfigError, DataError, unknown_name
from codesign.metrics import load_metric
from codesign.tasks._bundled import BundledOptions, read_archive
from codesign.tasks._level1_generator import PT_WORD_MAX, UNITS
from codesign.tasks._prepare import Truth, from_parts
from codesign.tasks._stand_ins import CLASSES, merged_crossings, wants_stand_ins, with_stand_ins
from codesign.tasks.base import TASKS, Events, Task, TaskData

_KEYS = ("x", "process", "collision", "rate_khz_of_process", "process_names")
#: Of every five hard collisions of a background, so many are for training.
_TRAIN_OF_FIVE = 3
SIGNALS = ("h_tautau", "h_4l", "leptoquark", "charged_higgs")
#: Words of a full turn.
PHI_TURN = round(2 * np.pi / UNITS["phi"])


class Level1Options(BundledOptions):
    """Options of the level-1 objects.

    Attributes:
        background: "events": every background event counts alike, so that the shares of processes are
            those simulated; "rates": by the rate that it stands for, which jets dominate.
        signals: which signals the test set holds, each with as many events as it has.
        judged_by: metric of the score on the test set's events: a name, or a mapping with name and
            options; `input_rate_khz` follows from the data where it is left out.
    """

    background: Literal["events", "rates"] = "events"
    signals: tuple[str, ...] = SIGNALS
    judged_by: str | dict[str, Any] = "auc"


class Level1(Task):
    """Simulated MET, electrons, muons and jets of a Level-1 trigger, in hardware integers."""

    name = "level1"
    description = (
        "bundled level-1 objects: 57 integers (MET, 4 e, 4 mu, 10 jets); anomaly score of the chip's own, or taught by an"
        " autoencoder, judged on 4 unseen signals (a look-alike, not ADC2021)"
    )
    needs = "nothing"
    options_type = Level1Options

    def load(self, options: Level1Options) -> TaskData:
        """Load the bundled file, or one of `codesign data generate level1`; see `Task.load`."""
        where = f"task.{self.name}"
        keys = [*_KEYS, "feature_names", "teacher_score"]
        arrays, provenance = read_archive(
            options.path, bundled="level1_28k", keys=keys, where=where
        )
        names = arrays["process_names"].tolist()
        for signal in options.signals:
            if signal not in names:
                raise DataError(f"{where}.signals: {unknown_name('signal', signal, names)}")
        if not options.signals:
            raise ConfigError(
                f"{where}.signals is empty; name at least one, so that scores are judged"
            )
        process = arrays["process"].astype(np.int64)
        labels = np.zeros(len(names), dtype=np.int64) - 1
        for index, name in enumerate(names):
            if name not in SIGNALS:
                labels[index] = 0
            elif name in options.signals:
                labels[index] = 1 + options.signals.index(name)
        labels = labels[process]
        is_train = is_trained_on(process, arrays["collision"], names)
        is_test = (labels >= 0) & ~is_train
        rates = arrays["rate_khz_of_process"][process].astype(np.float64)
        total_khz = float(rates[labels == 0].sum())
        weights = None
        if options.background == "rates":
            weights = np.where(labels == 0, rates, 1.0)
        x = arrays["x"].astype(np.float32)
        features = arrays["feature_names"].tolist()
        y = arrays["teacher_score"].astype(np.float32)[:, None]
        truths = [Truth(name="score", kind="values", names=("anomaly",), units=("log2 error",))]
        x_train, y_train, y_test, checks = x[is_train], y[is_train], y[is_test], []
        weights_train = None if weights is None else weights[is_train]
        if wants_stand_ins(options.heads):
            truths = [Truth(name="anomaly", kind="anomaly", names=CLASSES)]
            merged = merged_crossings(
                x_train, features, turn=PHI_TURN, pt_max=PT_WORD_MAX, is_integer=True
            )
            x_train, y_train, weights_train, said = with_stand_ins(x_train, merged, weights_train)
            y_test, checks = (labels[is_test, None] > 0).astype(np.int64), [said]
        metric = options.judged_by
        if isinstance(metric, dict) and metric.get("name") == "efficiency_at_rate":
            metric = {"input_rate_khz": total_khz, **metric}
        return from_parts(
            name=self.name,
            benchmark=None if options.path else _benchmark(options),
            x_train=x_train,
            y_train=y_train,
            x_test=x[is_test],
            y_test=y_test,
            feature_names=features,
            class_names=(),
            options=options,
            split=f"by hard collision: {_TRAIN_OF_FIVE} of 5 backgrounds train, the rest and all signals test",
            provenance=provenance,
            checks=checks,
            truths=truths,
            weights_train=weights_train,
            weights_test=None if weights is None else weights[is_test],
            events=Events(
                labels=labels[is_test],
                names=("background", *options.signals),
                metric=load_metric(metric, where=f"{where}.judged_by"),
                rate_khz=total_khz,
            ),
        )


def is_trained_on(process: np.ndarray, collision: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Say which events are for training, bool [n]: backgrounds, split by hard collision."""
    is_background = np.array([name not in SIGNALS for name in names])[process]
    return np.asarray(is_background & (collision % 5 < _TRAIN_OF_FIVE))


def teacher_view(x: np.ndarray, feature_names: Sequence[str]) -> np.ndarray:
    """Return what the teacher looks at: the square root of pT of every object; directions are nearly noise.

    Chosen without any signal: of four views (everything, pT, its root, its logarithm) the one whose teacher tells
    held-out background events best from crossings of two of them (docs/tasks.md).

    Args:
        x: [n, n_features] in hardware units.
        feature_names: of the features.

    Returns:
        float32 [n, n_objects].
    """
    is_pt = np.array([name.endswith("_pt") for name in feature_names])
    return np.asarray(np.sqrt(x[:, is_pt].astype(np.float32)))


def _benchmark(options: Level1Options) -> str:
    plain = options.background == "events" and options.signals == SIGNALS
    suffix = "" if plain else f"-{options.background}-{'-'.join(options.signals)}"
    return f"codesign-level1-v2{suffix}"


TASKS.add(Level1.name, Level1())
