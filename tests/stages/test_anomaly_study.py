"""A study of an anomaly score to its end, small: no signal has a say, integers go in, a trigger bit comes out."""

import json
from contextlib import nullcontext

import numpy as np
import pytest
import yaml

from codesign import pipeline
from codesign.errors import ConfigError
from codesign.export.bundle import load_export
from codesign.ir import QuantizedNetwork
from codesign.layers import run_words
from codesign.pipeline import run_study
from codesign.resources import data_root
from codesign.results import Choice, Preparation, Training
from codesign.stages import setting as setting_module
from codesign.stages.setting import open_setting
from codesign.study import Study, StudyConfig
from codesign.training.anomaly import evidence_of


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """The study, run to its end in this process, without compilers."""
    folder = tmp_path_factory.mktemp("study")
    space = yaml.safe_load(
        (data_root("constraints") / "spaces" / "autoencoder_l1.yaml").read_text()
    )
    space["domains"] |= {"flow": ["rtl"], "clock_mhz": [160, 200], "width": [4, 8], "depth": [1]}
    (folder / "space.yaml").write_text(yaml.safe_dump(space))
    config = StudyConfig.model_validate(
        {
            "name": "small",
            "space": str(folder / "space.yaml"),
            "device": "xc7vx690t",
            "budget": "l1_relaxed",
            "task": {
                "source": "level1",
                "scaling": "hardware",
                "options": {
                    "heads": [{"name": "anomaly"}],
                    "n_train_max": 1200,
                    "signals": ["h_4l", "leptoquark"],
                    "background": "rates",
                    "judged_by": {"name": "efficiency_at_rate", "rate_khz": 1.0},
                },
            },
            "labels": {"n_initial": 12, "n_per_round": 3, "epochs": 1, "predictor": "ridge"},
            "search": {"n_evaluations": 200, "n_rounds": 1, "population_size": 40},
            "train": {"n_finalists": 2, "epochs": 2, "n_splits": 2},
            "export": {"open_synthesis": False, "trigger_bit": True},
        }
    )
    with pytest.MonkeyPatch.context() as patch:
        for tool in ("GXX", "MAKE", "PERL", "VERILATOR", "GHDL"):
            patch.setenv(f"CODESIGN_{tool}", f"/nonexistent/{tool.lower()}")
        for module in (setting_module, pipeline):
            patch.setattr(module, "open_pool", lambda *_, **__: nullcontext(None))
        study = Study.at(folder / "small", config).begin()
        run_study(study)
        yield open_setting(study)


@pytest.mark.slow
def test_designs_are_chosen_by_a_score_that_needs_no_signal_and_the_study_says_so(setting):
    results = setting.study.results()
    facts = results.require(Preparation)
    assert facts.score.name == "auc" and facts.test_score.name == "efficiency at 1 kHz"
    notes = {check["name"]: check["detail"] for check in facts.task["checks"]}
    assert "no signal is asked" in notes["score_without_labels"]
    names = [baseline.name for baseline in results.require(Training).baselines]
    assert names == ["constant", "distance"]  # nothing that learned from stand-ins
    choice = results.require(Choice)
    winner = setting.study.designs()[choice.winner].test.value
    distance = results.require(Training).baselines[1].test.value
    _, said = choice.against_trivial.split("On the events of the test rows it reaches ")
    assert said.startswith(f"efficiency at 1 kHz {winner:.4f}") and f"({distance:.4f}, " in said
    for design in setting.study.designs().values():
        network = QuantizedNetwork.load(setting.study.weights_file(design.digest))
        assert evidence_of(network.network).form in ("latent", "reconstruction", "features")


@pytest.mark.slow
def test_integers_go_in_and_the_bit_comes_out_with_the_stated_efficiency(setting):
    study, winner = setting.study, setting.study.results().require(Choice).winner
    exported = study.exported(study.designs()[winner])
    folder = study.folder / exported.folder
    stated = json.loads((folder / "input_scaling.json").read_text())
    ports = stated["from_whole_numbers"]
    raw = setting.task.x_test.astype(np.int64) - np.array(ports["offset"])
    words = np.stack(
        [raw[:, i] >> s if s >= 0 else raw[:, i] << -s for i, s in enumerate(ports["right_shift"])],
        axis=1,
    )
    words = np.clip(words, stated["min_word"], stated["max_word"])
    bit = load_export(folder).network
    assert bit.network.nodes[-1].layer == "trigger"
    fires = run_words(bit, words)[:, 0] == 1
    trained = QuantizedNetwork.load(study.weights_file(winner))
    assert np.array_equal(fires, run_words(trained, words)[:, 0] >= exported.trigger.threshold_word)
    labels, weights = setting.task.events.labels, setting.task.weights_test.astype(np.float64)
    background = labels == 0
    rate = (
        weights[background & fires].sum()
        / weights[background].sum()
        * exported.trigger.input_rate_khz
    )
    assert rate == pytest.approx(exported.trigger.rate_khz) and rate <= 1.0
    for index, name in enumerate(setting.task.events.names[1:], start=1):
        own = labels == index
        assert exported.trigger.efficiency[name] == pytest.approx(fires[own].mean(), abs=1e-9)
    assert all(c.mismatches in (0, None) for c in exported.comparisons.values())


@pytest.mark.slow
def test_a_study_that_could_not_set_a_threshold_ends_before_anything_is_trained(setting, tmp_path):
    config = setting.study.config
    options = config.task.options | {"judged_by": "auc"}
    changed = config.model_copy(
        update={"task": config.task.model_copy(update={"options": options})}
    )
    study = Study.at(tmp_path / "none", changed).begin()
    with pytest.raises(ConfigError, match="export.trigger_bit: task level1 sets no threshold"):
        run_study(study)
    assert not study.designs()
