"""Parquet tables."""

from pathlib import Path
from typing import Any

from codesign.errors import DataError
from codesign.tasks._frames import FrameOptions, load_frames
from codesign.tasks.base import TASKS, Task, TaskData
from codesign.tools import require_module


class ParquetTask(Task):
    """A parquet file of one's own."""

    name = "parquet"
    description = "a parquet table: a label column, the rest features"
    needs = "a path"
    options_type = FrameOptions

    def load(self, options: FrameOptions) -> TaskData:
        """Load the table; see `Task.load`."""
        return load_frames(self.name, options, read_parquet)


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
