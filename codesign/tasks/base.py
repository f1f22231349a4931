"""What a task is: checked arrays with names, a label order, a split, provenance and a digest.

A task (one file per source in this package) turns options into a `TaskData`.  Everything that crosses
the boundary goes through `build_task_data`, which checks the content, records what it found in
`checks` and refuses what cannot be trained or judged on.
"""

import hashlib
import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from codesign.config import parse
from codesign.errors import CodesignWarning, ConfigError, DataError
from codesign.metrics import Metric
from codesign.registry import Registry
from codesign.tasks._options import TaskOptions
from codesign.tasks.target import OF_CLASSES, Head, Target, classes_target

#: Benchmark ids that only the loader of that very benchmark may give to data it has verified.
RESERVED_BENCHMARKS = (
    "codesign-jets-v1",
    "codesign-jet-particles-v1-8",
    "codesign-jet-particles-v1-16",
    "codesign-muons-v1",
    "codesign-level1-v2",
    "openml-42468",
    "cernbox-hlf",
    "zenodo-3602260-hlf",
    "zenodo-3602260-constituents",
)


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at while loading.

    Args:
        name: what was checked ("constant_features").
        outcome: "passed", or "noted" when a person should know.  What fails raises instead.
        detail: one sentence with the numbers.
    """

    name: str
    outcome: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class Events:
    """What the rows of a test set are, where a network is trained without that knowledge.

    Args:
        labels: int64 [n_test], indices into `names`; 0 is the background.
        names: the background and the signals.
        metric: judges a score against the labels.
        rate_khz: rate that all background rows together stand for, in proportion to their weights.
    """

    labels: np.ndarray
    names: tuple[str, ...]
    metric: Metric
    rate_khz: float

    def __post_init__(self) -> None:
        if self.metric.truth != "classes":
            raise ConfigError(
                f"judged_by: metric {self.metric.name!r} judges {self.metric.truth}, but events are classes; choose another"
            )


@dataclass(frozen=True, kw_only=True)
class TaskData:
    """Inputs with what is to be answered, raw (not standardised), read-only.

    Args:
        name: the registered task it came from.
        benchmark: which benchmark the test set is; numbers of two benchmarks are never comparable.
        x_train: float32 [n_train, ..., n_features], raw values.
        y_train: the truth: int64 [n_train], indices into `class_names`, or, for any other target,
            float32 [n_train, target.n_columns].
        x_test: float32 [n_test, ..., n_features].
        y_test: as y_train.
        feature_names: one name per entry of the last axis.
        class_names: the label order; of other targets those of the first head that has classes, else none.
        target: what a network is to answer.
        weights_train, weights_test: float32 [n], at least 0; None weighs all rows alike.
        sampling: "uniform" or "weighted", see `TaskOptions`.
        events: what the test rows are, for scores that are trained without labels.
        split: how train and test were separated, in one sentence.
        provenance: where the data came from; JSON values only.
        checks: what was checked while loading.
        digest: SHA-256 (hex) of names, arrays and label order; see `content_digest`.
    """

    name: str
    benchmark: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    feature_names: tuple[str, ...]
    class_names: tuple[str, ...]
    split: str
    provenance: Mapping[str, Any]
    checks: tuple[Check, ...]
    digest: str
    target: Target
    weights_train: np.ndarray | None = None
    weights_test: np.ndarray | None = None
    sampling: Literal["uniform", "weighted"] = "uniform"
    events: Events | None = None

    @property
    def n_features(self) -> int:
        """Entries of the last axis of an input."""
        return len(self.feature_names)

    @property
    def n_outputs(self) -> int:
        """Outputs of a network for this task."""
        return self.target.n_outputs

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, without the batch axis."""
        return tuple(self.x_train.shape[1:])

    def summary(self) -> dict[str, Any]:
        """Return everything but the arrays, as JSON values (for `study.yaml` and reports)."""
        return {
            "task": self.name,
            "benchmark": self.benchmark,
            "n_train": len(self.y_train),
            "n_test": len(self.y_test),
            "input_shape": list(self.input_shape),
            "feature_names": list(self.feature_names),
            "class_names": list(self.class_names),
            "target": self.target.statement(),
            "events": None
            if self.events is None
            else {
                "names": list(self.events.names),
                "metric": {"name": self.events.metric.name, **self.events.metric.model_dump()},
                "rate_khz": self.events.rate_khz,
            },
            "split": self.split,
            "digest": self.digest,
            "provenance": dict(self.provenance),
            "checks": [vars(check) for check in self.checks],
        }


