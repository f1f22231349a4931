"""A stack of two-way directed graph isomorphism networks, trained side by side as one tensor program.

One layer, after Xu et al. (GIN, arXiv 1810.00826) with the two directions of an edge kept apart:
h += MLP([h, A^T h, A h]) with the layer norm in front.  The readout joins mean, sum / 4, output node,
input node and the graph's global features.  S members share every matrix product through a leading
axis: on small graphs the cost is the number of kernels launched, not the arithmetic.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from codesign.encoding.features import EncodedGraphs

Float32 = NDArray[np.float32]

#: Nodes (padding included) that inference holds at once.
NODES_AT_ONCE = 4096


@dataclass(frozen=True, kw_only=True)
class NetworkShape:
    """Hyperparameters that fix the weights' shapes."""

    n_members: int
    n_node_features: int
    n_globals: int
    width: int
    depth: int


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """How the stack is trained; the numbers are PREDICTOR_NOTES' and were set once.

    Attributes:
        n_steps: optimiser steps.
        batch_size: graphs a step and member.
        learning_rate: peak of a one-cycle schedule (AdamW).
        weight_decay: of AdamW.
        dropout: of layer outputs and the readout.
        layer_skip: probability with which a layer is skipped in a step.
    """

    n_steps: int
    batch_size: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 1e-3
    dropout: float = 0.1
    layer_skip: float = 0.1


