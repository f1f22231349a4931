"""Random networks of every template on particles and images: all forms of this process equal the reference."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from codesign.export.emulator import emulator_files
from codesign.export.hls4ml import export_hls4ml
from codesign.export.onnx import export_onnx, export_qonnx
from codesign.export.rtl import trace_network
from codesign.ir import QuantizedNetwork
from codesign.layers import run_torch, run_words, typed
from codesign.resources import data_root
from codesign.space import candidates_from_population, load_space
from codesign.testing.layers import quantized, vectors
from codesign.training.schedule import folded_network
from codesign.validate.forms import adder_graph_form, onnx_form, qonnx_form

#: Space, and the shape of its inputs.
SPACES = [
    ("deepsets_l1", (4, 3)),
    ("interaction_l1", (4, 3)),
    ("mixer_l1", (4, 3)),
    ("attention_l1", (4, 3)),
    ("tables_l1", (6,)),
    ("conv_l1", (9, 3)),
    ("conv_l1", (4, 5, 1)),
    ("conv_windows_l1", (6, 7, 2)),
]


def networks(
    name: str, shape: tuple[int, ...], n: int, seed: int, folder: Path
) -> list[QuantizedNetwork]:
    """Return n random networks of a space cut down to few particles and widths, with random weights and formats."""
    value = yaml.safe_load((data_root("constraints") / "spaces" / f"{name}.yaml").read_text())
    for domain in value["domains"]:
        if domain == "particles" or domain.endswith("width"):
            value["domains"][domain] = [3, 4]
        elif domain == "attention_depth":
            value["domains"][domain] = [1]
    path = folder / "space.yaml"
    path.write_text(yaml.safe_dump(value))
    space = load_space(str(path), n_inputs=shape, n_outputs=3)
    population = space.decode(space.sample(n, np.random.default_rng(seed)))
    candidates = candidates_from_population(population, part="xcvu13p-flga2577-2-e")
    graphs = [folded_network(candidate.network) for candidate in candidates]
    found = [quantized(graph, seed + i) for i, graph in enumerate(graphs)]
    return [fitted(network) if is_constant(network) else network for network in found]


def is_constant(network: QuantizedNetwork) -> bool:
    outputs = np.asarray(run_words(network, vectors(network)))
    return bool((outputs == outputs[0]).all())


def fitted(network: QuantizedNetwork) -> QuantizedNetwork:
    """Give every rounding the integer bits that the values of a few events need: random ones silence deep networks."""
    words = network.input_type.draw(np.random.default_rng(0), 32).reshape(32, -1)
    for node in network.network.nodes:
        if node.inputs and node.name in network.result and node.layer != "softmax":
            (read,), known = node.inputs, network.result[node.name]
            traced = run_words(network, words, trace=True)
            assert isinstance(traced, dict)
            values = typed(network)[read].output.format.values_from_words(traced[read])
            top = np.ceil(np.log2(max(np.abs(values).max(), 2.0**-9)))
            fitting = replace(known, integer_bits=np.asarray(top + known.signed))
            network = replace(network, result={**network.result, node.name: fitting})
    return network


def check(network: QuantizedNetwork) -> bool:
    """Compare all forms without a compiler with the reference; say whether the outputs vary."""
    words = vectors(network)
    expected = np.asarray(run_words(network, words))
    assert np.array_equal(run_torch(network, words), expected)
    if (expected == expected[0]).all():
        return False
    for form in (
        onnx_form(export_onnx(network).content, "the export"),
        qonnx_form(export_qonnx(network), network),
        adder_graph_form(trace_network(network), network),
    ):
        assert np.array_equal(form.run(words), expected), form.description.kind
    assert emulator_files(network, name="forms", version=1)
    return True


@pytest.mark.parametrize(("name", "shape"), SPACES)
def test_forms_of_a_random_network_equal_the_reference(name, shape, tmp_path):
    found = networks(name, shape, 2, 11, tmp_path)
    assert any([check(network) for network in found])
    export_hls4ml(found[0])  # raises where hls4ml changed a type, strategy or reuse factor


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1000, 2000])
@pytest.mark.parametrize(("name", "shape"), SPACES)
def test_forms_of_many_random_networks_equal_the_reference(name, shape, seed, tmp_path):
    found = networks(name, shape, 20, seed, tmp_path)
    assert sum([check(network) for network in found]) > 10
