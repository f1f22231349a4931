"""What every layer type promises: exact words in every form, honest ranges, arithmetic on whole populations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError
from codesign.export.emulator import emulator_files
from codesign.export.hls4ml import export_hls4ml
from codesign.export.onnx import export_onnx, export_qonnx
from codesign.export.rtl import export_rtl, trace_network
from codesign.ir import (
    Candidate,
    FixedPoint,
    HardwareConfig,
    Network,
    Node,
    QuantizedNetwork,
    Tensors,
    TensorType,
    Words,
)
from codesign.layers import LAYERS, run_torch, run_words, typed
from codesign.layers.base import Layer, Site
from codesign.layers.dense import Dense
from codesign.space import candidates_from_population, population_from_candidates
from codesign.validate.forms import adder_graph_form, onnx_form, qonnx_form
from codesign.validate.vectors import corner_words, random_words

Parameters = Mapping[str, Any]


#: Axes of an input of each rank, beside its width.
AXES: Mapping[int, Parameters] = {1: {}, 2: {"columns": 3}, 3: {"rows": 2, "columns": 2}}

#: Ranks at which exports are tried; those of images build on the same code as those of rows.
EXPORTED_RANKS = (1, 2)


def network_with(layer: Layer, parameters: Parameters, rank: int = 1) -> Network:
    """Build a small network around one node, "probe", that reads tensors of a rank.

    input -> dense -> relu -> dense -> the layer -> flatten -> dense -> linear.  A layer of two inputs
    reads what the ReLU writes, too; what only ever was features is not flattened.
    """

    def node(name: str, layer: str, *inputs: str, **parameters: Any) -> Node:
        return Node(name=name, layer=layer, inputs=inputs, parameters=parameters)

    sources = ("dense_2", "relu_1")[: layer.n_inputs[0]]
    nodes = [
        node("input", "input", width=6 if rank == 1 else 2, result_bits=7, **AXES[rank]),
        node("dense_1", "dense", "input", units=5, weight_bits=5),
        node("relu_1", "relu", "dense_1", result_bits=6),
        node("dense_2", "dense", "relu_1", units=5, weight_bits=4),
    ]
    if layer.max_input_bits is not None:
        nodes.append(node("rounded", "linear", "dense_2", result_bits=layer.max_input_bits - 2))
        sources = ("rounded", *sources[1:])
    nodes.append(node("probe", layer.name, *sources, **parameters))
    columns = {
        p.column: np.array([float(parameters.get(p.name, p.default) or 0)])
        for p in layer.parameters
    }
    written = layer.propagate(columns, [tensors(1, rank, width=5)] * layer.n_inputs[0])
    if max(rank, written.rank[0]) > 1:
        nodes.append(node("flat", "flatten", "probe"))
    nodes.append(node("head", "dense", nodes[-1].name, units=3, weight_bits=6))
    nodes.append(node("output", "linear", "head", result_bits=10))
    return Network(nodes=tuple(nodes))


def unrolled(network: Network) -> Candidate:
    """Return a network as plain RTL on a VU13P at 400 MHz, nothing shared."""
    multiply = [n.name for n in network.nodes if LAYERS.get(n.layer).has_multipliers]
    return Candidate(
        network=network,
        hardware=HardwareConfig(
            part="xcvu13p-flga2577-2-e",
            clock_period_ns=2.5,
            flow="rtl",
            io_type="io_parallel",
            strategy=dict.fromkeys(multiply, "distributed_arithmetic"),
            reuse_factor=dict.fromkeys(multiply, 1),
        ),
    )


def quantized(network: Network, seed: int) -> QuantizedNetwork:
    """Give a network random formats and weights; unrolled, as distributed arithmetic."""
    generator = np.random.default_rng(seed)
    dense = [n for n in network.nodes if isinstance(LAYERS.get(n.layer), Dense)]
    candidate = unrolled(network)
    population = population_from_candidates([candidate])
    names = [node.name for node in network.nodes]
    n_in = dict(zip(names, population.columns["n_in"].astype(int), strict=True))
    shapes = {
        name: tuple(
            int(population.columns[axis][i])
            for axis in ("n_rows", "n_columns", "n_out")
            if population.columns[axis][i]
        )
        for i, name in enumerate(names)
    }
    result = {}
    for node in network.nodes:
        if "result_bits" in node.parameters:
            layer = LAYERS.get(node.layer)
            signed = getattr(layer, "result_is_signed", True)
            bits = int(node.parameters["result_bits"])
            fmt = FixedPoint(bits=bits, integer_bits=int(generator.integers(1, 4)), signed=signed)
            result[node.name] = TensorType.of(fmt, shapes[node.name])
    constants = {}
    for node in dense:
        fmt = FixedPoint(bits=int(node.parameters["weight_bits"]), integer_bits=1)
        shape = (n_in[node.name], shapes[node.name][-1])
        weights = generator.integers(fmt.min_word, fmt.max_word + 1, shape)
        layer = LAYERS.get(node.layer)
        assert isinstance(layer, Dense)
        weights *= layer.connections(*shape)
        constants[node.name] = {"weight": Words.of(weights, fmt)}
    for node in dense:
        biases = generator.integers(-100, 100, shapes[node.name][-1])
        constants[node.name]["bias"] = Words.of(biases, FixedPoint(bits=8, integer_bits=2))
    sites: dict[str, Site] = {}
    for node in network.nodes:
        site = sites[node.name] = Site(
            node=node,
            inputs=tuple(sites[name].output for name in node.inputs),
            constants=constants.get(node.name, {}),
            result=result.get(node.name),
            hardware=candidate.hardware,
        )
        if drawn := LAYERS.get(node.layer).draw_constants(site, generator):
            constants[node.name] = drawn
            sites[node.name] = replace(site, constants=drawn)
    return QuantizedNetwork(
        candidate=candidate, network=network, result=result, constants=constants
    )


def tensors(k: int, rank: int, width: int = 8) -> Tensors:
    """Return what k nodes read: tensors of a rank, with channels of 6 bits."""
    return Tensors(
        n_rows=np.full(k, 4.0 * (rank > 2)),
        n_columns=np.full(k, 5.0 * (rank > 1)),
        n_channels=np.full(k, float(width)),
        bits=np.full(k, 6.0),
        is_signed=np.ones(k),
    )


def network_of(layer: Layer, parameters: Parameters, rank: int = 1) -> QuantizedNetwork:
    """Quantize a network around a layer so that its outputs depend on its inputs."""
    graph = network_with(layer, parameters, rank)
    for network in (quantized(graph, seed) for seed in range(50)):
        outputs = np.asarray(run_words(network, vectors(network)))
        if (outputs != outputs[0]).any():
            return network
    raise AssertionError("50 constant networks in a row")


def vectors(network: QuantizedNetwork) -> NDArray[np.int64]:
    """Return words to try a network with, int64[n, n_inputs]: random ones and corners."""
    return np.concatenate([random_words(network, 300, 0), corner_words(network)])


class LayerContract:
    """Tests of one layer type, on every one of its examples and ranks; the fixture `layer` gives it.

    Attributes:
        seeds: of the random formats and weights of each example.
    """

    seeds = (0, 1, 2)

    def graphs(self, layer: Layer) -> Iterator[Network]:
        """Yield a network around every example, at every rank."""
        for parameters in layer.examples():
            for rank in layer.ranks_of(parameters):
                yield network_with(layer, parameters, rank)

    def networks(self, layer: Layer) -> Iterator[QuantizedNetwork]:
        """Yield quantized networks for the exports, whose outputs depend on their inputs."""
        for parameters in layer.examples():
            for rank in layer.ranks_of(parameters):
                if rank in EXPORTED_RANKS:
                    yield network_of(layer, parameters, rank)

    # ---- the exact reference --------------------------------------------------------------------
    def test_torch_agrees_with_the_integers_on_every_word(self, layer: Layer) -> None:
        for graph in self.graphs(layer):
            for seed in self.seeds:
                network = quantized(graph, seed)
                words = vectors(network)
                expected = np.asarray(run_words(network, words))
                assert np.array_equal(run_torch(network, words), expected)

    def test_every_word_lies_in_its_inferred_range(self, layer: Layer) -> None:
        for graph in self.graphs(layer):
            network = quantized(graph, 7)
            sites = typed(network)
            traced = run_words(network, vectors(network), trace=True)
            assert isinstance(traced, dict)
            for name, values in traced.items():
                known = sites[name].output
                values = values.reshape(-1, *known.shape)
                assert (values >= known.low).all() and (values <= known.high).all()
                assert known.format.min_word <= known.low.min()
                assert known.high.max() <= known.format.max_word

    def test_a_sum_never_exceeds_what_the_layer_says(self, layer: Layer) -> None:
        for network in self.networks(layer):
            site = typed(network)["probe"]
            assert layer.largest_sum(site) >= site.output.largest

    # ---- exports --------------------------------------------------------------------------------
    def test_every_form_without_a_compiler_equals_the_reference(self, layer: Layer) -> None:
        for network in self.networks(layer):
            words = vectors(network)
            expected = np.asarray(run_words(network, words))
            logic = trace_network(network)
            for form in (
                onnx_form(export_onnx(network).content, "the export"),
                qonnx_form(export_qonnx(network), network),
                adder_graph_form(logic, network),
            ):
                assert np.array_equal(form.run(words), expected), form.description.kind
            for flavor in ("verilog", "vhdl"):
                assert export_rtl(network, flavor=flavor, logic=logic).plan.files
            assert emulator_files(network, name="contract", version=1)

    def test_hls4ml_takes_the_layer_exactly_as_given(self, layer: Layer) -> None:
        for network in self.networks(layer):
            export_hls4ml(network)  # raises where hls4ml changed a type, strategy or reuse factor

    # ---- populations ----------------------------------------------------------------------------
    def test_a_candidate_survives_the_population_table(self, layer: Layer) -> None:
        for graph in self.graphs(layer):
            candidate = unrolled(graph)
            population = population_from_candidates([candidate])
            (back,) = candidates_from_population(population, part=candidate.hardware.part)
            again = population_from_candidates([back])
            assert population.columns.keys() == again.columns.keys()
            for key, values in population.columns.items():
                assert np.array_equal(values, again.columns[key]), key
            assert np.array_equal(population.edges, again.edges)

    def test_propagation_works_on_arrays(self, layer: Layer) -> None:
        k = 7
        for rank in layer.ranks if layer.n_inputs[1] else (1,):
            examples = [e for e in layer.examples() if rank in layer.ranks_of(e)]
            columns = {
                p.column: np.array(
                    [
                        float(examples[i % len(examples)].get(p.name, p.default) or 0)
                        for i in range(k)
                    ]
                )
                for p in layer.parameters
            }
            output = layer.propagate(columns, [tensors(k, rank)] * layer.n_inputs[0])
            values = [getattr(output, f.name) for f in fields(Tensors)]
            assert all(v.shape == (k,) and np.isfinite(v).all() for v in values)
            assert (output.n_channels >= 1).all() and (output.bits >= 1).all()
            assert all(output.shape(i) for i in range(k))

    def test_propagation_agrees_with_exact_inference(self, layer: Layer) -> None:
        """The shape is the same; the bits are those of a sum that may use every word of its inputs."""
        for network in self.networks(layer):
            population = population_from_candidates([network.candidate])
            sites = typed(network)
            columns = population.columns
            for i, node in enumerate(network.network.nodes):
                output = sites[node.name].output
                axes = (columns[axis][i] for axis in ("n_rows", "n_columns", "n_out"))
                assert tuple(int(n) for n in axes if n) == output.shape, node.name
                if node.name in network.result:
                    assert columns["output_bits"][i] == output.format.bits, node.name

    # ---- parameters -----------------------------------------------------------------------------
    def test_unknown_and_out_of_range_parameters_are_named(self, layer: Layer) -> None:
        import pytest

        inputs = tuple(f"x{i}" for i in range(layer.n_inputs[0]))
        least = {p.name: p.minimum for p in layer.parameters}
        wrong: list[dict[str, Any]] = [least | {"colour": 3}]
        wrong += [least | {p.name: p.maximum + 1} for p in layer.parameters]
        wrong += [least | {p.name: p.minimum - 1} for p in layer.parameters]
        known = [p.name for p in layer.parameters]
        names = [f"'colour'; it has {', '.join(known) or 'none'}", *known, *known]
        for p in layer.parameters:
            if p.is_integer:
                wrong.append(least | {p.name: p.minimum + 0.5})
                names.append(f"{p.name} must be an integer")
        for parameters, name in zip(wrong, names, strict=True):
            node = Node(name="probe", layer=layer.name, inputs=inputs, parameters=parameters)
            with pytest.raises(DesignError, match=name):
                layer.check(node)
        with pytest.raises(DesignError, match="inputs, got"):
            layer.check(Node(name="probe", layer=layer.name, inputs=("x",) * 99, parameters=least))
