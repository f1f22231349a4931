"""A small study whose space learns its widths: cost is an outcome, a label, and predicted before training."""

from contextlib import nullcontext

import numpy as np
import pytest
import yaml

from codesign import pipeline
from codesign.errors import ConfigError
from codesign.export.rtl import solve_network
from codesign.hardware.learned_cost import QUANTITIES
from codesign.ir import QuantizedNetwork
from codesign.pipeline import plan_study, run_study
from codesign.resources import data_root
from codesign.results import Labels, Search, Training
from codesign.stages import setting as setting_module
from codesign.stages import train as train_stage
from codesign.stages.prepare import check
from codesign.stages.setting import open_setting, with_learned_costs
from codesign.study import Study, StudyConfig
from codesign.training import teacher

CONFIG = {
    "name": "learned",
    "seed": 3,
    "task": {"source": "jets", "options": {"n_train_max": 1500, "n_test_max": 300}},
    "labels": {"n_initial": 12, "n_per_round": 3, "epochs": 40, "predictor": "ridge"},
    "search": {"n_evaluations": 301, "n_rounds": 2, "strategy": "nsga2", "population_size": 40},
    "train": {"n_finalists": 2, "epochs": 16, "n_splits": 1, "n_restarts": 1},
    "export": {"open_synthesis": False},
}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    value = yaml.safe_load((data_root("constraints") / "spaces" / "mlp_learned.yaml").read_text())
    value["domains"] |= {"lut_budget": [80, 160, 320], "depth": [1], "width": [6, 8]}
    path = tmp_path_factory.mktemp("space") / "own.yaml"
    path.write_text(yaml.safe_dump(value))
    return StudyConfig.model_validate(CONFIG | {"space": str(path)})


@pytest.fixture(scope="module")
def setting(config, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        for module in (setting_module, pipeline):  # in this process, where the other patches are
            patch.setattr(module, "open_pool", lambda *_, **__: nullcontext(None))
        patch.setattr(teacher, "_EPOCHS", 2)
        patch.setattr(train_stage, "_POLISH_VALUES", 1e8)
        study = Study.at(tmp_path_factory.mktemp("study") / "learned", config).begin()
        run_study(study, until="train")
        yield open_setting(study)


@pytest.mark.slow
def test_labels_are_pairs_of_score_and_cost(setting):
    first, second = setting.study.results().of(Labels)
    for labels in (first, second):
        assert len(labels.costs) == len(labels.scores) == len(labels.genomes)
        assert all(set(row) == set(QUANTITIES) for row in labels.costs)
    budgets = setting.space.decode(setting.genomes(first.genomes)).lut_budget
    costs = np.array([row["adder_cost"] for row in first.costs])
    assert np.corrcoef(np.log(budgets), np.log(costs))[0, 1] > 0.5


@pytest.mark.slow
def test_the_front_is_priced_by_what_labels_cost(setting):
    results = setting.study.results()
    (before, last), points = results.of(Search), results.of(Search)[1].points
    assert before.points == [] and last.front_genomes and points
    taught = with_learned_costs(setting, results)
    population = setting.space.decode(setting.genomes([p.genome for p in points]))
    expected = taught.scorer.score(population).metrics["lut"].value
    assert [p.lut for p in points] == pytest.approx(expected.tolist())
    blank = setting.scorer.score(population).metrics["lut"].value
    assert not np.allclose(blank, expected, rtol=0.02)


@pytest.mark.slow
def test_finalists_are_trained_to_their_own_budgets_and_predicted_with_intervals(setting):
    known = setting.study.designs()
    for digest in setting.study.results().require(Training).finalists:
        design = known[digest]
        network = QuantizedNetwork.load(setting.study.weights_file(digest))
        budget = network.candidate.lut_budget
        assert budget in (80, 160, 320)
        assert solve_network(network).adder_cost < 1.4 * budget
        for name in ("lut", "ff", "latency_cycles"):
            known_cost = design.predicted[name]
            assert known_cost.low <= known_cost.value <= known_cost.high
        assert design.predicted["lut"].high > 1.1 * design.predicted["lut"].low
        # a few epochs' label is no estimate of a training to the end
        assert design.estimated.value == design.validation.value


def test_a_dry_run_says_that_widths_are_learned(config, tmp_path):
    planned = {p.name: p.effort.what for p in plan_study(tmp_path / "none", config)}
    assert "learned widths" in planned["label_1"] and "learned widths" in planned["train"]


def test_labels_of_stated_widths_are_refused(config, tmp_path):
    section = config.labels.model_copy(update={"n_shipped": 20})
    study = Study(folder=tmp_path, config=config.model_copy(update={"labels": section}))
    with pytest.raises(ConfigError, match="labels.n_shipped: knows networks of stated widths only"):
        check(open_setting(study))
