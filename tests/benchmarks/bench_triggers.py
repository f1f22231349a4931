"""Triggers: architectures that run at CERN, trained by the same code, beside what a search of the same space finds.

Rivals are spaces of one. Designs of our own are drawn from the space, trained briefly, and the best of them within
each rival's LUT trained to the end; what is best is told by validation rows, of anomaly scores by stand-ins for
anomalies (docs/tasks.md), never by the test rows, on which all of them are judged.  LUT and ns are predicted with
weights, of plain RTL: the adder graph of the whole network, its error or squares included.

    python tests/benchmarks/bench_triggers.py --output triggers.json   # --drawn, --epochs for less
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import yaml

from codesign.export.rtl import solve_network
from codesign.hardware.device import load_device
from codesign.hardware.scorer import HardwareScorer
from codesign.ir import Candidate
from codesign.processes import worker_pool
from codesign.resources import data_root
from codesign.space import candidates_from_population
from codesign.space.templates import TEMPLATES
from codesign.synthesis.estimates import open_coefficients
from codesign.tasks import fit_scaling, load_task
from codesign.training import TaskArrays, TrainingOptions, judge_outputs, output_values
from codesign.training.train import even_chunk_size, train_population

DEVICE = "xc7vx690t"
_ONE: dict[str, list[Any]] = {
    "activation": ["relu"],
    "batch_norm": [1],
    "pruned_fraction": [0.0],
    "flow": ["rtl"],
    "strategy": ["latency"],
    "reuse_factor": [1],
    "clock_mhz": [200],
    "output_bits": [12],
}
_AXOL1TL = {
    "depth": [2],
    "width": [28],
    "width_2": [15],
    "latent": [8],
    "score": ["latent"],
    "error": ["square"],
}
_AE = {"depth": [1], "width": [16], "latent": [3], "score": ["reconstruction"], "error": ["square"]}
_EMTF = {"depth": [2], "width": [20], "width_2": [16], "skip": ["none"]}


@dataclass(frozen=True, kw_only=True)
class Contest:
    """A task, the space that is searched, and its rivals: domains of one value each."""

    task: str
    options: dict[str, Any]
    space: str
    rivals: dict[str, dict[str, list[Any]]]


def _bits(weight: int, result: int, read: int) -> dict[str, list[int]]:
    return {"weight_bits": [weight], "result_bits": [result], "input_bits": [read]}


CONTESTS = (
    Contest(
        task="level1",
        options={"heads": [{"name": "anomaly"}]},
        space="autoencoder_l1",
        rivals={
            "AXOL1TL v4, 57-28-15-8, w<6,3>": _ONE | _AXOL1TL | _bits(6, 8, 8),
            "57-16-3-16-57, w<8>": _ONE | _AE | _bits(8, 8, 8),
        },
    ),
    Contest(
        task="muons",
        options={
            "heads": [
                {"name": "momentum", "metric": {"name": "resolution", "relative": True}},
                {"name": "displacement", "weight": 0.5, "metric": "resolution"},
            ]
        },
        space="mlp_trigger_clocks",
        rivals={"EMTF, 21-20-16-2, w<8>": _ONE | _EMTF | _bits(8, 8, 10)},
    ),
)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One network: its name, widths, validation merit, test score with error, and predicted costs."""

    name: str
    widths: list[int]
    validation: float
    test: float
    error: float
    lut: float
    latency_ns: float


def candidates_of(
    contest: Contest, domains: dict[str, list[Any]], arrays: TaskArrays, n: int, seed: int
) -> list[Candidate]:
    """Draw distinct candidates of the contest's template."""
    value = yaml.safe_load(
        (data_root("constraints") / "spaces" / f"{contest.space}.yaml").read_text()
    )
    template = TEMPLATES.get(value["template"])(
        value["domains"] | domains,
        input_shape=arrays.x_train.shape[1:],
        n_outputs=arrays.n_outputs,
    )
    upper = np.array([len(gene.domain) - 1 for gene in template.genes])
    genomes = np.random.default_rng(seed).integers(0, upper + 1, (n, upper.size))
    genomes = np.unique(template.canonicalize(genomes), axis=0)
    return candidates_from_population(template.decode(genomes), part=load_device(DEVICE).part)


