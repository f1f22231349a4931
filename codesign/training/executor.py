"""Run a schedule: all networks forward together, one group after another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from codesign.ir import Candidate, QuantizedNetwork
from codesign.layers import LAYERS
from codesign.layers._training import NetworkDraft, Signal, TrainStep
from codesign.training.schedule import Group, Schedule, folded_network


class _GatherRows(torch.autograd.Function):
    """rows = joined[index], where no row is read twice but as padding: its backward gathers too."""

    @staticmethod
    def forward(ctx, joined, index, inverse, unused):  # type: ignore[no-untyped-def,override]
        ctx.save_for_backward(inverse, unused)
        return joined.index_select(0, index)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def,override]
        inverse, unused = ctx.saved_tensors
        result = gradient.index_select(0, inverse)
        if unused.numel():
            result.index_fill_(0, unused, 0.0)
        return result, None, None, None


class _Gather(torch.nn.Module):
    """Collects one input of one group from the groups that hold it."""

    index: torch.Tensor
    inverse: torch.Tensor
    unused: torch.Tensor
    members: torch.Tensor

    def __init__(self, group: Group, slot: int, n_source_rows: int) -> None:
        super().__init__()
        self._sources = group.sources[slot]
        self._shape = (group.nodes.k, group.nodes.padded_inputs[slot])
        self.register_buffer(
            "members", torch.from_numpy(group.members_in_sources[slot]), persistent=False
        )
        rows = group.rows[slot]
        self._is_identity = rows is None
        self._is_injective = np.unique(group.members_in_sources[slot]).size == group.nodes.k
        if rows is None:
            return
        # Padding repeats a node's last lane; the real lane comes first, so it wins below.
        inverse = np.full(n_source_rows, -1, dtype=np.int64)
        inverse[rows[::-1]] = np.arange(rows.size)[::-1]
        unused = np.flatnonzero(inverse < 0)
        self.register_buffer("index", torch.from_numpy(rows), persistent=False)
        self.register_buffer("inverse", torch.from_numpy(np.maximum(inverse, 0)), persistent=False)
        self.register_buffer("unused", torch.from_numpy(unused), persistent=False)

    def forward(self, done: Sequence[Signal]) -> Signal:
        signals = [done[i] for i in self._sources]
        batch = signals[0].values.shape[2]
        flat = [signal.values.reshape(-1, batch) for signal in signals]
        joined = flat[0] if len(flat) == 1 else torch.cat(flat)
        fraction_bits = torch.cat([signal.fraction_bits for signal in signals])[self.members]
        if not self._is_identity:
            joined = (
                _GatherRows.apply(joined, self.index, self.inverse, self.unused)
                if self._is_injective
                else joined.index_select(0, self.index)
            )
        return Signal(joined.view(*self._shape, batch), fraction_bits)


class Executor(torch.nn.Module):
    """All networks of a schedule, trainable."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self.schedule = schedule
        self.layers = torch.nn.ModuleList(
            LAYERS.get(group.layer).train_module(group.nodes) for group in schedule.groups
        )
        sizes = [g.nodes.k * g.nodes.padded_output for g in schedule.groups]
        self._gathers = torch.nn.ModuleList(
            torch.nn.ModuleList(
                _Gather(group, slot, sum(sizes[i] for i in sources))
                for slot, sources in enumerate(group.sources)
            )
            for group in schedule.groups
        )
        heads = sorted({group for group, _ in schedule.outputs})
        self._heads = heads
        first, total = {}, 0
        for group in heads:
            first[group] = total
            total += schedule.groups[group].nodes.k
        order = [first[group] + index for group, index in schedule.outputs]
        self.register_buffer("_order", torch.tensor(order), persistent=False)

    def forward(self, data: torch.Tensor, step: TrainStep) -> torch.Tensor:
        """Compute the logits of every network.

        Args:
            data: float32[n_features, batch], standardised, not rounded.
            step: what else to do.

        Returns:
            float32[n_candidates, n_classes, batch].
        """
        raw = Signal(data[None], torch.zeros(1, device=data.device))
        done: list[Signal] = []
        for module, gathers in zip(self.layers, self._gathers, strict=True):
            inputs = [gather(done) for gather in gathers] or [raw]  # type: ignore[union-attr]
            done.append(module(inputs, step))
        heads = [done[i].values[:, : self.schedule.n_classes] for i in self._heads]
        joined = heads[0] if len(heads) == 1 else torch.cat(heads)
        return joined.index_select(0, self._order)  # type: ignore[arg-type]

    def export(self, candidates: Sequence[Candidate]) -> list[QuantizedNetwork]:
        """Write every network as integer words and formats."""
        drafts = [NetworkDraft() for _ in candidates]
        for module, group in zip(self.layers, self.schedule.groups, strict=True):
            for index, row in enumerate(group.members):
                draft = drafts[self.schedule.candidate[row]]
                module.export(index, self.schedule.names[row], draft)  # type: ignore[operator]
        return [
            QuantizedNetwork(
                candidate=candidate,
                network=folded_network(candidate.network),
                result=draft.result,
                weight_words=draft.weight_words,
                weight_format=draft.weight_format,
                bias_words=draft.bias_words,
                bias_format=draft.bias_format,
            )
            for candidate, draft in zip(candidates, drafts, strict=True)
        ]


def float_accuracy(logits: torch.Tensor, labels: torch.Tensor) -> NDArray[np.float64]:
    """Return the share of right answers per network, float64[n_candidates].

    Args:
        logits: float32[n_candidates, n_classes, batch].
        labels: int64[batch].
    """
    right = logits.argmax(dim=1) == labels[None]
    return np.asarray(right.double().mean(dim=1).cpu().numpy())
