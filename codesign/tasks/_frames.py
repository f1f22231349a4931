"""Tables with named columns (csv, parquet): a label column, the rest features."""

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from codesign.errors import ConfigError, DataError, unknown_name
from codesign.tasks._download import sha256_of
from codesign.tasks._labels import encode_labels
from codesign.tasks._options import FileOptions
from codesign.tasks._prepare import (
    Truth,
    from_parts,
    from_table,
    own_benchmark,
    require_path,
)
from codesign.tasks.base import Check, TaskData


class FrameOptions(FileOptions):
    """Options of csv and parquet tables.

    Attributes:
        label: the label column, or several one-hot columns.
        drop: columns that are neither features nor labels (row numbers).
        weight: column of event weights.
        test_path: a second file with the test rows; the split options then do not apply.
    """

    label: str | tuple[str, ...] = "label"
    drop: tuple[str, ...] = Field(default=())
    weight: str | None = None
    test_path: Path | None = None


def load_frames(name: str, options: FrameOptions, read: Any) -> TaskData:
    """Load one or two tables.

    Args:
        name: the task's name.
        options: its options.
        read: function from a path to a pandas data frame; raises `DataError`.
    """
    where = f"task.{name}"
    path = require_path(options.path, kind="file", where=where)
    benchmark = own_benchmark(options.benchmark, where=where)
    frame = read(path)
    if options.weight is not None:
        options = options.model_copy(update={"drop": (*options.drop, options.weight)})
    if options.heads is not None and any(head.columns for head in options.heads):
        return _load_heads(name, options, frame, read, benchmark)
    provenance = {"file": path.name, "sha256": sha256_of(path)}
    x, raw_labels, features = _columns(frame, options, f"{where}: {path.name}")
    weights = _weights(frame, options, f"{where}: {path.name}")
    classes = _class_names(options)
    if options.test_path is None:
        labels, names = encode_labels(raw_labels, class_names=classes, where=where)
        return from_table(
            name=name,
            benchmark=benchmark,
            x=x,
            y=labels,
            feature_names=features,
            class_names=names,
            options=options,
            provenance=provenance,
            weights=weights,
        )
    test_path = require_path(options.test_path, kind="file", where=f"{where}.test_path")
    test_frame = read(test_path)
    x_test, raw_test_labels, test_features = _columns(
        test_frame, options, f"{where}: {test_path.name}"
    )
    if sorted(test_features) != sorted(features):
        raise DataError(
            f"{where}: {path.name} has columns {list(features)}, {test_path.name} {list(test_features)}; "
            "expected the same"
        )
    notes = []
    if test_features != features:
        x_test = x_test[:, [test_features.index(feature) for feature in features]]
        notes.append(
            Check(
                name="column_order", outcome="noted", detail="test columns were reordered by name"
            )
        )
    if raw_labels.dtype.kind != raw_test_labels.dtype.kind:
        raise DataError(
            f"{where}: labels are {raw_labels.dtype} in {path.name} but {raw_test_labels.dtype} in "
            f"{test_path.name}; expected the same kind"
        )
    both = np.concatenate((raw_labels, raw_test_labels))
    labels, names = encode_labels(both, class_names=classes, where=where)
    return from_parts(
        name=name,
        benchmark=benchmark,
        x_train=x,
        y_train=labels[: len(x)],
        x_test=x_test,
        y_test=labels[len(x) :],
        feature_names=features,
        class_names=names,
        options=options,
        split="given by two files",
        provenance={**provenance, "test_file": test_path.name, "test_sha256": sha256_of(test_path)},
        checks=notes,
        weights_train=weights,
        weights_test=_weights(test_frame, options, f"{where}: {test_path.name}"),
    )


