"""What `codesign train` does, step by step."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codesign.cli._label_run import load_task_arrays
from codesign.cli._progress import RichReporter
from codesign.errors import ConfigError
from codesign.ir import Candidate
from codesign.training.options import TrainingOptions
from codesign.training.teacher import train_teacher
from codesign.training.train import train_population


def train_study(folder: Path) -> list[dict[str, Any]]:
    """Run a study up to its stage `train`, or read what that stage found."""
    from codesign.pipeline import run_study
    from codesign.results import Training
    from codesign.study import Study

    study = Study.open(folder)
    with RichReporter() as reporter:
        run_study(study, until="train", reporter=reporter)
    return [
        {
            "digest": design.digest,
            "validation_score": design.validation.value,
            "test_score": design.test.value,
            "weights": str(study.trained(design.digest)),
        }
        for digest, design in study.designs().items()
        if digest in study.results().require(Training).finalists
    ]


def train_files(
    paths: Sequence[Path],
    *,
    task: str,
    task_options: Mapping[str, Any],
    epochs: int,
    batch_size: int,
    distill: bool,
    seed: int,
    output: Path,
) -> list[dict[str, Any]]:
    """Train the candidates of JSON files together and save their integer networks."""
    candidates = [_read(path) for path in paths]
    arrays = load_task_arrays(task, task_options)
    options = TrainingOptions(epochs=epochs, batch_size=batch_size)
    output.mkdir(parents=True, exist_ok=True)
    with RichReporter() as reporter:
        teacher = None
        if distill:
            with reporter.stage("training the teacher", 1.0) as stage:
                teacher = train_teacher(arrays, seed=seed, progress=stage.update)
        with reporter.stage(f"training {len(candidates)} candidates", 1.0) as stage:
            result = train_population(
                candidates,
                arrays,
                options,
                seed=seed,
                progress=stage.update,
                teacher_logits=teacher,
            )
    rows = []
    for i, network in enumerate(result.networks):
        path = output / f"{network.candidate.digest}.npz"
        network.save(path)
        rows.append(
            {
                "digest": network.candidate.digest,
                "validation_score": float(result.validation_score[i]),
                "test_score": float(result.test_score[i]),
                "weights": str(path),
            }
        )
    return rows


def _read(path: Path) -> Candidate:
    try:
        return Candidate.from_json(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path} does not exist; give candidate JSON files or a study folder"
        ) from error
    except ValueError as error:
        raise ConfigError(
            f"{path} is no candidate file ({error}); a study writes candidate.json"
        ) from error
