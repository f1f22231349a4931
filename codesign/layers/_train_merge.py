"""Training of layers that only move or add exact values."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from codesign.layers._training import (
    MovingModule,
    NetworkDraft,
    Signal,
    TrainModule,
    TrainNodes,
    TrainStep,
)


class CombinationModule(TrainModule):
    """k sums, differences or products of two branches.

    Attributes:
        price: float32[k], LUTs of the adders or multipliers, of the last pass that measured it.
    """

    price: torch.Tensor | None = None

    def __init__(
        self,
        combine: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        *,
        is_product: bool,
    ) -> None:
        super().__init__()
        self._combine, self._is_product = combine, is_product

    def forward(self, inputs: Sequence[Signal], step: TrainStep) -> Signal:
        first, second = inputs
        if self._is_product:
            fraction_bits = first.fraction_bits + second.fraction_bits
        else:
            fraction_bits = torch.maximum(first.fraction_bits, second.fraction_bits)
        if not step.measures_price:
            return Signal(self._combine(first.values, second.values), fraction_bits)
        if self._is_product:
            self.price = (first.values * second.values).sum(dim=(1, 2))
            is_used = (first.values > 0) & (second.values > 0)
            return Signal((first.values + second.values) * is_used, fraction_bits)
        widths = torch.maximum(first.values, second.values)
        self.price = widths.sum(dim=(1, 2))
        return Signal(widths + (widths > 0), fraction_bits)

    def export(self, index: int, name: str, draft: NetworkDraft) -> None:
        """Nothing to write: the format follows."""


class EvenModule(TrainModule):
    """k powers of magnitudes, element by element.

    Attributes:
        price: float32[k], LUTs of the logic, of the last pass that measured it.
    """

    price: torch.Tensor | None = None

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor], *, power: int) -> None:
        super().__init__()
        self._function, self._power = function, power

    def forward(self, inputs: Sequence[Signal], step: TrainStep) -> Signal:
        (source,) = inputs
        fraction_bits = source.fraction_bits * self._power
        if not step.measures_price:
            return Signal(self._function(source.values), fraction_bits)
        # half of the partial products of a square are alike
        self.price = (source.values**self._power / self._power).sum(dim=(1, 2))
        return Signal(source.values * self._power, fraction_bits)

    def export(self, index: int, name: str, draft: NetworkDraft) -> None:
        """Nothing to write: the format follows."""


class FlattenModule(MovingModule):
    """k vectors of all elements: position by position, each with its real lanes."""

    def elements(self, nodes: TrainNodes) -> NDArray[np.int64]:
        (widths,), (n_positions,) = nodes.input_widths, nodes.input_positions
        position, lane = np.divmod(np.arange(nodes.padded_output), widths[:, None])
        # padding: any element will do
        return np.asarray(np.where(position < n_positions, lane * n_positions + position, 0))


class ConcatModule(MovingModule):
    """k concatenations: the real lanes of all inputs, without the padding between them."""

    def elements(self, nodes: TrainNodes) -> NDArray[np.int64]:
        starts = np.concatenate([[0], np.cumsum(nodes.padded_inputs)])
        lanes = np.zeros((nodes.k, nodes.padded_output), dtype=np.int64)
        for i in range(nodes.k):
            joined = np.concatenate(
                [
                    start + np.arange(widths[i])
                    for start, widths in zip(starts[:-1], nodes.input_widths, strict=True)
                ]
            )
            lanes[i, : joined.size] = joined
        elements = lanes[:, :, None] * nodes.n_positions + np.arange(nodes.n_positions)
        return elements.reshape(nodes.k, -1)


class ChosenModule(MovingModule):
    """k choices of elements that the layer type has worked out."""

    def __init__(self, nodes: TrainNodes, chosen: NDArray[np.int64]) -> None:
        self._chosen = chosen
        super().__init__(nodes)

    def elements(self, nodes: TrainNodes) -> NDArray[np.int64]:
        return self._chosen


class PaddedModule(TrainModule):
    """k choices of elements, some of which are zero (-1)."""

    rows: torch.Tensor
    is_chosen: torch.Tensor

    def __init__(self, nodes: TrainNodes, chosen: NDArray[np.int64]) -> None:
        super().__init__()
        self._shape = (nodes.k, nodes.padded_output)
        n_rows = nodes.padded_inputs[0] * nodes.input_positions[0]
        rows = np.maximum(chosen, 0) + n_rows * np.arange(nodes.k)[:, None]
        self.register_buffer("rows", torch.from_numpy(rows.reshape(-1)), persistent=False)
        is_chosen = torch.from_numpy((chosen >= 0).astype(np.float32)).reshape(-1, 1)
        self.register_buffer("is_chosen", is_chosen, persistent=False)
        self._n_rows = nodes.k * n_rows

    def forward(self, inputs: Sequence[Signal], step: TrainStep) -> Signal:
        (source,) = inputs
        rows = source.values.reshape(self._n_rows, -1).index_select(0, self.rows)
        return Signal((rows * self.is_chosen).view(*self._shape, -1), source.fraction_bits)

    def export(self, index: int, name: str, draft: NetworkDraft) -> None:
        """Nothing to write: the format follows."""
