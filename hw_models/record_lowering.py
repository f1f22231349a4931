"""Records as described layers: hls4ml's names and configuration read into what `lowering` describes.

A record tells little of the weights; what they were probably like is guessed here (`_sigma_words`).
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from hw_models.compose import RTL_TOOLS
from hw_models.errors import ModelError, UnsupportedError
from hw_models.families import period_of_levels, tool_key
from hw_models.lowering import (
    DEFAULT_TABLE_BITS,
    DEFAULT_TABLE_SIZE,
    NAN,
    Copy,
    Described,
    Lanes,
    Operation,
    Pool,
    Product,
    Recurrence,
    Value,
    Window,
    activation,
    combination,
    fifo,
    is_combination,
)
from hw_models.primitives.matvec import WEIGHT_LAWS
from hw_models.records import LayerRecord, Record, WordType, parse_type
from hw_models.types import MATVEC_STRATEGIES, SOLVED, DesignBatch, OpBatch
from hw_models.weights import FULL_SCALE_SIGMAS

#: A layer with more zeros than this was pruned; below a half its other weights have not grown.
PRUNED_SHARE, HALF = 0.15, 0.5
#: Standard deviation of trained weights over Glorot's.  Trained 16-64-32-32-5 networks of four
#: repositories have 1,450 to 3,317 constants of three or more digits, where Glorot's law gives 3,024:
#: many are trained with an L1 penalty.  Pruned networks keep, and grow, the large weights.
TRAINED_SIGMA, PRUNED_SIGMA = 0.35, 1.85
#: Share of the weights of an unpruned trained network of wide words that round to zero: its LUTs per DSP
#: (85 to 117 thousand with 1,450 to 3,317) leave no room for more small constants.
TRAINED_ZEROS, WIDE_WORD_BITS = 0.2, 10
#: With learned widths neurons die as wholes: those left keep this share of their weights (eight reports, by
#: the LUTs of their relu modules).
LEARNED_DENSITY = 0.75
#: Share of the non-zero weights with learned widths that end in a DSP.
LEARNED_MULTIPLIER_SHARE = 0.012
#: Zeros of an initial layer that the prior counts as.
ZERO_COUNT_PRIOR = 30.0

_DEFAULT_TYPE = WordType(bits=16, integer_bits=6, is_signed=True)
_QUANTIZER = re.compile(r"^h_.*quant(ize|izer)(_\d+)?$")
_GATES = {"gru": 3.0, "lstm": 4.0, "simplernn": 1.0, "rnn": 1.0}

#: Layers without any logic of their own.
_WIRES = frozenset({"inputlayer", "input", "flatten", "reshape", "dropout", "identity"})
#: Other names of one kind of layer; trailing dimensions ("2d") and "_cl" are taken off first.
_SAME_KIND = {
    "clone": "copy", "clone_stream": "copy", "repack": "copy", "repack_stream": "copy", "resize": "copy",
    "resize_nearest": "copy", "upsampling": "copy", "broadcast": "copy", "zeropad": "copy", "zeropadding": "copy",
    "concat": "copy", "concatenate": "copy", "transpose": "copy",
    "batchnormalization": "scale", "applyalpha": "scale",
    "pointwiseconv": "conv", "depthwiseconv": "depthwise", "separableconv": "separable",
    "maxpooling": "pooling", "averagepooling": "pooling", "globalpooling": "pooling",
    "globalmaxpooling": "pooling", "globalaveragepooling": "pooling",
    **dict.fromkeys(_GATES, "recurrent"),
    **dict.fromkeys(
        ("softmax", "relu", "leakyrelu", "unarylut", "unary_lut", "prelu", "sigmoid", "tanh", "elu", "parametrizedactivation",
         "hardactivation", "thresholdedrelu", "ternarytanh"), "activation",
    ),
}  # fmt: skip


def layer_kind(layer: LayerRecord) -> str:
    """Return the kind of a layer: one name for all of hls4ml's and Keras' spellings of it."""
    name = layer.type.lower()
    if _QUANTIZER.match(name):
        return "quantizer"
    if name in _WIRES:
        return "wires"
    if name.startswith("transpose"):
        return "copy"
    name = re.sub(r"(_?[123]d)?(_cl)?$", "", name)
    if is_combination(name):
        return "combination"
    return _SAME_KIND.get(name, name)


def strategy_name(record: Record, layer: LayerRecord | None = None) -> str:
    """Return the strategy of a layer (or network) as MATVEC_STRATEGIES spells it; hls4ml's default is Latency."""
    text = (layer.strategy if layer else None) or record.strategy or "latency"
    name = re.sub(r"[\s-]+", "_", text.strip().lower())
    name = {"da": "distributed_arithmetic", "stable": "latency", "unroll": "unrolled"}.get(
        name, name
    )
    if name not in MATVEC_STRATEGIES:
        raise UnsupportedError(
            f"unknown strategy {text!r}; expected one of {', '.join(MATVEC_STRATEGIES)}"
        )
    return name


