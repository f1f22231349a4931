"""The certificate says what is equal, names what is not, and notices every later change."""

import json
import re

import numpy as np
import onnx
import pytest

from codesign.errors import ExportError, MismatchError, StudyError
from codesign.export.bundle import export_candidate, load_export
from codesign.export.plan import ProjectPlan
from codesign.layers import run_words, typed
from codesign.validate.audit import audit_inputs, audit_layers
from codesign.validate.certificate import certify, read_certificate, recheck
from codesign.validate.exported import first_differing_layer, prefix_network
from codesign.validate.vectors import corner_words
from tests.export.random_networks import random_network, random_words, reference


def exported(folder, seed=4, **options):
    network = random_network(seed, n_blocks=2, max_width=6, max_bits=6)
    words = random_words(network, 200)
    return export_candidate(
        network, folder, scaling={"method": "none"}, vectors=words, study="t", **options
    ), words


def test_exports_are_deterministic_and_load_back(tmp_path):
    first, words = exported(tmp_path / "a")
    second, _ = exported(tmp_path / "b")
    assert first.plan.digest == second.plan.digest
    again = load_export(tmp_path / "a")
    assert again.network.digest == first.network.digest
    assert again.plan.digest == first.plan.digest
    assert again.onnx == first.onnx and again.qonnx == first.qonnx
    assert {k: vars(v) for k, v in again.rtl.items()} == {k: vars(v) for k, v in first.rtl.items()}
    with np.load(tmp_path / "a/golden/vectors.npz", allow_pickle=False) as archive:
        assert np.array_equal(archive["output_words"], reference(first.network, words))


def test_a_back_end_out_of_reach_is_left_out_with_its_reason(tmp_path):
    result, _ = exported(tmp_path / "a", backends=("vitis", "quartus"))
    assert set(result.projects) == {"vitis"} and "intel" in result.skipped["hls4ml_quartus"]
    with pytest.raises(ExportError, match="no hls4ml project could be made"):
        exported(tmp_path / "b", backends=("quartus",))


def test_missing_tools_are_recorded_as_not_run_never_as_passed(tmp_path, no_tools):
    result, words = exported(tmp_path / "a")
    certificate = certify(result, test_words=words, n_random=100)
    status = {c.name: c for c in certificate.comparisons}
    assert {n for n, c in status.items() if c.status == "equal"} == {
        "torch", "onnxruntime", "qonnx", "alkaid",
    }  # fmt: skip
    for name in ("hls4ml_vitis", "emulator", "rtl", "rtl_vhdl"):
        assert status[name].status == "not run" and status[name].mismatches is None
        assert "CODESIGN_" in status[name].note and not status[name].vectors
        assert name in certificate.verdict.split("not run:")[1]
    assert certificate.latency_cycles is None
    stored = json.loads((tmp_path / "a/certificate.json").read_text())
    assert stored["verdict"] == certificate.verdict
    assert stored["comparisons"][0]["vectors"]["test"] == len(words)
    page = (tmp_path / "a/certificate.html").read_text()
    assert "not run" in page and "http" not in page.replace("http-equiv", "")


def test_forms_that_were_left_for_later_are_proved_by_the_recheck(tmp_path, no_tools):
    result, words = exported(tmp_path / "a", backends=(), with_rtl=False)
    certificate = certify(result, test_words=words, n_random=50, later=("qonnx",))
    status = {c.name: c.status for c in certificate.comparisons}
    assert status["qonnx"] == "later" and status["onnxruntime"] == "equal"
    assert certificate.verdict.endswith("left for codesign validate: qonnx")
    entry = recheck(tmp_path / "a")["a"]
    assert "qonnx" in entry["verdict"].partition(";")[0] and "left" not in entry["verdict"]
    finished = {c.name: c for c in read_certificate(tmp_path / "a").comparisons}
    assert finished["qonnx"].status == "equal" and finished["qonnx"].vectors["test"] == len(words)
    with pytest.raises(StudyError, match="no form 'rtll'; choose from torch"):
        certify(result, test_words=words, later=("rtll",))