def judged(
    names: list[str],
    candidates: list[Candidate],
    arrays: TaskArrays,
    epochs: int,
    pool: Any,
    *,
    is_solved: bool = True,
) -> list[Judged]:
    """Train candidates and judge them; their adder graphs are solved, or only estimated."""
    result = train_population(
        candidates,
        arrays,
        TrainingOptions(epochs=epochs, chunk_size=even_chunk_size(len(candidates), at_most=64)),
        seed=1,
        executor=pool,
    )
    scorer = HardwareScorer(device=load_device(DEVICE), coefficients=open_coefficients(None)[0])
    solve = solve_network if is_solved else None
    costs = scorer.score_quantized(result.networks, solve=solve).metrics
    found = []
    for i, (name, network) in enumerate(zip(names, result.networks, strict=True)):
        of_test = judge_outputs(output_values(network, arrays.x_test), arrays)
        first = of_test.get("events") or of_test[arrays.target.score.name]
        found.append(
            Judged(
                name=name,
                widths=[int(n.parameters["units"]) for n in network.network.nodes if n.layer == "dense"],
                validation=float(result.validation_score[i]),
                test=first.score,
                error=first.standard_error,
                lut=float(costs["lut"].value[i]),
                latency_ns=float(costs["latency_ns"].value[i]),
            )
        )  # fmt: skip
    return found


def main() -> None:
    """Run the contests and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--drawn", type=int, default=192, help="candidates drawn per contest")
    parser.add_argument("--brief", type=int, default=10, help="epochs of a drawn candidate")
    parser.add_argument("--epochs", type=int, default=80, help="epochs of finalists and rivals")
    parser.add_argument("--finalists", type=int, default=8, help="finalists per rival")
    parser.add_argument("--max-ns", type=float, default=50.0, help="latency that a design may have")
    parser.add_argument("--task", help="one of the contests only")
    parser.add_argument("--output", help="JSON file to write")
    options = parser.parse_args()
    lines: dict[str, list[dict[str, Any]]] = {}
    for contest in CONTESTS:
        if options.task not in (None, contest.task):
            continue
        data = load_task(contest.task, contest.options)
        arrays = TaskArrays.of(data, fit_scaling(data))
        with worker_pool() as pool:
            fixed = [candidates_of(contest, d, arrays, 1, 0)[0] for d in contest.rivals.values()]
            rivals = judged(list(contest.rivals), fixed, arrays, options.epochs, pool)
            own = {"flow": ["rtl"], "clock_mhz": [200, 240]}
            drawn = candidates_of(contest, own, arrays, options.drawn, 1)
            names = [c.digest for c in drawn]
            brief = judged(names, drawn, arrays, options.brief, pool, is_solved=False)
            table = []
            for rival in rivals:
                allowed = [
                    i for i, d in enumerate(brief)
                    if d.lut <= rival.lut and d.latency_ns <= options.max_ns
                ]  # fmt: skip
                best = sorted(allowed, key=lambda i: -brief[i].validation)[: options.finalists]
                chosen = [drawn[i] for i in best]
                finals = judged([c.digest for c in chosen], chosen, arrays, options.epochs, pool)
                finals = [
                    f for f in finals if f.lut <= rival.lut and f.latency_ns <= options.max_ns
                ]
                table.append(rival)
                if finals:
                    table.append(max(finals, key=lambda f: f.validation))
        lines[contest.task] = [asdict(row) for row in table]
        print(f"{contest.task}: {type(data.target.score.metric).__name__} of the choice")
        for row in table:
            print(
                f"  {row.name:32} {'-'.join(map(str, row.widths)):20} validation {row.validation:.4f}"
                f"  test {row.test:.4f} ± {row.error:.4f}  {row.lut:,.0f} LUT  {row.latency_ns:.1f} ns",
                flush=True,
            )
    if options.output:
        with open(options.output, "w", encoding="utf-8") as stream:
            json.dump({"options": vars(options), "contests": lines}, stream, indent=1)


if __name__ == "__main__":
    main()
