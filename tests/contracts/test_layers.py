"""Promises that every registered layer type keeps; a new one is tested the moment its file exists."""

from dataclasses import fields

import numpy as np
import pytest

from codesign.errors import DesignError
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
from codesign.space import candidates_from_population, population_from_candidates

HIDDEN = [layer for layer in LAYERS if layer.role != "input"]
DEPLOYED = [layer for layer in HIDDEN if layer.name != "batch_norm"]


#: Axes of an input of each rank, beside its width.
AXES = {1: {}, 2: {"columns": 3}, 3: {"rows": 2, "columns": 2}}


def network_with(layer, parameters, rank=1) -> Network:
    """input -> dense -> relu -> [dense ->] the layer -> flatten -> dense -> linear."""
    nodes = [
        Node(
            name="input",
            layer="input",
            inputs=(),
            parameters={"width": 6 if rank == 1 else 2, "result_bits": 7, **AXES[rank]},
        ),
        Node(
            name="dense_1",
            layer="dense",
            inputs=("input",),
            parameters={"units": 5, "weight_bits": 5},
        ),
        Node(name="relu_1", layer="relu", inputs=("dense_1",), parameters={"result_bits": 6}),
        Node(
            name="dense_2",
            layer="dense",
            inputs=("relu_1",),
            parameters={"units": 5, "weight_bits": 4},
        ),
    ]
    inputs = ("dense_2", "relu_1") if layer.n_inputs[0] == 2 else ("dense_2",)
    nodes.append(Node(name="probe", layer=layer.name, inputs=inputs, parameters=parameters))
    source = "probe"
    if rank > 1:
        source = "flat"
        nodes.append(Node(name=source, layer="flatten", inputs=("probe",), parameters={}))
    nodes.append(
        Node(
            name="head", layer="dense", inputs=(source,), parameters={"units": 3, "weight_bits": 6}
        )
    )
    nodes.append(
        Node(name="output", layer="linear", inputs=("head",), parameters={"result_bits": 10})
    )
    return Network(nodes=tuple(nodes))


