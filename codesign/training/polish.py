"""Polish trained networks on their exact graph: drop what the training rows do not miss.

Gradients saw every digit and bit through noise; here each is tried by itself, on all rows and in exact
arithmetic.  A move is kept when it lowers loss + price * LUT, at the price per LUT that the network was
trained with: so nothing is dropped that training would have paid for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from codesign.ir import Candidate, QuantizedNetwork, TensorType
from codesign.layers import LAYERS, element_bits, typed
from codesign.layers._train_learned import own_words
from codesign.training.losses import TargetLoss, row_weights
from codesign.training.options import TaskArrays, TrainingOptions
from codesign.training.precision import LearnedResult, PrecisionOptions, settle, train_learned
from codesign.training.teacher import can_be_taught, train_teacher
from codesign.training.train import one_thread

#: Mean loss of outputs, float32[n_outputs, n], of the training rows.
Loss = Callable[[torch.Tensor], float]

#: Sweeps over all digits and bits, at most; the second finds a tenth of what the first does.
_MAX_SWEEPS = 2


@dataclass(frozen=True)
class _Move:
    """One change: a weight takes another value, or a lane loses its last bit.

    Attributes:
        node: whose constant or type changes.
        element: index of the weight (row, column), of the element of an input, or of the lane of an
            activation or of particles that take turns, which has one grid at all positions.
        value: of the weight; None for a lane.
        saved_lut: LUTs that it saves.
    """

    node: str
    element: tuple[int, ...]
    value: float | None
    saved_lut: float


def signed_digits(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Count the non-zero digits of real constants in canonical signed-digit form."""
    words = np.abs(np.rint(np.ldexp(values, 24))).astype(np.int64)
    return np.asarray(np.bitwise_count(words ^ (3 * words)), dtype=np.int64)


def without_last_digit(value: float) -> float:
    """Return a constant without its least significant signed digit."""
    word = round(abs(value) * 2.0**24)
    lowest = word & -word
    # the digit is -1 where the next bit is set too (..11 = 100 - 1)
    rest = word + lowest if word & (lowest << 1) else word - lowest
    return float(np.sign(value) * rest * 2.0**-24)


def polish(
    network: QuantizedNetwork,
    x: NDArray[np.float32],
    loss: Loss,
    *,
    price: float,
    max_values: float = 1e10,
) -> QuantizedNetwork:
    """Drop signed digits of weights and last bits of lanes while the training loss allows it.

    The same on every machine: effort is counted, not timed.

    Args:
        network: with learned widths.
        x: float32[n, n_features], standardised training rows.
        loss: of the outputs of these rows.
        price: loss per LUT.
        max_values: no further move is tried once so many values have been computed, each trial counted as
            all elements of all nodes for all rows; 1e9 take about 3 s.

    Returns:
        The network, with ranges traced again.
    """
    state = _State(network, x, loss)
    n_left = int(
        max_values // (len(x) * sum(site.output.size for site in typed(network).sites.values()))
    )
    for _ in range(_MAX_SWEEPS):
        gains = [(state.gain(move, price), move) for move in islice(state.moves(), n_left)]
        n_left -= len(gains)
        kept = 0
        for gain, move in sorted(gains, key=lambda pair: -pair[0]):
            if gain <= 0 or n_left <= 0:
                break
            if state.is_current(move):
                n_left -= 1
                if state.gain(move, price) > 0:
                    state.apply(move)
                    kept += 1
        if not kept:
            break
    return settle(state.network(), x)


def learn_with_teacher(
    candidates: Sequence[Candidate],
    budgets_lut: NDArray[np.float64],
    task: TaskArrays,
    options: PrecisionOptions,
    seed: int,
    n_restarts: int | Sequence[int] = 1,
) -> LearnedResult:
    """Train a teacher, then students of learned widths, on one core: what workers run.

    Args:
        candidates, budgets_lut, task, options, seed: as in `train_learned`.
        n_restarts: trainings of each candidate, or of all, with other initial weights; that of least loss +
            price * LUT on the rows trained on is kept.
    """
    counts = np.broadcast_to(n_restarts, len(candidates))
    with one_thread():
        teacher = None
        if can_be_taught(task):
            held_out = {"validation_fraction": options.validation_fraction, "split": options.split}
            teacher = train_teacher(task, seed=seed, **held_out)  # type: ignore[arg-type]
        result = train_learned(
            [candidate for candidate, n in zip(candidates, counts, strict=True) for _ in range(n)],
            np.repeat(budgets_lut, counts),
            task,
            options,
            seed=seed,
            teacher_logits=teacher,
        )
        if (counts == 1).all():
            return result
        x, loss = _rows_and_loss(result, task, options)
        states = [_State(network, x, loss) for network in result.networks]
        losses, luts = np.array([(s.loss, s.lut()) for s in states]).T
    kept = []
    for own in np.split(np.arange(len(states)), np.cumsum(counts)[:-1]):
        # restarts come to their budget at prices of their own: only at one price do they compare
        price = np.exp(np.log(result.price[own]).mean())
        kept.append(own[np.argmin(losses[own] + price * luts[own])])
    return _chosen(result, kept)


