"""Make the jet NAS benchmark that ships: train every pair with many seeds, measure on 60,000 other jets.

    python tests/benchmarks/jet_benchmark/make.py train --jets ../shared/data/jets/jets_hlf_80k.npz --output labels.jsonl
    python tests/benchmarks/jet_benchmark/make.py assemble --labels labels.jsonl

`train` appends one line per finished chunk (one seed of some pairs) and, started again, goes on with
those that are missing.  `assemble` writes the benchmark and its description from the seeds that all
pairs have.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import platform
import sys
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from codesign.files import write_atomically
from codesign.ir import Candidate
from codesign.space import load_space
from codesign.tasks import dataset_arrays, fit_scaling, load_task
from codesign.training import TaskArrays, TrainingOptions, integer_accuracy, train_population
from codesign.training.benchmark import (
    BENCHMARK_PATH,
    BenchmarkEntry,
    benchmark_statistics,
    load_benchmark,
    write_benchmark,
)
from codesign.training.options import architecture_digest
from codesign.training.sampling import sample_candidates
from codesign.training.store import Label
from codesign.training.train import chunks_of_similar_size, split_rows

FOLDER = Path(__file__).resolve().parent
#: Space, pairs drawn from it, seed of the draw.
SAMPLES = (
    ("mlp_l1", 1024, 20_261_126),
    ("below_l1", 256, 20_261_127),
    ("above_l1", 256, 20_261_128),
)
#: First row of the 80,000 jets that neither trains nor tests anything.
FIRST_MEASURED = 20_000


def benchmark_candidates(share: float = 1.0) -> dict[str, tuple[str, Candidate]]:
    """Draw the pairs: (space, candidate) by digest; a `share` of them for trials."""
    found: dict[str, tuple[str, Candidate]] = {}
    for name, n, seed in SAMPLES:
        path = FOLDER / f"{name}.yaml"
        space = load_space(path if path.exists() else name, n_inputs=16, n_outputs=5)
        n = max(1, round(share * n))
        for candidate in sample_candidates(space, n, seed=seed, part="none"):
            found.setdefault(architecture_digest(candidate.network), (name, candidate))
    return found


def jet_arrays(path: Path) -> TaskArrays:
    """Load the bundled jets, and the others of the same run of the generator to measure on."""
    task = load_task("jets")
    scaling = fit_scaling(task)
    x_train, y_train, x_test, y_test = dataset_arrays(task, scaling)
    with np.load(path) as jets:
        x, y = jets["X"], jets["y"]
    if not np.array_equal(x[: len(task.x_train)], task.x_train):
        sys.exit(
            f"{path}: its first rows are not the bundled jets; give the set they were cut from"
        )
    return TaskArrays(
        x_train=x_train,
        y_train=y_train,
        x_test=x_test,
        y_test=y_test,
        x_measured=scaling.apply(x[FIRST_MEASURED:]),
        y_measured=y[FIRST_MEASURED:].astype(np.int64),
    )


def train_chunk(digests: list[str], share: float, jets: Path, device: str, seed: int) -> str:
    """Train some pairs with one seed, in a worker process; one JSON line."""
    torch.set_num_threads(1)
    task, everything = jet_arrays(jets), benchmark_candidates(share)
    options = TrainingOptions(chunk_size=len(digests), device=device)
    started = time.perf_counter()
    result = train_population([everything[d][1] for d in digests], task, options, seed=seed)
    _, held_out = split_rows(len(task.y_train), options.validation_fraction, options.split)
    x, y = task.x_train[held_out], task.y_train[held_out]
    line = {
        "seed": seed,
        "options": options.digest,
        "digests": digests,
        "measured": result.validation_accuracy.tolist(),
        "test": result.test_accuracy.tolist(),
        "split": [integer_accuracy(network, x, y) for network in result.networks],
        "seconds": time.perf_counter() - started,
        "training_seconds": result.seconds,
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.machine(),
        "device_bytes": torch.cuda.max_memory_allocated() if device == "cuda" else 0,
        "torch": torch.__version__,
    }
    return json.dumps(line, separators=(",", ":"))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read finished chunks; a line cut off by a kill is dropped."""
    lines = []
    for text in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            print(f"{path}: a line is cut off and will be made anew", file=sys.stderr)
    return lines


def train(arguments: argparse.Namespace) -> None:
    """Train all chunks that are missing, until the deadline."""
    deadline = time.monotonic() + arguments.deadline_s
    everything = benchmark_candidates(arguments.share)
    digests = sorted(everything)
    candidates = [everything[d][1] for d in digests]
    chunks = [
        [digests[i] for i in part]
        for part in chunks_of_similar_size(candidates, arguments.chunk_size)
    ]
    done = {(x["seed"], d) for x in read_lines(arguments.output) for d in x["digests"]}
    jobs = [
        (seed, chunk)
        for seed in range(1, arguments.n_seeds + 1)
        for chunk in chunks
        if any((seed, d) not in done for d in chunk)
    ]
    print(f"{len(digests)} pairs, {len(jobs)} chunks to train", flush=True)
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(max_workers=arguments.n_processes, mp_context=context)
    waiting: set[Future[str]] = {
        pool.submit(
            train_chunk, chunk, arguments.share, arguments.jets.resolve(), arguments.device, seed
        )
        for seed, chunk in jobs
    }
    n_done, n_failed, started = 0, 0, time.monotonic()
    with arguments.output.open("a") as stream:
        while waiting and time.monotonic() < deadline:
            finished, waiting = wait(waiting, timeout=1.0, return_when=FIRST_COMPLETED)
            for future in finished:
                if future.exception() is not None:  # the others may well finish; report at the end
                    n_failed += 1
                    print(f"a chunk failed: {future.exception()!r}", file=sys.stderr, flush=True)
                    continue
                line = future.result()
                stream.write(line + "\n")
                stream.flush()
                n_done += 1
                value = json.loads(line)
                print(
                    f"{time.monotonic() - started:6.0f} s: chunk {n_done}/{len(jobs)}, seed {value['seed']}:"
                    f" {value['seconds']:.1f} s, {value['device_bytes'] / 1e9:.1f} GB, median accuracy"
                    f" {np.median(value['measured']):.4f}",
                    flush=True,
                )
    if waiting:
        print(f"deadline: {len(waiting)} chunks are left", flush=True)
        for process in multiprocessing.active_children():
            process.kill()
        os._exit(1)
    pool.shutdown()
    if n_failed:
        sys.exit(f"{n_failed} chunks failed; run again to repeat them")


