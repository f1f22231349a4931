"""Networks at the edge of what is legal are exact in every form, or refused with the node's name."""

import numpy as np
import pytest

from codesign.errors import DesignError, ExportError
from codesign.export.emulator import emulator_files
from codesign.export.hls4ml import export_hls4ml
from codesign.export.onnx import export_onnx, export_qonnx, run_qonnx
from codesign.export.rtl import run_trace, trace_network
from codesign.ir import (
    Candidate,
    FixedPoint,
    HardwareConfig,
    Network,
    Node,
    QuantizedNetwork,
    TensorType,
    Words,
)
from codesign.layers import run_torch, run_words, typed
from codesign.validate.forms import onnx_form

PART = "xcvu13p-flga2577-2-e"


def chain(source: FixedPoint, n_inputs: int, *layers) -> QuantizedNetwork:
    """A chain of layers: ("dense", units, weight format) with random words, or (activation, format)."""
    rng = np.random.default_rng(0)
    nodes = [Node(name="in", layer="input", inputs=(), parameters={"width": n_inputs})]
    result, constants = {"in": TensorType.of(source, (n_inputs,))}, {}
    width = n_inputs
    for i, (layer, *rest) in enumerate(layers):
        name = f"{layer}_{i}"
        nodes.append(Node(name=name, layer=layer, inputs=(nodes[-1].name,), parameters={}))
        if layer == "dense":
            units, fmt = rest
            weights = rng.integers(fmt.min_word, fmt.max_word + 1, (width, units))
            biases = rng.integers(fmt.min_word, fmt.max_word + 1, units)
            constants[name] = {"weight": Words.of(weights, fmt), "bias": Words.of(biases, fmt)}
            width = units
        else:
            result[name] = TensorType.of(rest[0], (width,))
    dense = list(constants)
    network = Network(nodes=tuple(nodes))
    hardware = HardwareConfig(
        part=PART,
        clock_period_ns=5.0,
        flow="hls",
        io_type="io_parallel",
        strategy=dict.fromkeys(dense, "latency"),
        reuse_factor=dict.fromkeys(dense, 1),
    )
    return QuantizedNetwork(
        candidate=Candidate(network=network, hardware=hardware),
        network=network,
        result=result,
        constants=constants,
    )


def fixed(bits: int, integer_bits: int, signed: bool = True) -> FixedPoint:
    return FixedPoint(bits=bits, integer_bits=integer_bits, signed=signed)


CASES = {
    "one input and one output": chain(
        fixed(6, 2), 1, ("dense", 1, fixed(6, 1)), ("linear", fixed(9, 3))
    ),
    "signed words of one bit": chain(
        fixed(1, 1), 3, ("dense", 3, fixed(6, 1)), ("linear", fixed(1, 2))
    ),
    "negative integer bits": chain(
        fixed(4, 8),
        3,
        ("dense", 3, fixed(6, -5)),
        ("relu", fixed(3, -1, signed=False)),
        ("dense", 2, fixed(6, 12)),
        ("linear", fixed(9, 9)),
    ),
    "dense layers without rounding between": chain(
        fixed(8, 4),
        4,
        ("dense", 4, fixed(8, 1)),
        ("dense", 4, fixed(8, 1)),
        ("linear", fixed(16, 4)),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_edges_are_exact_in_every_form(name):
    network = CASES[name]
    words = network.input_type.draw(np.random.default_rng(0), 300).reshape(300, -1)
    expected = run_words(network, words)
    assert (expected != expected[0]).any()
    assert np.array_equal(run_torch(network, words), expected)
    assert np.array_equal(
        onnx_form(export_onnx(network).content, "the export").run(words), expected
    )
    assert np.array_equal(run_qonnx(export_qonnx(network), network, words), expected)
    assert np.array_equal(run_trace(trace_network(network), network, words), expected)
    assert export_hls4ml(network).plan.files and emulator_files(network, name="edges", version=1)


def test_sums_beyond_62_bits_name_their_node():
    wide = fixed(16, 4)
    layers = [("dense", 4, wide)] * 4
    with pytest.raises(DesignError, match="dense_2: its sums need 65 bits, words hold 62"):
        typed(chain(wide, 4, *layers, ("linear", wide)))


def test_a_network_of_zeros_is_exact_and_has_no_logic():
    network = CASES["one input and one output"]
    zeros = {
        name: {
            role: Words(values=np.zeros_like(w.values), type=w.type) for role, w in roles.items()
        }
        for name, roles in network.constants.items()
    }
    network = QuantizedNetwork(
        candidate=network.candidate,
        network=network.network,
        result=network.result,
        constants=zeros,
    )
    words = network.input_type.draw(np.random.default_rng(0), 50).reshape(50, -1)
    assert not run_words(network, words).any() and not run_torch(network, words).any()
    assert not onnx_form(export_onnx(network).content, "the export").run(words).any()
    with pytest.raises(ExportError, match="depend on no input"):
        trace_network(network)


def test_shapes_that_do_not_fit_name_their_node():
    network = CASES["one input and one output"]
    last = network.network.nodes[-1].name
    wrong = {**network.result, last: TensorType.of(fixed(9, 3), (2,))}
    with pytest.raises(DesignError, match=r"linear_1: its type has shape \(2,\), it reads \(1,\)"):
        typed(
            QuantizedNetwork(
                candidate=network.candidate,
                network=network.network,
                result=wrong,
                constants=network.constants,
            )
        )


def test_adders_of_very_wide_sums_are_ordered():
    network = chain(fixed(24, 4), 4, ("dense", 3, fixed(24, 1)), ("linear", fixed(24, 4)))
    words = network.input_type.draw(np.random.default_rng(0), 50).reshape(50, -1)
    got = run_trace(trace_network(network), network, words)
    assert np.array_equal(got, run_words(network, words))
