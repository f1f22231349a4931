"""`codesign predictor` from file to file, on operators and attributes it has never seen."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from codesign.cli import build_app
from codesign.encoding.graph import load_graphs
from codesign.errors import ConfigError, DataError
from codesign.predictor.evaluate import LabelledGraphs, functional_hash, split

NAS_BENCH_201 = (
    Path(__file__).resolve().parents[2]
    / ".."
    / "shared"
    / "data"
    / "nas_bench_201_cifar10.jsonl.gz"
)


@pytest.fixture
def graph_file(tmp_path: Path) -> Path:
    """Forty labelled chains of invented operators with one invented attribute."""
    random = np.random.default_rng(0)
    lines = []
    for _ in range(40):
        inner = [
            {"op": str(random.choice(["warp", "fold"])), "spin": int(random.integers(1, 99))}
            for _ in range(random.integers(1, 5))
        ]
        nodes = [{"op": "input"}, *inner, {"op": "output"}]
        edges = [[i, i + 1] for i in range(len(nodes) - 1)]
        target = sum(np.log(node["spin"]) for node in inner) + float(random.normal())
        lines.append(json.dumps({"nodes": nodes, "edges": edges, "target": target}))
    path = tmp_path / "graphs.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def run(*arguments: object) -> str:
    """Run the command line; errors are raised."""
    result = CliRunner().invoke(build_app(), [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_evaluate_train_and_rank(graph_file: Path, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    common = ["--graphs", graph_file, "--output", figures]
    methods = "gp,ridge,kernel_ridge_raw,parameters"
    run(
        "predictor",
        "evaluate",
        *common,
        "--train-sizes",
        "20",
        "--seeds",
        "2",
        "--methods",
        methods,
    )
    result = json.loads(figures.read_text())
    assert {r["method"] for r in result["runs"]} == {"gp", "ridge", "kernel_ridge_raw"}
    assert "log2_parameters" in result["not_applicable"]["parameters"]
    for entry in result["medians"]:
        assert {"tau", "spearman", "top10_regret", "coverage_90"} <= set(entry)
    checkpoint = tmp_path / "predictor.npz"
    said = run(
        "predictor", "train", "--graphs", graph_file, "--output", checkpoint, "--method", "gp"
    )
    assert "gp, as asked for (40 labels)" in said
    table = run("predictor", "rank", "--graphs", graph_file, "--checkpoint", checkpoint, "--top", 3)
    assert len(table.splitlines()) == 4
    ranked = tmp_path / "ranked.jsonl"
    run("predictor", "rank", "--graphs", graph_file, "--checkpoint", checkpoint, "--output", ranked)
    values = [json.loads(line)["predicted_score"] for line in ranked.read_text().splitlines()]
    assert values == sorted(values, reverse=True) and len(values) == 40


def test_bad_options_and_unlabelled_graphs_are_refused(graph_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    with pytest.raises(ConfigError, match="expected numbers like 78,156,469"):
        run("predictor", "evaluate", "--graphs", graph_file, "--output", out, "--train-sizes", "a")
    bare = tmp_path / "bare.jsonl"
    bare.write_text('{"nodes": [{"op": "input"}, {"op": "output"}], "edges": [[0, 1]]}\n')
    with pytest.raises(DataError, match="has no label"):
        run("predictor", "train", "--graphs", bare, "--output", tmp_path / "x.npz")


def test_splits_are_disjoint_and_nested() -> None:
    small, rest = split(100, 10, seed=3, n_test=None)
    large, _ = split(100, 30, seed=3, n_test=None)
    assert not set(small) & set(rest) and len(rest) == 90
    assert (large[:10] == small).all()


@pytest.mark.slow
def test_nas_bench_201_has_4930_functionally_distinct_cells() -> None:
    if not NAS_BENCH_201.is_file():
        pytest.skip("the shared NAS-Bench-201 records are not there")
    data = LabelledGraphs.prepare(load_graphs(NAS_BENCH_201))
    # The count that canonicalisation and exact isomorphism give (PREDICTOR_NOTES, "Ceiling").
    assert len(np.unique(functional_hash(data.canonical))) == 4930