def test_the_traced_logic_is_kept_not_traced_again(tmp_path, monkeypatch):
    result, _ = exported(tmp_path / "a", seed=2, backends=())
    monkeypatch.setattr("codesign.export.bundle.trace_network", None)
    assert load_export(tmp_path / "a").read_logic() == result.read_logic()
    (tmp_path / "a/rtl/logic.json.gz").write_bytes(b"no logic")
    with pytest.raises(ExportError, match="logic.json.gz cannot be read"):
        load_export(tmp_path / "a").read_logic()


def test_recheck_fails_on_any_change(tmp_path, no_tools):
    result, words = exported(tmp_path / "a", backends=(), with_rtl=False)
    certify(result, test_words=words, n_random=50)
    folder = tmp_path / "a"
    assert recheck(folder)["a"]["n_vectors"] == len(words)

    def broken_by(change, match, error=StudyError):
        kept = ProjectPlan.read(folder)
        change()
        with pytest.raises(error, match=match):
            recheck(folder)
        kept.write(folder)
        recheck(folder)

    readme = folder / "README.md"
    broken_by(lambda: readme.write_text("x"), "README.md changed")
    broken_by(readme.unlink, "README.md removed")
    broken_by(lambda: (folder / "extra.txt").write_text("x"), "extra.txt added")
    broken_by(lambda: readme.chmod(0o755), "modes changed")
    (folder / "emulator" / "libcodesign_nn_v1.so").write_bytes(b"")  # building is no change
    recheck(folder)
    certificate = folder / "certificate.json"
    text = certificate.read_text().replace('"mismatches": null', '"mismatches": 0')
    broken_by(lambda: certificate.write_text(text), "changed after it was written")
    broken_by(certificate.unlink, "cannot be read")


def test_recheck_of_a_folder_without_exports_says_so(tmp_path):
    with pytest.raises(StudyError, match="no export with a certificate"):
        recheck(tmp_path)


def _corrupt_onnx(path, tensor):
    model = onnx.ModelProto.FromString(path.read_bytes())
    for constant in model.graph.initializer:
        if constant.name == tensor:
            values = onnx.numpy_helper.to_array(constant).copy()
            values.reshape(-1)[:] = np.where(values.reshape(-1) > 0, 0, 1)
            constant.CopyFrom(onnx.numpy_helper.from_array(values, tensor))
            break
    else:
        raise AssertionError(f"{tensor} not found")
    path.write_bytes(model.SerializeToString())


def test_a_wrong_weight_in_the_onnx_file_is_a_mismatch_with_place_and_words(tmp_path, no_tools):
    result, words = exported(tmp_path / "a", backends=(), with_rtl=False)
    name = list(result.network.constants)[-1]
    _corrupt_onnx(tmp_path / "a/onnx/model.onnx", f"{name}_weight")
    with pytest.raises(MismatchError) as caught:
        certify(result, test_words=words)
    message = str(caught.value)
    found = re.search(r"vector (\d+), output (\d+), expected word (-?\d+), got (-?\d+)", message)
    assert found is not None and message.startswith("onnxruntime differs")
    vector, output, expected, got = map(int, found.groups())
    assert reference(result.network, words)[vector, output] == expected != got
    assert "files on disk are not what the exporter writes" in message
    assert not (tmp_path / "a/certificate.json").exists()


def test_the_first_differing_layer_is_found_by_cutting_the_network(tmp_path, monkeypatch):
    result, words = exported(tmp_path / "a", backends=(), with_rtl=False)
    network = result.network
    rounding = [n.name for n in network.network.nodes[1:] if n.name in network.result]
    import codesign.validate.forms as module

    broken_at = rounding[1]

    def broken(part, batch):
        traced = run_words(part, batch, trace=True)
        output = traced[part.network.nodes[-1].name]
        return output + 1 if broken_at in traced else output

    monkeypatch.setattr(module, "run_torch", broken)
    assert first_differing_layer("torch", result, words[:1]) == broken_at


