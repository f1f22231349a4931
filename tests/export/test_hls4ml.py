"""hls4ml projects are exactly the candidate, deterministic, and compute the reference's words."""

import re
from dataclasses import replace

import numpy as np
import pytest
import yaml

from codesign.errors import ExportError, ToolError
from codesign.export.backends import BACKENDS
from codesign.export.hls4ml import (
    build_c_simulation,
    export_hls4ml,
    hls4ml_type,
)
from codesign.layers import typed
from codesign.validate import forms
from tests.export.random_networks import PART, random_network, random_words, reference

PARTS = {
    "vitis": PART,
    "vivado": PART,
    "catapult": PART,
    "vivado_accelerator": "xc7z020clg400-1",
    "quartus": "Arria10",
    "oneapi": "Agilex7",
    "libero": "MPF300",
}
TABLE_FREE = ("relu", "leaky_relu", "linear")


def network_for(backend: str, seed: int = 7, **options):
    leaf = BACKENDS.get(backend)
    strategies = tuple(s for s in leaf.strategies if "unrolled" not in s)
    activations = ("relu", "leaky_relu", "tanh", "sigmoid") if leaf.has_own_tables else TABLE_FREE
    return random_network(
        seed, part=PARTS[backend], strategies=strategies, activations=activations, **options
    )


@pytest.mark.parametrize("backend", [n for n in BACKENDS.names() if n != "libero"])
def test_a_project_read_back_is_the_candidate_and_deterministic(backend):
    network = network_for(backend, n_blocks=1, max_width=5)
    project = export_hls4ml(network, backend=backend)
    assert project.plan.digest == export_hls4ml(network, backend=backend).plan.digest
    text = project.plan.files["hls4ml_config.yml"].decode()
    found = yaml.safe_load(re.sub(r"!\S+", "", text))  # without the tags of hls4ml's classes
    layers = found["HLSConfig"]["LayerName"]
    hardware = network.candidate.hardware
    assert found["Part"] == hardware.part
    assert float(found["ClockPeriod"]) == hardware.clock_period_ns
    assert found["IOType"] == hardware.io_type
    for node in network.network.nodes:
        if node.layer in ("input", "flatten"):
            continue
        result = typed(network)[node.name].output.format
        if node.name in network.result:
            assert layers[node.name]["Precision"]["result"] == hls4ml_type(result)
        if node.layer == "dense":
            layer = layers[node.name]
            assert layer["Strategy"] == hardware.strategy[node.name]
            assert layer["ReuseFactor"] == hardware.reuse_factor[node.name]
            weight = network.constants[node.name]["weight"].type.covering
            assert layer["Precision"]["weight"].startswith(
                f"fixed<{weight.bits},{weight.integer_bits},"
            )


def test_libero_says_what_it_misses():
    with pytest.raises(ExportError, match="Libero"):
        export_hls4ml(network_for("libero"), backend="libero")


def test_scripts_carry_part_clock_and_steps():
    network = network_for("vitis", clock_period_ns=2.5)
    files = export_hls4ml(network, name="my_net").plan.files
    script = files["codesign_hls.tcl"].decode()
    assert f"set_part {PART}" in script and "create_clock -period 2.5" in script
    assert "cosim_design" in script and "export_design" in script
    assert "create_clock -name ap_clk -period 2.5" in files["codesign.xdc"].decode()
    implement = files["codesign_implement.tcl"].decode()
    assert "out_of_context" in implement and "route_design" in implement
    assert {"codesign.mk", "firmware/my_net.cpp"} <= set(files)


def test_golden_vectors_become_the_testbench(tmp_path):
    network = network_for("vitis")
    words = random_words(network, 20)
    expected = reference(network, words)
    files = export_hls4ml(network, golden=(words, expected)).plan.files
    values = np.array(
        [
            [float(v) for v in line.split()]
            for line in files["tb_data/tb_input_features.dat"].splitlines()
        ]
    )
    assert np.array_equal(network.input_words(values), words)
    golden = [[int(v) for v in line.split()] for line in files["golden_words.txt"].splitlines()]
    assert np.array_equal(golden, expected)


@pytest.mark.parametrize("name", ["Net", "net;rm", "1net", "net-1", "net\n", "", "n" * 50])
def test_names_that_reach_tools_are_checked(name):
    with pytest.raises(ExportError, match="cannot name a project"):
        export_hls4ml(random_network(1), name=name)


def test_parts_that_reach_tools_are_checked():
    network = random_network(1, part="xcvu13p; exec rm")
    with pytest.raises(ExportError, match="no device part"):
        export_hls4ml(network)