def polished(
    result: LearnedResult, task: TaskArrays, options: PrecisionOptions, max_values: float
) -> LearnedResult:
    """Polish what was learned, on the rows and with the teacher that it was learned from, on one core.

    Args:
        result: of `learn_with_teacher`.
        task, options: that it was learned with.
        max_values: effort for each network, see `polish`.
    """
    with one_thread():
        x, loss = _rows_and_loss(result, task, options)
        networks = tuple(
            polish(network, x, loss, price=float(price), max_values=max_values)
            for network, price in zip(result.networks, result.price, strict=True)
        )
        luts = np.array([_State(network, x, loss).lut() for network in networks])
    return replace(result, networks=networks, predicted_lut=luts)


def apart(result: LearnedResult) -> list[LearnedResult]:
    """Return each network of a result by itself, so that workers can share the polishing."""
    return [_chosen(result, [i]) for i in range(len(result.networks))]


def _chosen(result: LearnedResult, indices: Sequence[int] | NDArray[np.int64]) -> LearnedResult:
    return replace(
        result,
        networks=tuple(result.networks[i] for i in indices),
        predicted_lut=result.predicted_lut[indices],
        price=result.price[indices],
    )


def _rows_and_loss(
    result: LearnedResult, task: TaskArrays, options: PrecisionOptions
) -> tuple[NDArray[np.float32], Loss]:
    """Return the rows that networks were trained on, and the loss that they were trained with."""
    rows = np.delete(np.arange(len(task.y_train)), result.validation_rows)
    rows = rows[task.target.is_trained_on(task.y_train[rows])]
    loss = training_loss(task, rows, result.teacher_logits, options.distillation_weight)
    return task.x_train[rows], loss


def training_loss(
    task: TaskArrays,
    rows: NDArray[np.int64],
    teacher_logits: NDArray[np.float32] | None = None,
    distillation_weight: float = 0.0,
) -> Loss:
    """Return the loss that networks are trained with, on given training rows at once."""
    of_target = TargetLoss(task.target, task.target.n_outputs, TrainingOptions())
    targets = of_target.targets(task.y_train[rows], task.x_train[rows])
    if teacher_logits is not None:
        taught = torch.softmax(torch.from_numpy(teacher_logits[rows]), dim=1).T
        targets = torch.lerp(targets, taught, distillation_weight)
    weights = row_weights(task, rows)

    def loss(outputs: torch.Tensor) -> float:
        return float(of_target(outputs[None], targets, None, weights))

    return loss