@dataclass(frozen=True, kw_only=True)
class Placed:
    """One operation of a record's network: the layer it belongs to, and its place along the data flow."""

    layer: int
    stage: int
    operation: Operation


@dataclass(frozen=True, kw_only=True)
class Lowered:
    """Operations of one record in order, and what a reader must know."""

    operations: tuple[Placed, ...]
    notes: tuple[str, ...]

    def of(self, primitive: str) -> list[Mapping[str, Value]]:
        """Return the parameters of every operation of one primitive, in order."""
        return [
            placed.operation.parameters
            for placed in self.operations
            if placed.operation.primitive == primitive
        ]


@dataclass
class _Walk:
    """What reaches the next layer of a record, as its layers are gone through in order."""

    record: Record
    default: WordType
    is_learned: bool
    #: format of the values, and how many vectors of a stream they are
    current: WordType = _DEFAULT_TYPE
    positions: float = 1.0
    #: values that are not constants, where learned widths let whole neurons die; None: all
    alive: float | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def is_stream(self) -> bool:
        return self.record.io_type == "io_stream"

    def source(self, layer: LayerRecord) -> WordType:
        return parse_type(layer.input_precision) or self.current

    def result(self, layer: LayerRecord) -> WordType:
        return parse_type(layer.result_precision) or self.default

    def emit(self, layer: LayerRecord, positions: float) -> None:
        self.current, self.positions = self.result(layer), positions


def lower_record(record: Record, *, only: int | None = None) -> Lowered:
    """Describe one record's network as primitive operations.

    Args:
        record: the network and its configuration.
        only: index of the one layer whose operations are kept (without the FIFO behind it); the
            others still say what reaches it.

    Raises:
        UnsupportedError: a layer type that no law covers, by name; or no layers at all.
        ModelError: a layer lacks its shape or its precision.
    """
    if not record.layers:
        raise UnsupportedError(
            "the record has no layers; an estimate needs the network, layer by layer"
        )
    default = parse_type(record.model_precision) or _DEFAULT_TYPE
    learned = any(layer_kind(layer) == "quantizer" for layer in record.layers)
    walk = _Walk(record=record, default=default, is_learned=learned, current=default)
    if learned:
        walk.notes.append(
            "per-weight learned widths: the declared width is only the largest; counts come from a prior"
        )
    placed: list[Placed] = []
    stage = 0
    for i, layer in enumerate(record.layers):
        for parts in _describe(walk, layer):
            for part in parts:
                placed.append(Placed(layer=i, stage=stage, operation=part.operation()))
            written = parts[-1].stream if parts else None
            if walk.is_stream and written is not None:
                placed.append(Placed(layer=i, stage=stage, operation=fifo(written)))
            stage += bool(parts)
    if only is not None:
        mine = [p for p in placed if p.layer == only and p.operation.primitive != "fifo"]
        first = min((p.stage for p in mine), default=0)
        placed = [replace(p, stage=p.stage - first) for p in mine]
    elif placed and placed[-1].operation.primitive == "fifo":
        placed.pop()  # the last layer writes to the ports
    return Lowered(operations=tuple(placed), notes=tuple(walk.notes))


