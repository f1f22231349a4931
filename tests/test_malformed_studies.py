"""Malformed studies are refused before anything is trained, by key and with the nearest legal value."""

import subprocess
import sys

import pytest

from codesign.errors import CodesignError, ConfigError
from codesign.pipeline import plan_study
from codesign.registry import listed
from codesign.resources import data_root
from codesign.study import check_names, load_config

#: What stands in the study, and what the refusal must say.
TYPOS = [
    ("nam: x\n", "did you mean 'name'"),
    ("name: x y\n", "name"),
    ("name: x\nspaec: mlp_l1\n", "did you mean 'space'"),
    ("name: x\nspace: mlp_l2\n", "space: .*did you mean 'mlp_l1'"),
    ("name: x\ndevice: xcvu13\n", "device: .*did you mean 'xcvu13p'"),
    ("name: x\nbudget: l1_100\n", "budget: .*did you mean 'l1_100ns'"),
    ("name: x\nspace: none.yaml\n", "space: .*none.yaml does not exist"),
    ("name: x\nseed: -1\n", "seed"),
    ("name: x\nlabels: {n_initial: 8}\n", "n_initial: .* at least 12"),
    ("name: x\nlabels: {n_initial: 0}\n", "n_initial or n_shipped"),
    ("name: x\nlabels: {epoch: 3}\n", "did you mean 'epochs'"),
    ("name: x\nlabels: {start_from: none.npz}\n", "labels.start_from: .*does not exist"),
    ("name: x\nsearch: {strategy: nsgaII}\n", "search.strategy: .*did you mean 'nsga"),
    ("name: x\nsearch: {objectives: [scor, lut]}\n", "search.objectives.0"),
    ("name: x\nsearch: {n_evaluations: 5}\n", "search.n_evaluations"),
    ("name: x\nsearch: {reward: {kind: mnasnet}}\n", "needs a target"),
    ("name: x\nsearch: {weight_sharing: {methods: [darts]}}\n", "weight_sharing.methods.0"),
    ("name: x\ntrain: {n_finalist: 3}\n", "did you mean 'n_finalists'"),
    ("name: x\ntrain: {precision: lerned}\n", "train.precision"),
    ("name: x\ntrain: {n_splits: 9}\n", "train.n_splits"),
    ("name: x\nexport: {backends: [vites]}\n", "export.backends: .*did you mean 'vitis'"),
]
#: Found only with data, space and device at hand; still before the first label.
LATER = [
    ("labels: {predictor: ridgee}\n", "did you mean 'ridge'"),
    ("labels: {predictor: transfer}\n", "needs labels.start_from"),
    ("export: {backends: [quartus]}\n", "takes parts of intel, xcvu13p"),
    ("search: {filter: {at_most: {bop: 1}}}\n", "did you mean 'bops'"),
    ("task: {source: jetss}\n", "did you mean 'jets'"),
    ("task: {options: {n_train_mx: 100}}\n", "did you mean 'n_train_max'"),
    (
        "task: {source: muons, options: {n_train_max: 15}}\n",
        "15 training rows are too few: .* at least 16",
    ),
    ("task: {options: {sampling: weighted}}\n", "but they have none"),
    ("task: {options: {heads: [{name: class, loss: null}]}}\n", "a head without a loss"),
    (
        "task: {options: {heads: [{name: class, metric: {name: tpr_at_fpr, fpr: 0.001}}]}}\n",
        "test rows .* needs 10000 background events .* got",
    ),
    (
        "task: {options: {heads: [{name: class, metric: {name: auc, signal: 7}}]}}\n",
        "class 7 has no output",
    ),
    (
        "task: {source: muons, options: {heads: [{name: momentum, metric: {name: bias, output: 2}}]}}\n",
        "output 2 does not exist",
    ),
    (
        "task: {source: level1, options: {judged_by: {name: efficiency_at_rate, rate_khz: 0.01}}}\n",
        "needs [0-9]+ background events .* got",
    ),
    (
        "task: {source: level1, options: {judged_by: {name: efficiency_at_rate, rate_khz: 50000}}}\n",
        "efficiency_at_rate: rate_khz is 50000, but only",
    ),
    ("task: {source: level1, options: {judged_by: resolution}}\n", "events are classes"),
    (
        "task: {source: level1, options: {heads: [{name: anomaly}]}}\n",
        "must end in a sum of squares",
    ),
    (
        "task: {source: level1, options: {heads: [{name: anomaly}]}}\nspace: autoencoder_l1\n"
        "train: {precision: learned}\n",
        "train.precision: an anomaly score is trained at the widths",
    ),
]


@pytest.mark.parametrize(("text", "said"), TYPOS)
def test_a_typo_is_refused_when_the_study_is_read(tmp_path, text, said):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        load_config(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "said"), LATER)
def test_what_does_not_fit_is_refused_before_the_first_label(tmp_path, text, said):
    path = tmp_path / "x.yaml"
    path.write_text(f"name: x\nspace: mlp_tiny\n{text}")
    with pytest.raises(CodesignError, match=said) as caught:
        plan_study(tmp_path / "runs", load_config(path))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_a_score_that_no_network_reaches_is_refused(tmp_path):
    limit = (data_root("constraints") / "budgets" / "l1_100ns.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(limit + "minimum_score: 76\n")
    path = tmp_path / "x.yaml"
    path.write_text("name: x\nspace: mlp_tiny\nbudget: mine.yaml\n")
    with pytest.raises(ConfigError, match="minimum_score is 76, but accuracy is at most 1"):
        plan_study(tmp_path / "runs", load_config(path))


def test_reading_a_study_loads_nothing_heavy(tmp_path):
    """So that a typo is refused at once; torch alone takes seconds to load."""
    path = tmp_path / "x.yaml"
    path.write_text("name: x\nsearch: {strategy: nsgaII}\n")
    code = (
        "import sys\nfrom pathlib import Path\nfrom codesign.study import load_config\n"
        f"try:\n    load_config(Path({str(path)!r}))\nexcept ValueError as error:\n    print(error)\n"
        "print(*{'torch', 'pymoo', 'sklearn', 'hls4ml'} & set(sys.modules))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    said, loaded = answer.stdout.splitlines()
    assert "did you mean 'nsga" in said and loaded == ""


@pytest.mark.parametrize(
    ("package", "registry"),
    [
        ("codesign.search.strategies", "codesign.search.strategies.base:STRATEGIES"),
        ("codesign.export.backends", "codesign.export.backends:BACKENDS"),
    ],
)
def test_modules_are_called_like_what_they_add(package, registry):
    """What `check_names` rests on: names are read off the modules."""
    module, _, attribute = registry.partition(":")
    names = getattr(__import__(module, fromlist=[attribute]), attribute).names()
    assert listed(package) == set(names)


def test_a_right_study_passes_and_its_paths_are_taken_from_its_folder(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("name: x\ntask: {source: npz, options: {path: data/mine.npz}}\n")
    config = load_config(path)
    check_names(config, where="x.yaml")
    assert config.task.options["path"] == str((tmp_path / "data/mine.npz").resolve())


def test_a_plan_says_what_is_to_do_and_writes_nothing(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("name: x\nspace: mlp_tiny\nsearch: {n_rounds: 2}\n")
    planned = plan_study(tmp_path / "runs", load_config(path))
    assert [p.name for p in planned][:4] == ["prepare", "label_1", "fit_1", "search_1"]
    assert {p.state for p in planned} == {"to do"}
    assert all(p.effort.seconds >= 0 and p.effort.what for p in planned)
    assert list(tmp_path.iterdir()) == [path]
