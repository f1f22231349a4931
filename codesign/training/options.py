"""How networks are trained, and what comes out."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DataError, DesignError
from codesign.ir import Candidate, Network, QuantizedNetwork
from codesign.tasks import Events, InputScaling, TaskData
from codesign.tasks.target import Target, classes_target


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Everything that training depends on, beside candidates, data and seed.

    Attributes:
        epochs: passes over the training rows.
        batch_size: rows per step.
        learning_rate: peak of the one-cycle schedule (AdamW).
        weight_decay: of AdamW.
        warm_up: share of the steps in which the learning rate rises.
        pruning_start, pruning_end: shares of the steps between which pruning grows (cubically, Zhu
            and Gupta, arXiv 1710.01878) to each node's pruned fraction.
        ranges_end: share of the steps after which integer bits stay.
        label_smoothing: of the cross entropy.
        validation_fraction: share of the training rows held out; the label of a candidate is its
            score there, so the test set stays untouched by any choice.
        split: which rows are held out; the sets of different splits are disjoint.
        distillation_weight: share of the loss that compares with the teacher, if there is one.
        distillation_temperature: softening of teacher and student.
        stop_below: early stopping of the hopeless: a network whose validation score is below this share of the way from chance
            to the median of its chunk, half way through training, stops there; 0 never stops any.
        chunk_size: networks trained together, at most.
        device: "cpu", "cuda", or "auto" (cuda where there is one).
    """

    epochs: int = 8
    batch_size: int = 256
    learning_rate: float = 0.03
    weight_decay: float = 1e-4
    warm_up: float = 0.15
    pruning_start: float = 0.1
    pruning_end: float = 0.5
    ranges_end: float = 0.6
    label_smoothing: float = 0.0
    validation_fraction: float = 0.125
    split: int = 0
    distillation_weight: float = 0.5
    distillation_temperature: float = 2.0
    stop_below: float = 0.0
    chunk_size: int = 192
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "chunk_size"):
            if getattr(self, name) < 1:
                raise DesignError(f"training: {name} must be at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "distillation_temperature"):
            if not getattr(self, name) > 0:
                raise DesignError(f"training: {name} must be above 0, got {getattr(self, name)}")
        for name in ("label_smoothing", "distillation_weight", "stop_below", "pruning_start"):
            if not 0 <= getattr(self, name) <= 1:
                raise DesignError(f"training: {name} must lie in 0..1, got {getattr(self, name)}")
        for name in ("validation_fraction", "warm_up"):
            if not 0 < getattr(self, name) < 1:
                raise DesignError(
                    f"training: {name} must lie between 0 and 1, got {getattr(self, name)}"
                )
        if not 0 <= self.split < math.floor(1.0 / self.validation_fraction):
            raise DesignError(
                f"training: split must lie in 0..{math.floor(1.0 / self.validation_fraction) - 1} with"
                f" validation_fraction {self.validation_fraction:g}, got {self.split}"
            )
        if not self.pruning_start < self.pruning_end <= 1 or not 0 < self.ranges_end <= 1:
            raise DesignError(
                "training: pruning_start < pruning_end <= 1 and 0 < ranges_end <= 1 must hold, got"
                f" {self.pruning_start}, {self.pruning_end}, {self.ranges_end}"
            )

    @property
    def digest(self) -> str:
        """First 12 hex digits of the SHA-256 of what labels depend on (not chunk size or device)."""
        value = {k: v for k, v in asdict(self).items() if k not in ("chunk_size", "device")}
        return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True, kw_only=True)
