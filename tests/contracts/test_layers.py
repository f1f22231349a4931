"""Promises that every registered layer type keeps; a new one is tested the moment its file exists."""

from dataclasses import replace

import numpy as np
import pytest

from codesign.errors import ExportError
from codesign.export.hls4ml import export_hls4ml
from codesign.ir import FixedPoint, Network, Node, Words
from codesign.layers import LAYERS, run_words, typed
from codesign.layers.base import Layer
from codesign.space import population_from_candidates
from codesign.testing.layers import LayerContract, network_of, network_with, quantized, vectors

#: Those that a network is made of, and those that are left of it once it is trained.
HIDDEN = [layer.name for layer in LAYERS if layer.role != "input"]
FOLDED = [layer.name for layer in LAYERS if layer.folds_into_source]


class TestLayer(LayerContract):
    @pytest.fixture(params=[name for name in HIDDEN if name not in FOLDED])
    def layer(self, request: pytest.FixtureRequest) -> Layer:
        return LAYERS.get(request.param)


class TestUntrainedLayer:
    """A layer that is no more once the network is trained keeps what concerns populations."""

    @pytest.fixture(params=[*FOLDED, "input"])
    def layer(self, request: pytest.FixtureRequest) -> Layer:
        return LAYERS.get(request.param)

    test_propagation_works_on_arrays = LayerContract.test_propagation_works_on_arrays
    test_parameters_are_checked = LayerContract.test_unknown_and_out_of_range_parameters_are_named

    def test_a_candidate_survives_the_population_table(self, layer: Layer) -> None:
        if layer.role != "input":
            LayerContract().test_a_candidate_survives_the_population_table(layer)


def test_a_layer_that_forgets_an_export_cannot_be_created() -> None:
    for method in ("to_onnx", "to_hls4ml", "to_rtl", "to_cpp", "describe", "run_words"):
        assert method in Layer.__abstractmethods__
        assert all(method not in type(layer).__abstractmethods__ for layer in LAYERS)


def test_names_that_two_hls4ml_layers_would_share_are_refused() -> None:
    tanh = LAYERS.get("tanh")
    network = quantized(network_with(tanh, tanh.examples()[0]), 0)
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


@pytest.mark.parametrize("n_in", [1, 3, 4, 7, 8])
@pytest.mark.parametrize("weight_bits", [2, 6])
def test_a_propagated_sum_has_the_bits_that_the_worst_weights_need(
    n_in: int, weight_bits: int
) -> None:
    nodes = (
        Node(name="x", layer="input", inputs=(), parameters={"width": n_in, "result_bits": 7}),
        Node(
            name="d",
            layer="dense",
            inputs=("x",),
            parameters={"units": 2, "weight_bits": weight_bits},
        ),
        Node(name="y", layer="linear", inputs=("d",), parameters={"result_bits": 9}),
    )
    network = quantized(Network(nodes=nodes), 0)
    weight = network.constants["d"]["weight"]
    least = FixedPoint(bits=weight_bits, integer_bits=1).min_word
    worst = Words.of(np.full_like(weight.values, least), weight.type.covering)
    none = Words.of(np.zeros(2, dtype=np.int64), FixedPoint(bits=8, integer_bits=8))
    network = replace(network, constants={"d": {"weight": worst, "bias": none}})
    population = population_from_candidates([network.candidate])
    assert population.columns["output_bits"][1] == typed(network)["d"].output.format.bits


def test_a_parameter_is_a_whole_number_unless_it_says_otherwise() -> None:
    parameters = {p.name: p.is_integer for p in LAYERS.get("dense").parameters}
    assert parameters["units"] and parameters["weight_bits"]
    assert not parameters["pruned_fraction"]


@pytest.mark.parametrize("name", ["relu", "linear"])
def test_rounding_down_with_saturation_needs_no_wider_words(name: str) -> None:
    """So that float32 suffices for exports of most networks."""
    layer = LAYERS.get(name)
    site = typed(network_of(layer, layer.examples()[0]))["probe"]
    assert layer.largest_sum(site) == max(site.source.largest, site.output.largest)


def test_a_leaky_relu_lets_a_part_of_negative_values_through() -> None:
    layer = LAYERS.get("leaky_relu")
    network = quantized(network_with(layer, layer.examples()[0]), 0)
    words = run_words(network, vectors(network), trace=True)
    assert (words["probe"] < 0).any() and (words["probe"] > 0).any()
