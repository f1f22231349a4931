"""Stage "train": train the finalists to the end, and price them with their weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from codesign.export.rtl import solve_network
from codesign.files import write_atomically
from codesign.hardware.scorer import violations
from codesign.ir import Candidate, QuantizedNetwork
from codesign.results import (
    FrontPoint,
    HeadScore,
    PredictedScore,
    Results,
    Search,
    TrainedDesign,
    Training,
)
from codesign.space import population_from_candidates
from codesign.stages.choosing import choose_finalists
from codesign.stages.nodes import describe_nodes
from codesign.stages.setting import MAX_CHUNK, Setting, costs_of, score_kinds
from codesign.stages.statistics import combine_scores
from codesign.training.judge import judge_outputs, merit_of, output_values
from codesign.training.options import TaskArrays, TrainingOptions
from codesign.training.precision import LearnedResult, PrecisionOptions, learn_with_teacher
from codesign.training.train import even_chunk_size, split_rows, train_population
from hw_models.units import period_to_mhz

KEYS = (
    "train.n_finalists",
    "train.epochs",
    "train.n_splits",
    "train.precision",
    "train.lut",
)


@dataclass(frozen=True, kw_only=True)
class TrainedFinalist:
    """What training makes of a finalist.

    Attributes:
        network: the network that is kept.
        split_scores: scores on the validation rows of each split.
        test_score: of `network`.
    """

    network: QuantizedNetwork
    split_scores: tuple[float, ...]
    test_score: float

    @property
    def validation_score(self) -> float:
        """Mean over the splits."""
        return float(np.mean(self.split_scores))


class FinalistTrainer(Protocol):
    """How finalists are trained: the seam at which other kinds of precision plug in."""

    def __call__(
        self, setting: Setting, candidates: Sequence[Candidate]
    ) -> Sequence[TrainedFinalist]:
        """Train candidates to the end, each in every split; in their order."""


def train_uniform(setting: Setting, candidates: Sequence[Candidate]) -> list[TrainedFinalist]:
    """Train candidates at the widths that their genomes say, once per split.

    What is kept is the training that did best beside the other finalists of its split.
    """
    options, seed = setting.study.config.train, setting.study.config.seed
    results = []
    with (
        setting.reporter.stage(
            f"training {len(candidates)} finalists, {options.n_splits} times each", 1.0
        ) as stage,
        setting.pool() as pool,
    ):
        for split in range(options.n_splits):

            def update(share: float, split: int = split) -> None:
                stage.update((split + share) / options.n_splits)

            results.append(
                train_population(
                    candidates,
                    setting.arrays(),
                    TrainingOptions(
                        epochs=options.epochs,
                        split=split,
                        chunk_size=even_chunk_size(len(candidates), at_most=MAX_CHUNK),
                    ),
                    seed=seed + split,
                    progress=update,
                    executor=pool,
                )
            )
    validation = np.stack([result.validation_score for result in results])
    best = (validation - validation.mean(axis=1, keepdims=True)).argmax(axis=0)
    return [
        TrainedFinalist(
            network=results[k].networks[i],
            split_scores=tuple(validation[:, i].tolist()),
            test_score=float(results[k].test_score[i]),
        )
        for i, k in enumerate(best)
    ]


def train_learned(setting: Setting, candidates: Sequence[Candidate]) -> list[TrainedFinalist]:
    """Train the topologies of candidates with learned widths, the first of them to the least LUTs.

    Every split tells a score on rows that neither networks nor teacher have seen.  What is kept was
    trained on all rows, with another seed: nothing was chosen by those scores.
    """
    options, seed = setting.study.config.train, setting.study.config.seed
    budgets = np.geomspace(*options.lut, len(candidates))
    arrays = setting.arrays()
    settings = [PrecisionOptions(epochs=options.epochs, split=k) for k in range(options.n_splits)]
    settings.append(PrecisionOptions(epochs=options.epochs, validation_fraction=0.0))
    with (
        setting.reporter.stage(
            f"learning the widths of {len(candidates)} finalists, {len(settings)} times each", 1.0
        ) as stage,
        setting.pool() as pool,
    ):
        done = [0]

        def count(result: LearnedResult) -> LearnedResult:
            done[0] += 1
            stage.update(done[0] / len(settings))
            return result

        jobs = [(candidates, budgets, arrays, o, seed + k) for k, o in enumerate(settings)]
        if pool is None:
            results = [count(learn_with_teacher(*job)) for job in jobs]
        else:
            futures = [pool.submit(learn_with_teacher, *job) for job in jobs]
            results = [count(future.result()) for future in futures]
    *splits, kept = results
    scores = [
        [_merit(arrays, network, result.validation_rows) for network in result.networks]
        for result in splits
    ]
    return [
        TrainedFinalist(
            network=network,
            split_scores=tuple(split[i] for split in scores),
            test_score=merit_of(
                network,
                arrays,
                arrays.x_test,
                arrays.y_test,
                weights=arrays.weights_test,
                is_test=True,
            ),
        )
        for i, network in enumerate(kept.networks)
    ]


def _merit(arrays: TaskArrays, network: QuantizedNetwork, rows: NDArray[np.int64]) -> float:
    """Return the score of a network on training rows, turned so that larger is better."""
    weights = None if arrays.weights_train is None else arrays.weights_train[rows]
    return merit_of(network, arrays, arrays.x_train[rows], arrays.y_train[rows], weights=weights)


def _validation_error(arrays: TaskArrays, network: QuantizedNetwork) -> float:
    """Return the standard error of a network's score on one set of validation rows."""
    _, rows = split_rows(len(arrays.y_train), TrainingOptions().validation_fraction)
    outputs = output_values(network, arrays.x_train[rows])
    judged = judge_outputs(outputs, arrays, part="train", rows=rows)
    return judged[arrays.target.score.name].standard_error


