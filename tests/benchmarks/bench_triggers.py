"""Triggers: architectures that run at CERN, trained by the same code, beside what a search of the same space finds.

Rivals are spaces of one. Designs of our own are drawn from the space, trained briefly, and the best of them within
each rival's LUT trained to the end; what is best is told by validation rows, of anomaly scores by stand-ins for
anomalies (docs/tasks.md), never by the test rows, on which all of them are judged.  LUT and ns are predicted with
weights, of plain RTL: the adder graph of the whole network, its error or squares included.

HGQ2 is a rival of the autoencoder: the same architecture, trained by it on the same background, its error built on
the chip, and designs along its front chosen by the same stand-ins.  It runs in an environment of its own
(CODESIGN_HGQ2_PYTHON, see bench_designs.py); its LUT, and those of ours beside it, are synthesized by the same call of
Yosys.

    python tests/benchmarks/bench_triggers.py --output triggers.json   # --drawn, --epochs for less
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from codesign.export.rtl import export_rtl, solve_network
from codesign.hardware.device import load_device
from codesign.hardware.scorer import HardwareScorer
from codesign.ir import Candidate, QuantizedNetwork
from codesign.processes import worker_pool
from codesign.resources import data_root
from codesign.space import candidates_from_population
from codesign.space.templates import TEMPLATES
from codesign.synthesis.estimates import open_coefficients
from codesign.synthesis.open_flow import synthesize_verilog
from codesign.tasks import fit_scaling, load_task
from codesign.training import TaskArrays, TrainingOptions, judge_outputs, output_values
from codesign.training.train import even_chunk_size, split_rows, train_population

_WORKER = Path(__file__).with_name("_hgq2_anomaly.py")
_HGQ2_CLOCK_NS = 5.0
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
_STUDENT = {"depth": [2], "width": [28], "width_2": [15], "skip": ["none"]}


@dataclass(frozen=True, kw_only=True)
class Contest:
    """A task, the spaces that are searched, and its rivals: domains of one value each, of the first space.

    Attributes:
        name: of the contest.
        max_ns: latency that a design may have.
        hgq2: hidden widths of an autoencoder that HGQ2 trains.
    """

    name: str
    task: str
    options: dict[str, Any]
    spaces: tuple[str, ...]
    rivals: dict[str, dict[str, list[Any]]]
    device: str = "xc7vx690t"
    clocks_mhz: tuple[int, ...] = (200, 240)
    max_ns: float = 50.0
    hgq2: tuple[int, ...] | None = None


def _bits(weight: int, result: int, read: int) -> dict[str, list[int]]:
    return {"weight_bits": [weight], "result_bits": [result], "input_bits": [read]}


CONTESTS = (
    Contest(
        name="level1",
        task="level1",
        options={"heads": [{"name": "anomaly"}]},
        spaces=("autoencoder_l1",),
        rivals={
            "AXOL1TL v4, 57-28-15-8, w<6,3>": _ONE | _AXOL1TL | _bits(6, 8, 8),
            "57-16-3-16-57, w<8>": _ONE | _AE | _bits(8, 8, 8),
        },
        hgq2=(16, 3, 16),
    ),
    Contest(  # CICADA's way: one number, taught by an autoencoder; AUC compares with those above
        name="level1_student",
        task="level1",
        options={},
        spaces=("mlp_trigger_clocks",),
        rivals={"57-28-15-1, w<6>": _ONE | _STUDENT | _bits(6, 8, 8)},
    ),
    Contest(
        name="muons",
        task="muons",
        options={
            "heads": [
                {"name": "momentum", "metric": {"name": "resolution", "relative": True}},
                {"name": "displacement", "weight": 0.5, "metric": "resolution"},
            ]
        },
        spaces=("mlp_trigger_clocks",),
        rivals={"EMTF, 21-20-16-2, w<8>": _ONE | _EMTF | _bits(8, 8, 10)},
    ),
)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One network: its name, widths, validation merit, test score with error, and predicted costs.

    LUT of HGQ2's are synthesized, and of ours beside them `yosys_lut` is.
    """

    name: str
    widths: list[int]
    validation: float
    test: float
    error: float
    lut: float
    latency_ns: float
    yosys_lut: int | None = None


