"""Studies on disk: strict configuration, nothing half-written, foreign folders refused."""

import json

import pytest

from codesign.errors import ConfigError, StudyError
from codesign.study import Study, StudyConfig, load_config

CONFIG = StudyConfig(name="demo")


def test_the_resolved_configuration_reads_back(tmp_path):
    study = Study.create_or_open(tmp_path / "s", CONFIG)
    assert Study.open(tmp_path / "s").config == study.config == CONFIG


def test_another_configuration_is_refused(tmp_path):
    Study.create_or_open(tmp_path / "s", CONFIG)
    with pytest.raises(StudyError, match="another configuration"):
        Study.create_or_open(tmp_path / "s", StudyConfig(name="demo", seed=5))


def test_a_foreign_folder_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StudyError, match="not empty and holds no study"):
        Study.create_or_open(tmp_path, CONFIG)
    with pytest.raises(StudyError, match="not a study"):
        Study.open(tmp_path)


def test_another_schema_is_refused(tmp_path):
    Study.create_or_open(tmp_path / "s", CONFIG)
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
    assert load_config(path).space == str((tmp_path / "mine/space.yaml").resolve())


def test_progress_survives_and_damage_is_named(tmp_path):
    study = Study.create_or_open(tmp_path / "s", CONFIG)
    study.record("prepare", {"seconds": 1.5})
    study.record("train", {"seconds": 2.0})
    assert json.loads((tmp_path / "s" / "progress.json").read_text())["prepare"] == {"seconds": 1.5}
    (tmp_path / "s" / "progress.json").write_text('{"prepare": ')
    with pytest.raises(StudyError, match="damaged"):
        study.progress()


def test_a_candidate_folder_takes_only_digests(tmp_path):
    study = Study.create_or_open(tmp_path / "s", CONFIG)
    with pytest.raises(StudyError, match="no candidate digest"):
        study.candidate_folder("../../etc")
