"""Particles: what the spaces of this project find on constituents, beside SC4's tagger and JEDI-linear, on the same jets.

Rivals are (a) JEDI-linear's architecture trained by HGQ2 with a width per element and traced by alkaid, its front chosen
on rows held out, and (b) SC4's architecture (per-particle 10-10, mean, 32-16-8) at its published w<9,3>, trained by this
project's code.  Ours are networks of the spaces deepsets_learned and interaction_learned with learned widths, at every
budget trained several times, of which the one of least training error is kept.  All learn from the same training rows
and answer within 100 ns at 360 MHz: rivals an event every clock, ours an event every clock or within 25 ns, where
particles take turns.  LUT: solved adder graphs, with all that lies between turns; judged on rows that neither side has
seen: the test rows, or those from 20,000 on of `--judge FILE.npz` (array P, y), which choose nothing.

HGQ2 has an environment of its own, as in bench_designs.py: CODESIGN_HGQ2_PYTHON; without it that rival is left out.

    python -m tests.benchmarks.bench_families --particles 8 --judge constituents.npz --output families_8.json

In minutes instead of an hour, on one core: one architecture, one training, short (a few minutes each):

    python -m tests.benchmarks.bench_families --particles 8 --without ours jedi --epochs 40
    python -m tests.benchmarks.bench_families --particles 8 --without sc4 jedi --only "10-10, mean, 32-16-8" \
        --epochs 40 --seeds 1 --polish-values 2e8 --budgets 1:16000 8:8000
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from codesign.export.rtl import solve_network
from codesign.ir import Candidate, QuantizedNetwork
from codesign.layers import run_words
from codesign.processes import worker_pool
from codesign.space import candidates_from_population
from codesign.space.templates import TEMPLATES
from codesign.tasks import fit_scaling, load_task
from codesign.training import TaskArrays, TrainingOptions
from codesign.training.judge import merit_of
from codesign.training.precision import PrecisionOptions, batch_size_for
from codesign.training.train import split_rows, train_population
from tests.benchmarks.bench_designs import _hgq2, _spread, learned

PART, CLOCK_MHZ, MAX_NS = "xcvu13p-flga2577-2-e", 360, 100.0
_HARDWARE: Mapping[str, list[Any]] = {
    "features": [3],
    "activation": ["relu"],
    "flow": ["rtl"],
    "strategy": ["distributed_arithmetic"],
    "reuse_factor": [1],
    "clock_mhz": [CLOCK_MHZ],
}
_SC4 = {
    "particle_depth": [2],
    "particle_width": [10],
    "pool": ["mean_pool"],
    "depth": [3],
    "width": [8],
    "width_set_1": [32],
    "width_set_2": [16],
}
#: Template and domains of each architecture of ours: the first is SC4's.
OURS: Mapping[str, tuple[str, Mapping[str, list[Any]]]] = {
    "10-10, mean, 32-16-8": ("deepsets", _SC4),
    "16-16, sum, 24-16": (
        "deepsets",
        {"particle_depth": [2], "particle_width": [16], "pool": ["sum_pool"], "depth": [2], "width": [16], "width_set_1": [24]},
    ),
    "16, round of 16, sum, 24-16": (
        "interaction",
        {
            "particle_depth": [1], "particle_width": [16], "rounds": [1], "round_width": [16], "gather": ["mean_pool"],
            "pool": ["sum_pool"], "depth": [2], "width": [16], "width_set_1": [24],
        },
    ),
}  # fmt: skip
#: Budgets of LUTs at each interval in cycles.
BUDGETS: Mapping[int, tuple[int, ...]] = {1: (8000, 16000), 8: (2000, 4000, 8000, 14000)}


@dataclass(frozen=True, kw_only=True)
class Row:
    """A design of either side."""

    name: str
    interval_cycles: int
    judged: float
    lut: float
    latency_ns: float


def candidate(
    template: str, domains: Mapping[str, list[Any]], n: int, budget: float | None, interval: int
) -> Candidate:
    """Return the one candidate of a space of one."""
    given = {**_HARDWARE, **domains, "particles": [n], "interval_cycles": [interval]}
    if budget is not None:
        given["lut_budget"] = [budget]
    made = TEMPLATES.get(template)(given, input_shape=(n, 3), n_outputs=5)
    population = made.decode(np.zeros((1, len(made.genes)), dtype=np.int64))
    return candidates_from_population(population, part=PART)[0]


def load(n: int, judge: Path | None) -> tuple[TaskArrays, tuple[np.ndarray, np.ndarray]]:
    """Return training rows, and those that judge; standardised."""
    options = {"n_particles": n, "shape": "particles", "heads": [{"name": "class"}]}
    data = load_task("jet_particles", options)
    scaling = fit_scaling(data)
    task = TaskArrays.of(data, scaling)
    if judge is None:
        return task, (task.x_test, task.y_test)
    steps = np.array([0.5, 1 / 256, 1 / 256], dtype=np.float32)
    with np.load(judge, allow_pickle=False) as archive:
        x, y = archive["P"][20_000:, :n, :3].astype(np.float32), archive["y"][20_000:]
    return task, (scaling.apply(np.rint(x / steps) * steps), y.astype(np.int64))


def row(network: QuantizedNetwork, name: str, judge: tuple[np.ndarray, np.ndarray]) -> Row | None:
    """Price and judge a trained network; None where training ended in constant outputs, which is no design."""
    solved = solve_network(network)
    if solved is None:
        return None
    words = network.input_words(judge[0])
    answers = np.concatenate(
        [run_words(network, w).argmax(axis=1) for w in np.array_split(words, 32)]
    )
    hardware = network.candidate.hardware
    return Row(
        name=name,
        interval_cycles=hardware.interval_cycles,
        judged=float((answers == judge[1]).mean()),
        lut=solved.adder_cost,
        latency_ns=solved.latency_cycles * hardware.clock_period_ns,
    )


def sc4(n: int, task: TaskArrays, judge: Any, epochs: int, pool: Any) -> Row | None:
    """Train SC4's tagger at its published precision."""
    widths = {"weight_bits": [9], "result_bits": [9], "input_bits": [12], "pool_bits": [9]}
    more = {"output_bits": [12], "batch_norm": [1], "pruned_fraction": [0.0]}
    (network,) = train_population(
        [candidate("deepsets", {**_SC4, **widths, **more}, n, None, 1)],
        task,
        TrainingOptions(epochs=epochs, validation_fraction=0.125),
        seed=1,
        executor=pool,
    ).networks
    return row(network, "SC4, w<9,3>", judge)