class TaskArrays:
    """A task as scaled arrays: what networks are trained and judged on.

    Attributes:
        x_train, x_test: float32[n, n_features] or [n, positions ..., n_features], scaled.
        y_train, y_test: the truth: int64[n] class indices, or, for targets other than one head of
            classes, float32[n, n_columns].
        x_measured, y_measured: rows in neither, on which labels are measured instead of on the
            validation rows of the training set; None where there are no such rows.
        target: what is to be answered; None: the classes seen.
        weights_train, weights_test: float32[n], at least 0; None weighs all rows alike.
        sampling: "uniform" passes over the training rows and weighs their loss, "weighted" draws them
            in proportion to their weights.
        events: what the test rows are, for scores that are trained without labels.
    """

    x_train: NDArray[np.float32]
    y_train: NDArray[Any]
    x_test: NDArray[np.float32]
    y_test: NDArray[Any]
    x_measured: NDArray[np.float32] | None = None
    y_measured: NDArray[Any] | None = None
    target: Target = None  # type: ignore[assignment]  # set below where it is left out
    weights_train: NDArray[np.float32] | None = None
    weights_test: NDArray[np.float32] | None = None
    sampling: Literal["uniform", "weighted"] = "uniform"
    events: Events | None = None

    def __post_init__(self) -> None:
        if (self.x_measured is None) != (self.y_measured is None):
            raise DataError("x_measured and y_measured go together; give both or neither")
        if self.target is None:
            n_classes = int(max(y.max() for _, _, y in self._parts())) + 1
            names = [str(i) for i in range(max(n_classes, 2))]
            object.__setattr__(self, "target", classes_target(names))
        target = self.target
        for kind, x, y in self._parts():
            shape = (len(x),) if target.is_one_class_label else (len(x), target.n_columns)
            if not 2 <= x.ndim <= 4 or y.shape != shape:
                raise DataError(
                    f"{kind} arrays have shapes {x.shape} and {y.shape}; expected (n, n_features), (n, particles,"
                    f" n_features) or (n, rows, columns, n_features), and {shape}"
                )
            if not np.isfinite(x).all():
                raise DataError(f"{kind} inputs hold NaN or infinity; clean the data first")
            if x.shape[1:] != self.x_train.shape[1:]:
                raise DataError(f"train and {kind} inputs differ in shape; load them from one task")
            if target.is_one_class_label and y.min() < 0:
                raise DataError(f"a {kind} label is negative; expected class indices from 0")
        for kind, weights, x in (
            ("train", self.weights_train, self.x_train),
            ("test", self.weights_test, self.x_test),
        ):
            if weights is not None and (weights.shape != (len(x),) or not (weights >= 0).all()):
                raise DataError(
                    f"{kind} weights have shape {weights.shape}; expected one weight of at least 0 for each of"
                    f" {len(x)} rows"
                )

    @classmethod
    def of(cls, data: TaskData, scaling: InputScaling) -> TaskArrays:
        """Return the rows of a task as the network sees them: scaled, float32."""
        return cls(
            x_train=scaling.apply(data.x_train),
            y_train=data.y_train,
            x_test=scaling.apply(data.x_test),
            y_test=data.y_test,
            target=data.target,
            weights_train=data.weights_train,
            weights_test=data.weights_test,
            sampling=data.sampling,
            events=data.events,
        )

    def _parts(self) -> list[tuple[str, NDArray[np.float32], NDArray[Any]]]:
        parts = [("train", self.x_train, self.y_train), ("test", self.x_test, self.y_test)]
        if self.x_measured is not None and self.y_measured is not None:
            parts.append(("measured", self.x_measured, self.y_measured))
        return parts

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """All arrays, inputs and truth in turn: those to train on, to test on, to measure on; weights."""
        rows = [array for _, x, y in self._parts() for array in (x, y)]
        more = [w for w in (self.weights_train, self.weights_test) if w is not None]
        return (*rows, *more)

    @property
    def statement(self) -> list[Any] | None:
        """What labels depend on beside the arrays, as JSON values; None for plain classification."""
        heads = self.target.statement()
        plain = len(heads) == 1 and self.target.heads[0].kind == "classes"
        if plain and heads[0]["metric"] == {"name": "accuracy"} and self.sampling == "uniform":
            return None
        events = None if self.events is None else self.events.metric.model_dump()
        return [heads, self.sampling, events]

    @property
    def n_outputs(self) -> int:
        """Outputs of a network for this task."""
        return self.target.n_outputs


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """Trained networks, in the order of the candidates.

    Attributes:
        networks: the integer networks.
        validation_score: float64[n], of the integer networks on held-out training rows: the metric of the
            target's first head, turned so that larger is better.
        test_score: float64[n], of the integer networks on the test set; where the task's events are
            known there, the metric that judges them.
        loss: float64[n, n_epochs], mean training loss per epoch (NaN after an early stop).
        epochs: int64[n], epochs trained.
        seed: the seed used.
        seconds: wall-clock time of training and evaluation.
    """

    networks: tuple[QuantizedNetwork, ...]
    validation_score: NDArray[np.float64]
    test_score: NDArray[np.float64]
    loss: NDArray[np.float64]
    epochs: NDArray[np.int64]
    seed: int
    seconds: float


def quantized_networks(result: TrainingResult) -> list[QuantizedNetwork]:
    """Return the integer networks of a result."""
    return list(result.networks)


def architecture_digest(network: Network) -> str:
    """First 16 hex digits of the SHA-256 of architecture and precision, without names.

    Hardware choices (strategy, reuse factor, clock) do not change what a network computes, so
    candidates that differ in them alone share a digest, and a label.
    """
    position = {node.name: i for i, node in enumerate(network.nodes)}
    value = [
        [
            node.layer,
            [position[name] for name in node.inputs],
            sorted((k, float(v)) for k, v in node.parameters.items()),
        ]
        for node in network.nodes
    ]
    text = json.dumps(value, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def label_key(candidate: Candidate) -> str:
    """Return what a candidate's label hangs on: its architecture, and where it learns its widths, what buys them.

    Particles that take turns at the same logic pay it once: their budget buys wider words.
    """
    key = architecture_digest(candidate.network)
    if candidate.lut_budget is None:
        return key
    text = f"{key} {candidate.lut_budget:g}"
    if candidate.hardware.interval_cycles > 1:
        text += f" {candidate.hardware.interval_cycles}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def initial_seeds(candidates: Sequence[Candidate], seed: int) -> list[int]:
    """Return each candidate's seed of initial weights: the same wherever it is trained."""
    return [
        int(architecture_digest(c.network)[:8], 16) ^ (seed * 0x9E3779B1 & 0xFFFFFFFF)
        for c in candidates
    ]
