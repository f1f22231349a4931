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
from codesign.pipeline import STAGES, digests_of, run_study, stages_of, stale_results
from codesign.results import Choice, FrontPoint, Labels, Search
from codesign.space import load_space
from codesign.stages.choosing import choose_finalists, choose_spread
from codesign.stages.setting import open_setting
from codesign.study import Study, StudyConfig
from codesign.training.benchmark import load_benchmark, shipped_offset


def point(i, lut, score, flow="rtl"):
    return FrontPoint(
        digest=f"{i:012x}",
        genome=[i],
        layers=[],
        flow=flow,
        io_type="io_parallel",
        score=score,
        score_std=0.01,
        clock_mhz=360.0,
        latency_cycles=3.0,
        latency_ns=9.0,
        lut=lut,
        ff=lut,
        dsp=0.0,
        bram_18k=0.0,
        utilization=0.01,
    )


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
    assert len(chosen) == len({p.digest for p in chosen}) == 12
    assert {p.flow for p in chosen} == {"rtl", "hls"}
    assert min(p.score for p in chosen) >= 0.70
    assert chosen[0].lut < 1000 and chosen[-1].lut > 10000


def test_few_points_are_all_finalists():
    points = [point(1, 100.0, 0.7), point(2, 200.0, 0.71)]
    assert len(choose_finalists(points, 12)) == 2


def test_own_labels_join_those_that_ship_at_their_level():
    """What the same trained networks reach on both kinds of rows must agree once corrected."""
    offset = shipped_offset("codesign-jets-v1", n_train=16_000)
    entries = load_benchmark()
    own = np.array([np.mean(e.split_accuracy) for e in entries]) - offset
    shipped = np.array([np.mean(e.validation_accuracy) for e in entries])
    assert offset != 0.0
    # what is left is the sampling error of single pairs, 0.01 each at most, over more than a thousand
    assert abs((own - shipped).mean()) < 1e-4
    assert shipped_offset("mine", n_train=16_000) == 0.0
    assert shipped_offset("codesign-jets-v1", n_train=8_000) == 0.0


def test_an_unknown_stage_is_named(tmp_path):
    study = Study.at(tmp_path / "s", StudyConfig(name="s")).begin()
    with pytest.raises(ConfigError, match="did you mean 'train'"):
        run_study(study, until="trian")
    assert STAGES[-1] == "report"


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    config = StudyConfig(name="s", space="mlp_tiny")
    return open_setting(Study.at(tmp_path_factory.mktemp("setting") / "s", config).begin())


@pytest.mark.parametrize(
    ("change", "first_touched"),
    [
        ({"export": {"backends": ["quartus"]}}, "export"),
        ({"train": {"score_tolerance": 0.01}}, "choose"),
        ({"train": {"n_finalists": 3}}, "train"),
        ({"search": {"n_evaluations": 90_000}}, "search_1"),
        ({"search": {"n_workers": 2}}, None),
        ({"labels": {"predictor": "ridge"}}, "fit_1"),
        ({"labels": {"n_per_round": 8}}, "search_1"),
        ({"labels": {"epochs": 3}}, "label_1"),
        ({"seed": 9}, "prepare"),
        ({"name": "other"}, "report"),
    ],
)
def test_a_change_touches_the_stages_that_depend_on_it_and_all_after_them(
    setting, change, first_touched
):
    """So that `codesign run` with a changed file continues instead of starting anew."""

    def digests(config):
        study = Study(folder=setting.study.folder, config=config)
        return digests_of(stages_of(config), replace(setting, study=study))

    before = digests(setting.study.config)
    after = digests(StudyConfig.model_validate({"name": "s", "space": "mlp_tiny"} | change))
    touched = [name for name in before if before[name] != after[name]]
    names = list(before)
    assert touched == ([] if first_touched is None else names[names.index(first_touched) :])


def test_results_of_what_has_changed_are_found_stale(setting):
    study = setting.study
    digests = digests_of(stages_of(study.config), setting)
    choice = Choice(
        winner="0" * 12,
        reason="why",
        against_trivial="",
        steadiness="",
        depends_on=digests["choose"],
    )
    study.record("choose", choice)
    assert stale_results(study, digests) == []
    assert stale_results(study, digests | {"choose": "other"}) == ["choose"]
    study.forget("choose")


def test_an_illegal_change_forgets_nothing(tmp_path):
    folder = tmp_path / "s"
    study = Study.at(folder, StudyConfig(name="s", space="mlp_tiny")).begin()
    run_study(study, until="prepare")
    study.record("label_1", Labels(genomes=[], scores=[], depends_on="earlier"))
    typo = {"name": "s", "space": "mlp_tiny", "labels": {"predictor": "ridgee"}}
    changed = Study.at(folder, StudyConfig.model_validate(typo)).begin()
    with pytest.raises(CodesignError, match="did you mean 'ridge'"):
        run_study(changed)
    assert "label_1" in changed.results()


STUDY = """
schema: 1
name: tiny
space: mlp_tiny
budget: l1_corner
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

    found, expected = (Study.open(folder).results().of(Search) for folder in (killed, unbroken))
    assert [r.points for r in found] == [r.points for r in expected]
    assert [r.front_genomes for r in found] == [r.front_genomes for r in expected]

    report = run_verb("report", unbroken, "--json")
    summary = json.loads(report.stdout)
    assert summary["complete"] and summary["winner"]["digest"]
    ran = {k: v for k, v in summary["mismatches"].items() if v["mismatches"] is not None}
    assert {"torch", "onnxruntime", "qonnx"} <= set(ran) and all(
        v["mismatches"] == 0 for v in ran.values()
    )
    assert (unbroken / "report.html").stat().st_size > 1_000_000
    if summary["winner"]["flow"] == "rtl":
        assert summary["figures"]["latency_cycles"]["emulated"]["value"] >= 1
        assert summary["figures"]["lut"]["synthesized"]["value"] > 0


def test_a_missing_study_file_is_one_sentence_and_exit_code_one(tmp_path):
    result = run_verb("run", tmp_path / "none.yaml")
    assert result.returncode == 1
    assert result.stderr.strip().count("\n") == 0 and "does not exist" in result.stderr
