"""Every deployed layer exports exactly, in every form; a new layer is tested the moment its file exists."""

from dataclasses import replace

import numpy as np
import pytest

from codesign.errors import ExportError
from codesign.export.emulator import emulator_files
from codesign.export.hls4ml import export_hls4ml
from codesign.export.onnx import export_onnx, export_qonnx, run_onnx, run_qonnx
from codesign.export.rtl import export_rtl, run_trace, trace_network
from codesign.layers import LAYERS, run_torch, run_words
from codesign.layers.base import Layer
from codesign.validate.vectors import corner_words, random_words
from tests.contracts.test_layers import DEPLOYED, cases, network_with, quantized

CASES = cases(DEPLOYED, ranks=(1, 2))


def network_of(layer, parameters, rank=1):
    """A network whose outputs depend on its inputs, with its test words."""
    for seed in range(20):
        network = quantized(network_with(layer, parameters, rank), seed)
        words = np.concatenate([random_words(network, 500, seed), corner_words(network)])
        outputs = run_words(network, words)
        if (outputs != outputs[0]).any():
            return network, words, outputs
    raise AssertionError("20 constant networks in a row")


@pytest.mark.parametrize(("layer", "parameters", "rank"), CASES)
def test_every_form_without_a_compiler_equals_the_reference(layer, parameters, rank):
    network, words, expected = network_of(layer, parameters, rank)
    assert np.array_equal(run_torch(network, words), expected)
    assert np.array_equal(run_onnx(export_onnx(network), network, words), expected)
    assert np.array_equal(run_qonnx(export_qonnx(network), network, words), expected)
    logic = trace_network(network)
    assert np.array_equal(run_trace(logic, network, words), expected)
    for flavor in ("verilog", "vhdl"):
        assert export_rtl(network, flavor=flavor, logic=logic).plan.files
    assert emulator_files(network, name="contract", version=1)


@pytest.mark.parametrize(("layer", "parameters", "rank"), CASES)
def test_hls4ml_takes_the_layer_exactly_as_given(layer, parameters, rank):
    network, _, _ = network_of(layer, parameters, rank)
    project = export_hls4ml(network)  # raises when hls4ml changed a type, strategy or reuse factor
    names = {node.name for node in network.network.nodes if node.layer not in ("input", "flatten")}
    assert names <= set(project.layers)


def test_a_layer_that_forgets_an_export_cannot_be_created():
    for method in ("to_onnx", "to_hls4ml", "to_rtl"):
        assert method in Layer.__abstractmethods__
        assert all(method not in type(layer).__abstractmethods__ for layer in LAYERS)


def test_names_that_two_hls4ml_layers_would_share_are_refused():
    tanh = LAYERS.get("tanh")
    network, _, _ = network_of(tanh, tanh.examples()[0])
    nodes = tuple(
        replace(
            node,
            name="probe_index" if node.name == "relu_1" else node.name,
            inputs=tuple("probe_index" if name == "relu_1" else name for name in node.inputs),
        )
        for node in network.network.nodes
    )
    renamed = replace(
        network,
        network=replace(network.network, nodes=nodes),
        result={"probe_index" if k == "relu_1" else k: v for k, v in network.result.items()},
    )
    with pytest.raises(ExportError, match="'probe_index'; rename"):
        export_hls4ml(renamed)
