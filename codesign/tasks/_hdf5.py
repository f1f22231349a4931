"""HDF5 files, read with h5py (an optional package)."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from codesign.errors import DataError
from codesign.tools import require_module


@contextmanager
def open_hdf5(path: Path, *, where: str) -> Iterator[Any]:
    """Open a file for reading.

    Raises:
        DataError: it is no HDF5 file.
        ToolError: h5py is not installed.
    """
    h5py = require_module("h5py")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DataError(
            f"{where}: {path.name} is no HDF5 file ({error}); download it again"
        ) from error
    with file:
        yield file


def dataset_of(file: Any, name: str, *, where: str) -> Any:
    """Return the data set `name` of an open file.

    Raises:
        DataError: it is not there.
    """
    if name not in file:
        raise DataError(
            f"{where}: no data set {name!r} in the file; it holds {sorted(file)}; is it the right file?"
        )
    return file[name]
