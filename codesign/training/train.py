"""Train one or many networks at their precision, with the same code."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor as PoolExecutor
from concurrent.futures import as_completed
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from codesign.errors import DesignError
from codesign.ir import Candidate, QuantizedNetwork
from codesign.layers import run_words
from codesign.layers._training import TrainStep
from codesign.space import population_from_candidates
from codesign.training.executor import Executor, float_accuracy
from codesign.training.options import TaskArrays, TrainingOptions, TrainingResult, initial_seeds
from codesign.training.schedule import build_schedule

#: Called with the share done, 0..1.
Progress = Callable[[float], None]
#: Seed of the split into training and validation rows: one split for all labels of a task.
_SPLIT_SEED = 20_260_101
#: Steps at which ranges are chosen from the start, beside twice per epoch later.
_EARLY_STEPS = (0, 4, 16)


def train_population(
    candidates: Sequence[Candidate],
    task: TaskArrays,
    options: TrainingOptions,
    *,
    seed: int,
    progress: Progress | None = None,
    executor: PoolExecutor | None = None,
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
    _check_fit(candidates, task)
    chunks = chunks_of_similar_size(candidates, options.chunk_size)
    parts: dict[int, TrainingResult] = {}

    def arguments(rows: NDArray[np.int64]) -> tuple[object, ...]:
        return [candidates[i] for i in rows], task, options, seed, teacher_logits

    if executor is None:
        for index, rows in enumerate(chunks):

            def chunk_progress(share: float, index: int = index) -> None:
                if progress is not None:
                    progress((index + share) / len(chunks))

            parts[index] = _train_chunk(*arguments(rows), chunk_progress)  # type: ignore[arg-type]
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
        validation_accuracy=np.concatenate([p.validation_accuracy for p in ordered])[order],
        test_accuracy=np.concatenate([p.test_accuracy for p in ordered])[order],
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


def split_rows(n_rows: int, validation_fraction: float) -> tuple[NDArray[np.int64], ...]:
    """Return the rows to train on and the rows to validate on: the same for every run of a task."""
    order = np.random.default_rng(_SPLIT_SEED).permutation(n_rows)
    n_validation = max(1, round(n_rows * validation_fraction))
    return np.sort(order[n_validation:]), np.sort(order[:n_validation])


def integer_accuracy(
    network: QuantizedNetwork, x: NDArray[np.float32], y: NDArray[np.int64]
) -> float:
    """Return the share of rows that the integer network classifies right (first of equal words).

    Args:
        network: the network.
        x: float32[n, n_features], standardised.
        y: int64[n].
    """
    words = network.input_format.words_from_values(x)
    answers = np.asarray(run_words(network, words)).argmax(axis=1)
    return float((answers == y).mean())


def _check_fit(candidates: Sequence[Candidate], task: TaskArrays) -> None:
    for candidate in candidates:
        width = int(candidate.network.nodes[0].parameters.get("width", 0))
        if width != task.x_train.shape[1]:
            raise DesignError(
                f"a candidate takes {width} inputs, the task has {task.x_train.shape[1]} features;"
                " decode the space for this task"
            )


def chunks_of_similar_size(
    candidates: Sequence[Candidate], chunk_size: int
) -> list[NDArray[np.int64]]:
    """Split candidates into chunks of similar size, so that padding wastes little; indices."""
    if not candidates:
        raise DesignError("no candidates to train; give at least one")
    population = population_from_candidates(candidates)
    columns = population.columns
    work = np.bincount(
        population.candidate, columns["n_in"] * columns["n_out"], minlength=len(candidates)
    )
    order = np.argsort(work, kind="stable")
    n_chunks = -(-len(candidates) // chunk_size)
    return [np.asarray(part) for part in np.array_split(order, n_chunks)]


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
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _train_chunk(candidates, task, options, seed, teacher_logits, lambda share: None)
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
    device = _device(options)
    schedule = build_schedule(candidates, initial_seeds(candidates, seed))
    if schedule.n_classes < task.n_classes:
        raise DesignError(
            f"networks have {schedule.n_classes} outputs, the task has {task.n_classes} classes;"
            " decode the space for this task"
        )
    model = Executor(schedule).to(device)
    train_rows, validation_rows = split_rows(len(task.y_train), options.validation_fraction)
    data = torch.from_numpy(np.ascontiguousarray(task.x_train[train_rows].T)).to(device)
    labels = torch.from_numpy(task.y_train[train_rows]).to(device)
    teacher = None
    if teacher_logits is not None:
        soft = torch.from_numpy(teacher_logits[train_rows].T) / options.distillation_temperature
        teacher = torch.softmax(soft, dim=0).to(device)
    loss = _optimise(model, data, labels, teacher, options, seed, progress)
    with torch.no_grad():
        for start in range(0, data.shape[1], 4096):
            model(data[:, start : start + 4096], TrainStep(covers_outputs=True))
    networks = model.cpu().export(candidates)
    x_validation, y_validation = task.x_train[validation_rows], task.y_train[validation_rows]
    return TrainingResult(
        networks=tuple(networks),
        validation_accuracy=np.array(
            [integer_accuracy(n, x_validation, y_validation) for n in networks]
        ),
        test_accuracy=np.array([integer_accuracy(n, task.x_test, task.y_test) for n in networks]),
        loss=loss,
        epochs=np.full(len(networks), options.epochs, dtype=np.int64),
        seed=seed,
        seconds=time.perf_counter() - started,
    )


def _optimise(
    model: Executor,
    data: torch.Tensor,
    labels: torch.Tensor,
    teacher: torch.Tensor | None,
    options: TrainingOptions,
    seed: int,
    progress: Progress,
) -> NDArray[np.float64]:
    """Train all networks; return their mean loss per epoch, float64[n_candidates, n_epochs]."""
    n_rows = labels.numel()
    batch_size = min(options.batch_size, n_rows)
    n_batches = n_rows // batch_size
    n_steps = options.epochs * n_batches
    # Ranges and moments exist only after a first look at the data.
    with torch.no_grad():
        model(data[:, :batch_size], TrainStep(selects_ranges=True, updates_moments=True))
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay, fused=True
    )
    rate = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        max_lr=options.learning_rate,
        total_steps=n_steps + 1,
        pct_start=options.warm_up,
        cycle_momentum=False,
    )
    generator = torch.Generator().manual_seed(seed)
    losses = []
    for epoch in range(options.epochs):
        order = torch.randperm(n_rows, generator=generator).to(data.device)
        shuffled, targets = data[:, order], labels[order]
        soft = None if teacher is None else teacher[:, order]
        total = torch.zeros(len(model.schedule.outputs), device=data.device)
        for batch in range(n_batches):
            window = slice(batch * batch_size, (batch + 1) * batch_size)
            step = _plan_step(epoch * n_batches + batch, n_batches, n_steps, options)
            logits = model(shuffled[:, window], step)
            loss = _loss(
                logits, targets[window], None if soft is None else soft[:, window], options
            )
            optimiser.zero_grad(set_to_none=True)
            loss.sum().backward()
            optimiser.step()
            rate.step()
            total += loss.detach()
        losses.append((total / n_batches).cpu().numpy().astype(np.float64))
        progress((epoch + 1) / options.epochs)
    return np.stack(losses, axis=1)


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
        updates_moments=True,
        pruning=pruning,
    )


def _loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    teacher: torch.Tensor | None,
    options: TrainingOptions,
) -> torch.Tensor:
    """Return the mean loss of each network, float32[n_candidates].

    Args:
        logits: float32[n_candidates, n_classes, batch].
        labels: int64[batch].
        teacher: float32[n_classes, batch], softened probabilities.
        options: label smoothing and distillation.
    """
    n_candidates = logits.shape[0]
    hard = torch.nn.functional.cross_entropy(
        logits,
        labels[None].expand(n_candidates, -1),
        reduction="none",
        label_smoothing=options.label_smoothing,
    ).mean(dim=1)
    if teacher is None:
        return hard
    temperature, weight = options.distillation_temperature, options.distillation_weight
    student = torch.log_softmax(logits / temperature, dim=1)
    soft = -(teacher[None] * student).sum(dim=1).mean(dim=1) * temperature**2
    return (1 - weight) * hard + weight * soft


__all__ = [
    "Progress",
    "fine_tune_one",
    "float_accuracy",
    "integer_accuracy",
    "split_rows",
    "train_population",
]