def ours(
    n: int,
    task: TaskArrays,
    judge: Any,
    *,
    names: Sequence[str],
    budgets: Mapping[int, Sequence[int]],
    epochs: int,
    seeds: int,
    polish_values: float,
    pool: Any,
) -> list[Row]:
    """Train architectures at every budget, and keep the training of least error on the rows trained on."""
    options = PrecisionOptions(
        epochs=epochs, batch_size=batch_size_for(len(task.y_train)), validation_fraction=0.0
    )
    wanted = [
        (name, candidate(*OURS[name], n, budget, interval), float(budget))
        for name in names
        for interval, several in budgets.items()
        for budget in several
    ]
    candidates, limits = [c for _, c, _ in wanted], np.array([b for _, _, b in wanted])
    groups, _ = learned(pool, candidates, limits, task, options, seeds, polish_values)
    kept = [
        max(group, key=lambda q: merit_of(q, task, task.x_train, task.y_train, weights=None))
        for group in groups
    ]
    priced = _spread(
        pool, row, [(q, name, judge) for q, (name, _, _) in zip(kept, wanted, strict=True)]
    )
    return [found for found in priced if found is not None and found.latency_ns <= MAX_NS]


def jedi(n: int, task: TaskArrays, judge: Any, *, epochs: int, python: str, pool: Any) -> list[Row]:
    """Train JEDI-linear by HGQ2."""
    rows, held_out = split_rows(len(task.y_train), 0.15)
    few = slice(0, 20_000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(
            folder / "data.npz",
            x_train=task.x_train[rows],
            y_train=task.y_train[rows],
            x_validation=task.x_train[held_out],
            y_validation=task.y_train[held_out],
            x_judge=judge[0][few],
            y_judge=judge[1][few],
        )
        more = ("--hidden", "64", "--designs", "4", "--clock-ns", str(1e3 / CLOCK_MHZ))
        report = _spread(
            pool, _hgq2, [(python, folder, epochs, batch_size_for(len(rows)), 0, more)]
        )[0]
    return [
        Row(
            name="JEDI-linear, HGQ2",
            interval_cycles=1,
            judged=design["judge_score"],
            lut=design["adder_cost"],
            latency_ns=design["latency_cycles"] * 1e3 / CLOCK_MHZ,
        )
        for design in report["designs"]
    ]


def front(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that no other beats in judged score and LUT, by LUT."""
    kept: list[Row] = []
    for one in sorted(rows, key=lambda r: (r.lut, -r.judged)):
        if not kept or one.judged > kept[-1].judged:
            kept.append(one)
    return kept


def compared(rivals: Sequence[Row], own: Sequence[Row]) -> list[str]:
    """Say of every rival what the cheapest of ours costs that is at least as accurate."""
    lines = []
    for rival in rivals:
        as_good = [r for r in own if r.judged >= rival.judged]
        if not as_good:
            best = max(own, key=lambda r: r.judged)
            lines.append(
                f"{rival.name} {rival.judged:.4f}: not reached; best {best.judged:.4f} at"
                f" {best.lut / rival.lut:.2f} times its {rival.lut:,.0f} LUT"
            )
            continue
        best = min(as_good, key=lambda r: r.lut)
        lines.append(
            f"{rival.name} {rival.judged:.4f}, {rival.lut:,.0f} LUT: {best.name}, {best.judged:.4f},"
            f" {best.lut:,.0f} LUT: {best.lut / rival.lut:.2f} times"
        )
    return lines


def _budgets(text: str) -> tuple[int, tuple[int, ...]]:
    """Read "8:2000,4000": an interval in cycles, and LUTs."""
    cycles, _, lut = text.partition(":")
    return int(cycles), tuple(int(x) for x in lut.split(","))


def main() -> None:
    """Run the contest and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--particles", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--judge", type=Path, help="npz of P and y; rows from 20,000 on judge")
    parser.add_argument("--epochs", type=int, default=120, help="of ours, and of SC4's")
    parser.add_argument("--seeds", type=int, default=2, help="trainings of each of ours")
    parser.add_argument("--polish-values", type=float, default=4e9, help="of each of ours")
    parser.add_argument("--hgq2-epochs", type=int, default=300)
    parser.add_argument("--without", nargs="+", choices=("sc4", "jedi", "ours"), default=[])
    parser.add_argument("--only", nargs="+", choices=OURS, default=list(OURS), help="of ours")
    parser.add_argument(
        "--budgets", nargs="+", type=_budgets, default=list(BUDGETS.items()), metavar="CYCLES:LUT,LUT",
        help="LUTs that ours may take at each interval",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    python, found = os.environ.get("CODESIGN_HGQ2_PYTHON"), {}
    for n in arguments.particles:
        started = time.monotonic()
        task, judge = load(n, arguments.judge)
        rivals: list[Row] = []
        own: list[Row] = []
        with worker_pool() as pool:
            if "sc4" not in arguments.without:
                trained = sc4(n, task, judge, arguments.epochs, pool)
                rivals += [] if trained is None else [trained]
            if "ours" not in arguments.without:
                own = ours(
                    n, task, judge, names=arguments.only, budgets=dict(arguments.budgets), epochs=arguments.epochs, seeds=arguments.seeds,
                    polish_values=arguments.polish_values, pool=pool,
                )  # fmt: skip
            if python and "jedi" not in arguments.without:
                rivals += jedi(
                    n, task, judge, epochs=arguments.hgq2_epochs, python=python, pool=pool
                )
        print(f"{n} particles x 3, judged on {len(judge[1]):,} rows, {time.monotonic() - started:.0f} s")  # fmt: skip
        for one in (*rivals, *sorted(own, key=lambda r: r.lut)):
            print(f"  {one.name:28} every {one.interval_cycles}  {one.judged:.4f}  {one.lut:8,.0f} LUT  {one.latency_ns:5.1f} ns")  # fmt: skip
        if own:
            print("\n".join(compared(rivals, front(own))), flush=True)
        found[str(n)] = {"rivals": [asdict(r) for r in rivals], "ours": [asdict(r) for r in own]}
        if arguments.output:
            arguments.output.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    sys.exit(main())
