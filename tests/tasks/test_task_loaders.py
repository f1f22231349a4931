"""What is particular about each source: formats, orders, and when it may bear a benchmark's name."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest

from codesign import tools
from codesign.errors import ConfigError, DataError, ToolError
from codesign.tasks import TaskData, cernbox, load_task, openml, zenodo_hdf5
from codesign.tasks._detect import task_for_path
from tests.tasks import sources


def check_of(data: TaskData, name: str) -> Any:
    return next(check for check in data.checks if check.name == name)


def rows_by_class(data: TaskData) -> dict[str, set[tuple[float, ...]]]:
    """Inputs of train and test together, by class name."""
    x = np.concatenate((data.x_train, data.x_test))
    y = np.concatenate((data.y_train, data.y_test))
    return {
        name: {tuple(row) for row in x[y == i].tolist()} for i, name in enumerate(data.class_names)
    }


# ------------------------------------------------------------------------ OpenML and CERNBox


def test_arff_and_parquet_of_the_same_rows_load_to_the_same_digest(tmp_path: Path) -> None:
    path = tmp_path / "jets.parquet"
    sources.frame().rename(columns={"label": "class"}).to_parquet(path, index=False)
    from_arff = load_task("openml", {"path": sources.write_arff(tmp_path / "jets.arff")})
    assert load_task("openml", {"path": path}).digest == from_arff.digest


def test_a_part_of_openml_is_not_reported_as_openml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sources.write_arff(tmp_path / "jets.arff")
    part = load_task("openml", {"path": path})
    assert part.benchmark.startswith("own-")
    assert "not reported" in check_of(part, "benchmark").detail
    monkeypatch.setattr(openml, "N_ROWS", sources.N_ROWS)
    assert load_task("openml", {"path": path}).benchmark == "openml-42468"


def test_openml_without_download_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(DataError, match="run `codesign data fetch openml` first, or give a path"):
        load_task("openml")


def test_an_arff_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "iris.arff"
    path.write_text("@RELATION iris\n@ATTRIBUTE a REAL\n@ATTRIBUTE class {x,y}\n@DATA\n1,x\n2,y\n")
    with pytest.raises(DataError, match="is it OpenML 42468"):
        load_task("openml", {"path": path})


def test_cernbox_rows_that_repeat_a_jet_are_removed(tmp_path: Path) -> None:
    data = load_task("cernbox", {"path": sources.write_cernbox(tmp_path / "jets.z", n_repeats=4)})
    assert len(data.y_train) + len(data.y_test) == sources.N_ROWS
    assert f"{3 * sources.N_ROWS} of {4 * sources.N_ROWS}" in check_of(data, "repeated_rows").detail
    assert check_of(data, "test_rows_also_in_training").outcome == "passed"
    once = load_task("cernbox", {"path": sources.write_cernbox(tmp_path / "once.z", n_repeats=1)})
    assert once.digest == data.digest


@pytest.mark.parametrize("block_rows", [1, 7, 100, 10_000])
def test_the_size_of_the_blocks_read_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_rows: int
) -> None:
    path = sources.write_cernbox(tmp_path / "jets.z")
    whole = load_task("cernbox", {"path": path})
    monkeypatch.setattr(cernbox, "BLOCK_ROWS", block_rows)
    assert load_task("cernbox", {"path": path}).digest == whole.digest


def test_cernbox_keeps_its_own_label_order_and_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cernbox, "N_JETS", sources.N_ROWS)
    path = sources.write_cernbox(tmp_path / "jets.z")
    theirs = load_task("cernbox", {"path": path})
    assert theirs.class_names == ("g", "q", "w", "z", "t")
    assert theirs.benchmark == "cernbox-hlf"
    in_openml_order = load_task("cernbox", {"path": path, "class_names": list(openml.CLASSES)})
    assert rows_by_class(in_openml_order) == rows_by_class(theirs)


def test_an_hdf5_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.h5"
    with h5py.File(path, "w") as file:
        file["measurements"] = np.zeros(3)
    with pytest.raises(DataError, match="no data set 't_allpar_new'.*'measurements'"):
        load_task("cernbox", {"path": path})
    with pytest.raises(DataError, match="no data set 'jetFeatureNames'"):
        load_task("zenodo_hdf5", {"path": path})
    with h5py.File(path, "a") as file:
        file["t_allpar_new"] = np.zeros(3, dtype=[("j_zlogz", "f4")])
    with pytest.raises(DataError, match="lacks the columns.*j_mass_mmdt"):
        load_task("cernbox", {"path": path})


# ------------------------------------------------------------------------ Zenodo


def test_zenodo_columns_are_found_by_name(tmp_path: Path) -> None:
    # The tiny file stores the 16 features in reverse order.
    data = load_task("zenodo_hdf5", {"path": sources.write_zenodo(tmp_path / "one.h5")})
    x, y = sources.jets()
    expected = {
        name: {tuple(row) for row in x[y == i].tolist()}
        for i, name in enumerate(sources.HDF5_CLASSES)
    }
    assert rows_by_class(data) == expected


def test_zenodo_folders_give_the_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = sources.write_zenodo_folder(tmp_path / "zenodo")
    data = load_task("zenodo_hdf5", {"path": folder})
    assert (len(data.y_train), len(data.y_test)) == (2 * sources.N_ROWS, sources.N_ROWS)
    assert data.split.startswith("given") and data.benchmark.startswith("own-")
    assert sorted(data.provenance["sha256"]) == [
        "train/jets_0.h5",
        "train/jets_1.h5",
        "val/jets_2.h5",
    ]
    monkeypatch.setattr(zenodo_hdf5, "N_VALIDATION_ROWS", sources.N_ROWS)
    assert load_task("zenodo_hdf5", {"path": folder}).benchmark == "zenodo-3602260-hlf"


def test_zenodo_constituents_keep_particle_and_feature_order(tmp_path: Path) -> None:
    path = sources.write_zenodo(tmp_path / "one.h5")
    options = {
        "path": path,
        "representation": "constituents",
        "n_constituents": 3,
        "split": "sklearn",
    }
    data = load_task("zenodo_hdf5", options)
    assert data.input_shape == (3, 3)
    assert data.feature_names == ("pt", "etarel", "phirel")
    with h5py.File(path) as file:
        particles = file["jetConstituentList"][()]
    assert {x.tobytes() for x in data.x_train} < {
        np.ascontiguousarray(p[:3, [1, 0, 2]]).tobytes() for p in particles
    }
    with pytest.raises(DataError, match="expected at least 20 particles"):
        load_task("zenodo_hdf5", {**options, "n_constituents": 20})
    with pytest.raises(DataError, match="no column \\['charge'\\]"):
        load_task("zenodo_hdf5", {**options, "particle_features": ["charge"]})


def test_an_empty_folder_says_what_belongs_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no .h5 file"):
        load_task("zenodo_hdf5", {"path": tmp_path})


# ------------------------------------------------------------------------ the tutorial's folder


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    data = load_task(
        "tutorial_npy", {"path": sources.write_tutorial(tmp_path / "npy", pickled_classes=True)}
    )
    assert data.class_names == openml.CLASSES
    note = check_of(data, "label_order")
    assert note.outcome == "noted" and "pickle, which is not opened" in note.detail


def test_the_tutorials_standardisation_is_stated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from codesign.tasks import tutorial_npy

    folder = sources.write_tutorial(tmp_path / "npy")
    data = load_task("tutorial_npy", {"path": folder})
    assert "by the tutorial" in data.provenance["standardised"]
    assert data.benchmark.startswith("own-")
    monkeypatch.setattr(tutorial_npy, "N_ROWS", sources.N_ROWS)
    assert load_task("tutorial_npy", {"path": folder}).benchmark == "openml-42468"


def test_an_incomplete_tutorial_folder_lists_what_is_absent(tmp_path: Path) -> None:
    folder = sources.write_tutorial(tmp_path / "npy")
    (folder / "X_test.npy").unlink()
    with pytest.raises(DataError, match="lacks \\['X_test.npy'\\]"):
        load_task("tutorial_npy", {"path": folder})


# ------------------------------------------------------------------------ npz, csv, parquet


def test_csv_parquet_and_npz_of_the_same_rows_load_to_the_same_digest(tmp_path: Path) -> None:
    paths = {
        "csv": sources.write_csv(tmp_path / "own.csv"),
        "parquet": sources.write_parquet(tmp_path / "own.parquet"),
        "npz": sources.write_npz(tmp_path / "own.npz"),
    }
    assert len({load_task(name, {"path": path}).digest for name, path in paths.items()}) == 1


def test_a_class_of_one_row_is_named(tmp_path: Path) -> None:
    table = sources.frame()
    table.loc[0, "label"] = "rare"
    table.to_csv(tmp_path / "rare.csv", index=False)
    with pytest.raises(DataError, match="classes \\['rare'\\] have a single row"):
        load_task("csv", {"path": tmp_path / "rare.csv"})


def test_npz_with_a_given_split_keeps_it(tmp_path: Path) -> None:
    x, y = sources.jets()
    path = tmp_path / "given.npz"
    np.savez(path, X_train=x[:40], y_train=y[:40], X_test=x[40:], y_test=y[40:])
    data = load_task("npz", {"path": path})
    assert (data.x_train == x[:40].astype(np.float32)).all() and (data.y_test == y[40:]).all()
    assert data.feature_names[:2] == ("x0", "x1") and data.split == "given by the file"


def test_npz_reads_weights_and_names_what_it_does_not_read(tmp_path: Path) -> None:
    x, y = sources.jets()
    weights = np.arange(1.0, len(y) + 1)
    np.savez(tmp_path / "table.npz", x=x, y=y, weights=weights, wieghts=weights)
    data = load_task("npz", {"path": tmp_path / "table.npz"})
    both = np.concatenate([data.weights_train, data.weights_test])
    assert sorted(both.tolist()) == weights.tolist()
    row = next(
        i for i, known in enumerate(x) if (known.astype(np.float32) == data.x_train[0]).all()
    )
    assert data.weights_train[0] == weights[row]
    assert check_of(data, "arrays").detail == "not read: wieghts"
    parts = {"x_train": x[:40], "y_train": y[:40], "x_test": x[40:], "y_test": y[40:]}
    given = tmp_path / "given.npz"
    np.savez(given, **parts, weight_train=weights[:40], weight_test=weights[40:])
    assert load_task("npz", {"path": given}).weights_test.tolist() == weights[40:].tolist()
    np.savez(given, **parts, weight_train=weights[:40])
    with pytest.raises(DataError, match="weights of one part only"):
        load_task("npz", {"path": given})


def test_a_quantity_in_whole_numbers_does_not_become_classes(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    path = tmp_path / "energy.npz"
    y = generator.integers(0, 31, 400)
    np.savez(path, x=generator.normal(size=(400, 3)), y=y)
    with pytest.raises(DataError, match="different whole numbers; classes or values"):
        load_task("npz", {"path": path})
    data = load_task("npz", {"path": path, "kind": "values", "units": ["GeV"]})
    assert data.target.heads[0].kind == "values" and data.target.heads[0].units == ("GeV",)
    assert sorted(np.concatenate([data.y_train, data.y_test]).ravel().tolist()) == sorted(
        y.tolist()
    )
    names = [str(i) for i in range(31)]
    assert len(load_task("npz", {"path": path, "class_names": names}).target.heads[0].names) == 31


@pytest.mark.parametrize("options", [{}, {"non_finite": "drop"}])
def test_rows_with_nan_are_refused_or_dropped_as_asked(
    tmp_path: Path, options: dict[str, str]
) -> None:
    table = sources.frame()
    table.loc[[3, 8], "c1_b1_mmdt"] = np.nan
    table.loc[9, "zlogz"] = np.inf
    path = tmp_path / "holes.csv"
    table.to_csv(path, index=False)
    if not options:
        with pytest.raises(DataError, match="NaN or infinity.*non_finite: drop"):
            load_task("csv", {"path": path})
        return
    data = load_task("csv", {"path": path, **options})
    assert len(data.y_train) + len(data.y_test) == sources.N_ROWS - 3
    assert check_of(data, "non_finite_table").detail.startswith(f"3 of {sources.N_ROWS}")


def test_all_rows_dropped_is_empty_data(tmp_path: Path) -> None:
    path = tmp_path / "nan.npz"
    np.savez(path, x=np.full((8, 2), np.nan), y=np.arange(8) % 2)
    with pytest.raises(DataError, match="empty without its non-finite rows"):
        load_task("npz", {"path": path, "non_finite": "drop"})


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda t: t.iloc[:0], {}, "the table is empty"),
        (lambda t: t, {"label": "lable"}, "unknown column 'lable'; did you mean 'label'"),
        (lambda t: t, {"drop": ["nothing"]}, "unknown column 'nothing'"),
        (lambda t: t.assign(run="A"), {}, "feature columns \\['run'\\] are not numbers"),
        (lambda t: t.assign(label=t["label"].where(t.index > 1)), {}, "2 of 60 labels are missing"),
        (lambda t: t.assign(label="g"), {}, "one class only"),
        (lambda t: t[["label"]], {}, "no feature column is left"),
        (lambda t: t, {"class_names": ["g", "q"]}, "not among the classes"),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_an_unusable_table_is_refused(
    tmp_path: Path, kind: str, change: Any, options: dict[str, Any], message: str
) -> None:
    table: pd.DataFrame = change(sources.frame())
    path = tmp_path / f"bad.{kind}"
    if kind == "csv":
        table.to_csv(path, index=False)
    else:
        table.to_parquet(path, index=False)
    with pytest.raises(DataError, match=message):
        load_task(kind, {"path": path, **options})


def test_one_hot_label_columns_name_the_classes(tmp_path: Path) -> None:
    x, y = sources.jets()
    table = pd.DataFrame(x, columns=list(openml.FEATURES))
    for i, label in enumerate("abcde"):
        table[label] = (y == i).astype(int)
    path = tmp_path / "hot.csv"
    table.to_csv(path, index=False)
    data = load_task("csv", {"path": path, "label": list("abcde"), "split": "sklearn"})
    assert data.class_names == tuple("abcde") and data.n_features == 16
    turned = load_task("csv", {"path": path, "label": list("abcde"), "class_names": list("edcba")})
    assert rows_by_class(turned) == rows_by_class(data)


def test_a_second_file_is_the_test_set_whatever_its_column_order(tmp_path: Path) -> None:
    table = sources.frame()
    table.iloc[:40].to_csv(tmp_path / "train.csv", index=False)
    table.iloc[40:, ::-1].to_csv(tmp_path / "test.csv", index=False)
    data = load_task("csv", {"path": tmp_path / "train.csv", "test_path": tmp_path / "test.csv"})
    x, _ = sources.jets()
    assert (data.x_test == x[40:].astype(np.float32)).all()
    assert check_of(data, "column_order").outcome == "noted"
    table.iloc[40:].drop(columns="zlogz").to_csv(tmp_path / "less.csv", index=False)
    with pytest.raises(DataError, match="expected the same"):
        load_task("csv", {"path": tmp_path / "train.csv", "test_path": tmp_path / "less.csv"})


def test_pickled_objects_in_an_archive_are_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "objects.npz"
    np.savez(path, x=np.zeros((4, 2)), y=np.array([{}, {}, {}, {}]), allow_pickle=True)
    with pytest.raises(DataError, match="no Python objects"):
        load_task("npz", {"path": path})


def test_a_truncated_archive_and_a_single_array_are_refused(tmp_path: Path) -> None:
    path = sources.write_npz(tmp_path / "cut.npz")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="cut.npz cannot be read"):
        load_task("npz", {"path": path})
    with (tmp_path / "single.npz").open("wb") as file:
        np.save(file, np.zeros((4, 2)))
    with pytest.raises(DataError, match="single.npz cannot be read.*expected named arrays"):
        load_task("npz", {"path": tmp_path / "single.npz"})


def test_an_archive_without_the_right_arrays_lists_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "other.npz"
    np.savez(path, signal=np.zeros(3))
    with pytest.raises(DataError, match="holds \\['signal'\\]; expected x and y"):
        load_task("npz", {"path": path})


def test_rows_and_labels_of_different_number_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "uneven.npz"
    np.savez(path, x=np.zeros((8, 2)), y=np.arange(7) % 2)
    with pytest.raises(DataError, match="8 rows but 7 labels"):
        load_task("npz", {"path": path})


def test_own_data_may_not_bear_a_public_benchmarks_name(tmp_path: Path) -> None:
    path = sources.write_npz(tmp_path / "own.npz")
    assert (
        load_task("npz", {"path": path, "benchmark": "my-trigger-v2"}).benchmark == "my-trigger-v2"
    )
    with pytest.raises(ConfigError, match="belongs to a public benchmark"):
        load_task("npz", {"path": path, "benchmark": "openml-42468"})


# ------------------------------------------------------------------------ options and extras


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "task.npz: path: Field required"),
        ({"test_fraction": 1.5}, "task.npz: test_fraction: .*less than 1"),
        ({"seed": -1}, "task.npz: seed"),
        ({"split": "random"}, "task.npz: split: unknown value 'random' .*sklearn, stratified"),
        ({"n_train_max": 0}, "task.npz: n_train_max"),
        ({"benchmark": "../up"}, "task.npz: benchmark"),
    ],
)
def test_wrong_options_are_refused_with_their_key_path(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    path = {"path": sources.write_npz(tmp_path / "own.npz")} if options else {}
    with pytest.raises(ConfigError, match=message):
        load_task("npz", {**path, **options})


def test_a_missing_optional_package_names_the_extra_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    files = {
        "csv": sources.write_csv(tmp_path / "a.csv"),
        "parquet": sources.write_parquet(tmp_path / "a.parquet"),
        "cernbox": sources.write_cernbox(tmp_path / "a.z"),
    }
    monkeypatch.setattr(tools.importlib, "import_module", absent)
    for name, path in files.items():
        with pytest.raises(ToolError, match=r"is not installed; run `\S+ -m pip install "):
            load_task(name, {"path": path})


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("a.npz", "npz"),
        ("a.CSV", "csv"),
        ("a.parquet", "parquet"),
        ("truth.z", "cernbox"),
        ("jets.h5", "zenodo_hdf5"),
        ("jets.arff", "openml"),
    ],
)
def test_a_files_name_says_which_task_reads_it(tmp_path: Path, name: str, task: str) -> None:
    (tmp_path / name).touch()
    assert task_for_path(tmp_path / name) == task


def test_a_name_that_says_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.bin").touch()
    with pytest.raises(DataError, match="'.bin'; expected one of"):
        task_for_path(tmp_path / "data.bin")
    with pytest.raises(DataError, match="does not exist"):
        task_for_path(tmp_path / "absent.csv")


@pytest.mark.parametrize("with_test_file", [False, True])
def test_weights_of_a_labelled_table_weigh_and_are_no_feature(
    tmp_path: Path, with_test_file: bool
) -> None:
    table = sources.frame().assign(w=lambda t: np.arange(1.0, len(t) + 1.0))
    table.to_csv(tmp_path / "own.csv", index=False)
    options = {"path": tmp_path / "own.csv", "weight": "w"}
    if with_test_file:
        table.assign(w=3.0).to_csv(tmp_path / "test.csv", index=False)
        options["test_path"] = tmp_path / "test.csv"
    data = load_task("csv", options)
    assert "w" not in data.feature_names
    weights = data.weights_train if with_test_file else np.r_[data.weights_train, data.weights_test]
    assert (np.sort(weights) == table.w).all()
    if with_test_file:
        assert set(data.weights_test) == {3.0}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.assign(w="heavy"), "weights 'w' holds text"),
        (lambda t: t.assign(w=np.inf), "weights are NaN or infinite"),
        (lambda t: t.assign(w=-1.0), "none below 0"),
        (lambda t: t.assign(w=0.0), "some above"),
        (lambda t: t.drop(columns="w"), "unknown column 'w'"),
        (lambda t: t.rename(columns={"zlogz": "w"}), "'w'.* appear more than once"),
        (lambda t: t.iloc[:0], "the table is empty"),
    ],
)
def test_weights_that_make_no_sense_are_refused(tmp_path: Path, change: Any, said: str) -> None:
    change(sources.frame().assign(w=1.0)).to_csv(tmp_path / "own.csv", index=False)
    with pytest.raises(DataError, match=said):
        load_task("csv", {"path": tmp_path / "own.csv", "weight": "w"})


def test_heads_of_a_table_name_their_columns_units_and_weights(tmp_path):
    import pandas as pd

    generator = np.random.default_rng(4)
    frame = pd.DataFrame(generator.standard_normal((80, 3)), columns=["a", "b", "c"])
    frame["z"], frame["theta"] = 3 * frame.a, frame.b - 1
    frame["kind"] = np.where(frame.a > 0, "track", "noise")
    frame["w"] = generator.uniform(0.5, 2.0, 80)
    path = tmp_path / "tracks.csv"
    frame.to_csv(path, index=False)
    heads = [
        {"name": "where", "kind": "values", "columns": ["z", "theta"], "units": ["cm", "rad"]},
        {"name": "tag", "kind": "binary", "columns": ["kind"], "weight": 0.5},
    ]
    data = load_task("csv", {"path": path, "heads": heads, "weight": "w"})
    assert data.feature_names == ("a", "b", "c") and data.n_outputs == 3
    np.testing.assert_allclose(data.y_test[:, 0], 3 * data.x_test[:, 0], rtol=1e-5)
    assert (data.target.truth(1, data.y_test, data.x_test) == (data.x_test[:, 0] > 0)).all()
    both = np.sort(np.concatenate([data.weights_train, data.weights_test]))
    np.testing.assert_allclose(both, np.sort(frame.w), rtol=1e-6)
    for wrong, what in (
        ({"name": "tag", "columns": ["kind"]}, "states no columns or no kind"),
        ({"name": "tag", "kind": "values", "columns": ["kind"]}, "hold text"),
        ({"name": "tag", "kind": "values", "columns": ["mass"]}, "mass"),
        ({"name": "tag", "kind": "classes", "columns": ["kind", "z"]}, "expected one"),
    ):
        with pytest.raises((ConfigError, DataError), match=what):
            load_task("csv", {"path": path, "heads": [wrong], "weight": "w"})


def test_lists_of_a_parquet_column_count_as_columns(tmp_path):
    import pandas as pd

    x, y = sources.jets()
    frame = pd.DataFrame({"HLF_input": list(x[:, :4]), "encoded_label": list(np.eye(5)[y])})
    path = tmp_path / "spark.parquet"
    frame.to_parquet(path)
    labels = [f"encoded_label_{i}" for i in range(5)]
    data = load_task("parquet", {"path": path, "label": labels})
    assert data.feature_names == tuple(f"HLF_input_{i}" for i in range(4))
    assert len(data.class_names) == 5 and len(data.x_train) + len(data.x_test) == len(x)


def test_hdf5_reads_values_weights_and_only_the_rows_asked_for(tmp_path):
    path = sources.write_hdf5(tmp_path / "own.h5")
    options = {"path": path, "kind": "values", "truth": "values", "weight": "weights"}
    data = load_task("hdf5", {**options, "n_rows_max": 40, "units": ["cm"]})
    assert len(data.x_train) + len(data.x_test) == 40
    np.testing.assert_allclose(data.y_train[:, 0], 2 * data.x_train[:, 0], rtol=1e-6)
    assert set(np.unique(data.weights_train)) <= {1.0, 2.0, 3.0, 4.0}
    with pytest.raises(DataError, match="no data set 'absent'"):
        load_task("hdf5", {**options, "truth": "absent"})


def test_adc2021_never_trains_on_a_signal(tmp_path):
    options = sources.write_adc2021(tmp_path / "adc")
    data = load_task("adc2021", {**options, "n_background": 100, "n_signal": 30})
    assert len(data.x_train) == 60 and np.bincount(data.events.labels).tolist() == [40, 30]
    is_signal = data.events.labels == 1
    assert data.y_test[is_signal].mean() > data.y_test[~is_signal].mean()
