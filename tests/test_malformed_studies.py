"""Malformed studies are refused before anything is trained, by key and with the nearest legal value."""

import hashlib
import json
import re
import subprocess
import sys

import pytest

from codesign.checks import check_choices, load_config
from codesign.errors import CodesignError, ConfigError
from codesign.pipeline import plan_study, run_study
from codesign.registry import listed
from codesign.resources import data_root
from codesign.study import Study, StudyConfig

#: What stands in the study, and what the refusal must say: the key, and the nearest legal value.
TYPOS = [
    ("nam: x\n", "did you mean 'name'"),
    ("name: x y\n", "x.yaml: name"),
    ("name: x\nspaec: mlp_l1\n", "did you mean 'space'"),
    ("name: x\nspace: mlp_l2\n", "x.yaml: space: .*did you mean 'mlp_l1'"),
    ("name: x\ndevice: xcvu13\n", "x.yaml: device: .*did you mean 'xcvu13p'"),
    ("name: x\nbudget: l1_100\n", "x.yaml: budget: .*did you mean 'l1_100ns'"),
    ("name: x\nspace: none.yaml\n", "x.yaml: space: .*none.yaml does not exist"),
    ("name: x\nspace: space.yaml\n", "x.yaml: space: space.yaml: .*did you mean 'mlp'"),
    ("name: x\ndevice: device.yaml\n", "x.yaml: device: device.yaml: .*did you mean 'part'"),
    ("name: x\nbudget: budget.yaml\n", "x.yaml: budget: budget.yaml: .*did you mean 'latency_ns'"),
    ("name: x\nseed: -1\n", "x.yaml: seed"),
    ("name: x\ntask: {source: jetss}\n", "x.yaml: task.source: .*did you mean 'jets'"),
    ("name: x\ntask: {scaling: standart}\n", "x.yaml: task.scaling: .*did you mean 'standard'"),
    (
        "name: x\ntask: {options: {n_train_mx: 100}}\n",
        "x.yaml: task.options: .*did you mean 'n_train_max'",
    ),
    (
        "name: x\ntask: {source: csv, options: {path: mine.csv}}\n",
        "x.yaml: task.options.path: .*mine.csv does not exist",
    ),
    ("name: x\nnetwork: {fil: mine.onnx}\n", "x.yaml: network: .*did you mean 'file'"),
    ("name: x\nnetwork: mine.onnx\n", "x.yaml: network.file: .*mine.onnx does not exist"),
    ("name: x\nlabels: {n_initial: 8}\n", "n_initial: .* at least 12"),
    ("name: x\nlabels: {n_initial: 0}\n", "n_initial or n_shipped"),
    ("name: x\nlabels: {epoch: 3}\n", "x.yaml: labels: .*did you mean 'epochs'"),
    ("name: x\nlabels: {start_from: none.npz}\n", "labels.start_from: .*does not exist"),
    ("name: x\nlabels: {predictor: ridgee}\n", "labels.predictor: .*did you mean 'ridge'"),
    ("name: x\nlabels: {predictor: transfer}\n", "predictor: 'transfer' needs labels.start_from"),
    ("name: x\nlabels: {proxy: sinflow}\n", "labels.proxy: .*did you mean 'synflow'"),
    ("name: x\nsearch: {strategy: nsgaII}\n", "search.strategy: .*did you mean 'nsga"),
    ("name: x\nsearch: {objectives: [scor]}\n", "search.objectives.0: .*did you mean 'score'"),
    ("name: x\nsearch: {islands: {n_ilands: 2}}\n", "search: islands: .*did you mean 'n_islands'"),
    (
        "name: x\ntask: {options: {heads: [{name: class, metrik: auc}]}}\n",
        "task.options: heads: 0: .*did you mean 'metric'",
    ),
    ("name: x\nsearch: {n_evaluations: 5}\n", "search.n_evaluations"),
    (
        "name: x\nsearch: {filter: {at_most: {bop: 1}}}\n",
        "search.filter.at_most.bop: .*did you mean 'bops'",
    ),
    ("name: x\nsearch: {reward: {kind: mnasnet}}\n", "needs a target"),
    (
        "name: x\nsearch: {reward: {kind: log_cost, cost: latency}}\n",
        "x.yaml: search: reward: .*did you mean 'latency_ns'",
    ),
    (
        "name: x\nsearch: {weight_sharing: {methods: [darts]}}\n",
        "weight_sharing.methods.0: .*did you mean 'darts[12]'",
    ),
    ("name: x\ntrain: {n_finalist: 3}\n", "x.yaml: train: .*did you mean 'n_finalists'"),
    ("name: x\ntrain: {precision: lerned}\n", "train.precision: .*did you mean 'learned'"),
    ("name: x\ntrain: {n_splits: 9}\n", "train.n_splits"),
    ("name: x\nexport: {backends: [vites]}\n", "export.backends: .*did you mean 'vitis'"),
    (
        "name: x\nexport: {backends: [quartus]}\n",
        "export.backends: .*takes parts of intel, xcvu13p",
    ),
    ("name: x\nexport: {name: module}\n", "export.name: .*add a word of your own"),
    ("name: x\nexport: {later: [rtl_vdhl]}\n", "export.later: .*did you mean 'rtl_vhdl'"),
]
#: Found only with data, space and device at hand; still before the first label.
LATER = [
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


#: Runs every study of a folder into one folder that holds a study, and into one that is not there.
COMMAND = """
import contextlib, io, json, sys
from pathlib import Path
from codesign.cli import main

answers = {}
for path in sorted(Path("typos").glob("*/x.yaml")):
    for folder in ("existing", "fresh"):
        sys.argv = ["codesign", "run", str(path), "--output", folder]
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            try:
                main()
                code = 0
            except SystemExit as stop:
                code = stop.code
        answers[f"{path.parent.name} {folder}"] = [code, said.getvalue()]
heavy = {"torch", "pymoo", "sklearn", "hls4ml", "onnx", "onnxruntime", "alkaid", "pandas", "plotly"}
print(json.dumps({"answers": answers, "loaded": sorted(heavy & set(sys.modules))}))
"""


def contents(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def refused(tmp_path_factory):
    """What `codesign run` answers to every typo, what it has loaded, and what stands in the folder then."""
    folder = tmp_path_factory.mktemp("refused")
    Study.at(folder / "existing", StudyConfig(name="x")).begin()
    (folder / "existing" / "results").mkdir()
    before = contents(folder / "existing")
    for i, (text, _) in enumerate(TYPOS):
        study = folder / "typos" / f"{i:02}" / "x.yaml"
        study.parent.mkdir(parents=True)
        study.write_text(text)
        for kind, wrong in (
            ("space", "schema: 1\nname: s\ntemplate: mpl\nsource: mine, 2026\ndomains: {}\n"),
            ("device", "prat: xcvu13p\n"),
            ("budget", "latancy_ns: 75\n"),
        ):
            study.with_name(f"{kind}.yaml").write_text(wrong)
    done = subprocess.run(
        [sys.executable, "-c", COMMAND],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    made = {path.name for path in folder.iterdir()}
    return json.loads(done.stdout), made, before == contents(folder / "existing")


@pytest.mark.parametrize("i", range(len(TYPOS)), ids=[said for _, said in TYPOS])
def test_a_typo_is_refused_in_one_sentence_that_names_key_and_nearest_value(refused, i):
    answers = refused[0]["answers"]
    for folder in ("existing", "fresh"):
        code, said = answers[f"{i:02} {folder}"]
        assert code == 1 and said.startswith("error: ") and said.count("\n") == 1, said
        assert re.search(TYPOS[i][1], said), said


def test_refusing_loads_nothing_heavy_and_writes_nothing(refused):
    """So that it takes a second; torch alone takes several."""
    answered, made, is_untouched = refused
    assert answered["loaded"] == []
    assert made == {"typos", "existing"} and is_untouched


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


def test_a_run_that_its_data_refuse_touches_nothing_either(tmp_path):
    """What is found with the data at hand is found before the study has a folder, or a new configuration."""
    typo = {"export": {"trigger_bit": True}}
    wrong = StudyConfig.model_validate({"name": "x", "space": "mlp_tiny", **typo})
    with pytest.raises(ConfigError, match="export.trigger_bit: task jets sets no threshold"):
        run_study(Study.at(tmp_path / "fresh", wrong))
    Study.at(tmp_path / "existing", StudyConfig(name="x", space="mlp_tiny")).begin()
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match="export.trigger_bit"):
        run_study(Study.at(tmp_path / "existing", wrong))
    assert contents(tmp_path) == before and not (tmp_path / "fresh").exists()


@pytest.mark.parametrize(
    ("package", "registry"),
    [
        ("codesign.search.strategies", "codesign.search.strategies.base:STRATEGIES"),
    ],
)
def test_modules_are_called_like_what_they_add(package, registry):
    """What `check_choices` rests on: names are read off the modules."""
    module, _, attribute = registry.partition(":")
    names = getattr(__import__(module, fromlist=[attribute]), attribute).names()
    assert listed(package) == set(names)


def test_a_right_study_passes_and_its_paths_are_taken_from_its_folder(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("name: x\ntask: {source: npz, options: {path: data/mine.npz}}\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.npz").touch()
    config = load_config(path)
    check_choices(config, where="x.yaml")
    assert config.task.options["path"] == str((tmp_path / "data/mine.npz").resolve())


def test_a_plan_says_what_is_to_do_and_writes_nothing(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("name: x\nspace: mlp_tiny\nsearch: {n_rounds: 2}\n")
    planned = plan_study(tmp_path / "runs", load_config(path))
    assert [p.name for p in planned][:4] == ["prepare", "label_1", "fit_1", "search_1"]
    assert {p.state for p in planned} == {"to do"}
    assert all(p.effort.seconds >= 0 and p.effort.what for p in planned)
    assert list(tmp_path.iterdir()) == [path]
