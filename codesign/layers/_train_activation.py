"""Training of element-wise layers that round to `result_bits`."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from codesign.layers._activation import Activation
from codesign.layers._training import (
    NetworkDraft,
    ResultRange,
    Signal,
    TrainModule,
    TrainNodes,
    TrainStep,
)


class ActivationModule(TrainModule):
    """k activations of one type.

    The outputs of networks stay unrounded while training: their formats cover all values seen and
    have many bits, so rounding them only adds noise to the loss.
    """

    mask: torch.Tensor

    def __init__(self, layer: Activation, nodes: TrainNodes) -> None:
        super().__init__()
        self._layer = layer
        self._is_output = nodes.is_output
        self.range = ResultRange(nodes.columns["output_bits"], is_signed=layer.result_is_signed)
        self.register_buffer("mask", nodes.output_mask(), persistent=False)

    def forward(self, inputs: Sequence[Signal], step: TrainStep) -> Signal:
        values = self._layer.train_function(inputs[0].values)
        if self._is_output:
            if step.covers_outputs:
                self.range.cover(values, self.mask)
            return Signal(values, self.range.fraction_bits)
        if step.selects_ranges:
            self.range.select(values, self.mask)
        return Signal(self.range(values), self.range.fraction_bits)

    def export(self, index: int, name: str, draft: NetworkDraft) -> None:
        draft.result[name] = self.range.format(index)
