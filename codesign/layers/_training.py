"""Training many nodes of one layer type at once, on the fixed-point grid.

Values of k nodes are one tensor [k, width, positions * batch], padded to the widest node; the events of
one position lie together.  So positions (particles, pixels) are more batch to every module that treats
them alike: a dense layer over features is a dense layer per particle.  The batch is the last axis, so
that narrow layers still fill vector registers and a lane is a contiguous row.  What padded lanes hold is
finite and never read by a real lane.

Quantization in training is the one of the integer reference, with straight-through gradients: a
forward pass gives the values that `codesign.layers.run_words` gives, up to float32 rounding.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from codesign.ir import FixedPoint, TensorType, Words
from codesign.layers.base import FloatColumns

#: What elements share one learned width: "element": none; "channel": the weights of one output, the
#: values of one lane; "layer": all.
Granularity = Literal["element", "channel", "layer"]

#: Integer bits that range selection chooses from.
INTEGER_BITS = tuple(range(-6, 10))
#: Columns of a batch that range selection looks at.
_N_RANGE_SAMPLES = 256
#: Bits around the present choices that range selection looks at.
_RANGE_REACH = 2
#: Share of the old error estimate that each range selection keeps.
_RANGE_MEMORY = 0.5


@dataclass(frozen=True)
class Signal:
    """What flows between nodes.

    Attributes:
        values: float32[k, width, positions * batch], real values on each node's grid.
        fraction_bits: float32[k], fraction bits of that grid.
    """

    values: torch.Tensor
    fraction_bits: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class TrainStep:
    """What a forward pass does besides computing.

    What follows from the formats alone is computed anew only where `changes_formats`.

    Attributes:
        selects_ranges: choose integer bits anew from what is seen.
        updates_moments: track the input statistics of normalised nodes.
        covers_outputs: widen the formats of network outputs to hold what is seen.
        pruning: 0..1, share of each node's pruned fraction that is pruned by now; None keeps masks.
        tracks_ranges: note the largest values of nodes whose widths are learned.
        measures_price: signals hold the widths of lanes in bits instead of values (batch of one), and
            nodes whose widths are learned work out what they cost.
        keeps_tails: inputs choose integer bits for the rare large values, not for the bulk.
    """

    selects_ranges: bool = False
    updates_moments: bool = False
    covers_outputs: bool = False
    pruning: float | None = None
    tracks_ranges: bool = False
    measures_price: bool = False
    keeps_tails: bool = False

    @property
    def changes_formats(self) -> bool:
        """Whether integer bits may change."""
        return self.selects_ranges or self.covers_outputs


@dataclass(frozen=True, kw_only=True)
class TrainNodes:
    """k nodes of one family of layers and of equal positions, to be trained together.

    Attributes:
        layers: registered name of each node's layer.
        columns: population columns restricted to these nodes, float64[k] each.
        input_widths: per input: int64[k], real width.
        padded_inputs: per input: padded width.
        padded_output: padded width of the result.
        input_positions: per input: positions of what is read.
        input_axes: per input: int64[k, 2], rows and columns of what is read, 0 where there is no such axis.
        n_positions: positions of the result.
        is_normalised: bool[k], whether a batch norm follows, which is trained as part of the node.
        is_output: these are the last nodes of their networks; the loss reads them unrounded.
        seeds: int per node, of its initial weights.
        granularity: what shares one learned width; None where widths are those of the candidate.
    """

    layers: tuple[str, ...]
    columns: FloatColumns
    input_widths: tuple[NDArray[np.int64], ...]
    padded_inputs: tuple[int, ...]
    padded_output: int
    input_positions: tuple[int, ...]
    input_axes: tuple[NDArray[np.int64], ...]
    n_positions: int
    is_normalised: NDArray[np.bool_]
    is_output: bool
    seeds: tuple[int, ...]
    granularity: Granularity | None = None

    @property
    def k(self) -> int:
        """How many nodes."""
        return len(self.seeds)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Shape of each node's result."""
        axes = (self.columns[name] for name in ("n_rows", "n_columns", "n_out"))
        return [tuple(int(axis) for axis in of if axis) for of in zip(*axes, strict=True)]

    def output_mask(self) -> torch.Tensor:
        """float32[k, padded_output, 1], 1 on real lanes."""
        return lane_mask(self.columns["n_out"], self.padded_output)[:, :, None]


