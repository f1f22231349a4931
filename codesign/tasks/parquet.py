"""Parquet tables."""

from pathlib import Path
from typing import Any

import numpy as np

from codesign.errors import DataError
from codesign.tasks._frames import FrameOptions, load_frames
from codesign.tasks.base import TASKS, Task, TaskData
from codesign.tools import require_module


class ParquetTask(Task):
    """A parquet file of one's own."""

    name = "parquet"
    description = (
        "a parquet table: a label column, the rest features; columns of lists count as several"
    )
    needs = "a path"
    options_type = FrameOptions

    def load(self, options: FrameOptions) -> TaskData:
        """Load the table; see `Task.load`."""
        return load_frames(self.name, options, lambda path: _flat(read_parquet(path)))


def _flat(frame: Any) -> Any:
    """Give every element of a column of equally long lists (as Spark writes vectors) a column of its own."""
    pandas = require_module("pandas")
    parts = []
    for name in frame.columns:
        column = frame[name]
        if len(column) and isinstance(column.iloc[0], (list, np.ndarray)):
            lengths = {len(value) for value in column}
            if len(lengths) != 1:
                raise DataError(
                    f"task.parquet: column {name!r} holds lists of {sorted(lengths)[:3]} elements; expected one length"
                )
            names = [f"{name}_{i}" for i in range(lengths.pop())]
            parts.append(
                pandas.DataFrame(np.stack(column.to_list()), columns=names, index=frame.index)
            )
        else:
            parts.append(column)
    return pandas.concat(parts, axis=1)


def read_parquet(path: Path) -> Any:
    """Read a parquet file into a pandas data frame.

    Raises:
        DataError: it is no parquet file.
        ToolError: pandas or pyarrow is not installed.
    """
    pandas = require_module("pandas")
    pyarrow = require_module("pyarrow")
    try:
        return pandas.read_parquet(path, engine="pyarrow")
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise DataError(
            f"{path.name} cannot be read as parquet ({' '.join(str(error).split())}); expected a parquet table"
        ) from error


TASKS.add(ParquetTask.name, ParquetTask())
