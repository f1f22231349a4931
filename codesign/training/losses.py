"""Losses of targets: one number per network and batch, summed over the target's heads."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from codesign.errors import DesignError
from codesign.tasks.target import Head, Target
from codesign.training.options import TaskArrays, TrainingOptions


class _SoftCrossEntropy(torch.autograd.Function):
    """Cross entropy with given probabilities, summed over classes: log sum exp z - sum p z."""

    @staticmethod
    def forward(ctx, logits, probabilities):  # type: ignore[no-untyped-def]
        largest = logits.amax(dim=1, keepdim=True)
        softmax = torch.sub(logits, largest).exp_()
        total = softmax.sum(dim=1, keepdim=True)
        ctx.save_for_backward(softmax.div_(total), probabilities)
        expected = torch.mul(logits, probabilities).sum(dim=1)
        return total.log_().add_(largest).squeeze(1).sub_(expected)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        softmax, probabilities = ctx.saved_tensors
        return torch.sub(softmax, probabilities).mul_(gradient[:, None]), None


def soft_cross_entropy(logits: torch.Tensor, probabilities: torch.Tensor) -> torch.Tensor:
    """Return the cross entropy, float32[n_networks, batch], of logits[n_networks, n_classes, batch]."""
    result: torch.Tensor = _SoftCrossEntropy.apply(logits, probabilities)  # type: ignore[no-untyped-call]
    return result


class TargetLoss:
    """The loss of a target on batches of one set of rows.

    Args:
        target: what is to be answered.
        n_outputs: of the networks; a single head of classes may have outputs to spare.
        options: label smoothing and distillation.

    Raises:
        DesignError: the networks have too few or too many outputs; an anomaly score.
    """

    def __init__(self, target: Target, n_outputs: int, options: TrainingOptions) -> None:
        if target.score.kind == "anomaly":  # `codesign.training.anomaly`
            raise DesignError(
                "an anomaly score is trained at the widths of its candidates: learned widths would make inputs coarse"
                " until there is no error left; set train.precision: uniform"
            )
        may_spare = len(target.heads) == 1 and target.heads[0].kind == "classes"
        if n_outputs < target.n_outputs or (n_outputs > target.n_outputs and not may_spare):
            raise DesignError(
                f"networks have {n_outputs} outputs, the task's target {target.n_outputs}; decode the space for"
                " this task"
            )
        self._target, self._n_outputs, self._options = target, n_outputs, options
        widths = [n_outputs] if may_spare else [head.n_outputs for head in target.heads]
        ends = np.cumsum([0, *widths]).tolist()
        self._slices = [slice(a, b) for a, b in zip(ends[:-1], ends[1:], strict=True)]

    def targets(self, y: NDArray[Any], x: NDArray[np.float32]) -> torch.Tensor:
        """Return what the outputs aim at, float32[n_outputs, n].

        Args:
            y: truth of the rows, see `TaskArrays`.
            x: float32[n, *task shape], the rows.
        """
        parts = []
        for index, (head, place) in enumerate(zip(self._target.heads, self._slices, strict=True)):
            truth = torch.from_numpy(np.ascontiguousarray(self._target.truth(index, y, x)))
            if head.kind == "classes":
                n, smoothing = place.stop - place.start, self._options.label_smoothing
                exact = torch.nn.functional.one_hot(truth, n).to(torch.float32).T
                parts.append((1.0 - smoothing) * exact + smoothing / n)
            elif head.kind == "binary":
                parts.append((truth > 0).to(torch.float32)[None])
            elif head.kind == "values":
                scaled = (truth - torch.tensor(head.offset)) / torch.tensor(head.scale)
                parts.append(scaled.to(torch.float32).T)
            else:
                parts.append(truth.to(torch.float32).reshape(len(truth), -1).T)
        return torch.cat(parts).contiguous()

    def __call__(
        self,
        outputs: torch.Tensor,
        targets: torch.Tensor,
        teacher: torch.Tensor | None = None,
        weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the mean loss of each network, float32[n_networks].

        Args:
            outputs: float32[n_networks, n_outputs, batch].
            targets: float32[n_outputs, batch], of `targets`.
            teacher: float32[n_outputs, batch], softened probabilities; of a single head of classes.
            weights: float32[batch], 1 on average over the training rows.
        """
        total = None
        for head, place in zip(self._target.heads, self._slices, strict=True):
            alone = len(self._slices) == 1
            of_head, aim = (outputs, targets) if alone else (outputs[:, place], targets[place])
            rows = _of_rows(head, of_head, aim)
            loss = rows.mean(dim=1) if weights is None else (rows * weights).mean(dim=1)
            if teacher is not None:
                temperature = self._options.distillation_temperature
                share = self._options.distillation_weight
                soft = soft_cross_entropy(outputs / temperature, teacher)
                loss = (1 - share) * loss + share * temperature**2 * soft.mean(dim=1)
            loss = loss if head.weight == 1.0 else head.weight * loss
            total = loss if total is None else total + loss
        assert total is not None  # a target has heads
        return total


def _of_rows(head: Head, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return float32[n_networks, batch]."""
    if head.loss == "cross_entropy":
        return soft_cross_entropy(outputs, targets)
    if head.loss == "binary_cross_entropy":
        return torch.nn.functional.softplus(outputs[:, 0]) - outputs[:, 0] * targets[0]
    difference = outputs - targets
    if head.loss == "squared":
        return difference.square().mean(dim=1)
    if head.loss == "absolute":
        return difference.abs().mean(dim=1)
    # Huber's loss with its knee at one scale of the head, where squares stop and distances begin
    size = difference.abs()
    return torch.where(size < 1.0, 0.5 * size.square(), size - 0.5).mean(dim=1)


def row_weights(task: TaskArrays, rows: NDArray[np.int64]) -> torch.Tensor | None:
    """Return the weights of training rows, 1 on average, float32[n]; None where all weigh alike."""
    if task.weights_train is None:
        return None
    weights = task.weights_train[rows].astype(np.float64)
    return torch.from_numpy((weights / weights.mean()).astype(np.float32))
