"""The project's own calibration corpus: random small networks as distributed arithmetic, synthesised openly.

Design `i` of the corpus depends on `(seed, i)` only, so a run can stop and resume, and every weight
can be made again from its record.
"""

import importlib.metadata
import json
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import CodesignError, DesignError
from codesign.synthesis.adder_graph import ConstantMatrix, solve_adder_graph
from codesign.synthesis.open_flow import synthesize_verilog
from hw_models.families import DEFAULT_UNCERTAINTY, family_of
from hw_models.records import SCHEMA
from hw_models.weights import csd_digits

SOURCE = "codesign open-synthesis corpus"

#: Smallest and largest rough cost aimed at (LUT); bounds a run's time, about 6 s per thousand after 4 s of start.
COST_RANGE = (60.0, 4000.0)

#: Designs that synthesis shrinks below this are left out.
MIN_LUT = 20

#: Device family of the mapping (Yosys' xcup), as the hardware models call it.
FAMILY = "ultrascale_plus"


@dataclass(frozen=True, kw_only=True)
class CorpusLayer:
    """One dense layer of a corpus design.

    Attributes:
        weights_in_out: int[n_in, n_out], raw words.
        bias: int[n_out], raw words on the accumulator's grid.
        weight_bits: width of a weight, sign included.
        weight_fraction_bits: fractional bits of a weight.
        output_integer_bits: of the unsigned type after ReLU; None for the last layer, left exact.
        output_fraction_bits: likewise.
    """

    weights_in_out: NDArray[np.int64]
    bias: NDArray[np.int64]
    weight_bits: int
    weight_fraction_bits: int
    output_integer_bits: int | None
    output_fraction_bits: int | None


@dataclass(frozen=True, kw_only=True)
class CorpusDesign:
    """One network of the corpus.

    Attributes:
        identifier: unique name.
        input_bits: width of an input word, sign included; the inputs lie in [-1, 1).
        latency_cutoff: delay per pipeline stage in alkaid's units.
        layers: dense layers in order.
        distribution: law the weights were drawn from.
        pruning: "magnitude" or "random".
        sparsity: share of weights set to zero on purpose.
    """

    identifier: str
    input_bits: int
    latency_cutoff: float
    layers: tuple[CorpusLayer, ...]
    distribution: str
    pruning: str
    sparsity: float


def nominal_clock_ns(latency_cutoff: float) -> float:
    """Return the clock period for which the exporter would choose this pipeline.

    The inverse of `hw_models.families.adder_levels_per_cycle`; open synthesis itself has no clock.
    """
    family = family_of(FAMILY)
    usable_ns = latency_cutoff * family.rtl_level_ns + family.rtl_overhead_ns
    return round(usable_ns / (1 - DEFAULT_UNCERTAINTY["alkaid"]), 4)


def _draw_shape(rng: np.random.Generator) -> tuple[int, ...]:
    n_layers = int(rng.choice([1, 2, 3, 4], p=[0.4, 0.25, 0.2, 0.15]))
    widths = np.exp2(rng.uniform(2.0, 7.0, size=n_layers + 1))
    return tuple(int(width) for width in np.clip(np.rint(widths), 4, 128))


def _draw_weights(
    rng: np.random.Generator,
    shape: tuple[int, int],
    bits: int,
    distribution: str,
    pruning: str,
    sparsity: float,
) -> NDArray[np.int64]:
    if distribution == "uniform":
        raw = rng.uniform(-1.0, 1.0, size=shape)
    elif distribution == "laplace":
        raw = rng.laplace(0.0, 1.0, size=shape)
    else:
        raw = rng.normal(0.0, 1.0, size=shape)
    score = np.abs(raw) if pruning == "magnitude" else rng.random(shape)
    n_zero = int(round(sparsity * raw.size))
    if n_zero:
        raw.flat[np.argsort(score, axis=None, kind="stable")[:n_zero]] = 0.0
    top = 2 ** (bits - 1) - 1
    span = float(np.abs(raw).max()) or 1.0
    words: NDArray[np.int64] = np.clip(np.rint(raw / span * top), -top - 1, top).astype(np.int64)
    return words


