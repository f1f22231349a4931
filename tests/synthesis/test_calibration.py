"""Calibration: better coefficients or none, versioned, with a page that needs nothing else."""

import json
import math
import sys

import pytest
from typer.testing import CliRunner

from codesign.cli import build_app
from codesign.errors import CalibrationError
from codesign.report.calibration_page import calibration_page
from codesign.synthesis import calibration, coefficient_files
from codesign.synthesis.estimates import open_coefficients
from hw_models.calibration import (
    Coefficients,
    estimate_records,
    load_coefficients,
    save_coefficients,
)
from hw_models.records import read_record
from tests.synthesis.report_factory import CSYNTH_XML, fill, write_project, write_reports


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys.modules["hw_models.calibration.calibrate"], "MAX_FOLDS", 3)


def _record(index, n_in, n_out, source):
    return {
        "schema": 1, "id": f"{source}-{index}", "source": source, "tool": "Vivado HLS", "tool_version": "2019.2",
        "part": "xcvu9p-flga2104-2-e", "clock_period_ns": 5.0, "backend": "Vivado", "strategy": "latency",
        "io_type": "io_parallel", "model_precision": "ap_fixed<16,6>", "family": "MLP", "flags": [],
        "layers": [{
            "name": "dense", "type": "Dense", "in_shape": [n_in], "out_shape": [n_out], "units": n_out,
            "reuse_factor": 1, "strategy": "latency", "n_zeros": 0, "weight_precision": "ap_fixed<8,2>",
            "accum_precision": "ap_fixed<16,6>", "input_precision": "ap_fixed<16,6>", "result_precision": "ap_fixed<16,6>",
        }],
    }  # fmt: skip


def _estimate(records, coefficients):
    return estimate_records([read_record(r) for r in records], "csynth", coefficients)


def _records(factor, n_sources=4):
    """Designs of a tool whose LUT and FF are `factor` times what the bare laws say."""
    shapes = [(4, 4), (8, 16), (16, 8), (32, 16), (10, 5)]
    records = [
        _record(i, *shape, f"user{s}")
        for s in range(n_sources)
        for i, shape in enumerate(shapes[s % 2 :])
    ]
    laws = _estimate(records, Coefficients())
    for record, law in zip(records, laws, strict=True):
        value = {
            metric: law[metric]["value"]
            for metric in ("lut", "ff", "dsp", "bram_18k", "latency_cycles", "interval_cycles")
        }
        record["csynth"] = {
            "lut": round(value["lut"] * factor), "ff": round(value["ff"] * factor), "dsp": value["dsp"],
            "bram_18k": value["bram_18k"], "latency_cycles_min": value["latency_cycles"],
            "latency_cycles_max": value["latency_cycles"], "interval_cycles_min": value["interval_cycles"],
            "interval_cycles_max": value["interval_cycles"],
        }  # fmt: skip
    return records


def _result(run, stage):
    (result,) = (result for result in run.results.values() if result.stage == stage)
    return result


def _write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture
def bare(tmp_path):
    path = tmp_path / "bare.json"
    save_coefficients(Coefficients(), path)
    return path


def test_a_users_reports_bring_his_estimates_closer(tmp_path, bare):
    records = _records(1.6)
    run = calibration.run_calibration([_write(tmp_path / "r.jsonl", records)], base=bare)
    error = _result(run, "csynth").errors["lut"]
    assert run.is_better
    assert error.after < error.before
    assert run.output is not None
    assert run.output.name == "coefficients-0001.json"
    assert coefficient_files.path_in_use() == run.output
    fitted, origin = open_coefficients(None)
    assert origin == str(run.output)
    unseen = _record(0, 24, 12, "user9")
    truth = _estimate([unseen], Coefficients())[0]["lut"]["value"] * 1.6
    before = _estimate([unseen], Coefficients())[0]["lut"]["value"]
    after = _estimate([unseen], fitted)[0]["lut"]["value"]
    assert abs(math.log(after / truth)) < abs(math.log(before / truth))


def test_nothing_is_written_when_nothing_improves(tmp_path, bare):
    run = calibration.run_calibration([_write(tmp_path / "r.jsonl", _records(1.0))], base=bare)
    assert not run.is_better
    assert run.output is None
    assert coefficient_files.path_in_use() is None


def test_versions_count_upwards_and_output_overrides(tmp_path, bare):
    path = _write(tmp_path / "r.jsonl", _records(1.6))
    assert calibration.run_calibration([path], base=bare).output.name == "coefficients-0001.json"
    assert calibration.run_calibration([path], base=bare).output.name == "coefficients-0002.json"
    own = calibration.run_calibration([path], base=bare, output=tmp_path / "mine" / "c.json").output
    assert own == tmp_path / "mine" / "c.json"
    assert load_coefficients(own).provenance["base_file"] == "bare.json"


def test_steps_between_stages_are_learned_from_pairs(tmp_path, bare):
    records = _records(1.0)
    for index, record in enumerate(records):
        record["vsynth"] = {
            "lut": round(record["csynth"]["lut"] * (0.4 + 0.01 * (index % 3))),
            "ff": record["csynth"]["ff"],
        }
    run = calibration.run_calibration([_write(tmp_path / "r.jsonl", records)], base=bare)
    step = run.steps["vsynth"]["lut"]
    assert step.after < 10 < step.before
    assert run.steps["vsynth"]["ff"].after >= run.steps["vsynth"]["ff"].before
    fitted = load_coefficients(run.output)
    assert fitted.stages["vsynth"]["lut"]["factor"] == pytest.approx(0.41, abs=0.05)
    assert "ff" not in fitted.stages["vsynth"]


