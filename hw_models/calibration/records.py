"""Synthesis records, one JSON object a line (schema 1), and their lowering to primitive operations.

A record holds a network layer by layer as hls4ml configured it, and what each tool stage reported.
Only the network and its configuration are inputs of an estimate; stage fields are targets.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hw_models.compose import RTL_TOOLS
from hw_models.errors import ModelError, UnsupportedError
from hw_models.families import period_of_levels, tool_key
from hw_models.primitives import elementwise, reduce, table
from hw_models.primitives.matvec import WEIGHT_LAWS
from hw_models.types import SOLVED, STRATEGIES, DesignBatch, OpBatch
from hw_models.weights import FULL_SCALE_SIGMAS

SCHEMA = 1
NAN = float("nan")
Record = Mapping[str, Any]

#: Sources that belong together: one research group with its own stream kernels.
_MODIFIED_KERNELS = ("YanLunHuang/", "ChiRuiChen/", "crimson1256/")
#: A layer with more zeros than this was pruned.
PRUNED_SHARE = 0.15
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
_JET_TAGGER = ((16, 64), (64, 32), (32, 32), (32, 5))

_TYPE = re.compile(r"^\s*(?:ac_|ap_)?(u?)(fixed|int)\s*<\s*(\d+)\s*(?:,\s*(-?\d+))?")


@dataclass(frozen=True, kw_only=True)
class WordType:
    """Width, integer bits (sign included), signedness and overflow of a fixed-point type."""

    bits: float
    integer_bits: float
    is_signed: bool
    saturates: bool = False

    @property
    def fraction_bits(self) -> float:
        """Bits behind the point."""
        return self.bits - self.integer_bits


def parse_type(text: object) -> WordType | None:
    """Parse "ap_fixed<16,6,...>", "fixed<8,3>", "ap_ufixed<6,0>", "ap_uint<1>"; None when it is no such type.

    A mapping ({"default": "fixed<16,6>"}) is read at its "default" key.
    """
    if isinstance(text, Mapping):
        return parse_type(text.get("default"))
    if not isinstance(text, str):
        return None
    match = _TYPE.match(text)
    if match is None:
        return None
    bits = float(match.group(3))
    integer = float(match.group(4)) if match.group(4) is not None else bits
    return WordType(
        bits=bits,
        integer_bits=integer,
        is_signed=match.group(1) != "u",
        saturates="SAT" in text.upper(),
    )


def load_records(paths: Iterable[Path | str]) -> list[dict[str, Any]]:
    """Read JSONL files of records; exact duplicates (same id and source) are read once.

    Raises:
        ModelError: a file is missing, a line is not JSON, or its schema is not 1.
    """
    records: list[dict[str, Any]] = []
    seen: set[tuple[object, object]] = set()
    for given in paths:
        path = Path(given)
        if not path.is_file():
            raise ModelError(f"{path}: no such file; expected records as JSONL, one object a line")
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                try:
                    record = json.loads(line)
                except json.JSONDecodeError as error:
                    raise ModelError(
                        f"{path}:{number}: not JSON ({error.msg}); expected one object a line"
                    ) from error
                if not isinstance(record, dict) or record.get("schema") != SCHEMA:
                    found = (
                        record.get("schema") if isinstance(record, dict) else type(record).__name__
                    )
                    raise ModelError(
                        f"{path}:{number}: schema {found!r}, expected {SCHEMA}; convert the record first"
                    )
                key = (record.get("source"), record.get("id"))
                if key in seen:
                    continue
                seen.add(key)
                records.append(record)
    return records


def strategy_name(record: Record, layer: Record | None = None) -> str:
    """Return the strategy of a layer (or network) as STRATEGIES spells it; hls4ml's default is Latency."""
    text = (layer or {}).get("strategy") or record.get("strategy") or "latency"
    name = re.sub(r"[\s-]+", "_", str(text).strip().lower())
    name = {"da": "distributed_arithmetic", "stable": "latency", "unroll": "unrolled"}.get(
        name, name
    )
    if name not in STRATEGIES:
        raise UnsupportedError(
            f"unknown strategy {text!r}; expected one of {', '.join(STRATEGIES)}"
        )
    return name


