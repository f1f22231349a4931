"""Networks that run in triggers, rebuilt by hand with random weights: every form equals the reference, bit for bit."""

import numpy as np
import pytest

from codesign.export.hls4ml import export_hls4ml
from codesign.export.onnx import export_onnx, export_qonnx
from codesign.export.rtl import export_rtl, trace_network
from codesign.layers import run_torch, run_words
from codesign.validate.forms import adder_graph_form, onnx_form, qonnx_form, verilog_form
from codesign.validate.vectors import corner_words, random_words
from tests.export.published import PUBLISHED
from tests.export.test_all_forms import emulated_outputs


def vectors(network):
    return np.concatenate([random_words(network, 300, 0), corner_words(network, limit=100)])


@pytest.mark.parametrize("name", PUBLISHED)
def test_torch_and_onnx_equal_the_integers(name):
    network = PUBLISHED[name]().network(seed=1)
    words = vectors(network)
    expected = np.asarray(run_words(network, words))
    assert (expected != expected[0]).any(axis=0).all()  # every output says something
    assert np.array_equal(run_torch(network, words), expected)
    for form in (
        onnx_form(export_onnx(network).content, "the export"),
        qonnx_form(export_qonnx(network), network),
    ):
        assert np.array_equal(form.run(words), expected), form.description.kind


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_logic_equals_the_integers(name):
    network = PUBLISHED[name]().network(seed=1)
    words = vectors(network)
    expected = np.asarray(run_words(network, words))
    logic = trace_network(network)
    assert np.array_equal(adder_graph_form(logic, network).run(words), expected)
    exported = export_rtl(network, logic=logic)
    assert exported.interval_cycles == 1 and exported.adder_cost > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_emulator_equals_the_integers_and_hls4ml_takes_the_network(name, tmp_path):
    network = PUBLISHED[name]().network(seed=1)
    words = vectors(network)
    expected = np.asarray(run_words(network, words))
    assert np.array_equal(emulated_outputs(network, words, tmp_path), expected)
    export_hls4ml(network)  # raises where hls4ml changed a type, strategy or reuse factor


@pytest.mark.slow
@pytest.mark.parametrize("name", ["axol1tl_v5", "toollip_v3", "tgc"])
def test_verilog_equals_the_integers(name, tmp_path):
    network = PUBLISHED[name]().network(seed=1)
    words = vectors(network)
    form = verilog_form(export_rtl(network), tmp_path, optimize=False)
    assert np.array_equal(form.run(words), np.asarray(run_words(network, words)))
    form.close()