def _draw_design(rng: np.random.Generator, identifier: str) -> CorpusDesign:
    shape = _draw_shape(rng)
    sparsity = float(rng.choice([0.0, rng.uniform(0.05, 0.9)], p=[0.2, 0.8]))
    distribution = str(rng.choice(["normal", "laplace", "uniform"], p=[0.6, 0.2, 0.2]))
    pruning = str(rng.choice(["magnitude", "random"]))
    common_bits = int(rng.integers(2, 11))
    input_bits = int(rng.integers(3, 13))
    latency_cutoff = float(rng.choice([2.0, 3.0, 4.0, 6.0, 8.0]))
    # Activations are scaled by what 256 random events reach, as a training run would see it.
    events = rng.integers(-(2 ** (input_bits - 1)), 2 ** (input_bits - 1), size=(256, shape[0]))
    values = events / 2.0 ** (input_bits - 1)
    fraction_in = input_bits - 1
    layers = []
    for i_layer, (n_in, n_out) in enumerate(zip(shape[:-1], shape[1:], strict=True)):
        bits = int(np.clip(common_bits + rng.integers(-1, 2), 2, 10))
        weights = _draw_weights(rng, (n_in, n_out), bits, distribution, pruning, sparsity)
        fraction = bits - 1
        grid = fraction + fraction_in
        bias = np.rint(rng.normal(0.0, 0.1, size=n_out) * 2.0**grid).astype(np.int64)
        values = values @ (weights / 2.0**fraction) + bias / 2.0**grid
        is_last = i_layer == len(shape) - 2
        out_integer = out_fraction = None
        if not is_last:
            reach = max(float(values.max()), 2.0**-4)
            out_integer = int(math.ceil(math.log2(reach)))
            out_fraction = min(int(rng.integers(3, 11)) - out_integer, grid)
            values = np.floor(np.maximum(values, 0.0) * 2.0**out_fraction) / 2.0**out_fraction
            values = np.mod(values, 2.0**out_integer)
            fraction_in = out_fraction
        layers.append(
            CorpusLayer(
                weights_in_out=weights,
                bias=bias,
                weight_bits=bits,
                weight_fraction_bits=fraction,
                output_integer_bits=out_integer,
                output_fraction_bits=out_fraction,
            )
        )
    return CorpusDesign(
        identifier=identifier,
        input_bits=input_bits,
        latency_cutoff=latency_cutoff,
        layers=tuple(layers),
        distribution=distribution,
        pruning=pruning,
        sparsity=sparsity,
    )


def _layer_input_words(design: CorpusDesign) -> list[tuple[int, int]]:
    """Return the lowest and highest raw input word of each layer."""
    ranges = [(-(2 ** (design.input_bits - 1)), 2 ** (design.input_bits - 1) - 1)]
    for layer in design.layers[:-1]:
        assert layer.output_integer_bits is not None and layer.output_fraction_bits is not None
        ranges.append((0, 2 ** (layer.output_integer_bits + layer.output_fraction_bits) - 1))
    return ranges


