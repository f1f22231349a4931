"""HDF5 in general: one data set of inputs, one of classes or values.  Only the rows asked for are read."""

from typing import Any, Literal

import numpy as np
from pydantic import Field

from codesign.errors import DataError
from codesign.tasks._download import sha256_of
from codesign.tasks._hdf5 import dataset_of, open_hdf5
from codesign.tasks._labels import encode_labels
from codesign.tasks._options import FileOptions
from codesign.tasks._prepare import Truth, from_table, own_benchmark, require_path
from codesign.tasks.base import TASKS, Task, TaskData


class Hdf5Options(FileOptions):
    """Options of an HDF5 file.

    Attributes:
        inputs: data set of the inputs, [n, ..., n_features].
        truth: data set of the truth: [n] or one-hot [n, n_classes] for classes, [n] or [n, n_values] for values.
        kind: "classes" or "values"; the head is called "class" or "values".
        units: of the values.
        weight: data set of event weights.
        n_rows_max: rows read, from the front; all when left out.
    """

    inputs: str = "X"
    truth: str = "Y"
    kind: Literal["classes", "values"] = "classes"
    units: tuple[str, ...] = ()
    weight: str | None = None
    n_rows_max: int | None = Field(default=None, ge=1)


class Hdf5(Task):
    """An HDF5 file of one's own."""

    name = "hdf5"
    description = "an HDF5 file: one data set of inputs, one of classes or values"
    needs = "a path"
    options_type = Hdf5Options

    def load(self, options: Hdf5Options) -> TaskData:
        """Load the file; see `Task.load`."""
        where = f"task.{self.name}"
        path = require_path(options.path, kind="file", where=where)
        with open_hdf5(path, where=where) as file:
            names = [options.inputs, options.truth, *([options.weight] if options.weight else [])]
            x, y, *weights = (_rows(file, name, options.n_rows_max, where) for name in names)
        if x.ndim < 2:
            raise DataError(
                f"{where}: {options.inputs} has shape {x.shape}; expected [n, ..., n_features]"
            )
        common: dict[str, Any] = {
            "name": self.name,
            "benchmark": own_benchmark(options.benchmark, where=where),
            "x": x,
            "feature_names": [f"x{i}" for i in range(x.shape[-1])],
            "options": options,
            "provenance": {"file": path.name, "sha256": sha256_of(path)},
            "weights": weights[0].astype(np.float64) if weights else None,
        }
        if options.kind == "classes":
            labels, classes = encode_labels(y, class_names=None, where=where)
            return from_table(y=labels, class_names=classes, **common)
        values = y.reshape(len(y), -1)
        found = Truth(
            name="values",
            kind="values",
            names=tuple(f"y{i}" for i in range(values.shape[1])),
            units=options.units,
        )
        return from_table(y=values.astype(np.float32), class_names=(), truths=(found,), **common)


def _rows(file: Any, name: str, n_max: int | None, where: str) -> np.ndarray:
    data = dataset_of(file, name, where=where)
    if not hasattr(data, "shape") or data.dtype.names is not None:
        raise DataError(f"{where}: {name!r} is no plain data set; expected an array of numbers")
    return np.asarray(data[:n_max])


TASKS.add(Hdf5.name, Hdf5())
