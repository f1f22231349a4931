"""Data that ship with codesign: an archive and its provenance, side by side."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from codesign.errors import DataError
from codesign.tasks._download import sha256_of
from codesign.tasks._options import TaskOptions
from codesign.tasks._prepare import read_npz, require_path

_FOLDER = Path(__file__).resolve().parent / "data"


class BundledOptions(TaskOptions):
    """Options of data that ship and can be made anew.

    Attributes:
        path: a file of `codesign data generate`; the bundled one when left out.
    """

    path: Path | None = None


def read_archive(
    path: Path | None, *, bundled: str, keys: Sequence[str], where: str
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return arrays and provenance of a generated file, or of the bundled one.

    Raises:
        DataError: the file is missing, damaged, or lacks one of the arrays `keys`.
    """
    if path is None:
        return read_bundled(bundled)
    path = require_path(path, kind="file", where=where)
    arrays = read_npz(path, where)
    missing = [key for key in keys if key not in arrays]
    if missing:
        raise DataError(
            f"{where}: {path.name} lacks the arrays {missing}; expected a file of `codesign data generate`"
        )
    return arrays, {"file": path.name, "sha256": sha256_of(path)}


def read_bundled(name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays of `data/<name>.npz` and the provenance of `data/<name>.json`.

    Raises:
        DataError: one of them is missing from this installation.
    """
    archive, statement = _FOLDER / f"{name}.npz", _FOLDER / f"{name}.json"
    for path in (archive, statement):
        if not path.is_file():
            raise DataError(
                f"{path.name} is missing from this installation of codesign; reinstall it"
            )
    with np.load(archive, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    return arrays, json.loads(statement.read_text(encoding="utf-8"))
