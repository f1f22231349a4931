"""Benchmark: hardware scores of whole populations against the same scorer called per candidate, and of other templates.

    python tests/benchmarks/bench_scorer.py [--output bench_scorer.json]

Prints and stores pairs per CPU second on one core, median and spread of five runs, and their ratio.
"""

import argparse
import json
import platform
import time
from pathlib import Path

import numpy as np

from codesign.hardware.device import load_device
from codesign.hardware.scorer import HardwareScorer
from codesign.space import load_space
from codesign.study import library_versions

N_RUNS = 5
#: Spaces of other templates, and the shape of its inputs.
SPACES = {
    "deepsets_l1": (16, 3),
    "interaction_l1": (16, 3),
    "mixer_l1": (16, 3),
    "attention_l1": (16, 3),
    "conv_l1": (16, 3),
    "cell_l1": (16,),
    "tables_l1": (16,),
}


def rates(work, n: int) -> list[float]:
    """Return pairs per CPU second of N_RUNS calls of `work`, which handles n pairs."""
    work()
    found = []
    for _ in range(N_RUNS):
        start = time.process_time()
        work()
        found.append(n / (time.process_time() - start))
    return sorted(found)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=Path, default=Path("bench_scorer.json"))
    output = parser.parse_args().output
    space = load_space("mlp_l1", n_inputs=16, n_outputs=5)
    scorer = HardwareScorer(device=load_device("xcvu13p"))
    genomes = space.sample(5000, np.random.default_rng(0))
    population = space.decode(genomes)
    alone = [space.decode(genomes[i : i + 1]) for i in range(100)]

    def loop() -> None:
        for one in alone:
            scorer.score(one)

    results = {
        "score_population": rates(lambda: scorer.score(population), len(genomes)),
        "decode_and_score_population": rates(
            lambda: scorer.score(space.decode(genomes)), len(genomes)
        ),
        "score_per_candidate": rates(loop, len(alone)),
    }
    for name, shape in SPACES.items():
        of = load_space(name, n_inputs=shape, n_outputs=5)
        drawn = of.sample(4096, np.random.default_rng(0))
        decoded = of.decode(drawn)
        results |= {
            f"{name}: score": rates(lambda p=decoded: scorer.score(p), len(drawn)),
            f"{name}: decode and score": rates(
                lambda of=of, drawn=drawn: scorer.score(of.decode(drawn)), len(drawn)
            ),
        }
    medians = {name: values[N_RUNS // 2] for name, values in results.items()}
    report = {
        "pairs_per_cpu_second": results,
        "ratio_population_to_loop": medians["score_population"] / medians["score_per_candidate"],
        "machine": platform.processor() or platform.machine(),
        "versions": library_versions(),
    }
    output.write_text(json.dumps(report, indent=1))
    for name, value in medians.items():
        print(f"{name:30} {value:12,.0f} pairs per CPU second")
    print(f"{'population against loop':30} {report['ratio_population_to_loop']:12,.0f} times")


if __name__ == "__main__":
    main()
