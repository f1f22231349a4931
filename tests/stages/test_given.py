"""A study of a network that was trained elsewhere: from its file to a priced choice."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from codesign.api import load_network
from codesign.checks import load_config
from codesign.cli import build_app
from codesign.errors import CodesignError
from codesign.export.onnx import export_onnx
from codesign.front import designs_of
from codesign.importing import read_model
from codesign.layers.trigger import with_trigger
from codesign.pipeline import plan_study, run_study
from codesign.report.page import render
from codesign.report.summary import summarize
from codesign.results import Choice, ImportedNetwork, Search, TrainedDesign
from codesign.study import Study
from tests.importing.qonnx_files import mlp


def _study(folder: Path, **network: object) -> Study:
    mlp(folder / "model.onnx", (6, 5, 3))
    config = {
        "schema": 1, "name": "mine", "network": {"file": "model.onnx", **network},
        "train": {"n_finalists": 3, "n_splits": 1},
    }  # fmt: skip
    (folder / "mine.yaml").write_text(yaml.safe_dump(config))
    return Study.at(folder / "study", load_config(folder / "mine.yaml")).begin()


def test_importing_keeps_the_network_as_it_is_given(tmp_path: Path) -> None:
    path = mlp(tmp_path / "tagger.onnx", (6, 5, 3))
    folder = tmp_path / "study"
    command = ["import", str(path), "--output", str(folder), "--flow", "rtl", "--clock-mhz", "320"]
    done = CliRunner().invoke(build_app(), command)
    assert done.exit_code == 0, done.output
    assert "word for word" in done.output
    study = Study.open(folder)
    imported = study.results().require(ImportedNetwork)
    assert imported.framework == "qonnx" and set(imported.proof) == {"random", "normal", "corners"}
    (design,) = designs_of(study)
    assert design.is_winner and design.flow == "rtl" and design.clock_mhz == pytest.approx(320)
    network = load_network(folder)
    assert network.digest == imported.network_digest
    summary = summarize(study)
    assert summary["imported"]["proof"]["corners"]["differing"] == 0
    page = render(summary)
    section = page[page.index("As it was given") : page.index('<section id="proof">')]
    assert imported.verdict in section and "tagger.onnx" in section and "qonnx" in section
    for kind, row in imported.proof.items():
        assert f">{kind}</td><td>{row.vectors:,}</td><td>{row.outputs:,}</td><td>0</td>" in section
    run_study(study, until="choose")  # nothing is done again
    assert study.results().require(ImportedNetwork) == imported


def test_a_bit_that_hardly_ever_fires_is_imported_from_our_own_file(tmp_path: Path) -> None:
    network = read_model(mlp(tmp_path / "score.onnx", (6, 5, 1))).network
    bit = with_trigger(network, network.output_format.max_word)
    path = tmp_path / "bit.onnx"
    path.write_bytes(export_onnx(bit).content)
    done = CliRunner().invoke(
        build_app(), ["import", str(path), "--output", str(tmp_path / "study")]
    )
    assert done.exit_code == 0 and "word for word" in done.output
    nodes = load_network(tmp_path / "study").network.nodes
    assert nodes[-1].layer == "trigger"


@pytest.mark.slow
def test_a_study_of_a_network_finds_cheaper_hardware_and_fewer_bits(tmp_path: Path) -> None:
    study = _study(tmp_path, score_loss=0.05, reuse_factor=1)
    run_study(study, until="choose")
    results, designs = study.results(), study.designs()
    given = results.require(Search).points[0]
    winner = designs[results.require(Choice).winner]
    assert len(designs) > 1 and winner.digest != given.digest and winner.fits
    fitting = [d.predicted_with_weights["lut"].value for d in designs.values() if d.fits]
    assert winner.predicted_with_weights["lut"].value == min(fitting)
    assert "as given" in results.require(Choice).reason
    rtl = [p for p in results.require(Search).points if p.flow == "rtl" and p.digest in designs]
    assert rtl  # priced by the adder graph from the search on, as they are with weights
    assert all(p.lut == designs[p.digest].predicted_with_weights["lut"].value for p in rtl)
    assert _score(designs[given.digest]) == pytest.approx(0.0, abs=0.01)
    assert (
        0.0 < -winner.validation.value < 0.08
    )  # chosen by a loss of at most 0.05 on other rows of the kind


def _score(design: TrainedDesign) -> float:
    return -design.validation.value


def test_a_file_that_is_no_model_makes_no_study(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    command = ["import", str(tmp_path / "model.onnx"), "--output", str(tmp_path / "study")]
    done = CliRunner().invoke(build_app(), command)
    assert done.exit_code == 1 and "not a readable ONNX file" in str(done.exception)
    assert not (tmp_path / "study").exists()


def test_a_network_that_cannot_be_read_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    config = {"schema": 1, "name": "mine", "network": "model.onnx"}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config))
    study = Study.at(tmp_path / "study", load_config(tmp_path / "mine.yaml")).begin()
    with pytest.raises(CodesignError, match="not a readable ONNX file"):
        run_study(study, until="choose")
    assert not study.given_network.exists() and not list(study.folder.glob("results/*"))


def test_a_plan_of_a_network_writes_nothing(tmp_path: Path) -> None:
    mlp(tmp_path / "model.onnx", (6, 5, 3))
    config = {"schema": 1, "name": "mine", "network": "model.onnx"}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config))
    planned = plan_study(tmp_path / "study", load_config(tmp_path / "mine.yaml"))
    assert {p.state for p in planned} == {"to do"}
    assert not (tmp_path / "study").exists()
