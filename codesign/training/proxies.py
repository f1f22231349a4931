"""Zero-cost proxies: score untrained networks from one batch of data, all of them in one program.

What is scored is the network as its training begins: quantized and pruned as the candidate says.  Higher
is better throughout.  Sources: Abdelfattah et al., ICLR 2021 (arXiv 2101.08134) for grad norm, SNIP, Fisher
and SynFlow as proxies and their vote; Mellor et al., 2020 and ICML 2021 (arXiv 2006.04647) for Jacobian
covariance and NASWOT.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata

from codesign.errors import DesignError, unknown_name
from codesign.ir import Candidate
from codesign.layers._train_activation import ActivationModule
from codesign.layers._train_input import InputModule
from codesign.layers._training import Signal, TrainStep
from codesign.training.anomaly import AnomalyLoss
from codesign.training.options import TaskArrays, TrainingOptions, initial_seeds
from codesign.training.population_module import PopulationModule
from codesign.training.schedule import Group
from codesign.training.train import features_first, schedule_and_loss

Floats = NDArray[np.float64]
#: Training rows that a proxy looks at, the first ones.
N_ROWS: Final = 64
#: Networks that are scored together at most.
_CHUNK: Final = 128
#: Added to eigenvalues, and to the diagonal of kernels of networks that answer all rows alike.
_TINY, _RIDGE = 1e-5, 1e-3


class _Untrained:
    """Networks before their first step, one batch of rows, and sums of what belongs to each network."""

    def __init__(self, candidates: Sequence[Candidate], task: TaskArrays, seed: int) -> None:
        seeds = initial_seeds(candidates, seed)
        schedule, self._loss = schedule_and_loss(candidates, task, TrainingOptions(), seeds)
        self.n, self.groups, self._schedule = len(candidates), schedule.groups, schedule
        rows = np.flatnonzero(task.target.is_trained_on(task.y_train))[:N_ROWS]
        self.data = features_first(task.x_train[rows])
        self._targets = self._loss.targets(task.y_train[rows], task.x_train[rows])
        self.model = PopulationModule(schedule)
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []
        self.look(self.data, pruning=1.0, updates_moments=True)

    def look(self, data: torch.Tensor, **step: object) -> None:
        """Choose the ranges of all values for some rows."""
        with torch.no_grad():
            keeps_tails = isinstance(self._loss, AnomalyLoss)
            looking = TrainStep(selects_ranges=True, keeps_tails=keeps_tails, **step)  # type: ignore[arg-type]
            self.model(data, looking)

    def outputs(self, data: torch.Tensor) -> torch.Tensor:
        """Return float32[n, n_outputs, rows], differentiable."""
        result: torch.Tensor = self.model(data, TrainStep())
        return result

    def loss(self) -> torch.Tensor:
        """Return the loss on the batch, summed over the networks: a gradient of it is each one's own."""
        outputs = self.outputs(self.data)
        if isinstance(self._loss, AnomalyLoss):
            losses: torch.Tensor = self._loss(outputs, self._targets, self.model.tapped, None)
            return losses.sum()
        return self._loss(outputs, self._targets).sum()

    def weights(self) -> list[tuple[Group, torch.nn.Parameter]]:
        """Return the matrices of each group that has some, [k, ..., ...]."""
        pairs = zip(self.groups, self.model.layers, strict=True)
        return [(g, p) for g, layer in pairs for p in layer.parameters() if p.dim() > 2]

    def per_network(self, parts: Sequence[tuple[Group, torch.Tensor]]) -> torch.Tensor:
        """Add up the nodes of each network: float64[k, ...] of each group to float64[n, ...]."""
        shape = parts[0][1].shape[1:] if parts else ()  # none: networks without a matrix
        total = torch.zeros(self.n, *shape, dtype=torch.float64)
        for group, values in parts:
            rows = torch.from_numpy(self._schedule.candidate[group.members])
            total.index_add_(0, rows, values.detach().double())
        return total

    def watch(
        self, wanted: Callable[[Group, torch.nn.Module], bool], *, inputs: bool
    ) -> list[tuple[Group, torch.Tensor]]:
        """Return a list that the next forward pass fills with what wanted groups read or write."""
        seen: list[tuple[Group, torch.Tensor]] = []
        while self._hooks:
            self._hooks.pop().remove()
        for group, layer in zip(self.groups, self.model.layers, strict=True):
            if not wanted(group, layer):
                continue

            def keep(
                _: torch.nn.Module, read: tuple[list[Signal], ...], wrote: Signal, g: Group = group
            ) -> None:
                values = (read[0][0] if inputs else wrote).values
                if torch.is_grad_enabled() and values.is_leaf:
                    values.requires_grad_(
                        True
                    )  # what the network reads, whose gradient is asked for
                seen.append((g, values))

            self._hooks.append(layer.register_forward_hook(keep))
        return seen


