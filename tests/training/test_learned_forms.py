"""Random networks of every template with a width per element: all forms that run here give the same words."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from codesign.export.emulator import build_emulator
from codesign.export.onnx import export_onnx, export_qonnx
from codesign.export.rtl import trace_network
from codesign.hardware.device import load_device
from codesign.hardware.scorer import HardwareScorer
from codesign.ir import Candidate, Network, Node, QuantizedNetwork
from codesign.layers import LAYERS, run_words
from codesign.layers._train_learned import LearnedModule
from codesign.layers._training import TrainStep
from codesign.space import candidates_from_population
from codesign.space.templates import TEMPLATES
from codesign.testing.layers import unrolled
from codesign.training.population_module import PopulationModule
from codesign.training.precision import settle
from codesign.training.schedule import build_schedule
from codesign.validate.forms import (
    adder_graph_form,
    emulator_form,
    onnx_form,
    qonnx_form,
    torch_form,
)
from tests.export.random_networks import write_emulator

_WIDTHS = {
    "input_bits": [8],
    "weight_bits": [6],
    "result_bits": [6],
    "output_bits": [12],
    "pruned_fraction": [0.0],
    "flow": ["rtl"],
    "strategy": ["distributed_arithmetic"],
    "reuse_factor": [1],
    "clock_mhz": [400],
    "batch_norm": [0],
}
SPACES = {
    "mlp": (
        (5,),
        {
            "depth": [1, 2],
            "width": [3, 4, 6],
            "activation": [
                "relu",
                "leaky_relu",
                "tanh",
                "sigmoid",
                "hard_tanh",
                "hard_sigmoid",
                "clipped_relu",
                "sign",
            ],
            "skip": ["none", "add", "concat"],
        },
    ),
    "cell": (
        (5,),
        {
            "nodes_per_cell": [3],
            "n_cells": [1],
            "width": [3, 4],
            "activation": ["relu", "sign", "tanh", "hard_tanh"],
        },
    ),
    "deepsets": (
        (4, 3),
        {
            "particles": [2, 4],
            "features": [2, 3],
            "particle_depth": [1, 2],
            "particle_width": [3, 4],
            "depth": [1],
            "width": [3, 4],
            "pool": ["mean_pool", "sum_pool", "max_pool"],
            "pool_bits": [6],
            "activation": ["relu", "leaky_relu"],
        },
    ),
}
KINDS = (*SPACES, "patches")


def _patches(generator: np.random.Generator) -> Candidate:
    """A convolution over an image, a pool, or all windows as one vector, and a head."""
    nodes = [
        Node(
            name="x",
            layer="input",
            inputs=(),
            parameters={"width": 2, "rows": 3, "columns": 4, "result_bits": 8},
        )
    ]

    def add(layer: str, **parameters: int) -> None:
        name = f"n{len(nodes)}"
        nodes.append(Node(name=name, layer=layer, inputs=(nodes[-1].name,), parameters=parameters))

    add("patches", kernel=2, stride=int(generator.integers(1, 3)))
    add("dense", units=3, weight_bits=6)
    add(str(generator.choice(["relu", "leaky_relu", "tanh"])), result_bits=6)
    add(str(generator.choice(["flatten", "mean_pool", "max_pool", "sum_pool"])))
    add("dense", units=2, weight_bits=6)
    add("linear", result_bits=12)
    return unrolled(Network(nodes=tuple(nodes)))


def random_learned(kind: str, n: int, seed: int) -> list[QuantizedNetwork]:
    """Networks as training leaves them, with random weights and widths: none, one bit, several, coarser than 1."""
    generator = np.random.default_rng([seed, KINDS.index(kind)])
    wanted, n = n, 3 * n  # of some no lane is left: those are no networks
    if kind == "patches":
        shape = (3, 4, 2)
        candidates = [_patches(generator) for _ in range(n)]
    else:
        shape, domains = SPACES[kind]
        template = TEMPLATES.get(kind)(_WIDTHS | domains, input_shape=shape, n_outputs=2)
        sizes = [len(gene.domain) for gene in template.genes]
        genomes = template.canonicalize(generator.integers(0, sizes, size=(n, len(sizes))))
        candidates = candidates_from_population(
            template.decode(genomes), part="xcvu13p-flga2577-2-e"
        )
    model = PopulationModule(
        build_schedule(candidates, range(seed, seed + n), granularity="element")
    )
    x = generator.normal(0, 1, (400, *shape)).astype(np.float32)
    data = torch.from_numpy(np.ascontiguousarray(np.moveaxis(np.moveaxis(x, -1, 0), 1, -1)))
    with torch.no_grad():
        model(data, TrainStep(selects_ranges=True, tracks_ranges=True))
        for layer in model.layers:
            for widths in layer.width_parameters() if isinstance(layer, LearnedModule) else ():
                # the narrowest lanes have one bit or none
                drawn = generator.integers(-3, 5, widths.shape)
                widths.copy_(torch.from_numpy(drawn.astype(np.float32)))
        model(data, TrainStep(tracks_ranges=True))
    settled = [settle(network, x) for network in model.export(candidates)]
    trimmed = [_trimmed(network, generator) for network in settled]
    alive = [t for t in trimmed if np.ptp(run_words(t, words_of(t, 1000, 0)), axis=0).any()]
    assert len(alive) >= wanted
    return alive[:wanted]


def _trimmed(network: QuantizedNetwork, generator: np.random.Generator) -> QuantizedNetwork:
    """Take the upper bits of some lanes that all rows needed, as rows not seen would: they wrap or saturate."""
    last, result = network.network.nodes[-1].name, dict(network.result)
    for name, known in network.result.items():
        if name != last:
            lost = generator.integers(0, 3, known.shape) * (generator.random(known.shape) < 0.3)
            lost = np.minimum(lost, np.maximum(known.bits - 1, 0))
            result[name] = replace(
                known, bits=known.bits - lost, integer_bits=known.integer_bits - lost
            )
    return replace(network, result=result)


def words_of(network: QuantizedNetwork, n: int, seed: int) -> np.ndarray:
    drawn = network.input_type.draw(np.random.default_rng(seed), n)
    return drawn.reshape(n, -1)


def check(networks: list[QuantizedNetwork], n_vectors: int) -> None:
    for i, network in enumerate(networks):
        words = words_of(network, n_vectors, i)
        expected = run_words(network, words)
        standard, quantized = export_onnx(network), export_qonnx(network)
        forms = {
            "torch": torch_form(network),
            "onnxruntime": onnx_form(standard.content, "random"),
            "qonnx": qonnx_form(quantized, network),
            "alkaid": adder_graph_form(trace_network(network), network),
        }
        for name, form in forms.items():
            assert np.array_equal(form.run(words), expected), (name, i, network.digest)


@pytest.mark.parametrize("kind", KINDS)
def test_forms_of_random_learned_networks_are_equal(kind):
    check(random_learned(kind, 2, 7), 200)


def test_random_learned_networks_hold_the_hard_cases():
    """Lanes of no bits and of one, signed and not, and grids coarser than one."""
    found = set()
    for network in random_learned("mlp", 20, 0):
        for known in network.result.values():
            bits = np.broadcast_to(known.bits, known.shape)
            found |= {(int(b), bool(known.signed.any())) for b in bits.ravel() if b < 2}
            if (known.element_fraction_bits < 0).any():
                found.add("coarse")
            found.add(known.rounding)
            found.add(known.overflow)
    assert {(0, True), (1, True), (1, False), "coarse", "RND", "TRN", "WRAP", "SAT"} <= found


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", KINDS)
def test_forms_of_many_random_learned_networks_are_equal(kind, seed, tmp_path):
    """4 kinds x 5 seeds x 10: two hundred networks on a thousand vectors; of each ten one is compiled."""
    networks = random_learned(kind, 10, 100 + seed)
    check(networks, 1000)
    chosen = networks[seed]
    write_emulator(chosen, tmp_path, name="learned")
    words = words_of(chosen, 1000, 3)
    form = emulator_form(build_emulator(tmp_path))
    assert np.array_equal(form.run(words), run_words(chosen, words))


def test_every_layer_of_wires_says_so():
    """A price per bit goes through wires to what they read, and through nothing else."""
    wires = {layer.name for layer in LAYERS if layer.is_wiring}
    assert wires == {"concat", "flatten", "patches", "slice", "reshape", "transpose", "broadcast"}


def _hls(candidate: Candidate, strategy: str, reuse_factor: int = 1) -> Candidate:
    names = candidate.hardware.strategy
    hardware = replace(
        candidate.hardware,
        flow="hls",
        strategy=dict.fromkeys(names, strategy),
        reuse_factor=dict.fromkeys(names, reuse_factor),
    )
    return replace(candidate, hardware=hardware)


def _chain(n_in: int, units: int) -> Candidate:
    nodes = (
        Node(name="x", layer="input", inputs=(), parameters={"width": n_in, "result_bits": 8}),
        Node(name="d", layer="dense", inputs=("x",), parameters={"units": units, "weight_bits": 6}),
        Node(name="y", layer="linear", inputs=("d",), parameters={"result_bits": 16}),
    )
    hardware = replace(
        _patches(np.random.default_rng(0)).hardware,
        strategy={"d": "distributed_arithmetic"},
        reuse_factor={"d": 1},
    )
    return Candidate(network=Network(nodes=nodes), hardware=hardware)


def _priced(candidates: list[Candidate], seed: int) -> tuple[PopulationModule, np.ndarray]:
    """Return random learned networks and what each costs by the price that training pays."""
    generator = np.random.default_rng(seed)
    n_in = candidates[0].network.nodes[0].parameters["width"]
    model = PopulationModule(
        build_schedule(candidates, range(len(candidates)), granularity="element")
    )
    data = torch.from_numpy(generator.normal(0, 1, (n_in, 400)).astype(np.float32))
    prices = np.zeros(len(candidates))
    with torch.no_grad():
        model(data, TrainStep(selects_ranges=True, tracks_ranges=True))
        for layer in model.layers:
            for widths in layer.width_parameters() if isinstance(layer, LearnedModule) else ():
                width = generator.uniform(0, 5, (len(widths), 1, 1))  # some networks are wider
                drawn = np.rint(generator.normal(width, 1, widths.shape))
                widths.copy_(torch.from_numpy(drawn.astype(np.float32)))
        model(data[:, :1], TrainStep(measures_price=True))
    for layer, group in zip(model.layers, model.schedule.groups, strict=True):
        if isinstance(layer, LearnedModule):
            rows = model.schedule.candidate[group.members]
            prices[rows] += np.broadcast_to(np.asarray(layer.price), rows.shape)
    return model, prices


def test_the_price_of_the_latency_strategy_is_that_of_its_law():
    candidates = [_hls(_chain(12, 8), "latency") for _ in range(24)]
    model, prices = _priced(candidates, 3)
    scorer = HardwareScorer(device=load_device("xcvu13p"), stage="csynth")
    scores = scorer.score_quantized(model.export(candidates)).metrics
    law = scores["lut"].value + 120.0 * scores["dsp"].value
    ratio = prices / law
    assert np.corrcoef(np.log(prices), np.log(law))[0, 1] > 0.9
    assert law.max() > 3 * law.min()
    assert np.percentile(ratio, 90) / np.percentile(ratio, 10) < 1.8


def test_the_resource_strategy_sells_multipliers_by_the_widest_word():
    one, other = (_priced([_hls(_chain(12, 8), "resource", r)] * 4, 3)[1] for r in (4, 12))
    assert one == pytest.approx(3 * other)
    model, before = _priced([_hls(_chain(12, 8), "resource", 4)], 3)
    dense = next(layer for layer in model.layers if hasattr(layer, "weight"))
    with torch.no_grad():  # the narrowest weight buys nothing, widths of all do
        words = dense._rounded()[0].abs()
        used = torch.where(words > 0, words, torch.inf)
        dense.weight[0][used == used.min()] = 0.0
        inputs = torch.zeros(12, 1)
        model(inputs, TrainStep(measures_price=True))
    assert float(dense.price[0]) == pytest.approx(before[0])
