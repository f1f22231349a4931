"""Comma-separated tables with a header line."""

from pathlib import Path
from typing import Any

from codesign.errors import DataError
from codesign.tasks._frames import FrameOptions, load_frames
from codesign.tasks.base import TASKS, Task, TaskData
from codesign.tools import require_module


class CsvTask(Task):
    """A csv file of one's own."""

    name = "csv"
    description = "a csv table with a header line: a label column, the rest features"
    needs = "a path"
    options_type = FrameOptions

    def load(self, options: FrameOptions) -> TaskData:
        """Load the table; see `Task.load`."""
        return load_frames(self.name, options, _read)


def _read(path: Path) -> Any:
    pandas = require_module("pandas")
    try:
        frame = pandas.read_csv(path)
        header = pandas.read_csv(path, header=None, nrows=1, dtype=str).iloc[0].tolist()
    except (
        ValueError,
        UnicodeDecodeError,
    ) as error:  # ParserError and EmptyDataError are ValueErrors
        raise DataError(
            f"task.csv: {path.name} cannot be read ({' '.join(str(error).split())}); expected a csv table "
            "with a header line"
        ) from error
    # pandas calls the second of two columns "a" "a.1"
    repeated = sorted({str(name) for name in header if header.count(name) > 1})
    if repeated:
        raise DataError(
            f"task.csv: {path.name}: column names {repeated} appear more than once; expected unique names; rename them"
        )
    return frame


TASKS.add(CsvTask.name, CsvTask())