def test_a_cut_network_computes_that_layer():
    network = random_network(11, n_blocks=3)
    words = random_words(network, 50)
    traced = run_words(network, words, trace=True)
    for node in network.network.nodes[1:]:
        if node.name in network.result:
            part = prefix_network(network, node.name)
            assert np.array_equal(reference(part, words), traced[node.name])


def test_corner_vectors_reach_the_ends_of_the_first_sums():
    network = random_network(4, n_blocks=1)
    words = corner_words(network)
    fmt = network.input_format
    assert words.min() == fmt.min_word and words.max() == fmt.max_word
    assert (words == 0).all(axis=1).any()
    assert len(np.unique(words, axis=0)) == len(words)
    first = next(iter(network.constants))
    known = typed(network)[first].output
    sums = run_words(network, words, trace=True)[first]
    assert np.array_equal(sums.min(axis=0), known.low)
    assert np.array_equal(sums.max(axis=0), known.high)


def test_input_audit_counts_events_outside_the_format():
    network = random_network(4)
    fmt = network.input_format
    width = int(network.network.nodes[0].parameters["width"])
    values = np.zeros((10, width))
    values[3, 1] = fmt.max_value + fmt.lsb
    values[5, 0] = fmt.min_value - fmt.lsb / 2
    values[7, 0] = fmt.max_value + fmt.lsb / 2  # rounds down into the format
    audit = audit_inputs(network, values, np.zeros((0, width), dtype=np.int64))
    assert audit["n_events_saturated"] == 2 and audit["n_values_saturated"] == 2
    assert [f["n_saturated"] for f in audit["features"]][:2] == [1, 1]


@pytest.mark.parametrize("seed", [0, 4, 9])
def test_layer_audit_counts_saturation_and_rounding(seed):
    network = random_network(seed, activations=("relu", "linear", "leaky_relu"))
    words = random_words(network, 400)
    rows = {row["node"]: row for row in audit_layers(network, words)}
    traced = run_words(network, words, trace=True)
    sites = typed(network)
    for node in network.network.nodes[1:]:
        row = rows[node.name]
        assert row["possible_min_word"] <= row["seen_min_word"]
        assert row["seen_max_word"] <= row["possible_max_word"]
        if node.layer != "linear":
            continue
        values = sites[node.inputs[0]].output.format.values_from_words(traced[node.inputs[0]])
        fmt = sites[node.name].output.format
        floored = np.floor(values / fmt.lsb)
        saturated = (floored < fmt.min_word) | (floored > fmt.max_word)
        rounded = (floored * fmt.lsb != values) & ~saturated
        assert row["saturated_fraction"] == pytest.approx(saturated.mean(), abs=1e-12)
        assert row["rounded_fraction"] == pytest.approx(rounded.mean(), abs=1e-12)


@pytest.mark.slow
def test_every_form_is_equal_and_the_latency_is_measured(tmp_path):
    result, words = exported(tmp_path / "a")
    certificate = certify(result, test_words=words, optimize=False)
    ran = {c.name: c for c in certificate.comparisons if c.status == "equal"}
    assert all(c.mismatches == 0 for c in ran.values())
    assert set(ran) - {"rtl_vhdl"} == {  # GHDL is often missing
        "torch", "onnxruntime", "qonnx", "hls4ml_vitis", "emulator", "alkaid", "rtl",
    }  # fmt: skip
    assert certificate.latency_cycles == certificate.reported_latency_cycles
    assert certificate.latency_cycles == result.rtl["verilog"].latency_cycles


@pytest.mark.slow
def test_a_flipped_bit_in_the_rtl_is_a_mismatch(tmp_path):
    result, words = exported(tmp_path / "a", backends=())
    path = tmp_path / "a/rtl/verilog/src/codesign_nn_v1.v"
    text = path.read_text()
    first = re.search(r"assign y\[(\d+):(\d+)\] = (core_y\[\d+:\d+\]);", text)
    path.write_text(text.replace(first.group(3), f"~{first.group(3)}", 1))
    with pytest.raises(MismatchError, match="^rtl differs .* files on disk"):
        certify(result, test_words=words, optimize=False)
