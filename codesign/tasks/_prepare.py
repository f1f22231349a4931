"""The steps that all loaders share between raw tables and `TaskData`."""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from codesign.errors import ConfigError, DataError, unknown_name
from codesign.tasks._labels import reorder_classes
from codesign.tasks._options import SplitOptions, TaskOptions
from codesign.tasks._splits import sklearn_split, stratified_split
from codesign.tasks.base import RESERVED_BENCHMARKS, Check, Events, TaskData, build_task_data
from codesign.tasks.target import OF_CLASSES, HeadOptions, Target, make_head


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


def read_npz(path: Path, where: str) -> dict[str, np.ndarray]:
    """Read all arrays of an archive, names in lower case.

    Raises:
        DataError: it is no archive of plain arrays.
    """
    if not zipfile.is_zipfile(path):
        raise DataError(
            f"{where}: {path.name} cannot be read as a NumPy archive; expected named arrays in an .npz file; "
            "save it with numpy.savez"
        )
    try:
        # Opened here: numpy leaves the file open when the archive is damaged.
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            return {key.lower(): file[key] for key in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{where}: {path.name} cannot be read as a NumPy archive ({error}); expected plain arrays, "
            "no Python objects; save it again with numpy.savez"
        ) from error


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


@dataclass(frozen=True, kw_only=True)
class Truth:
    """Something that a source knows of every row, and that a head may answer.

    Attributes:
        name: of the head.
        kind: "classes" or "anomaly" (one column of indices), or "values" (one column each).
        names: of the classes or values.
        units: of the values.
    """

    name: str
    kind: Literal["classes", "values", "anomaly"]
    names: tuple[str, ...]
    units: tuple[str, ...] = ()

    @property
    def n_columns(self) -> int:
        """Columns of the truth."""
        return len(self.names) if self.kind == "values" else 1


def drop_non_finite(
    x: np.ndarray, *more: np.ndarray | None, non_finite: str, part: str
) -> tuple[Any, ...]:
    """Remove rows with NaN or infinity when `non_finite` is "drop"; else leave them to be refused.

    Returns:
        x, each of `more` (rows of the same events, or None), and what was found.
    """
    if non_finite == "error" or x.dtype.kind != "f" or x.size == 0:
        return x, *more, []
    with np.errstate(over="ignore"):
        good = np.isfinite(x.astype(np.float32)).reshape(len(x), -1).all(axis=1)
    n_bad = int((~good).sum())
    detail = f"{n_bad} of {len(x)} {part} rows with NaN or infinity were removed"
    found = Check(name=f"non_finite_{part}", outcome="noted" if n_bad else "passed", detail=detail)
    return x[good], *(None if m is None else m[good] for m in more), [found]


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
    truths: Sequence[Truth] | None = None,
    weights: np.ndarray | None = None,
) -> TaskData:
    """Split one table by its options and finish as `from_parts` does.

    Values have no classes to keep the shares of: their rows are drawn at random.
    """
    where = f"task.{name}"
    if len(x) != len(y):
        raise DataError(
            f"{where}: {len(x)} rows but {len(y)} labels; expected one label for each row"
        )
    if len(x) == 0:
        raise DataError(f"{where}: the table is empty; expected at least one row; check the file")
    x, y, weights, dropped = drop_non_finite(
        x, y, weights, non_finite=options.non_finite, part="table"
    )
    if len(x) == 0:
        raise DataError(f"{where}: the table is empty without its non-finite rows; clean the data")
    if options.split == "stratified" and truths is not None:
        groups = np.zeros(len(y), dtype=np.int64)
        train, test = stratified_split(
            groups, test_fraction=options.test_fraction, seed=options.seed
        )
    elif options.split == "stratified":
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
        truths=truths,
        weights_train=None if weights is None else weights[train],
        weights_test=None if weights is None else weights[test],
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
    truths: Sequence[Truth] | None = None,
    weights_train: np.ndarray | None = None,
    weights_test: np.ndarray | None = None,
    events: Events | None = None,
) -> TaskData:
    """Apply the common options to a training and a test set and build the `TaskData`.

    Args:
        y_train, y_test: int [n] class indices, or, with `truths`, float [n, columns of all truths].
        truths: what the columns are; None: the classes.
        name, benchmark, x_train, x_test, feature_names, class_names, options, split, provenance, checks,
        weights_train, weights_test, events: see `TaskData`.
    """
    where = f"task.{name}"
    notes = list(checks)
    parts: dict[str, Any] = {}
    for part, x, y, weights, limit in (
        ("train", x_train, y_train, weights_train, options.n_train_max),
        ("test", x_test, y_test, weights_test, options.n_test_max),
    ):
        x, features = select_features(x, feature_names, options.features, where=where)
        labels = events.labels if events is not None and part == "test" else None
        x, y, weights, labels, dropped = drop_non_finite(
            x, y, weights, labels, non_finite=options.non_finite, part=part
        )
        notes += dropped
        classes = tuple(class_names)
        if truths is None:
            y, classes = reorder_classes(y, class_names, options.class_names, where=where)
        elif options.class_names is not None and options.class_names != classes:
            raise ConfigError(
                f"{where}.class_names: only a task of classes alone has a label order to wish; leave it out"
            )
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
        parts["weights_" + part] = None if weights is None else weights[:limit]
        if labels is not None and events is not None:
            events = replace(events, labels=labels[:limit])
    if truths is None:
        truths = [Truth(name="class", kind="classes", names=classes)]
    target, chosen = _target(truths, options, parts, features, where)
    for part in ("train", "test"):
        y = parts["y_" + part]
        y = y.reshape(len(y), -1)[:, chosen]
        parts["y_" + part] = y[:, 0].astype(np.int64) if target.is_one_class_label else y
    if options.class_weights == "balanced":
        parts["weights_train"] = _balanced(target, parts, where)
    if options.sampling == "weighted" and parts["weights_train"] is None:
        raise ConfigError(
            f"{where}.sampling: 'weighted' draws rows in proportion to their weights, but they have none; name a weight, or"
            " set class_weights: balanced"
        )
    return build_task_data(
        name=name,
        benchmark=benchmark,
        **parts,
        feature_names=features,
        class_names=classes,
        split=split,
        provenance=provenance,
        checks=notes,
        target=target,
        sampling=options.sampling,
        events=events,
    )