def _reached_input_words(design: CorpusDesign) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return the lowest and highest raw word that can reach each input of each layer.

    Worst cases channel by channel, as the adder graph's own interval arithmetic: a channel that never
    fills its type costs less, one that never fires costs nothing.
    """
    first_low, first_high = _layer_input_words(design)[0]
    n_in = design.layers[0].weights_in_out.shape[0]
    low, high = np.full(n_in, first_low), np.full(n_in, first_high)
    fraction_in = design.input_bits - 1
    ranges = [(low, high)]
    for layer in design.layers[:-1]:
        assert layer.output_integer_bits is not None and layer.output_fraction_bits is not None
        weights = layer.weights_in_out
        largest = np.maximum(weights, 0).T @ high + np.minimum(weights, 0).T @ low + layer.bias
        dropped = layer.weight_fraction_bits + fraction_in - layer.output_fraction_bits
        top = np.maximum(largest, 0) >> dropped
        full = 2 ** (layer.output_integer_bits + layer.output_fraction_bits) - 1
        # beyond the type the word wraps, and then takes any value
        low, high = np.zeros_like(top), np.where(top > full, full, top)
        fraction_in = layer.output_fraction_bits
        ranges.append((low, high))
    return ranges


def rough_cost(design: CorpusDesign) -> float:
    """Guess the LUTs of a design from its non-zero digits; used only to choose what to synthesise."""
    return sum(
        float(csd_digits(layer.weights_in_out).sum()) * (math.log2(high - low + 1) + 1) * 0.6
        for layer, (low, high) in zip(design.layers, _layer_input_words(design), strict=True)
    )


def corpus_design(seed: int, index: int) -> CorpusDesign:
    """Return design `index` of the corpus with `seed`.

    Costs are spread evenly in the logarithm over `COST_RANGE`: of 64 draws, the one nearest to the
    design's target cost (a low-discrepancy sequence) is taken.
    """
    rng = np.random.default_rng([seed, index])
    low, high = (math.log(end) for end in COST_RANGE)
    # Golden-ratio sequence: any prefix of the corpus covers the range evenly.
    target = low + (high - low) * ((index + 1) * 0.6180339887498949 % 1.0)
    identifier = f"open-corpus-{seed}-{index:04d}"
    draws = [_draw_design(rng, identifier) for _ in range(64)]
    return min(draws, key=lambda design: abs(math.log(rough_cost(design) + 1.0) - target))


def write_rtl(design: CorpusDesign, folder: Path) -> dict[str, Any]:
    """Trace a design, write its pipelined Verilog (top module `model`) to `folder`, return alkaid's facts.

    Returns:
        `adder_cost` (before and `_rtl` after the RTL passes), `register_bits`, `latency_cycles`,
        `delay` (unpipelined).
    """
    from alkaid.codegen.rtl.rtl_model import RTLModel
    from alkaid.trace import FVArrayInput, trace
    from alkaid.trace.ops import quantize, relu

    inputs = FVArrayInput((design.layers[0].weights_in_out.shape[0],))
    signal = quantize(inputs, 1, 0, design.input_bits - 1)
    fraction_in = design.input_bits - 1
    for layer in design.layers:
        scale = 2.0**-layer.weight_fraction_bits
        bias = layer.bias * 2.0 ** -(layer.weight_fraction_bits + fraction_in)
        signal = signal @ (layer.weights_in_out * scale) + bias
        if layer.output_integer_bits is not None and layer.output_fraction_bits is not None:
            signal = relu(
                signal,
                i=np.array(layer.output_integer_bits),
                f=np.array(layer.output_fraction_bits),
            )
            fraction_in = layer.output_fraction_bits
    network = trace(inputs, signal)
    model = RTLModel(
        network,
        folder,
        "model",
        flavor="verilog",
        latency_cutoff=design.latency_cutoff,
        clock_period=5.0,
    )
    model.write()
    rtl_cost = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))["cost"]
    return {
        "adder_cost": float(network.cost),
        "adder_cost_rtl": float(rtl_cost),
        "register_bits": int(model.reg_bits),
        "latency_cycles": int(model.latency),
        "delay": float(network.latency[1]),
    }


def _layer_record(
    i_layer: int,
    layer: CorpusLayer,
    words: tuple[NDArray[np.int64], NDArray[np.int64]],
    previous_type: str,
    input_bits: int,
) -> dict[str, Any]:
    n_in, n_out = layer.weights_in_out.shape
    exact = solve_adder_graph(
        ConstantMatrix(weights_in_out=layer.weights_in_out, input_low=words[0], input_high=words[1])
    )
    record: dict[str, Any] = {
        "name": f"dense_{i_layer}",
        "type": "Dense",
        "in_shape": [n_in],
        "out_shape": [n_out],
        "units": n_out,
        "activation": "linear" if layer.output_integer_bits is None else "relu",
        "strategy": "distributed_arithmetic",
        "reuse_factor": 1,
        "n_zeros": int((layer.weights_in_out == 0).sum()),
        "input_precision": previous_type,
        "input_bits": input_bits,
        "weight_precision": f"ap_fixed<{layer.weight_bits},{layer.weight_bits - layer.weight_fraction_bits}>",
        "csd_digits": int(csd_digits(layer.weights_in_out).sum()),
        "max_column_csd_digits": int(csd_digits(layer.weights_in_out).sum(axis=0).max()),
        "adder_cost": exact.adder_cost,
        "n_adders": exact.n_adders,
        "delay": exact.delay,
    }
    if layer.output_integer_bits is not None and layer.output_fraction_bits is not None:
        bits = layer.output_integer_bits + layer.output_fraction_bits
        record["result_precision"] = f"ap_ufixed<{bits},{layer.output_integer_bits}>"
    return record


def layer_records(design: CorpusDesign) -> list[dict[str, Any]]:
    """Describe the layers of a design in the schema of synthesis records, with exact adder costs."""
    records, kind, bits = [], f"ap_fixed<{design.input_bits},1>", design.input_bits
    for i_layer, (layer, words) in enumerate(
        zip(design.layers, _reached_input_words(design), strict=True)
    ):
        record = _layer_record(i_layer, layer, words, kind, bits)
        kind = record.get("result_precision", "")
        if layer.output_integer_bits is not None and layer.output_fraction_bits is not None:
            bits = layer.output_integer_bits + layer.output_fraction_bits
        records.append(record)
    return records


def synthesize_design(
    design: CorpusDesign, *, seed: int, index: int, timeout_s: float
) -> dict[str, Any]:
    """Trace and synthesise one design; return its record.

    Raises:
        ToolError: Yosys failed or ran out of time.
        DesignError: hardly any logic is left.
    """
    with tempfile.TemporaryDirectory(prefix="codesign_corpus_") as scratch:
        facts = write_rtl(design, Path(scratch) / "rtl")
        result = synthesize_verilog(Path(scratch) / "rtl" / "src", "model", timeout_s=timeout_s)
    if result.lut < MIN_LUT:
        raise DesignError(
            f"{design.identifier}: {result.lut} LUT left, its outputs are nearly constant; it teaches nothing"
        )
    return {
        "schema": SCHEMA,
        "id": design.identifier,
        "source": SOURCE,
        "seed": seed,
        "index": index,
        "tool": "yosys",
        "tool_version": result.tool_version,
        "alkaid_version": importlib.metadata.version("alkaid"),
        "part": FAMILY,
        "part_is_inferred": True,
        "clock_period_ns": nominal_clock_ns(design.latency_cutoff),
        "latency_cutoff": design.latency_cutoff,
        "backend": "alkaid",
        "strategy": "distributed_arithmetic",
        "io_type": "io_parallel",
        "family": "MLP",
        "flags": [],
        "weight_distribution": design.distribution,
        "pruning": design.pruning,
        "sparsity": round(design.sparsity, 4),
        "layers": layer_records(design),
        "adder_cost": facts["adder_cost"],
        "adder_cost_rtl": facts["adder_cost_rtl"],
        "register_bits": facts["register_bits"],
        "delay": facts["delay"],
        "vsynth": {
            "latency_cycles_min": facts["latency_cycles"],
            "latency_cycles_max": facts["latency_cycles"],
            "interval_cycles_min": 1,
            "interval_cycles_max": 1,
            "lut": result.lut,
            "lut_as_memory": result.lut_as_memory,
            "ff": result.ff,
            "dsp": result.dsp,
            "bram_18k": result.bram_18k,
            "uram": result.uram,
            "carry4": result.carry4,
            "packed_logic_cells": result.packed_logic_cells,
        },
        "wall_s": round(result.wall_s, 2),
        "cpu_s": round(result.cpu_s, 2),
    }


def done_indices(path: Path, *, seed: int) -> set[int]:
    """Return the designs of `seed` that the record file at `path` already holds."""
    if not path.is_file():
        return set()
    done = set()
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip():
            record = json.loads(line)
            if record.get("seed") == seed:
                done.add(int(record["index"]))
    return done


def generate_corpus(
    path: Path,
    *,
    n_designs: int,
    seed: int,
    timeout_s: float,
    report: Callable[[str], None],
) -> int:
    """Synthesise designs 0..n_designs-1 that `path` does not hold yet, appending one line each.

    Args:
        path: JSONL file of records; made when absent.
        n_designs: how many designs the corpus shall have.
        seed: of the corpus.
        timeout_s: per design.
        report: told one line per design.

    Returns:
        How many records were added.  A design that fails is reported and left out.
    """
    done = done_indices(path, seed=seed)
    n_added = 0
    for index in sorted(set(range(n_designs)) - done):
        try:
            record = synthesize_design(
                corpus_design(seed, index), seed=seed, index=index, timeout_s=timeout_s
            )
        except CodesignError as error:
            report(f"{index}: {error}")
            continue
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, separators=(",", ":")) + "\n")
        n_added += 1
        report(
            f"{index}: {record['vsynth']['lut']} LUT, adder cost {record['adder_cost_rtl']:.0f}, "
            f"{record['cpu_s']:.1f} s"
        )
    return n_added