def assemble(arguments: argparse.Namespace) -> None:
    """Write the benchmark from the seeds that all pairs have."""
    everything, lines = benchmark_candidates(), read_lines(arguments.labels)
    found = {
        (digest, line["seed"]): (line["measured"][i], line["test"][i], line["split"][i])
        for line in lines
        for i, digest in enumerate(line["digests"])
    }
    options = TrainingOptions()
    if {line["options"] for line in lines} != {options.digest}:
        sys.exit(f"{arguments.labels}: not all labels were made with the default options")
    seeds = [
        seed
        for seed in sorted({seed for _, seed in found})
        if all((digest, seed) in found for digest in everything)
    ]
    labels = [
        Label(
            key=digest,
            options=options.digest,
            task="jets",
            seed=seed,
            validation_accuracy=found[digest, seed][0],
            test_accuracy=found[digest, seed][1],
            epochs=options.epochs,
            network=candidate.network.to_json(),
        )
        for digest, (_, candidate) in everything.items()
        for seed in seeds
    ]
    more = {
        digest: {
            "space": space,
            "split_accuracy_percent": [round(100 * found[digest, seed][2], 2) for seed in seeds],
        }
        for digest, (space, _) in everything.items()
    }
    n = write_benchmark(labels, arguments.output, more=more)
    unused = ("chunk_size", "device", "split")
    describe_benchmark(
        arguments.output,
        how={
            "made_with": "tests/benchmarks/jet_benchmark/make.py",
            "task": "jets (bundled, codesign-jets-v1): simulated, not the public set",
            "training": "rows 0 to 15,999 less 2,000 validation rows (split 0), so as a study trains its labels",
            "target": "mean over the seeds of validation_accuracy_percent: accuracy of the integer network on rows 20,000"
            " to 79,999 of the 80,000 jets that the bundled ones were cut from (60,000 jets that neither train nor"
            " test anything; sampling error 0.2 %, shared by all pairs)",
            "test_accuracy_percent": "of the same networks on rows 16,000 to 19,999, the bundled test set",
            "split_accuracy_percent": "of the same networks on the 2,000 validation rows",
            "seeds": seeds,
            "samples": [
                {
                    "space": space,
                    "n": n,
                    "seed": seed,
                    "by": "codesign.training.sampling.sample_candidates",
                }
                for space, n, seed in SAMPLES
            ],
            "spaces": {path.stem: path.read_text() for path in sorted(FOLDER.glob("*.yaml"))},
            "training_options": {k: v for k, v in asdict(options).items() if k not in unused},
            "options_digest": options.digest,
            "trained_on": sorted({f"{x['device'] or 'x86_64'}, torch {x['torch']}" for x in lines}),
        },
    )
    print(f"{n} pairs with seeds {seeds} written to {arguments.output}")


def describe_benchmark(path: Path, *, how: dict[str, Any]) -> None:
    """Write what a benchmark holds, and how it was made, beside it (`.json` instead of `.jsonl.gz`)."""
    entries = load_benchmark(path)
    spaces = sorted({e.space for e in entries})
    description = {
        "schema": 1,
        "how": how,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "statistics": statistics_json(entries),
        "statistics_by_space": {
            space: statistics_json([e for e in entries if e.space == space])
            for space in spaces
            if len(spaces) > 1
        },
    }
    text = json.dumps(description, indent=1, allow_nan=False)
    write_atomically(path.with_name(path.name.removesuffix(".jsonl.gz") + ".json"), text + "\n")


def statistics_json(entries: list[BenchmarkEntry]) -> dict[str, Any]:
    """Return statistics as JSON values; null: one that needs two seeds, where no pair has them."""
    found = asdict(benchmark_statistics(entries))
    return {k: None if v != v else v for k, v in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("train")
    command.set_defaults(run=train)
    command.add_argument("--jets", type=Path, required=True)
    command.add_argument("--output", type=Path, required=True)
    command.add_argument("--n-seeds", type=int, default=8)
    command.add_argument("--chunk-size", type=int, default=256)
    command.add_argument("--n-processes", type=int, default=os.cpu_count() or 1)
    command.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    command.add_argument("--deadline-s", type=float, default=1e9)
    command.add_argument("--share", type=float, default=1.0, help="of the pairs, for trials")
    command = commands.add_parser("assemble")
    command.set_defaults(run=assemble)
    command.add_argument("--labels", type=Path, required=True)
    command.add_argument("--output", type=Path, default=BENCHMARK_PATH)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
