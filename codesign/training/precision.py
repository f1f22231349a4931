"""Train networks whose word lengths are learned, each to a budget of LUTs, many at once.

Widths are no genes: they are an outcome of training, bought at a price.  Every network has a price per
LUT of its own, and a controller moves it so that what the network costs falls to its budget and stays
there: one run of n networks with n budgets is a front, of which every point was trained to the end (no
checkpoint is chosen, so no noise is).  Then widths are frozen and weights learn on, while the learning
rate falls to zero.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from codesign.errors import DesignError
from codesign.ir import Candidate, QuantizedNetwork, TensorType
from codesign.layers import run_words, typed
from codesign.layers._train_learned import LearnedModule, own_words
from codesign.layers._training import Granularity, TrainStep
from codesign.training.losses import TargetLoss, row_weights
from codesign.training.options import TaskArrays, TrainingOptions, initial_seeds
from codesign.training.population_module import PopulationModule
from codesign.training.schedule import build_schedule
from codesign.training.train import check_fit, features_first, split_rows

#: Prices per LUT, in units of the loss: what the controller starts from, and its bounds.
_FIRST_PRICE, _LEAST_PRICE, _GREATEST_PRICE = 1e-5, 1e-7, 1e-3
#: Steps from one look at what networks cost to the next: widths change slowly.
_PRICE_STEPS = 4
#: Relative change of a price per step and unit of log(cost / goal): of a training of many steps, and times
#: the steps of a short one, which must come to its budget too; widths cannot follow faster than the last.
_PRICE_GAIN, _PRICE_GAIN_STEPS, _GREATEST_PRICE_GAIN = 0.02, 240.0, 0.08
#: Fewest fraction bits of a width: every word is zero long before, and below -126 no float32 holds a step, so that
#: zero times its inverse would be no number.  Nothing stops what is pruned from drifting there.
_LEAST_FRACTION_BITS = -24.0
#: Share of the steps in which the learning rate rises and nothing is charged.
_WARM_UP = 0.05
#: Share of the steps after which the learning rate falls.
_DECAY_START = 0.5


@dataclass(frozen=True, kw_only=True)
class PrecisionOptions:
    """How networks with learned widths are trained.

    Attributes:
        epochs: passes over the training rows.
        batch_size: rows per step.
        learning_rate: of Adam, for weights and biases; falls to zero over the second half.
        width_learning_rate: of Adam, for counts of bits.
        ramp_end: share of the steps at which the budget is reached.
        freeze_at: share of the steps after which widths stay.
        granularity: what shares one width: every element its own, the weights of one output and the
            values of one lane, or a whole layer.
        distillation_weight: share of the target probabilities that comes from the teacher, if there is one.
        validation_fraction: share of the training rows held out; 0 trains on all of them.
        split: which rows are held out.
        chunk_size: networks trained together, at most, where many are labelled.
        device: "cpu", "cuda", or "auto" (cuda where there is one).
    """

    epochs: int = 1200
    batch_size: int = 512
    learning_rate: float = 0.03
    width_learning_rate: float = 0.016
    ramp_end: float = 0.5
    freeze_at: float = 0.85
    granularity: Granularity = "element"
    distillation_weight: float = 0.8
    validation_fraction: float = 0.125
    split: int = 0
    chunk_size: int = 96
    device: Literal["auto", "cpu", "cuda"] = "auto"

    @property
    def digest(self) -> str:
        """First 12 hex digits of the SHA-256 of what networks depend on (not chunk size or device)."""
        value = {k: v for k, v in asdict(self).items() if k not in ("chunk_size", "device")}
        text = json.dumps({"precision": value}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise DesignError(
                    f"precision: {name} must be at least 1, got {getattr(self, name)}"
                )
        if not min(self.learning_rate, self.width_learning_rate) > 0:
            raise DesignError(
                "precision: learning rates must be above 0, got"
                f" {self.learning_rate} and {self.width_learning_rate}"
            )
        if not _WARM_UP < self.ramp_end <= self.freeze_at <= 1:
            raise DesignError(
                f"precision: {_WARM_UP} < ramp_end <= freeze_at <= 1 must hold, got"
                f" {self.ramp_end} and {self.freeze_at}"
            )
        if not 0 <= self.distillation_weight <= 1 or not 0 <= self.validation_fraction < 1:
            raise DesignError(
                "precision: distillation_weight must lie in 0..1 and validation_fraction in 0..1"
                f" (without 1), got {self.distillation_weight} and {self.validation_fraction}"
            )


def batch_size_for(n_rows: int, *, at_most: int = PrecisionOptions.batch_size) -> int:
    """Return rows per step with which an epoch has two dozen steps or more: prices need steps, not rows."""
    return int(np.clip(n_rows // 24, 16, at_most))


@dataclass(frozen=True, kw_only=True)
class LearnedResult:
    """Trained networks, in the order of the candidates.

    Attributes:
        networks: the integer networks, every element with the width it needs.
        predicted_lut: float64[n], what each costs by the price it was trained with.
        price: float64[n], loss per LUT that its budget came to.
        validation_rows: int64, rows that no network has seen (none where all were trained on).
        seconds: processor time of the training.
        teacher_logits: what the teacher said of the training rows, float32[n_train, n_classes]; None where
            there was none.
    """

    networks: tuple[QuantizedNetwork, ...]
    predicted_lut: NDArray[np.float64]
    price: NDArray[np.float64]
    validation_rows: NDArray[np.int64]
    seconds: float
    teacher_logits: NDArray[np.float32] | None = None


def train_learned(
    candidates: Sequence[Candidate],
    budgets_lut: NDArray[np.float64],
    task: TaskArrays,
    options: PrecisionOptions,
    *,
    seed: int,
    teacher_logits: NDArray[np.float32] | None = None,
    progress: Callable[[float], None] | None = None,
) -> LearnedResult:
    """Train every candidate to its budget, all at once; bits of the candidates are not looked at.

    Args:
        candidates: networks of one task; batch norms are folded away.
        budgets_lut: float64[n], LUTs in plain RTL that each may cost.
        task: standardised arrays.
        options: how.
        seed: of initial weights and batches.
        teacher_logits: float32[n_train, n_classes], what a teacher says of the training rows; it must
            not have seen those held out.
        progress: told the share done.

    Raises:
        DesignError: a network that cannot be trained, or a budget of no LUT.
    """
    if len(budgets_lut) != len(candidates) or not (np.asarray(budgets_lut) > 0).all():
        raise DesignError("give one budget above 0 LUT per candidate")
    check_fit(candidates, task)
    learning = _Learning(candidates, budgets_lut, task, options, seed, teacher_logits)
    started = time.process_time()
    for epoch in range(options.epochs):
        learning.run_epoch()
        if progress is not None:
            progress((epoch + 1) / options.epochs)
    result = learning.result(time.process_time() - started)
    return replace(result, teacher_logits=teacher_logits)


class _Learning:
    """Networks in training: model, optimiser, prices, and where they are in the schedule."""

    def __init__(
        self,
        candidates: Sequence[Candidate],
        budgets_lut: NDArray[np.float64],
        task: TaskArrays,
        options: PrecisionOptions,
        seed: int,
        teacher_logits: NDArray[np.float32] | None,
    ) -> None:
        wanted = options.device
        if wanted == "auto":
            wanted = "cuda" if torch.cuda.is_available() else "cpu"
        device = torch.device(wanted)
        self._candidates, self._options, self._task = candidates, options, task
        seeds = [s + i for i, s in enumerate(initial_seeds(candidates, seed))]
        schedule = build_schedule(candidates, seeds, granularity=options.granularity)
        n_rows = len(task.y_train)
        self._rows, self.validation_rows = np.arange(n_rows), np.zeros(0, dtype=np.int64)
        if options.validation_fraction > 0:
            self._rows, self.validation_rows = split_rows(
                n_rows, options.validation_fraction, options.split
            )
        self._rows = self._rows[task.target.is_trained_on(task.y_train[self._rows])]
        self._data = features_first(task.x_train[self._rows]).to(device)
        self._loss = TargetLoss(task.target, schedule.n_outputs, TrainingOptions())
        targets = self._loss.targets(task.y_train[self._rows], task.x_train[self._rows])
        weights = row_weights(task, self._rows)
        self._weights = None if weights is None else weights.to(device)
        if teacher_logits is not None:
            taught = torch.softmax(torch.from_numpy(teacher_logits[self._rows]), dim=1).T
            targets = torch.lerp(targets, taught, options.distillation_weight)
        self._targets = targets.contiguous().to(device)
        self._model = PopulationModule(schedule).to(device)
        with torch.no_grad():
            self._model(self._data, TrainStep(selects_ranges=True, tracks_ranges=True))

        def rows_of(index: int) -> torch.Tensor:
            return torch.from_numpy(schedule.candidate[schedule.groups[index].members]).to(device)

        layers = list(enumerate(self._model.layers))

        def turns_of(index: int) -> torch.Tensor:
            turns = schedule.groups[index].nodes.columns["shared_turns"]
            return torch.from_numpy(turns.astype(np.float32)).to(device)

        self._priced: list[tuple[Any, torch.Tensor, torch.Tensor]] = [
            (layer, rows_of(i), turns_of(i)) for i, layer in layers if hasattr(layer, "price")
        ]
        self._widths = [
            (parameter, rows_of(i))
            for i, layer in layers
            if isinstance(layer, LearnedModule)
            for parameter in layer.width_parameters()
        ]
        known = {id(parameter) for parameter, _ in self._widths}
        others = [p for p in self._model.parameters() if id(p) not in known]
        self._peaks = (options.learning_rate, options.width_learning_rate)
        groups = [{"params": others}, {"params": [parameter for parameter, _ in self._widths]}]
        self._optimiser = torch.optim.Adam(
            groups, lr=options.learning_rate, betas=(0.9, 0.999), fused=True
        )
        self._batch_size = min(options.batch_size, len(self._rows))
        self._n_batches = len(self._rows) // self._batch_size
        self._n_steps, self._step = options.epochs * self._n_batches, 0
        self._goal = torch.log(torch.tensor(budgets_lut, dtype=torch.float32, device=device))
        self._first: torch.Tensor | None = None
        self._price = torch.full_like(self._goal, _FIRST_PRICE)
        self._slopes: list[torch.Tensor | None] = []
        self._generator = torch.Generator().manual_seed(seed)

    def run_epoch(self) -> None:
        """Pass over the training rows once, in a new order."""
        order = torch.randperm(self._data.shape[-1], generator=self._generator).to(
            self._data.device
        )
        data, targets = self._data[..., order], self._targets[:, order]
        weights = None if self._weights is None else self._weights[order]
        for batch in range(self._n_batches):
            window = slice(batch * self._batch_size, (batch + 1) * self._batch_size)
            share = self._step / self._n_steps
            for group, peak in zip(self._optimiser.param_groups, self._peaks, strict=True):
                group["lr"] = peak * _rate(share)
            weight = None if weights is None else weights[window]
            self._train_step(data[..., window], targets[:, window], weight, share)
            self._step += 1

    def _train_step(
        self,
        data: torch.Tensor,
        targets: torch.Tensor,
        weights: torch.Tensor | None,
        share: float,
    ) -> None:
        is_frozen = share >= self._options.freeze_at
        if is_frozen:
            for parameter, _ in self._widths:
                parameter.requires_grad_(False)
        elif self._step % _PRICE_STEPS == 0:
            self._measure(share)
        logits = self._model(data, TrainStep(tracks_ranges=not is_frozen))
        self._optimiser.zero_grad(set_to_none=True)
        self._loss(logits, targets, None, weights).sum().backward()  # type: ignore[no-untyped-call]
        if not is_frozen and share > _WARM_UP:
            for (parameter, rows), slope in zip(self._widths, self._slopes, strict=True):
                if slope is not None and parameter.grad is not None:
                    parameter.grad.addcmul_(slope, self._price[rows][:, None, None])
        self._optimiser.step()

    def _cost(self) -> torch.Tensor:
        """Return what every network costs in LUTs, float32[n]."""
        nothing = self._data[..., :1]
        self._model(nothing, TrainStep(measures_price=True))
        total = torch.zeros(len(self._candidates), device=self._data.device)
        for layer, rows, turns in self._priced:  # logic that particles take turns at is built once
            total = total.index_add(0, rows, layer.price / turns)
        return total

    def _measure(self, share: float) -> None:
        """Look at costs and their slopes in all widths; move prices towards the budgets."""
        with torch.no_grad():
            for parameter, _ in self._widths:
                parameter.clamp_(min=_LEAST_FRACTION_BITS)
        total = self._cost()
        parameters = [parameter for parameter, _ in self._widths]
        self._slopes = list(torch.autograd.grad(total.sum(), parameters, allow_unused=True))
        if share <= _WARM_UP:
            return
        cost = torch.log(total.detach().clamp_min(1.0))
        if self._first is None:
            self._first = cost
        done = min(1.0, (share - _WARM_UP) / (self._options.ramp_end - _WARM_UP))
        excess = cost - torch.lerp(self._first, self._goal, done)
        gain = min(max(_PRICE_GAIN, _PRICE_GAIN_STEPS / self._n_steps), _GREATEST_PRICE_GAIN)
        factor = torch.exp(_PRICE_STEPS * gain * excess.clamp(-1.0, 1.0))
        self._price = (self._price * factor).clamp(_LEAST_PRICE, _GREATEST_PRICE)

    def result(self, seconds: float) -> LearnedResult:
        """Export, with exact ranges over the training rows."""
        with torch.no_grad():
            cost = self._cost()
        networks = self._model.export(self._candidates)
        x = self._task.x_train[self._rows]
        return LearnedResult(
            networks=tuple(settle(network, x) for network in networks),
            predicted_lut=cost.double().cpu().numpy(),
            price=self._price.double().cpu().numpy(),
            validation_rows=self.validation_rows,
            seconds=seconds,
        )


def _rate(share: float) -> float:
    """Learning rate over its peak after so much of the training: up, level, down along a cosine."""
    if share < _DECAY_START:
        return min(1.0, max(share / _WARM_UP, 1e-3))
    return 0.5 + 0.5 * math.cos(math.pi * (share - _DECAY_START) / (1.0 - _DECAY_START))


def settle(network: QuantizedNetwork, x: NDArray[np.float32]) -> QuantizedNetwork:
    """Give every activation the integer bits that known rows need, and take rounding out of the hardware.

    Values beyond those seen wrap; particles that take turns have the range of all of them.  Rounding half up in front of a rectified (or no) function is rounding
    down behind a bias that is half a bit larger: that costs nothing, where the bias has no other reader.
    The output keeps every bit of the last sums.

    Args:
        network: with integer bits to spare.
        x: float32[n, n_features], standardised; what ranges are traced on.
    """
    words = run_words(network, network.input_words(x), trace=True)
    assert isinstance(words, dict)
    nodes = network.network.nodes
    result = dict(network.result)
    constants = {name: dict(roles) for name, roles in network.constants.items()}
    for node in nodes[1:-1]:
        if node.name not in result:
            continue
        known = result[node.name]
        takes_turns = network.candidate.hardware.interval_cycles > 1 and len(known.shape) > 1
        known = _narrowed(known, words[node.name], is_alike=takes_turns)
        (source,) = node.inputs
        readers = [n for n in nodes if source in n.inputs]
        is_absorbed = (
            node.layer in ("relu", "linear")
            and "bias" in constants.get(source, {})
            and len(readers) == 1
            and known.rounding == "RND"
        )
        if is_absorbed:
            half = np.where(known.bits > 0, np.ldexp(0.5, -known.element_fraction_bits), 0.0)
            bias = constants[source]["bias"]
            # all positions of a lane have the same fraction bits, or no bits
            by_position = np.broadcast_to(half, known.shape).reshape(-1, bias.values.size)
            constants[source]["bias"] = own_words(bias.real + by_position.max(axis=0))
            known = replace(known, rounding="TRN")
        result[node.name] = known
    settled = replace(network, result=result, constants=constants)
    (source,) = nodes[-1].inputs
    exact = typed(settled)[source].output.type
    return replace(
        settled, result={**result, nodes[-1].name: TensorType.of(exact.covering, exact.shape)}
    )


def _narrowed(known: TensorType, words: NDArray[np.int64], *, is_alike: bool = False) -> TensorType:
    """Return the type with as many integer bits as words int64[n, size] need, per element, or alike at all positions."""
    shape = known.shape
    low, high = words.min(axis=0).reshape(shape), words.max(axis=0).reshape(shape)
    if is_alike:
        axes = tuple(range(len(shape) - 1))
        low = np.broadcast_to(low.min(axis=axes), shape)
        high = np.broadcast_to(high.max(axis=axes), shape)
    zeros = known.trailing_zeros
    magnitude = np.maximum(high, -low - 1) >> zeros
    length = np.frexp(np.maximum(magnitude, 0).astype(np.float64))[1]  # its bits
    is_used = (low != 0) | (high != 0)
    bits = np.where(is_used, length + known.signed, 0)
    fraction = np.broadcast_to(known.element_fraction_bits, shape)
    return replace(known, bits=bits, integer_bits=np.where(is_used, bits - fraction, 0))
