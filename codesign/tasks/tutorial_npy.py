"""The folder of .npy files that part 1 of the hls4ml tutorial writes.

`X_train_val.npy`, `y_train_val.npy`, `X_test.npy`, `y_test.npy`, `classes.npy`: OpenML 42468, split by
scikit-learn (0.2, random_state 42), standardised already, labels one-hot in LabelEncoder order.
"""

from pathlib import Path

import numpy as np

from codesign.errors import DataError
from codesign.tasks._download import sha256_of
from codesign.tasks._labels import encode_labels
from codesign.tasks._options import FileOptions
from codesign.tasks._prepare import from_parts, own_benchmark, require_path
from codesign.tasks.base import TASKS, Check, Task, TaskData
from codesign.tasks.openml import CLASSES, FEATURES, N_ROWS

_FILES = {
    "x_train": "X_train_val.npy",
    "y_train": "y_train_val.npy",
    "x_test": "X_test.npy",
    "y_test": "y_test.npy",
}


class TutorialFolder(Task):
    """The hls4ml tutorial's arrays."""

    name = "tutorial_npy"
    description = "the folder of .npy files that the hls4ml tutorial writes (OpenML jets, already standardised)"
    needs = "a path"
    options_type = FileOptions

    def load(self, options: FileOptions) -> TaskData:
        """Load the folder; see `Task.load`."""
        where = f"task.{self.name}"
        folder = require_path(options.path, kind="folder", where=where)
        given_benchmark = own_benchmark(options.benchmark, where=where)
        absent = [file for file in _FILES.values() if not (folder / file).is_file()]
        if absent:
            raise DataError(
                f"{where}: {folder} lacks {absent}; expected {list(_FILES.values())}; run the tutorial's part 1"
            )
        arrays = {key: _read(folder / file, where) for key, file in _FILES.items()}
        notes: list[Check] = []
        classes = self._classes(folder, options, notes, where)
        labels = {}
        for key in ("y_train", "y_test"):
            labels[key], names = encode_labels(
                arrays[key], class_names=classes, where=f"{where}: {_FILES[key]}"
            )
        n_features = arrays["x_train"].shape[-1] if arrays["x_train"].ndim else 0
        features = (
            FEATURES if n_features == len(FEATURES) else tuple(f"x{i}" for i in range(n_features))
        )
        n_rows = len(labels["y_train"]) + len(labels["y_test"])
        is_openml = n_rows == N_ROWS and features == FEATURES and names == CLASSES
        notes.append(
            Check(
                name="benchmark",
                outcome="passed" if is_openml else "noted",
                detail=f"{n_rows} rows; OpenML 42468 has {N_ROWS}"
                + ("" if is_openml else ": not reported as that benchmark"),
            )
        )
        return from_parts(
            name=self.name,
            benchmark="openml-42468" if is_openml else given_benchmark,
            x_train=arrays["x_train"],
            y_train=labels["y_train"],
            x_test=arrays["x_test"],
            y_test=labels["y_test"],
            feature_names=features,
            class_names=names,
            options=options,
            split="given: the tutorial's (sklearn, test fraction 0.2, seed 42)",
            provenance={
                "folder": folder.name,
                "sha256": {file: sha256_of(folder / file) for file in _FILES.values()},
                "standardised": "by the tutorial, before saving; the raw means and scales are not in the folder",
            },
            checks=notes,
        )

    @staticmethod
    def _classes(
        folder: Path, options: FileOptions, notes: list[Check], where: str
    ) -> tuple[str, ...]:
        """Read classes.npy; the tutorial pickles it, and a pickle is never opened."""
        path = folder / "classes.npy"
        if path.is_file():
            try:
                return tuple(str(value) for value in np.load(path, allow_pickle=False).tolist())
            except ValueError as error:
                if "allow_pickle" not in str(error) and "pickle" not in str(error).lower():
                    raise DataError(
                        f"{where}: classes.npy cannot be read ({error}); save it again"
                    ) from error
                reason = "classes.npy is a pickle, which is not opened"
        else:
            reason = "there is no classes.npy"
        names = options.class_names or CLASSES
        source = "task.class_names" if options.class_names else "OpenML's order"
        notes.append(
            Check(
                name="label_order",
                outcome="noted",
                detail=f"{reason}; label order {source}: {list(names)}",
            )
        )
        return tuple(names)


def _read(path: Path, where: str) -> np.ndarray:
    try:
        array: np.ndarray = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DataError(
            f"{where}: {path.name} cannot be read as a plain NumPy array ({error}); save it again with numpy.save"
        ) from error
    return array


TASKS.add(TutorialFolder.name, TutorialFolder())
