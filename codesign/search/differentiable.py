"""Differentiable search over an MLP space: architecture parameters learnt beside the weights.

Every searched gene has a vector of architecture parameters; the loss is the task's plus the
expected hardware cost (`expected_cost`).  Four ways to turn parameters into gates and gradients:

- proxylessnas: sampled one-hot gates, straight-through gradient (Cai, Zhu and Han, ICLR 2019);
- darts1, darts2: softmax mixtures, first- and second-order step (Liu, Simonyan and Yang, ICLR 2019);
- drnas: gates drawn from a Dirichlet distribution, pathwise gradient (Chen et al., ICLR 2021).

Any of them stops early when the dominant eigenvalue of the Hessian of the validation loss in the
architecture parameters rises sharply (Zela et al., RobustDARTS, ICLR 2020).  The result are genomes
for the same archive as everybody's: score them with the problem.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from codesign.errors import DesignError, unknown_name
from codesign.search._elastic import ElasticMLP, Layout, complete
from codesign.search.expected_cost import ExpectedCost
from codesign.search.problem import Floats, Genomes
from codesign.training.options import TaskArrays

METHODS: Final = ("proxylessnas", "darts1", "darts2", "drnas")
_FINITE_DIFFERENCE: Final = 0.01


@dataclass(frozen=True, kw_only=True)
class DifferentiableOptions:
    """How one differentiable search runs.

    Attributes:
        method: one of `METHODS`.
        epochs: passes over the training half.
        warm_up: share of the epochs in which only weights learn.
        batch_size: rows per step.
        learning_rate: of the weights (Adam).
        architecture_rate: of the architecture parameters (Adam).
        cost_weight: of sum over costs of log(expected cost / limit) in the loss; larger, cheaper.
        excess_weight: of max(0, expected cost / limit - 1): limits stay limits.
        eigenvalue_ratio: stop when the mean eigenvalue of `window` epochs falls below this share of
            the latest mean (0.75 in the paper); 0 never stops.
        window: epochs averaged.
    """

    method: str = "darts1"
    epochs: int = 6
    warm_up: float = 0.25
    batch_size: int = 512
    learning_rate: float = 0.01
    architecture_rate: float = 0.08
    cost_weight: float = 0.05
    excess_weight: float = 2.0
    eigenvalue_ratio: float = 0.75
    window: int = 2

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise DesignError(unknown_name("differentiable method", self.method, METHODS))
        if self.epochs < 1 or self.batch_size < 1 or not 0 <= self.warm_up < 1:
            raise DesignError(
                "differentiable search: epochs and batch_size must be at least 1 and warm_up in "
                f"0..1, got {self.epochs}, {self.batch_size}, {self.warm_up}"
            )


@dataclass(frozen=True, kw_only=True)
class DifferentiableResult:
    """What a differentiable search found.

    Attributes:
        genomes: int64[n, n_var], distinct; the most likely design first, then samples.
        probabilities: per searched gene, the learnt distribution.
        eigenvalues: dominant eigenvalue after each epoch that moved the architecture.
        stopped_at: epoch after which the eigenvalue stopped it, or None.
        expected_costs: of the learnt distribution.
        model: the shared weights, trained under the gates.
    """

    genomes: Genomes
    probabilities: dict[str, Floats]
    eigenvalues: tuple[float, ...]
    stopped_at: int | None
    expected_costs: Floats
    model: ElasticMLP


class _Search:
    """State of one run."""

    def __init__(
        self,
        layout: Layout,
        cost: ExpectedCost,
        limits: Floats,
        options: DifferentiableOptions,
        seed: int,
    ) -> None:
        self.layout = layout
        self.options = options
        self.generator = torch.Generator().manual_seed(seed)
        self.model = ElasticMLP(layout, seed=seed)
        self._cost = cost
        self._limits = torch.tensor(limits, dtype=torch.float32)
        self.names = layout.searched
        # small noise, as in DARTS, so that no two values tie
        self.parameters = [
            (
                0.001 * torch.randn(len(layout.values[name]), generator=self.generator)
            ).requires_grad_()
            for name in self.names
        ]
        self.weights = list(self.model.parameters())
        self.weight_step = torch.optim.Adam(self.weights, lr=options.learning_rate)
        self.architecture_step = torch.optim.Adam(
            self.parameters, lr=options.architecture_rate, betas=(0.5, 0.999)
        )

    def probabilities(self) -> dict[int, torch.Tensor]:
        """Return the mean of the distribution over each gene's values."""
        index = self.layout.index
        if self.options.method == "drnas":
            shapes = [torch.nn.functional.elu(p) + 1.0 for p in self.parameters]
            means = [shape / shape.sum() for shape in shapes]
        else:
            means = [torch.softmax(p, dim=0) for p in self.parameters]
        return {index[name]: mean for name, mean in zip(self.names, means, strict=True)}

    def gates(self) -> dict[int, torch.Tensor]:
        """Return gates for one step, differentiable in the architecture parameters."""
        probabilities = self.probabilities()
        if self.options.method == "drnas":
            return {
                self.layout.index[name]: _dirichlet(
                    torch.nn.functional.elu(p) + 1.0 + 1e-3, self.generator
                )
                for name, p in zip(self.names, self.parameters, strict=True)
            }
        if self.options.method == "proxylessnas":
            gates = {}
            for column, p in probabilities.items():
                choice = torch.multinomial(p.detach(), 1, generator=self.generator)
                hard = torch.zeros_like(p).scatter_(0, choice, 1.0)
                gates[column] = hard + p - p.detach()
            return gates
        return probabilities

    def task_loss(self, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the cross entropy under this step's gates."""
        logits, _ = self.model(inputs, self.gates())
        return torch.nn.functional.cross_entropy(logits, labels)

    def cost_loss(self) -> torch.Tensor:
        """Return the price of the expected hardware cost."""
        share = self._cost(self.probabilities()).clamp_min(1e-6) / self._limits
        excess = torch.relu(share - 1.0).sum()
        price = self.options.cost_weight * torch.log(share.clamp_min(1e-3)).sum()
        return price + self.options.excess_weight * excess

    def step_weights(self, inputs: torch.Tensor, labels: torch.Tensor) -> None:
        """Descend the training loss in the weights."""
        loss = self.task_loss(inputs, labels)
        gradients = torch.autograd.grad(loss, self.weights, allow_unused=True)
        _apply(self.weight_step, self.weights, gradients)

    def step_architecture(
        self,
        train: tuple[torch.Tensor, torch.Tensor],
        held_out: tuple[torch.Tensor, torch.Tensor],
    ) -> None:
        """Descend the held-out loss plus cost in the architecture parameters."""
        if self.options.method == "darts2":
            gradients = self._second_order(train, held_out)
        else:
            loss = self.task_loss(*held_out)
            gradients = _filled(
                torch.autograd.grad(loss, self.parameters, allow_unused=True), self.parameters
            )
        priced = torch.autograd.grad(self.cost_loss(), self.parameters, allow_unused=True)
        total = [a + b for a, b in zip(gradients, _filled(priced, self.parameters), strict=True)]
        _apply(self.architecture_step, self.parameters, total)

    def _second_order(
        self,
        train: tuple[torch.Tensor, torch.Tensor],
        held_out: tuple[torch.Tensor, torch.Tensor],
    ) -> list[torch.Tensor]:
        """DARTS, eq. 7 and 8: gradient at the weights one step ahead, minus the mixed term.

        The mixed second derivative times a vector is taken as a finite difference of gradients.
        """
        rate = self.options.learning_rate
        kept = [w.detach().clone() for w in self.weights]
        ahead = _filled(
            torch.autograd.grad(self.task_loss(*train), self.weights, allow_unused=True),
            self.weights,
        )
        with torch.no_grad():
            for weight, gradient in zip(self.weights, ahead, strict=True):
                weight.sub_(gradient, alpha=rate)
        loss = self.task_loss(*held_out)
        both = torch.autograd.grad(loss, [*self.parameters, *self.weights], allow_unused=True)
        n = len(self.parameters)
        direct = _filled(both[:n], self.parameters)
        vector = _filled(both[n:], self.weights)
        norm = torch.sqrt(sum((v.square().sum() for v in vector), torch.zeros(())))
        epsilon = _FINITE_DIFFERENCE / norm.clamp_min(1e-12)
        sides = []
        for sign in (1.0, -1.0):
            with torch.no_grad():
                for weight, old, v in zip(self.weights, kept, vector, strict=True):
                    weight.copy_(old + sign * epsilon * v)
            side = torch.autograd.grad(self.task_loss(*train), self.parameters, allow_unused=True)
            sides.append(_filled(side, self.parameters))
        with torch.no_grad():
            for weight, old in zip(self.weights, kept, strict=True):
                weight.copy_(old)
        return [
            d - rate * (plus - minus) / (2.0 * epsilon)
            for d, plus, minus in zip(direct, sides[0], sides[1], strict=True)
        ]

    def eigenvalue(self, held_out: tuple[torch.Tensor, torch.Tensor], n_steps: int = 8) -> float:
        """Return the dominant eigenvalue of the held-out loss's Hessian in the parameters.

        Power iteration with exact Hessian-vector products, at the mean gates.
        """
        logits, _ = self.model(held_out[0], self.probabilities())
        loss = torch.nn.functional.cross_entropy(logits, held_out[1])
        gradients = _filled(
            torch.autograd.grad(loss, self.parameters, create_graph=True, allow_unused=True),
            self.parameters,
        )
        flat = torch.cat([g.reshape(-1) for g in gradients])
        vector = torch.randn(flat.shape, generator=self.generator)
        value = 0.0
        for _ in range(n_steps):
            vector = vector / vector.norm().clamp_min(1e-12)
            product = torch.autograd.grad(
                flat @ vector, self.parameters, retain_graph=True, allow_unused=True
            )
            image = torch.cat([g.reshape(-1) for g in _filled(product, self.parameters)])
            value = float(vector @ image)
            vector = image.detach()
        return value

    def decode(self, n_samples: int) -> Genomes:
        """Return the most likely design, then distinct samples: int64[n, n_searched]."""
        tables = [self.probabilities()[self.layout.index[name]].detach() for name in self.names]
        best = np.array([[int(p.argmax()) for p in tables]], dtype=np.int64)
        drawn = np.stack(
            [
                torch.multinomial(p, n_samples, replacement=True, generator=self.generator).numpy()
                for p in tables
            ],
            axis=1,
        )
        rows = np.concatenate([best, drawn])
        _, first = np.unique(rows, axis=0, return_index=True)
        return rows[np.sort(first)]


def search_differentiable(
    layout: Layout,
    task: TaskArrays,
    cost: ExpectedCost,
    limits: Floats,
    options: DifferentiableOptions,
    *,
    seed: int,
    n_samples: int = 64,
    progress: Callable[[float], None] | None = None,
) -> DifferentiableResult:
    """Learn a distribution over designs, and decode genomes from it.

    Half of the training rows train the weights, the other half the architecture; the test rows are
    not read.

    Args:
        layout: the searched genes.
        task: standardised arrays.
        cost: expected costs.
        limits: float[n_costs], positive; the budget's.
        options: method and schedule.
        seed: fixes everything.
        n_samples: designs drawn from the final distribution.
        progress: told the share done.
    """
    if len(limits) != len(cost.relative_error) or not (limits > 0).all():
        raise DesignError(f"limits: expected {len(cost.relative_error)} positive numbers")
    state = _Search(layout, cost, limits, options, seed)
    inputs = torch.tensor(task.x_train)
    labels = torch.tensor(task.y_train)
    order = torch.randperm(len(labels), generator=state.generator)
    half = len(labels) // 2
    n_batches = max(1, half // options.batch_size)
    eigenvalues: list[float] = []
    stopped_at = None
    for epoch in range(options.epochs):
        moves = epoch >= options.warm_up * options.epochs
        rows = order[:half][torch.randperm(half, generator=state.generator)]
        others = order[half:][torch.randperm(len(labels) - half, generator=state.generator)]
        for i in range(n_batches):
            window = slice(i * options.batch_size, (i + 1) * options.batch_size)
            train = inputs[rows[window]], labels[rows[window]]
            held_out = inputs[others[window]], labels[others[window]]
            if moves:
                state.step_architecture(train, held_out)
            state.step_weights(*train)
        if moves:
            eigenvalues.append(state.eigenvalue(held_out))
            if _rises_sharply(eigenvalues, options):
                stopped_at = epoch
                break
        if progress is not None:
            progress((epoch + 1) / options.epochs)
    with torch.no_grad():
        probabilities = state.probabilities()
        costs = cost(probabilities).numpy().astype(np.float64)
    return DifferentiableResult(
        genomes=complete(layout, state.decode(n_samples)),
        probabilities={
            name: probabilities[layout.index[name]].numpy().astype(np.float64)
            for name in state.names
        },
        eigenvalues=tuple(eigenvalues),
        stopped_at=stopped_at,
        expected_costs=costs,
        model=state.model,
    )


def _rises_sharply(eigenvalues: list[float], options: DifferentiableOptions) -> bool:
    """RobustDARTS, section 4.3: the mean of an earlier window over the latest falls below a ratio."""
    k = options.window
    if options.eigenvalue_ratio <= 0 or len(eigenvalues) < 2 * k:
        return False
    earlier = float(np.mean(np.abs(eigenvalues[-2 * k : -k])))
    latest = float(np.mean(np.abs(eigenvalues[-k:])))
    return latest > 0 and earlier / latest < options.eigenvalue_ratio


def _dirichlet(shape: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Draw from Dirichlet(shape) with the pathwise gradient; torch's own takes no generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(0, 2**62, (1,), generator=generator)))
        drawn: torch.Tensor = torch.distributions.Dirichlet(shape).rsample()
    return drawn


def _filled(
    gradients: Sequence[torch.Tensor | None], like: Sequence[torch.Tensor]
) -> list[torch.Tensor]:
    """Replace missing gradients (of what the loss does not touch) by zeros."""
    return [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, like, strict=True)]


def _apply(
    optimiser: torch.optim.Optimizer,
    parameters: Sequence[torch.Tensor],
    gradients: Sequence[torch.Tensor | None],
) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
