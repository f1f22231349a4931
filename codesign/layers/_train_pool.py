"""Training of layers that reduce all positions to one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch

from codesign.layers._training import (
    NetworkDraft,
    Signal,
    TrainModule,
    TrainNodes,
    TrainStep,
    lane_mask,
)


class _PoolModule(TrainModule):
    """Interface of k poolings; nothing is trained, and formats follow."""

    def __init__(self, nodes: TrainNodes) -> None:
        super().__init__()
        (self._n_positions,) = nodes.input_positions

    @abstractmethod
    def pooled(self, values: torch.Tensor) -> torch.Tensor:
        """Reduce float32[k, width, positions, batch] along the positions."""

    def fraction_bits(self, source: torch.Tensor) -> torch.Tensor:
        """Return the fraction bits of the results, from those of the inputs."""
        return source

    def forward(self, inputs: Sequence[Signal], step: TrainStep) -> Signal:
        (source,) = inputs
        values = self.pooled(source.values.view(*source.values.shape[:2], self._n_positions, -1))
        return Signal(values.contiguous(), self.fraction_bits(source.fraction_bits))

    def export(self, index: int, name: str, draft: NetworkDraft) -> None:
        """Nothing to write: the format follows."""


class TotalModule(_PoolModule):
    """k sums, each divided by 2**shift."""

    def __init__(self, nodes: TrainNodes, shift: int) -> None:
        super().__init__(nodes)
        self._shift = shift

    def pooled(self, values: torch.Tensor) -> torch.Tensor:
        return values.sum(dim=2) * 2.0**-self._shift

    def fraction_bits(self, source: torch.Tensor) -> torch.Tensor:
        return source + self._shift


class MaxModule(_PoolModule):
    """k maxima."""

    def pooled(self, values: torch.Tensor) -> torch.Tensor:
        return values.amax(dim=2)


class SumModule(TrainModule):
    """k sums of all real lanes of a vector; nothing is trained, and formats follow."""

    mask: torch.Tensor

    def __init__(self, nodes: TrainNodes) -> None:
        super().__init__()
        (widths,), (padded,) = nodes.input_widths, nodes.padded_inputs
        self.register_buffer("mask", lane_mask(widths, padded)[:, None, :], persistent=False)

    def forward(self, inputs: Sequence[Signal], step: TrainStep) -> Signal:
        (source,) = inputs
        return Signal(torch.bmm(self.mask, source.values), source.fraction_bits)

    def export(self, index: int, name: str, draft: NetworkDraft) -> None:
        """Nothing to write: the format follows."""