def dense_shape(record: Record) -> tuple[tuple[int, int], ...]:
    """Return (n_in, n_out) of every Dense layer, in order."""
    return tuple(
        (math.prod(layer["in_shape"]), math.prod(layer["out_shape"]))
        for layer in record["layers"]
        if layer["type"] == "Dense" and layer.get("in_shape") and layer.get("out_shape")
    )


def group_of(record: Record) -> str:
    """Return the group that must not be split between fitting and testing.

    One research group with modified stream kernels; all forks of the jet-tagger tutorial; otherwise
    the source.
    """
    source = str(record.get("source", ""))
    if source.startswith(_MODIFIED_KERNELS):
        return "modified-stream-kernels"
    if dense_shape(record) == _JET_TAGGER:
        return "jet-tagger-16-64-32-32-5"
    return source


class _Builder:
    """Collects the operations of one design, in order."""

    def __init__(self) -> None:
        self.rows: dict[str, list[tuple[int, dict[str, float]]]] = {}
        self.stage = 0
        self.is_stream = False
        #: values that are not constants, where learned widths let whole neurons die; None: all
        self.alive: float | None = None

    def emit(self, channels: float, bits: float, positions: float) -> None:
        """Add the FIFO behind a layer of a stream design."""
        if self.is_stream:
            self.add("fifo", advance=False, n_channels=channels, bits=bits, depth=positions)

    def add(self, primitive: str, *, advance: bool = True, **parameters: float) -> None:
        self.rows.setdefault(primitive, []).append((self.stage, parameters))
        if advance:
            self.stage += 1


@dataclass(frozen=True, kw_only=True)
class Lowered:
    """Operations of one record: per primitive, (stage, parameters) of each operation, and notes."""

    rows: Mapping[str, Sequence[tuple[int, Mapping[str, float]]]]
    notes: tuple[str, ...]


_TABLE_ACTIVATIONS = (
    "sigmoid",
    "tanh",
    "elu",
    "selu",
    "softplus",
    "softsign",
    "gelu",
    "silu",
    "swish",
    "exponential",
)
_COMPARED = {
    "relu": "relu", "relu6": "relu", "clip": "relu", "leaky_relu": "leaky_relu", "leakyrelu": "leaky_relu",
    "prelu": "relu", "parametrizedactivation": "leaky_relu", "thresholded_relu": "relu", "thresholdedrelu": "relu",
    "linear": "quantize", "ternary_tanh": "relu", "binary_tanh": "relu", "hard_sigmoid": "hard_sigmoid",
    "hard_tanh": "hard_sigmoid",
}  # fmt: skip
_WIRES = {"inputlayer", "input", "flatten", "reshape", "transpose", "dropout", "identity"}
_COPIES = {
    "clone_stream", "clone", "repack_stream", "repack", "resize_nearest", "resize", "zeropad1d_cl", "zeropad2d_cl",
    "zeropadding1d", "zeropadding2d", "concatenate", "concatenate1d", "concatenate2d", "concatenate3d", "concat",
    "broadcast", "upsampling1d", "upsampling2d",
}  # fmt: skip
_MERGES = {"add": "add", "sum": "add", "subtract": "add", "average": "add", "maximum": "add", "minimum": "add",
           "multiply": "multiply"}  # fmt: skip
_POOLS = {"pooling1d", "pooling2d", "maxpooling1d", "maxpooling2d", "averagepooling1d", "averagepooling2d",
          "globalpooling1d", "globalpooling2d", "globalmaxpooling1d", "globalmaxpooling2d",
          "globalaveragepooling1d", "globalaveragepooling2d"}  # fmt: skip
_RECURRENT = ("gru", "lstm", "simplernn", "rnn")
_MULTIPLIED = (
    "dense", "conv1d", "conv2d", "depthwiseconv1d", "depthwiseconv2d", "separableconv1d", "separableconv2d",
    "pointwiseconv1d", "pointwiseconv2d", "bidirectional", *_RECURRENT,
)  # fmt: skip
_QUANTIZER = re.compile(r"^h_.*quant(ize|izer)(_\d+)?$")


