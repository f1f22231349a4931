"""Training of layers that only move or add exact values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from codesign.layers._training import NetworkDraft, Signal, TrainModule, TrainNodes, TrainStep


class AddModule(TrainModule):
    """k sums."""

    def forward(self, inputs: Sequence[Signal], step: TrainStep) -> Signal:
        first, second = inputs
        return Signal(
            first.values + second.values,
            torch.maximum(first.fraction_bits, second.fraction_bits),
        )

    def export(self, index: int, name: str, draft: NetworkDraft) -> None:
        """Nothing to write: the format follows."""


class FlattenModule(TrainModule):
    """k identities."""

    def forward(self, inputs: Sequence[Signal], step: TrainStep) -> Signal:
        return inputs[0]

    def export(self, index: int, name: str, draft: NetworkDraft) -> None:
        """Nothing to write: the format follows."""


class ConcatModule(TrainModule):
    """k concatenations: the real lanes of all inputs, without the padding between them."""

    rows: torch.Tensor

    def __init__(self, nodes: TrainNodes) -> None:
        super().__init__()
        padded = sum(nodes.padded_inputs)
        starts = np.concatenate([[0], np.cumsum(nodes.padded_inputs)])
        rows = np.zeros((nodes.k, nodes.padded_output), dtype=np.int64)
        for i in range(nodes.k):
            lanes = np.concatenate(
                [
                    start + np.arange(widths[i])
                    for start, widths in zip(starts[:-1], nodes.input_widths, strict=True)
                ]
            )
            rows[i, : lanes.size] = lanes
        rows += padded * np.arange(nodes.k)[:, None]
        self.register_buffer("rows", torch.from_numpy(rows), persistent=False)

    def forward(self, inputs: Sequence[Signal], step: TrainStep) -> Signal:
        joined = torch.cat([signal.values for signal in inputs], dim=1)
        batch = joined.shape[2]
        values = joined.reshape(-1, batch).index_select(0, self.rows.reshape(-1))
        fraction_bits = torch.stack([signal.fraction_bits for signal in inputs]).amax(dim=0)
        return Signal(values.view(*self.rows.shape, batch), fraction_bits)

    def export(self, index: int, name: str, draft: NetworkDraft) -> None:
        """Nothing to write: the format follows."""
