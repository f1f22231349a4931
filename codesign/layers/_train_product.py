"""Training of products of two computed tensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from codesign.layers._training import (
    NetworkDraft,
    Signal,
    TrainModule,
    TrainNodes,
    TrainStep,
    lane_mask,
)


class ProductModule(TrainModule):
    """k products of rows: between all positions of two inputs, or at each position.

    Attributes:
        price: float32[k], LUTs of the multipliers, of the last pass that measured it.
    """

    price: torch.Tensor | None = None
    mask: torch.Tensor
    growth: torch.Tensor

    def __init__(self, nodes: TrainNodes, is_between_positions: bool) -> None:
        super().__init__()
        self._positions = nodes.input_positions if is_between_positions else None
        self._width = min(nodes.padded_inputs)
        channels = nodes.input_widths[0]
        self.register_buffer("mask", lane_mask(channels, self._width)[:, :, None], persistent=False)
        growth = torch.from_numpy(np.ceil(np.log2(channels)).astype(np.float32))
        self.register_buffer("growth", growth, persistent=False)

    def forward(self, inputs: Sequence[Signal], step: TrainStep) -> Signal:
        first, second = inputs
        # padding is finite, not zero
        a, b = first.values[:, : self._width] * self.mask, second.values[:, : self._width]
        if step.measures_price:
            if self._positions is None:
                self.price = (a * b).sum(dim=(1, 2))
                widest = (a.amax(dim=1) + b.amax(dim=1))[:, None] + self.growth[:, None, None]
            else:  # every position of one with every position of the other
                self.price = (a.sum(dim=2) * b.sum(dim=2)).sum(dim=1)
                widest = a.amax(dim=1)[:, None] + b.amax(dim=1)[:, :, None]
                widest = widest + self.growth[:, None, None]
            return Signal(widest, first.fraction_bits + second.fraction_bits)
        if self._positions is None:
            values = (a * b).sum(dim=1, keepdim=True)
        else:
            p, q = self._positions
            a, b = a.view(*a.shape[:2], p, -1), b.view(*b.shape[:2], q, -1)
            values = torch.einsum("kcpe,kcqe->kqpe", a, b).flatten(2)
        return Signal(values, first.fraction_bits + second.fraction_bits)

    def export(self, index: int, name: str, draft: NetworkDraft) -> None:
        """Nothing to write: the format follows."""
