"""Training of network inputs: the data, rounded to each network's input format."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from codesign.ir import TensorType
from codesign.layers._training import (
    Grid,
    NetworkDraft,
    ResultRange,
    Signal,
    TrainModule,
    TrainNodes,
    TrainStep,
)


class InputModule(TrainModule):
    """k inputs; all read the same data, and equal formats are rounded once."""

    first: torch.Tensor
    which: torch.Tensor
    mask: torch.Tensor

    def __init__(self, nodes: TrainNodes) -> None:
        super().__init__()
        bits = nodes.columns["output_bits"]
        _, first, which = np.unique(bits, return_index=True, return_inverse=True)
        self.range = ResultRange(bits, [True] * len(bits))
        self.register_buffer("first", torch.from_numpy(first), persistent=False)
        self.register_buffer("which", torch.from_numpy(which), persistent=False)
        self.register_buffer("mask", nodes.output_mask(), persistent=False)
        self._distinct: Grid | None = None

    def forward(self, inputs: Sequence[Signal], step: TrainStep) -> Signal:
        (data,) = inputs
        if step.selects_ranges:
            self.range.select(data.values, self.mask)
        if self._distinct is None or step.changes_formats:
            bits, integer_bits = self.range.bits[self.first], self.range.integer_bits[self.first]
            self._distinct = Grid.of(bits[:, None, None], integer_bits[:, None, None], 1.0)
        grid = self._distinct
        distinct = grid.round(torch.mul(data.values, grid.inverse_span))
        return Signal(distinct.index_select(0, self.which), self.range.fraction_bits)

    def export(self, index: int, name: str, draft: NetworkDraft) -> None:
        shape = (int(self.mask[index].sum()),)
        draft.result[name] = TensorType.of(self.range.format(index), shape)
