"""Train one or many networks at their precision, with the same code."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, as_completed
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from codesign.errors import DesignError
from codesign.ir import Candidate, QuantizedNetwork
from codesign.ir.quantized import leading
from codesign.layers._training import TrainStep
from codesign.layers.input import input_shape
from codesign.processes import n_worker_processes
from codesign.space import population_from_candidates
from codesign.training.anomaly import AnomalyLoss, evidence_of
from codesign.training.judge import head_values, merit_of
from codesign.training.losses import TargetLoss, row_weights
from codesign.training.options import TaskArrays, TrainingOptions, TrainingResult, initial_seeds
from codesign.training.population_module import PopulationModule
from codesign.training.schedule import Schedule, build_schedule
from codesign.training.thinning import thin

#: Called with the share done, 0..1.
Progress = Callable[[float], None]
#: Seed of the split into training and validation rows: one split for all labels of a task.
_SPLIT_SEED = 20_260_101
#: Input statistics of normalised nodes are tracked at every so many steps: they change slowly.
_MOMENT_STEPS = 4
#: Steps at which ranges are chosen from the start, beside twice per epoch later.
_EARLY_STEPS = (0, 4, 16)


def train_population(
    candidates: Sequence[Candidate],
    task: TaskArrays,
    options: TrainingOptions,
    *,
    seed: int,
    progress: Progress | None = None,
    executor: Executor | None = None,
    teacher_logits: NDArray[np.float32] | None = None,
) -> TrainingResult:
    """Train candidates at their precision and evaluate their integer networks.

    Candidates of similar size are trained together, `options.chunk_size` at a time.

    Args:
        candidates: what to train; at least one.
        task: standardised arrays.
        options: how.
        seed: of initial weights (together with each architecture) and batches.
        progress: told the share done.
        executor: trains chunks in other processes; None trains them here.
        teacher_logits: float32[n_train, n_classes], what a teacher says of the training rows.

    Returns:
        Results in the order of `candidates`.

    Raises:
        DesignError: a network that cannot be trained, or that does not fit the task.
        DataError: the data cannot be used.
    """
    started = time.perf_counter()
    check_fit(candidates, task)
    chunks = chunks_of_similar_size(candidates, options.chunk_size)
    parts: dict[int, TrainingResult] = {}

    def arguments(
        rows: NDArray[np.int64],
    ) -> tuple[list[Candidate], TaskArrays, TrainingOptions, int, NDArray[np.float32] | None]:
        return [candidates[i] for i in rows], task, options, seed, teacher_logits

    if executor is None:
        for index, rows in enumerate(chunks):

            def chunk_progress(share: float, index: int = index) -> None:
                if progress is not None:
                    progress((index + share) / len(chunks))

            parts[index] = _train_chunk(*arguments(rows), chunk_progress)
    else:
        futures = {
            executor.submit(train_chunk_in_worker, *arguments(rows)): index
            for index, rows in enumerate(chunks)
        }
        for n_done, future in enumerate(as_completed(futures), start=1):
            parts[futures[future]] = future.result()
            if progress is not None:
                progress(n_done / len(chunks))
    order = np.argsort(np.concatenate(chunks), kind="stable")
    ordered = [parts[i] for i in range(len(chunks))]
    networks = [network for part in ordered for network in part.networks]
    return TrainingResult(
        networks=tuple(networks[i] for i in order),
        validation_score=np.concatenate([p.validation_score for p in ordered])[order],
        test_score=np.concatenate([p.test_score for p in ordered])[order],
        loss=np.concatenate([p.loss for p in ordered])[order],
        epochs=np.concatenate([p.epochs for p in ordered])[order],
        seed=seed,
        seconds=time.perf_counter() - started,
    )


def fine_tune_one(
    candidate: Candidate,
    task: TaskArrays,
    options: TrainingOptions,
    *,
    seed: int,
    epochs: int,
    progress: Progress | None = None,
    teacher_logits: NDArray[np.float32] | None = None,
) -> TrainingResult:
    """Train one candidate for `epochs`; a population of one through `train_population`."""
    return train_population(
        [candidate],
        task,
        replace(options, epochs=epochs),
        seed=seed,
        progress=progress,
        teacher_logits=teacher_logits,
    )


def split_rows(
    n_rows: int, validation_fraction: float, split: int = 0
) -> tuple[NDArray[np.int64], ...]:
    """Return the rows to train on and the rows to validate on: the same for every run of a task.

    Args:
        n_rows: how many there are.
        validation_fraction: share to validate on.
        split: which share; different splits validate on disjoint rows.
    """
    order = np.random.default_rng(_SPLIT_SEED).permutation(n_rows)
    n_validation = max(1, round(n_rows * validation_fraction))
    held_out = slice(split * n_validation, (split + 1) * n_validation)
    return np.sort(np.delete(order, held_out)), np.sort(order[held_out])


def check_fit(candidates: Sequence[Candidate], task: TaskArrays) -> None:
    for candidate in candidates:
        leading(task.x_train[:0], input_shape(candidate.network))


def even_chunk_size(n: int, *, at_most: int) -> int:
    """Return how many of n networks to train together so that every worker gets as many chunks."""
    n_workers = n_worker_processes()
    n_chunks = n_workers * -(-n // (n_workers * at_most))
    return max(1, -(-n // n_chunks))


def chunks_of_similar_size(
    candidates: Sequence[Candidate], chunk_size: int
) -> list[NDArray[np.int64]]:
    """Split candidates into chunks of similar networks that take about equally long; indices.

    An epoch takes time in proportion to the lanes of all nodes (measured: 20 microseconds per lane and
    step of 256 rows), so a chunk of small networks holds more of them: `chunk_size` on average.
    """
    if not candidates:
        raise DesignError("no candidates to train; give at least one")
    population = population_from_candidates(candidates)
    elements = population.columns["n_out"] * population.columns["n_positions"]
    lanes = np.bincount(population.candidate, elements, minlength=len(candidates))
    order = np.argsort(lanes, kind="stable")
    n_chunks = -(-len(candidates) // chunk_size)
    share = np.cumsum(lanes[order]) / lanes.sum()
    # each chunk ends where its share of all lanes is reached, and holds at least one network
    first = np.searchsorted(share, np.arange(1, n_chunks) / n_chunks, side="right")
    at_least = np.arange(1, n_chunks)
    first = np.clip(first, at_least, len(candidates) - n_chunks + at_least)
    first = np.maximum.accumulate(first - at_least) + at_least
    return [np.asarray(part) for part in np.split(order, first)]


def _device(options: TrainingOptions) -> torch.device:
    if options.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(options.device)


def train_chunk_in_worker(
    candidates: Sequence[Candidate],
    task: TaskArrays,
    options: TrainingOptions,
    seed: int,
    teacher_logits: NDArray[np.float32] | None,
) -> TrainingResult:
    """Train one chunk on one core: what worker processes run."""
    with one_thread():
        return _train_chunk(candidates, task, options, seed, teacher_logits, lambda share: None)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread: workers share the cores already."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def _train_chunk(
    candidates: Sequence[Candidate],
    task: TaskArrays,
    options: TrainingOptions,
    seed: int,
    teacher_logits: NDArray[np.float32] | None,
    progress: Progress,
) -> TrainingResult:
    started = time.perf_counter()
    training = _Training(candidates, task, options, seed, teacher_logits)
    for epoch in range(options.epochs):
        training.run_epoch()
        if options.stop_below > 0 and epoch + 1 == options.epochs // 2:
            training.drop_hopeless()
        progress((epoch + 1) / options.epochs)
    training.finish()
    x, y, weights = task.x_measured, task.y_measured, None
    if x is None or y is None:
        rows = training.validation_rows
        x, y = task.x_train[rows], task.y_train[rows]
        weights = None if task.weights_train is None else task.weights_train[rows]
    networks = training.networks()
    return TrainingResult(
        networks=networks,
        validation_score=np.array([merit_of(n, task, x, y, weights=weights) for n in networks]),
        test_score=np.array(
            [
                merit_of(n, task, task.x_test, task.y_test, weights=task.weights_test, is_test=True)
                for n in networks
            ]
        ),
        loss=training.loss,
        epochs=np.isfinite(training.loss).sum(axis=1),
        seed=seed,
        seconds=time.perf_counter() - started,
    )


def schedule_and_loss(
    candidates: Sequence[Candidate], task: TaskArrays, options: TrainingOptions, seeds: list[int]
) -> tuple[Schedule, TargetLoss | AnomalyLoss]:
    """Return the program that computes candidates together, and the loss of their task.

    Raises:
        DesignError: an anomaly score is asked of a network that computes none.
    """
    if task.target.score.kind != "anomaly":
        schedule = build_schedule(candidates, seeds)
        return schedule, TargetLoss(task.target, schedule.n_outputs, options)
    evidence = [evidence_of(candidate.network) for candidate in candidates]
    schedule = build_schedule(candidates, seeds, tapped=[e.tapped for e in evidence])
    taps = iter(schedule.taps)
    return schedule, AnomalyLoss(
        evidence,
        widths=[0 if e.tapped is None else schedule.width(next(taps)) for e in evidence],
        n_inputs=math.prod(task.x_train.shape[1:]),
        seeds=seeds,
    )


class _Training:
    """One chunk in training: model, optimiser and where they are in the schedule."""

    def __init__(
        self,
        candidates: Sequence[Candidate],
        task: TaskArrays,
        options: TrainingOptions,
        seed: int,
        teacher_logits: NDArray[np.float32] | None,
    ) -> None:
        device = _device(options)
        self._options = options
        self._all = list(candidates)
        self._seeds = initial_seeds(candidates, seed)
        self._active = list(range(len(candidates)))
        self._finished: dict[int, QuantizedNetwork] = {}
        self._task = task
        schedule, self._loss = schedule_and_loss(candidates, task, options, self._seeds)
        self._keeps_tails = False
        if isinstance(self._loss, AnomalyLoss):
            self._keeps_tails = True  # anomalies are where inputs are large
            self._loss.to(device)
        rows, self.validation_rows = split_rows(
            len(task.y_train), options.validation_fraction, options.split
        )
        rows = rows[task.target.is_trained_on(task.y_train[rows])]
        self._data = features_first(task.x_train[rows]).to(device)
        self._targets = self._loss.targets(task.y_train[rows], task.x_train[rows]).to(device)
        weights = row_weights(task, rows)
        self._weights = None if weights is None else weights.to(device)
        self._held_out = features_first(task.x_train[self.validation_rows]).to(device)
        self._soft = None
        if teacher_logits is not None:
            logits = torch.from_numpy(np.ascontiguousarray(teacher_logits[rows].T))
            self._soft = torch.softmax(logits / options.distillation_temperature, dim=0).to(device)
        self._model = PopulationModule(schedule).to(device)
        self._batch_size = min(options.batch_size, len(rows))
        self._n_batches = len(rows) // self._batch_size
        self._n_steps = options.epochs * self._n_batches
        self._step = 0
        # Ranges and moments exist only after a first look at the data.
        with torch.no_grad():
            first = self._data[..., : self._batch_size]
            start = TrainStep(
                selects_ranges=True, updates_moments=True, keeps_tails=self._keeps_tails
            )
            self._model(first, start)
        decoders = self._loss.parameters() if isinstance(self._loss, AnomalyLoss) else ()
        self._optimiser = torch.optim.AdamW(
            [*self._model.parameters(), *decoders],
            lr=options.learning_rate,
            weight_decay=options.weight_decay,
            fused=True,
        )
        self._generator = torch.Generator().manual_seed(seed)
        self.loss = np.full((len(candidates), options.epochs), np.nan)

    def run_epoch(self) -> None:
        """Pass over the training rows once, in a new order, or over as many drawn by their weights."""
        n, weights = self._data.shape[-1], self._weights
        if weights is not None and self._task.sampling == "weighted":
            total_weight = torch.cumsum(weights.cpu().double(), 0)
            drawn = torch.rand(n, generator=self._generator, dtype=torch.float64)
            order = torch.searchsorted(total_weight, drawn * total_weight[-1], right=True)
            weights = None
        else:
            order = torch.randperm(n, generator=self._generator)
        order = order.to(self._data.device)
        weights = None if weights is None else weights[order]
        data, targets = self._data[..., order], self._targets[:, order]
        soft = None if self._soft is None else self._soft[:, order]
        total = torch.zeros(len(self._active), device=data.device)
        epoch = self._step // self._n_batches
        for batch in range(self._n_batches):
            window = slice(batch * self._batch_size, (batch + 1) * self._batch_size)
            self._optimiser.param_groups[0]["lr"] = _learning_rate(
                self._step / self._n_steps, self._options
            )
            plan = replace(
                _plan_step(self._step, self._n_batches, self._n_steps, self._options),
                keeps_tails=self._keeps_tails,
            )
            teacher = None if soft is None else soft[:, window]
            logits = self._model(data[..., window], plan)
            weight = None if weights is None else weights[window]
            if isinstance(self._loss, AnomalyLoss):
                loss = self._loss(logits, targets[:, window], self._model.tapped, weight)
            else:
                loss = self._loss(logits, targets[:, window], teacher, weight)
            if loss.requires_grad:  # distances from the mean event have nothing to learn
                self._optimiser.zero_grad(set_to_none=True)
                loss.sum().backward()
                self._optimiser.step()
            total += loss.detach()
            self._step += 1
        self.loss[self._active, epoch] = (total / self._n_batches).cpu().numpy()

    def drop_hopeless(self) -> None:
        """Stop networks that have learned far less than their chunk's median; keep what they are."""
        if isinstance(self._loss, AnomalyLoss):
            return  # their decoders would have to be thinned, too
        with torch.no_grad():
            outputs = (
                self._model(self._held_out, TrainStep()).permute(0, 2, 1).double().cpu().numpy()
            )
        merit = np.array([self._merit(own) for own in outputs])
        # what always the same answer is worth: each class in turn, or the mean value
        guesses = np.concatenate([np.zeros((1, outputs.shape[2])), np.eye(outputs.shape[2])])
        chance = max(self._merit(np.tile(guess, (outputs.shape[1], 1))) for guess in guesses)
        floor = chance + self._options.stop_below * (float(np.median(merit)) - chance)
        keep = np.flatnonzero(merit >= floor)
        if keep.size in (0, len(self._active)):
            return
        candidates = [self._all[i] for i in self._active]
        seeds = [self._seeds[i] for i in self._active]
        thinned = thin(self._model, self._optimiser, candidates, seeds, keep.tolist())
        with torch.no_grad():  # those that stop may not be pruned to the end yet
            self._model(self._data[..., : self._batch_size], TrainStep(pruning=1.0))
        self._export(set(range(len(self._active))) - set(keep.tolist()))
        self._model, self._optimiser = thinned
        self._active = [self._active[i] for i in keep]

    def _merit(self, outputs: NDArray[np.float64]) -> float:
        """Return what outputs [n, n_outputs] of the validation rows are worth to the first head."""
        rows, task = self.validation_rows, self._task
        head, values, truth = next(
            head_values(task.target, outputs, task.y_train[rows], task.x_train[rows])
        )
        return float(head.metric.merit(head.metric.score(values, truth)))

    def _export(self, positions: set[int]) -> None:
        """Choose the output formats and export the networks at some positions of the model."""
        with torch.no_grad():
            for start in range(0, self._data.shape[-1], 1024):
                self._model(self._data[..., start : start + 1024], TrainStep(covers_outputs=True))
        exported = self._model.export([self._all[i] for i in self._active])
        for position in positions:
            self._finished[self._active[position]] = exported[position]

    def finish(self) -> None:
        """Export the networks still in training."""
        self._export(set(range(len(self._active))))

    def networks(self) -> tuple[QuantizedNetwork, ...]:
        """Return all networks, in the order of the candidates; after `finish`."""
        return tuple(self._finished[i] for i in range(len(self._all)))


