"""The Zenodo jets (3602260, 150 particles): HDF5 files with jet features and constituents.

A folder with `train` and `val` (as the two archives unpack) gives the split; a single file, or a
folder of files, is split by seed.  Columns are found by name.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from codesign.errors import DataError
from codesign.tasks._download import sha256_of
from codesign.tasks._hdf5 import dataset_of, open_hdf5
from codesign.tasks._labels import decode_one_hot
from codesign.tasks._options import SplitOptions
from codesign.tasks._prepare import from_parts, from_table, require_path
from codesign.tasks.base import TASKS, Check, Task, TaskData
from codesign.tasks.openml import FEATURES

CLASSES = ("g", "q", "w", "z", "t")
#: Rows of the validation archive, which published results use as the test set.
N_VALIDATION_ROWS = 260_000


class ZenodoOptions(SplitOptions):
    """Options of the Zenodo set.

    Attributes:
        path: a folder with `train` and `val`, a folder of .h5 files, or one file.
        representation: "hlf": the 16 jet features; "constituents": particles by decreasing pT.
        n_constituents: particles kept for each jet.
        particle_features: columns kept for each particle.
    """

    path: Path
    representation: Literal["hlf", "constituents"] = "hlf"
    n_constituents: int = Field(default=16, ge=1, le=150)
    particle_features: tuple[str, ...] = Field(default=("pt", "etarel", "phirel"), min_length=1)


class ZenodoJets(Task):
    """Zenodo record 3602260."""

    name = "zenodo_hdf5"
    description = "the Zenodo jets 3602260 (HDF5): 16 features, or up to 150 particles, 5 classes"
    needs = "a path"
    options_type = ZenodoOptions

    def load(self, options: ZenodoOptions) -> TaskData:
        """Load the files; see `Task.load`."""
        where = f"task.{self.name}"
        path = require_path(options.path, kind="file or folder", where=where)
        features = FEATURES if options.representation == "hlf" else options.particle_features
        provenance: dict[str, Any] = {
            "zenodo_record": 3602260,
            "representation": options.representation,
        }
        if path.is_dir() and (path / "train").is_dir() and (path / "val").is_dir():
            x_train, y_train, train_files = _read_all(_files(path / "train", where), options, where)
            x_test, y_test, test_files = _read_all(_files(path / "val", where), options, where)
            is_whole = len(y_test) == N_VALIDATION_ROWS
            detail = f"{len(y_test)} test jets of {N_VALIDATION_ROWS}"
            return from_parts(
                name=self.name,
                benchmark=f"zenodo-3602260-{options.representation}" if is_whole else None,
                x_train=x_train,
                y_train=y_train,
                x_test=x_test,
                y_test=y_test,
                feature_names=features,
                class_names=CLASSES,
                options=options,
                split="given: the folders train and val",
                provenance={**provenance, "sha256": {**train_files, **test_files}},
                checks=[
                    Check(
                        name="benchmark", outcome="passed" if is_whole else "noted", detail=detail
                    )
                ],
            )
        x, y, files = _read_all([path] if path.is_file() else _files(path, where), options, where)
        return from_table(
            name=self.name,
            benchmark=None,
            x=x,
            y=y,
            feature_names=features,
            class_names=CLASSES,
            options=options,
            provenance={**provenance, "sha256": files},
        )


def _files(folder: Path, where: str) -> list[Path]:
    files = sorted(folder.glob("*.h5"))
    if not files:
        raise DataError(f"{where}: {folder} holds no .h5 file; unpack the archive there")
    return files


def _read_all(
    files: list[Path], options: ZenodoOptions, where: str
) -> tuple[np.ndarray, np.ndarray, dict[str, str]]:
    """Return inputs float32, labels int64 and the checksum of every file (train/x.h5: ...)."""
    inputs, labels, checksums = [], [], {}
    for path in files:
        with open_hdf5(path, where=where) as file:
            x, y = _read(file, options, f"{where}: {path.name}")
        inputs.append(x)
        labels.append(y)
        checksums[f"{path.parent.name}/{path.name}"] = sha256_of(path)
    return np.concatenate(inputs), np.concatenate(labels), checksums


def _read(file: Any, options: ZenodoOptions, where: str) -> tuple[np.ndarray, np.ndarray]:
    names = _names(dataset_of(file, "jetFeatureNames", where=where), "j_")
    jets = dataset_of(file, "jets", where=where)
    if jets.ndim != 2 or jets.shape[1] != len(names):
        raise DataError(
            f"{where}: jets has shape {jets.shape} for {len(names)} column names; download it again"
        )
    values = np.asarray(jets[()], dtype=np.float32)
    y = decode_one_hot(values[:, _columns(names, CLASSES, where)], where=where)
    if options.representation == "hlf":
        return values[:, _columns(names, FEATURES, where)], y
    particles = dataset_of(file, "jetConstituentList", where=where)
    particle_names = _names(dataset_of(file, "particleFeatureNames", where=where), "j1_")
    if particles.ndim != 3 or particles.shape[1] < options.n_constituents:
        raise DataError(
            f"{where}: jetConstituentList has shape {particles.shape}; expected at least "
            f"{options.n_constituents} particles; lower n_constituents"
        )
    columns = _columns(particle_names, options.particle_features, where)
    leading = np.asarray(particles[:, : options.n_constituents, :], dtype=np.float32)
    return leading[:, :, columns], y


def _names(dataset: Any, prefix: str) -> list[str]:
    """Return column names without their common prefix."""
    text = [name.decode("utf-8") if isinstance(name, bytes) else str(name) for name in dataset[()]]
    return [name.removeprefix(prefix) for name in text]


def _columns(names: list[str], wanted: tuple[str, ...], where: str) -> list[int]:
    absent = [name for name in wanted if name not in names]
    if absent:
        raise DataError(f"{where}: no column {absent}; the file has {names}; is it the right file?")
    return [names.index(name) for name in wanted]


TASKS.add(ZenodoJets.name, ZenodoJets())
