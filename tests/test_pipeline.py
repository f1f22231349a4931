"""The loop as a whole: choices are sound, a killed study resumes to the same result, exports are proved."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from codesign.errors import CodesignError, ConfigError
from codesign.pipeline import (
    STAGES,
    choose_finalists,
    choose_spread,
    choose_winner,
    combine_accuracy,
    label_offset,
    run_study,
)
from codesign.space import load_space
from codesign.study import LabelSection, Study, StudyConfig
from codesign.tasks import load_task
from codesign.training.benchmark import load_benchmark


def point(i, lut, accuracy, flow="rtl"):
    return {"digest": f"{i:012x}", "lut": lut, "accuracy": accuracy, "flow": flow}


def row(i, lut, accuracy, flow="rtl", fits=True):
    return {
        "digest": f"{i:012x}",
        "flow": flow,
        "fits": fits,
        "worst_excess": -0.1 if fits else 0.3,
        "estimated_accuracy": accuracy,
        "predicted_with_weights": {"lut": {"value": lut, "low": lut / 2, "high": lut * 2}},
    }


def test_first_labels_are_distinct_and_spread_over_size():
    space = load_space("mlp_l1", n_inputs=16, n_outputs=5)
    population = space.decode(space.sample(2000, np.random.default_rng(0)))
    chosen = choose_spread(population, 64, np.random.default_rng(1))
    assert len(set(chosen.tolist())) == len(chosen) >= 60
    columns = population.columns
    size = np.bincount(population.candidate, columns["n_in"] * columns["n_out"], minlength=2000)
    assert size[chosen].min() < np.quantile(size, 0.05) and size[chosen].max() > np.quantile(
        size, 0.95
    )


def test_finalists_span_costs_and_both_flows_and_leave_out_the_hopeless():
    generator = np.random.default_rng(0)
    points = [
        point(i, float(lut), 0.70 + 0.01 * generator.random(), flow)
        for i, (lut, flow) in enumerate(
            zip(np.geomspace(100, 30000, 80), ["rtl", "hls"] * 40, strict=True)
        )
    ]
    points.append(point(999, 10.0, 0.3))
    chosen = choose_finalists(points, 12)
    assert len(chosen) == len({p["digest"] for p in chosen}) == 12
    assert {p["flow"] for p in chosen} == {"rtl", "hls"}
    assert min(p["accuracy"] for p in chosen) >= 0.70
    assert chosen[0]["lut"] < 1000 and chosen[-1]["lut"] > 10000


def test_few_points_are_all_finalists():
    points = [point(1, 100.0, 0.7), point(2, 200.0, 0.71)]
    assert len(choose_finalists(points, 12)) == 2


def test_the_winner_is_the_smallest_accurate_one_and_provable_where_possible():
    rows = [
        row(1, 500, 0.700),
        row(2, 2000, 0.720),
        row(3, 900, 0.719, "hls"),
        row(4, 9000, 0.722),
        row(5, 100, 0.9, fits=False),
    ]
    winner, sentence = choose_winner(rows, 0.004)
    assert winner["digest"] == rows[1]["digest"]
    assert "4 fit the budget" in sentence
    without_rtl = [r for r in rows if r["flow"] == "hls"]
    assert choose_winner(without_rtl, 0.004)[0] is without_rtl[0]


def test_no_fitting_finalist_is_an_error_that_says_how_far_off():
    with pytest.raises(CodesignError, match="comes nearest .30 % over"):
        choose_winner([row(1, 5, 0.7, fits=False)], 0.01)


def test_a_combined_accuracy_lies_between_and_nearer_the_surer_one():
    combined = combine_accuracy(0.72, 0.004, 0.70, 2000)
    assert 0.715 < combined < 0.72
    assert 0.70 < combine_accuracy(0.72, 0.05, 0.70, 2000) < 0.705


def test_own_labels_join_those_that_ship_at_their_level():
    """What the same trained networks reach on both kinds of rows must agree once corrected."""
    task = load_task("jets")
    offset = label_offset(LabelSection(n_shipped=100), task)
    entries = load_benchmark()
    own = np.array([np.mean(e.split_accuracy) for e in entries]) - offset
    shipped = np.array([np.mean(e.validation_accuracy) for e in entries])
    assert offset != 0.0
    # what is left is the sampling error of single pairs, 0.01 each at most, over more than a thousand
    assert abs((own - shipped).mean()) < 1e-4
    assert label_offset(LabelSection(start_from="shipped"), task) == offset
    assert label_offset(LabelSection(), task) == 0.0
    assert label_offset(LabelSection(n_shipped=100), replace(task, benchmark="mine")) == 0.0


def test_an_unknown_stage_is_named(tmp_path):
    study = Study.create_or_open(tmp_path / "s", StudyConfig(name="s"))
    with pytest.raises(ConfigError, match="did you mean 'train'"):
        run_study(study, until="trian")
    assert STAGES[-1] == "report"


STUDY = """
schema: 1
name: tiny
space: mlp_tiny
seed: 3
labels: {n_initial: 16, n_per_round: 4, epochs: 1}
search: {n_evaluations: 1600, n_rounds: 2, strategy: nsga2}
train: {n_finalists: 2, epochs: 2}
"""


def run_verb(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-c", "from codesign.cli import main; main()", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
        **options,
    )


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_study_killed_in_mid_search_resumes_to_the_same_archive_and_ends_proved(tmp_path):
    config = tmp_path / "tiny.yaml"
    config.write_text(STUDY)
    unbroken, killed = tmp_path / "unbroken", tmp_path / "killed"

    whole = run_verb("run", config, "--output", unbroken)
    assert whole.returncode == 0, whole.stderr

    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from codesign.cli import main; main()",
            "search",
            str(config),
            "--output",
            str(killed),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 600
    while not (killed / "search.db").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    resumed = run_verb("search", config, "--output", killed)
    assert resumed.returncode == 0, resumed.stderr

    expected = json.loads((unbroken / "progress.json").read_text())["front"]
    assert json.loads((killed / "progress.json").read_text())["front"] == expected

    report = run_verb("report", unbroken, "--json")
    summary = json.loads(report.stdout)
    assert summary["complete"] and summary["winner"]["digest"]
    ran = {k: v for k, v in summary["mismatches"].items() if v["mismatches"] is not None}
    assert {"torch", "onnxruntime", "qonnx"} <= set(ran) and all(
        v["mismatches"] == 0 for v in ran.values()
    )
    assert (unbroken / "report.html").stat().st_size > 1_000_000
    if summary["winner"]["flow"] == "rtl":
        assert summary["latency_cycles"]["emulated"] >= 1
        assert summary["lut"]["synthesized"] > 0


def test_a_missing_study_file_is_one_sentence_and_exit_code_one(tmp_path):
    result = run_verb("run", tmp_path / "none.yaml")
    assert result.returncode == 1
    assert result.stderr.strip().count("\n") == 0 and "does not exist" in result.stderr
