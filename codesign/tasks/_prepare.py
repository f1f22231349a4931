"""The steps that all loaders share between raw tables and `TaskData`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from codesign.errors import ConfigError, DataError, unknown_name
from codesign.tasks._labels import reorder_classes
from codesign.tasks._options import SplitOptions, TaskOptions
from codesign.tasks._splits import sklearn_split, stratified_split
from codesign.tasks.base import RESERVED_BENCHMARKS, Check, TaskData, build_task_data


def require_path(path: Path, *, kind: str, where: str) -> Path:
    """Return `path` when it is there and of the right kind ("file", "folder" or "file or folder").

    Raises:
        DataError: it is not.
    """
    path = path.expanduser()
    if not path.exists():
        raise DataError(f"{where}: {path} does not exist; expected a {kind}; correct the path")
    if (kind == "file" and not path.is_file()) or (kind == "folder" and not path.is_dir()):
        raise DataError(f"{where}: {path} is not a {kind}; correct the path")
    return path


def own_benchmark(benchmark: str | None, *, where: str) -> str | None:
    """Return the id a user gave to own data.

    Raises:
        ConfigError: it is the id of a public benchmark, which only its own loader may give.
    """
    if benchmark in RESERVED_BENCHMARKS:
        raise ConfigError(
            f"{where}.benchmark: {benchmark!r} belongs to a public benchmark that has its own task; "
            "use that task, or another id"
        )
    return benchmark


def select_features(
    x: np.ndarray, names: Sequence[str], wanted: Sequence[str] | None, *, where: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Keep the `wanted` entries of the last axis of `x`, in that order.

    Raises:
        DataError: a wanted feature is not there.
    """
    if wanted is None:
        return x, tuple(names)
    for feature in wanted:
        if feature not in names:
            raise DataError(
                f"{where}: {unknown_name('feature', feature, names)}; correct task.features"
            )
    return x[..., [list(names).index(feature) for feature in wanted]], tuple(wanted)


def drop_non_finite(
    x: np.ndarray, y: np.ndarray, *, non_finite: str, part: str
) -> tuple[np.ndarray, np.ndarray, list[Check]]:
    """Remove rows with NaN or infinity when `non_finite` is "drop"; else leave them to be refused."""
    if non_finite == "error" or x.dtype.kind != "f" or x.size == 0:
        return x, y, []
    with np.errstate(over="ignore"):
        good = np.isfinite(x.astype(np.float32)).reshape(len(x), -1).all(axis=1)
    n_bad = int((~good).sum())
    detail = f"{n_bad} of {len(x)} {part} rows with NaN or infinity were removed"
    return (
        x[good],
        y[good],
        [Check(name=f"non_finite_{part}", outcome="noted" if n_bad else "passed", detail=detail)],
    )


def from_table(
    *,
    name: str,
    benchmark: str | None,
    x: np.ndarray,
    y: np.ndarray,
    feature_names: Sequence[str],
    class_names: Sequence[str],
    options: SplitOptions,
    provenance: dict[str, Any],
    checks: Sequence[Check] = (),
) -> TaskData:
    """Split one table by its options and finish as `from_parts` does."""
    where = f"task.{name}"
    if len(x) != len(y):
        raise DataError(
            f"{where}: {len(x)} rows but {len(y)} labels; expected one label for each row"
        )
    if len(x) == 0:
        raise DataError(f"{where}: the table is empty; expected at least one row; check the file")
    x, y, dropped = drop_non_finite(x, y, non_finite=options.non_finite, part="table")
    if len(x) == 0:
        raise DataError(f"{where}: the table is empty without its non-finite rows; clean the data")
    if options.split == "stratified":
        _require_two_rows_of_each_class(y, class_names, where)
        # By name, so that the rows do not depend on the label order.
        groups = np.argsort(np.argsort(np.array(class_names)))[y]
        train, test = stratified_split(
            groups, test_fraction=options.test_fraction, seed=options.seed
        )
    else:
        train, test = sklearn_split(len(y), test_fraction=options.test_fraction, seed=options.seed)
    return from_parts(
        name=name,
        benchmark=benchmark,
        x_train=x[train],
        y_train=y[train],
        x_test=x[test],
        y_test=y[test],
        feature_names=feature_names,
        class_names=class_names,
        options=options,
        split=f"{options.split}, test fraction {options.test_fraction:g}, seed {options.seed}",
        provenance=provenance,
        checks=[*checks, *dropped],
    )


def _require_two_rows_of_each_class(y: np.ndarray, class_names: Sequence[str], where: str) -> None:
    counts = np.bincount(y, minlength=len(class_names))
    single = [class_names[int(i)] for i in np.flatnonzero(counts == 1)]
    if single:
        raise DataError(
            f"{where}: classes {single} have a single row; expected at least 2, one to train on and one to "
            "test on; remove the class or add rows"
        )


def from_parts(
    *,
    name: str,
    benchmark: str | None,
    x_train: np.ndarray,
    y_train: np.ndarray,
    x_test: np.ndarray,
    y_test: np.ndarray,
    feature_names: Sequence[str],
    class_names: Sequence[str],
    options: TaskOptions,
    split: str,
    provenance: dict[str, Any],
    checks: Sequence[Check] = (),
) -> TaskData:
    """Apply the common options to a training and a test set and build the `TaskData`."""
    where = f"task.{name}"
    notes = list(checks)
    parts = {}
    for part, x, y, limit in (
        ("train", x_train, y_train, options.n_train_max),
        ("test", x_test, y_test, options.n_test_max),
    ):
        x, features = select_features(x, feature_names, options.features, where=where)
        x, y, dropped = drop_non_finite(x, y, non_finite=options.non_finite, part=part)
        notes += dropped
        y, classes = reorder_classes(y, class_names, options.class_names, where=where)
        if limit is not None and limit < len(y):
            notes.append(
                Check(
                    name=f"{part}_limited",
                    outcome="noted",
                    detail=f"first {limit} of {len(y)} {part} rows kept",
                )
            )
            if part == "test" and benchmark is not None:
                benchmark = f"{benchmark}-first-{limit}"  # another test set is another benchmark
        parts["x_" + part], parts["y_" + part] = x[:limit], y[:limit]
    return build_task_data(
        name=name,
        benchmark=benchmark,
        **parts,
        feature_names=features,
        class_names=classes,
        split=split,
        provenance=provenance,
        checks=notes,
    )