def _describe(walk: _Walk, layer: LayerRecord) -> list[list[Described]]:
    """Describe a layer: parts that run side by side, in groups one after another."""
    kind = layer_kind(layer)
    if kind in ("quantizer", "wires"):
        if kind == "wires":
            walk.current = walk.source(layer)
        return []
    if kind not in _DESCRIBE:
        raise UnsupportedError(
            f"layer {layer.name or layer.type}: type {layer.type!r} has no cost law; its design is not estimated"
        )
    return _DESCRIBE[kind](walk, layer)


def _shape(layer: LayerRecord, which: str) -> list[float]:
    """Return a shape that the layer's law needs.

    Raises:
        ModelError: the record does not tell it.
    """
    shape = getattr(layer, which)
    if not shape:
        raise ModelError(
            f"layer {layer.name or layer.type}: {which} is {shape!r}, expected positive numbers; add it to the record"
        )
    return [float(n) for n in shape]


def _either_shape(layer: LayerRecord, first: str, second: str) -> list[float]:
    return _shape(layer, first if getattr(layer, first) else second)


def _describe_copy(walk: _Walk, layer: LayerRecord) -> list[list[Described]]:
    source = walk.source(layer)
    walk.current = source
    if not layer.out_shape:
        return []
    *pixels, channels = [float(n) for n in layer.out_shape]
    positions = math.prod(pixels) if pixels else walk.positions
    if not walk.is_stream:
        channels, walk.positions, positions = channels * math.prod(pixels), positions, 1.0
    else:
        walk.positions = positions
        if not pixels:
            channels /= positions if channels % positions == 0 else 1.0
    return [[Copy(n_lanes=channels, bits=source.bits, n_positions=positions)]]


def _vectors(walk: _Walk, shape: Sequence[float]) -> tuple[float, float]:
    """Return lanes and vectors of an element-wise layer: a pixel's channels at a time in io_stream."""
    lanes = math.prod(shape)
    if not walk.is_stream:
        return lanes, 1.0
    positions = math.prod(shape[:-1]) if len(shape) > 1 else walk.positions
    positions = positions if lanes % positions == 0 else 1.0
    return lanes / positions, positions


def _describe_scale(walk: _Walk, layer: LayerRecord) -> list[list[Described]]:
    source, result = walk.source(layer), walk.result(layer)
    # scale and shift of a quantized network share a type; some records name that of the shift only
    told = parse_type(layer.weight_precision) or parse_type(layer.bias_precision)
    word = told or walk.default
    lanes, positions = _vectors(walk, _either_shape(layer, "in_shape", "out_shape"))
    walk.emit(layer, positions)
    return [
        [
            Lanes(
                kind="scale_shift",
                n_lanes=lanes,
                input_bits=source.bits,
                output_bits=result.bits,
                n_positions=positions,
                saturates=float(result.saturates),
                reuse_factor=float(layer.reuse_factor or 1.0),
                constant_bits=word.bits,
            )
        ]
    ]


def _describe_combination(walk: _Walk, layer: LayerRecord) -> list[list[Described]]:
    source, result = walk.source(layer), walk.result(layer)
    lanes, positions = _vectors(walk, _either_shape(layer, "out_shape", "in_shape"))
    walk.emit(layer, positions)
    return [
        [
            combination(
                layer.type.lower(),
                n_lanes=lanes,
                input_bits=source.bits,
                output_bits=result.bits,
                n_positions=positions,
                saturates=float(result.saturates),
            )
        ]
    ]