class Task(ABC):
    """One source of data.  A leaf per file in `codesign/tasks`, registered in `TASKS`."""

    #: The name in YAML.  A file format: never rename.
    name: ClassVar[str]
    #: One line for `codesign data list`.
    description: ClassVar[str]
    #: What must be there before it loads: "nothing", "a download", "a path".
    needs: ClassVar[str]
    #: The options it understands.
    options_type: ClassVar[type[TaskOptions]]

    @abstractmethod
    def load(self, options: Any) -> TaskData:
        """Load, check and split the data.

        Args:
            options: an instance of `options_type`.

        Raises:
            DataError: the data is missing or unusable.
            ConfigError: an option is wrong.
            ToolError: an optional package is not installed.
        """


#: Every task.
TASKS: Registry[Task] = Registry(kind="task", package="codesign.tasks")


def load_task(name: str, options: Mapping[str, Any] | None = None) -> TaskData:
    """Load the task called `name` with options as they stand in a YAML file.

    Args:
        name: a registered task.
        options: option names and values; missing ones take their defaults.

    Raises:
        DesignError: no such task.
        ConfigError: an unknown or wrong option, with its key path.
        DataError: the data is missing or unusable.
    """
    task = TASKS.get(name)
    return task.load(parse(task.options_type, dict(options or {}), where=f"task.{name}"))


def content_digest(
    x_train: np.ndarray,
    y_train: np.ndarray,
    x_test: np.ndarray,
    y_test: np.ndarray,
    feature_names: Sequence[str],
    class_names: Sequence[str],
    more: Sequence[np.ndarray] = (),
) -> str:
    """Return the SHA-256 (hex) of the content: names, label order, shapes and little-endian values.

    Args:
        x_train, y_train, x_test, y_test, feature_names, class_names: see `TaskData`.
        more: weights and labels of events, where there are some.
    """
    digest = hashlib.sha256()
    head = {"schema": 1, "features": list(feature_names), "classes": list(class_names)}
    digest.update(json.dumps(head, sort_keys=True).encode())
    for array in (x_train, y_train, x_test, y_test, *more):
        dtype = "<i8" if array.dtype.kind == "i" else "<f4"
        digest.update(repr(array.shape).encode())
        digest.update(np.ascontiguousarray(array, dtype=dtype).data)
    return digest.hexdigest()


def require_one_benchmark(benchmarks: Iterable[str]) -> str:
    """Return the one benchmark that all rows of a table share.

    Raises:
        DataError: there are none or several; OpenML's and CERNBox's jets, say, differ by about a
            percentage point for the same network, so a table that mixes them misleads.
    """
    found = sorted(set(benchmarks))
    if len(found) != 1:
        raise DataError(
            f"a table needs results of exactly one benchmark, got {found}; make one table for each"
        )
    return found[0]


