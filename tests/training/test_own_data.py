"""`codesign label` and `codesign train` with a table of one's own."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from codesign.cli import build_app
from codesign.errors import ConfigError
from codesign.ir import QuantizedNetwork
from codesign.space import candidates_from_population, load_space
from codesign.tasks import load_task

PAIR = ["--option", "label=kind"]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A csv of 600 rows whose three kinds are told apart by the first of four columns alone."""
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 3, 600)
    columns = rng.normal(size=(600, 4))
    columns[:, 0] += 6 * kind
    path = tmp_path_factory.mktemp("own") / "own.csv"
    lines = ["a,b,c,d,kind"]
    lines += [
        ",".join(f"{v:.6f}" for v in row) + f",k{k}" for row, k in zip(columns, kind, strict=True)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def call(*arguments):
    answer = CliRunner().invoke(build_app(), [*arguments, "--json"], catch_exceptions=False)
    assert answer.exit_code == 0, answer.output
    return json.loads(answer.stdout)


def test_label_trains_on_a_csv_of_ones_own(table, tmp_path):
    found = call(
        "label", "--task", "csv", "--option", f"path={table}", *PAIR, "--space", "mlp_tiny",
        "--n-candidates", "3", "--epochs", "40", "--n-workers", "1",
        "--store", str(tmp_path / "labels.db"),
    )  # fmt: skip
    assert found["n_trained"] == 3
    assert found["validation_score_max"] > 0.6  # a third by chance


def test_train_trains_a_candidate_on_a_csv_of_ones_own(table, tmp_path):
    data = load_task("csv", {"path": table, "label": "kind"})
    assert data.n_features == 4
    space = load_space("mlp_tiny", n_inputs=4, n_outputs=3)
    population = space.decode(space.sample(1, np.random.default_rng(1)))
    (candidate,) = candidates_from_population(population, part="xcvu13p-flga2577-2-e")
    file = tmp_path / "candidate.json"
    file.write_text(json.dumps(candidate.to_json()))
    (row,) = call(
        "train", str(file), "--task", "csv", "--option", f"path={table}", *PAIR,
        "--epochs", "40", "--output", str(tmp_path / "trained"),
    )  # fmt: skip
    assert row["validation_score"] > 0.6
    assert (
        QuantizedNetwork.load(tmp_path / "trained" / f"{row['digest']}.npz").candidate == candidate
    )


def test_options_of_a_study_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="stands in its YAML"):
        CliRunner().invoke(
            build_app(), ["train", str(tmp_path), "--option", "seed=3"], catch_exceptions=False
        )