def _describe_activation(walk: _Walk, layer: LayerRecord) -> list[list[Described]]:
    source, result = walk.source(layer), walk.result(layer)
    function = (layer.activation or layer.type).lower()
    if function == "activation":  # no function given: hls4ml names the layer after it
        function = re.sub(r"_\d+$", "", str(layer.name)).rsplit("_", 1)[-1].lower()
    lanes, positions = _vectors(walk, _either_shape(layer, "out_shape", "in_shape"))
    lanes = min(lanes, walk.alive or lanes)
    walk.emit(layer, positions)
    word = parse_type(layer.table_precision)
    try:
        part = activation(
            function,
            n_lanes=lanes,
            input_bits=source.bits,
            output_bits=result.bits,
            n_positions=positions,
            saturates=float(result.saturates),
            table_size=float(layer.table_size or DEFAULT_TABLE_SIZE),
            table_bits=word.bits if word else DEFAULT_TABLE_BITS,
            implementation=layer.implementation or "",
        )
    except UnsupportedError as error:
        raise UnsupportedError(f"layer {layer.name}: {error}") from error
    if walk.is_stream and function == "linear" and source == result and positions == 1:
        return []  # hls4ml takes it out of the network
    return [[part]]


def _describe_pool(walk: _Walk, layer: LayerRecord) -> list[list[Described]]:
    ins, outs = _shape(layer, "in_shape"), _shape(layer, "out_shape")
    source, name = walk.source(layer), layer.type.lower()
    pixels, windows = math.prod(ins[:-1]), math.prod(outs[:-1]) if len(outs) > 1 else 1.0
    window = pixels / max(windows, 1.0)
    if layer.kernel and "global" not in name:
        window = float(math.prod(layer.kernel))
    is_mean = (layer.pool_op or "").lower().startswith("av") or "average" in name
    walk.emit(layer, max(windows, 1.0))
    return [
        [
            Pool(
                kind="mean" if is_mean else "max",
                n_lanes=ins[-1],
                n_window=max(window, 1.0),
                n_outputs=max(windows, 1.0),
                bits=source.bits,
                n_positions=pixels,
            )
        ]
    ]


# ---- products ---------------------------------------------------------------------------------
def _product(
    walk: _Walk,
    layer: LayerRecord,
    n_in: float,
    n_out: float,
    *,
    n_positions: float = 1.0,
    n_instances: float = 1.0,
    n_weights: float | None = None,
    kernel_share: float = 1.0,
) -> Product:
    """Describe a product with the layer's precision, strategy and weights, known or guessed.

    Args:
        n_weights: weights that the layer's zeros are a share of, n_in n_out by default.
        kernel_share: copies whose weights differ (channels of a depthwise convolution).
    """
    source, result = walk.source(layer), walk.result(layer)
    word = parse_type(layer.weight_precision) or walk.default
    accumulator = parse_type(layer.accum_precision)
    # plain RTL keeps every bit of a sum that nothing else is said of; HLS rounds to its accumulator
    keeps = walk.record.tool in RTL_TOOLS and accumulator is None
    summed = accumulator or walk.default
    total = n_in * n_out if n_weights is None else n_weights
    is_rtl = walk.record.tool in RTL_TOOLS  # which knows adder graphs only
    strategy = "distributed_arithmetic" if is_rtl else strategy_name(walk.record, layer)
    sigma, law = _sigma_words(walk, layer, word, n_in, n_out, n_in * n_out * kernel_share)
    facts = {
        "n_multipliers": _multipliers(walk, layer, total),
        "n_lut_multipliers": layer.n_lut_multipliers,
        "constant_adders": layer.constant_adders,
        "csd_digits": layer.csd_digits,
        "effective_bits": layer.effective_bits,
        "adder_graph_cost": layer.adder_cost,
        "adder_graph_depth": layer.delay,
    }
    return Product(
        n_in=n_in,
        n_out=n_out,
        n_positions=n_positions,
        n_instances=n_instances,
        reuse_factor=max(float(layer.reuse_factor or 1.0), 1.0),
        strategy=float(MATVEC_STRATEGIES.index(strategy)),
        input_bits=source.bits,
        input_is_signed=float(source.is_signed),
        weight_bits=word.bits,
        accumulator_bits=NAN if keeps else summed.bits,
        output_bits=NAN if keeps else result.bits,
        zero_fraction=_zero_fraction(layer.n_zeros, total, law, word),
        has_bias=0.0 if layer.use_bias is False else 1.0,
        weight_sigma_words=sigma,
        weight_law=law,
        is_widest=float(walk.is_learned and layer.constant_adders is None),
        facts={name: NAN if value is None else float(value) for name, value in facts.items()},
    )