def _target(
    truths: Sequence[Truth],
    options: TaskOptions,
    parts: dict[str, Any],
    features: tuple[str, ...],
    where: str,
) -> tuple[Target, list[int]]:
    """Return the heads that the options wish, of what the source knows, and their columns of the truth."""
    first = np.cumsum([0, *(truth.n_columns for truth in truths)])
    known = {truth.name: (truth, int(column)) for truth, column in zip(truths, first, strict=False)}
    wishes = options.heads or tuple(HeadOptions(name=truth.name) for truth in truths)
    y = parts["y_train"].reshape(len(parts["y_train"]), -1)
    heads, chosen = [], []
    for wish in wishes:
        if wish.kind == "reconstruction":
            heads.append(
                make_head(wish.name, "reconstruction", features, options=wish, where=where)
            )
            continue
        if wish.name not in known:
            raise ConfigError(
                f"{where}.heads: {unknown_name('head', wish.name, known)}; this data knows only these"
            )
        truth, column = known[wish.name]
        columns = list(range(column, column + truth.n_columns))
        heads.append(
            make_head(
                truth.name,
                truth.kind,
                truth.names,
                options=wish,
                units=truth.units,
                values=y[:, columns] if truth.kind == "values" else None,
                where=where,
            )
        )
        chosen += columns
    return Target(heads=tuple(heads)), chosen


def _balanced(target: Target, parts: dict[str, Any], where: str) -> np.ndarray:
    """Return training weights with which every class of the first head of classes has the same total."""
    heads = [i for i, head in enumerate(target.heads) if head.kind in OF_CLASSES]
    if not heads:
        raise ConfigError(
            f"{where}.class_weights: no head has classes to balance; leave class_weights out"
        )
    labels = target.truth(heads[0], parts["y_train"], parts["x_train"]).astype(np.int64)
    weights = parts["weights_train"]
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights, dtype=np.float64)
    total = np.bincount(labels, weights)
    return np.asarray(weights / np.maximum(total, 1e-300)[labels] * len(labels) / (total > 0).sum())
