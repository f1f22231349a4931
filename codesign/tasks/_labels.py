"""Labels of any kind to class indices, with an explicit label order."""

from collections.abc import Sequence

import numpy as np

from codesign.errors import DataError

#: Whole numbers that are taken for classes unasked; more are more often a quantity.
_MOST_NUMBERS = 20


def encode_labels(
    labels: np.ndarray, *, class_names: Sequence[str] | None, where: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Turn text or number labels into indices.

    Args:
        labels: [n] of text, bytes, booleans or whole numbers; or one-hot [n, n_classes].
        class_names: the label order; when None, sorted (what scikit-learn's LabelEncoder does).
            For whole-number labels 0..k-1 it names them; for one-hot labels it names the columns.
        where: for messages.

    Returns:
        int64 [n] indices and the class names in label order.

    Raises:
        DataError: missing or unknown labels, broken one-hot rows, or names that do not match.
    """
    labels = np.asarray(labels)
    if labels.size == 0:
        raise DataError(f"{where}: there are no labels; expected one for each row; check the file")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2:
        names = tuple(class_names or (str(i) for i in range(labels.shape[1])))
        if len(names) != labels.shape[1]:
            raise DataError(
                f"{where}: labels are one-hot with {labels.shape[1]} columns, but there are {len(names)} "
                f"class names {list(names)}; expected one for each"
            )
        return decode_one_hot(labels, where=where), names
    if labels.ndim != 1:
        raise DataError(
            f"{where}: labels have shape {labels.shape}; expected [n] or one-hot [n, n_classes]"
        )
    if labels.dtype.kind in "fiub":
        return _encode_numbers(labels, class_names, where)
    text = np.array([_text(value, where) for value in labels.tolist()])
    names = tuple(class_names or sorted(set(text.tolist())))
    return _indices(text, names, where), names


def decode_one_hot(one_hot: np.ndarray, *, where: str) -> np.ndarray:
    """Return the index of the single 1 of every row, int64 [n].

    Raises:
        DataError: a row is not one-hot.
    """
    good = np.isin(one_hot, (0, 1)).all(axis=1) & (one_hot.sum(axis=1) == 1)
    if not good.all():
        row = int(np.flatnonzero(~good)[0])
        raise DataError(
            f"{where}: {int((~good).sum())} of {len(one_hot)} label rows are not one-hot (first: row {row}, "
            f"{one_hot[row].tolist()}); expected a single 1 in each; check the label columns"
        )
    indices: np.ndarray = one_hot.argmax(axis=1).astype(np.int64)
    return indices


def reorder_classes(
    labels: np.ndarray, source: Sequence[str], wanted: Sequence[str] | None, *, where: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Re-index labels from the `source` order of class names to the `wanted` one.

    Raises:
        DataError: the two do not hold the same names.
    """
    if wanted is None or tuple(wanted) == tuple(source):
        return labels, tuple(source)
    if sorted(wanted) != sorted(source):
        raise DataError(
            f"{where}: class_names {list(wanted)} do not match the classes of the data {list(source)}; "
            "expected the same names in any order"
        )
    new_index = np.array([list(wanted).index(name) for name in source], dtype=np.int64)
    return new_index[labels], tuple(wanted)


def _encode_numbers(
    labels: np.ndarray, class_names: Sequence[str] | None, where: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    values = labels.astype(np.float64)
    if not np.isfinite(values).all():
        raise DataError(
            f"{where}: {int((~np.isfinite(values)).sum())} labels are NaN or infinite; expected one class for "
            "each row; clean the label column"
        )
    if (values != np.round(values)).any():
        raise DataError(
            f"{where}: labels are not whole numbers (such as {values[values != np.round(values)][0]:g}); "
            "expected classes; for values, state a head of kind values"
        )
    whole = values.astype(np.int64)
    if class_names is None:
        names, indices = np.unique(whole, return_inverse=True)
        if len(names) > _MOST_NUMBERS:
            raise DataError(
                f"{where}: labels are {len(names)} different whole numbers; classes or values? For values state kind:"
                " values (of a table, a head of kind values), for classes class_names"
            )
        return indices.astype(np.int64), tuple(str(name) for name in names)
    if whole.min() >= 0 and whole.max() < len(class_names):
        return whole, tuple(class_names)
    return _indices(whole.astype(str), tuple(class_names), where), tuple(class_names)


def _indices(text: np.ndarray, names: tuple[str, ...], where: str) -> np.ndarray:
    order = np.argsort(names)
    at = np.clip(np.searchsorted(np.array(names)[order], text), 0, len(names) - 1)
    indices = order[at]
    unknown = np.array(names)[indices] != text
    if unknown.any():
        found = sorted(set(text[unknown].tolist()))[:5]
        raise DataError(
            f"{where}: {int(unknown.sum())} labels are not among the classes {list(names)} (such as {found}); "
            "correct the labels or class_names"
        )
    return indices.astype(np.int64)


def _text(value: object, where: str) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if value is None or value != value:  # NaN is the only value that differs from itself
        raise DataError(
            f"{where}: a label is missing; expected one class for each row; clean the label column"
        )
    return str(value)
