"""Standardisation: what the firmware must do to raw inputs, and what may be folded away."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.errors import DataError
from codesign.tasks import (
    TaskData,
    build_task_data,
    dataset_arrays,
    fit_scaling,
    fold_into_dense,
    scaling_from_json,
)


def task_of(x_train: np.ndarray, x_test: np.ndarray | None = None) -> TaskData:
    x_test = x_train[:4] if x_test is None else x_test
    return build_task_data(
        name="small",
        benchmark=None,
        x_train=x_train,
        y_train=np.arange(len(x_train)) % 2,
        x_test=x_test,
        y_test=np.arange(len(x_test)) % 2,
        feature_names=[f"x{i}" for i in range(x_train.shape[-1])],
        class_names=("no", "yes"),
        split="given",
        provenance={},
    )


@pytest.fixture
def data() -> TaskData:
    generator = np.random.default_rng(3)
    x = generator.normal([100.0, -0.01, 0.0, 5.0], [30.0, 0.002, 1.0, 1.0], (50, 4))
    x[:, 3] = 5.0
    return task_of(x, generator.normal(size=(8, 4)))


def test_it_agrees_with_scikit_learn(data: TaskData) -> None:
    from sklearn.preprocessing import StandardScaler

    theirs = StandardScaler().fit(data.x_train.astype(np.float64))
    ours = fit_scaling(data)
    np.testing.assert_allclose(ours.mean, theirs.mean_, rtol=1e-12)
    np.testing.assert_allclose(ours.scale, theirs.scale_, rtol=1e-9)


def test_it_is_fitted_on_the_training_set_only(data: TaskData) -> None:
    other = task_of(data.x_train, data.x_test * 1000)
    assert (fit_scaling(data).mean == fit_scaling(other).mean).all()
    assert (fit_scaling(data).scale == fit_scaling(other).scale).all()


def test_a_constant_feature_has_scale_one_and_is_named(data: TaskData) -> None:
    for method in ("standard", "power_of_two"):
        scaling = fit_scaling(data, method=method)
        assert scaling.constant_features == ("x3",)
        assert scaling.scale[3] == 1.0
        assert (scaling.apply(data.x_train)[:, 3] == 0.0).all()


@given(st.floats(1e-6, 1e6), st.floats(-1e4, 1e4))
@settings(max_examples=50, deadline=None)
def test_power_of_two_scales_are_shifts_within_a_factor_of_root_two(
    spread: float, centre: float
) -> None:
    x = np.random.default_rng(0).normal(centre, spread, (40, 1)).astype(np.float32)
    exact = fit_scaling(task_of(x))
    if exact.constant_features:
        return  # the spread drowned in float32
    shift = fit_scaling(task_of(x), method="power_of_two")
    mantissa, _ = np.frexp(shift.scale)
    assert (mantissa == 0.5).all()
    ratio = shift.scale / exact.scale
    assert (ratio * (1 + 1e-12) >= 2**-0.5).all() and (ratio <= 2**0.5 * (1 + 1e-12)).all()
    offset = shift.mean / shift.scale * 256
    assert (offset == np.round(offset)).all()
    # rounding the mean moves it by at most half a step of 1/256 of the scale
    assert (np.abs(shift.mean - exact.mean) <= shift.scale / 512).all()


def test_hardware_scales_are_integer_offsets_and_right_shifts() -> None:
    x = np.random.default_rng(0).integers(-300, 900, (60, 3)).astype(np.float32)
    scaling = fit_scaling(task_of(x), method="hardware")
    assert (scaling.mean == np.round(scaling.mean)).all()
    assert (np.frexp(scaling.scale)[0] == 0.5).all()
    for fraction_bits in (-2, 3, 12):
        ports = scaling.integer_ports(fraction_bits)
        raw, offset, shift = x.astype(np.int64), np.array(ports["offset"]), ports["right_shift"]
        words = np.stack(
            [(raw - offset)[:, i] >> s if s >= 0 else (raw - offset)[:, i] << -s for i, s in enumerate(shift)],
            axis=1,
        )  # fmt: skip
        exact = scaling.apply(x).astype(np.float64) * 2.0**fraction_bits
        assert np.array_equal(words, np.floor(exact))
    assert fit_scaling(task_of(x)).integer_ports(3) is None


def test_hardware_scaling_of_fractions_is_refused_by_name(data: TaskData) -> None:
    with pytest.raises(DataError, match=r"reads whole numbers, but \['x0'.*choose power_of_two"):
        fit_scaling(data, method="hardware")


def test_none_leaves_inputs_as_they_are(data: TaskData) -> None:
    x_train, y_train, x_test, y_test = dataset_arrays(data, fit_scaling(data, method="none"))
    assert (x_train == data.x_train).all() and (x_test == data.x_test).all()
    assert (y_train == data.y_train).all() and (y_test == data.y_test).all()


@pytest.mark.parametrize("method", ["standard", "power_of_two", "none"])
def test_the_statement_for_the_firmware_reads_back_to_the_same_scaling(
    data: TaskData, method: str
) -> None:
    scaling = fit_scaling(data, method=method)
    statement = json.loads(json.dumps(scaling.to_json()))
    again = scaling_from_json(statement)
    assert (again.apply(data.x_test) == scaling.apply(data.x_test)).all()
    assert again.to_json() == scaling.to_json()
    assert statement["task_digest"] == data.digest
    first = statement["features"][0]
    assert first["offset"] == pytest.approx(first["mean"] / first["scale"])
    if method == "power_of_two":
        assert all(2.0 ** f["scale_log2"] == f["scale"] for f in statement["features"])


def test_a_statement_of_another_schema_or_with_a_key_missing_is_refused(data: TaskData) -> None:
    statement = fit_scaling(data).to_json()
    with pytest.raises(DataError, match="schema 7; expected 1"):
        scaling_from_json({**statement, "schema": 7})
    del statement["method"]
    with pytest.raises(DataError, match="lacks the key 'method'"):
        scaling_from_json(statement)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_folding_into_a_dense_layer_computes_the_same(seed: int) -> None:
    generator = np.random.default_rng(seed)
    x = generator.normal([50.0, 0.1, -3.0], [20.0, 0.01, 2.0], (30, 3))
    scaling = fit_scaling(task_of(x), method=("standard", "power_of_two")[seed % 2])
    weights, bias = generator.normal(size=(5, 3)), generator.normal(size=5)
    folded_weights, folded_bias = fold_into_dense(scaling, weights, bias)
    scaled = (x - scaling.mean) / scaling.scale
    # float64: sums of a few terms of order 100
    np.testing.assert_allclose(
        x @ folded_weights.T + folded_bias, scaled @ weights.T + bias, atol=1e-9
    )


def test_folding_into_a_layer_of_another_width_is_refused(data: TaskData) -> None:
    with pytest.raises(DataError, match="cannot absorb a scaling of 4 features"):
        fold_into_dense(fit_scaling(data), np.zeros((5, 3)), np.zeros(5))


def test_a_scaling_of_other_features_is_refused(data: TaskData) -> None:
    with pytest.raises(DataError, match="fit the scaling on this data"):
        dataset_arrays(task_of(data.x_train[:, :2]), fit_scaling(data))


def test_an_unknown_method_is_refused(data: TaskData) -> None:
    with pytest.raises(DataError, match="unknown input scaling 'minmax'; expected one of standard"):
        fit_scaling(data, method="minmax")