class StackedGin(nn.Module):
    """S members; see the module's docstring."""

    def __init__(self, shape: NetworkShape, generator: torch.Generator) -> None:
        super().__init__()
        self.shape = shape
        width = shape.width

        def linear(n_in: int, n_out: int) -> nn.ParameterList:
            bound = 1.0 / math.sqrt(n_in)
            draw = torch.rand(shape.n_members, n_in + 1, n_out, generator=generator) * 2 - 1
            return nn.ParameterList(
                [nn.Parameter(draw[:, :-1] * bound), nn.Parameter(draw[:, -1:] * bound)]
            )

        self.embed = linear(shape.n_node_features, width)
        self._mix = [linear(width, 3 * width) for _ in range(shape.depth)]
        self._out = [linear(width, width) for _ in range(shape.depth)]
        self.mix, self.out = nn.ModuleList(self._mix), nn.ModuleList(self._out)
        self.head = linear(4 * width + shape.n_globals, width)
        self.score = linear(width, 1)

    def forward(
        self,
        nodes: Tensor,
        both_ways: Tensor,
        mask: Tensor,
        last: Tensor,
        global_features: Tensor,
        plan: TrainingPlan | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Score graphs; each member may see its own.

        Args:
            nodes: float[S, b, N, F].
            both_ways: float[S, b, N, 2N], transposed adjacency beside adjacency.
            mask: float[S, b, N].
            last: int64[S, b], place of the output node.
            global_features: float[S, b, G].
            plan: given while training; dropout and layer skipping happen only then.
            generator: of their random numbers.

        Returns:
            float[S, b], normal scores.
        """
        members, b, n, _ = nodes.shape
        width = self.shape.width

        def drop(x: Tensor) -> Tensor:
            if plan is None or plan.dropout == 0:
                return x
            keep = torch.rand(x.shape, generator=generator) >= plan.dropout
            return x * keep / (1.0 - plan.dropout)

        h = torch.baddbmm(self.embed[1], nodes.reshape(members, b * n, -1), self.embed[0])
        for mix, out in zip(self._mix, self._out, strict=True):
            if plan is not None and torch.rand((), generator=generator) < plan.layer_skip:
                continue
            x = nn.functional.layer_norm(h, (width,))
            # (A x) W = A (x W): one wide product first, then the sums over neighbours.
            own, *others = torch.baddbmm(mix[1], x, mix[0]).view(members, b, n, 3, width).unbind(3)
            x = own + torch.matmul(both_ways, torch.cat(others, dim=2))
            x = x.relu_().view(members, b * n, width)
            h = h + drop(torch.baddbmm(out[1], x, out[0]))
        h = h.view(members, b, n, width)
        total = torch.matmul(mask.unsqueeze(2), h).squeeze(2)
        place = last.view(members, b, 1, 1).expand(-1, -1, 1, width)
        readout = [
            total / mask.sum(dim=2, keepdim=True),
            total / 4.0,
            h.gather(2, place).squeeze(2),
            h[:, :, 0],
            global_features,
        ]
        x = drop(torch.baddbmm(self.head[1], torch.cat(readout, dim=2), self.head[0]).relu())
        return torch.baddbmm(self.score[1], x, self.score[0]).squeeze(2)


def _tensors(encoded: EncodedGraphs) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    adjacency = torch.from_numpy(encoded.adjacency)
    return (
        torch.from_numpy(encoded.nodes),
        torch.cat([adjacency.transpose(1, 2), adjacency], dim=2),
        torch.from_numpy(encoded.mask),
        torch.from_numpy(encoded.last),
        torch.from_numpy(encoded.globals),
    )


def train_stack(
    encoded: EncodedGraphs,
    scores: NDArray[np.float64],
    member_rows: Sequence[NDArray[np.int64]],
    *,
    width: int,
    depth: int,
    plan: TrainingPlan,
    seed: int,
) -> StackedGin:
    """Train one member per entry of `member_rows`, all at once.

    Args:
        encoded: all training graphs.
        scores: float64[n], what to learn.
        member_rows: the graphs that each member may see; leaving a fold out makes that member's
            prediction of the fold an honest one.
        width, depth: of the network.
        plan: steps and regularisation.
        seed: of weights, order and dropout.
    """
    generator = torch.Generator().manual_seed(seed)
    stack = StackedGin(
        NetworkShape(
            n_members=len(member_rows),
            n_node_features=encoded.nodes.shape[2],
            n_globals=encoded.globals.shape[1],
            width=width,
            depth=depth,
        ),
        generator,
    )
    inputs = _tensors(encoded)
    labels = torch.from_numpy(scores.astype(np.float32))
    optimiser = torch.optim.AdamW(
        stack.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=plan.learning_rate, total_steps=plan.n_steps
    )
    random = np.random.default_rng(seed)
    feeds = [_endless(rows, plan.batch_size, random) for rows in member_rows]
    for _ in range(plan.n_steps):
        rows = torch.from_numpy(np.stack([next(feed) for feed in feeds]))
        predicted = stack(*(x[rows] for x in inputs), plan=plan, generator=generator)
        loss = (predicted - labels[rows]).square().mean(dim=1).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return stack.requires_grad_(False)


def _endless(rows: NDArray[np.int64], size: int, random: np.random.Generator):  # type: ignore[no-untyped-def]
    """Yield `size` of `rows` again and again, every row once before any comes twice."""
    pool = np.zeros(0, np.int64)
    while True:
        while len(pool) < size:
            pool = np.concatenate([pool, random.permutation(rows)])
        yield pool[:size]
        pool = pool[size:]


@torch.no_grad()
def predict_stack(stack: StackedGin, encoded: EncodedGraphs) -> Float32:
    """Return the scores float32[S, b] that every member gives every graph of a chunk.

    Members in turn and a few hundred graphs at a time, so that activations stay in the cache.
    """
    members = [split_stack(stack, i, i + 1)[1] for i in range(stack.shape.n_members)]
    inputs = [x.unsqueeze(0) for x in _tensors(encoded)]
    out = np.empty((len(members), len(encoded)), np.float32)
    step = max(1, NODES_AT_ONCE // encoded.nodes.shape[1])
    for start in range(0, len(encoded), step):
        part = [x[:, start : start + step] for x in inputs]
        for i, member in enumerate(members):
            out[i, start : start + step] = member(*part)[0].numpy()
    return out


def split_stack(
    stack: StackedGin, start: int, stop: int | None = None
) -> tuple[StackedGin, StackedGin]:
    """Return the members before `start`, and those from `start` to `stop` (default: all the rest)."""

    def members(chosen: slice) -> StackedGin:
        state = {name: values[chosen].clone() for name, values in stack.state_dict().items()}
        n_members = len(next(iter(state.values())))
        part = StackedGin(replace(stack.shape, n_members=n_members), torch.Generator())
        part.load_state_dict(state)
        return part.requires_grad_(False)

    return members(slice(0, start)), members(slice(start, stop))


def stack_to_arrays(stack: StackedGin) -> dict[str, NDArray[np.float32]]:
    """Return all weights by name."""
    return {name: values.numpy() for name, values in stack.state_dict().items()}


def stack_from_arrays(shape: NetworkShape, arrays: Mapping[str, NDArray[np.float32]]) -> StackedGin:
    """Rebuild a stack from its weights."""
    stack = StackedGin(shape, torch.Generator().manual_seed(0))
    stack.load_state_dict({name: torch.from_numpy(values) for name, values in arrays.items()})
    return stack.requires_grad_(False)
