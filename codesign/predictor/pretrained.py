"""A predictor of the jets that ships, so that a search can start without a single label."""

from pathlib import Path

import numpy as np

from codesign.encoding.batch import GraphBatch
from codesign.encoding.population import encode_population
from codesign.predictor.base import Floats, Predictor, load_predictor, save_predictor
from codesign.predictor.train import fit_predictor
from codesign.training.benchmark import (
    BENCHMARK_PATH,
    BenchmarkEntry,
    load_benchmark,
    population_of,
)

#: The predictor that ships: the narrower blend on the 1,536 labels of the jet benchmark.
PRETRAINED_PATH = Path(__file__).resolve().parent / "checkpoints" / "jets_v2.npz"


def load_pretrained() -> Predictor:
    """Return the predictor that ships; it reads batches of `encode_population`."""
    return load_predictor(PRETRAINED_PATH)[0]


def encode_entries(entries: list[BenchmarkEntry]) -> tuple[GraphBatch, Floats]:
    """Encode labelled networks exactly as a search encodes its population.

    Returns:
        The batch, and the validation score 0..1 averaged over the seeds, float[n].
    """
    batch = encode_population(population_of([entry.network for entry in entries]))
    labels = np.array([np.mean(entry.validation_accuracy) for entry in entries])
    return batch, labels


def train_on_benchmark(
    output: Path,
    *,
    path: Path = BENCHMARK_PATH,
    method: str = "blend",
    seed: int = 0,
    start_from: Path | None = None,
) -> str:
    """Fit on a benchmark of networks and write a checkpoint that a search can load.

    Returns:
        Why this method was taken.

    Raises:
        DataError: the benchmark is missing or damaged.
    """
    batch, labels = encode_entries(load_benchmark(path))
    pretrained = None if start_from is None else load_predictor(start_from)[0]
    choice = fit_predictor(batch, labels, seed=seed, method=method, pretrained=pretrained)
    notes = {"benchmark": path.name, "n_labels": len(labels), "seed": seed, "reason": choice.reason}
    save_predictor(choice.predictor, output, notes=notes)
    return choice.reason
