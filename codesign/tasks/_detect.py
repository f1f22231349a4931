"""Which task reads a file, by its name."""

from pathlib import Path

from codesign.errors import DataError

_BY_SUFFIX = {
    ".npz": "npz",
    ".csv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arff": "openml",
    ".z": "cernbox",
    ".root": "root",
    ".h5": "zenodo_hdf5",
    ".hdf5": "zenodo_hdf5",
}


def task_for_path(path: Path) -> str:
    """Return the name of the task that reads `path`.

    Raises:
        DataError: it does not exist, or its name says nothing.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist; expected a data file or folder; correct the path")
    if path.is_dir():
        return "tutorial_npy" if any(path.glob("*.npy")) else "zenodo_hdf5"
    if path.suffix.lower() not in _BY_SUFFIX:
        raise DataError(
            f"{path.name} ends in {path.suffix!r}; expected one of {', '.join(sorted(_BY_SUFFIX))}; "
            "name the task yourself with `codesign data show TASK --option path=FILE`"
        )
    return _BY_SUFFIX[path.suffix.lower()]
