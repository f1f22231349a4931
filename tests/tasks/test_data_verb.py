"""`codesign data` as a person types it."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from codesign.cli import build_app
from codesign.errors import CodesignError, ConfigError, DataError
from codesign.tasks import TASKS
from tests.tasks import sources


def run(*arguments: Any) -> Result:
    result = CliRunner().invoke(build_app(), ["data", *map(str, arguments)])
    if isinstance(result.exception, CodesignError):
        raise result.exception
    return result


def test_list_names_every_task() -> None:
    table = run("list")
    assert table.exit_code == 0
    assert all(name in table.stdout for name in TASKS.names())
    rows = json.loads(run("list", "--json").stdout)
    assert [row["name"] for row in rows] == list(TASKS.names())


def test_show_says_what_was_checked_and_the_scaling() -> None:
    table = run("show", "jets")
    assert "codesign-jets-v1" in table.stdout and "duplicate_features" in table.stdout
    answer = json.loads(run("show", "jets", "--json").stdout)
    assert answer["n_test"] == 4000 and len(answer["scaling"]["features"]) == 16


def test_show_takes_options_as_in_yaml() -> None:
    answer = json.loads(
        run(
            "show",
            "jets",
            "--option",
            "n_train_max=100",
            "--option",
            "features=[zlogz, multiplicity]",
            "--json",
        ).stdout
    )
    assert answer["n_train"] == 100 and answer["feature_names"] == ["zlogz", "multiplicity"]
    with pytest.raises(ConfigError, match="expected KEY=VALUE"):
        run("show", "jets", "--option", "seed")
    with pytest.raises(ConfigError, match="is no YAML value"):
        run("show", "jets", "--option", "features=[")


def test_check_guesses_the_task_and_fails_on_bad_files(tmp_path: Path) -> None:
    good = run("check", sources.write_csv(tmp_path / "good.csv"), "--json")
    assert json.loads(good.stdout)["task"] == "csv"
    table = sources.frame()
    table.loc[0, "zlogz"] = float("nan")
    table.to_csv(tmp_path / "bad.csv", index=False)
    with pytest.raises(DataError, match="1 of"):
        run("check", tmp_path / "bad.csv")


def test_fetch_knows_openml_only() -> None:
    with pytest.raises(ConfigError, match="unknown download 'opnml'; did you mean 'openml'"):
        run("fetch", "opnml")


def test_generate_refuses_a_place_it_cannot_write_before_it_works(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ends in .npz"):
        run("generate", "--output", tmp_path / "jets.csv")
    with pytest.raises(ConfigError, match="there is no folder"):
        run("generate", "--output", tmp_path / "absent" / "jets.npz")
    assert run("generate", "--output", tmp_path / "a.npz", "--n-per-class", 0).exit_code == 2


@pytest.mark.slow
def test_generate_writes_jets_that_check_accepts(tmp_path: Path) -> None:
    pytest.importorskip("pythia8mc", reason="pythia8mc is absent (extra `generate`)")
    path = tmp_path / "jets.npz"
    result = run("generate", "--output", path, "--n-per-class", 10, "--seed", 3, "--json")
    assert json.loads(result.stdout) == {"path": str(path), "n_rows": 50, "seed": 3}
    assert json.loads(run("check", path, "--json").stdout)["n_train"] == 40