#: Trainers of finalists, by `train.precision`.
TRAINERS: Mapping[str, FinalistTrainer] = {"uniform": train_uniform, "learned": train_learned}


def head_scores(
    setting: Setting, arrays: TaskArrays, outputs: NDArray[np.float64]
) -> dict[str, HeadScore]:
    """Judge outputs of the test rows head by head, with errors.

    Args:
        setting: the study's.
        arrays: its rows.
        outputs: float64[n_test, n_outputs], values of the output words.
    """
    judged = judge_outputs(outputs, arrays)
    return {
        name: HeadScore(kind=kind, score=judged[name].score, error=judged[name].standard_error)
        for name, kind in score_kinds(setting.task).items()
    }


def run(setting: Setting, earlier: Results, *, trainer: FinalistTrainer | None = None) -> Training:
    """Choose finalists on the front, train them, keep their weights, and price them."""
    points = choose_finalists(
        earlier.require(Search).points, setting.study.config.train.n_finalists
    )
    return Training(designs=train_points(setting, points, trainer=trainer))


def train_points(
    setting: Setting, points: Sequence[FrontPoint], *, trainer: FinalistTrainer | None = None
) -> list[TrainedDesign]:
    """Train points of the front to the end; their weights go into the study folder."""
    study, n_splits = setting.study, setting.study.config.train.n_splits
    candidates = setting.candidates([point.genome for point in points])
    trainer = trainer or TRAINERS[study.config.train.precision]
    trained = trainer(setting, candidates)
    networks = [finalist.network for finalist in trained]
    for network in networks:
        network.save(study.weights_file(network.candidate.digest))
        write_atomically(
            study.candidate_folder(network.candidate.digest) / "candidate.json",
            json.dumps(network.candidate.to_json(), indent=1),
        )
    arrays = setting.arrays()
    before = setting.scorer.score(population_from_candidates(candidates))
    after = setting.scorer.score_quantized(
        networks, with_notes=True, with_nodes=True, solve=solve_network
    )
    excess = violations(after, setting.budget, setting.device)
    return [
        TrainedDesign(
            digest=finalist.network.candidate.digest,
            network_digest=finalist.network.digest,
            candidate=finalist.network.candidate.to_json(),
            flow=point.flow,
            clock_mhz=float(period_to_mhz(finalist.network.candidate.hardware.clock_period_ns)),
            predicted_score=PredictedScore(mean=point.score, std=point.score_std),
            validation_score=finalist.validation_score,
            # what was predicted is a network of the genome's widths, not of learned ones
            estimated_score=finalist.validation_score
            if study.config.train.precision == "learned"
            else combine_scores(
                point.score,
                point.score_std,
                finalist.validation_score,
                _validation_error(arrays, finalist.network) / n_splits**0.5,
            ),
            test_score=finalist.test_score,
            heads=head_scores(setting, arrays, output_values(finalist.network, arrays.x_test)),
            predicted=costs_of(before, i),
            predicted_with_weights=costs_of(after, i),
            fits=bool((excess[i] <= 0).all()),
            worst_excess=float(excess[i].max()),
            nodes=describe_nodes(finalist.network, after.per_node[i]),
            notes=list(after.notes[i]),
        )
        for i, (point, finalist) in enumerate(zip(points, trained, strict=True))
    ]