def _sigma_words(
    layer: Record,
    word: WordType,
    n_in: float,
    n_out: float,
    n_weights: float,
    learned: bool,
    is_network: bool,
) -> tuple[float, float]:
    """Guess the standard deviation of the weights in units of their last bit, and which law they follow.

    A trained network: Glorot's law at the start of training, sqrt(2 / (n_in + n_out)); what training and
    pruning make of it is a fitted multiplier per law (`WEIGHT_LAWS`).  A single layer was not trained and
    keeps LeCun's law, sqrt(1 / n_in), which hls4ml's own tests start from (`lecun_uniform`).  Per-weight
    learned widths keep two or three bits; the share of zeros of an unpruned layer tells the deviation itself.
    """
    if learned:
        return 3.0, float(WEIGHT_LAWS.index("given"))
    law = "trained" if is_network else "initial"
    # a lone convolution keeps Keras' default, Glorot's law with every tap counted on both sides
    fan_out = n_out * float(math.prod(layer.get("kernel") or (1,)))
    glorot = is_network or layer.get("kernel")
    variance = 2.0 / (n_in + (n_out if is_network else fan_out)) if glorot else 1.0 / n_in
    sigma = math.sqrt(variance) * 2.0**word.fraction_bits
    zeros = layer.get("n_zeros")
    share = zeros / n_weights if zeros and n_weights else 0.0
    trained = {"trained": TRAINED_SIGMA, "pruned": PRUNED_SIGMA}
    if share > PRUNED_SHARE:
        law = "pruned"
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
    layers = record.get("layers") or []
    if not layers:
        raise UnsupportedError(
            "the record has no layers; an estimate needs the network, layer by layer"
        )
    stream = record.get("io_type") == "io_stream"
    default = parse_type(record.get("model_precision")) or WordType(
        bits=16, integer_bits=6, is_signed=True
    )
    builder, notes = _Builder(), []
    learned = any(_QUANTIZER.match(str(layer.get("type"))) for layer in layers)
    if learned:
        notes.append(
            "per-weight learned widths: the declared width is only the largest; counts come from a prior"
        )
    current = default
    last_positions = 1.0
    builder.is_stream = stream
    for i, layer in enumerate(layers):
        if only is not None and i in (only, only + 1):
            if i == only + 1:
                break
            alive, builder = builder.alive, _Builder()
            builder.is_stream, builder.alive = stream, alive
        kind = str(layer["type"]).lower()
        name = layer.get("name") or layer["type"]
        given = parse_type(layer.get("input_precision"))
        source = given or current
        result = parse_type(layer.get("result_precision")) or default
        shape_in, shape_out = layer.get("in_shape") or [], layer.get("out_shape") or []
        if _QUANTIZER.match(kind):
            continue
        if kind in _WIRES:
            current = source
            continue

        def need(shape: Sequence[Any], what: str, name: object = name) -> list[float]:
            if not shape or any(not isinstance(n, int | float) for n in shape):
                raise ModelError(
                    f"layer {name}: {what} is {shape!r}, expected positive numbers; add it to the record"
                )
            return [float(n) for n in shape]

        if kind in _COPIES or kind.startswith("transpose"):
            if stream and shape_out and all(isinstance(n, int) for n in shape_out):
                *pixels, channels = shape_out if len(shape_out) > 1 else [*shape_out, 1]
                positions = float(math.prod(pixels)) if len(shape_out) > 1 else last_positions
                builder.add(
                    "merge", n_lanes=float(channels), bits=source.bits, n_positions=positions
                )
            current = source
        elif kind in _MULTIPLIED:
            ins, outs = need(shape_in, "in_shape"), need(shape_out, "out_shape")
            for part_kind, part, part_ins, part_outs in _parts(layer, kind, ins, outs):
                last_positions = _lower_multiplied(
                    builder,
                    record,
                    part,
                    part_kind,
                    part_ins,
                    part_outs,
                    source,
                    result,
                    default,
                    learned,
                    stream,
                )
            current = result
        elif kind in ("batchnormalization", "applyalpha", "scale"):
            lanes = math.prod(need(shape_in or shape_out, "in_shape"))
            channels = lanes if not stream or len(shape_in) < 2 else float(shape_in[-1])
            builder.add(
                "elementwise",
                kind=elementwise.KINDS.index("scale_shift"),
                n_lanes=channels,
                input_bits=source.bits,
                output_bits=result.bits,
                n_positions=lanes / channels if stream else 1.0,
                saturates=float(result.saturates),
            )
            current = result
        elif kind in _MERGES:
            lanes = math.prod(need(shape_out or shape_in, "out_shape"))
            channels = float((shape_out or shape_in)[-1]) if stream else lanes
            builder.add(
                "elementwise",
                kind=elementwise.KINDS.index(_MERGES[kind]),
                n_lanes=channels,
                input_bits=source.bits,
                output_bits=result.bits,
                n_positions=lanes / channels,
                saturates=float(result.saturates),
            )
            current = result
        elif kind in _POOLS:
            _lower_pool(
                builder,
                layer,
                kind,
                need(shape_in, "in_shape"),
                need(shape_out, "out_shape"),
                source,
                stream,
            )
            last_positions = math.prod(float(n) for n in shape_out[:-1])
            current = result
        elif kind in ("activation", "softmax", "relu", "leakyrelu", "prelu", "sigmoid", "tanh", "elu", "parametrizedactivation",
                      "hardactivation", "thresholdedrelu", "ternarytanh"):  # fmt: skip
            function = str(layer.get("activation") or kind).lower()
            if function == "activation":  # no function given: hls4ml names the layer after it
                function = re.sub(r"_\d+$", "", str(name)).rsplit("_", 1)[-1].lower()
            lanes = math.prod(need(shape_out or shape_in, "out_shape"))
            positions = last_positions if stream else 1.0
            channels = lanes / positions if lanes % positions == 0 else lanes
            positions = lanes / channels
            channels = min(channels, builder.alive or channels)
            _lower_activation(builder, layer, function, channels, positions, source, result)
            current = result
        else:
            raise UnsupportedError(
                f"layer {name}: type {layer['type']!r} has no cost law; its design is not estimated"
            )
    if builder.rows.get("fifo"):
        builder.rows["fifo"].pop()  # the last layer writes to the ports
        if not builder.rows["fifo"]:
            del builder.rows["fifo"]
    return Lowered(rows=builder.rows, notes=tuple(notes))


