"""ROOT trees through uproot: flat branches as columns, read as csv and parquet tables are."""

from pathlib import Path
from typing import Any

import numpy as np

from codesign.errors import DataError, unknown_name
from codesign.tasks._frames import FrameOptions, load_frames
from codesign.tasks.base import TASKS, Task, TaskData
from codesign.tools import require_module


class RootOptions(FrameOptions):
    """Options of a ROOT file.

    Attributes:
        tree: name of the tree.
        branches: branches to read (features, labels, weight); all flat ones when left out.
    """

    tree: str
    branches: tuple[str, ...] | None = None


class Root(Task):
    """A ROOT file of one's own."""

    name = "root"
    description = "a ROOT tree of flat branches: a label branch, the rest features"
    needs = "a path"
    options_type = RootOptions

    def load(self, options: RootOptions) -> TaskData:
        """Load the tree; see `Task.load`."""
        return load_frames(self.name, options, lambda path: _read(path, options))


def _read(path: Path, options: RootOptions) -> Any:
    pandas = require_module("pandas")
    uproot = require_module("uproot")
    where = f"task.root: {path.name}"
    try:
        with uproot.open(path) as file:
            trees = sorted({key.partition(";")[0] for key in file})
            if options.tree not in trees:
                raise DataError(f"{where}: {unknown_name('tree', options.tree, trees)}")
            tree = file[options.tree]
            names = options.branches or tuple(
                name
                for name, kind in tree.typenames().items()
                if "[" not in kind and "vector" not in kind
            )
            missing = sorted(set(names) - set(tree.keys()))
            if missing:
                raise DataError(f"{where}: {unknown_name('branch', missing[0], tree.keys())}")
            arrays = tree.arrays(list(names), library="np")
    except (ValueError, OSError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{where} cannot be read as a ROOT file ({' '.join(str(error).split())})"
        ) from error
    jagged = [name for name, column in arrays.items() if np.asarray(column).dtype.kind == "O"]
    if jagged:
        raise DataError(
            f"{where}: branches {jagged} are no flat numbers; leave them out of branches"
        )
    return pandas.DataFrame(arrays)


TASKS.add(Root.name, Root())