class _State:
    """A network that changes, and its values on all rows."""

    def __init__(self, network: QuantizedNetwork, x: NDArray[np.float32], loss: Loss) -> None:
        self._original = network
        self._turns = network.candidate.hardware.interval_cycles
        self._sites = typed(network).sites
        self._nodes = list(self._sites)
        known = network.input_type
        self._inputs = network.input_values(x).astype(np.float64).reshape(len(x), *known.shape)
        self._loss_of_outputs = loss
        constants = {n: c for n, c in network.constants.items() if "weight" in c}
        self._weights = {n: c["weight"].real for n, c in constants.items()}
        self._biases = {n: c["bias"].real for n, c in constants.items()}
        self._types = {n: network.result[n] for n in network.result}
        self._values = self._run({}, self._nodes[0])
        self.loss = self._loss_of(self._values)

    # ---- values ---------------------------------------------------------------------------------
    def _run(self, changed: dict[str, Any], first: str) -> dict[str, torch.Tensor]:
        """Return the values of `first` and of all nodes after it, with some things changed."""
        values: dict[str, torch.Tensor] = {}
        start = self._nodes.index(first)
        touched = {first}
        for name in self._nodes[start:]:
            site = self._sites[name]
            if not (name in touched or touched.intersection(site.node.inputs)):
                continue
            touched.add(name)
            read = [values[n] if n in values else self._values[n] for n in site.node.inputs]
            if name in self._weights:
                weight, bias = changed.get(name, (self._weights[name], self._biases[name]))
                values[name] = read[0] @ torch.from_numpy(weight) + torch.from_numpy(bias)
            elif name == self._nodes[-1]:
                values[name] = read[0]  # exact: outputs are not rounded
            elif not site.node.inputs:
                known = changed.get(name, self._types[name])
                words = known.words_from_values(self._inputs)
                values[name] = torch.from_numpy(known.values_from_words(words))
            elif name in self._types:
                known = changed.get(name, self._types[name])
                moved = replace(site, result=known)
                values[name] = LAYERS.get(site.node.layer).torch_exact(moved, read)
            else:
                values[name] = LAYERS.get(site.node.layer).torch_exact(site, read)
        return values

    def _loss_of(self, values: dict[str, torch.Tensor]) -> float:
        return self._loss_of_outputs(values[self._nodes[-1]].to(torch.float32).T)

    # ---- moves ----------------------------------------------------------------------------------
    def _price(self) -> tuple[torch.Tensor, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Return LUTs of all products, bits of all nodes, and those of each input of each matrix, all positions."""
        bits = element_bits(self._sites, self._types)
        lanes = {
            name: bits[self._sites[name].node.inputs[0]].reshape(-1, len(weight)).sum(dim=0)
            / (self._turns if len(self._sites[name].output.shape) > 1 else 1)
            for name, weight in self._weights.items()
        }
        total = torch.zeros((), dtype=torch.float64)
        for name, weight in self._weights.items():
            total = (
                total + (lanes[name] * torch.from_numpy(signed_digits(weight).sum(axis=1))).sum()
            )
        return total, bits, lanes

    def lut(self) -> float:
        """Return what the products cost: signed digits times bits of lanes."""
        return float(self._price()[0].detach())

    def moves(self) -> Iterator[_Move]:
        """Yield everything that can be dropped from the present network."""
        total, of_nodes, lanes = self._price()
        typed_nodes = [name for name in self._types if name != self._nodes[-1]]
        saved_by = dict(
            zip(
                typed_nodes,
                torch.autograd.grad(total, [of_nodes[n] for n in typed_nodes], allow_unused=True),
                strict=True,
            )
        )
        for name, weight in self._weights.items():
            bits, digits = lanes[name].detach().numpy(), signed_digits(weight)
            for i, j in zip(*np.nonzero(weight), strict=True):
                shorter = without_last_digit(float(weight[i, j]))
                yield _Move(name, (int(i), int(j)), shorter, float(bits[i]))
                if digits[i, j] > 1:
                    yield _Move(name, (int(i), int(j)), 0.0, float(bits[i] * digits[i, j]))
        for name, gradient in saved_by.items():
            if gradient is None:
                continue
            known = self._types[name]
            is_used = np.broadcast_to(known.bits, known.shape) > 0
            saved = gradient[0].numpy() * is_used
            if not self._sites[name].node.inputs and self._turns == 1:
                for element in zip(*np.nonzero(is_used), strict=True):
                    yield _Move(name, tuple(map(int, element)), None, float(saved[element]))
                continue
            by_lane = saved.reshape(-1, known.shape[-1]).sum(axis=0)
            for lane in np.flatnonzero(is_used.reshape(-1, known.shape[-1]).any(axis=0)):
                yield _Move(name, (int(lane),), None, float(by_lane[lane]))

    def is_current(self, move: _Move) -> bool:
        """Whether a move still drops something."""
        if move.value is None:
            known = self._types[move.node]
            where: Any = (..., *move.element)
            return bool((np.broadcast_to(known.bits, known.shape)[where] > 0).any())
        now = self._weights[move.node][move.element]
        return bool(signed_digits(np.array(move.value)) < signed_digits(np.array(now)))

    def _changed(self, move: _Move) -> tuple[dict[str, Any], str]:
        """Return what a move changes, and the first node whose values change."""
        name = move.node
        if move.value is not None:
            weight = self._weights[name].copy()
            weight[move.element] = move.value
            return {name: (weight, self._biases[name])}, name
        known = self._types[name]
        bits = np.broadcast_to(known.bits, known.shape).copy()
        integer_bits = np.broadcast_to(known.integer_bits, known.shape).copy()
        where: Any = (..., *move.element)  # of an activation: the lane at all positions
        used = bits[where] > 0
        fraction = int(np.max(np.where(used, bits[where] - integer_bits[where], -99)))
        bits[where] -= used
        changed: dict[str, Any] = {name: replace(known, bits=bits, integer_bits=integer_bits)}
        sources = self._sites[name].node.inputs
        is_centred = known.rounding == "TRN" and sources and sources[0] in self._biases
        if (
            is_centred
            and len([n for n in self._nodes if sources[0] in self._sites[n].node.inputs]) == 1
        ):
            bias = self._biases[sources[0]].copy()
            bias[move.element] += 2.0 ** -float(
                fraction + 1
            )  # half a new bit instead of half an old one
            changed[sources[0]] = (self._weights[sources[0]], bias)
            return changed, sources[0]
        return changed, name

    def gain(self, move: _Move, price: float) -> float:
        """Return by how much a move lowers loss + price * LUT."""
        loss = self._loss_of(self._run(*self._changed(move)))
        return self.loss - loss + price * move.saved_lut

    def apply(self, move: _Move) -> None:
        """Make a move."""
        changed, first = self._changed(move)
        self._values.update(self._run(changed, first))
        self.loss = self._loss_of(self._values)
        for name, value in changed.items():
            if isinstance(value, TensorType):
                self._types[name] = value
            else:
                self._weights[name], self._biases[name] = value

    def network(self) -> QuantizedNetwork:
        """Return the present network."""
        constants = {
            name: {"weight": own_words(self._weights[name]), "bias": own_words(self._biases[name])}
            for name in self._weights
        }
        last = self._nodes[-1]
        wide = TensorType.of(
            replace(self._types[last].covering, bits=40, integer_bits=20), self._types[last].shape
        )
        return replace(self._original, result={**self._types, last: wide}, constants=constants)
