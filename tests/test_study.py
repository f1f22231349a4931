"""Studies on disk: strict configuration, nothing half-written, foreign folders refused."""

import pytest

from codesign.checks import load_config
from codesign.errors import ConfigError, StudyError
from codesign.resources import data_root
from codesign.results import Choice, Labels, Training
from codesign.study import Study, StudyConfig

CONFIG = StudyConfig(name="demo")


def test_the_resolved_configuration_reads_back(tmp_path):
    study = Study.at(tmp_path / "s", CONFIG).begin()
    assert Study.open(tmp_path / "s").config == study.config == CONFIG


def test_another_study_is_refused_once_it_has_begun_and_other_changes_are_taken_over(tmp_path):
    study = Study.at(tmp_path / "s", CONFIG).begin()
    Study.at(tmp_path / "s", StudyConfig(name="demo", seed=7)).begin()
    study.record("choose", Choice(winner="0" * 12, reason="why", against_trivial="", steadiness=""))
    with pytest.raises(StudyError, match="another device and seed"):
        Study.at(tmp_path / "s", StudyConfig(name="demo", seed=5, device="xcvu9p")).begin()
    changed = StudyConfig(name="other", seed=7, export={"backends": ["quartus"]})
    assert Study.at(tmp_path / "s", changed).begin().config == changed
    assert Study.open(tmp_path / "s").config == changed


def test_a_foreign_folder_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StudyError, match="not empty and holds no study"):
        Study.at(tmp_path, CONFIG).begin()
    with pytest.raises(StudyError, match="not a study"):
        Study.open(tmp_path)


def test_another_schema_is_refused(tmp_path):
    Study.at(tmp_path / "s", CONFIG).begin()
    path = tmp_path / "s" / "study.yaml"
    path.write_text(path.read_text().replace("schema: 1", "schema: 99"))
    with pytest.raises(StudyError, match="schema 99"):
        Study.open(tmp_path / "s")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: demo\nsearhc: {}\n", "did you mean 'search'"),
        ("name: demo\nsearch: {stratgy: nsga2}\n", "did you mean 'strategy'"),
        ("name: demo\nsearch: {n_evaluations: lots}\n", "search.n_evaluations"),
        ("name: '../evil'\n", "name"),
        ("name: demo\nlabels: {n_initial: 0}\n", "n_initial or n_shipped"),
        ("schema: 2\nname: demo\n", "schema"),
        ("- a list\n", "expected a mapping"),
        ("name: [unclosed\n", "not valid YAML"),
        ("name: !!python/object/apply:os.system ['true']\n", "not valid YAML"),
    ],
)
def test_bad_study_files_are_refused_in_one_sentence(tmp_path, text, message):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(path)
    assert "\n" not in str(caught.value)


def test_relative_paths_are_taken_from_the_study_file(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("name: demo\nspace: mine/space.yaml\n")
    (tmp_path / "mine").mkdir()
    shipped = data_root("constraints") / "spaces" / "mlp_tiny.yaml"
    (tmp_path / "mine" / "space.yaml").write_text(shipped.read_text())
    assert load_config(path).space == str((tmp_path / "mine/space.yaml").resolve())


def test_results_survive_and_damage_names_the_one_file_to_delete(tmp_path):
    study = Study.at(tmp_path / "s", CONFIG).begin()
    labels = Labels(genomes=[[1, 2]], scores=[0.25], seconds=1.5, depends_on="abc")
    for k in (1, 2, 10):
        study.record(f"label_{k}", labels.model_copy(update={"scores": [k / 16]}))
    study.record("choose", Choice(winner="0" * 12, reason="why", against_trivial="", steadiness=""))
    read = Study.open(tmp_path / "s").results()
    assert [r.scores for r in read.of(Labels)] == [[1 / 16], [2 / 16], [10 / 16]]
    assert read.last(Labels).seconds == 1.5 and study.winner() == "0" * 12
    with pytest.raises(StudyError, match="not reached its stage 'train'"):
        read.require(Training)
    path = tmp_path / "s" / "results" / "label_2.json"
    path.write_text('{"genomes": ')
    with pytest.raises(StudyError, match=r"label_2.json is damaged.*delete this one file"):
        study.results()
    path.unlink()
    assert len(study.results().of(Labels)) == 2


def test_a_study_of_an_older_version_is_refused(tmp_path):
    Study.at(tmp_path / "s", CONFIG).begin()
    path = tmp_path / "s" / "study.yaml"
    path.write_text(path.read_text().replace("results_schema: 2\n", ""))
    with pytest.raises(StudyError, match="results of schema 1"):
        Study.open(tmp_path / "s")


def test_a_candidate_folder_takes_only_digests(tmp_path):
    study = Study.at(tmp_path / "s", CONFIG).begin()
    with pytest.raises(StudyError, match="no candidate digest"):
        study.candidate_folder("../../etc")