def _gradients(
    nets: _Untrained, total: torch.Tensor
) -> list[tuple[Group, torch.Tensor, torch.Tensor]]:
    """Return (group, weights, their gradient) of every matrix."""
    known = nets.weights()
    gradients = _grad(total, [p for _, p in known])
    return [(g, p, d) for (g, p), d in zip(known, gradients, strict=True)]


def _grad(total: torch.Tensor, of: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
    """Return the gradients of what there is; networks without weights have none."""
    return torch.autograd.grad(total, of) if of else ()


def grad_norm(nets: _Untrained) -> torch.Tensor:
    """Sum over matrices of the Euclidean norm of the loss gradient."""
    found = _gradients(nets, nets.loss())
    return nets.per_network([(g, d.flatten(1).norm(dim=1)) for g, _, d in found])


def snip(nets: _Untrained) -> torch.Tensor:
    """Sum of |weight * gradient of the loss| (Lee et al., ICLR 2019)."""
    found = _gradients(nets, nets.loss())
    return nets.per_network([(g, (w * d).abs().flatten(1).sum(1)) for g, w, d in found])


def synflow(nets: _Untrained) -> torch.Tensor:
    """log(1 + sum of |weight| * gradient) of an all-ones input through absolute weights, without batch norm.

    Data-free (Tanaka et al., NeurIPS 2020); the logarithm keeps deep products finite and the rank.
    """
    with torch.no_grad():
        for parameter in nets.model.parameters():
            parameter.abs_()
        for name, buffer in nets.model.named_buffers():
            if name.endswith("is_normalised"):
                buffer.zero_()
    ones = torch.ones_like(nets.data[..., :1])
    nets.look(ones)
    found = _gradients(nets, nets.outputs(ones).sum())
    total = nets.per_network([(g, (w * d).abs().flatten(1).sum(1)) for g, w, d in found])
    return torch.log1p(total)


def fisher(nets: _Untrained) -> torch.Tensor:
    """Sum over layers and lanes of the squared, batch-averaged result * gradient of nodes with matrices.

    (Theis et al., 2018; Turner et al., ICLR 2020.)
    """
    written = nets.watch(
        lambda _, layer: any(p.dim() > 2 for p in layer.parameters()), inputs=False
    )
    gradients = _grad(nets.loss(), [values for _, values in written])
    parts = []
    for (group, values), gradient in zip(written, gradients, strict=True):
        product = values.detach() * gradient
        n_rows = product.shape[2] // group.nodes.n_positions
        by_row = product.view(*product.shape[:2], group.nodes.n_positions, n_rows).sum(2)
        parts.append((group, by_row.mean(2).square().sum(1) * n_rows**2 / 2.0))
    return nets.per_network(parts)


def jacobian_covariance(nets: _Untrained) -> torch.Tensor:
    """- sum of log(v + k) + 1 / (v + k), v the eigenvalues of the correlation of input gradients."""
    written = nets.watch(lambda _, layer: isinstance(layer, InputModule), inputs=False)
    total = nets.outputs(nets.data).sum()
    gradients = torch.autograd.grad(total, [values for _, values in written])
    parts = []
    for (group, _), gradient in zip(written, gradients, strict=True):
        n_positions, n_rows = group.nodes.n_positions, nets.data.shape[-1]
        lanes = gradient.double() * group.nodes.output_mask()
        rows = lanes.view(group.nodes.k, -1, n_positions, n_rows).flatten(1, 2).transpose(1, 2)
        n_real = torch.from_numpy(group.nodes.columns["n_out"])[:, None, None] * n_positions
        real = group.nodes.output_mask().double().repeat_interleave(n_positions, 1).transpose(1, 2)
        centred = (rows - rows.sum(2, keepdim=True) / n_real) * real
        unit = torch.nn.functional.normalize(centred, dim=2)
        values = torch.linalg.eigvalsh(unit @ unit.transpose(1, 2)).clamp_min(0.0) + _TINY
        parts.append((group, -(values.log() + 1.0 / values).sum(1)))
    return nets.per_network(parts)


def naswot(nets: _Untrained) -> torch.Tensor:
    """log |det K|, K[i, j] = how many hidden activations agree on being above 0 for rows i and j."""
    read = nets.watch(
        lambda group, layer: isinstance(layer, ActivationModule) and not group.nodes.is_output,
        inputs=True,
    )
    with torch.no_grad():
        nets.outputs(nets.data)
    n_rows = nets.data.shape[-1]
    kernel = torch.zeros(nets.n, n_rows, n_rows, dtype=torch.float64)
    for group, values in read:
        mask = group.nodes.output_mask().double()
        codes = []
        for code in ((values > 0).double() * mask, (values <= 0).double() * mask):
            codes.append(code.view(group.nodes.k, -1, n_rows))
        kernel += nets.per_network([(group, sum(c.transpose(1, 2) @ c for c in codes))])  # type: ignore[list-item]
    # rows that no unit tells apart make the kernel singular: a small ridge keeps the rank finite
    ridge = _RIDGE * torch.eye(n_rows, dtype=torch.float64)
    logarithm: torch.Tensor = torch.linalg.slogdet(kernel + ridge)[1]
    return logarithm


PROXIES: Final[Mapping[str, Callable[[_Untrained], torch.Tensor]]] = {
    "fisher": fisher,
    "snip": snip,
    "grad_norm": grad_norm,
    "jacobian_covariance": jacobian_covariance,
    "naswot": naswot,
    "synflow": synflow,  # the last one: it changes the weights
}
#: What a study can name: each proxy, and the vote of all.
CHOICES: Final = (*PROXIES, "vote")


def score_untrained(
    candidates: Sequence[Candidate], task: TaskArrays, proxy: str, *, seed: int
) -> Floats:
    """Score networks before any training.

    Args:
        candidates: n networks.
        task: standardised arrays; the first `N_ROWS` training rows are read.
        proxy: one of `CHOICES`.
        seed: of the initial weights.

    Returns:
        float64[n], comparable among these networks only.

    Raises:
        DesignError: an unknown proxy, or networks that do not fit the task.
    """
    if proxy not in CHOICES:
        raise DesignError(unknown_name("proxy", proxy, CHOICES))
    names = tuple(PROXIES) if proxy == "vote" else (proxy,)
    parts = []
    for start in range(0, len(candidates), _CHUNK):
        nets = _Untrained(candidates[start : start + _CHUNK], task, seed)
        parts.append(torch.stack([PROXIES[name](nets).detach() for name in names]).numpy())
    scores = np.concatenate(parts, axis=1)
    return vote(scores) if proxy == "vote" else scores[0]


def vote(scores: Sequence[Floats] | Floats) -> Floats:
    """Return for each network the share of other networks that most proxies rank below it.

    Pairwise majority (the vote of Abdelfattah et al.): network i beats j when more proxies put i
    above j than below; ties count half.
    """
    ranks = np.stack([rankdata(values) for values in scores])
    n = ranks.shape[1]
    balance = np.sign(ranks[:, :, None] - ranks[:, None, :]).sum(axis=0)
    wins = (balance > 0) + 0.5 * (balance == 0)
    np.fill_diagonal(wins, 0.0)
    return np.asarray(wins.sum(axis=1) / max(1, n - 1))