def build_task_data(
    *,
    name: str,
    benchmark: str | None,
    x_train: np.ndarray,
    y_train: np.ndarray,
    x_test: np.ndarray,
    y_test: np.ndarray,
    feature_names: Sequence[str],
    class_names: Sequence[str],
    split: str,
    provenance: Mapping[str, Any],
    checks: Sequence[Check] = (),
    target: Target | None = None,
    weights_train: np.ndarray | None = None,
    weights_test: np.ndarray | None = None,
    sampling: Literal["uniform", "weighted"] = "uniform",
    events: Events | None = None,
    may_be_constant: bool = False,
) -> TaskData:
    """Check arrays and make a `TaskData` of them.

    Args:
        benchmark: id of the benchmark, or None for data of one's own, whose id is then made from
            the digest (so that two versions of it are never mistaken for one another).
        checks: what the loader has already checked; the checks made here are appended.
        target: what is to be answered; None: the classes.
        may_be_constant: values may all be alike in training: nothing is to be learned from them.
        name, x_train, y_train, x_test, y_test, feature_names, class_names, split, provenance,
        weights_train, weights_test, sampling, events: see `TaskData`; any numeric dtype, converted here.

    Raises:
        DataError: empty, non-finite, mismatched or unlearnable data.
    """
    features = tuple(str(feature) for feature in feature_names)
    classes = tuple(str(label) for label in class_names)
    _check_names(features, "feature")
    target = target or classes_target(classes)
    for head in target.heads:
        _check_head(head, name)
    arrays, weights = {}, []
    for part, x, y, weight in (
        ("train", x_train, y_train, weights_train),
        ("test", x_test, y_test, weights_test),
    ):
        where = f"{name}: {part} set"
        arrays["x_" + part] = _checked_inputs(x, features, where)
        if target.is_one_class_label:
            arrays["y_" + part] = _checked_labels(y, len(x), target.heads[0].names, where)
        else:
            arrays["y_" + part] = _checked_truth(y, len(x), target, where)
        weights.append(_checked_weights(weight, len(x), where))
    if arrays["x_train"].shape[1:] != arrays["x_test"].shape[1:]:
        raise DataError(
            f"{name}: train inputs have shape {arrays['x_train'].shape[1:]}, test inputs "
            f"{arrays['x_test'].shape[1:]}; expected the same; check the two files"
        )
    found = [
        *checks,
        Check(
            name="finite",
            outcome="passed",
            detail=f"all {arrays['x_train'].size + arrays['x_test'].size} values are finite in float32",
        ),
        *_truth_checks(
            arrays["y_train"], arrays["y_test"], target, name, may_be_constant=may_be_constant
        ),
        *_feature_checks(arrays["x_train"], arrays["x_test"], features),
        _overlap_check(arrays["x_train"], arrays["x_test"]),
    ]
    more = [w for w in weights if w is not None] + ([] if events is None else [events.labels])
    digest = content_digest(**arrays, feature_names=features, class_names=classes, more=more)
    for array in (*arrays.values(), *more):
        array.flags.writeable = False
    return TaskData(
        name=name,
        benchmark=benchmark or f"own-{digest[:12]}",
        **arrays,
        feature_names=features,
        class_names=classes,
        split=split,
        provenance=dict(provenance),
        checks=tuple(found),
        digest=digest,
        target=target,
        weights_train=weights[0],
        weights_test=weights[1],
        sampling=sampling,
        events=events,
    )


def _check_head(head: Head, name: str) -> None:
    kind = {"values": "value", "reconstruction": "input"}.get(head.kind, "class")
    _check_names(head.names, kind)
    if kind == "class" and len(head.names) < 2:
        raise DataError(
            f"{name}: one class only ({head.names[0]!r}); expected at least two; check the labels"
        )


def _checked_truth(y: np.ndarray, n_rows: int, target: Target, where: str) -> np.ndarray:
    y = np.asarray(y)
    if y.shape != (n_rows, target.n_columns):
        raise DataError(
            f"{where}: targets have shape {y.shape}; expected ({n_rows}, {target.n_columns}), one row for each"
        )
    values = np.array(y, dtype=np.float32)
    for head, columns in zip(target.heads, target.column_slices, strict=True):
        bad = ~np.isfinite(values[:, columns]).all(axis=1)
        if bad.any():
            raise DataError(
                f"{where}: {int(bad.sum())} of {n_rows} targets of head {head.name!r} are NaN or infinite; expected finite"
                " numbers; clean the data"
            )
        if head.kind in OF_CLASSES:
            _checked_labels(values[:, columns][:, 0].astype(np.int64), n_rows, head.names, where)
    return values


