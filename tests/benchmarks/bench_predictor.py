"""Benchmark of the accuracy predictor: `make bench-predictor`, or this file with --help.

Parts (--parts): `ranking` (NAS-Bench-201, tau against rivals and bars), `jets` (the benchmark that
ships), `active` (label selection against random), `speed` (inference and training), `templates` (the method
that `auto` chooses against the best contender, on every template's own space; not run by default).  Every part
writes its figures into the output as soon as it has them.  Labels are measured accuracies of trained
networks; everything else here is predicted.
"""

import argparse
import json
import platform
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from codesign.encoding.batch import GraphBatch, concatenate
from codesign.encoding.graph import load_graphs
from codesign.encoding.population import encode_population
from codesign.predictor.active import select_informative
from codesign.predictor.base import METHODS
from codesign.predictor.evaluate import LabelledGraphs, _medians, evaluate, split
from codesign.predictor.metrics import PredictedScores, measure
from codesign.predictor.select import CONTENDERS
from codesign.predictor.train import fit_predictor
from codesign.space import candidates_from_population, load_space
from codesign.tasks import fit_scaling, load_task
from codesign.training import TaskArrays, TrainingOptions, train_population
from codesign.training.benchmark import BENCHMARK_PATH

ROOT = Path(__file__).resolve().parents[2]
NAS_BENCH_201 = ROOT / ".." / "shared" / "data" / "nas_bench_201_cifar10.jsonl.gz"
BARS = {78: 0.84, 156: 0.875, 469: 0.905, 781: 0.91, 1563: 0.925}
#: Kendall tau published by Lu et al. (PINAT, AAAI 2023), table 1; not run here.
PINAT = {78: 0.549, 156: 0.631, 469: 0.706, 781: 0.761, 1563: 0.784}
CHEAP_RIVALS = ("ridge_raw", "kernel_ridge_raw", "ridge", "kernel_ridge", "random_forest", "gp_raw")


def front_quality(
    score: NDArray[np.float64], costs: NDArray[np.float64], labelled: NDArray[np.integer]
) -> float:
    """Return the share, 0..1, of the true front's hypervolume that labelled candidates reach.

    Args:
        score: float[m], true.
        costs: float[m], one cost.
        labelled: candidates known so far.

    The reference point is the worst score and the greatest cost of all candidates.
    """

    def volume(rows: NDArray[np.integer]) -> float:
        order = rows[np.argsort(costs[rows], kind="stable")]
        best = np.maximum.accumulate(score[order]) - score.min()
        edges = np.append(costs[order], costs.max())
        return float((best * np.diff(edges)).sum())

    everything = volume(np.arange(len(score)))
    return volume(np.asarray(labelled)) / everything if everything > 0 else 1.0


def ranking(
    output: dict, save, *, sizes: list[int], seeds: range, n_test: int | None, rivals: list[str]
) -> None:
    """Tau over all architectures not trained on; the parts of the blend come from the same fit."""
    data = LabelledGraphs.prepare(load_graphs(NAS_BENCH_201))
    runs: list[dict] = []
    for seed in seeds:
        for size in sizes:
            train, test = split(len(data.labels), size, seed=seed, n_test=n_test)
            alone = ~np.isin(data.function[test], data.function[train])
            labels, batch = data.labels[test], data.canonical.take(test)
            start = time.perf_counter()
            blend = METHODS.get("blend").fit(
                data.canonical.take(train), data.labels[train], seed=seed
            )
            fit_s = time.perf_counter() - start
            for name, fitted in (("blend", blend), ("gin", blend.gin), ("gp", blend.gp)):
                start = time.perf_counter()
                predicted = fitted.predict(batch)
                wall_s = time.perf_counter() - start
                rest = PredictedScores(mean=predicted.mean[alone], std=predicted.std[alone])
                run = {"method": name, "n_train": size, "seed": seed}
                run |= asdict(measure(labels, predicted))
                run["tau_without_twin"] = measure(labels[alone], rest).tau
                run["share_without_twin"] = float(alone.mean())
                run["fit_s"], run["candidates_per_s"] = fit_s, len(test) / wall_s
                runs.append(run)
            output["nas_bench_201"] = {
                "bars": BARS,
                "published_pinat": PINAT,
                "n_test": n_test or "all not trained on",
                "medians": _medians(runs),
                "runs": runs,
            }
            save()
            print(seed, size, [(r["method"], round(r["tau"], 4)) for r in runs[-3:]], flush=True)
    if rivals:
        found = evaluate(data, methods=rivals, train_sizes=sizes, n_seeds=len(seeds), n_test=n_test)
        output["nas_bench_201_rivals"] = found["medians"]
        save()


