"""Run a schedule: all networks forward together, one group after another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from codesign.ir import Candidate, QuantizedNetwork
from codesign.layers import LAYERS
from codesign.layers._training import NetworkDraft, Signal, TrainStep
from codesign.training.routing import plan_routes
from codesign.training.schedule import Schedule, folded_network


class Executor(torch.nn.Module):
    """All networks of a schedule, trainable."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self.schedule = schedule
        self.layers = torch.nn.ModuleList(
            LAYERS.get(group.layer).train_module(group.nodes) for group in schedule.groups
        )
        dealers, joiners, self._piece_of = plan_routes(schedule.groups)
        self._dealers = torch.nn.ModuleList(dealers)
        self._joiners = torch.nn.ModuleList(torch.nn.ModuleList(j) for j in joiners)
        self._register_members()
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
        pieces: list[tuple[torch.Tensor, ...]] = []
        for index, layer in enumerate(self.layers):
            inputs = self._inputs(index, done, pieces) or [raw]
            done.append(layer(inputs, step))
            is_read = bool(self._piece_of[index])
            pieces.append(self._dealers[index](done[index].values) if is_read else ())
        heads = [done[i].values[:, : self.schedule.n_classes] for i in self._heads]
        joined = heads[0] if len(heads) == 1 else torch.cat(heads)
        return joined.index_select(0, self._order)  # type: ignore[arg-type]

    def _inputs(
        self, index: int, done: list[Signal], pieces: list[tuple[torch.Tensor, ...]]
    ) -> list[Signal]:
        """Collect what group `index` reads."""
        inputs = []
        for slot, joiner in enumerate(self._joiners[index]):  # type: ignore[arg-type,var-annotated]
            values = joiner([pieces[s][self._piece_of[s][index, slot]] for s in joiner.sources])
            fractions = torch.cat([done[s].fraction_bits for s in joiner.sources])
            members = getattr(self, f"_members_{index}_{slot}")
            inputs.append(Signal(values, fractions[members]))
        return inputs

    def _register_members(self) -> None:
        """Keep, per input, which member of its joined source groups each node reads."""
        for index, group in enumerate(self.schedule.groups):
            for slot, places in enumerate(group.inputs):
                sources = np.unique(places[:, 0])
                sizes = [self.schedule.groups[s].nodes.k for s in sources]
                starts = np.cumsum([0, *sizes])[np.searchsorted(sources, places[:, 0])]
                members = torch.from_numpy(starts + places[:, 1])
                self.register_buffer(f"_members_{index}_{slot}", members, persistent=False)

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
