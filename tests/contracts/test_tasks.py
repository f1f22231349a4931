"""Every registered task, the moment its file exists: one promise for all sources."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codesign.errors import ConfigError, DataError
from codesign.tasks import TASKS, TaskData, dataset_arrays, fit_scaling, load_task
from codesign.tasks._options import TaskOptions
from tests.tasks import sources

#: How to make a tiny file for each task: function of a folder, returns its options.
MAKERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "jets": lambda folder: {},
    "muons": lambda folder: {},
    "level1": lambda folder: {},
    "jet_particles": lambda folder: {},
    "openml": lambda folder: {"path": sources.write_arff(folder / "jets.arff")},
    "tutorial_npy": lambda folder: {"path": sources.write_tutorial(folder / "npy")},
    "cernbox": lambda folder: {"path": sources.write_cernbox(folder / "jets.z")},
    "zenodo_hdf5": lambda folder: {"path": sources.write_zenodo_folder(folder / "zenodo")},
    "adc2021": lambda folder: sources.write_adc2021(folder / "adc"),
    "hdf5": lambda folder: {"path": sources.write_hdf5(folder / "own.h5")},
    "root": lambda folder: {"path": sources.write_root(folder / "own.root"), "tree": "events"},
    "npz": lambda folder: {"path": sources.write_npz(folder / "own.npz")},
    "npy": lambda folder: {"path": sources.write_npy(folder / "mapped")},
    "csv": lambda folder: {"path": sources.write_csv(folder / "own.csv")},
    "parquet": lambda folder: {"path": sources.write_parquet(folder / "own.parquet")},
}

#: Options beside the path that a task cannot do without.
NEEDED: dict[str, dict[str, Any]] = {
    "adc2021": {"signals": {"h_4l": Path("garbage")}},
    "root": {"tree": "events"},
}


@pytest.fixture(params=TASKS.names())
def loaded(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, dict[str, Any], TaskData]:
    """A task's name, its options and what it loads."""
    name = request.param
    assert name in MAKERS, f"write a maker of a tiny file for the task {name!r} in this test module"
    options = MAKERS[name](tmp_path)
    return name, options, load_task(name, options)


def test_values_have_the_promised_types_and_shapes(
    loaded: tuple[str, dict[str, Any], TaskData],
) -> None:
    name, _, data = loaded
    assert data.name == name
    for x, y in ((data.x_train, data.y_train), (data.x_test, data.y_test)):
        assert x.dtype == np.float32
        assert len(x) == len(y) > 0
        assert x.shape[1:] == data.input_shape and x.shape[-1] == data.n_features
        assert np.isfinite(x).all() and np.isfinite(y).all()
        if data.target.is_one_class_label:
            assert y.dtype == np.int64 and y.ndim == 1
        else:
            assert y.dtype == np.float32 and y.shape[1] == data.target.n_columns
        for index, head in enumerate(data.target.heads):
            truth = data.target.truth(index, y, x)
            if head.kind in ("classes", "binary"):
                assert truth.min() >= 0 and truth.max() < len(head.names)
        assert not x.flags.writeable and not y.flags.writeable


def test_loading_twice_gives_the_same_digest(
    loaded: tuple[str, dict[str, Any], TaskData],
) -> None:
    name, options, data = loaded
    assert load_task(name, options).digest == data.digest


def test_what_was_checked_is_recorded_as_json(
    loaded: tuple[str, dict[str, Any], TaskData],
) -> None:
    import json

    _, _, data = loaded
    names = {check.name for check in data.checks}
    assert {"finite", "constant_features", "duplicate_features"} <= names
    assert any(name == "classes" or name.startswith("values_") for name in names)
    assert {check.outcome for check in data.checks} <= {"passed", "noted"}
    assert json.loads(json.dumps(data.summary()))["digest"] == data.digest


