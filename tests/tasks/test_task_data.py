"""What `build_task_data` checks, refuses and records."""

import dataclasses
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.errors import CodesignWarning, DataError, DesignError
from codesign.tasks import TaskData, build_task_data, load_task, require_one_benchmark
from codesign.tasks.base import content_digest, row_keys


def parts(**changes: Any) -> dict[str, Any]:
    """Arguments of a good small task."""
    generator = np.random.default_rng(1)
    good: dict[str, Any] = {
        "name": "small",
        "benchmark": None,
        "x_train": generator.normal(size=(12, 3)),
        "y_train": np.arange(12) % 2,
        "x_test": generator.normal(size=(6, 3)),
        "y_test": np.arange(6) % 2,
        "feature_names": ("a", "b", "c"),
        "class_names": ("no", "yes"),
        "split": "given",
        "provenance": {},
    }
    return good | changes


def outcome(data: TaskData, name: str) -> str:
    return next(check.outcome for check in data.checks if check.name == name)


def detail(data: TaskData, name: str) -> str:
    return next(check.detail for check in data.checks if check.name == name)


def with_value(value: float) -> np.ndarray:
    x = parts()["x_train"].copy()
    x[5, 1] = value
    return x


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": with_value(np.nan)}, "1 of 12 rows hold NaN.*'b'.*non_finite: drop"),
        ({"x_test": with_value(np.inf), "y_test": np.arange(12) % 2}, "test set: 1 of 12 rows"),
        ({"x_train": with_value(1e39)}, "as float32"),
        ({"x_train": np.zeros((0, 3)), "y_train": np.zeros(0, int)}, "inputs are empty"),
        ({"x_train": np.zeros(12)}, "expected \\[n, ..., n_features\\]"),
        ({"x_train": np.array([["x"] * 3] * 12)}, "expected numbers"),
        ({"y_train": np.zeros(11, int)}, "labels have shape \\(11,\\); expected \\(12,\\)"),
        ({"y_train": np.arange(12) % 3}, "labels run from 0 to 2, but there are 2 classes"),
        ({"y_train": np.arange(12) % 2 - 1}, "labels run from -1 to 0"),
        ({"y_train": np.ones(12)}, "expected class indices"),
        ({"y_train": np.ones(12, int)}, "no training row of class \\['no'\\]"),
        ({"feature_names": ("a", "b")}, "3 feature columns but 2 feature names"),
        ({"feature_names": ("a", "b", "a")}, "\\['a'\\] appear more than once"),
        ({"class_names": ("no", "no")}, "class names \\['no'\\]"),
        ({"feature_names": ("a", "b", " ")}, "a feature name is empty"),
        ({"class_names": ("only",), "y_train": np.zeros(12, int)}, "one class only"),
        ({"feature_names": ()}, "no feature names"),
        ({"x_test": np.zeros((6, 2, 3))}, "expected the same; check the two files"),
    ],
)
def test_unusable_data_is_refused_and_the_reason_given(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        build_task_data(**parts(**changes))


def test_good_data_passes_every_check() -> None:
    data = build_task_data(**parts())
    assert {check.outcome for check in data.checks} == {"passed"}
    assert data.benchmark == f"own-{data.digest[:12]}"


def test_constant_features_are_noted_also_when_they_vary_in_test() -> None:
    arguments = parts()
    arguments["x_train"][:, 2] = 7.0
    data = build_task_data(**arguments)
    assert "['c']" in detail(data, "constant_features")
    assert outcome(data, "constant_features_that_vary_in_test") == "noted"
    arguments["x_test"][:, 2] = 7.0
    data = build_task_data(**arguments)
    assert "constant_features_that_vary_in_test" not in {check.name for check in data.checks}


def test_duplicate_features_are_noted_once_for_each_later_copy() -> None:
    arguments = parts()
    for x in (arguments["x_train"], arguments["x_test"]):
        x[:, 1] = x[:, 0]
        x[:, 2] = x[:, 0]
    assert detail(build_task_data(**arguments), "duplicate_features") == "b equals a; c equals a"
    arguments["x_test"][0, 1] += 1.0
    assert detail(build_task_data(**arguments), "duplicate_features") == "c equals a"


def test_a_class_without_test_rows_is_warned_about() -> None:
    with pytest.warns(CodesignWarning, match="no test row of class \\['yes'\\]"):
        data = build_task_data(**parts(y_test=np.zeros(6, int)))
    assert outcome(data, "classes_without_test_rows") == "noted"
    assert "100.0%" in detail(data, "majority_class")


def test_test_rows_that_leak_from_training_are_counted() -> None:
    arguments = parts()
    arguments["x_test"][:2] = arguments["x_train"][[3, 7]]
    assert detail(build_task_data(**arguments), "test_rows_also_in_training").startswith("2 of 6")


@given(n_rows=st.integers(1, 40), n_columns=st.integers(1, 5), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_row_keys_tell_rows_apart_exactly_as_comparing_them_does(
    n_rows: int, n_columns: int, seed: int
) -> None:
    x = np.random.default_rng(seed).integers(-1, 2, (n_rows, n_columns)).astype(np.float32)
    x[x == 0] = -0.0 if seed % 2 else 0.0
    expected = np.unique(x, axis=0, return_inverse=True)[1].reshape(-1)
    found = np.unique(row_keys(x), return_inverse=True)[1]
    assert len(set(zip(expected.tolist(), found.tolist(), strict=True))) == len(
        set(expected.tolist())
    )
    assert len(set(found.tolist())) == len(set(expected.tolist()))


@pytest.mark.parametrize(
    "field", ["x_train", "y_train", "x_test", "y_test", "feature_names", "class_names"]
)
def test_the_digest_depends_on_every_part_of_the_content(field: str) -> None:
    content = {
        "x_train": np.ones((3, 2), np.float32),
        "y_train": np.array([0, 1, 0]),
        "x_test": np.ones((2, 2), np.float32),
        "y_test": np.array([0, 1]),
        "feature_names": ["a", "b"],
        "class_names": ["no", "yes"],
    }
    before = content_digest(**content)
    value = content[field]
    content[field] = value[::-1] if isinstance(value, list) else value + value.dtype.type(1)
    assert content_digest(**content) != before
    assert re.fullmatch("[0-9a-f]{64}", before)


def test_the_digest_ignores_memory_layout() -> None:
    arguments = parts()
    other = parts(
        x_train=np.asfortranarray(arguments["x_train"]), y_test=arguments["y_test"].astype(np.int8)
    )
    assert build_task_data(**arguments).digest == build_task_data(**other).digest


def test_task_data_is_frozen_and_apart_from_its_source() -> None:
    arguments = parts()
    x_train = arguments["x_train"].astype(np.float32)
    data = build_task_data(**parts(x_train=x_train))
    x_train[0] = 99.0
    assert data.x_train.max() < 99.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.name = "other"  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        data.x_train[0] = 0.0


def test_particles_are_inputs_too() -> None:
    generator = np.random.default_rng(0)
    data = build_task_data(
        **parts(x_train=generator.normal(size=(12, 4, 3)), x_test=generator.normal(size=(6, 4, 3)))
    )
    assert data.input_shape == (4, 3)


def test_benchmarks_are_never_mixed_in_a_table() -> None:
    assert require_one_benchmark(["openml-42468", "openml-42468"]) == "openml-42468"
    with pytest.raises(DataError, match="cernbox-hlf.*openml-42468"):
        require_one_benchmark(["openml-42468", "cernbox-hlf"])
    with pytest.raises(DataError, match="exactly one"):
        require_one_benchmark([])


def test_an_unknown_task_gets_the_nearest_name() -> None:
    with pytest.raises(DesignError, match="did you mean 'jets'"):
        load_task("jts")
