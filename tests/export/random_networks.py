"""Random quantized networks for property tests: widths, bits, activations, skips, formats."""

from typing import Any

import numpy as np

from codesign.export.emulator import emulator_files
from codesign.export.plan import ProjectPlan
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
from codesign.layers import LAYERS, run_words, typed

ACTIVATIONS = ("relu", "relu", "leaky_relu", "linear", "tanh", "sigmoid")
PART = "xcvu13p-flga2577-2-e"


class _Builder:
    """Grows a network node by node, with formats chosen from the exact ranges so far."""

    def __init__(self, rng: np.random.Generator, *, elements: bool) -> None:
        self.rng, self.elements = rng, elements
        self.nodes: list[Node] = []
        self.result: dict[str, TensorType] = {}
        self.constants: dict[str, dict[str, Words]] = {}
        self.widths: dict[str, int] = {}

    def network(self, hardware: HardwareConfig) -> QuantizedNetwork:
        network = Network(nodes=tuple(self.nodes))
        return QuantizedNetwork(
            candidate=Candidate(network=network, hardware=hardware),
            network=network,
            result=dict(self.result),
            constants=dict(self.constants),
        )

    def add(self, layer: str, inputs: tuple[str, ...], n_out: int, **parameters: float) -> str:
        name = f"{layer}_{sum(n.layer == layer for n in self.nodes)}"
        self.nodes.append(Node(name=name, layer=layer, inputs=inputs, parameters=parameters))
        self.widths[name] = n_out
        return name

    def type_of(self, fmt: FixedPoint, shape: tuple[int, ...]) -> TensorType:
        """Return a type like `fmt`; with `elements`, each element's own, in any mode of rounding."""
        if not self.elements:
            return TensorType.of(fmt, shape)
        rng = self.rng
        bits = rng.integers(0, fmt.bits + 1, shape) * (rng.random(shape) < 0.9)
        return TensorType(
            shape=shape,
            signed=np.full(shape, fmt.signed) & (rng.random(shape) < 0.8),
            bits=np.where(rng.random(shape) < 0.1, 1, bits),
            integer_bits=fmt.integer_bits - rng.integers(-1, 4, shape),
            rounding=str(rng.choice(["TRN", "TRN", "RND", "RND_CONV"])),
            overflow=str(rng.choice(["SAT", "SAT", "WRAP"])),
        )

    def words(self, words: np.ndarray, fmt: FixedPoint) -> Words:
        """Return constants of a format; with `elements`, rounded to types of their own."""
        if not self.elements:
            return Words.of(words, fmt)
        kind = self.type_of(fmt, words.shape)
        return Words(values=kind.words_from_values(fmt.values_from_words(words)), type=kind)

    def dense(self, source: str, units: int, bits: int, zero_fraction: float) -> str:
        rng, n_in = self.rng, self.widths[source]
        name = self.add("dense", (source,), units, units=units, weight_bits=bits)
        fmt = FixedPoint(bits=bits, integer_bits=int(rng.integers(-1, 3)))
        words = rng.integers(fmt.min_word, fmt.max_word + 1, size=(n_in, units))
        words[rng.random((n_in, units)) < zero_fraction] = 0
        bias_format = FixedPoint(
            bits=bits + int(rng.integers(0, 5)), integer_bits=int(rng.integers(0, 4))
        )
        biases = rng.integers(bias_format.min_word, bias_format.max_word + 1, size=units)
        self.constants[name] = {
            "weight": self.words(words, fmt),
            "bias": self.words(biases, bias_format),
        }
        return name

    def activation(self, layer: str, source: str, bits: int, hardware: HardwareConfig) -> str:
        known = typed(self.network(hardware))[source].output.format
        name = self.add(layer, (source,), self.widths[source], result_bits=bits)
        signed = LAYERS.get(layer).result_is_signed  # type: ignore[attr-defined]
        if layer in ("tanh", "sigmoid"):
            integer_bits = int(signed)
        else:  # at or a little below the exact range, so that saturation happens
            integer_bits = (
                known.integer_bits - (known.signed and not signed) - int(self.rng.integers(0, 4))
            )
        fmt = FixedPoint(bits=bits, integer_bits=integer_bits, signed=signed)
        self.result[name] = self.type_of(fmt, (self.widths[name],))
        return name


