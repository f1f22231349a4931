"""Run a schedule: all networks forward together, one group after another."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from codesign.ir import Candidate, QuantizedNetwork
from codesign.layers import LAYERS
from codesign.layers._training import MovingModule, NetworkDraft, Signal, TrainStep
from codesign.training.routing import Plan, Reading, Tape, write
from codesign.training.schedule import Schedule, folded_network


class PopulationModule(torch.nn.Module):
    """All networks of a schedule, trainable."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self.schedule = schedule
        groups = schedule.groups
        self.layers = torch.nn.ModuleList(
            LAYERS.get(group.nodes.layers[0]).train_module(group.nodes) for group in groups
        )
        moved = {
            index: layer.rows.numpy()
            for index, layer in enumerate(self.layers)
            if isinstance(layer, MovingModule)
        }
        plan = Plan(groups, moved)
        self._starts, self._tape = plan.starts, Tape(plan.n_rows)
        self._readings = torch.nn.ModuleList(
            torch.nn.ModuleList(
                Reading(plan=plan, reader=index, slot=slot) for slot in range(len(group.inputs))
            )
            for index, group in enumerate(groups)
        )
        self._is_on_tape = [False] * len(groups)
        for inputs in self._readings:
            for reading in inputs:  # type: ignore[attr-defined]
                for source in reading.sources if reading.direct is None else ():
                    self._is_on_tape[source] = True
        #: Fraction bits of every input, kept while no format changes.
        self._fractions: dict[tuple[int, int], torch.Tensor] = {}
        heads = sorted({group for group, _ in schedule.outputs})
        self._heads = heads
        first, total = {}, 0
        for group in heads:
            first[group] = total
            total += groups[group].nodes.k
        order = [first[group] + index for group, index in schedule.outputs]
        self.register_buffer("_order", torch.tensor(order), persistent=False)
        #: float32[n_taps, width of the widest, batch]: what tapped nodes said in the last pass.
        self.tapped = torch.zeros(0)

    def forward(self, data: torch.Tensor, step: TrainStep) -> torch.Tensor:
        """Compute the outputs of every network.

        Args:
            data: float32[n_features, *positions, batch], standardised, not rounded.
            step: what else to do.

        Returns:
            float32[n_candidates, n_outputs, batch].
        """
        if step.changes_formats:
            self._fractions.clear()
        rows = self._tape.start(data, is_kept=torch.is_grad_enabled())
        raw = Signal(data[None], torch.zeros(1, device=data.device))
        done: list[Signal] = []
        tokens: list[torch.Tensor] = []
        for index, layer in enumerate(self.layers):
            token = rows  # of nothing: nobody asks for it
            if isinstance(layer, MovingModule):
                slots = range(len(self.schedule.groups[index].inputs))
                fractions = [self._fraction_bits(index, slot, done) for slot in slots]
                done.append(Signal(rows, layer.fraction_bits(fractions)))
            else:
                done.append(layer(self._inputs(index, done, tokens, rows) or [raw], step))
                if self._is_on_tape[index]:
                    token = write(done[-1].values, self._tape, rows, self._starts[index])
            tokens.append(token)
        if self.schedule.taps:
            taps = [done[group].values[index] for group, index in self.schedule.taps]
            width = max(len(values) for values in taps)
            self.tapped = torch.stack(
                [torch.nn.functional.pad(v, (0, 0, 0, width - len(v))) for v in taps]
            )
        heads = [done[i].values[:, : self.schedule.n_outputs] for i in self._heads]
        joined = heads[0] if len(heads) == 1 else torch.cat(heads)
        return joined.index_select(0, self._order)  # type: ignore[arg-type]

    def _inputs(
        self, index: int, done: list[Signal], tokens: list[torch.Tensor], rows: torch.Tensor
    ) -> list[Signal]:
        """Collect what group `index` reads."""
        inputs = []
        for slot, reading in enumerate(self._readings[index]):  # type: ignore[arg-type,var-annotated]
            if reading.direct is None:
                values = reading(self._tape, rows, [tokens[s] for s in reading.sources])
            else:
                values = done[reading.direct].values
            inputs.append(Signal(values, self._fraction_bits(index, slot, done)))
        return inputs

    def _fraction_bits(self, index: int, slot: int, done: list[Signal]) -> torch.Tensor:
        """Fraction bits of what input `slot` of group `index` reads, float32[k]."""
        if (index, slot) not in self._fractions:
            reading = self._readings[index][slot]  # type: ignore[index]
            fractions = torch.cat([done[g].fraction_bits for g in reading.groups])
            self._fractions[index, slot] = fractions[reading.members]
        return self._fractions[index, slot]

    def export(self, candidates: Sequence[Candidate]) -> list[QuantizedNetwork]:
        """Write every network as integer words and types."""
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
                constants=draft.constants,
            )
            for candidate, draft in zip(candidates, drafts, strict=True)
        ]
