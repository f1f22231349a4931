"""What `codesign label` does, step by step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import kendalltau

from codesign.cli._progress import RichReporter
from codesign.hardware.device import load_device
from codesign.pools import open_pool
from codesign.space import load_space
from codesign.tasks import fit_scaling, load_task
from codesign.training.labels import label_candidates
from codesign.training.options import TaskArrays, TrainingOptions
from codesign.training.sampling import sample_candidates
from codesign.training.store import LabelStore


def load_task_arrays(name: str, options: Mapping[str, Any]) -> TaskArrays:
    """Load a registered task with these options, scaled."""
    data = load_task(name, options)
    return TaskArrays.of(data, fit_scaling(data))


def run_labels(
    *,
    task: str,
    task_options: Mapping[str, Any],
    space: str,
    device: str,
    n_candidates: int,
    n_seeds: int,
    epochs: int,
    stop_below: float,
    seed: int,
    n_workers: int | None,
    dask: str,
    store: Path,
) -> dict[str, Any]:
    """Sample, train, and summarise; see the options of `codesign label`."""
    arrays = load_task_arrays(task, task_options)
    search_space = load_space(space, n_inputs=arrays.x_train.shape[1:], n_outputs=arrays.n_outputs)
    candidates = sample_candidates(
        search_space, n_candidates, seed=seed, part=load_device(device).part
    )
    options = TrainingOptions(epochs=epochs, stop_below=stop_below)
    with (
        LabelStore(store) as opened,
        open_pool(n_workers, dask=dask) as executor,
        RichReporter() as reporter,
        reporter.stage(f"training {len(candidates)} candidates", 1.0) as stage,
    ):
        found = label_candidates(
            candidates,
            arrays,
            options,
            store=opened,
            seeds=range(seed, seed + n_seeds),
            executor=executor,
            progress=stage.update,
        )
    first = found.validation_score[:, 0]
    result: dict[str, Any] = {
        "store": str(store),
        "options": options.digest,
        "n_candidates": len(candidates),
        "n_trained": found.n_trained,
        "seconds": round(found.seconds, 2),
        "validation_score_min": float(first.min()),
        "validation_score_median": float(np.median(first)),
        "validation_score_max": float(first.max()),
    }
    if n_seeds > 1:
        result["seed_to_seed_tau"] = float(
            kendalltau(first, found.validation_score[:, 1]).statistic
        )
    return result