def candidates_of(
    contest: Contest,
    space: str,
    domains: dict[str, list[Any]],
    arrays: TaskArrays,
    n: int,
    seed: int,
) -> list[Candidate]:
    """Draw distinct candidates of one of the contest's spaces."""
    value = yaml.safe_load((data_root("constraints") / "spaces" / f"{space}.yaml").read_text())
    template = TEMPLATES.get(value["template"])(
        value["domains"] | domains,
        input_shape=arrays.x_train.shape[1:],
        n_outputs=arrays.n_outputs,
    )
    upper = np.array([len(gene.domain) - 1 for gene in template.genes])
    genomes = np.random.default_rng(seed).integers(0, upper + 1, (n, upper.size))
    genomes = np.unique(template.canonicalize(genomes), axis=0)
    return candidates_from_population(
        template.decode(genomes), part=load_device(contest.device).part
    )


def judged(
    contest: Contest,
    names: list[str],
    candidates: list[Candidate],
    arrays: TaskArrays,
    epochs: int,
    pool: Any,
    *,
    is_solved: bool = True,
    is_synthesized: bool = False,
) -> list[Judged]:
    """Train candidates and judge them; their adder graphs are solved, or only estimated; Yosys is asked, too."""
    result = train_population(
        candidates,
        arrays,
        TrainingOptions(epochs=epochs, chunk_size=even_chunk_size(len(candidates), at_most=64)),
        seed=1,
        executor=pool,
    )
    scorer = HardwareScorer(
        device=load_device(contest.device), coefficients=open_coefficients(None)[0]
    )
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
                yosys_lut=_yosys_lut(network) if is_synthesized else None,
            )
        )  # fmt: skip
    return found


def _yosys_lut(network: QuantizedNetwork) -> int:
    with tempfile.TemporaryDirectory() as folder:
        export_rtl(network, name="ours").plan.write(Path(folder) / "rtl")
        return synthesize_verilog(Path(folder) / "rtl" / "src", "ours").lut


def judged_hgq2(contest: Contest, arrays: TaskArrays, python: str, epochs: int) -> list[Judged]:
    """Train HGQ2's autoencoder on the background; judge and synthesise designs along its front."""
    assert contest.hgq2 is not None and arrays.events is not None
    rows, held_out = split_rows(len(arrays.y_train), TrainingOptions().validation_fraction)
    learned = rows[arrays.target.is_trained_on(arrays.y_train[rows])]
    designs = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(
            folder / "data.npz",
            x_train=arrays.x_train[learned],
            x_validation=arrays.x_train[held_out],
            y_validation=arrays.y_train[held_out],
            x_judge=arrays.x_test,
        )
        command = [python, str(_WORKER), str(folder / "data.npz"), name]
        command += ["--hidden", ",".join(map(str, contest.hgq2)), "--epochs", str(epochs)]
        command += ["--clock-ns", str(_HGQ2_CLOCK_NS)]
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        subprocess.run(command, check=True, env=environment | {"KERAS_BACKEND": "jax"})
        for design in json.loads((folder / "front.json").read_text()):
            sources = Path(design["folder"]) / "src"
            for wrapper in sources.rglob("*wrapper*"):
                wrapper.unlink()
            lut = synthesize_verilog(sources, "top").lut
            of_test = arrays.events.metric.judge(
                np.array(design["judged"]), arrays.events.labels, arrays.weights_test
            )
            weights = None if arrays.weights_train is None else arrays.weights_train[held_out]
            designs.append(
                Judged(
                    name=f"HGQ2, {design['ebops']:.0f} EBOPs",
                    widths=[*contest.hgq2, arrays.x_train.shape[1]],
                    validation=arrays.target.score.metric.score(
                        np.array(design["validation"]), arrays.y_train[held_out], weights
                    ),
                    test=of_test.score,
                    error=of_test.standard_error,
                    lut=lut,
                    latency_ns=design["latency_cycles"] * _HGQ2_CLOCK_NS,
                    yosys_lut=lut,
                )
            )
    return designs


