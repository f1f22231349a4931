"""Hardware in the loop on loopback: throughput of the TCP twin and a soak without a mismatch.

    python tests/benchmarks/bench_device.py --output bench_device.json
    python tests/benchmarks/bench_device.py --rtl           # Verilated RTL too (builds for a minute)

The network is a 16-64-32-32-5 with random 6-bit weights, half of them zero: trained or not, a device
does the same work.  Figures are *emulated*: the twin runs the board's server with the emulator library.
"""

import argparse
import json
import platform
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from codesign.export.emulator import build_emulator
from codesign.export.rtl import export_rtl
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
from codesign.testing.twins import tcp_twin
from codesign.validate import DeviceContext, open_device
from codesign.validate.forms import reference_form
from codesign.validate.run import DeviceReport, validate_device
from tests.export.random_networks import write_emulator

ROOT = Path(__file__).resolve().parents[2]
WIDTHS = (16, 64, 32, 32, 5)


def jet_network(seed: int) -> QuantizedNetwork:
    """Return a 16-64-32-32-5 with random weights."""
    rng = np.random.default_rng(seed)
    weight, bias = FixedPoint(bits=6, integer_bits=1), FixedPoint(bits=10, integer_bits=3)
    nodes = [Node(name="x", layer="input", inputs=(), parameters={"width": 16, "result_bits": 8})]
    result = {"x": TensorType.of(FixedPoint(bits=8, integer_bits=4), (16,))}
    constants = {}
    for i, (n_in, n_out) in enumerate(zip(WIDTHS[:-1], WIDTHS[1:], strict=True)):
        dense, is_last = f"dense_{i}", n_out == WIDTHS[-1]
        words = rng.integers(weight.min_word, weight.max_word + 1, (n_in, n_out))
        words[rng.random((n_in, n_out)) < 0.5] = 0
        biases = rng.integers(bias.min_word, bias.max_word + 1, n_out)
        constants[dense] = {"weight": Words.of(words, weight), "bias": Words.of(biases, bias)}
        parameters = {"units": n_out, "weight_bits": 6}
        nodes.append(
            Node(name=dense, layer="dense", inputs=(nodes[-1].name,), parameters=parameters)
        )
        kind = "linear" if is_last else "relu"
        fmt = FixedPoint(bits=12 if is_last else 6, integer_bits=7, signed=is_last)
        result[f"{kind}_{i}"] = TensorType.of(fmt, (n_out,))
        nodes.append(
            Node(
                name=f"{kind}_{i}",
                layer=kind,
                inputs=(dense,),
                parameters={"result_bits": fmt.bits},
            )
        )
    network = Network(nodes=tuple(nodes))
    hardware = HardwareConfig(
        part="xcvu13p-flga2577-2-e",
        clock_period_ns=5.0,
        flow="rtl",
        io_type="io_parallel",
        strategy=dict.fromkeys(constants, "distributed_arithmetic"),
        reuse_factor=dict.fromkeys(constants, 1),
    )
    return QuantizedNetwork(
        candidate=Candidate(network=network, hardware=hardware),
        network=network,
        result=result,
        constants=constants,
    )


def summary(report: DeviceReport) -> dict[str, Any]:
    """Return what a table shows of one run."""
    return {
        "verdict": report.verdict,
        "n_events": report.n_events,
        "n_mismatched_words": report.n_mismatched_words,
        "events_per_s": report.events_per_s,
        "round_trip_us": report.round_trip_us,
        "timing": None if report.timing is None else vars(report.timing),
        "wall_s": report.wall_s,
    }


def main() -> None:
    """Run and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=1_000_000, help="events of the soak")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rtl", action="store_true", help="also Verilated RTL")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    network = jet_network(0)
    reference, context = reference_form(network), DeviceContext(network=network)
    no_words = np.empty((0, 16), dtype=np.int64)

    def run(url: str, n_events: int) -> DeviceReport:
        return validate_device(open_device(url, context), reference, no_words, n_events=n_events)

    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        write_emulator(network, folder / "emulator", name="jets")
        library = build_emulator(folder / "emulator")
        with tcp_twin(folder / "twin", library) as url:
            rates = {"tcp": [], "emulator": []}
            for _ in range(arguments.repeats):  # taken in turns: both see the same machine
                rates["tcp"].append(run(url, 200_000).events_per_s)
                rates["emulator"].append(run(f"emulator:{library}", 200_000).events_per_s)
            for name, values in rates.items():
                results[f"{name}_events_per_s"] = {
                    "median": statistics.median(values),
                    "lowest": min(values),
                    "highest": max(values),
                }
            results["tcp_over_emulator"] = statistics.median(
                tcp / direct for tcp, direct in zip(rates["tcp"], rates["emulator"], strict=True)
            )
            results["tcp_soak"] = summary(run(url, arguments.events))
        if arguments.rtl:
            export = export_rtl(network)
            export.plan.write(folder / "rtl")
            results["rtl"] = summary(run(f"rtl:{folder / 'rtl'}", 100_000))
            results["rtl_random_gaps"] = summary(run(f"rtl:{folder / 'rtl'}?gaps=7", 100_000))
            results["rtl_stated_latency_cycles"] = export.latency_cycles
    results["commit"] = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    results["machine"] = platform.processor() or platform.machine()
    text = json.dumps(results, indent=1)
    print(text)
    if arguments.output is not None:
        arguments.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
