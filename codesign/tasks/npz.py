"""NumPy archives: one table (`x`, `y`) or a given split (`x_train`, `y_train`, `x_test`, `y_test`).

Also reads the generator's own files (`X`, `y`, `features`, `classes`).
"""

from typing import Any, Literal

import numpy as np

from codesign.errors import DataError
from codesign.tasks._download import sha256_of
from codesign.tasks._labels import encode_labels
from codesign.tasks._options import FileOptions
from codesign.tasks._prepare import (
    Truth,
    from_parts,
    from_table,
    own_benchmark,
    read_npz,
    require_path,
)
from codesign.tasks.base import TASKS, Check, Task, TaskData

_SPLIT_KEYS = ("x_train", "y_train", "x_test", "y_test")
_FEATURE_KEYS = ("feature_names", "features")
_CLASS_KEYS = ("class_names", "classes")


_WEIGHT_KEYS = ("weights", "weight")
_KNOWN = {"x", "y", *_SPLIT_KEYS, *_FEATURE_KEYS, *_CLASS_KEYS, *_WEIGHT_KEYS}
_KNOWN |= {f"{key}_{part}" for key in _WEIGHT_KEYS for part in ("train", "test")}


class NpzOptions(FileOptions):
    """Options of a NumPy archive.

    Attributes:
        path: archive with `x`, `y` or `x_train`, `y_train`, `x_test`, `y_test`, and, if wished, event weights
            (`weights`, or `weights_train` and `weights_test`), `feature_names` and `class_names`.
        kind: "classes" or "values"; the head is called "class" or "values".
        units: of the values.
    """

    kind: Literal["classes", "values"] = "classes"
    units: tuple[str, ...] = ()


class NpzTask(Task):
    """A NumPy archive of one's own; never unpickled."""

    name = "npz"
    description = (
        "a NumPy archive: x, y (split by seed) or x_train, y_train, x_test, y_test (given)"
    )
    needs = "a path"
    options_type = NpzOptions

    def load(self, options: NpzOptions) -> TaskData:
        """Load the archive; see `Task.load`."""
        where = f"task.{self.name}"
        path = require_path(options.path, kind="file", where=where)
        benchmark = own_benchmark(options.benchmark, where=where)
        arrays = read_npz(path, where)
        unread = sorted(set(arrays) - _KNOWN)
        checks = [Check(name="arrays", outcome="noted", detail=f"not read: {', '.join(unread)}")]
        if all(key in arrays for key in _SPLIT_KEYS):
            parts: tuple[str, ...] = ("_train", "_test")
        elif "x" in arrays and "y" in arrays:
            parts = ("",)
        else:
            raise DataError(
                f"{where}: {path.name} holds {sorted(arrays)}; expected x and y, or {', '.join(_SPLIT_KEYS)}; "
                "rename the arrays"
            )
        truths = [arrays[f"y{part}"] for part in parts]
        weights = [_weights(arrays, part) for part in parts]
        common: dict[str, Any] = {
            "name": self.name,
            "benchmark": benchmark,
            "feature_names": _feature_names(arrays, arrays[f"x{parts[0]}"]),
            "options": options,
            "checks": checks if unread else (),
            "provenance": {"file": path.name, "sha256": sha256_of(path)},
        }
        if len(truths) == 2 and truths[0].shape[1:] != truths[1].shape[1:]:
            raise DataError(
                f"{where}: y_train has shape {truths[0].shape}, y_test {truths[1].shape}; "
                "expected the same kind of labels in both"
            )
        if len(weights) == 2 and (weights[0] is None) != (weights[1] is None):
            raise DataError(
                f"{where}: {path.name} has weights of one part only; expected weights_train and weights_test, or neither"
            )
        both = np.concatenate(truths)
        if options.kind == "values":
            y = both.reshape(len(both), -1)
            common["class_names"] = ()
            found = tuple(f"y{i}" for i in range(y.shape[1]))
            common["truths"] = (
                Truth(name="values", kind="values", names=found, units=options.units),
            )
        else:
            classes = _names(arrays, _CLASS_KEYS) or options.class_names
            y, common["class_names"] = encode_labels(both, class_names=classes, where=where)
        if len(parts) == 1:
            return from_table(x=arrays["x"], y=y, weights=weights[0], **common)
        n_train = len(truths[0])
        return from_parts(
            x_train=arrays["x_train"],
            y_train=y[:n_train],
            x_test=arrays["x_test"],
            y_test=y[n_train:],
            weights_train=weights[0],
            weights_test=weights[1],
            split="given by the file",
            **common,
        )


def _weights(arrays: dict[str, np.ndarray], part: str) -> np.ndarray | None:
    return next((arrays[f"{key}{part}"] for key in _WEIGHT_KEYS if f"{key}{part}" in arrays), None)


def _names(arrays: dict[str, np.ndarray], keys: tuple[str, ...]) -> tuple[str, ...] | None:
    for key in keys:
        if key in arrays:
            return tuple(str(value) for value in arrays[key].tolist())
    return None


def _feature_names(arrays: dict[str, np.ndarray], x: np.ndarray) -> tuple[str, ...]:
    n_features = x.shape[-1] if x.ndim else 0
    return _names(arrays, _FEATURE_KEYS) or tuple(f"x{i}" for i in range(n_features))


TASKS.add(NpzTask.name, NpzTask())
