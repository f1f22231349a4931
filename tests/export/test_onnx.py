"""ONNX in both flavours computes the reference's words, bit for bit, and says what it is."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest

from codesign.errors import ExportError
from codesign.export.onnx import (
    IR_VERSIONS,
    OPSET,
    checked_words,
    export_onnx,
    export_qonnx,
    run_qonnx,
    words_needed_bits,
)
from codesign.ir import FixedPoint, Words
from codesign.layers import run_torch
from codesign.validate.forms import onnx_form
from tests.export.random_networks import random_network, random_words, reference

N_VECTORS = 1000


@pytest.mark.parametrize("seed", range(10))
def test_torch_onnx_and_qonnx_equal_the_reference(seed):
    network = random_network(seed)
    words = random_words(network, N_VECTORS, seed)
    expected = reference(network, words)
    assert np.array_equal(run_torch(network, words), expected)
    assert np.array_equal(
        onnx_form(export_onnx(network).content, "the export").run(words), expected
    )
    assert np.array_equal(run_qonnx(export_qonnx(network), network, words), expected)


def wide_network():
    """The first random network whose sums need more than float32's 24 bits."""
    networks = (random_network(seed, max_bits=14, max_width=8, n_blocks=2) for seed in range(20))
    return next(network for network in networks if words_needed_bits(network)[0] > 24)


def test_wide_words_are_exact_in_float64():
    network = wide_network()
    words = random_words(network, N_VECTORS)
    expected = reference(network, words)
    plain, export = export_onnx(network), export_qonnx(network)
    assert plain.arithmetic == export.arithmetic == "float64"
    assert np.array_equal(onnx_form(plain.content, "the export").run(words), expected)
    assert np.array_equal(run_qonnx(export, network, words), expected)


def test_words_that_no_float_holds_are_refused():
    network = wide_network()
    name = next(iter(network.constants))
    fmt = FixedPoint(bits=60, integer_bits=10)
    constants = network.constants[name]
    biases = Words.of(np.full_like(constants["bias"].values, fmt.max_word), fmt)
    too_wide = replace(
        network, constants={**network.constants, name: {**constants, "bias": biases}}
    )
    with pytest.raises(ExportError, match="float64.* holds 53"):
        export_onnx(too_wide)


def test_rounding_over_16_bits_goes_without_a_pair_and_is_named():
    network = random_network(5, n_blocks=1, max_bits=6)
    last = network.network.nodes[-1].name
    result = replace(
        network.result[last], bits=20, integer_bits=network.result[last].integer_bits + 4
    )
    wide = replace(network, result={**network.result, last: result})
    export = export_onnx(wide)
    assert export.without_pair == (last,)
    words = random_words(wide, 200)
    assert np.array_equal(
        onnx_form(export.content, "the export").run(words), reference(wide, words)
    )


def test_inputs_off_the_grid_are_rounded_down_and_saturated():
    import onnxruntime

    network = random_network(1)
    fmt = network.input_format
    rng = np.random.default_rng(0)
    width = int(network.network.nodes[0].parameters["width"])
    values = (rng.normal(size=(500, width)) * fmt.max_value * 1.5).astype(np.float32)
    session = onnxruntime.InferenceSession(
        export_onnx(network).content, providers=["CPUExecutionProvider"]
    )
    (output,) = session.run(["output"], {"input": values})
    words = fmt.words_from_values(values.astype(np.float64))
    assert np.array_equal(
        checked_words(output, network.output_format, "test"), reference(network, words)
    )


@pytest.mark.parametrize("seed", range(4))
def test_an_older_operator_set_holds_the_same_words(seed):
    """What ONNX Runtime 1.17 reads: operator set 20 and IR 9 at most, no 16-bit words in pairs."""
    network = random_network(seed)
    found = export_onnx(network, opset=19)
    model = onnx.ModelProto.FromString(found.content)
    assert model.ir_version == 9 and model.opset_import[0].version == 19
    held = {t.data_type for t in model.graph.initializer}
    assert not held & {onnx.TensorProto.INT16, onnx.TensorProto.UINT16}
    words = random_words(network, 300)
    expected = reference(network, words)
    assert np.array_equal(onnx_form(found.content, "the export").run(words), expected)
    assert np.array_equal(run_qonnx(export_qonnx(network, opset=19), network, words), expected)


@pytest.mark.parametrize("export", [export_onnx, export_qonnx])
def test_versions_shapes_and_metadata(export):
    network = random_network(7)
    found = export(network, study="a study", scaling={"mean": [1.5]})
    model = onnx.ModelProto.FromString(found.content)
    assert model.ir_version == IR_VERSIONS[OPSET]
    assert {o.domain: o.version for o in model.opset_import}[""] == OPSET
    metadata = {p.key: p.value for p in model.metadata_props}
    assert metadata["codesign_study"] == "a study"
    assert metadata["codesign_network_digest"] == network.digest
    assert metadata["codesign_candidate_digest"] == network.candidate.digest
    assert json.loads(metadata["codesign_input_scaling"]) == {"mean": [1.5]}
    precision = json.loads(metadata["codesign_precision"])
    assert set(precision) == {node.name for node in network.network.nodes}
    known = {v.name for v in (*model.graph.value_info, *model.graph.output)}
    assert {o for node in model.graph.node for o in node.output} <= known
    if export is export_onnx:
        onnx.checker.check_model(model, full_check=True)
        kinds = {node.op_type for node in model.graph.node}
        assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
        assert all(node.domain == "" for node in model.graph.node)


@pytest.mark.parametrize("export", [export_onnx, export_qonnx])
def test_equal_networks_give_equal_bytes(export):
    assert export(random_network(2)).content == export(random_network(2)).content


def test_values_off_the_output_grid_are_an_error():
    fmt = FixedPoint(bits=8, integer_bits=4)
    assert checked_words(np.array([0.5]), fmt, "x").tolist() == [8]
    for bad in (0.51, np.nan, np.inf):
        with pytest.raises(ExportError, match="off the grid"):
            checked_words(np.array([bad]), fmt, "x")
