"""Training many nodes of one layer type at once, on the fixed-point grid.

Values of k nodes are one tensor [k, width, batch], padded to the widest node.  The batch is the last
axis, so that narrow layers still fill vector registers and a lane is a contiguous row.  What padded
lanes hold is finite and never read by a real lane.

Quantization in training is the one of the integer reference, with straight-through gradients: a
forward pass gives the values that `codesign.layers.run_words` gives, up to float32 rounding.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from codesign.ir import FixedPoint
from codesign.layers.base import FloatColumns

#: Integer bits that range selection chooses from.
INTEGER_BITS = tuple(range(-6, 10))
#: Columns of a batch that range selection looks at.
_N_RANGE_SAMPLES = 256
#: Share of the old error estimate that each range selection keeps.
_RANGE_MEMORY = 0.5


@dataclass(frozen=True)
class Signal:
    """What flows between nodes.

    Attributes:
        values: float32[k, width, batch], real values on each node's grid.
        fraction_bits: float32[k], fraction bits of that grid.
    """

    values: torch.Tensor
    fraction_bits: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class TrainStep:
    """What a forward pass does besides computing.

    Attributes:
        selects_ranges: choose integer bits anew from what is seen.
        updates_moments: track the input statistics of normalised nodes.
        covers_outputs: widen the formats of network outputs to hold what is seen.
        pruning: 0..1, share of each node's pruned fraction that is pruned by now; None keeps masks.
    """

    selects_ranges: bool = False
    updates_moments: bool = False
    covers_outputs: bool = False
    pruning: float | None = None


@dataclass(frozen=True, kw_only=True)
class TrainNodes:
    """k nodes of one layer type, to be trained together.

    Attributes:
        columns: population columns restricted to these nodes, float64[k] each.
        input_widths: per input: int64[k], real width.
        padded_inputs: per input: padded width.
        padded_output: padded width of the result.
        is_normalised: bool[k], whether a batch norm follows, which is trained as part of the node.
        is_output: these are the last nodes of their networks; the loss reads them unrounded.
        seeds: int per node, of its initial weights.
    """

    columns: FloatColumns
    input_widths: tuple[NDArray[np.int64], ...]
    padded_inputs: tuple[int, ...]
    padded_output: int
    is_normalised: NDArray[np.bool_]
    is_output: bool
    seeds: tuple[int, ...]

    @property
    def k(self) -> int:
        """How many nodes."""
        return len(self.seeds)

    def output_mask(self) -> torch.Tensor:
        """float32[k, padded_output, 1], 1 on real lanes."""
        return lane_mask(self.columns["n_out"], self.padded_output)[:, :, None]


@dataclass
class NetworkDraft:
    """Words and formats of one network, collected node by node."""

    result: dict[str, FixedPoint] = field(default_factory=dict)
    weight_words: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    weight_format: dict[str, FixedPoint] = field(default_factory=dict)
    bias_words: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    bias_format: dict[str, FixedPoint] = field(default_factory=dict)


class TrainModule(torch.nn.Module, ABC):
    """Interface of k nodes in training.

    What training changes is in parameters and persistent buffers, each with k as its first axis and
    padded widths after it, so that single nodes can move to another module; what follows from the
    nodes alone is in non-persistent buffers.
    """

    @abstractmethod
    def forward(self, inputs: Sequence[Signal], step: TrainStep) -> Signal:
        """Compute the k outputs."""

    @abstractmethod
    def export(self, index: int, name: str, draft: NetworkDraft) -> None:
        """Write words and formats of node `index`, called `name`, into a draft."""


def lane_mask(widths: NDArray[np.floating] | NDArray[np.integer], padded: int) -> torch.Tensor:
    """float32[k, padded], 1 where a lane is below the node's width."""
    lanes = np.arange(padded)[None, :] < np.asarray(widths)[:, None]
    return torch.from_numpy(lanes.astype(np.float32))