def test_reports_without_architecture_say_what_is_missing(tmp_path):
    for index in range(4):
        folder = tmp_path / "reports" / str(index)
        folder.mkdir(parents=True)
        (folder / "csynth.xml").write_text(fill(CSYNTH_XML, lut=1000 + index))
    with pytest.raises(CalibrationError, match="hls4ml project"):
        calibration.run_calibration([tmp_path / "reports"])
    with pytest.raises(CalibrationError, match="no report could be read"):
        calibration.run_calibration([tmp_path / "nowhere"])


def test_project_folders_are_calibrated_on_directly(tmp_path, bare):
    for index in range(5):
        folder = write_project(tmp_path / "user" / f"p{index}")
        write_reports(
            folder / "myproject_prj" / "solution1",
            lut=1000 + index,
            ff=500,
            dsp=2,
            bram=0,
            latency=2,
        )
    run = calibration.run_calibration([tmp_path / "user"], base=bare)
    assert _result(run, "csynth").n_records == 5
    assert not run.rejections


def test_the_page_stands_alone_and_escapes_names(tmp_path, bare):
    records = _records(1.6)
    records[0]["source"] = "<script>alert(1)</script>"
    run = calibration.run_calibration(
        [_write(tmp_path / "r.jsonl", [*records, {"schema": 9}])], base=bare
    )
    page = calibration_page(run)
    assert "<script>alert" not in page
    assert 'src="http' not in page
    assert "Plotly.newPlot" in page
    assert "schema 9" in page


def test_the_verb_prints_one_json_object(tmp_path, bare):
    path = _write(tmp_path / "r.jsonl", _records(1.6))
    result = CliRunner().invoke(
        build_app(),
        ["calibrate", str(path), "--base", str(bare), "--json", "--page", str(tmp_path / "p.html")],
    )
    assert result.exit_code == 0, result.output
    value = json.loads(result.stdout)
    assert value["stages"]["csynth, vivado_hls on ultrascale_plus, io_parallel"]["is_better"]
    assert value["n_designs"] == value["n_used"] == 18
    assert (tmp_path / "p.html").stat().st_size > 10**6


def test_the_page_stands_beside_the_coefficients_and_nowhere_else(tmp_path, bare, monkeypatch):
    path = _write(tmp_path / "r.jsonl", _records(1.6))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    command = ["calibrate", str(path), "--base", str(bare)]
    dry = CliRunner().invoke(build_app(), [*command, "--dry-run"])
    assert dry.exit_code == 0 and "plots: --page FILE" in dry.stdout
    kept = tmp_path / "kept" / "mine.json"
    done = CliRunner().invoke(build_app(), [*command, "--output", str(kept)])
    assert done.exit_code == 0 and f"page: {kept.with_suffix('.html')}" in done.stdout
    assert kept.with_suffix(".html").stat().st_size > 10**6
    assert not any((tmp_path / "here").iterdir())


def test_open_synthesis_moves_its_own_key_only(tmp_path, bare):
    run = calibration.run_calibration([], base=bare)
    error = _result(run, "vsynth").errors["lut"]
    assert error.n >= 150
    assert error.after < error.before
    fitted = load_coefficients(run.output)
    assert fitted.factors == {}
    assert set(fitted.offsets["lut"]) == {"tool=yosys"}
    record = _record(0, 16, 8, "user")
    (with_fit,), (without,) = (_estimate([record], c) for c in (fitted, Coefficients()))
    assert with_fit["lut"] == without["lut"]


@pytest.mark.parametrize("stage", ["emulated", "measured"])
def test_cycles_seen_on_a_device_or_in_a_simulator_are_fitted(tmp_path, bare, stage):
    records = _records(1.0)
    for record in records:
        report = record.pop("csynth")
        cycles = 2 * report["latency_cycles_max"] + 3
        record[stage] = {"latency_cycles_min": cycles, "latency_cycles_max": cycles}
    run = calibration.run_calibration([_write(tmp_path / "r.jsonl", records)], base=bare)
    errors = _result(run, stage).errors
    assert set(errors) == {"latency_cycles"}  # nothing is claimed of what was not seen
    assert errors["latency_cycles"].after < errors["latency_cycles"].before
    assert run.output is not None
    # the second design takes a cycle by the laws, where the first is done within none
    (before,) = _estimate(records[1:2], load_coefficients(bare))
    (after,) = _estimate(records[1:2], load_coefficients(run.output))
    assert after["latency_cycles"]["value"] > before["latency_cycles"]["value"]
    assert after["lut"]["value"] == before["lut"]["value"]


def test_designs_without_architecture_that_count_the_same_are_two(tmp_path, bare):
    report = {"TargetClockPeriod": "5.00", "LUT": "10", "FF": "5", "DSP": "1"}
    for name in ("a", "b"):
        (tmp_path / f"{name}.json").write_text(json.dumps({"CSynthesisReport": report}))
    records = _write(tmp_path / "r.jsonl", _records(1.6))
    paths = [records, tmp_path / "a.json", tmp_path / "b.json", records]
    run = calibration.run_calibration(paths, base=bare, is_dry=True)
    assert len(run.designs) == 20  # 18 once, though given twice, and these two
    assert sum("no architecture" in design.reason for design in run.unused) == 2
