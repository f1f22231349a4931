"""Training of softmax on its tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.functional import pad

from codesign.ir import FixedPoint, TensorType
from codesign.layers._training import NetworkDraft, Signal, TrainModule, TrainNodes, TrainStep
from codesign.layers.softmax import DIFFERENCE, SoftmaxTables


class _Softmax(torch.autograd.Function):
    """Values on the grid of the result; gradients are those of the real softmax."""

    @staticmethod
    def forward(ctx, values, module):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(torch.softmax(values, dim=1))
        return module.words(values)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        (smooth,) = ctx.saved_tensors
        return torch.ops.aten._softmax_backward_data(gradient, smooth, 1, gradient.dtype), None


class SoftmaxModule(TrainModule):
    """k softmaxes over lanes.

    Attributes:
        price: float32[k], LUTs of tables, sums and products, of the last pass that measured it.
    """

    price: torch.Tensor | None = None
    mask: torch.Tensor
    exponentials: torch.Tensor
    reciprocals: torch.Tensor
    sum_steps: torch.Tensor
    steps: torch.Tensor

    def __init__(self, nodes: TrainNodes, tables: Sequence[SoftmaxTables]) -> None:
        super().__init__()
        self._shapes, self._tables = nodes.shapes, tables
        longest = max(len(t.reciprocals) for t in tables)

        def column(values: Sequence[float]) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.float32)[:, None, None]

        def stacked(words: Sequence[np.ndarray], formats: Sequence[FixedPoint]) -> torch.Tensor:
            values = [
                torch.from_numpy(f.values_from_words(w))
                for w, f in zip(words, formats, strict=True)
            ]
            return torch.stack([pad(v, (0, longest_of(words) - len(v))) for v in values]).float()

        def longest_of(words: Sequence[np.ndarray]) -> int:
            return max(len(w) for w in words)

        buffers = {
            "mask": nodes.output_mask() > 0,
            "exponentials": stacked(
                [t.exponentials for t in tables], [t.exponential for t in tables]
            ),
            "reciprocals": stacked([t.reciprocals for t in tables], [t.reciprocal for t in tables]),
            "sum_steps": column([1.0 / t.index.lsb for t in tables]),
            "steps": column([2.0**t.result_bits for t in tables]),
        }
        assert buffers["reciprocals"].shape[1] == longest
        for name, values in buffers.items():
            self.register_buffer(name, values, persistent=False)

    def words(self, values: torch.Tensor) -> torch.Tensor:
        """Compute as the integers do, on values [k, width, batch] that are -inf on padding."""
        distance = values.amax(dim=1, keepdim=True) - values
        index = (distance / DIFFERENCE.lsb).floor_().clamp_max_(float(DIFFERENCE.max_word))
        index = torch.where(self.mask, index, 0.0).long().flatten(1)
        looked_up = self.exponentials.gather(1, index).view_as(values) * self.mask
        total = (looked_up.sum(dim=1, keepdim=True) * self.sum_steps).floor_().long()
        reciprocal = self.reciprocals.gather(1, total.flatten(1)).view_as(total)
        words = (looked_up * reciprocal * self.steps).floor_()
        return torch.minimum(words, self.steps - 1.0) / self.steps

    def forward(self, inputs: Sequence[Signal], step: TrainStep) -> Signal:
        (source,) = inputs
        fraction_bits = torch.log2(self.steps).flatten()
        if step.measures_price:
            widths = fraction_bits[:, None, None] * self.mask
            # tables of 256 and of as many entries as sums have, products: 64 words of one bit a LUT
            n = self.mask.sum(dim=(1, 2))
            entries = torch.tensor([len(t.reciprocals) for t in self._tables], device=n.device)
            bits = fraction_bits + 2.0
            self.price = n * bits * (4.0 + bits) + bits * entries / 64.0
            return Signal(widths, fraction_bits)
        values = source.values.masked_fill(~self.mask, -torch.inf)
        return Signal(_Softmax.apply(values, self), fraction_bits)  # type: ignore[no-untyped-call]

    def export(self, index: int, name: str, draft: NetworkDraft) -> None:
        fmt = FixedPoint(bits=self._tables[index].result_bits, integer_bits=0, signed=False)
        draft.result[name] = TensorType.of(fmt, self._shapes[index])
