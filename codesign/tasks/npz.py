"""NumPy archives: one table (`x`, `y`) or a given split (`x_train`, `y_train`, `x_test`, `y_test`).

Also reads the generator's own files (`X`, `y`, `features`, `classes`).
"""

import numpy as np

from codesign.errors import DataError
from codesign.tasks._download import sha256_of
from codesign.tasks._labels import encode_labels
from codesign.tasks._options import FileOptions
from codesign.tasks._prepare import (
    from_parts,
    from_table,
    own_benchmark,
    read_npz,
    require_path,
)
from codesign.tasks.base import TASKS, Task, TaskData

_SPLIT_KEYS = ("x_train", "y_train", "x_test", "y_test")
_FEATURE_KEYS = ("feature_names", "features")
_CLASS_KEYS = ("class_names", "classes")


class NpzTask(Task):
    """A NumPy archive of one's own; never unpickled."""

    name = "npz"
    description = (
        "a NumPy archive: x, y (split by seed) or x_train, y_train, x_test, y_test (given)"
    )
    needs = "a path"
    options_type = FileOptions

    def load(self, options: FileOptions) -> TaskData:
        """Load the archive; see `Task.load`."""
        where = f"task.{self.name}"
        path = require_path(options.path, kind="file", where=where)
        benchmark = own_benchmark(options.benchmark, where=where)
        arrays = read_npz(path, where)
        provenance = {"file": path.name, "sha256": sha256_of(path)}
        classes = _names(arrays, _CLASS_KEYS) or options.class_names
        if all(key in arrays for key in _SPLIT_KEYS):
            x_train, x_test = arrays["x_train"], arrays["x_test"]
            n_train = len(arrays["y_train"])
            if arrays["y_train"].shape[1:] != arrays["y_test"].shape[1:]:
                raise DataError(
                    f"{where}: y_train has shape {arrays['y_train'].shape}, y_test {arrays['y_test'].shape}; "
                    "expected the same kind of labels in both"
                )
            both = np.concatenate((arrays["y_train"], arrays["y_test"]))
            labels, names = encode_labels(both, class_names=classes, where=where)
            return from_parts(
                name=self.name,
                benchmark=benchmark,
                x_train=x_train,
                y_train=labels[:n_train],
                x_test=x_test,
                y_test=labels[n_train:],
                feature_names=_feature_names(arrays, x_train),
                class_names=names,
                options=options,
                split="given by the file",
                provenance=provenance,
            )
        if "x" not in arrays or "y" not in arrays:
            raise DataError(
                f"{where}: {path.name} holds {sorted(arrays)}; expected x and y, or {', '.join(_SPLIT_KEYS)}; "
                "rename the arrays"
            )
        labels, names = encode_labels(arrays["y"], class_names=classes, where=where)
        return from_table(
            name=self.name,
            benchmark=benchmark,
            x=arrays["x"],
            y=labels,
            feature_names=_feature_names(arrays, arrays["x"]),
            class_names=names,
            options=options,
            provenance=provenance,
        )


def _names(arrays: dict[str, np.ndarray], keys: tuple[str, ...]) -> tuple[str, ...] | None:
    for key in keys:
        if key in arrays:
            return tuple(str(value) for value in arrays[key].tolist())
    return None


def _feature_names(arrays: dict[str, np.ndarray], x: np.ndarray) -> tuple[str, ...]:
    n_features = x.shape[-1] if x.ndim else 0
    return _names(arrays, _FEATURE_KEYS) or tuple(f"x{i}" for i in range(n_features))


TASKS.add(NpzTask.name, NpzTask())