@dataclass
class NetworkDraft:
    """Words and types of one network, collected node by node."""

    result: dict[str, TensorType] = field(default_factory=dict)
    constants: dict[str, dict[str, Words]] = field(default_factory=dict)


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
        """Write words and types of node `index`, called `name`, into a draft."""


class MovingModule(TrainModule):
    """Interface of k nodes that only move elements: their readers may gather straight from their sources.

    An element is one lane at one position; those of one input or result are numbered
    lane * positions + position, and those of several inputs follow one another.

    Nothing is trained, and formats follow.
    """

    rows: torch.Tensor

    def __init__(self, nodes: TrainNodes) -> None:
        super().__init__()
        self._shape = (nodes.k, nodes.padded_output)
        self._n_rows = [
            p * n for p, n in zip(nodes.padded_inputs, nodes.input_positions, strict=True)
        ]
        offsets = sum(self._n_rows) * np.arange(nodes.k)[:, None]
        rows = torch.from_numpy((self.elements(nodes) + offsets).reshape(-1))
        self.register_buffer("rows", rows, persistent=False)

    @abstractmethod
    def elements(self, nodes: TrainNodes) -> NDArray[np.int64]:
        """Say which element of the node's joined padded inputs each element of its result is.

        Returns:
            int64[k, padded_output * n_positions].
        """

    def fraction_bits(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the fraction bits of the results, from those of the inputs; all float32[k]."""
        return torch.stack(list(inputs)).amax(dim=0)

    def forward(self, inputs: Sequence[Signal], step: TrainStep) -> Signal:
        parts = [
            signal.values.reshape(self._shape[0], n, -1)
            for signal, n in zip(inputs, self._n_rows, strict=True)
        ]
        moved = torch.cat(parts, dim=1).flatten(0, 1).index_select(0, self.rows)
        fraction_bits = self.fraction_bits([signal.fraction_bits for signal in inputs])
        return Signal(moved.view(*self._shape, -1), fraction_bits)

    def export(self, index: int, name: str, draft: NetworkDraft) -> None:
        """Nothing to write: the format follows."""


def lane_mask(widths: NDArray[np.floating] | NDArray[np.integer], padded: int) -> torch.Tensor:
    """float32[k, padded], 1 where a lane is below the node's width."""
    lanes = np.arange(padded)[None, :] < np.asarray(widths)[:, None]
    return torch.from_numpy(lanes.astype(np.float32))


#: The largest float32 below 1.  Clipping to it before scaling by a power of two up to 2**24 and flooring
#: gives the largest word of every format, without bounds per node (which torch clips ten times slower).
_BELOW_ONE = 1.0 - 2.0**-24


@dataclass(frozen=True)
class Grid:
    """Formats as factors that broadcast to values; all are powers of two, so every product is exact.

    Attributes:
        inverse_span: 1 / (least magnitude above the range).
        steps: words per span.
        lsb: value of one word.
        low: least value of values / span: -1 where signed, else 0; one number where all are alike.
    """

    inverse_span: torch.Tensor
    steps: torch.Tensor
    lsb: torch.Tensor
    low: torch.Tensor | float

    @classmethod
    def of(cls, bits: torch.Tensor, integer_bits: torch.Tensor, sign: torch.Tensor | float) -> Grid:
        """Lay out `ap_fixed<bits, integer_bits>` formats (`ap_ufixed` where `sign` is 0, not 1)."""
        span, steps = torch.exp2(integer_bits - sign), torch.exp2(bits - sign)
        return cls(1.0 / span, steps, span / steps, -sign)

    def part(self, nodes: slice, sign: float) -> Grid:
        """Return the formats of some nodes, all signed (1) or all unsigned (0)."""
        return Grid(self.inverse_span[nodes], self.steps[nodes], self.lsb[nodes], -sign)

    def round(self, relative: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """Return values / span rounded down, saturated and as values again."""
        if isinstance(self.low, float):
            words = torch.clamp(relative, self.low, _BELOW_ONE, out=out)
        else:
            words = torch.maximum(relative, self.low, out=out).clamp_max_(_BELOW_ONE)
        return words.mul_(self.steps).floor_().mul_(self.lsb)


class _FloorSaturate(torch.autograd.Function):
    """Floor to a grid and saturate; the gradient passes inside the range only."""

    @staticmethod
    def forward(ctx, values, grid):  # type: ignore[no-untyped-def]
        relative = torch.mul(values, grid.inverse_span)
        ctx.save_for_backward(relative)
        ctx.low = grid.low
        return grid.round(relative)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        (relative,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(gradient, relative, ctx.low, 1.0), None


def floor_saturate(
    values: torch.Tensor, bits: torch.Tensor, integer_bits: torch.Tensor, *, is_signed: bool
) -> torch.Tensor:
    """Round down to `ap_fixed<bits, integer_bits, TRN, SAT>`, straight-through.

    Args:
        values: float32[k, ...].
        bits, integer_bits: float32, broadcastable to `values`; at most 24 bits.
        is_signed: format of the result.
    """
    grid = Grid.of(bits, integer_bits, 1.0 if is_signed else 0.0)
    return _FloorSaturate.apply(values, grid)  # type: ignore[no-any-return,no-untyped-call]


def sign_runs(is_signed: Sequence[bool]) -> list[tuple[slice, float]]:
    """Divide nodes into runs that are all signed (1) or all unsigned (0)."""
    starts = [i for i, value in enumerate(is_signed) if i == 0 or value != is_signed[i - 1]]
    return [
        (slice(start, stop), float(is_signed[start]))
        for start, stop in zip(starts, [*starts[1:], len(is_signed)], strict=True)
    ]


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


@torch.no_grad()
def best_integer_bits(values: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
    """Return the integer bits of least squared error of constants.

    Args:
        values: float32[k, ...].
        bits: float32[k], width of their words.

    Returns:
        float32[k], one of `INTEGER_BITS` each.
    """
    columns = (len(bits), *(1 for _ in values.shape[1:]))
    limit = (torch.exp2(bits - 1) - 1).view(columns)
    error = torch.stack(
        [
            (round_symmetric(values, torch.exp2(choice - bits).view(columns), limit) - values)
            .square()
            .flatten(1)
            .sum(dim=1)
            for choice in INTEGER_BITS
        ],
        dim=1,
    )
    choices = torch.tensor(INTEGER_BITS, dtype=torch.float32, device=values.device)
    return choices[error.argmin(dim=1)]


class ResultRange(torch.nn.Module):
    """Integer bits of k result formats, chosen for least mean absolute error, then kept."""

    bits: torch.Tensor
    integer_bits: torch.Tensor
    error: torch.Tensor
    sign: torch.Tensor

    def __init__(
        self, bits: NDArray[np.float64], is_signed: Sequence[bool], *, n_positions: int
    ) -> None:
        super().__init__()
        self._n_positions = n_positions
        self._signs = tuple(is_signed)
        self._runs = sign_runs(self._signs)
        self.register_buffer("bits", torch.tensor(bits, dtype=torch.float32), persistent=False)
        sign = torch.tensor(self._signs, dtype=torch.float32)
        self.register_buffer("sign", sign, persistent=False)
        self.register_buffer("integer_bits", torch.full((len(bits),), float("nan")))
        # infinity: not looked at
        self.register_buffer("error", torch.full((len(bits), len(INTEGER_BITS)), torch.inf))
        self._grid: Grid | None = None

    @property
    def fraction_bits(self) -> torch.Tensor:
        """float32[k]."""
        return self.bits - self.integer_bits

    @property
    def grid(self) -> Grid:
        """The formats chosen, for values float32[k, width, batch]."""
        if self._grid is None:
            bits, integer_bits, sign = (
                x[:, None, None] for x in (self.bits, self.integer_bits, self.sign)
            )
            self._grid = Grid.of(bits, integer_bits, sign)
        return self._grid

    @torch.no_grad()
    def select(self, values: torch.Tensor, mask: torch.Tensor, *, power: int = 1) -> None:
        """Choose the integer bits of least mean absolute or squared error, remembering earlier batches.

        Absolute, not squared: the inputs of physics tasks have long tails, and few bits are better
        spent on the bulk (6-bit inputs of the bundled jets: .704 instead of .683 test accuracy).
        Squared where the tails are what is looked for: of the bundled level-1 objects, the sum of squares of
        6-bit inputs fires on 7.8 % of the signals at 1 kHz instead of 3.9 % (floating point: 7.9 %).
        Flooring is judged as if centred: the bias before it absorbs half a step (zero of an unsigned
        result excepted, which is exact).

        Args:
            values: float32[k, width, positions * batch], before rounding.
            mask: float32[k, width, 1], 1 on real lanes.
            power: of the error: 1 or 2.
        """
        by_position = values.reshape(*values.shape[:2], self._n_positions, -1)
        n_events = -(-_N_RANGE_SAMPLES // self._n_positions)
        values = by_position[..., :n_events].flatten(2)
        weight = mask / (mask.sum(dim=(1, 2), keepdim=True) * values.shape[2])
        errors = [
            self._errors(
                values[nodes] if len(values) > 1 else values, weight[nodes], nodes, sign, power
            )
            for nodes, sign in self._runs
        ]
        error = torch.cat(errors)
        mixed = _RANGE_MEMORY * self.error + (1 - _RANGE_MEMORY) * error
        self.error = torch.where(torch.isinf(self.error) | torch.isinf(error), error, mixed)
        choice = torch.tensor(INTEGER_BITS, dtype=torch.float32, device=values.device)
        self.integer_bits = choice[self.error.argmin(dim=1)]
        self._grid = None

    def _errors(
        self, values: torch.Tensor, weight: torch.Tensor, nodes: slice, sign: float, power: int
    ) -> torch.Tensor:
        """Return the mean error of every choice, float32[k, n_choices].

        Choices further than `_RANGE_REACH` bits from those of all these nodes are not looked at.
        """
        bits = self.bits[nodes][:, None, None]
        is_centred: torch.Tensor | float = 1.0
        if sign == 0.0:
            values = values.clamp_min(0.0)
            is_centred = (values > 0).to(torch.float32)
        known = self.integer_bits[nodes]
        low, high = (float(known.min()) - _RANGE_REACH, float(known.max()) + _RANGE_REACH)
        found = torch.full((len(bits), len(INTEGER_BITS)), torch.inf, device=bits.device)
        for column, integer_bits in enumerate(INTEGER_BITS):
            if integer_bits < low or integer_bits > high:  # never, while they are NaN
                continue
            grid = Grid.of(bits, torch.full_like(bits, float(integer_bits)), sign)
            error = grid.round(torch.mul(values, grid.inverse_span)).sub_(values)
            error.add_(is_centred * (0.5 * grid.lsb))
            error = error.abs_() if power == 1 else error.square_()
            found[:, column] = (error.sum(dim=2, keepdim=True) * weight).sum(dim=(1, 2))
        return found

    @torch.no_grad()
    def cover(self, values: torch.Tensor, mask: torch.Tensor) -> None:
        """Choose the fewest integer bits that hold every value seen so far.

        Args:
            values: float32[k, width, positions * batch].
            mask: float32[k, width, 1].
        """
        largest = (values.abs() * mask).amax(dim=(1, 2)).clamp_min(2.0**-6)
        needed = torch.ceil(torch.log2(largest)) + self.sign
        self.integer_bits = torch.where(
            torch.isnan(self.integer_bits),
            needed,
            torch.maximum(self.integer_bits, needed),
        )
        self._grid = None

    def format(self, index: int) -> FixedPoint:
        """Return the format of node `index`."""
        return FixedPoint(
            bits=int(self.bits[index]),
            integer_bits=int(self.integer_bits[index]),
            signed=self._signs[index],
        )
