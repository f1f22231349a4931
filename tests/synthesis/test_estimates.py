"""Estimates of one network from every form it comes in agree, and say what they rest on."""

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from codesign.cli import build_app
from codesign.errors import CalibrationError, ConfigError, DesignError, ReportError
from codesign.export.read_onnx import onnx_layers
from codesign.synthesis import estimates
from codesign.synthesis.networks import network_record
from codesign.synthesis.onnx_config import onnx_record
from hw_models.records import LayerRecord, StageReport, record_json
from hw_models.types import METRICS
from tests.synthesis.report_factory import write_project, write_reports

_HELPER = Path(__file__).resolve().parents[1] / "export" / "random_networks.py"
_spec = importlib.util.spec_from_file_location("random_networks", _HELPER)
assert _spec is not None and _spec.loader is not None
random_networks = importlib.util.module_from_spec(_spec)
sys.modules.setdefault("random_networks", random_networks)
_spec.loader.exec_module(random_networks)

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"


@pytest.fixture(autouse=True)
def _no_user_coefficients(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def _dense_facts(layers):
    keys = (
        "in_shape",
        "out_shape",
        "n_weights",
        "n_zeros",
        "csd_digits",
        "n_multipliers",
        "weight_precision",
    )
    return [{key: getattr(layer, key) for key in keys} for layer in layers if layer.type == "Dense"]


def test_qonnx_file_and_candidate_give_the_same_constants(tmp_path):
    from codesign.export.onnx import export_qonnx

    for index in range(4):
        network = random_networks.random_network(index, activations=("relu", "linear"))
        path = tmp_path / f"{index}.onnx"
        path.write_bytes(export_qonnx(network, study="", scaling={}).content)
        from_file = _dense_facts(onnx_record(path, None).layers)
        from_candidate = _dense_facts(network_record(network, solve_graphs=False).layers)
        for ours, theirs in zip(from_file, from_candidate, strict=True):
            for key in ("in_shape", "out_shape", "n_weights", "n_zeros", "csd_digits"):
                assert ours[key] == theirs[key]


@pytest.mark.slow
def test_hls4ml_project_and_candidate_give_the_same_constants(tmp_path):
    from codesign.export.hls4ml import export_hls4ml

    network = random_networks.random_network(4, strategies=("latency",))
    project = export_hls4ml(network)
    project.plan.write(tmp_path / "p")
    from_project = _dense_facts(estimates.project_record(tmp_path / "p").layers)
    from_candidate = _dense_facts(network_record(network).layers)
    for ours, theirs in zip(from_project, from_candidate, strict=True):
        for key in ("in_shape", "out_shape", "n_weights", "n_zeros", "csd_digits"):
            assert ours[key] == theirs[key]


def test_layer_shares_add_up_to_the_whole(tmp_path):
    record = estimates.project_record(write_project(tmp_path / "p"))
    item = estimates.estimate_design(record)
    assert item.summary["supported"]
    assert [share.name for share in item.layers] == ["dense", "dense_relu"]
    for metric in ("dsp", "bram_18k"):
        assert (
            round(sum(share.metrics[metric] for share in item.layers))
            == item.summary[metric]["value"]
        )
    for metric in METRICS:
        known = item.summary[metric]
        assert 0 <= known["low"] <= known["value"] <= known["high"]
    estimates.estimate_tables(item)
    json.dumps(estimates.estimate_json([item]))


def test_unknown_layers_are_refused_by_name(tmp_path):
    record = estimates.project_record(write_project(tmp_path / "p"))
    odd = LayerRecord(name="odd", type="Fourier", in_shape=(2,), out_shape=(2,))
    record = replace(record, layers=(*record.layers, odd))
    item = estimates.estimate_design(record)
    assert not item.summary["supported"]
    assert "Fourier" in " ".join(item.summary["notes"])


def test_onnx_that_is_none_and_operators_without_law_are_refused(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    path = tmp_path / "x.onnx"
    path.write_bytes(b"garbage")
    with pytest.raises(DesignError, match="not a readable ONNX file"):
        onnx_layers(path)
    graph = helper.make_graph(
        [helper.make_node("Einsum", ["x", "x"], ["y"], equation="ij,ij->ij")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
    )
    onnx.save(helper.make_model(graph, ir_version=10), str(path))
    with pytest.raises(DesignError, match="Einsum"):
        onnx_layers(path)


def test_convolutions_and_pools_of_an_onnx_file(tmp_path):
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    kernel = np.ones((4, 2, 3, 3), dtype=np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv", kernel_shape=[3, 3]),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("MaxPool", ["r"], ["p"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["p"], ["f"], name="flat"),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 8, 8])],
        [helper.make_tensor_value_info("f", TensorProto.FLOAT, [1, 36])], [numpy_helper.from_array(kernel, "w")],
    )  # fmt: skip
    path = tmp_path / "cnn.onnx"
    onnx.save(helper.make_model(graph, ir_version=10), str(path))
    config = tmp_path / "c.yaml"
    config.write_text(
        "io_type: io_stream\nreuse_factor: 1\npart: xc7z020clg400-1\nlayers:\n  conv: {strategy: resource, reuse_factor: 9}\n"
    )
    record = onnx_record(path, config)
    conv, relu, pool = record.layers
    assert (conv.in_shape, conv.out_shape, conv.kernel) == ((8, 8, 2), (6, 6, 4), (3, 3))
    assert (conv.strategy, conv.reuse_factor) == ("resource", 9)
    assert relu.in_shape == (6, 6, 4)
    assert (pool.type, pool.out_shape) == ("Pooling2D", (3, 3, 4))
    config.write_text("reuse: 1\n")
    with pytest.raises(ConfigError, match="reuse"):
        onnx_record(path, config)


def test_records_file_keeps_order_and_answers_every_line(tmp_path):
    record = record_json(estimates.project_record(write_project(tmp_path / "p")))
    lines = [
        record | {"id": "a"},
        record | {"id": "b", "layers": []},
        record | {"id": "c", "clock_period_ns": 2.5},
        record | {"id": "d", "clock_period_ns": "fast"},
    ]
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert estimates.estimate_file(source, target, stage="csynth") == (4, 2)
    results = [json.loads(line) for line in target.read_text().splitlines()]
    assert [result["id"] for result in results] == ["a", "b", "c", "d"]
    assert [result["supported"] for result in results] == [True, False, True, False]
    assert "clock_period_ns is 'fast', expected a finite number" in results[3]["notes"][0]
    assert set(results[0]) == {
        *("id", "supported", "stage", "utilization", "over", "notes"),
        *METRICS,
    }
    with pytest.raises(ReportError, match="not JSON"):
        source.write_text("{")
        estimates.estimate_file(source, target, stage="csynth")
    with pytest.raises(ConfigError, match="did you mean 'vsynth'"):
        estimates.estimate_file(source, target, stage="vsyn")


def test_stage_fields_are_no_inputs(tmp_path):
    record = estimates.project_record(write_project(tmp_path / "p"))
    reported = replace(record, reports={"csynth": StageReport(lut=10**6, ff=1, dsp=9999)})
    assert estimates.estimate_design(record).summary == estimates.estimate_design(reported).summary


def test_missing_coefficients_are_named(tmp_path):
    with pytest.raises(CalibrationError, match="no such coefficients"):
        estimates.open_coefficients(tmp_path / "none.json")


def test_the_verb_prints_json_for_a_project(tmp_path):
    folder = write_project(tmp_path / "p")
    result = CliRunner().invoke(build_app(), ["estimate", str(folder), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["layers"][0]["name"] == "dense"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared synthesis records are absent")
def test_shared_records_are_answered_one_by_one(tmp_path):
    n_records, n_supported = estimates.estimate_file(
        SHARED / "hls4ml_synthesis_records.jsonl", tmp_path / "out.jsonl", stage="csynth"
    )
    assert n_records == 1197
    assert n_supported > 1000


def test_reports_of_a_project_tell_its_tool_and_version(tmp_path):
    folder = write_project(tmp_path / "p")
    assert estimates.project_record(folder).tool_version is None
    solution = folder / "myproject_prj" / "solution1"
    write_reports(solution, version="2022.2")
    record = estimates.project_record(folder)
    assert (record.tool, record.tool_version) == ("Vitis HLS", "2022.2")
    for name in ("project.tcl", "hls4ml_config.yml"):
        (folder / name).unlink()
    assert estimates.project_record(folder).part == "xcvu13p-flga2577-2-e"
    write_reports(folder / "myproject_prj" / "solution2", version="2023.2")
    assert estimates.project_record(folder).tool_version is None  # they do not agree