def _parts(
    layer: Record, kind: str, ins: list[float], outs: list[float]
) -> list[tuple[str, Record, list[float], list[float]]]:
    """Split a layer that hls4ml builds from several: (kind, layer, in_shape, out_shape) of each part.

    A separable convolution is a depthwise one and one of 1 x 1; a bidirectional layer is two recurrent
    ones side by side, each with half of the outputs.

    Raises:
        UnsupportedError: the cell of a bidirectional layer is not told.
    """
    if kind.startswith("separable"):
        known = {k: v for k, v in layer.items() if k not in ("n_zeros", "n_nonzeros")}
        between = [*outs[:-1], ins[-1]]
        pixel = {**known, "kernel": [1] * (len(ins) - 1)}
        rest = kind.removeprefix("separable")
        return [
            (f"depthwise{rest}", known, ins, between),
            (f"pointwise{rest}", pixel, between, outs),
        ]
    if kind == "bidirectional":
        told = " ".join(str(layer.get(key, "")) for key in ("cell", "name", "activation")).lower()
        cell = next((c for c in ("gru", "lstm", "simplernn") if c in told), None)
        if cell is None:
            raise UnsupportedError(
                f"layer {layer.get('name')}: a bidirectional layer whose cell is unknown; expected 'gru' or"
                " 'lstm' in its name or `cell`"
            )
        half = {**layer, "units": outs[-1] / 2}
        return [(cell, half, ins, [*outs[:-1], outs[-1] / 2])] * 2
    return [(kind, layer, ins, outs)]


def _is_before_partitions(record: Record) -> bool:
    """Say whether a record is older than hls4ml's partitions (0.5, 2021): the tool's year tells."""
    version = re.match(r"(\d{4})", str(record.get("tool_version") or ""))
    return version is not None and int(version[1]) <= 2018


