"""Training of masks: which word absent particles have is read off the data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from codesign.ir import Words, covering_format
from codesign.layers._training import NetworkDraft, Signal, TrainModule, TrainNodes, TrainStep


class MaskModule(TrainModule):
    """k masks."""

    channel: torch.Tensor
    absent: torch.Tensor
    fraction_bits: torch.Tensor

    def __init__(self, nodes: TrainNodes) -> None:
        super().__init__()
        channel = torch.from_numpy(nodes.columns["channel"].astype(np.int64))
        self.register_buffer("channel", channel[:, None, None], persistent=False)
        self.register_buffer("absent", torch.full((nodes.k, 1, 1), torch.inf))
        self.register_buffer("fraction_bits", torch.zeros(nodes.k))

    def forward(self, inputs: Sequence[Signal], step: TrainStep) -> Signal:
        values, reference = inputs
        if step.measures_price:
            return values
        told = reference.values.detach()
        told = told.gather(1, self.channel.expand(-1, 1, told.shape[2]))
        if step.selects_ranges:
            self.absent = told.amin(dim=2, keepdim=True)
        self.fraction_bits = reference.fraction_bits
        return Signal(values.values * (told > self.absent), values.fraction_bits)

    @torch.no_grad()
    def export(self, index: int, name: str, draft: NetworkDraft) -> None:
        fraction_bits = int(self.fraction_bits[index])
        word = round(float(self.absent[index]) * 2.0**fraction_bits)
        draft.constants[name] = {
            "absent": Words.of(np.array(word), covering_format(word, word, fraction_bits))
        }
