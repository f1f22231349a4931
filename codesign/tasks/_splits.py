"""Splits into training and test rows: reproducible from a seed."""

import numpy as np

from codesign.errors import DataError


def stratified_split(
    labels: np.ndarray, *, test_fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Split rows so that every class keeps its share.

    Args:
        labels: int [n].
        test_fraction: share of test rows, in (0, 1).
        seed: same seed, same labels: same split.

    Returns:
        Row indices of the training and of the test set, each in random order.

    Raises:
        DataError: a class has a single row, which cannot be on both sides.
    """
    generator = np.random.default_rng(seed)
    train, test = [], []
    for label in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == label))
        if len(rows) < 2:
            raise DataError(
                f"class {label} has a single row; expected at least 2 to split into training and test; "
                "remove the class or add rows"
            )
        n_test = min(max(round(test_fraction * len(rows)), 1), len(rows) - 1)
        test.append(rows[:n_test])
        train.append(rows[n_test:])
    return generator.permutation(np.concatenate(train)), generator.permutation(np.concatenate(test))


def sklearn_split(n_rows: int, *, test_fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Give the rows of scikit-learn's `train_test_split(test_size=test_fraction, random_state=seed)`.

    Published results on OpenML's and CERNBox's jets use that split with 0.2 and 42; the rule is one
    legacy permutation: first ceil(test_fraction n) rows to test, the rest to training.

    Raises:
        DataError: too few rows for one on each side.
    """
    n_test = int(np.ceil(test_fraction * n_rows))
    if not 0 < n_test < n_rows:
        raise DataError(
            f"{n_rows} rows cannot be split with test_fraction {test_fraction}; add rows"
        )
    order = np.random.RandomState(seed).permutation(n_rows)
    return order[n_test:], order[:n_test]
