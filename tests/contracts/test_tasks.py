"""Every registered task, the moment its file exists: one promise for all sources."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codesign.errors import DataError
from codesign.tasks import TASKS, load_task
from codesign.tasks._options import TaskOptions
from codesign.testing.tasks import Loaded, TaskContract
from tests.tasks import sources

#: How to make a tiny file for each task: function of a folder, returns its options.
MAKERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "jets": lambda folder: {},
    "muons": lambda folder: {},
    "muon_hits": lambda folder: {"n_train": 2000, "n_test": 500},
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


class TestTask(TaskContract):
    @pytest.fixture(params=TASKS.names())
    def loaded(self, request: pytest.FixtureRequest, tmp_path: Path) -> Loaded:
        name = str(request.param)
        assert name in MAKERS, f"write a maker of a tiny file for the task {name!r} in this module"
        options = MAKERS[name](tmp_path)
        return name, options, load_task(name, options)


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