def _load_heads(
    name: str, options: FrameOptions, frame: Any, read: Any, benchmark: str | None
) -> TaskData:
    """Load tables whose heads name their columns."""
    where = f"task.{name}"
    assert options.heads is not None
    wishes = [head for head in options.heads if head.kind != "reconstruction"]
    for head in wishes:
        if not head.columns or head.kind is None:
            raise ConfigError(
                f"{where}.heads.{head.name}: states no columns or no kind; expected both for every head of a table"
            )
        if head.kind != "values" and len(head.columns) > 1:
            raise ConfigError(
                f"{where}.heads.{head.name}: {list(head.columns)} are several columns of classes; expected one"
            )
    columns = [column for head in wishes for column in head.columns or ()]
    plain = options.model_copy(update={"label": tuple(columns)})
    frames = [frame]
    if options.test_path is not None:
        frames.append(
            read(require_path(options.test_path, kind="file", where=f"{where}.test_path"))
        )
    parts = [_columns(part, plain, where) for part in frames]
    if len(parts) == 2 and parts[0][2] != parts[1][2]:
        raise DataError(
            f"{where}: the two tables have other columns or another order; expected the same"
        )
    raw = np.concatenate([part[1] for part in parts])
    truths, y, first = [], [], 0
    for head in wishes:
        own = raw[:, first : first + len(head.columns or ())]
        first += own.shape[1]
        if head.kind == "values":
            try:
                y.append(own.astype(np.float32))
            except (TypeError, ValueError) as error:
                raise DataError(
                    f"{where}.heads.{head.name}: columns {list(head.columns or ())} hold text; expected numbers"
                ) from error
            truths.append(Truth(name=head.name, kind="values", names=tuple(head.columns or ())))
        else:
            labels, names = encode_labels(own[:, 0], class_names=options.class_names, where=where)
            y.append(labels.astype(np.float32)[:, None])
            truths.append(Truth(name=head.name, kind="classes", names=names))
    truth = np.concatenate(y, axis=1)
    n = len(parts[0][0])
    weights = [_weights(part, options, where) for part in frames]
    common: dict[str, Any] = {
        "name": name,
        "benchmark": benchmark,
        "feature_names": parts[0][2],
        "class_names": (),
        "options": options.model_copy(update={"class_names": None}),
        "provenance": {"file": options.path.name, "sha256": sha256_of(options.path)},
        "truths": truths,
    }
    if len(parts) == 1:
        return from_table(x=parts[0][0], y=truth, weights=weights[0], **common)
    return from_parts(
        x_train=parts[0][0],
        y_train=truth[:n],
        x_test=parts[1][0],
        y_test=truth[n:],
        weights_train=weights[0],
        weights_test=weights[1],
        split="given by two files",
        **common,
    )


def _weights(frame: Any, options: FrameOptions, where: str) -> np.ndarray | None:
    """Return the event weights of a table, float64 [n], or None where it has none."""
    if options.weight is None:
        return None
    column = frame[options.weight]
    if column.dtype.kind not in "fiub":
        raise DataError(
            f"{where}: the column of weights {options.weight!r} holds text; expected numbers; correct task.options.weight"
        )
    return np.asarray(column.to_numpy(dtype=np.float64))


def _class_names(options: FrameOptions) -> tuple[str, ...] | None:
    # One-hot columns carry the names; a wanted order is applied later, by name.
    return options.class_names if isinstance(options.label, str) else options.label


def _columns(
    frame: Any, options: FrameOptions, where: str
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Return feature values float64 [n, n_features], labels and feature names."""
    if frame.shape[0] == 0:
        raise DataError(f"{where}: the table is empty; expected at least one row; check the file")
    columns = [str(column) for column in frame.columns]
    frame = frame.set_axis(columns, axis=1)
    label_columns = [options.label] if isinstance(options.label, str) else list(options.label)
    for option, named in (("label", label_columns), ("drop", options.drop)):
        for column in named:
            if column not in columns:
                raise DataError(
                    f"{where}: {unknown_name('column', column, columns)}; name it in the option {option!r}"
                )
    features = tuple(c for c in columns if c not in label_columns and c not in options.drop)
    if options.features is not None:  # text columns that are not used do no harm
        features = tuple(c for c in features if c in options.features)
    if not features:
        raise DataError(
            f"{where}: no feature column is left of {columns}; check label, drop and features"
        )
    text = [c for c in features if frame[c].dtype.kind not in "fiub"]
    if text:
        raise DataError(
            f"{where}: feature columns {text} are not numbers; expected numbers; list them under drop, or encode them"
        )
    labels = frame[label_columns].to_numpy()
    labels = labels[:, 0] if isinstance(options.label, str) else labels
    if labels.dtype.kind == "O" and labels.ndim == 1:
        missing = frame[label_columns[0]].isna().to_numpy()
        if missing.any():
            raise DataError(
                f"{where}: {int(missing.sum())} of {len(labels)} labels are missing (first: row "
                f"{int(missing.argmax())}); expected one class for each row; clean the label column"
            )
        labels = np.array([str(value) for value in labels.tolist()])
    return frame[list(features)].to_numpy(dtype=np.float64), labels, features