def _zero_fraction(zeros: object, n_weights: float, law: float, word: WordType) -> float:
    """Return the share of weights at zero; NaN where only the prior can say.

    hls4ml counts zeros before rounding unless the weights were quantized: no zeros in a trained layer of
    wide words says nothing of those that training with a penalty has made vanish.
    """
    uncounted = not zeros and law == WEIGHT_LAWS.index("trained") and word.bits >= WIDE_WORD_BITS
    if uncounted:
        return TRAINED_ZEROS
    return NAN if zeros is None else min(float(zeros) / n_weights, 1.0)  # type: ignore[arg-type]


def _living(
    builder: _Builder, layer: Record, n_in: float, n_out: float
) -> tuple[float, float, Record]:
    """Return inputs and outputs that are not constants, and the layer with the zeros among those."""
    nonzero = max(n_in * n_out - float(layer["n_zeros"]), 0.0)
    alive_in = min(builder.alive or n_in, n_in)
    alive_out = min(max(math.ceil(nonzero / (LEARNED_DENSITY * alive_in)), 1.0), n_out)
    alive_in = min(max(alive_in, math.ceil(nonzero / alive_out)), n_in)
    builder.alive = alive_out
    return alive_in, alive_out, {**layer, "n_zeros": alive_in * alive_out - nonzero}


def _multipliers(layer: Record, learned: bool, n_weights: float, zeros: float | None) -> float:
    """Return the weights in DSPs where the record or the training method says something about them."""
    if "n_multipliers" in layer:
        return float(layer["n_multipliers"])
    if learned:
        # a few weights keep many bits: 0 to 2 % of the non-zero ones in eight reports
        return LEARNED_MULTIPLIER_SHARE * (n_weights - float(zeros or 0))
    return NAN


def _lower_activation(
    builder: _Builder,
    layer: Record,
    function: str,
    lanes: float,
    positions: float,
    source: WordType,
    result: WordType,
) -> None:
    if function in ("softmax", *_TABLE_ACTIVATIONS):
        kind = {"softmax": "softmax", "elu": "piecewise", "selu": "piecewise"}.get(
            function, "function"
        )
        if kind == "softmax" and "latency" in str(layer.get("implementation")).lower():
            kind = "softmax_latency"
        builder.add(
            "table",
            kind=table.KINDS.index(kind),
            n_lanes=lanes,
            input_bits=source.bits,
            output_bits=result.bits,
            table_size=float(layer.get("table_size") or 1024),
            table_bits=18.0,
            n_positions=positions,
        )
        builder.emit(lanes, result.bits, positions)
    elif function in _COMPARED:
        kind = _COMPARED[function]
        if kind == "quantize" and source == result and positions == 1:
            return
        builder.add(
            "elementwise",
            kind=elementwise.KINDS.index(kind),
            n_lanes=lanes,
            input_bits=source.bits,
            output_bits=result.bits,
            n_positions=positions,
            saturates=float(result.saturates),
        )
        builder.emit(lanes, result.bits, positions)
    else:
        raise UnsupportedError(
            f"layer {layer.get('name')}: activation {function!r} has no cost law; its design is not estimated"
        )


def _lower_pool(
    builder: _Builder,
    layer: Record,
    kind: str,
    ins: list[float],
    outs: list[float],
    source: WordType,
    stream: bool,
) -> None:
    channels = ins[-1]
    pixels, windows = math.prod(ins[:-1]), math.prod(outs[:-1]) if len(outs) > 1 else 1.0
    kernel = layer.get("kernel")
    window = (
        float(math.prod(kernel)) if kernel and "global" not in kind else pixels / max(windows, 1.0)
    )
    is_mean = str(layer.get("pool_op", "")).lower().startswith("av") or "average" in kind
    builder.add(
        "reduce",
        kind=reduce.KINDS.index("mean" if is_mean else "max"),
        n_lanes=channels,
        n_window=max(window, 1.0),
        n_outputs=windows,
        bits=source.bits,
        n_positions=pixels,
        advance=not stream,
    )
    builder.emit(channels, source.bits, max(windows, 1.0))