def test_what_a_back_end_cannot_express_is_refused():
    with pytest.raises(ExportError, match="takes parts of intel"):
        export_hls4ml(network_for("vitis"), backend="quartus")
    with pytest.raises(ExportError, match="has no strategy 'latency'"):
        export_hls4ml(random_network(1, part="Arria10", strategies=("latency",)), backend="quartus")
    tanh = random_network(
        1, part="Arria10", strategies=("resource",), activations=("tanh",), n_blocks=1
    )
    with pytest.raises(ExportError, match="computes its own table of tanh"):
        export_hls4ml(tanh, backend="quartus")
    with pytest.raises(ExportError, match="no board"):
        export_hls4ml(random_network(1, strategies=("latency",)), backend="vivado_accelerator")


def test_a_reuse_factor_that_hls4ml_would_round_is_refused():
    network = random_network(4, strategies=("resource",), activations=("relu",), n_blocks=1)
    name = next(iter(network.constants))
    n_weights = network.constants[name]["weight"].values.size
    illegal = next(r for r in range(2, n_weights + 2) if n_weights % r)
    hardware = replace(
        network.candidate.hardware,
        reuse_factor={**network.candidate.hardware.reuse_factor, name: illegal},
    )
    changed = replace(network, candidate=replace(network.candidate, hardware=hardware))
    with pytest.raises(ExportError, match=f"{name}: hls4ml turned reuse factor {illegal} into"):
        export_hls4ml(changed)


def test_without_a_compiler_the_rest_still_works(monkeypatch, tmp_path):
    network = random_network(1)
    project = export_hls4ml(network)
    monkeypatch.setenv("CODESIGN_GXX", "/nonexistent/g++")
    with pytest.raises(ToolError, match="CODESIGN_GXX"):
        build_c_simulation(project, network, tmp_path / "c")


@pytest.mark.slow
@pytest.mark.parametrize(
    "backend", [n for n in BACKENDS.names() if BACKENDS.get(n).has_c_simulation]
)
def test_c_simulation_equals_the_reference(backend, tmp_path):
    network = network_for(backend, n_blocks=2, max_width=8)
    words = random_words(network, 500)
    simulation = build_c_simulation(
        export_hls4ml(network, backend=backend), network, tmp_path / "c", optimize=False
    )
    assert np.array_equal(simulation.run(words), reference(network, words))


@pytest.mark.slow
def test_hls4ml_reading_our_qonnx_agrees(tmp_path):
    """An oracle that shares nothing with our layer list: hls4ml infers all types from the QONNX file."""
    import contextlib
    import io
    import warnings

    import onnx
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.transformation.infer_shapes import InferShapes
    from qonnx.util.cleanup import cleanup_model

    from codesign.export.onnx import export_qonnx

    network = random_network(
        13, activations=("relu",), strategies=("latency",), n_blocks=2, max_width=8, max_bits=6
    )
    words = random_words(network, 500)
    model = ModelWrapper(onnx.ModelProto.FromString(export_qonnx(network).content))
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # hls4ml and qonnx warn about their own internals
        import hls4ml

        model = cleanup_model(model).transform(InferShapes())
        config = hls4ml.utils.config_from_onnx_model(
            model, granularity="name", backend="Vitis", default_precision="fixed<32,16>"
        )
        converted = hls4ml.converters.convert_from_onnx_model(
            model, hls_config=config, backend="Vitis", output_dir=str(tmp_path / "q"), part=PART
        )
        converted.compile()
        values = np.ascontiguousarray(network.input_format.values_from_words(words))
        output = converted.predict(values)
    fmt = network.output_format
    got = np.rint(np.ldexp(np.asarray(output).reshape(len(words), -1), fmt.fraction_bits))
    assert np.array_equal(got.astype(np.int64), reference(network, words))


@pytest.mark.parametrize(("patience_s", "expected"), [(-1.0, [False, True]), (1e9, [False])])
def test_c_that_would_take_long_is_compiled_again(patience_s, expected, tmp_path, monkeypatch):
    network, built = random_network(8), []

    class Fake:
        def run(self, words):
            return words * len(built)

    def build(project, network, folder, *, optimize):
        built.append(optimize)
        return Fake()

    monkeypatch.setattr(forms, "build_c_simulation", build)
    monkeypatch.setattr(forms, "_PATIENCE_S", patience_s)
    form = forms.c_simulation_form(export_hls4ml(network), network, tmp_path, optimize=False)
    words = random_words(network, 100)
    for _ in range(2):
        assert np.array_equal(form.run(words), words * len(expected))
    assert built == expected