def quantized(network: Network, seed: int) -> QuantizedNetwork:
    generator = np.random.default_rng(seed)
    dense = [n for n in network.nodes if n.layer == "dense"]
    candidate = Candidate(
        network=network,
        hardware=HardwareConfig(
            part="xcvu13p-flga2577-2-e",
            clock_period_ns=2.5,
            flow="rtl",
            io_type="io_parallel",
            strategy={n.name: "distributed_arithmetic" for n in dense},
            reuse_factor={n.name: 1 for n in dense},
        ),
    )
    population = population_from_candidates([candidate])
    names = [node.name for node in network.nodes]
    n_in, n_out = (
        dict(zip(names, population.columns[key].astype(int), strict=True))
        for key in ("n_in", "n_out")
    )
    axes = np.stack([population.columns[key] for key in ("n_rows", "n_columns", "n_out")], axis=1)
    shapes = {
        name: tuple(int(axis) for axis in of if axis) for name, of in zip(names, axes, strict=True)
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
        shape = (n_in[node.name], n_out[node.name])
        weights = generator.integers(fmt.min_word, fmt.max_word + 1, shape)
        constants[node.name] = {"weight": Words.of(weights, fmt)}
    for node in dense:
        biases = generator.integers(-100, 100, n_out[node.name])
        constants[node.name]["bias"] = Words.of(biases, FixedPoint(bits=8, integer_bits=2))
    return QuantizedNetwork(
        candidate=candidate,
        network=network,
        result=result,
        constants=constants,
    )


def cases(layers, ranks=tuple(AXES)):
    return [
        pytest.param(layer, p, rank, id=f"{layer.name}-{i}-rank{rank}")
        for layer in layers
        for i, p in enumerate(layer.examples())
        for rank in layer.ranks
        if rank in ranks
    ]


@pytest.mark.parametrize(("layer", "parameters", "rank"), cases(DEPLOYED))
@pytest.mark.parametrize("seed", range(3))
def test_integer_reference_and_torch_agree_on_every_word(layer, parameters, rank, seed):
    network = quantized(network_with(layer, parameters, rank), seed)
    fmt = network.input_format
    words = np.random.default_rng(seed).integers(
        fmt.min_word, fmt.max_word + 1, (500, network.input_type.size)
    )

    assert np.array_equal(run_words(network, words), run_torch(network, words))


@pytest.mark.parametrize(("layer", "parameters", "rank"), cases(DEPLOYED))
def test_every_word_lies_in_its_inferred_range(layer, parameters, rank):
    network = quantized(network_with(layer, parameters, rank), 7)
    fmt = network.input_format
    generator = np.random.default_rng(0)
    words = generator.choice([fmt.min_word, fmt.max_word, 0, 1], (500, network.input_type.size))
    for name, values in run_words(network, words, trace=True).items():
        known = typed(network)[name].output
        values = values.reshape(-1, *known.shape)
        assert (values >= known.low).all() and (values <= known.high).all()
        assert (
            known.format.min_word <= known.low.min() and known.high.max() <= known.format.max_word
        )


@pytest.mark.parametrize(("layer", "parameters", "rank"), cases(HIDDEN))
def test_a_candidate_survives_the_population_table(layer, parameters, rank):
    candidate = quantized(network_with(layer, parameters, rank), 1).candidate
    population = population_from_candidates([candidate])
    back = candidates_from_population(population, part=candidate.hardware.part)[0]
    again = population_from_candidates([back])

    assert all(np.array_equal(population.columns[k], again.columns[k]) for k in population.columns)
    assert np.array_equal(population.edges, again.edges)


@pytest.mark.parametrize("layer", list(LAYERS), ids=lambda layer: layer.name)
def test_propagation_works_on_arrays(layer):
    k = 7
    columns = {
        p.column: np.linspace(max(p.minimum, 0 if p.is_silent else 2), min(p.maximum, 9), k).round()
        for p in layer.parameters
    }
    for rank in layer.ranks if layer.n_inputs[1] else (1,):
        source = tensors(k, n_rows=4.0 * (rank > 2), n_columns=5.0 * (rank > 1))
        output = layer.propagate(columns, [source] * layer.n_inputs[0])
        values = [getattr(output, f.name) for f in fields(Tensors)]
        assert all(v.shape == (k,) and np.isfinite(v).all() for v in values)
        assert (output.n_channels >= 1).all() and (output.bits >= 1).all()
        assert all(output.shape(i) for i in range(k))


def tensors(k: int, n_rows: float, n_columns: float) -> Tensors:
    return Tensors(
        n_rows=np.full(k, n_rows),
        n_columns=np.full(k, n_columns),
        n_channels=np.full(k, 8.0),
        bits=np.full(k, 6.0),
        is_signed=np.ones(k),
    )


@pytest.mark.parametrize("layer", list(LAYERS), ids=lambda layer: layer.name)
def test_an_unknown_parameter_is_named(layer):
    inputs = tuple(f"x{i}" for i in range(layer.n_inputs[0]))
    node = Node(name="probe", layer=layer.name, inputs=inputs, parameters={"colour": 3})
    with pytest.raises(DesignError, match="colour"):
        layer.check(node)


@pytest.mark.parametrize(
    "layer", [la for la in LAYERS if la.parameters], ids=lambda layer: layer.name
)
def test_an_out_of_range_parameter_is_named(layer):
    inputs = tuple(f"x{i}" for i in range(layer.n_inputs[0]))
    parameter = layer.parameters[0]
    values = {p.name: p.minimum for p in layer.parameters} | {parameter.name: parameter.maximum + 1}
    with pytest.raises(DesignError, match=parameter.name):
        layer.check(Node(name="probe", layer=layer.name, inputs=inputs, parameters=values))
