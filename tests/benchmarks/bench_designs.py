"""Designs: LUTs at equal score, ours with learned widths against HGQ2's, on the same cores in one run.

On three data sets: the bundled jets, and the handwritten digits and the breast cancers that scikit-learn ships.
Both sides learn from the same training rows and are traced by the same alkaid and synthesised by the same
call of Yosys.  HGQ2 holds out 15 % of them, by which it chooses checkpoints of three trainings; ours trains
three networks per budget on all of them and keeps that of least training error.  Judged on rows that neither
has seen: the test rows, of jets instead the rows from 20,000 on of `--judge FILE.npz` (arrays X and y, unscaled).
Judged scores choose nothing; they are smoothed by a monotone regression over log LUT before LUTs are read off
at equal scores.

HGQ2 runs in an environment of its own: CODESIGN_HGQ2_PYTHON names its Python (HGQ2 0.2.0, keras 3.15.1,
jax, alkaid 0.8.2; `make bench-designs` makes one); without it that side is left out, and the table says so.

    python tests/benchmarks/bench_designs.py --judge jets.npz --write docs/precision.md
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from scipy.optimize import isotonic_regression
from sklearn import datasets

from codesign.export.rtl import export_rtl, solve_network, trace_network
from codesign.ir import Candidate, HardwareConfig, Network, Node, QuantizedNetwork
from codesign.layers import run_words
from codesign.processes import worker_pool
from codesign.synthesis.open_flow import synthesize_verilog
from codesign.tasks import fit_scaling, load_task
from codesign.training import TaskArrays
from codesign.training.judge import merit_of
from codesign.training.polish import apart, learn_with_teacher, polished
from codesign.training.precision import PrecisionOptions, batch_size_for
from codesign.training.train import split_rows

#: Per data set: our budgets, and the scores at which LUTs are compared (None: five along HGQ2's front).
DATA: Mapping[str, tuple[tuple[int, ...], tuple[float, ...] | None]] = {
    "jets": (
        (450, 600, 750, 950, 1200, 1550, 2100, 2900, 4000),
        (0.715, 0.72, 0.7225, 0.725, 0.7275, 0.73),
    ),
    "digits": ((400, 600, 900, 1300, 1900, 2800, 4000), None),
    "breast_cancer": ((30, 50, 80, 130, 200, 320, 500), None),
}
#: Where `--write` puts its tables.
_BEGIN, _END = "<!-- bench-designs: begin -->", "<!-- bench-designs: end -->"
#: Clock periods of which each design takes the one that makes it fastest, ns.
PERIODS_NS = (1.5, 2.0, 2.5, 3.0, 4.0)
PART = "xcvu13p-flga2577-2-e"
_WORKER = Path(__file__).with_name("_hgq2_worker.py")

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Design:
    """A design of either side."""

    judged: float
    adder_cost: float
    lut: int
    ff: int
    latency_ns: float


def network(hidden: Sequence[int], n_inputs: int, n_classes: int, period_ns: float) -> Candidate:
    """Return a plain chain; learned widths do not look at its bits."""
    nodes = [
        Node(name="x", layer="input", inputs=(), parameters={"width": n_inputs, "result_bits": 8})
    ]
    for i, units in enumerate([*hidden, n_classes]):
        last = nodes[-1].name
        sizes = {"units": units, "weight_bits": 6}
        nodes.append(Node(name=f"d{i}", layer="dense", inputs=(last,), parameters=sizes))
        layer = "relu" if i < len(hidden) else "linear"
        bits = {"result_bits": 8 if i < len(hidden) else 16}
        nodes.append(Node(name=f"a{i}", layer=layer, inputs=(f"d{i}",), parameters=bits))
    dense = [n.name for n in nodes if n.layer == "dense"]
    hardware = HardwareConfig(
        part=PART,
        clock_period_ns=period_ns,
        flow="rtl",
        io_type="io_parallel",
        strategy=dict.fromkeys(dense, "distributed_arithmetic"),
        reuse_factor=dict.fromkeys(dense, 1),
    )
    return Candidate(network=Network(nodes=tuple(nodes)), hardware=hardware)


def hidden_of(budget: float) -> tuple[int, int]:
    if budget < 400:
        return (16, 8)
    return (32, 16) if budget < 900 else (32, 32) if budget < 2500 else (48, 32)


def load(name: str, judge: Path | None) -> tuple[TaskArrays, tuple[np.ndarray, np.ndarray]]:
    """Return training rows and those that judge; standardised."""
    if name == "jets":
        data = load_task("jets")
        scaling = fit_scaling(data)
        task = TaskArrays.of(data, scaling)
        if judge is None:
            return task, (task.x_test, task.y_test)
        with np.load(judge, allow_pickle=False) as archive:
            x, y = archive["X"][20_000:], archive["y"][20_000:]
            return task, (scaling.apply(x), y.astype(np.int64))
    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    train, test = np.split(order, [2 * len(y) // 3])
    spread = x[train].std(axis=0)
    x = ((x - x[train].mean(axis=0)) / np.where(spread > 0, spread, 1.0)).astype(np.float32)
    y = y.astype(np.int64)
    task = TaskArrays(x_train=x[train], y_train=y[train], x_test=x[test], y_test=y[test])
    return task, (task.x_test, task.y_test)


def fastest(trained: QuantizedNetwork) -> tuple[QuantizedNetwork, float]:
    """Return the network at the clock at which it answers first, and its latency in ns."""
    found = []
    for period in PERIODS_NS:
        hardware = replace(trained.candidate.hardware, clock_period_ns=period)
        moved = replace(trained, candidate=replace(trained.candidate, hardware=hardware))
        solved = solve_network(moved)
        assert solved is not None, "an output depends on the input"
        found.append((solved.latency_cycles * period, period, moved))
    latency_ns, _, best = min(found, key=lambda item: item[:2])
    return best, latency_ns


def ours(
    task: TaskArrays,
    judge: tuple[np.ndarray, np.ndarray],
    budgets_lut: Sequence[float],
    *,
    epochs: int,
    seeds: int,
    polish_values: float,
) -> tuple[list[Design], float]:
    """Train, polish, choose by training loss, synthesise; also return network-epochs per CPU second."""
    budgets = np.array(budgets_lut, dtype=np.float64)
    n_in, n_classes = task.x_train.shape[1], task.target.n_outputs
    candidates = [network(hidden_of(b), n_in, n_classes, 2.5) for b in budgets]
    options = PrecisionOptions(
        epochs=epochs, batch_size=batch_size_for(len(task.y_train)), validation_fraction=0.0
    )
    with worker_pool() as pool:
        groups, seconds = learned(pool, candidates, budgets, task, options, seeds, polish_values)
        best = _spread(pool, _best, [(group, task, judge) for group in groups])
    designs = [design for design in best if design is not None]
    return designs, epochs * len(budgets) * seeds / seconds


def learned(
    pool: Executor | None,
    candidates: Sequence[Candidate],
    budgets_lut: np.ndarray,
    task: TaskArrays,
    options: PrecisionOptions,
    seeds: int,
    polish_values: float,
) -> tuple[list[list[QuantizedNetwork]], float]:
    """Train and polish every candidate so many times; return its networks, and processor seconds of training."""
    jobs = [(candidates, budgets_lut, task, options, 1 + k) for k in range(seeds)]
    results = _spread(pool, learn_with_teacher, jobs)
    parts = [(one, task, options, polish_values) for r in results for one in apart(r)]
    networks = [part.networks[0] for part in _spread(pool, polished, parts)]
    groups = [networks[i :: len(candidates)] for i in range(len(candidates))]
    return groups, sum(result.seconds for result in results)


def _spread(pool: Executor | None, function: Callable[..., T], jobs: Sequence[tuple]) -> list[T]:
    """Do jobs, on all cores where there is a pool; results in their order."""
    if pool is None:
        return [function(*job) for job in jobs]
    return [future.result() for future in [pool.submit(function, *job) for job in jobs]]


def _best(
    trained: Sequence[QuantizedNetwork], task: TaskArrays, judge: tuple[np.ndarray, np.ndarray]
) -> Design | None:
    """Choose one of the trainings of a budget by its training error, and synthesise it.

    Trainings that ended in constant outputs are no designs; None where all of them did.
    """
    trained = [n for n in trained if solve_network(n) is not None]
    if not trained:
        return None
    costs = [float(trace_network(n).cost) for n in trained]
    errors = [1.0 - merit_of(n, task, task.x_train, task.y_train, weights=None) for n in trained]
    # trainings of one budget differ by a few LUT: 1 % of them is worth 0.04 points (the front's slope)
    kept = min(range(len(trained)), key=lambda i: errors[i] + 0.04 * np.log(costs[i]) / 2.3)
    best, latency_ns = fastest(trained[kept])
    with tempfile.TemporaryDirectory() as folder:
        export_rtl(best, name="codesign_nn").plan.write(Path(folder) / "rtl")
        cells = synthesize_verilog(Path(folder) / "rtl" / "src", "codesign_nn")
    words = best.input_words(judge[0])
    answers = np.concatenate([run_words(best, w).argmax(axis=1) for w in np.array_split(words, 16)])
    return Design(
        judged=float((answers == judge[1]).mean()),
        adder_cost=costs[kept],
        lut=cells.lut,
        ff=cells.ff,
        latency_ns=latency_ns,
    )


def theirs(
    task: TaskArrays, judge: tuple[np.ndarray, np.ndarray], *, epochs: int, seeds: int, python: str
) -> tuple[list[Design], float]:
    """Train HGQ2 and synthesise its fronts; also return network-epochs per CPU second."""
    rows, held_out = split_rows(len(task.y_train), 0.15)
    with tempfile.TemporaryDirectory() as name, worker_pool() as pool:
        folder = Path(name)
        np.savez(
            folder / "data.npz",
            x_train=task.x_train[rows],
            y_train=task.y_train[rows],
            x_validation=task.x_train[held_out],
            y_validation=task.y_train[held_out],
            x_judge=judge[0],
            y_judge=judge[1],
        )
        batch_size = batch_size_for(len(task.y_train))
        reports = _spread(
            pool, _hgq2, [(python, folder, epochs, batch_size, seed) for seed in range(seeds)]
        )
        found = [design for report in reports for design in report["designs"]]
        designs = _spread(pool, _synthesised, [(design,) for design in found])
    return designs, epochs * seeds / sum(report["cpu_s"] for report in reports)


def _hgq2(
    python: str, folder: Path, epochs: int, batch_size: int, seed: int, more: Sequence[str] = ()
) -> dict[str, Any]:
    """Train one front of HGQ2 in its own environment, on one core."""
    environment = {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "OMP_NUM_THREADS": "1",
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    }
    environment.pop("PYTHONPATH", None)
    out = folder / f"seed_{seed}"
    out.mkdir()
    command = [python, _WORKER, folder / "data.npz", out]
    command += ["--epochs", epochs, "--batch-size", batch_size, "--seed", seed, *more]
    subprocess.run(
        [str(part) for part in command], check=True, env=environment, stdout=subprocess.DEVNULL
    )
    report: dict[str, Any] = json.loads((out / "front.json").read_text())
    return report


def _synthesised(found: dict[str, Any]) -> Design:
    sources = Path(found["folder"]) / "src"
    for wrapper in sources.rglob("*wrapper*"):
        wrapper.unlink()
    cells = synthesize_verilog(sources, "top")
    return Design(
        judged=found["judge_score"],
        adder_cost=found["adder_cost"],
        lut=cells.lut,
        ff=cells.ff,
        latency_ns=found["latency_cycles"] * 2.5,
    )


def lut_at(designs: Sequence[Design], scores: Sequence[float]) -> list[float]:
    """Read LUTs off the smoothed front; NaN where a score is not reached or below every design."""
    ordered = sorted(designs, key=lambda d: d.lut)
    smooth = isotonic_regression([d.judged for d in ordered]).x
    log_lut = np.log([d.lut for d in ordered])
    first = np.concatenate(
        [[True], np.diff(smooth) > 0]
    )  # a plateau costs what its first design does
    values = np.interp(scores, smooth[first], log_lut[first], left=np.nan, right=np.nan)
    return [float(v) for v in np.exp(values)]


def page(
    name: str, n_judges: int, sides: Mapping[str, tuple[list[Design], float]], minutes: float
) -> str:
    """Return the tables of one data set."""
    scores = DATA[name][1]
    if scores is None:
        other = sides.get("HGQ2", sides["ours"])[0]
        front = isotonic_regression([d.judged for d in sorted(other, key=lambda d: d.lut)]).x
        scores = tuple(
            sorted({round(float(q), 4) for q in np.quantile(front, np.arange(1, 6) / 6)})
        )
    lines = [
        f"### {name}",
        "",
        f"Judged on {n_judges:,} rows; {minutes:.0f} minutes."
        + "".join(
            f" {side}: {rate:.0f} network-epochs per CPU second."
            for side, (_, rate) in sides.items()
        ),
    ]
    for side, (designs, _) in sides.items():
        lines += [
            "",
            f"| {side}: judged | adder cost | LUT (Yosys) | FF | ns |",
            "|---|---|---|---|---|",
        ]
        lines += [
            f"| {d.judged:.4f} | {d.adder_cost:.0f} | {d.lut} | {d.ff} | {d.latency_ns:.1f} |"
            for d in sorted(designs, key=lambda d: d.lut)
        ]
    read = {side: lut_at(designs, scores) for side, (designs, _) in sides.items()}
    lines += ["", "| score | " + " | ".join(f"LUT, {side}" for side in read) + " |"]
    lines.append("|---" * (1 + len(read)) + "|")
    for i, score in enumerate(scores):
        values = (f"{v[i]:.0f}" if np.isfinite(v[i]) else "-" for v in read.values())
        lines.append(f"| {score} | " + " | ".join(values) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--judge", type=Path, help="npz of X and y; rows from 20,000 on judge")
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--epochs", type=int, default=400)
    parser.add_argument("--polish-values", type=float, default=4e9)
    parser.add_argument("--hgq2-epochs", type=int, default=2400)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--write", type=Path, help="page whose tables are replaced")
    arguments = parser.parse_args()
    python, pages = os.environ.get("CODESIGN_HGQ2_PYTHON"), []
    if not python:
        print("HGQ2 left out: set CODESIGN_HGQ2_PYTHON to the Python of its environment")
    for name in arguments.data:
        started = time.monotonic()
        task, judge = load(name, arguments.judge)
        sides = {
            "ours": ours(
                task,
                judge,
                DATA[name][0],
                epochs=arguments.epochs,
                seeds=arguments.seeds,
                polish_values=arguments.polish_values,
            )
        }
        if python:
            sides["HGQ2"] = theirs(
                task, judge, epochs=arguments.hgq2_epochs, seeds=arguments.seeds, python=python
            )
        pages.append(page(name, len(judge[1]), sides, (time.monotonic() - started) / 60.0))
        print(pages[-1], flush=True)
    if arguments.write:
        text = arguments.write.read_text()
        head, _, rest = text.partition(_BEGIN)
        _, _, tail = rest.partition(_END)
        how = (
            f"{date.today():%d %B %Y}, `make bench-designs`: ours {arguments.epochs} epochs, HGQ2"
            f" {arguments.hgq2_epochs}, {arguments.seeds} trainings each."
        )
        made = "\n\n".join([_BEGIN, how, *pages, _END])
        arguments.write.write_text(f"{head}{made}{tail}")


if __name__ == "__main__":
    sys.exit(main())
