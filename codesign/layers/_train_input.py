"""Training of network inputs: the data, rounded to each network's input format."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from codesign.layers._training import (
    NetworkDraft,
    ResultRange,
    Signal,
    TrainModule,
    TrainNodes,
    TrainStep,
)


class InputModule(TrainModule):
    """k inputs; all read the same data, and equal formats are rounded once."""

    which: torch.Tensor
    mask: torch.Tensor

    def __init__(self, nodes: TrainNodes) -> None:
        super().__init__()
        bits, which = np.unique(nodes.columns["output_bits"], return_inverse=True)
        self.range = ResultRange(bits, is_signed=True)
        self.register_buffer("which", torch.from_numpy(which))
        self.register_buffer("mask", torch.ones(len(bits), nodes.padded_output, 1))

    def forward(self, inputs: Sequence[Signal], step: TrainStep) -> Signal:
        (data,) = inputs
        if step.selects_ranges:
            self.range.select(data.values, self.mask)
        rounded = self.range(data.values)
        return Signal(rounded[self.which], self.range.fraction_bits[self.which])

    def export(self, index: int, name: str, draft: NetworkDraft) -> None:
        draft.result[name] = self.range.format(int(self.which[index]))