def jets(output: dict, save, *, path: Path, n_seeds: int) -> None:
    """The benchmark that ships, at 50 to 400 labels."""
    data = LabelledGraphs.prepare(load_graphs(path, duplicates="mean"))
    sizes = [n for n in (50, 100, 200, 400) if n <= len(data.labels) - 100]
    methods = [name for name in METHODS.names() if name != "gin_raw"]
    result = evaluate(data, methods=methods, train_sizes=sizes, n_seeds=n_seeds)
    output["jets"] = {key: result[key] for key in ("protocol", "medians", "not_applicable")}
    save()


def active(output: dict, save, *, n_seeds: int, rounds: int = 8) -> None:
    """Front quality over labels: expected Pareto improvement against random, same predictor.

    Cost of a cell: 9 per 3x3 and 1 per 1x1 convolution, its parameters in units of channels^2.
    """
    data = LabelledGraphs.prepare(load_graphs(NAS_BENCH_201))
    names = data.canonical.op_names
    weight = np.array([{"nor_conv_3x3": 9.0, "nor_conv_1x1": 1.0}.get(name, 0.0) for name in names])
    cost = np.bincount(data.canonical.graph_index, weight[data.canonical.op])
    curves: dict[str, list[list[float]]] = {"expected_improvement": [], "random": []}
    for seed in range(n_seeds):
        pool = np.random.default_rng(seed).permutation(len(data.labels))[:4000]
        batch, labels, costs = data.canonical.take(pool), data.labels[pool], cost[pool]
        for strategy, all_curves in curves.items():
            random = np.random.default_rng(seed)
            known = np.arange(20)
            curve = [front_quality(labels, costs, known)]
            for _ in range(rounds):
                rest = np.setdiff1d(np.arange(len(pool)), known)
                if strategy == "random":
                    chosen = random.choice(rest, 10, replace=False)
                else:
                    fitted = METHODS.get("gp").fit(batch.take(known), labels[known], seed=seed)
                    predicted = fitted.predict(batch.take(rest))
                    front = np.column_stack([labels[known], costs[known]])
                    chosen = rest[
                        select_informative(
                            predicted.mean, predicted.std, costs[rest, None], front, 10
                        )
                    ]
                known = np.concatenate([known, chosen])
                curve.append(front_quality(labels, costs, known))
            all_curves.append(curve)
    output["active"] = {
        "labels": [20 + 10 * i for i in range(rounds + 1)],
        **{name: np.median(values, axis=0).tolist() for name, values in curves.items()},
    }
    save()


#: Space of every template, and the bundled task that it is trained on.
TEMPLATE_SPACES = {
    "mlp_l1": "jets",
    "cell_l1": "jets",
    "tables_l1": "jets",
    "deepsets_l1": "jet_particles",
    "interaction_l1": "jet_particles",
    "mixer_l1": "jet_particles",
    "attention_l1": "jet_particles",
    "conv_l1": "jet_particles",
}


def templates(output: dict, save, *, n_labels: int, n_test: int, epochs: int) -> None:
    """Tau on held-out networks of each template's space: of what `auto` chooses, and of every contender.

    Labels: validation accuracy after a short training on 6,000 rows, of 16 features or 16 particles x 3.
    """
    output["templates"] = {"n_labels": n_labels, "n_test": n_test, "epochs": epochs}
    for name, source in TEMPLATE_SPACES.items():
        particles = {"n_particles": 16, "shape": "particles", "heads": [{"name": "class"}]}
        options = {"n_train_max": 6000} | (particles if source == "jet_particles" else {})
        data = load_task(source, options)
        task = TaskArrays.of(data, fit_scaling(data))
        space = load_space(name, n_inputs=task.x_train.shape[1:], n_outputs=5)
        drawn = space.sample(n_labels + n_test, np.random.default_rng(0))
        population = space.decode(drawn)
        candidates = candidates_from_population(population, part="xcvu13p-flga2577-2-e")
        start = time.process_time()
        labels = train_population(
            candidates, task, TrainingOptions(epochs=epochs, validation_fraction=0.25), seed=1
        ).validation_score
        batch, known, rest = (
            encode_population(population),
            np.arange(n_labels),
            np.arange(n_labels, n_labels + n_test),
        )
        chosen = fit_predictor(batch.take(known), labels[known], seed=0)

        def tau(predictor, batch=batch, labels=labels, rest=rest) -> float:
            return measure(labels[rest], predictor.predict(batch.take(rest))).tau

        taus = {
            method: tau(METHODS.get(method).fit(batch.take(known), labels[known], seed=0))
            for method in CONTENDERS
        }
        output["templates"][name] = {
            "chosen": chosen.method,
            "tau": tau(chosen.predictor),
            "taus": taus,
            "label_spread": float(labels.std()),
            "cpu_s": time.process_time() - start,
        }
        save()
        print(name, output["templates"][name], flush=True)


