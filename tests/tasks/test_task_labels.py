"""Labels: any kind in, indices in a stated order out."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.errors import DataError
from codesign.tasks._labels import decode_one_hot, encode_labels, reorder_classes


@given(st.lists(st.sampled_from(["g", "q", "t", "w", "z"]), min_size=1))
def test_text_labels_are_encoded_as_scikit_learn_does(labels: list[str]) -> None:
    from sklearn.preprocessing import LabelEncoder

    encoder = LabelEncoder()
    expected = encoder.fit_transform(labels)
    indices, names = encode_labels(np.array(labels), class_names=None, where="here")
    assert (indices == expected).all() and names == tuple(encoder.classes_)


@pytest.mark.parametrize(
    ("labels", "class_names", "indices", "names"),
    [
        ([b"q", b"g"], None, [1, 0], ("g", "q")),
        (["q", "g"], ("q", "g"), [0, 1], ("q", "g")),
        ([0, 2, 1], ("a", "b", "c"), [0, 2, 1], ("a", "b", "c")),
        ([1.0, 0.0], None, [1, 0], ("0", "1")),
        ([5, 7, 5], None, [0, 1, 0], ("5", "7")),
        ([5, 7, 5], ("7", "5"), [1, 0, 1], ("7", "5")),
        ([10, 9], None, [1, 0], ("9", "10")),
        ([True, False], None, [1, 0], ("0", "1")),
        ([[1], [0]], None, [1, 0], ("0", "1")),
        ([[0, 1], [1, 0]], ("g", "q"), [1, 0], ("g", "q")),
    ],
)
def test_every_kind_of_label_becomes_an_index(
    labels: Any, class_names: tuple[str, ...] | None, indices: list[int], names: tuple[str, ...]
) -> None:
    found, found_names = encode_labels(np.array(labels), class_names=class_names, where="here")
    assert found.dtype == np.int64
    assert found.tolist() == indices and found_names == names


@pytest.mark.parametrize(
    ("labels", "class_names", "message"),
    [
        ([], None, "there are no labels"),
        (["g", "x"], ("g", "q"), "1 labels are not among the classes.*'x'"),
        ([0, 9], ("g", "q"), "not among the classes.*'9'"),
        ([0.5, 1.0], None, "not whole numbers.*0.5.*expected classes"),
        ([np.nan, 1.0], None, "1 labels are NaN"),
        ([[1, 1], [0, 1]], None, "1 of 2 label rows are not one-hot.*row 0"),
        ([[0, 0], [0, 1]], None, "not one-hot"),
        ([[0.5, 0.5], [0, 1]], None, "not one-hot"),
        ([[1, 0], [0, 1]], ("a", "b", "c"), "2 columns, but there are 3 class names"),
        ([[[1, 0]]], None, "expected \\[n\\] or one-hot"),
    ],
)
def test_labels_that_do_not_match_are_refused(
    labels: Any, class_names: tuple[str, ...] | None, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        encode_labels(np.array(labels), class_names=class_names, where="here")


def test_reordering_keeps_every_rows_class() -> None:
    # The trap it is there for: HDF5 files say g, q, w, z, t; OpenML says g, q, t, w, z.
    source, wanted = ("g", "q", "w", "z", "t"), ("g", "q", "t", "w", "z")
    labels = np.array([0, 1, 2, 3, 4, 2])
    again, names = reorder_classes(labels, source, wanted, where="here")
    assert names == wanted
    assert [wanted[i] for i in again] == [source[i] for i in labels]
    with pytest.raises(DataError, match="do not match the classes of the data"):
        reorder_classes(labels, source, ("g", "q", "t", "w", "x"), where="here")


def test_one_hot_rows_decode_to_the_column() -> None:
    assert decode_one_hot(np.eye(4)[[2, 0, 3]], where="here").tolist() == [2, 0, 3]
