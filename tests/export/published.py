"""Networks that run in triggers, rebuilt by hand: published shapes and precision, random weights.

Sources, read in public repositories: cms-hls4ml/AXOL1TL@eea90cc, cms-hls4ml/CICADA@0aafbd2, LukasEbeling/TOPO@f74ef17,
CMS-L1T-Jet-Tagging/TrainTagger@1429e21 (SC4), cms-hls4ml/EMTF_NN@3fc2971, cms-hls4ml/NNPuppiTauModel@7a8f354 (tau), cms-hls4ml/TOoLLiP@18b4492,
calad0i/hgq-ae@d423090 (TGC).  Structures only: no weight and no code is theirs.  Batch norms in front of the first
layer are folded into it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from codesign.ir import (
    FixedPoint,
    Network,
    Node,
    QuantizedNetwork,
    TensorType,
    Words,
)
from codesign.space import population_from_candidates
from codesign.testing.layers import unrolled


@dataclass
class Builder:
    """Collects nodes and their formats.

    Attributes:
        weights: format of all weights, as hls4ml counts: bits, integer bits with the sign.
        kept: share of the weights that are not zero.
    """

    weights: tuple[int, int]
    kept: float
    nodes: list[Node] = field(default_factory=list)
    formats: dict[str, FixedPoint] = field(default_factory=dict)

    def add(self, layer: str, *inputs: str, **parameters: float) -> str:
        """Add a node and return its name."""
        name = f"{layer}_{len(self.nodes)}"
        self.nodes.append(Node(name=name, layer=layer, inputs=inputs, parameters=parameters))
        return name

    def rounded(
        self, layer: str, source: str, bits: int, integer_bits: int, *, signed: bool = False
    ) -> str:
        """Add an activation that rounds to a format."""
        name = self.add(layer, source, result_bits=bits)
        self.formats[name] = FixedPoint(bits=bits, integer_bits=integer_bits, signed=signed)
        return name

    def input(self, fmt: FixedPoint, width: int, **axes: int) -> str:
        """Add the input."""
        name = self.add("input", width=width, result_bits=fmt.bits, **axes)
        self.formats[name] = fmt
        return name

    def dense(self, source: str, units: int) -> str:
        """Add a dense layer."""
        return self.add("dense", source, units=units, weight_bits=min(self.weights[0], 24))

    def chain(self, source: str, *widths: int, bits: tuple[int, int]) -> str:
        """Add dense layers, each with a ReLU rounded to unsigned `bits` (and integer bits)."""
        for width in widths:
            source = self.rounded("relu", self.dense(source, width), *bits)
        return source

    def network(self, seed: int) -> QuantizedNetwork:
        """Draw weights."""
        generator = np.random.default_rng(seed)
        network = Network(nodes=tuple(self.nodes))
        candidate = unrolled(network)
        columns = population_from_candidates([candidate]).columns
        result: dict[str, TensorType] = {}
        constants: dict[str, dict[str, Words]] = {}
        fmt = FixedPoint(bits=self.weights[0], integer_bits=self.weights[1])
        for i, node in enumerate(self.nodes):
            axes = (columns[axis][i] for axis in ("n_rows", "n_columns", "n_out"))
            shape = tuple(int(axis) for axis in axes if axis)
            if node.name in self.formats:
                result[node.name] = TensorType.of(self.formats[node.name], shape)
            if node.name in candidate.hardware.strategy:
                n_in = int(columns["n_in"][i])
                real = generator.normal(0, np.sqrt(2.0 / n_in / self.kept), (n_in, shape[-1]))
                real *= generator.random(real.shape) < self.kept
                bias = FixedPoint(bits=8, integer_bits=2)
                constants[node.name] = {
                    "weight": Words.of(fmt.words_from_values(real), fmt),
                    "bias": Words.of(generator.integers(-30, 30, shape[-1]), bias),
                }
        return QuantizedNetwork(
            candidate=candidate, network=network, result=result, constants=constants
        )


def axol1tl_v4() -> Builder:
    """The encoder alone; the score, a sum of squares of the latent, is computed elsewhere."""
    net = Builder(weights=(6, 3), kept=0.8)
    x = net.input(FixedPoint(bits=8, integer_bits=6), 57)
    latent = net.dense(net.chain(x, 28, 15, bits=(8, 4)), 8)
    net.rounded("linear", latent, 10, 5, signed=True)
    return net


def axol1tl_v5() -> Builder:
    """An encoder, an autoencoder of what it says, and the squared distance of both, on the chip."""
    net = Builder(weights=(4, 1), kept=0.67)
    x = net.input(FixedPoint(bits=8, integer_bits=6), 57)
    latent = net.rounded("linear", net.dense(net.chain(x, 29, bits=(5, 2)), 10), 5, 2, signed=True)
    back = net.chain(latent, 9, 6, 4, 6, 9, bits=(5, 2))
    again = net.rounded("linear", net.dense(back, 10), 5, 2, signed=True)
    distance = net.add("sum_elements", net.add("square", net.add("subtract", latent, again)))
    net.rounded("linear", distance, 16, 10, signed=True)
    return net


def cicada_v1() -> Builder:
    """The same student on flat regions."""
    net = Builder(weights=(8, 2), kept=0.5)
    x = net.input(FixedPoint(bits=10, integer_bits=10, signed=False), 252)
    net.rounded("relu", net.dense(net.chain(x, 16, bits=(10, 8)), 1), 16, 8)
    return net


def cicada_v2() -> Builder:
    """A student on calorimeter regions: four kernels of 2 x 2."""
    net = Builder(weights=(8, 2), kept=0.5)
    x = net.input(FixedPoint(bits=10, integer_bits=10, signed=False), 1, rows=18, columns=14)
    patches = net.add("patches", x, kernel=2, stride=2)
    flat = net.add("flatten", net.chain(patches, 4, bits=(10, 8)))
    net.rounded("relu", net.dense(net.chain(flat, 16, bits=(10, 6)), 1), 16, 8)
    return net


def topo_v1() -> Builder:
    """Flat features against one topology; the output is a logit."""
    net = Builder(weights=(16, 7), kept=0.3)
    x = net.input(FixedPoint(bits=8, integer_bits=8, signed=False), 20)
    net.rounded("linear", net.dense(net.chain(x, 64, 32, 32, bits=(8, 4)), 1), 16, 8, signed=True)
    return net


def topo_v5() -> Builder:
    """Flat features against several topologies; two wide layers, activations below one; the output is a logit."""
    net = Builder(weights=(16, 7), kept=0.1)
    x = net.input(FixedPoint(bits=8, integer_bits=8, signed=False), 21)
    net.rounded("linear", net.dense(net.chain(x, 128, 64, bits=(8, 0)), 1), 16, 8, signed=True)
    return net


def emtf() -> Builder:
    """Bending of endcap muons; momentum and displacement as unsigned words; wide weights."""
    net = Builder(weights=(25, 9), kept=1.0)
    x = net.input(FixedPoint(bits=13, integer_bits=13), 29)
    net.rounded("relu", net.dense(net.chain(x, 20, 16, bits=(16, 8)), 2), 8, 8)
    return net


def toollip_v3() -> Builder:
    """Ten particles of 13 features; the mean over particles; a logit."""
    net = Builder(weights=(10, 5), kept=1.0)
    x = net.input(FixedPoint(bits=10, integer_bits=5), 13, columns=10)
    mean = net.add("mean_pool", net.chain(x, 10, 10, bits=(10, 5)))
    pooled = net.rounded("linear", mean, 10, 5, signed=True)
    net.rounded("linear", net.dense(net.chain(pooled, 10, bits=(10, 5)), 1), 16, 8, signed=True)
    return net


def sc4() -> Builder:
    """Sixteen particles of 20 features; eight classes by softmax, and the momentum."""
    net = Builder(weights=(9, 3), kept=0.9)
    x = net.input(FixedPoint(bits=12, integer_bits=6), 20, columns=16)
    mean = net.add("mean_pool", net.chain(x, 10, 10, bits=(9, 3)))
    pooled = net.rounded("linear", mean, 9, 3, signed=True)
    logits = net.rounded(
        "linear", net.dense(net.chain(pooled, 32, 16, bits=(9, 3)), 8), 12, 6, signed=True
    )
    classes = net.rounded("softmax", logits, 8, 0)
    momentum = net.dense(net.chain(pooled, 10, bits=(9, 3)), 1)
    momentum = net.rounded("linear", momentum, 12, 6, signed=True)
    net.rounded("linear", net.add("concat", classes, momentum), 16, 8, signed=True)
    return net


def tau() -> Builder:
    """Ten candidates as one vector of 80; whether it is a tau, and its momentum."""
    net = Builder(weights=(9, 3), kept=0.7)
    x = net.input(FixedPoint(bits=10, integer_bits=6), 80)
    trunk = net.chain(x, 25, 25, 15, 15, 10, bits=(9, 3))
    is_tau = net.rounded("sigmoid", net.dense(trunk, 1), 8, 0)
    momentum = net.rounded("linear", net.dense(trunk, 1), 12, 6, signed=True)
    net.rounded("linear", net.add("concat", is_tau, momentum), 16, 8, signed=True)
    return net


def tgc() -> Builder:
    """Hits of three stations, 50 x (3, 2, 2) bits; convolutions of 3, their vectors added up; an angle."""
    net = Builder(weights=(5, 1), kept=0.3)
    x = net.input(FixedPoint(bits=1, integer_bits=1, signed=False), 7, columns=50)
    total = ""
    for first, size in ((0, 3), (3, 2), (5, 2)):
        station = net.add("slice", x, axis=0, first=first, size=size)
        windows = net.add("patches", station, kernel=3, padding=1)
        hits = net.rounded("relu", net.dense(windows, 2), 4, 2)
        vector = net.dense(net.add("flatten", hits), 32)
        total = net.add("add", total, vector) if total else vector
    hidden = net.chain(net.rounded("relu", total, 6, 2), 16, 8, bits=(6, 2))
    net.rounded("linear", net.dense(hidden, 1), 16, 8, signed=True)
    return net


PUBLISHED: dict[str, Callable[[], Builder]] = {
    build.__name__: build
    for build in (
        axol1tl_v4,
        axol1tl_v5,
        cicada_v1,
        cicada_v2,
        topo_v1,
        topo_v5,
        emtf,
        toollip_v3,
        sc4,
        tau,
        tgc,
    )
}