def _describe_dense(walk: _Walk, layer: LayerRecord) -> list[list[Described]]:
    ins, outs = _shape(layer, "in_shape"), _shape(layer, "out_shape")
    n_in, n_out, positions, instances = math.prod(ins), math.prod(outs), 1.0, 1.0
    if len(ins) > 1 and len(outs) > 1 and ins[:-1] == outs[:-1]:
        n_in, n_out, rows = ins[-1], outs[-1], math.prod(ins[:-1])  # one product per row
        positions = rows if walk.is_stream else float(layer.n_partitions or rows)
        instances = rows / positions
    if walk.is_learned and positions == instances == 1 and layer.n_zeros:
        n_in, n_out, layer = _living(walk, layer, n_in, n_out)
    else:
        walk.alive = None
    product = _product(walk, layer, n_in, n_out, n_positions=positions, n_instances=instances)
    emitted = math.prod(outs[:-1]) if len(outs) > 1 else 1.0
    product = replace(product, n_streamed=outs[-1], depth=emitted)
    result = walk.result(layer)
    parts: list[list[Described]] = [[product]]
    if walk.record.tool in RTL_TOOLS and layer.activation == "relu":
        parts.append(
            [
                activation(
                    "relu",
                    n_lanes=math.prod(outs),
                    input_bits=result.bits + 2,
                    output_bits=result.bits,
                    saturates=float(result.saturates),
                )
            ]
        )
    walk.emit(layer, emitted)
    return parts


def _describe_conv(walk: _Walk, layer: LayerRecord) -> list[list[Described]]:
    return [_convolution(walk, layer, is_depthwise=False)]


def _describe_depthwise(walk: _Walk, layer: LayerRecord) -> list[list[Described]]:
    return [_convolution(walk, layer, is_depthwise=True)]


def _describe_separable(walk: _Walk, layer: LayerRecord) -> list[list[Described]]:
    """Describe a depthwise convolution and one of 1 x 1 behind it."""
    ins, outs = _shape(layer, "in_shape"), _shape(layer, "out_shape")
    known = replace(layer, n_zeros=None, n_nonzeros=None)
    between = tuple(int(n) for n in (*outs[:-1], ins[-1]))
    pixel = replace(known, in_shape=between, kernel=(1,) * (len(ins) - 1))
    return [
        _convolution(walk, replace(known, out_shape=between), is_depthwise=True),
        _convolution(walk, pixel, is_depthwise=False),
    ]


def _convolution(walk: _Walk, layer: LayerRecord, *, is_depthwise: bool) -> list[Described]:
    ins, outs = _shape(layer, "in_shape"), _shape(layer, "out_shape")
    kernel = layer.kernel
    if not kernel:
        raise ModelError(f"layer {layer.name}: kernel is missing; add it to the record")
    taps, channels = float(math.prod(kernel)), ins[-1]
    pixels_out = math.prod(outs[:-1])
    n_in, n_out = (taps, 1.0) if is_depthwise else (taps * channels, outs[-1])
    instances = channels if is_depthwise else 1.0
    walk.alive = None
    parts: list[Described] = []
    if walk.is_stream:
        positions = math.prod(ins[:-1])
        if taps > 1:
            parts.append(
                Window(
                    kernel_height=float(kernel[0] if len(kernel) == 2 else 1),
                    kernel_width=float(kernel[-1]),
                    n_channels=channels,
                    bits=walk.source(layer).bits,
                    image_width=ins[1] if len(ins) == 3 else ins[0],
                    n_positions=positions,
                )
            )
    else:
        # before partitions came, all pixels were computed at once
        default_positions = 1.0 if _is_before_partitions(walk.record) else pixels_out
        positions = float(layer.n_partitions or default_positions)
        instances *= pixels_out / positions
    product = _product(
        walk,
        layer,
        n_in,
        n_out,
        n_positions=positions,
        n_instances=instances,
        n_weights=n_in * n_out * (channels if is_depthwise else 1.0),
        kernel_share=instances if is_depthwise and walk.is_stream else 1.0,
    )
    walk.emit(layer, pixels_out)
    # pixels that a step of the kernel skips are read by fewer of its positions
    n_read = max(taps * pixels_out / math.prod(ins[:-1]), 1.0)
    return [*parts, replace(product, n_streamed=outs[-1], depth=pixels_out, n_taps=n_read)]


