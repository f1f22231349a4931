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
    """k inputs; all read the same data, and equal formats are rounded once.

    An input of fewer positions or features than the data reads the leading ones.
    """

    first: torch.Tensor
    which: torch.Tensor
    mask: torch.Tensor

    def __init__(self, nodes: TrainNodes) -> None:
        super().__init__()
        bits = nodes.columns["output_bits"]
        self._shapes = nodes.shapes
        # all of one group have the same positions
        self._leading = (slice(nodes.padded_output), *map(slice, self._shapes[0][:-1]))
        kinds = np.stack([bits, nodes.columns["n_out"]])
        _, first, which = np.unique(kinds, axis=1, return_index=True, return_inverse=True)
        self.range = ResultRange(bits, [True] * len(bits), n_positions=nodes.n_positions)
        self.register_buffer("first", torch.from_numpy(first), persistent=False)
        self.register_buffer("which", torch.from_numpy(which), persistent=False)
        self.register_buffer("mask", nodes.output_mask(), persistent=False)
        self._distinct: Grid | None = None

    def forward(self, inputs: Sequence[Signal], step: TrainStep) -> Signal:
        (data,) = inputs
        values = data.values[0][self._leading].flatten(1)[None]
        if step.selects_ranges:
            self.range.select(values, self.mask, power=2 if step.keeps_tails else 1)
        if self._distinct is None or step.changes_formats:
            bits, integer_bits = self.range.bits[self.first], self.range.integer_bits[self.first]
            self._distinct = Grid.of(bits[:, None, None], integer_bits[:, None, None], 1.0)
        grid = self._distinct
        distinct = grid.round(torch.mul(values, grid.inverse_span))
        return Signal(distinct.index_select(0, self.which), self.range.fraction_bits)

    def export(self, index: int, name: str, draft: NetworkDraft) -> None:
        draft.result[name] = TensorType.of(self.range.format(index), self._shapes[index])
