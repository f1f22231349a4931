"""A floating-point teacher for distillation: a few wide networks whose opinions are averaged."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from codesign.errors import DesignError
from codesign.training.options import TaskArrays, TrainingOptions
from codesign.training.train import split_rows

#: Widths of the hidden layers of each member.
_HIDDEN = (96, 96)
_EPOCHS = 100
_DROPOUT = 0.1
_LEARNING_RATE = 4e-3
_BATCH_SIZE = 256


def can_be_taught(task: TaskArrays) -> bool:
    """Say whether a teacher of probabilities has a use: one head of classes, nothing else."""
    return [head.kind for head in task.target.heads] == ["classes"]


def train_teacher(
    task: TaskArrays,
    *,
    seed: int,
    n_members: int = 3,
    validation_fraction: float = TrainingOptions.validation_fraction,
    split: int = 0,
    progress: Callable[[float], None] | None = None,
) -> NDArray[np.float32]:
    """Train an ensemble in floating point, all members at once, and ask it about the training rows.

    The validation rows are those of `train_population`; no member learns from them.

    Args:
        task: standardised arrays.
        seed: of weights and batches.
        n_members: networks averaged.
        validation_fraction, split: as in the options of the students; a fraction of 0 holds out nothing.
        progress: told the share done.

    Returns:
        float32[n_train, n_classes] logarithms of the mean probabilities, for every training row.
    """
    if not can_be_taught(task):
        raise DesignError(
            "a teacher of probabilities needs a target of classes alone; leave it out"
        )
    generator = torch.Generator().manual_seed(seed)
    rows = np.arange(len(task.y_train))
    if validation_fraction > 0:
        rows, _ = split_rows(len(task.y_train), validation_fraction, split)
    flat = task.x_train.reshape(len(task.x_train), -1)
    x, y = torch.from_numpy(flat[rows]), torch.from_numpy(task.y_train[rows])
    widths = (x.shape[1], *_HIDDEN, task.n_outputs)
    weights = [
        torch.nn.Parameter(torch.randn(n_members, a, b, generator=generator) * (2.0 / a) ** 0.5)
        for a, b in zip(widths[:-1], widths[1:], strict=True)
    ]
    biases = [torch.nn.Parameter(torch.zeros(n_members, 1, b)) for b in widths[1:]]

    def logits(inputs: torch.Tensor, *, drops: bool = False) -> torch.Tensor:
        values = inputs.expand(n_members, -1, -1)
        for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            values = torch.baddbmm(bias, values, weight)
            if i < len(weights) - 1:
                values = torch.nn.functional.silu(values)
                if drops:
                    kept = torch.rand(values.shape, generator=generator) >= _DROPOUT
                    values = values * kept / (1.0 - _DROPOUT)
        return values

    optimiser = torch.optim.AdamW(
        [*weights, *biases], lr=_LEARNING_RATE, weight_decay=0.02, fused=True
    )
    n_batches = max(1, len(rows) // _BATCH_SIZE)
    rate = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=_LEARNING_RATE, total_steps=_EPOCHS * n_batches, cycle_momentum=False
    )
    for epoch in range(_EPOCHS):
        order = torch.randperm(len(rows), generator=generator)
        for batch in range(n_batches):
            chosen = order[batch * _BATCH_SIZE : (batch + 1) * _BATCH_SIZE]
            answer = logits(x[chosen], drops=True).permute(0, 2, 1)
            loss = torch.nn.functional.cross_entropy(answer, y[chosen].expand(n_members, -1))
            optimiser.zero_grad(set_to_none=True)
            (loss * n_members).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            rate.step()
        if progress is not None:
            progress((epoch + 1) / _EPOCHS)
    with torch.no_grad():
        mean = torch.softmax(logits(torch.from_numpy(flat)), dim=2).mean(dim=0)
    return np.asarray(torch.log(mean.clamp_min(1e-9)).numpy())