def _checked_weights(weights: np.ndarray | None, n_rows: int, where: str) -> np.ndarray | None:
    if weights is None:
        return None
    with np.errstate(over="ignore"):
        values = np.array(weights, dtype=np.float32)
    if values.shape != (n_rows,):
        raise DataError(
            f"{where}: weights have shape {values.shape}; expected one weight for each of {n_rows} rows"
        )
    bad = ~np.isfinite(values)
    if bad.any():
        raise DataError(
            f"{where}: {int(bad.sum())} of {n_rows} weights are NaN or infinite (as float32); expected finite numbers;"
            " correct the weights"
        )
    if values.min() < 0 or values.max() == 0:
        raise DataError(
            f"{where}: weights run from {values.min():g} to {values.max():g}; expected none below 0 and some above;"
            " correct the weights"
        )
    return values


def _truth_checks(
    y_train: np.ndarray,
    y_test: np.ndarray,
    target: Target,
    name: str,
    *,
    may_be_constant: bool,
) -> list[Check]:
    found = []
    for index, head in enumerate(target.heads):
        train, test = (
            target.truth(index, y, np.zeros((0, 0), dtype=np.float32)) for y in (y_train, y_test)
        )
        if head.kind in OF_CLASSES:
            found += _class_checks(train, test, head.names, name)
        elif head.kind == "values":
            ranges = [
                f"{label} {column.min():.4g} to {column.max():.4g}"
                for label, column in zip(head.names, train.T, strict=True)
            ]
            constant = [n for n, c in zip(head.names, train.T, strict=True) if c.min() == c.max()]
            if constant and not may_be_constant:
                raise DataError(
                    f"{name}: head {head.name!r}: {constant} are constant in training; expected values that vary;"
                    " leave them out"
                )
            found.append(
                Check(name=f"values_{head.name}", outcome="passed", detail="; ".join(ranges))
            )
    return found


def _check_names(names: tuple[str, ...], kind: str) -> None:
    if not names:
        raise DataError(f"there are no {kind} names; expected at least one; check the file")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(
            f"{kind} names {repeated} appear more than once; expected unique names; rename them"
        )
    if any(not name.strip() for name in names):
        raise DataError(f"a {kind} name is empty in {list(names)}; name every {kind}")


