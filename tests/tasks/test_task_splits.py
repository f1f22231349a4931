"""Splits: reproducible, disjoint, complete."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.errors import DataError
from codesign.tasks._splits import sklearn_split, stratified_split

LABELS = st.lists(st.integers(0, 4), min_size=10, max_size=200).map(
    lambda v: np.array(v + list(range(5)) * 2)
)


@given(LABELS, st.floats(0.05, 0.95), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_a_stratified_split_is_reproducible_disjoint_complete_and_keeps_shares(
    labels: np.ndarray, test_fraction: float, seed: int
) -> None:
    train, test = stratified_split(labels, test_fraction=test_fraction, seed=seed)
    again = stratified_split(labels, test_fraction=test_fraction, seed=seed)
    assert (train == again[0]).all() and (test == again[1]).all()
    assert sorted([*train, *test]) == list(range(len(labels)))
    for label in range(5):
        n, n_test = (labels == label).sum(), (labels[test] == label).sum()
        assert 1 <= n_test <= n - 1
        assert abs(n_test - test_fraction * n) <= 1  # rounding, and at least one on each side


def test_another_seed_gives_another_split() -> None:
    labels = np.arange(100) % 5
    first = stratified_split(labels, test_fraction=0.2, seed=0)[1]
    assert set(first) != set(stratified_split(labels, test_fraction=0.2, seed=1)[1])


@given(st.integers(2, 500), st.floats(0.01, 0.99), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_the_sklearn_split_gives_scikit_learns_very_rows(
    n_rows: int, test_fraction: float, seed: int
) -> None:
    from sklearn.model_selection import train_test_split

    if np.ceil(test_fraction * n_rows) >= n_rows:
        with pytest.raises(DataError, match="cannot be split"):
            sklearn_split(n_rows, test_fraction=test_fraction, seed=seed)
        return
    train, test = sklearn_split(n_rows, test_fraction=test_fraction, seed=seed)
    their_train, their_test = train_test_split(
        np.arange(n_rows), test_size=test_fraction, random_state=seed
    )
    assert sorted([*train, *test]) == list(range(n_rows))
    assert (test == their_test).all()
    # scikit-learn floors the training share, which may leave one row out of both sets
    assert (train[: len(their_train)] == their_train).all()


def test_a_class_of_one_row_cannot_be_split() -> None:
    with pytest.raises(DataError, match="class 1 has a single row"):
        stratified_split(np.array([0, 0, 0, 1]), test_fraction=0.5, seed=0)