def test_scaled_training_inputs_have_mean_zero_and_deviation_one(
    loaded: tuple[str, dict[str, Any], TaskData],
) -> None:
    _, _, data = loaded
    scaling = fit_scaling(data)
    x_train, _, x_test, _ = dataset_arrays(data, scaling)
    flat = x_train.reshape(-1, data.n_features).astype(np.float64)
    varies = ~np.isin(data.feature_names, scaling.constant_features)
    # float32 storage of scaled values of order 10: a mean of n of them is exact to about 1e-6
    np.testing.assert_allclose(flat.mean(axis=0), 0.0, atol=1e-4)
    np.testing.assert_allclose(flat.std(axis=0)[varies], 1.0, atol=1e-4)
    assert x_train.flags.writeable and x_test.dtype == np.float32


def test_a_wanted_label_order_changes_the_indices_and_nothing_else(
    loaded: tuple[str, dict[str, Any], TaskData],
) -> None:
    name, options, data = loaded
    if not data.target.is_one_class_label:
        with pytest.raises(ConfigError, match="label order"):
            load_task(name, {**options, "class_names": ["b", "a"]})
        return
    reversed_names = tuple(reversed(data.class_names))
    other = load_task(name, {**options, "class_names": reversed_names})
    assert other.class_names == reversed_names
    for ours, theirs in ((data.y_train, other.y_train), (data.y_test, other.y_test)):
        assert (np.array(data.class_names)[ours] == np.array(reversed_names)[theirs]).all()
    assert (data.x_test == other.x_test).all()


def test_limits_keep_the_first_rows_and_change_the_benchmark(
    loaded: tuple[str, dict[str, Any], TaskData],
) -> None:
    name, options, data = loaded
    few = load_task(name, {**options, "n_train_max": len(data.y_train) - 1})
    assert (few.x_train == data.x_train[:-1]).all()
    assert (few.x_test == data.x_test).all()
    small = load_task(name, {**options, "n_test_max": len(data.y_test) - 1})
    assert small.benchmark != data.benchmark, "another test set is another benchmark"


def test_an_unknown_option_is_refused_with_its_key_path(
    loaded: tuple[str, dict[str, Any], TaskData],
) -> None:
    name, options, _ = loaded
    with pytest.raises(ConfigError, match=rf"task\.{name}: unknown key 'colour'"):
        load_task(name, {**options, "colour": "red"})


def test_an_unknown_feature_is_refused_and_a_known_one_selected(
    loaded: tuple[str, dict[str, Any], TaskData],
) -> None:
    name, options, data = loaded
    wanted = (data.feature_names[2], data.feature_names[0])
    chosen = load_task(name, {**options, "features": wanted})
    assert chosen.feature_names == wanted
    assert (chosen.x_train == data.x_train[..., [2, 0]]).all()
    with pytest.raises(DataError, match="feature"):
        load_task(name, {**options, "features": ["no_such_feature"]})


@pytest.mark.parametrize("name", TASKS.names())
def test_a_task_says_what_it_is_and_what_it_needs(name: str) -> None:
    task = TASKS.get(name)
    assert task.name == name
    assert task.description and task.needs
    assert issubclass(task.options_type, TaskOptions)


@pytest.mark.parametrize("name", TASKS.names())
def test_a_task_is_documented(name: str) -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "tasks.md"
    assert f"`{name}`" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "name", [n for n in TASKS.names() if "path" in TASKS.get(n).options_type.model_fields]
)
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent.*does not exist"):
        load_task(name, {"path": tmp_path / "absent", **NEEDED.get(name, {})})


@pytest.mark.parametrize(
    "name",
    [
        n
        for n in TASKS.names()
        if "path" in TASKS.get(n).options_type.model_fields and n != "tutorial_npy"
    ],
)
def test_a_file_of_garbage_is_refused_with_its_name(name: str, tmp_path: Path) -> None:
    if name == "root":
        pytest.importorskip("uproot", reason="needs the extra root")
    path = tmp_path / f"garbage.{'arff' if name == 'openml' else name}"
    path.write_bytes(bytes(range(256)) * 8)
    with pytest.raises(DataError, match="garbage"):
        load_task(name, {"path": path, **NEEDED.get(name, {})})