def _checked_inputs(x: np.ndarray, features: tuple[str, ...], where: str) -> np.ndarray:
    x = np.asarray(x)
    if x.ndim < 2:
        raise DataError(
            f"{where}: inputs have shape {x.shape}; expected [n, ..., n_features]; reshape them"
        )
    if x.size == 0:
        raise DataError(
            f"{where}: inputs are empty (shape {x.shape}); expected at least one row; check the file"
        )
    if x.shape[-1] != len(features):
        raise DataError(
            f"{where}: {x.shape[-1]} feature columns but {len(features)} feature names; "
            "expected one name for each; check the file"
        )
    if x.dtype.kind not in "fiub":
        raise DataError(
            f"{where}: inputs are of type {x.dtype}; expected numbers; drop or encode text columns"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.array(x, dtype=np.float32)  # a copy: it becomes read-only
    bad = ~np.isfinite(values)
    if bad.any():
        rows = int(bad.reshape(len(values), -1).any(axis=1).sum())
        columns = [features[i] for i in np.flatnonzero(bad.reshape(-1, len(features)).any(axis=0))]
        raise DataError(
            f"{where}: {rows} of {len(values)} rows hold NaN or infinity (as float32) in {columns}; "
            "expected finite numbers; clean the data or set non_finite: drop"
        )
    return values


def _checked_labels(y: np.ndarray, n_rows: int, classes: tuple[str, ...], where: str) -> np.ndarray:
    y = np.asarray(y)
    if y.shape != (n_rows,):
        raise DataError(
            f"{where}: labels have shape {y.shape}; expected ({n_rows},), one for each row"
        )
    if y.dtype.kind not in "iu":
        raise DataError(
            f"{where}: labels are of type {y.dtype}; expected class indices; encode them first"
        )
    labels = np.array(y, dtype=np.int64)
    if labels.min() < 0 or labels.max() >= len(classes):
        raise DataError(
            f"{where}: labels run from {labels.min()} to {labels.max()}, but there are {len(classes)} "
            f"classes {list(classes)}; expected 0 to {len(classes) - 1}; check the label column"
        )
    return labels


def _class_checks(
    y_train: np.ndarray, y_test: np.ndarray, classes: tuple[str, ...], name: str
) -> list[Check]:
    n_train = np.bincount(y_train, minlength=len(classes))
    n_test = np.bincount(y_test, minlength=len(classes))
    untrained = [classes[i] for i in np.flatnonzero(n_train == 0)]
    if untrained:
        raise DataError(
            f"{name}: no training row of class {untrained}; expected every class in the training set; "
            "remove the class or use another split"
        )
    counts = zip(classes, n_train.tolist(), n_test.tolist(), strict=True)
    detail = "; ".join(f"{label}: {a} train, {b} test" for label, a, b in counts)
    found = [Check(name="classes", outcome="passed", detail=detail)]
    untested = [classes[i] for i in np.flatnonzero(n_test == 0)]
    if untested:
        detail = f"no test row of class {untested}: the test score says nothing about it"
        warnings.warn(f"{name}: {detail}", CodesignWarning, stacklevel=4)
        found.append(Check(name="classes_without_test_rows", outcome="noted", detail=detail))
    majority = float(n_test.max() / n_test.sum())
    found.append(
        Check(
            name="majority_class",
            outcome="noted" if majority > 0.5 else "passed",
            detail=f"always answering {classes[int(n_test.argmax())]!r} is right in {majority:.1%} of the test set",
        )
    )
    return found


def _feature_checks(
    x_train: np.ndarray, x_test: np.ndarray, features: tuple[str, ...]
) -> list[Check]:
    train = x_train.reshape(-1, len(features))
    test = x_test.reshape(-1, len(features))
    is_constant = train.max(axis=0) == train.min(axis=0)
    constant = [features[i] for i in np.flatnonzero(is_constant)]
    moved = [features[i] for i in np.flatnonzero(is_constant & (test != train[0]).any(axis=0))]
    found = [
        Check(
            name="constant_features",
            outcome="noted" if constant else "passed",
            detail=f"constant in training, so scaled by 1: {constant}" if constant else "none",
        )
    ]
    if moved:
        found.append(
            Check(
                name="constant_features_that_vary_in_test",
                outcome="noted",
                detail=f"{moved} vary in the test set only: a network cannot have learned them",
            )
        )
    duplicates = _duplicate_columns(train, test, features)
    found.append(
        Check(
            name="duplicate_features",
            outcome="noted" if duplicates else "passed",
            detail="; ".join(f"{b} equals {a}" for a, b in duplicates) or "none",
        )
    )
    return found


def _duplicate_columns(
    train: np.ndarray, test: np.ndarray, features: tuple[str, ...]
) -> list[tuple[str, str]]:
    """Pairs (first, later) of features with equal values in every row; constants are not pairs."""
    first_of: dict[bytes, int] = {}
    pairs = []
    for i, feature in enumerate(features):
        if train[:, i].max() == train[:, i].min():
            continue
        both = np.concatenate((train[:, i], test[:, i]))
        key = hashlib.sha256(both.tobytes()).digest()
        if key in first_of:
            pairs.append((features[first_of[key]], feature))
        else:
            first_of[key] = i
    return pairs


def row_keys(x: np.ndarray) -> np.ndarray:
    """Return one 64-bit key per row [n]; equal rows have equal keys.

    A random odd multiplier per column: two different rows collide with a chance of about 2**-63.
    """
    values = np.asarray(x, dtype=np.float32).reshape(len(x), -1)
    words = (values + np.float32(0.0)).view(np.uint32)  # the sum makes -0.0 and 0.0 one
    generator = np.random.default_rng(0)
    keys = np.zeros(len(x), dtype=np.uint64)
    for i in range(words.shape[1]):
        multiplier = np.uint64(generator.integers(1, 2**63) | 1)
        keys += (words[:, i].astype(np.uint64) + np.uint64(1)) * multiplier
    return keys


def _overlap_check(x_train: np.ndarray, x_test: np.ndarray) -> Check:
    n_shared = int(np.isin(row_keys(x_test), row_keys(x_train)).sum())
    return Check(
        name="test_rows_also_in_training",
        outcome="noted" if n_shared else "passed",
        detail=f"{n_shared} of {len(x_test)} test inputs also occur in the training set",
    )