def main() -> None:
    """Run the contests and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--drawn", type=int, default=192, help="candidates drawn per contest")
    parser.add_argument("--brief", type=int, default=10, help="epochs of a drawn candidate")
    parser.add_argument("--epochs", type=int, default=80, help="epochs of finalists and rivals")
    parser.add_argument("--finalists", type=int, default=8, help="finalists per rival")
    parser.add_argument(
        "--contest", action="append", choices=[c.name for c in CONTESTS], help="only these"
    )
    parser.add_argument("--hgq2-epochs", type=int, default=600, help="epochs of HGQ2's training")
    parser.add_argument("--output", help="JSON file to write")
    options = parser.parse_args()
    python = os.environ.get("CODESIGN_HGQ2_PYTHON")
    lines: dict[str, list[dict[str, Any]]] = {}
    for contest in CONTESTS:
        if options.contest and contest.name not in options.contest:
            continue
        data = load_task(contest.task, contest.options)
        arrays = TaskArrays.of(data, fit_scaling(data))
        with worker_pool() as pool:
            home = contest.spaces[0]
            fixed = [
                candidates_of(contest, home, domains, arrays, 1, 0)[0]
                for domains in contest.rivals.values()
            ]
            rivals = judged(contest, list(contest.rivals), fixed, arrays, options.epochs, pool)
            own = {"flow": ["rtl"], "clock_mhz": list(contest.clocks_mhz)}
            drawn, names = [], []
            for space in contest.spaces:
                n = options.drawn // len(contest.spaces)
                found = candidates_of(contest, space, own, arrays, n, 1)
                drawn += found
                names += [f"{space} {c.digest}" for c in found]
            brief = judged(contest, names, drawn, arrays, options.brief, pool, is_solved=False)
            theirs = (
                judged_hgq2(contest, arrays, python, options.hgq2_epochs)
                if python and contest.hgq2
                else []
            )
            table = [row for row in theirs]
            # what a user of HGQ2 would take: the best of its front by stand-ins, in time
            in_time = [row for row in theirs if row.latency_ns <= contest.max_ns] or theirs
            rivals += sorted(in_time, key=lambda row: -row.validation)[:1]
            for rival in rivals:
                allowed = [
                    i for i, d in enumerate(brief)
                    if d.lut <= rival.lut and d.latency_ns <= contest.max_ns
                ]  # fmt: skip
                best = sorted(allowed, key=lambda i: -brief[i].validation)[: options.finalists]
                chosen = [drawn[i] for i in best]
                called = [names[i] for i in best]
                is_hgq2 = rival.yosys_lut is not None
                finals = judged(
                    contest, called, chosen, arrays, options.epochs, pool, is_synthesized=is_hgq2
                )
                finals = [
                    f
                    for f in finals
                    if f.latency_ns <= contest.max_ns
                    and (f.lut if f.yosys_lut is None else f.yosys_lut) <= rival.lut
                ]
                table.append(rival)
                if finals:
                    table.append(max(finals, key=lambda f: f.validation))
        lines[contest.name] = [asdict(row) for row in table]
        print(f"{contest.name}: {type(data.target.score.metric).__name__} of the choice")
        for row in table:
            print(
                f"  {row.name:32} {'-'.join(map(str, row.widths)):20} validation {row.validation:.4f}"
                f"  test {row.test:.4f} ± {row.error:.4f}  {row.lut:,.0f} LUT  {row.latency_ns:.1f} ns"
                + ("" if row.yosys_lut is None else f"  {row.yosys_lut:,} LUT (Yosys)"),
                flush=True,
            )
    if options.output:
        with open(options.output, "w", encoding="utf-8") as stream:
            json.dump({"options": vars(options), "contests": lines}, stream, indent=1)


if __name__ == "__main__":
    main()