def _lower_multiplied(
    builder: _Builder,
    record: Record,
    layer: Record,
    kind: str,
    ins: list[float],
    outs: list[float],
    source: WordType,
    result: WordType,
    default: WordType,
    learned: bool,
    stream: bool,
) -> float:
    """Lower a layer with multipliers; return how many vectors it emits per inference."""
    word = parse_type(layer.get("weight_precision")) or default
    # plain RTL keeps every bit of a sum; HLS rounds to its accumulator
    is_rtl = str(record.get("tool")) in RTL_TOOLS
    accumulator = parse_type(layer.get("accum_precision")) or default
    strategy = STRATEGIES.index(strategy_name(record, layer))
    reuse = float(layer.get("reuse_factor") or 1)
    positions, instances = 1.0, 1.0
    recurrent = kind in ("gru", "lstm", "simplernn", "rnn")
    if kind == "dense":
        n_in, n_out = math.prod(ins), math.prod(outs)
        if (
            len(ins) > 1 and len(outs) > 1 and ins[:-1] == outs[:-1]
        ):  # time-distributed: one product per row
            n_in, n_out, positions = ins[-1], outs[-1], math.prod(ins[:-1])
    elif recurrent:
        gates = {"gru": 3.0, "lstm": 4.0}.get(kind, 1.0)
        units, steps = float(layer.get("units") or outs[-1]), ins[0]
        n_in, n_out, positions = ins[-1], gates * units, 1.0
    else:
        kernel = layer.get("kernel")
        if not kernel:
            raise ModelError(f"layer {layer.get('name')}: kernel is missing; add it to the record")
        taps, channels = float(math.prod(kernel)), ins[-1]
        pixels_out = math.prod(outs[:-1])
        depthwise = kind.startswith("depthwise")
        n_in, n_out = (taps, 1.0) if depthwise else (taps * channels, outs[-1])
        instances = channels if depthwise else 1.0
        if stream:
            positions = math.prod(ins[:-1])
            if math.prod(kernel) > 1:
                builder.add(
                    "window",
                    kernel_height=float(kernel[0] if len(kernel) == 2 else 1),
                    kernel_width=float(kernel[-1]),
                    n_channels=channels,
                    bits=source.bits,
                    image_width=ins[1] if len(ins) == 3 else ins[0],
                    n_positions=positions,
                    advance=False,
                )
        else:
            # before partitions came, all pixels were computed at once
            default_positions = 1.0 if _is_before_partitions(record) else pixels_out
            positions = float(layer.get("n_partitions") or default_positions)
            instances *= pixels_out / positions
    if learned and kind == "dense" and positions == 1 and layer.get("n_zeros"):
        n_in, n_out, layer = _living(builder, layer, n_in, n_out)
    else:
        builder.alive = None
    n_weights = n_in * n_out * (instances if kind.startswith("depthwise") and stream else 1.0)
    zeros = layer.get("n_zeros")
    total = n_in * n_out if not kind.startswith("depthwise") else n_in * n_out * ins[-1]
    n_layers = sum(str(x["type"]).lower().startswith(("dense", "conv")) for x in record["layers"])
    sigma, law = _sigma_words(layer, word, n_in, n_out, n_weights, learned, n_layers >= 2)
    common = {
        "reuse_factor": max(reuse, 1.0),
        "strategy": float(strategy),
        "weight_bits": word.bits,
        "input_is_signed": float(source.is_signed),
        "accumulator_bits": NAN if is_rtl else accumulator.bits,
        "output_bits": NAN if is_rtl else result.bits,
        "zero_fraction": _zero_fraction(zeros, total, law, word),
        "has_bias": 0.0 if layer.get("use_bias") is False else 1.0,
        "weight_sigma_words": sigma,
        "weight_law": law,
        "n_multipliers": _multipliers(layer, learned, total, zeros),
        "n_lut_multipliers": float(layer.get("n_lut_multipliers", NAN)),
        "constant_adders": float(layer.get("constant_adders", NAN)),
        "csd_digits": float(layer.get("csd_digits", NAN)),
        "adder_graph_cost": float(layer["adder_cost"]) if "adder_cost" in layer else NAN,
        "adder_graph_depth": float(layer["delay"]) if "delay" in layer else NAN,
    }
    if recurrent:
        common |= {"n_positions": 1.0, "n_instances": 1.0}
        builder.add(
            "matvec", advance=False, n_in=n_in, n_out=n_out, input_bits=source.bits, **common
        )
        builder.add(
            "matvec",
            advance=False,
            n_in=n_out / gates,
            n_out=n_out,
            input_bits=result.bits,
            **common,
        )
        builder.add(
            "recurrent",
            n_units=units,
            n_gates=gates,
            bits=result.bits,
            n_steps=steps,
            matvec_cycles=max(reuse, 1.0),
            table_size=float(layer.get("table_size") or 1024),
        )
        return steps
    builder.add(
        "matvec",
        n_in=n_in,
        n_out=n_out,
        input_bits=source.bits,
        n_positions=positions,
        n_instances=instances,
        advance=not stream,
        **common,
    )
    if is_rtl and layer.get("activation") == "relu":
        builder.add(
            "elementwise",
            kind=elementwise.KINDS.index("relu"),
            n_lanes=math.prod(outs),
            input_bits=result.bits + 2,
            output_bits=result.bits,
            n_positions=1.0,
            saturates=float(result.saturates),
        )
    emitted = math.prod(outs[:-1]) if len(outs) > 1 else 1.0
    builder.emit(outs[-1], result.bits, emitted)
    return emitted


