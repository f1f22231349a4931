"""Training of element-wise layers that round to `result_bits`: any mixture of types in one module."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch

from codesign.ir import TensorType
from codesign.layers import LAYERS
from codesign.layers._activation import Activation
from codesign.layers._training import (
    Grid,
    NetworkDraft,
    ResultRange,
    Signal,
    TrainModule,
    TrainNodes,
    TrainStep,
)

#: Some nodes of a module, all of one type, and 1 where its results are signed, else 0.
Span = tuple[Activation, slice, float]


class FastTanh(torch.autograd.Function):
    """tanh(x) = 2 sigmoid(2 x) - 1, to 1e-7 absolute: torch's sigmoid takes an eighth of the time of its tanh."""

    @staticmethod
    def forward(ctx, values):  # type: ignore[no-untyped-def]
        result = torch.mul(values, 2.0).sigmoid_().mul_(2.0).sub_(1.0)
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        (result,) = ctx.saved_tensors
        return torch.ops.aten.tanh_backward(gradient, result)


class _Activate(torch.autograd.Function):
    """Each span's function, then rounding of all nodes; gradients pass inside the ranges."""

    @staticmethod
    def forward(ctx, values, spans, grids):  # type: ignore[no-untyped-def]
        relative, rounded = torch.empty_like(values), torch.empty_like(values)
        ctx.spans, ctx.graphs = spans, []
        for (layer, nodes, _), grid in zip(spans, grids, strict=True):
            with torch.enable_grad():
                source = values[nodes].detach().requires_grad_(ctx.needs_input_grad[0])
                result = layer.train_function(source)
            ctx.graphs.append(None if result is source else (source, result))
            torch.mul(result.detach(), grid.inverse_span, out=relative[nodes])
            grid.round(relative[nodes], out=rounded[nodes])
        ctx.save_for_backward(relative)
        return rounded

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        (relative,) = ctx.saved_tensors
        out = torch.empty_like(relative)
        for (_, nodes, sign), graph in zip(ctx.spans, ctx.graphs, strict=True):
            torch.ops.aten.hardtanh_backward.grad_input(
                gradient[nodes], relative[nodes], -sign, 1.0, grad_input=out[nodes]
            )
            if graph is not None:
                source, result = graph
                (inner,) = torch.autograd.grad(result, source, out[nodes])
                out[nodes] = inner
        return out, None, None


class ActivationModule(TrainModule):
    """k activations; nodes of one type lie together.

    The outputs of networks stay unrounded while training: their formats cover all values seen and
    have many bits, so rounding them only adds noise to the loss.
    """

    mask: torch.Tensor

    def __init__(self, nodes: TrainNodes) -> None:
        super().__init__()
        self._is_output = nodes.is_output
        self._shapes = nodes.shapes
        self._spans: list[Span] = []
        start = 0
        for name, run in groupby(nodes.layers):
            layer = LAYERS.get(name)
            assert isinstance(layer, Activation), f"{name} is no activation"
            stop = start + len(list(run))
            self._spans.append((layer, slice(start, stop), float(layer.result_is_signed)))
            start = stop
        signs = [sign == 1.0 for _, span, sign in self._spans for _ in range(span.start, span.stop)]
        self.range = ResultRange(nodes.columns["output_bits"], signs, n_positions=nodes.n_positions)
        self._grids: list[Grid] | None = None
        self.register_buffer("mask", nodes.output_mask(), persistent=False)

    def _functions(self, values: torch.Tensor) -> torch.Tensor:
        """Evaluate the real functions, without rounding."""
        parts = [layer.train_function(values[nodes]) for layer, nodes, _ in self._spans]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def forward(self, inputs: Sequence[Signal], step: TrainStep) -> Signal:
        (source,) = inputs
        if self._is_output:
            values = self._functions(source.values)
            if step.covers_outputs:
                self.range.cover(values, self.mask)
            return Signal(values, self.range.fraction_bits)
        if step.selects_ranges:
            with torch.no_grad():
                self.range.select(self._functions(source.values), self.mask)
        if self._grids is None or step.selects_ranges:
            self._grids = [self.range.grid.part(nodes, sign) for _, nodes, sign in self._spans]
        values = _Activate.apply(source.values, self._spans, self._grids)  # type: ignore[no-untyped-call]
        return Signal(values, self.range.fraction_bits)

    def export(self, index: int, name: str, draft: NetworkDraft) -> None:
        draft.result[name] = TensorType.of(self.range.format(index), self._shapes[index])
