"""Every in-process device computes the same words as the reference, and its records are usable."""

import json
from dataclasses import replace

import numpy as np
import pytest

from codesign.errors import DesignError, DeviceError, StudyError, ToolError
from codesign.export.onnx import export_onnx
from codesign.export.rtl import export_rtl
from codesign.tools import require_tool
from codesign.validate import DeviceContext, DeviceFault, open_device
from codesign.validate.command import find_target, report_lines, run_device
from codesign.validate.forms import reference_form
from codesign.validate.records import append_record, device_record
from codesign.validate.run import validate_device
from codesign.validate.verilator import verilator_environment
from hw_models.calibration.fit import Dataset
from hw_models.records import load_records
from tests.export.random_networks import random_network, random_words


@pytest.fixture(scope="module")
def small():
    return random_network(
        5, max_width=8, n_blocks=1, activations=("relu",), strategies=("distributed_arithmetic",)
    )


def compare(url, network, n_events=500, **options):
    context = DeviceContext(network=network)
    words = random_words(network, 200, seed=1)
    return validate_device(
        open_device(url, context),
        reference_form(network),
        words,
        n_events=n_events,
        **options,
    )


def test_torch_device(small):
    assert compare("torch:", small).verdict == "pass"


def test_onnx_device_reads_its_formats_from_the_model(small, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(export_onnx(small).content)
    assert compare(f"onnx:{path}", small).verdict == "pass"
    other = random_network(8, max_width=4)
    assert compare(f"onnx:{path}", other).faults[0].name == "wrong-firmware"


def test_a_file_that_is_no_onnx_model_is_refused(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"junk")
    with pytest.raises(DesignError, match="is no ONNX model"):
        open_device(f"onnx:{path}").load()


def test_rtl_folder_mistakes_are_named(small, tmp_path):
    context = DeviceContext(network=small)
    with pytest.raises(DesignError, match="holds no RTL export"):
        open_device(f"rtl:{tmp_path}", context).load()
    (tmp_path / "rtl.json").write_text('{"schema": 9}')
    with pytest.raises(DesignError, match="another schema"):
        open_device(f"rtl:{tmp_path}", context).load()


@pytest.mark.slow
def test_rtl_is_cycle_accurate_and_its_stated_latency_is_checked(small, tmp_path, monkeypatch):
    try:
        verilator_environment()
    except ToolError as error:
        pytest.skip(str(error))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    export = export_rtl(small)
    folder = export.plan.write(tmp_path / "rtl")
    before = sorted(p.name for p in folder.rglob("*"))
    report = compare(f"rtl:{folder}", small, n_events=20_000)
    assert report.verdict == "pass"
    assert report.timing.latency_cycles == export.latency_cycles
    assert report.timing.interval_cycles == export.interval_cycles == 1
    assert compare(f"rtl:{folder}?gaps=6", small, n_events=5000).verdict == "pass"
    assert sorted(p.name for p in folder.rglob("*")) == before  # an export is sealed

    facts = json.loads((folder / "rtl.json").read_text())
    (folder / "rtl.json").write_text(
        json.dumps(facts | {"latency_cycles": facts["latency_cycles"] + 1})
    )
    report = compare(f"rtl:{folder}", small)
    assert (report.verdict, report.faults[0].name) == ("refused", "wrong-latency")

    record = device_record(small, compare_restored(folder, facts, small))
    assert record["emulated"]["latency_cycles_max"] == export.latency_cycles
    path = tmp_path / "records.jsonl"
    append_record(path, record)
    append_record(path, record)
    loaded = load_records([path])
    assert len(loaded) == 1  # an exact duplicate counts once
    dataset = Dataset(loaded, stage="emulated")
    assert len(dataset) == 1, dataset.rejected
    assert dataset.reported["latency_cycles"].tolist() == [export.latency_cycles]


def compare_restored(folder, facts, network):
    (folder / "rtl.json").write_text(json.dumps(facts, indent=2) + "\n")
    return compare(f"rtl:{folder}", network)


def test_only_a_run_that_passed_becomes_a_record(small, tmp_path):
    report = compare(f"onnx:{write_model(random_network(8, max_width=4), tmp_path)}", small)
    with pytest.raises(DeviceError, match="only a run that passed"):
        device_record(small, report)
    record = device_record(small, compare("torch:", small))
    assert "measured" not in record
    assert record["emulated"]["by"] == "torch"
    assert "latency_cycles_max" not in record["emulated"]
    assert record["layers"][1]["type"] == "Dense"


def write_model(network, folder):
    path = folder / "model.onnx"
    path.write_bytes(export_onnx(network).content)
    return path


def test_the_command_keeps_report_and_record_beside_a_sealed_export(small, tmp_path):
    folder = tmp_path / "export"
    folder.mkdir()
    small.save(folder / "weights.npz")
    (folder / "manifest.json").write_text("{}")
    (folder / "golden").mkdir()
    words = random_words(small, 50, seed=9)
    np.savez(folder / "golden" / "vectors.npz", input_words=words, output_words=words)
    target = find_target(folder)
    assert np.array_equal(target.words, words)
    report = run_device(target, "torch:", n_events=200, soak_s=0.0)
    assert report.verdict == "pass"
    results = tmp_path / "export_devices"
    assert json.loads((results / "torch.report.json").read_text())["n_events"] == 200
    assert json.loads((results / "records.jsonl").read_text())["schema"] == 2
    assert not list(results.glob("*.checkpoint.json"))
    assert dict(report_lines(report))["verdict"] == "pass: every event agrees"
    with pytest.raises(StudyError):
        find_target(tmp_path / "nothing")


def test_the_command_line_validates_and_writes_a_board_folder(small, tmp_path, capsys, monkeypatch):
    from codesign.cli import main

    folder = tmp_path / "export"
    folder.mkdir()
    small.save(folder / "weights.npz")
    (folder / "manifest.json").write_text("{}")

    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["codesign", "validate", str(folder), *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        return caught.value.code or 0, capsys.readouterr()

    code, shown = call("--device", "torch:", "--events", "300", "--json")
    assert code == 0
    assert json.loads(shown.out)["verdict"] == "pass"
    code, shown = call("--device", "tpc://localhost:1")
    assert code == 1
    assert "unknown device 'tpc'; did you mean 'tcp'?" in shown.err
    code, shown = call("--device", "tcp://127.0.0.1:1")
    assert code == 1
    assert "link-dropped" in shown.out
    code, _ = call("--write-server", "pynq-z2")
    assert code == 2
    code, shown = call("--write-server", "pynq-z2", "--output", str(tmp_path / "board"))
    assert code == 1 and not (tmp_path / "board").exists()
    assert f"carries xc7z020, the firmware is for {small.candidate.hardware.part}" in shown.err
    hardware = replace(small.candidate.hardware, part="xc7z020clg400-1")
    small = replace(small, candidate=replace(small.candidate, hardware=hardware))
    small.save(folder / "weights.npz")
    code, _ = call("--write-server", "pynq-z2", "--output", str(tmp_path / "board"))
    assert code == 0
    config = json.loads((tmp_path / "board" / "config.json").read_text())
    assert config["description"]["digest"] == small.digest
    assert config["description"]["stage"] == "measured"


def test_words_that_do_not_fit_are_refused_before_the_device_sees_them(small):
    with (
        open_device("torch:", DeviceContext(network=small)) as device,
        pytest.raises(DesignError, match="shape"),
    ):
        device.run(np.zeros((2, 1), dtype=np.int64))


def test_a_device_that_is_not_loaded_says_so(library):
    device = open_device(f"emulator:{library}")
    with pytest.raises(DeviceFault, match="load the device first"):
        device.describe()
    device.close()


def test_verilator_answers_with_its_version(tmp_path, monkeypatch):
    from codesign.tools import run_tool
    from codesign.validate.verilator import verilator_version

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    try:
        require_tool("perl")
        environment = verilator_environment()
    except ToolError as error:
        pytest.skip(str(error))
    answer = run_tool(
        ["verilator", "--version"], folder=tmp_path, timeout_s=30, environment=environment
    )
    assert answer.output.startswith(f"Verilator {verilator_version()}")
