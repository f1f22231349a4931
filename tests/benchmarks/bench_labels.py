"""Labels: networks per minute when trained together, against one after another, in one run.

Two comparisons, the same code and options in each: on all cores (wall time: one process per core, as
`codesign label` runs, against one network after another with as many torch threads as is fastest), and on one core
(CPU time; only the number of networks per chunk differs).  A plain floating-point PyTorch loop over
`torch.nn.Sequential` of the same widths is timed beside them, as what a reader would write.  Repeats
alternate, so that other load on the machine hits all alike.

    python tests/benchmarks/bench_labels.py --output labels.json
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import time
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

from codesign.ir import Candidate
from codesign.processes import n_worker_processes, worker_pool
from codesign.space import load_space
from codesign.tasks import dataset_arrays, fit_scaling, load_task
from codesign.training import TaskArrays, TrainingOptions, train_population
from codesign.training.sampling import sample_candidates
from codesign.training.train import chunks_of_similar_size


def jets() -> TaskArrays:
    data = load_task("jets")
    x_train, y_train, x_test, y_test = dataset_arrays(data, fit_scaling(data))
    return TaskArrays(x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)


def cpu_seconds(function, *arguments):
    start = time.process_time()
    result = function(*arguments)
    return time.process_time() - start, result


def wall_seconds(function, *arguments, **named):
    start = time.perf_counter()
    function(*arguments, **named)
    return time.perf_counter() - start


def train(candidates: list[Candidate], task: TaskArrays, options: TrainingOptions):
    return train_population(candidates, task, options, seed=1)


def train_plain(candidates: list[Candidate], task: TaskArrays, options: TrainingOptions) -> None:
    """One floating-point network after another, as a tutorial would."""
    x, y = torch.from_numpy(task.x_train), torch.from_numpy(task.y_train)
    x, y = x[: int(len(x) * 0.875)], y[: int(len(y) * 0.875)]
    for candidate in candidates:
        layers: list[torch.nn.Module] = []
        width = x.shape[1]
        for node in candidate.network.nodes:
            if node.layer == "dense":
                units = int(node.parameters["units"])
                layers += [torch.nn.Linear(width, units), torch.nn.ReLU()]
                width = units
        model = torch.nn.Sequential(*layers[:-1])
        optimiser = torch.optim.AdamW(model.parameters(), lr=options.learning_rate)
        for _ in range(options.epochs):
            order = torch.randperm(len(x))
            for start in range(0, len(x) - options.batch_size + 1, options.batch_size):
                rows = order[start : start + options.batch_size]
                loss = torch.nn.functional.cross_entropy(model(x[rows]), y[rows])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--n-labels", type=int, default=768)
    parser.add_argument("--n-alone", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--accuracy-epochs", type=int, default=4)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    task, n_alone = jets(), arguments.n_alone
    space = load_space("mlp_l1", n_inputs=16, n_outputs=5)
    pool = sample_candidates(space, arguments.n_labels, seed=3, part="xcvu13p-flga2577-2-e")
    options = TrainingOptions(epochs=1, device="cpu")
    order = chunks_of_similar_size(pool, len(pool))[0]  # by size: take typical ones, evenly
    few = [pool[order[int((i + 0.5) / n_alone * len(pool))]] for i in range(n_alone)]
    chunk = pool[:: -(-len(pool) // options.chunk_size)]
    together, alone, plain = [], [], []
    for _ in range(arguments.repeats):
        seconds, _ = cpu_seconds(train, chunk, task, options)
        together.append(len(chunk) / seconds)
        seconds, _ = cpu_seconds(train, few, task, replace(options, chunk_size=1))
        alone.append(len(few) / seconds)
        seconds, _ = cpu_seconds(train_plain, few, task, options)
        plain.append(len(few) / seconds)
    cores = on_all_cores(pool, few, task, options, arguments.repeats)
    ratios = np.array(together) / np.array(alone)
    result = {
        "n_labels": len(pool),
        "n_together": len(chunk),
        "all_cores": cores,
        "network_epochs_per_cpu_second_together": spread(together),
        "network_epochs_per_cpu_second_one_by_one": spread(alone),
        "network_epochs_per_cpu_second_plain_float": spread(plain),
        "ratio_to_one_by_one": spread(ratios),
        "ratio_to_plain_float": spread(np.array(together) / np.array(plain)),
        "accuracy": score_differences(pool, task, options, arguments.accuracy_epochs),
        "commit": subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False
        ).stdout.strip(),
        "machine": platform.processor() or platform.machine(),
        "versions": {name: metadata.version(name) for name in ("torch", "numpy")},
    }
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n", encoding="utf-8")


def on_all_cores(
    pool: list[Candidate],
    few: list[Candidate],
    task: TaskArrays,
    options: TrainingOptions,
    repeats: int,
) -> dict[str, object]:
    """Compare wall times on all cores of the machine; starting the processes counts."""
    n_processes = n_worker_processes()
    options = replace(options, epochs=8)  # as labels are made
    together, alone = [], {1: [], n_processes: []}
    for _ in range(repeats):
        with worker_pool() as executor:
            seconds = wall_seconds(train_population, pool, task, options, seed=1, executor=executor)
        together.append(options.epochs * len(pool) / seconds)
        for n_threads, rates in alone.items():
            torch.set_num_threads(n_threads)
            seconds = wall_seconds(train, few, task, replace(options, chunk_size=1))
            rates.append(options.epochs * len(few) / seconds)
        torch.set_num_threads(1)
    best = max(alone, key=lambda n_threads: float(np.median(alone[n_threads])))
    return {
        "n_processes": n_processes,
        "network_epochs_per_second_together": spread(together),
        "network_epochs_per_second_one_by_one": spread(alone[best]),
        "threads_one_by_one": best,
        "ratio": spread(np.array(together) / np.array(alone[best])),
    }


def score_differences(
    pool: list[Candidate], task: TaskArrays, options: TrainingOptions, epochs: int
) -> dict[str, float] | None:
    """Train some networks both ways; the difference between seeds is the yardstick."""
    if epochs == 0:
        return None
    few = pool[:: max(1, len(pool) // 12)][:12]
    longer = replace(options, epochs=epochs)
    batched = train(few, task, longer)
    single = train(few, task, replace(longer, chunk_size=1))
    other_seed = train_population(few, task, longer, seed=2)
    return {
        "mean_difference": float(np.mean(batched.test_score - single.test_score)),
        "rms_difference": rms(batched.test_score - single.test_score),
        "rms_difference_between_seeds": rms(batched.test_score - other_seed.test_score),
    }


def spread(values) -> dict[str, float]:
    return {
        "median": float(np.median(values)),
        "min": float(np.min(values)),
        "max": float(np.max(values)),
    }


def rms(values) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


if __name__ == "__main__":
    main()