def _tool_of(record: Record) -> str:
    text = record.get("tool") or record.get("backend")
    if not text:
        raise UnsupportedError(
            "the record names neither tool nor backend; an estimate needs the synthesis tool"
        )
    return tool_key(str(text))


def _clock_period_ns(record: Record, part: str) -> float:
    """Return the target period; for RTL cut at a given depth, the period which that depth stands for."""
    period = record.get("clock_period_ns")
    if period is not None:
        return float(period)
    cutoff = record.get("latency_cutoff")
    if cutoff is None:
        raise ModelError(
            f"record {record.get('id')}: neither clock_period_ns nor latency_cutoff; add the target clock"
        )
    return float(period_of_levels(float(cutoff), part))


def _solved(record: Record) -> dict[str, float]:
    """Return what a record of plain RTL says of its whole adder graph, NaN where it says nothing.

    Cycles: those of the pipeline where it was cut; else the depth of the graph over that of a stage,
    ceil(delay / latency_cutoff), at least 1 (exact in 77 % of 160 designs, never more than one off).
    """
    facts = {
        "adder_cost": record.get("adder_cost"),
        "register_bits": record.get("register_bits"),
        "latency_cycles": record.get("pipeline_cycles"),
    }
    delay, cutoff = record.get("delay"), record.get("latency_cutoff")
    if facts["latency_cycles"] is None and delay is not None and cutoff:
        facts["latency_cycles"] = max(math.ceil(float(delay) / float(cutoff) - 1e-9), 1)
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
            str(record.get("tool_version") or ""),
            str(record.get("part") or "hls4ml"),
            str(record.get("io_type") or "io_parallel"),
        )
        members.setdefault(key, []).append(i)
    batches = []
    for (tool, version, part, io_type), rows in members.items():
        columns: dict[str, dict[str, list[float]]] = {}
        design: dict[str, list[int]] = {}
        stage: dict[str, list[int]] = {}
        for position, i in enumerate(rows):
            for primitive, ops in lowered[i].rows.items():
                for at, parameters in ops:
                    design.setdefault(primitive, []).append(position)
                    stage.setdefault(primitive, []).append(at)
                    for name, value in parameters.items():
                        columns.setdefault(primitive, {}).setdefault(name, []).append(float(value))
        uncertainty = [records[i].get("clock_uncertainty_ns") for i in rows]
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
                    ops=tuple(
                        OpBatch(
                            primitive=name,
                            design=np.array(design[name], dtype=np.int64),
                            stage=np.array(stage[name], dtype=np.int64),
                            parameters={k: np.array(v) for k, v in columns[name].items()},
                        )
                        for name in columns
                    ),
                    solved={
                        name: np.array([facts[name] for facts in solved])
                        for name in SOLVED
                        if solved
                    },
                ),
            )
        )
    return batches