def _describe_recurrent(walk: _Walk, layer: LayerRecord) -> list[list[Described]]:
    return [_recurrence(walk, layer, layer.type.lower())]


def _describe_bidirectional(walk: _Walk, layer: LayerRecord) -> list[list[Described]]:
    """Describe two recurrent layers, each with half of the outputs.

    Raises:
        UnsupportedError: the cell is not told.
    """
    told = " ".join(str(text or "") for text in (layer.cell, layer.name, layer.activation)).lower()
    cell = next((c for c in ("gru", "lstm", "simplernn") if c in told), None)
    if cell is None:
        raise UnsupportedError(
            f"layer {layer.name}: a bidirectional layer whose cell is unknown; expected 'gru' or"
            " 'lstm' in its name or `cell`"
        )
    outs = [int(n) for n in _shape(layer, "out_shape")]
    half = replace(layer, units=outs[-1] // 2, out_shape=(*outs[:-1], outs[-1] // 2))
    return [_recurrence(walk, half, cell) for _ in range(2)]


def _recurrence(walk: _Walk, layer: LayerRecord, cell: str) -> list[Described]:
    ins, outs = _shape(layer, "in_shape"), _shape(layer, "out_shape")
    gates, units = _GATES[cell], float(layer.units or outs[-1])
    result = walk.result(layer)
    walk.alive = None
    of_input = _product(walk, layer, ins[-1], gates * units)
    of_state = replace(of_input, n_in=units, input_bits=result.bits)
    state = Recurrence(
        n_units=units,
        n_gates=gates,
        bits=result.bits,
        n_steps=ins[0],
        reuse_factor=of_input.reuse_factor,
        strategy=of_input.strategy,
        table_size=float(layer.table_size or DEFAULT_TABLE_SIZE),
    )
    walk.emit(layer, ins[0])
    return [of_input, of_state, state]


_DESCRIBE: Mapping[str, Callable[[_Walk, LayerRecord], list[list[Described]]]] = {
    "copy": _describe_copy,
    "scale": _describe_scale,
    "combination": _describe_combination,
    "activation": _describe_activation,
    "pooling": _describe_pool,
    "dense": _describe_dense,
    "conv": _describe_conv,
    "depthwise": _describe_depthwise,
    "separable": _describe_separable,
    "recurrent": _describe_recurrent,
    "bidirectional": _describe_bidirectional,
}


# ---- what the weights were probably like ---------------------------------------------------------
def _is_before_partitions(record: Record) -> bool:
    """Say whether a record is older than hls4ml's partitions (0.5, 2021): the tool's year tells."""
    version = re.match(r"(\d{4})", record.tool_version or "")
    return version is not None and int(version[1]) <= 2018


def _sigma_words(
    walk: _Walk, layer: LayerRecord, word: WordType, n_in: float, n_out: float, n_weights: float
) -> tuple[float, float]:
    """Guess the standard deviation of the weights in units of their last bit, and which law they follow.

    A trained network: Glorot's law at the start of training, sqrt(2 / (n_in + n_out)); what training and
    pruning make of it is a fitted multiplier per law (`WEIGHT_LAWS`).  A single layer was not trained and
    keeps LeCun's law, sqrt(1 / n_in), which hls4ml's own tests start from (`lecun_uniform`).  Per-weight
    learned widths keep two or three bits; the share of zeros of an unpruned layer tells the deviation itself.
    """
    if walk.is_learned:
        return 3.0, float(WEIGHT_LAWS.index("given"))
    is_network = sum(x.type.lower().startswith(("dense", "conv")) for x in walk.record.layers) >= 2
    law = "trained" if is_network else "initial"
    # Keras counts every tap of a convolution on both sides
    fan_out = n_out * float(math.prod(layer.kernel or (1,)))
    variance = 2.0 / (n_in + fan_out) if is_network or layer.kernel else 1.0 / n_in
    sigma = math.sqrt(variance) * 2.0**word.fraction_bits
    zeros = layer.n_zeros
    share = zeros / n_weights if zeros and n_weights else 0.0
    trained = {"trained": TRAINED_SIGMA, "pruned": PRUNED_SIGMA}
    if share > PRUNED_SHARE:
        law = "pruned"
        if share < HALF:  # zeros of training at few bits, not of pruning by size: nothing grew
            trained["pruned"] = 1.0
    elif law == "trained" and share * n_weights >= 4:
        # trained at its own precision: a normal law puts 0.4 / sigma of the weights on the word zero
        sigma = min(max(0.4 / share, sigma / 4), sigma * 4)
        law = "given"
    elif law == "initial" and n_weights:
        # one word of a uniform law of half-width limit holds 1 / (2 limit) of the weights; the count of
        # zeros is shrunk to what the initial law predicts
        limit_words = math.sqrt(3.0) * sigma
        expected = n_weights / (2 * max(limit_words, 0.5))
        seen = (zeros or 0) + ZERO_COUNT_PRIOR
        limit_words *= (expected + ZERO_COUNT_PRIOR) / seen if zeros is not None else 1.0
        sigma = limit_words / math.sqrt(3.0)
    sigma *= trained.get(law, 1.0)
    limit = 2.0 ** (word.bits - 1) / FULL_SCALE_SIGMAS * 2.0
    return min(max(sigma, 0.3), limit), float(WEIGHT_LAWS.index(law))


def _zero_fraction(zeros: float | None, n_weights: float, law: float, word: WordType) -> float:
    """Return the share of weights at zero; NaN where only the prior can say.

    hls4ml counts zeros before rounding unless the weights were quantized: no zeros in a trained layer of
    wide words says nothing of those that training with a penalty has made vanish.
    """
    uncounted = not zeros and law == WEIGHT_LAWS.index("trained") and word.bits >= WIDE_WORD_BITS
    if uncounted:
        return TRAINED_ZEROS
    return NAN if zeros is None else min(zeros / n_weights, 1.0)


def _living(
    walk: _Walk, layer: LayerRecord, n_in: float, n_out: float
) -> tuple[float, float, LayerRecord]:
    """Return inputs and outputs that are not constants, and the layer with the zeros among those."""
    nonzero = max(n_in * n_out - float(layer.n_zeros or 0.0), 0.0)
    alive_in = min(walk.alive or n_in, n_in)
    alive_out = min(max(math.ceil(nonzero / (LEARNED_DENSITY * alive_in)), 1.0), n_out)
    alive_in = min(max(alive_in, math.ceil(nonzero / alive_out)), n_in)
    walk.alive = alive_out
    return alive_in, alive_out, replace(layer, n_zeros=alive_in * alive_out - nonzero)


def _multipliers(walk: _Walk, layer: LayerRecord, n_weights: float) -> float:
    """Return the weights in DSPs where the record or the training method says something about them."""
    if layer.n_multipliers is not None:
        return layer.n_multipliers
    if walk.is_learned:
        # a few weights keep many bits: 0 to 2 % of the non-zero ones in eight reports
        return LEARNED_MULTIPLIER_SHARE * (n_weights - (layer.n_zeros or 0.0))
    return NAN


# ---- batches ------------------------------------------------------------------------------------
def _tool_of(record: Record) -> str:
    text = record.tool or record.backend
    if not text:
        raise UnsupportedError(
            "the record names neither tool nor backend; an estimate needs the synthesis tool"
        )
    return tool_key(text)


def _clock_period_ns(record: Record, part: str) -> float:
    """Return the target period; for RTL cut at a given depth, the period which that depth stands for."""
    if record.clock_period_ns is not None:
        return record.clock_period_ns
    if record.latency_cutoff is None:
        raise ModelError(
            f"record {record.id}: neither clock_period_ns nor latency_cutoff; add the target clock"
        )
    return float(period_of_levels(record.latency_cutoff, part))


def _solved(record: Record) -> dict[str, float]:
    """Return what a record of plain RTL says of its whole adder graph, NaN where it says nothing.

    Cycles: those of the pipeline where it was cut; else the depth of the graph over that of a stage,
    ceil(delay / latency_cutoff), at least 1 (exact in 77 % of 160 designs, never more than one off).
    """
    cycles = record.pipeline_cycles
    if cycles is None and record.delay is not None and record.latency_cutoff:
        cycles = max(math.ceil(record.delay / record.latency_cutoff - 1e-9), 1)
    facts = {
        "adder_cost": record.adder_cost,
        "register_bits": record.register_bits,
        "latency_cycles": cycles,
    }
    return {name: NAN if value is None else float(value) for name, value in facts.items()}


def batch_records(
    records: Sequence[Record], lowered: Sequence[Lowered]
) -> list[tuple[np.ndarray, DesignBatch]]:
    """Join lowered records that share tool, version, part and io_type into one batch each.

    Returns:
        Pairs of the records' indices and their batch.
    """
    members: dict[tuple[str, str, str, str], list[int]] = {}
    for i, record in enumerate(records):
        key = (
            _tool_of(record),
            record.tool_version or "",
            record.part or "hls4ml",
            record.io_type or "io_parallel",
        )
        members.setdefault(key, []).append(i)
    batches = []
    for (tool, version, part, io_type), rows in members.items():
        uncertainty = [records[i].clock_uncertainty_ns for i in rows]
        solved = [_solved(records[i]) for i in rows] if tool in RTL_TOOLS else []
        batches.append(
            (
                np.array(rows),
                DesignBatch(
                    n_designs=len(rows),
                    clock_period_ns=np.array([_clock_period_ns(records[i], part) for i in rows]),
                    clock_uncertainty_ns=np.array(
                        [NAN if u is None else float(u) for u in uncertainty]
                    ),
                    part=part,
                    tool=tool,
                    tool_version=version,
                    io_type=io_type,
                    ops=_op_batches([lowered[i] for i in rows]),
                    solved={
                        name: np.array([facts[name] for facts in solved])
                        for name in SOLVED
                        if solved
                    },
                ),
            )
        )
    return batches


def _op_batches(lowered: Sequence[Lowered]) -> tuple[OpBatch, ...]:
    """Join the operations of several designs, one batch per primitive, in order of the designs."""
    found: dict[str, list[tuple[int, Placed]]] = {}
    for i, design in enumerate(lowered):
        for placed in design.operations:
            found.setdefault(placed.operation.primitive, []).append((i, placed))
    return tuple(
        OpBatch(
            primitive=name,
            design=np.array([i for i, _ in rows], dtype=np.int64),
            stage=np.array([placed.stage for _, placed in rows], dtype=np.int64),
            parameters={
                key: np.array([float(placed.operation.parameters[key]) for _, placed in rows])
                for key in rows[0][1].operation.parameters
            },
            origin=np.array([placed.layer for _, placed in rows], dtype=np.int64),
        )
        for name, rows in found.items()
    )
