"""Memory-mapped arrays: a folder with `x.npy` and `y.npy` of any size, of which a study reads some rows.

Rows are drawn evenly over the whole file and copied block by block, so that memory goes with the rows that
are read, not with the file.
"""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from codesign.errors import DataError
from codesign.tasks._labels import encode_labels
from codesign.tasks._options import FileOptions
from codesign.tasks._prepare import Truth, from_table, own_benchmark, require_path
from codesign.tasks.base import TASKS, Task, TaskData

#: Rows copied at a time: around each of them the system reads 64 kB, which count until they are unmapped.
_BLOCK = 2_048


class NpyOptions(FileOptions):
    """Options of memory-mapped arrays.

    Attributes:
        path: folder with `x.npy` [n, ..., n_features], `y.npy` ([n] classes, or [n] or [n, n_values]
            values) and, if wished, `weight.npy` [n] and `names.json` (feature names).
        kind: "classes" or "values"; the head is called "class" or "values".
        units: of the values.
        n_rows_max: rows read, evenly over the file; all where there are fewer.
    """

    kind: Literal["classes", "values"] = "classes"
    units: tuple[str, ...] = ()
    n_rows_max: int = Field(default=1_000_000, ge=1)


class Npy(Task):
    """Memory-mapped arrays of one's own."""

    name = "npy"
    description = (
        "a folder with x.npy and y.npy of any size, memory-mapped: rows drawn evenly over the file"
    )
    needs = "a path"
    options_type = NpyOptions

    def load(self, options: NpyOptions) -> TaskData:
        """Load the rows; see `Task.load`."""
        where = f"task.{self.name}"
        folder = require_path(options.path, kind="folder", where=where)
        files = {name: folder / f"{name}.npy" for name in ("x", "y")}
        if (folder / "weight.npy").is_file():
            files["weight"] = folder / "weight.npy"
        x, *others = (_mapped(file, where) for file in files.values())
        for file, array in zip(list(files.values())[1:], others, strict=True):
            if len(array) != len(x):
                raise DataError(
                    f"{where}: x.npy has {len(x)} rows, {file.name} {len(array)}; expected one for each row"
                )
        if x.ndim < 2:
            raise DataError(f"{where}: x.npy has shape {x.shape}; expected [n, ..., n_features]")
        n_rows = min(len(x), options.n_rows_max)
        common: dict[str, Any] = {
            "name": self.name,
            "benchmark": own_benchmark(options.benchmark, where=where),
            "x": _rows(files["x"], n_rows, np.float32),
            "feature_names": _names(folder, x.shape[-1], where),
            "options": options,
            # no checksum of the file: reading all of it is what this source avoids; the digest is that of
            # the rows
            "provenance": {"folder": folder.name, "n_rows_of_file": len(x), "n_rows_read": n_rows},
            "weights": _rows(files["weight"], n_rows, np.float64) if "weight" in files else None,
        }
        if options.kind == "classes":
            labels, classes = encode_labels(
                _rows(files["y"], n_rows, others[0].dtype),
                class_names=None,
                where=where,
            )
            return from_table(y=labels, class_names=classes, **common)
        values = _rows(files["y"], n_rows, np.float32).reshape(n_rows, -1)
        found = Truth(
            name="values",
            kind="values",
            names=tuple(f"y{i}" for i in range(values.shape[1])),
            units=options.units,
        )
        return from_table(y=values, class_names=(), truths=(found,), **common)


def _mapped(path: Path, where: str) -> np.ndarray:
    """Map an array into memory, without reading it."""
    require_path(path, kind="file", where=where)
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(
            f"{where}: {path.name} cannot be mapped ({error}); expected one plain array; save it with numpy.save"
        ) from error
    return array


def _rows(file: Path, n_rows: int, dtype: Any) -> np.ndarray:
    """Copy so many rows, evenly over the array of a file, mapped anew for each block."""
    shape = np.load(file, mmap_mode="r", allow_pickle=False).shape
    result = np.empty((n_rows, *shape[1:]), dtype=dtype)
    for start in range(0, n_rows, _BLOCK):
        stop = min(start + _BLOCK, n_rows)
        array = np.load(file, mmap_mode="r", allow_pickle=False)
        rows = np.arange(start, stop) * len(array) // n_rows
        result[start:stop] = array[rows]
    return result


def _names(folder: Path, n_features: int, where: str) -> list[str]:
    path = folder / "names.json"
    if not path.is_file():
        return [f"x{i}" for i in range(n_features)]
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{where}: names.json cannot be read ({error}); expected a list") from error
    if not isinstance(names, list) or len(names) != n_features:
        raise DataError(f"{where}: names.json must list {n_features} feature names")
    return [str(name) for name in names]


TASKS.add(Npy.name, Npy())