def features_first(x: NDArray[np.float32]) -> torch.Tensor:
    """Return float32[n, ..., n_features] as float32[n_features, ..., n]."""
    axes = (x.ndim - 1, *range(1, x.ndim - 1), 0)
    return torch.from_numpy(np.ascontiguousarray(x.transpose(axes)))


def _learning_rate(done: float, options: TrainingOptions) -> float:
    """One cycle: from 1/25 of the peak up, then down to nearly nothing, both along a cosine.

    Source: Smith and Topin, arXiv 1708.07120, in the form of `torch.optim.lr_scheduler.OneCycleLR`.
    """
    peak = options.learning_rate
    low, share = peak / 25.0, done / options.warm_up
    if done >= options.warm_up:
        low, share = peak / 25e4, (1.0 - done) / (1.0 - options.warm_up)
    return low + (peak - low) * 0.5 * (1.0 - math.cos(math.pi * min(1.0, share)))


def _plan_step(index: int, n_batches: int, n_steps: int, options: TrainingOptions) -> TrainStep:
    """Say what step `index` of `n_steps` does beside a gradient step."""
    done = index / n_steps
    is_event = index in _EARLY_STEPS or index % max(1, n_batches // 2) == 0
    ranges_last = int(options.ranges_end * n_steps)
    pruning_last = int(options.pruning_end * n_steps)
    pruning = None
    if index == pruning_last or (is_event and options.pruning_start <= done < options.pruning_end):
        span = options.pruning_end - options.pruning_start
        ramp = min(1.0, (done - options.pruning_start) / span)
        pruning = 1.0 if index == pruning_last else 1.0 - (1.0 - ramp) ** 3
    return TrainStep(
        selects_ranges=index == ranges_last or (is_event and index < ranges_last),
        updates_moments=index % _MOMENT_STEPS == 0,
        pruning=pruning,
    )


__all__ = [
    "Progress",
    "fine_tune_one",
    "split_rows",
    "train_population",
]
