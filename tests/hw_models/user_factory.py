"""Simulated users: random networks, priced by laws of their own that are not codesign's.

Each law is a few lines from counts of the network (weights, words, sizes) with its own constants, powers and
noise.  It shares no code with the cost laws: what a calibration makes of it is a test of the calibration.
"""

from dataclasses import dataclass

import numpy as np

from hw_models.records import Record, read_record
from hw_models.weights import layer_counts


@dataclass(frozen=True, kw_only=True)
class UserLaw:
    """How one user's flow prices a network.

    Attributes:
        tool, tool_version, part, clock_period_ns: of all of the user's reports.
        lut_per_bit, lut_power: LUT per non-zero weight and bit of the word, to a power.
        lut_per_lane: LUT per output of a layer.
        ff_per_bit: flip-flops per bit of each layer's output, per stage.
        dsp_from_bits: weight and input bits together from which a product takes a DSP.
        dsp_share: share of those products that really do.
        cycles_per_layer, cycles_per_level: latency of a layer with log2(n_in) adder levels.
        noise: standard deviation (log) of LUT and FF from design to design.
    """

    tool: str = "Vitis HLS"
    tool_version: str = "2023.2"
    part: str = "xcvu13p-flga2577-2-e"
    clock_period_ns: float = 5.0
    lut_per_bit: float = 1.5
    lut_power: float = 1.0
    lut_per_lane: float = 20.0
    ff_per_bit: float = 1.0
    dsp_from_bits: float = 24.0
    dsp_share: float = 1.0
    cycles_per_layer: float = 1.0
    cycles_per_level: float = 0.25
    noise: float = 0.08


USERS = {
    "frugal": UserLaw(lut_per_bit=0.7, ff_per_bit=0.6, dsp_share=0.8),
    "lavish": UserLaw(
        part="xc7z020clg400-1", clock_period_ns=10.0, lut_per_bit=2.6, lut_per_lane=60.0, ff_per_bit=2.5,
        cycles_per_layer=2.0,
    ),
    "old tool": UserLaw(
        tool="Vivado HLS", tool_version="2019.2", part="xcku115-flvb2104-2-i", lut_per_bit=1.1, lut_power=1.1,
        ff_per_bit=1.8, dsp_from_bits=22.0, dsp_share=0.95,
    ),
    "noisy": UserLaw(lut_per_bit=1.9, ff_per_bit=1.5, noise=0.3, cycles_per_level=0.6),
    "DSP lover": UserLaw(
        tool_version="2024.1", part="xczu7ev-ffvc1156-2-e", dsp_from_bits=18.0, lut_per_bit=1.2, ff_per_bit=0.9,
    ),
}  # fmt: skip


def user_records(law: UserLaw, n: int, *, seed: int, user: str = "user") -> list[Record]:
    """Draw `n` dense networks with known weights and price them by `law`, all at reuse factor 1."""
    rng = np.random.default_rng(seed)
    return [_record(law, rng, f"{user}-{seed}-{i}") for i in range(n)]


def _record(law: UserLaw, rng: np.random.Generator, name: str) -> Record:
    widths = rng.choice([4, 5, 8, 10, 16, 20, 24, 32], size=rng.integers(3, 6))
    weight_bits, input_bits = int(rng.choice([4, 6, 8, 10, 12])), int(rng.choice([8, 12, 16]))
    density = float(rng.uniform(0.4, 1.0))
    lut, ff, dsp, cycles, layers = 0.0, 0.0, 0.0, 0.0, []
    for k, (n_in, n_out) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        words = np.rint(rng.normal(0, 2.0 ** (weight_bits - 3), (n_in, n_out))).astype(np.int64)
        words *= rng.random(words.shape) < density
        counts = layer_counts(words, input_bits)
        accumulator = input_bits + weight_bits
        layers += _layers(k, int(n_in), int(n_out), weight_bits, input_bits, accumulator, counts)
        nonzero = counts["n_weights"] - counts["n_zeros"]
        products = counts["n_multipliers"] + counts["n_lut_multipliers"]
        in_dsp = law.dsp_share * products * (weight_bits + input_bits >= law.dsp_from_bits)
        lut += (law.lut_per_bit * weight_bits) ** law.lut_power * max(
            nonzero - in_dsp, 0
        ) + law.lut_per_lane * n_out
        lut += 0.5 * accumulator * nonzero
        stages = law.cycles_per_layer + np.floor(law.cycles_per_level * np.log2(n_in))
        ff += law.ff_per_bit * n_out * accumulator * max(stages, 1.0)
        dsp, cycles = dsp + in_dsp, cycles + stages
    lut, ff = (value * float(np.exp(rng.normal(0, law.noise))) for value in (lut, ff))
    document = {
        "schema": 1, "id": name, "source": name, "tool": law.tool, "tool_version": law.tool_version,
        "part": law.part, "clock_period_ns": law.clock_period_ns, "strategy": "latency", "io_type": "io_parallel",
        "model_precision": "ap_fixed<16,6>", "family": "MLP", "layers": layers,
        "csynth": {
            "lut": round(lut), "ff": round(ff), "dsp": round(dsp), "bram_18k": 0,
            "latency_cycles_min": round(cycles), "latency_cycles_max": round(cycles),
            "interval_cycles_min": 1, "interval_cycles_max": 1,
        },
    }  # fmt: skip
    return read_record(document)


def _layers(k, n_in, n_out, weight_bits, input_bits, accumulator, counts):
    word = f"ap_fixed<{input_bits},{input_bits // 2}>"
    dense = {
        "name": f"dense_{k}", "type": "Dense", "in_shape": [n_in], "out_shape": [n_out], "units": n_out,
        "reuse_factor": 1, "strategy": "latency", "weight_precision": f"ap_fixed<{weight_bits},2>",
        "accum_precision": f"ap_fixed<{accumulator},{accumulator // 2}>", "input_precision": word,
        "result_precision": word, **counts,
    }  # fmt: skip
    relu = {
        "name": f"relu_{k}", "type": "Activation", "activation": "relu", "in_shape": [n_out], "out_shape": [n_out],
        "input_precision": word, "result_precision": word,
    }  # fmt: skip
    return [dense, relu]