def chains(n: int, *, seed: int) -> GraphBatch:
    """Made-up dense networks: 2 to 6 stages of dense and activation, now and then a skip edge."""
    random = np.random.default_rng(seed)
    size = 2 + 2 * random.integers(2, 7, n)
    graph = np.repeat(np.arange(n), size)
    start = np.concatenate([[0], np.cumsum(size)[:-1]])
    place = np.arange(size.sum()) - start[graph]
    op = np.where(place == 0, 0, np.where(place % 2 == 1, 1, 2))
    source = np.flatnonzero(place < size[graph] - 1)
    edges = np.stack([source, source + 1])
    skip = np.flatnonzero((place < size[graph] - 4) & (random.random(len(op)) < 0.15))
    edges = np.concatenate([edges, np.stack([skip, skip + 3])], axis=1)
    numeric = np.stack([2.0 ** random.integers(3, 8, len(op)), random.integers(2, 13, len(op))], 1)
    return GraphBatch(
        op_names=("input", "dense", "relu"),
        numeric_names=("n_out", "weight_bits"),
        extra_names=(),
        op=op,
        numeric=numeric.astype(np.float32),
        graph_index=graph,
        edge_index=edges,
        edge_multiplicity=np.ones(edges.shape[1], np.float32),
        extras=np.zeros((n, 0), np.float32),
    )


def speed(output: dict, save) -> None:
    """Inference on two threads, and training on 500 labels, of made-up networks of 6 to 14 nodes."""
    batch, many = chains(500, seed=0), chains(20_000, seed=1)
    random = np.random.default_rng(0)
    signal = np.log2(batch.numeric[:, 0]) * np.sqrt(batch.numeric[:, 1])
    labels = np.bincount(batch.graph_index, signal) + random.normal(size=500)
    halves = [many.take(np.arange(10_000)), many.take(np.arange(10_000, 20_000))]
    figures = {}
    torch.set_num_threads(2)
    for name in ("blend", "blend_fast", "gin", "gp_globals"):
        start = time.perf_counter()
        fitted = METHODS.get(name).fit(batch, labels, seed=0)
        train_s = time.perf_counter() - start
        torch.set_num_threads(1)
        rates = []
        with ThreadPoolExecutor(2) as pool:
            for _ in range(5):
                start = time.perf_counter()
                parts = list(pool.map(fitted.predict, halves))
                rates.append(len(many) / (time.perf_counter() - start))
        torch.set_num_threads(2)
        assert sum(len(p.mean) for p in parts) == len(concatenate(halves))
        figures[name] = {
            "train_500_labels_s": train_s,
            "candidates_per_s_median": float(np.median(rates)),
            "candidates_per_s_range": [min(rates), max(rates)],
        }
        print(name, figures[name], flush=True)
    output["speed"] = figures
    save()


def main() -> None:
    """Parse options and run the parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("bench_predictor.json"))
    parser.add_argument("--parts", default="ranking,jets,active,speed")
    parser.add_argument("--sizes", default="78,156,469,781,1563")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--rivals", default=",".join(CHEAP_RIVALS), help="empty: none")
    parser.add_argument("--test-graphs", type=int, default=None)
    parser.add_argument("--labels", type=int, default=96, help="of each template")
    parser.add_argument("--held-out", type=int, default=64, help="of each template")
    parser.add_argument("--epochs", type=int, default=6, help="of labels of templates")
    parser.add_argument("--jets", type=Path, default=BENCHMARK_PATH, help="labelled graphs")
    options = parser.parse_args()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    output: dict = {
        "schema": 1,
        "commit": commit,
        "processor": platform.processor() or platform.machine(),
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
    }

    def save() -> None:
        options.output.write_text(json.dumps(output, indent=1) + "\n")

    parts = options.parts.split(",")
    if not NAS_BENCH_201.is_file():
        print(f"skipped ranking and active: {NAS_BENCH_201.name} is not there")
        parts = [part for part in parts if part not in ("ranking", "active")]
    if "ranking" in parts:
        sizes = [int(n) for n in options.sizes.split(",")]
        seeds = range(options.first_seed, options.first_seed + options.seeds)
        rivals = [name for name in options.rivals.split(",") if name]
        ranking(output, save, sizes=sizes, seeds=seeds, n_test=options.test_graphs, rivals=rivals)
    if "jets" in parts:
        jets(output, save, path=options.jets, n_seeds=options.seeds)
    if "active" in parts:
        active(output, save, n_seeds=options.seeds)
    if "speed" in parts:
        speed(output, save)
    if "templates" in parts:
        counts = {"n_labels": options.labels, "n_test": options.held_out, "epochs": options.epochs}
        templates(output, save, **counts)
    print(f"wrote {options.output}")


if __name__ == "__main__":
    main()