class _FloorSaturate(torch.autograd.Function):
    """Floor to a grid and saturate; the gradient passes inside the range only."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        values: torch.Tensor,
        span: torch.Tensor,
        steps: torch.Tensor,
        is_signed: bool,
    ) -> torch.Tensor:
        relative = values / span  # powers of two: every product here is exact
        ctx.save_for_backward(relative)
        ctx.is_signed = is_signed  # type: ignore[attr-defined]
        words = torch.mul(relative, steps).floor_()
        if is_signed:
            torch.maximum(words, -steps, out=words)
        else:
            words.clamp_min_(0.0)
        torch.minimum(words, steps - 1.0, out=words)
        return words.mul_(span / steps)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        (relative,) = ctx.saved_tensors
        low = -1.0 if ctx.is_signed else 0.0
        return torch.ops.aten.hardtanh_backward(gradient, relative, low, 1.0), None, None, None


def floor_saturate(
    values: torch.Tensor, bits: torch.Tensor, integer_bits: torch.Tensor, *, is_signed: bool
) -> torch.Tensor:
    """Round down to `ap_fixed<bits, integer_bits, TRN, SAT>`, straight-through.

    Args:
        values: float32[k, ...].
        bits, integer_bits: float32, broadcastable to `values`.
        is_signed: format of the result.
    """
    sign = 1.0 if is_signed else 0.0
    return _FloorSaturate.apply(  # type: ignore[no-any-return,no-untyped-call]
        values, torch.exp2(integer_bits - sign), torch.exp2(bits - sign), is_signed
    )


class _Round(torch.autograd.Function):
    """Round half to even on a grid, clip to a symmetric range; identity gradient."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        values: torch.Tensor,
        lsb: torch.Tensor,
        limit: torch.Tensor,
    ) -> torch.Tensor:
        words = torch.div(values, lsb).round_()
        torch.maximum(words, -limit, out=words)
        torch.minimum(words, limit, out=words)
        return words.mul_(lsb)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        return gradient, None, None


def round_symmetric(values: torch.Tensor, lsb: torch.Tensor, limit: torch.Tensor) -> torch.Tensor:
    """Round to multiples of `lsb` within +-`limit` words, straight-through.  All float32."""
    return _Round.apply(values, lsb, limit)  # type: ignore[no-any-return,no-untyped-call]


class ResultRange(torch.nn.Module):
    """Integer bits of k result formats, chosen for least mean absolute error, then kept."""

    bits: torch.Tensor
    integer_bits: torch.Tensor
    error: torch.Tensor

    def __init__(self, bits: NDArray[np.float64], *, is_signed: bool) -> None:
        super().__init__()
        self.is_signed = is_signed
        self.register_buffer("bits", torch.tensor(bits, dtype=torch.float32), persistent=False)
        self.register_buffer("integer_bits", torch.full((len(bits),), float("nan")))
        self.register_buffer("error", torch.zeros(len(bits), len(INTEGER_BITS)))

    @property
    def fraction_bits(self) -> torch.Tensor:
        """float32[k]."""
        return self.bits - self.integer_bits

    @torch.no_grad()
    def select(self, values: torch.Tensor, mask: torch.Tensor) -> None:
        """Choose the integer bits of least mean absolute error, remembering earlier batches.

        Absolute, not squared: the inputs of physics tasks have long tails, and few bits are better
        spent on the bulk (6-bit inputs of the bundled jets: .704 instead of .683 test accuracy).
        Flooring is judged as if centred: the bias before it absorbs half a step (zero of an unsigned
        result excepted, which is exact).

        Args:
            values: float32[k, width, batch], before rounding.
            mask: float32[k, width, 1], 1 on real lanes.
        """
        values = values[:, :, :_N_RANGE_SAMPLES]
        if not self.is_signed:
            values = values.clamp_min(0.0)
        weight = mask / (mask.sum(dim=(1, 2), keepdim=True) * values.shape[2])
        bits = self.bits[:, None, None]
        found = []
        for integer_bits in INTEGER_BITS:
            rounded = floor_saturate(
                values, bits, torch.full_like(bits, float(integer_bits)), is_signed=self.is_signed
            )
            half = 0.5 * torch.exp2(integer_bits - bits)
            centred = rounded + half if self.is_signed else rounded + half * (values > 0)
            found.append(((centred - values).abs() * weight).sum(dim=(1, 2)))
        error = torch.stack(found, dim=1)
        is_first = torch.isnan(self.integer_bits)[:, None]
        self.error = torch.where(
            is_first, error, _RANGE_MEMORY * self.error + (1 - _RANGE_MEMORY) * error
        )
        choice = torch.tensor(INTEGER_BITS, dtype=torch.float32, device=values.device)
        self.integer_bits = choice[self.error.argmin(dim=1)]

    @torch.no_grad()
    def cover(self, values: torch.Tensor, mask: torch.Tensor) -> None:
        """Choose the fewest integer bits that hold every value seen so far.

        Args:
            values: float32[k, width, batch].
            mask: float32[k, width, 1].
        """
        largest = (values.abs() * mask).amax(dim=(1, 2)).clamp_min(2.0**-6)
        needed = torch.ceil(torch.log2(largest)) + (1.0 if self.is_signed else 0.0)
        self.integer_bits = torch.where(
            torch.isnan(self.integer_bits),
            needed,
            torch.maximum(self.integer_bits, needed),
        )

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Round float32[k, width, batch] to the formats chosen."""
        return floor_saturate(
            values,
            self.bits[:, None, None],
            self.integer_bits[:, None, None],
            is_signed=self.is_signed,
        )

    def format(self, index: int) -> FixedPoint:
        """Return the format of node `index`."""
        return FixedPoint(
            bits=int(self.bits[index]),
            integer_bits=int(self.integer_bits[index]),
            signed=self.is_signed,
        )