def random_network(seed: int, **options: Any) -> QuantizedNetwork:
    """Return a random network whose outputs depend on its inputs; options as in `_draw`.

    The same one for the same arguments.
    """
    for attempt in range(100):
        network = _draw(seed + 1_000_003 * attempt, **options)
        outputs = reference(network, random_words(network, 64, seed=1))
        if (outputs != outputs[0]).any():
            return network
    raise AssertionError("100 random networks in a row were constant")


def _draw(
    seed: int,
    *,
    max_width: int = 12,
    max_bits: int = 8,
    n_blocks: int | None = None,
    strategies: tuple[str, ...] = ("distributed_arithmetic", "latency"),
    activations: tuple[str, ...] = ACTIVATIONS,
    clock_period_ns: float = 5.0,
    part: str = PART,
    elements: bool = False,
) -> QuantizedNetwork:
    """Return a random network: the same one for the same arguments.

    Args:
        seed: of everything.
        max_width: widest layer.
        max_bits: widest weight or activation word.
        n_blocks: hidden blocks (dense + activation, some with a skip); random when None.
        strategies: strategies to draw each dense layer's from.
        activations: activations to draw from.
        clock_period_ns: target clock.
        part: device part.
        elements: types of single elements, some of no bits or one, in all modes of rounding and overflow.
    """
    rng = np.random.default_rng(seed)
    builder = _Builder(rng, elements=elements)
    hardware = HardwareConfig(
        part=part,
        clock_period_ns=clock_period_ns,
        flow="rtl",
        io_type="io_parallel",
        strategy={},
        reuse_factor={},
    )
    width = int(rng.integers(2, max_width + 1))
    bits = int(rng.integers(2, max_bits + 1))
    last = builder.add("input", (), width, width=width, result_bits=bits)
    fmt = FixedPoint(bits=bits, integer_bits=int(rng.integers(0, bits + 1)))
    builder.result[last] = builder.type_of(fmt, (width,))
    for _ in range(int(rng.integers(1, 4)) if n_blocks is None else n_blocks):
        skip = rng.choice(["none", "none", "add", "concat"])
        units = builder.widths[last] if skip == "add" else int(rng.integers(1, max_width + 1))
        dense = builder.dense(
            last, units, int(rng.integers(2, max_bits + 1)), float(rng.choice([0.0, 0.5]))
        )
        block = builder.activation(
            str(rng.choice(activations)), dense, int(rng.integers(2, max_bits + 1)), hardware
        )
        if skip != "none":
            merged = units + builder.widths[last] * (skip == "concat")
            last = builder.add(str(skip), (last, block), merged)
        else:
            last = block
        if rng.random() < 0.2:
            last = builder.add("flatten", (last,), builder.widths[last])
    dense = builder.dense(
        last,
        int(rng.integers(1, 6)),
        int(rng.integers(2, max_bits + 1)),
        float(rng.choice([0.0, 0.5])),
    )
    builder.activation("linear", dense, int(rng.integers(max_bits, max_bits + 5)), hardware)
    with_multipliers = [n.name for n in builder.nodes if n.layer == "dense"]
    strategy = {name: str(rng.choice(strategies)) for name in with_multipliers}
    is_rtl = set(strategy.values()) == {"distributed_arithmetic"}
    return builder.network(
        HardwareConfig(
            part=part,
            clock_period_ns=clock_period_ns,
            flow="rtl" if is_rtl else "hls",
            io_type="io_parallel",
            strategy=strategy,
            reuse_factor=dict.fromkeys(with_multipliers, 1),
        )
    )


def random_words(network: QuantizedNetwork, n: int, seed: int = 0) -> np.ndarray:
    """Return int64[n, n_inputs] random words inside the input type."""
    return network.input_type.draw(np.random.default_rng(seed), n).reshape(n, -1)


def reference(network: QuantizedNetwork, words: np.ndarray) -> np.ndarray:
    """Return the integer reference's output words."""
    return np.asarray(run_words(network, words))


def write_emulator(network, folder, name):
    """Write the files of version 1 of a network's emulator to a folder."""
    files = emulator_files(network, name=name, version=1)
    ProjectPlan(files={file: text.encode() for file, text in files.items()}).write(folder)
