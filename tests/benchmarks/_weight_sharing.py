"""Part (d): differentiable search and the supernet against the evolutionary default.

All three search the same plain chains of `mlp_l1` (no skips, RTL, the rest as in `plain_base`) for
the same CPU seconds on one core, then hand over the same number of designs.  These are trained
alike by the project's own trainer, and the hypervolume of (error *measured* on validation jets,
latency and LUT *predicted*) is compared.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from codesign.encoding.population import encode_population
from codesign.hardware.device import load_budget, load_device
from codesign.hardware.scorer import HardwareScorer, constraint_names, violations
from codesign.predictor.base import METHODS
from codesign.search._elastic import Layout, complete, layout_of, plain_base
from codesign.search.archive import Archive, archive_of
from codesign.search.differentiable import DifferentiableOptions, search_differentiable
from codesign.search.expected_cost import tabulate_cost
from codesign.search.loop import run_search
from codesign.search.metrics import normalized_hypervolume
from codesign.search.problem import Booleans, Evaluation, Floats, Genomes
from codesign.search.supernet import SupernetOptions, train_alone, train_supernet
from codesign.space import SearchSpace, candidates_from_population
from codesign.space.space import load_space
from codesign.tasks import load_task
from codesign.training.options import TaskArrays, TrainingOptions
from codesign.training.train import train_population

#: Accuracy of full genomes: float[n].
Accuracy = Callable[[Genomes], Floats]


@dataclass(frozen=True, kw_only=True)
class PlainChains:
    """The searched genes of a layout as a problem."""

    space: SearchSpace
    layout: Layout
    scorer: HardwareScorer
    accuracy: Accuracy
    objective_names: tuple[str, ...] = ("error", "latency_ns", "lut")

    @property
    def upper(self) -> NDArray[np.int64]:
        return self.space.upper[self.layout.columns]

    @property
    def ordered(self) -> Booleans:
        every = np.array([gene.is_ordered for gene in self.space.genes])
        return every[self.layout.columns]

    @property
    def constraint_names(self) -> tuple[str, ...]:
        return constraint_names(load_budget("l1_100ns"))

    def full(self, genomes: Genomes) -> Genomes:
        return self.space.canonicalize(complete(self.layout, genomes))

    def canonicalize(self, genomes: Genomes) -> Genomes:
        return self.full(genomes)[:, self.layout.columns]

    def evaluate(self, genomes: Genomes) -> Evaluation:
        full = self.full(genomes)
        scores = self.scorer.score(self.space.decode(full))
        excess = violations(scores, load_budget("l1_100ns"), self.scorer.device)
        fits = (excess <= 0).all(axis=1)
        error = np.ones(len(genomes))
        if fits.any():
            error[fits] = 1.0 - self.accuracy(full[fits])
        columns = [error, scores.metrics["latency_ns"].value, scores.metrics["lut"].value]
        return Evaluation(objectives=np.column_stack(columns), violations=excess)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What all contenders share."""

    space: SearchSpace
    layout: Layout
    scorer: HardwareScorer
    task: TaskArrays
    n_designs: int
    n_shared_evaluations: int

    def problem(self, accuracy: Accuracy) -> PlainChains:
        return PlainChains(
            space=self.space, layout=self.layout, scorer=self.scorer, accuracy=accuracy
        )

    def train(self, genomes: Genomes, epochs: int, seed: int) -> Floats:
        """Return accuracies measured by training, on held-out training jets."""
        population = self.space.decode(self.space.canonicalize(genomes))
        candidates = candidates_from_population(
            population, part=self.scorer.device.part, io_type="io_parallel"
        )
        options = TrainingOptions(epochs=epochs, device="cpu")
        return train_population(candidates, self.task, options, seed=seed).validation_accuracy

    def pick(self, archive: Archive) -> Genomes:
        """Take designs spread over the archive's errors."""
        order = np.argsort(archive.objectives[:, 0], kind="stable")
        # the inaccurate end of a front is of no use to anybody: keep the better three quarters
        order = order[: max(self.n_designs, 3 * len(order) // 4)]
        picks = np.unique(np.linspace(0, len(order) - 1, self.n_designs).round().astype(int))
        return complete(self.layout, archive.genomes[order[picks]])


def evolutionary(bench: Bench, seconds: float, seed: int) -> Genomes:
    """Label random designs by short training, fit the Gaussian process, search with NSGA-II."""
    started_s = time.process_time()
    generator = np.random.default_rng(seed)
    upper = bench.problem(lambda genomes: np.zeros(len(genomes))).upper
    genomes = np.zeros((0, len(bench.layout.base)), dtype=np.int64)
    labels = np.zeros(0)
    while True:
        drawn = generator.integers(0, upper + 1, size=(32, len(upper)))
        full = bench.space.canonicalize(complete(bench.layout, drawn))
        chunk_s = time.process_time()
        labels = np.concatenate([labels, bench.train(full, 3, seed)])
        genomes = np.concatenate([genomes, full])
        chunk_s = time.process_time() - chunk_s
        if time.process_time() - started_s + chunk_s > 0.7 * seconds:
            break
    fitted = METHODS.get("gp").fit(
        encode_population(bench.space.decode(genomes)), labels, seed=seed
    )

    def predicted(full: Genomes) -> Floats:
        return fitted.predict(encode_population(bench.space.decode(full))).mean

    archive = run_search(bench.problem(predicted), "nsga2", n_evaluations=2000, seed=seed)
    print(f"  evolutionary: {len(labels)} labels, {time.process_time() - started_s:.0f} s CPU")
    return bench.pick(archive)


def differentiable(bench: Bench, seconds: float, seed: int) -> Genomes:
    """Run DARTS and DrNAS at several prices until the time is up."""
    started_s = time.process_time()
    budget = load_budget("l1_100ns")
    limits = np.array([budget.limit("lut", bench.scorer.device), budget.latency_ns])

    def score(genomes: Genomes) -> Floats:
        metrics = bench.scorer.score(bench.space.decode(bench.space.canonicalize(genomes))).metrics
        return np.stack([metrics["lut"].value, metrics["latency_ns"].value], axis=1)

    cost = tabulate_cost(bench.layout, score)
    prices = (0.01, 0.05, 0.002, 0.02, 0.1, 0.005, 0.2)
    best, samples, run_s = [], [], 0.0
    i = 0
    while i == 0 or time.process_time() - started_s + run_s < seconds:
        run_s = time.process_time()
        options = DifferentiableOptions(
            method=("darts1", "drnas")[i % 2],
            epochs=5,
            cost_weight=prices[i % len(prices)],
        )
        found = search_differentiable(
            bench.layout, bench.task, cost, limits, options, seed=seed + i, n_samples=16
        )
        best.append(found.genomes[0])
        samples.append(found.genomes[1:])
        run_s = time.process_time() - run_s
        i += 1
    pool = np.concatenate(
        [np.array(best), *[np.array(rows) for rows in zip(*samples, strict=False)]]
    )
    pool = bench.space.canonicalize(pool)
    _, first = np.unique(pool, axis=0, return_index=True)
    pool = pool[np.sort(first)]
    scores = bench.scorer.score(bench.space.decode(pool))
    fits = (violations(scores, budget, bench.scorer.device) <= 0).all(axis=1)
    print(f"  differentiable: {i} runs, {time.process_time() - started_s:.0f} s CPU")
    return pool[fits][: bench.n_designs]


def once_for_all(bench: Bench, seconds: float, seed: int) -> tuple[Genomes, dict[str, float]]:
    """Train a supernet for most of the time, then search with it as the evaluator."""
    started_s = time.process_time()
    probe = train_supernet(
        bench.layout, bench.task, SupernetOptions(epochs=(0, 0, 0, 1)), seed=seed
    )
    del probe
    epoch_s = time.process_time() - started_s
    n_epochs = max(2, int(0.7 * seconds / epoch_s) - 2)
    options = SupernetOptions(epochs=(2, 1, 1, n_epochs))
    supernet = train_supernet(bench.layout, bench.task, options, seed=seed)

    def shared(full: Genomes) -> Floats:
        return supernet.accuracy(full, bench.task, n_rows=1000)

    archive = run_search(
        bench.problem(shared), "nsga2", n_evaluations=bench.n_shared_evaluations, seed=seed
    )
    used_s = time.process_time() - started_s
    print(f"  supernet: {n_epochs + 4} epochs, {used_s:.0f} s CPU")
    picked = bench.pick(archive)
    scratch, scratch_s = train_alone(bench.layout, picked[:4], bench.task, epochs=6, seed=seed)
    tuned, tuned_s = train_alone(
        bench.layout,
        picked[:4],
        bench.task,
        epochs=1,
        seed=seed,
        start=supernet,
        learning_rate=0.003,
    )
    return picked, {
        "shared_accuracy": float(shared(picked[:4]).mean()),
        "scratch_6_epochs_accuracy": float(scratch.mean()),
        "fine_tuned_1_epoch_accuracy": float(tuned.mean()),
        "scratch_s_each": scratch_s / len(scratch),
        "fine_tuned_s_each": tuned_s / len(tuned),
        "supernet_s": supernet.seconds,
    }


def compare_weight_sharing(
    *,
    seconds: float,
    n_seeds: int,
    n_designs: int,
    space_name: str = "mlp_l1",
    n_shared_evaluations: int = 600,
) -> dict[str, object]:
    """Run part (d) and return JSON values, with a verdict in sentences."""
    torch.set_num_threads(1)
    data = load_task("jets")
    mean, std = data.x_train.mean(axis=0), data.x_train.std(axis=0)
    task = TaskArrays(
        x_train=((data.x_train - mean) / std).astype(np.float32),
        y_train=data.y_train,
        x_test=((data.x_test - mean) / std).astype(np.float32),
        y_test=data.y_test,
    )
    space = load_space(space_name, n_inputs=16, n_outputs=5)
    bench = Bench(
        space=space,
        layout=layout_of(space, plain_base(space)),
        scorer=HardwareScorer(device=load_device("xcvu13p")),
        task=task,
        n_designs=n_designs,
        n_shared_evaluations=n_shared_evaluations,
    )
    shares: dict[str, list[float]] = {"evolutionary": [], "differentiable": [], "supernet": []}
    best: dict[str, list[float]] = {name: [] for name in shares}
    extras = []
    for seed in range(n_seeds):
        picked, extra = once_for_all(bench, seconds, seed)
        chosen = {
            "evolutionary": evolutionary(bench, seconds, seed),
            "differentiable": differentiable(bench, seconds, seed),
            "supernet": picked,
        }
        extras.append(extra)
        together = np.concatenate(list(chosen.values()))
        accuracy = bench.train(together, 8, seed)
        owner = np.repeat(list(chosen), [len(rows) for rows in chosen.values()])
        judged = bench.problem(lambda genomes: np.zeros(len(genomes)))
        measured = judged.evaluate(together[:, bench.layout.columns])
        objectives = measured.objectives.copy()
        objectives[:, 0] = 1.0 - accuracy
        measured = Evaluation(objectives=objectives, violations=measured.violations)
        front = archive_of(judged, together[:, bench.layout.columns], measured).objectives
        ideal, nadir = front.min(axis=0), front.max(axis=0)
        whole = normalized_hypervolume(front, ideal=ideal, nadir=nadir)
        for name in shares:
            rows = (owner == name) & measured.is_feasible
            volume = normalized_hypervolume(objectives[rows], ideal=ideal, nadir=nadir)
            shares[name].append(volume / whole)
            best[name].append(float(accuracy[rows].max()) if rows.any() else 0.0)
    reference = float(np.mean(shares["evolutionary"]))
    verdict = []
    for name in ("differentiable", "supernet"):
        gap = 1.0 - float(np.mean(shares[name])) / reference
        verdict.append(
            f"{name}: mean hypervolume {100 * abs(gap):.1f} % {'below' if gap > 0 else 'above'} the "
            f"evolutionary default at equal CPU time ({seconds:.0f} s, {n_seeds} seeds, "
            f"{n_designs} designs each); the bar of 3 % is {'met' if gap <= 0.03 else 'missed'}."
        )
    for extra in extras:
        verdict.append(
            f"Supernet designs: {extra['shared_accuracy']:.3f} with shared weights, "
            f"{extra['fine_tuned_1_epoch_accuracy']:.3f} after one epoch of fine-tuning "
            f"({extra['fine_tuned_s_each']:.1f} s each), {extra['scratch_6_epochs_accuracy']:.3f} "
            f"from scratch in 6 epochs ({extra['scratch_s_each']:.1f} s each)."
        )
    return {
        "title": "(d) weight sharing against the evolutionary default, accuracy measured",
        "hypervolume_share_of_union": shares,
        "best_measured_accuracy": best,
        "supernet": extras,
        "verdict": verdict,
    }
