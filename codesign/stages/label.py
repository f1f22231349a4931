"""Stage "label": train candidates at their precision; their scores teach the predictor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from codesign.export.rtl import solve_network
from codesign.hardware.learned_cost import QUANTITIES
from codesign.hardware.scorer import violations
from codesign.ir import Candidate, QuantizedNetwork
from codesign.results import Labels, Results, Search
from codesign.stages.choosing import bit_operations, choose_spread
from codesign.stages.setting import MAX_CHUNK, Setting
from codesign.training.judge import merit_of
from codesign.training.labels import ChunkTrainer, LabelResult, label_candidates
from codesign.training.options import TaskArrays, TrainingOptions
from codesign.training.precision import PrecisionOptions, batch_size_for, train_learned
from codesign.training.proxies import score_untrained
from codesign.training.store import LabelStore
from codesign.training.train import one_thread, train_chunk_in_worker

KEYS = ("labels.n_initial", "labels.epochs", "labels.proxy")
#: Rows per step where labels learn their widths: a few epochs must hold enough steps to come to a budget.
_LEARNED_BATCH: Final = 128
#: Candidates that a zero-cost proxy looks at for each label.
_PER_LABEL: Final = 4


def run(setting: Setting, earlier: Results, *, round_index: int) -> Labels:
    """Train this round's candidates: a spread of the space first, what the last search asks for later."""
    if round_index == 1:
        genomes = initial_genomes(setting, setting.study.config.labels.n_initial)
    else:
        genomes = setting.genomes(earlier.require(Search).to_label)
    candidates = setting.candidates(genomes)
    if not candidates:
        return Labels(genomes=[], scores=[])
    found = _train(setting, candidates, round_index)
    return Labels(
        genomes=genomes.tolist(),
        scores=found.validation_score[:, 0].tolist(),
        costs=[dict(costs) for costs in found.costs] if setting.space.learns_widths else [],
    )


def initial_genomes(setting: Setting, n: int) -> NDArray[np.int64]:
    """Choose candidates to label first: distinct architectures that fit, spread over their size."""
    if n == 0:
        return setting.genomes([])
    generator = np.random.default_rng([setting.study.config.seed, 1])
    genomes = setting.space.sample(max(4000, 20 * n), generator)
    population = setting.space.decode(genomes)
    fits = (violations(setting.scorer.score(population), setting.budget, setting.device) <= 0).all(
        axis=1
    )
    genomes = genomes[fits] if fits.sum() >= n else genomes
    proxy = setting.study.config.labels.proxy
    if proxy is None:
        return genomes[choose_spread(setting.space.decode(genomes), n, generator)]
    pool = genomes[np.sort(choose_spread(setting.space.decode(genomes), _PER_LABEL * n, generator))]
    candidates, seed = setting.candidates(pool), setting.study.config.seed
    with setting.reporter.stage(f"asking the proxy {proxy} of {len(pool)} networks", 1.0):
        scores = score_untrained(candidates, setting.arrays(), proxy, seed=seed)
    by_size = np.argsort(bit_operations(setting.space.decode(pool)), kind="stable")
    best = [part[np.argmax(scores[part])] for part in np.array_split(by_size, min(n, len(pool)))]
    return np.asarray(pool[generator.permutation(np.array(best))])


def _train(setting: Setting, candidates: Sequence[Candidate], round_index: int) -> LabelResult:
    """Train a round's candidates; what the store knows is not trained again."""
    study = setting.study
    epochs = study.config.labels.epochs
    options: TrainingOptions | PrecisionOptions
    if setting.space.learns_widths:
        batch_size = batch_size_for(len(setting.task.y_train), at_most=_LEARNED_BATCH)
        options = PrecisionOptions(epochs=epochs, batch_size=batch_size)
        train_chunk: ChunkTrainer = learn_chunk_in_worker
    else:
        options = TrainingOptions(epochs=epochs, chunk_size=MAX_CHUNK)
        train_chunk = train_chunk_in_worker
    with (
        setting.reporter.stage(
            f"round {round_index}: training {len(candidates)} labels", 1.0
        ) as stage,
        LabelStore(study.label_store) as store,
        setting.pool() as pool,
    ):
        return label_candidates(
            candidates,
            setting.arrays(),
            options,
            store=store,
            train_chunk=train_chunk,
            seeds=(study.config.seed,),
            executor=pool,
            progress=stage.update,
        )


@dataclass(frozen=True, kw_only=True)
class LearnedLabels:
    """What training a chunk of networks with learned widths says of them, in their order.

    Attributes:
        validation_score, test_score: float64[n].
        epochs: int64[n].
        costs: `learned_cost.QUANTITIES` of each, from its solved adder graph.
    """

    validation_score: NDArray[np.float64]
    test_score: NDArray[np.float64]
    epochs: NDArray[np.int64]
    costs: tuple[Mapping[str, float], ...]


def learn_chunk_in_worker(
    candidates: Sequence[Candidate],
    task: TaskArrays,
    options: PrecisionOptions,
    seed: int,
    teacher_logits: NDArray[np.float32] | None,
) -> LearnedLabels:
    """Train one chunk with learned widths on one core, and solve what comes out: what workers run."""
    budgets = np.array([candidate.lut_budget for candidate in candidates], dtype=np.float64)
    with one_thread():
        result = train_learned(
            candidates, budgets, task, options, seed=seed, teacher_logits=teacher_logits
        )
        rows = result.validation_rows
        weights = None if task.weights_train is None else task.weights_train[rows]
        return LearnedLabels(
            validation_score=np.array(
                [
                    merit_of(n, task, task.x_train[rows], task.y_train[rows], weights=weights)
                    for n in result.networks
                ]
            ),
            test_score=np.array(
                [
                    merit_of(
                        n, task, task.x_test, task.y_test, weights=task.weights_test, is_test=True
                    )
                    for n in result.networks
                ]
            ),
            epochs=np.full(len(candidates), options.epochs),
            costs=tuple(map(cost_of, result.networks)),
        )


def cost_of(network: QuantizedNetwork) -> dict[str, float]:
    """Return `learned_cost.QUANTITIES` of a trained network; of one without logic, of next to nothing."""
    solved = solve_network(network)
    if solved is None:
        return dict.fromkeys(QUANTITIES, 1.0)
    return {
        "adder_cost": max(solved.adder_cost, 1.0),
        "adder_levels": max(solved.adder_levels, 1.0),
        "cut_bits": max(solved.register_bits / max(solved.latency_cycles, 1.0), 1.0),
    }
