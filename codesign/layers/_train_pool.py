"""Training of layers that reduce positions to fewer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
import torch

from codesign.layers._pool import pool_taps
from codesign.layers._training import (
    NetworkDraft,
    Signal,
    TrainModule,
    TrainNodes,
    TrainStep,
    lane_mask,
)


class _PoolModule(TrainModule):
    """Interface of k poolings; nothing is trained, and formats follow.

    Attributes:
        price: float32[k], LUTs of the logic, of the last pass that measured it.
    """

    price: torch.Tensor | None = None
    #: LUTs per bit that bringing one more value into a result takes.
    luts_per_bit: ClassVar[float]

    def __init__(self, nodes: TrainNodes) -> None:
        super().__init__()
        (self._n_positions,), (axes,) = nodes.input_positions, nodes.input_axes
        windows = np.stack([nodes.columns["kernel"], nodes.columns["stride"]], axis=1).astype(int)
        kinds, kind = np.unique(windows, axis=0, return_inverse=True)
        #: Per kind of window: whose it is, and int64[n_windows, n_taps], the positions under each.
        self._windows: list[tuple[torch.Tensor, torch.Tensor]] = []
        for i, (kernel, stride) in enumerate(kinds.tolist()):
            members = np.flatnonzero(kind.ravel() == i)
            positions = [n for n in axes[members[0]].tolist() if n]
            taps = pool_taps(positions, kernel, stride or kernel)
            self._windows.append((torch.from_numpy(members), torch.from_numpy(taps)))
        self._is_global = not windows.any()

    @abstractmethod
    def pooled(self, values: torch.Tensor) -> torch.Tensor:
        """Reduce float32[k, width, windows, taps, batch] along the taps."""

    def fraction_bits(self, source: torch.Tensor) -> torch.Tensor:
        """Return the fraction bits of the results, from those of the inputs."""
        return source

    def growth(self, n_terms: torch.Tensor) -> torch.Tensor:
        """Return the bits by which results are wider than the widest of so many values."""
        return torch.zeros_like(n_terms)

    def _on_windows(
        self, function: Callable[[torch.Tensor], torch.Tensor], values: torch.Tensor
    ) -> torch.Tensor:
        """Apply a function of float32[k, width, windows, taps, batch] to all windows."""
        values = values.view(*values.shape[:2], self._n_positions, -1)
        if self._is_global:
            return function(values[:, :, None])
        if len(self._windows) == 1:
            return function(values[:, :, self._windows[0][1].to(values.device)])
        parts = [function(values[m][:, :, taps]) for m, taps in self._windows]
        return torch.cat(parts)[torch.cat([members for members, _ in self._windows]).argsort()]

    def _joined(self, widths: torch.Tensor) -> torch.Tensor:
        """LUTs that joining values of given widths takes, per result."""
        return self.luts_per_bit * (widths.sum(dim=3) - widths.amax(dim=3))

    def _grown(self, widths: torch.Tensor) -> torch.Tensor:
        return widths.amax(dim=3) + self.growth((widths > 0).sum(dim=3).float())

    def forward(self, inputs: Sequence[Signal], step: TrainStep) -> Signal:
        (source,) = inputs
        if step.measures_price:
            self.price = self._on_windows(self._joined, source.values).sum(dim=(1, 2, 3))
            values = self._on_windows(self._grown, source.values)
        else:
            values = self._on_windows(self.pooled, source.values)
        return Signal(values.flatten(2).contiguous(), self.fraction_bits(source.fraction_bits))

    def export(self, index: int, name: str, draft: NetworkDraft) -> None:
        """Nothing to write: the format follows."""


class TotalModule(_PoolModule):
    """k sums, each divided by 2**shift."""

    luts_per_bit = 1.0
    shift: torch.Tensor

    def __init__(self, nodes: TrainNodes, shift: Callable[[int], int]) -> None:
        super().__init__(nodes)
        self._shift = shift
        shifts = torch.zeros(nodes.k)
        for members, taps in self._windows:
            shifts[members] = float(shift(taps.shape[1]))
        self.register_buffer("shift", shifts, persistent=False)

    def pooled(self, values: torch.Tensor) -> torch.Tensor:
        return values.sum(dim=3) * 2.0 ** -self._shift(values.shape[3])

    def fraction_bits(self, source: torch.Tensor) -> torch.Tensor:
        return source + self.shift

    def growth(self, n_terms: torch.Tensor) -> torch.Tensor:
        return torch.log2(n_terms.clamp_min(1.0))


class MaxModule(_PoolModule):
    """k maxima."""

    luts_per_bit = 2.0  # a comparison and a choice

    def pooled(self, values: torch.Tensor) -> torch.Tensor:
        return values.amax(dim=3)


class SumModule(TrainModule):
    """k sums of all real lanes of a vector; nothing is trained, and formats follow.

    Attributes:
        price: float32[k], LUTs of the adders, of the last pass that measured it.
    """

    price: torch.Tensor | None = None
    mask: torch.Tensor

    def __init__(self, nodes: TrainNodes) -> None:
        super().__init__()
        (widths,), (padded,) = nodes.input_widths, nodes.padded_inputs
        self.register_buffer("mask", lane_mask(widths, padded)[:, None, :], persistent=False)

    def forward(self, inputs: Sequence[Signal], step: TrainStep) -> Signal:
        (source,) = inputs
        if step.measures_price:
            widths = source.values * self.mask.transpose(1, 2)
            widest = widths.amax(dim=1, keepdim=True)
            self.price = (widths.sum(dim=1) - widest.sum(dim=1)).sum(dim=1)
            n_terms = (widths > 0).sum(dim=1, keepdim=True).clamp_min(1)
            return Signal(widest + torch.log2(n_terms), source.fraction_bits)
        return Signal(torch.bmm(self.mask, source.values), source.fraction_bits)

    def export(self, index: int, name: str, draft: NetworkDraft) -> None:
        """Nothing to write: the format follows."""


class ArgMaxModule(TrainModule):
    """k indices of the largest lane, without gradients."""

    mask: torch.Tensor

    def __init__(self, nodes: TrainNodes) -> None:
        super().__init__()
        real = lane_mask(nodes.input_widths[0], nodes.padded_inputs[0])[:, :, None]
        self.register_buffer("mask", real > 0, persistent=False)

    def forward(self, inputs: Sequence[Signal], step: TrainStep) -> Signal:
        (source,) = inputs
        if step.measures_price:
            n = self.mask.sum(dim=(1, 2))
            return Signal(torch.ceil(torch.log2(n.float()))[:, None, None], torch.zeros_like(n))
        values = source.values.detach().masked_fill(~self.mask, -torch.inf)
        index = values.argmax(dim=1, keepdim=True).to(values.dtype)
        return Signal(index, torch.zeros_like(source.fraction_bits))

    def export(self, index: int, name: str, draft: NetworkDraft) -> None:
        """Nothing to write: the format follows."""
