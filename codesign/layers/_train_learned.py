"""Training in which word lengths are learned: per weight, per lane of an activation, per input feature.

Every element has a real-valued count of fraction bits, which is rounded where it is used.  Its gradient is
that of the high-granularity quantization of Sun et al. (arXiv 2405.00645, section III): with q = round(x)
on a grid of f bits, dq/df = ln 2 (x - q), and values pass straight through.  A weight that rounds to zero
is pruned; a lane whose values all do is constant.  A pruned weight stays where it is (no gradient passes
straight through), or noise would carry it back and forth across the threshold, which costs a third of the
LUTs at equal accuracy; it returns when its own width grows.  Integer bits are not trained: inputs saturate where
nearly all values lie inside, weights have as many as they need, activations as many as the values seen.

What the hardware charges follows from a second, tiny forward pass (`TrainStep.measures_price`), in which
the values of a signal are the widths of its lanes in bits: dense layers turn them into adders.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray

from codesign.ir import TensorType, Words
from codesign.layers import LAYERS
from codesign.layers._activation import Activation
from codesign.layers._table import TableActivation
from codesign.layers._train_dense import connection_mask, initial_weights
from codesign.layers._training import (
    Granularity,
    NetworkDraft,
    Signal,
    TrainModule,
    TrainNodes,
    TrainStep,
)
from hw_models.types import MATVEC_STRATEGIES
from hw_models.weights import DSP_WIDTH_SUM_BITS

#: Fraction bits that training starts from.
_WEIGHT_START, _LANE_START = 4.0, 3.0
#: The same of lanes that stand at several positions: an angle or a momentum of 3 bits is coarse, and widths grow slowly
#: (docs/tasks.md: what is found on particles).
_POSITIONAL_START = 6.0
#: Fraction bits of biases: constants in front of a rounding are nearly free.
_BIAS_FRACTION_BITS = 7
#: Share of a feature's values that its range must hold before it saturates.
_INPUT_COVERAGE = 0.998
#: Share of the largest value seen that each batch keeps, in training only: exports trace exactly.
_TOP_MEMORY = 0.9995
#: Digits that one more bit adds to a word of several bits, on average (one for the first bit).
_DIGITS_PER_BIT = 0.5
#: Bits that a sum is wider than its widest term, about.
_SUM_GROWTH = 3.0
#: What a DSP counts, in LUTs: about what a device has of these per DSP.
_LUTS_PER_DSP = 120.0
#: Strategies of hls4ml whose multipliers are shared where the reuse factor is above 1.
_SHARING = ("resource", "resource_unrolled")
#: Integer bits of exported activations beyond those seen, before exact ranges are traced.
_SPARE_BITS = 3
#: Non-zero digits of the canonical signed-digit form of 0..4095.
_DIGITS = torch.tensor([(v ^ (3 * v)).bit_count() for v in range(4096)], dtype=torch.float32)


class _RoundWeight(torch.autograd.Function):
    """Round half up on grids of `fraction_bits`; see the module's text for the gradients."""

    @staticmethod
    def forward(ctx, weight, fraction_bits):  # type: ignore[no-untyped-def]
        steps = torch.exp2(torch.round(fraction_bits))
        rounded = torch.mul(weight, steps).add_(0.5).floor_().div_(steps)
        ctx.shape = fraction_bits.shape
        ctx.save_for_backward(weight - rounded, rounded)
        return rounded

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        error, rounded = ctx.saved_tensors
        of_bits = None
        if ctx.needs_input_grad[1]:  # widths freeze
            of_bits = _summed(gradient * error, ctx.shape).mul_(math.log(2))
        return gradient * (rounded != 0), of_bits


class _RoundLanes(torch.autograd.Function):
    """Cut negative values of unsigned nodes, add `offset` bits (half up: 0.5) and round down."""

    @staticmethod
    def forward(ctx, values, fraction_bits, n_unsigned, offset):  # type: ignore[no-untyped-def]
        steps = torch.exp2(torch.round(fraction_bits))
        if n_unsigned == len(values):
            values = torch.relu(values)
        elif n_unsigned:
            values = values.clone()
            values[:n_unsigned].relu_()
        rounded = torch.mul(values, steps).add_(offset).floor_().mul_(1.0 / steps)
        ctx.n_unsigned, ctx.shape = n_unsigned, fraction_bits.shape
        ctx.save_for_backward(values, rounded)
        return rounded

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        values, rounded = ctx.saved_tensors
        n = ctx.n_unsigned
        if n == len(values):
            gradient = torch.ops.aten.threshold_backward(gradient, values, 0)
        elif n:
            gradient = gradient.clone()
            gradient[:n] = torch.ops.aten.threshold_backward(gradient[:n], values[:n], 0)
        of_bits = None
        if ctx.needs_input_grad[1]:
            of_bits = torch.linalg.vecdot(gradient, values - rounded)[..., None].mul_(math.log(2))
            of_bits = _summed(of_bits, ctx.shape)
        return gradient if ctx.needs_input_grad[0] else None, of_bits, None, None


class _Round(torch.autograd.Function):
    """Round to an integer with an identity gradient."""

    @staticmethod
    def forward(ctx, values):  # type: ignore[no-untyped-def]
        return torch.round(values)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        return gradient


def _signal(values: torch.Tensor) -> Signal:
    """Return a signal without a format of all lanes: every lane has its own."""
    return Signal(values, values.new_zeros(len(values)))


def _lane_start(nodes: TrainNodes) -> float:
    return _POSITIONAL_START if nodes.n_positions > 1 else _LANE_START


def _whole(bits: torch.Tensor) -> torch.Tensor:
    return _Round.apply(bits)  # type: ignore[no-any-return,no-untyped-call]


def _summed(gradient: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Sum over the axes that widths are shared along."""
    axes = [i for i, n in enumerate(shape) if n == 1 and gradient.shape[i] != 1]
    return gradient.sum(dim=axes, keepdim=True) if axes else gradient


def _word_length(values: torch.Tensor) -> torch.Tensor:
    """Integer bits of magnitudes: floor(log2) + 1; far below any fraction for zero."""
    return torch.floor(torch.log2(values.clamp_min(2.0**-40))) + 1.0


class LearnedModule(TrainModule):
    """Interface of k nodes with learned widths.

    Attributes:
        price: float32[k], LUTs that each node costs, of the last pass that measured it.
    """

    price: torch.Tensor | None = None

    def width_parameters(self) -> list[torch.nn.Parameter]:
        """Return the parameters that are counts of bits."""
        return []


class LearnedInput(LearnedModule):
    """k inputs: every feature, at each position, saturates and is rounded to a width of its own, by the sender.

    Of particles that take turns, a feature has one width.  An input of fewer positions or features than the data reads
    the leading ones.  Elements are numbered feature * positions + position.
    """

    mask: torch.Tensor
    integer_bits: torch.Tensor

    def __init__(self, nodes: TrainNodes) -> None:
        super().__init__()
        self._shapes, self._n_positions = nodes.shapes, nodes.n_positions
        self._leading = (slice(nodes.padded_output), *map(slice, self._shapes[0][:-1]))
        self._padded = nodes.padded_output
        #: Elements that share a width lie in rows of (groups, elements of one).
        n = nodes.padded_output * nodes.n_positions
        n_widths = {"element": n, "channel": nodes.padded_output, "layer": 1}
        self._n_widths = n_widths[nodes.granularity or "element"]
        self.fraction_bits = torch.nn.Parameter(
            torch.full((nodes.k, self._n_widths, 1), _lane_start(nodes))
        )
        mask = nodes.output_mask().repeat_interleave(nodes.n_positions, dim=1)
        self.register_buffer("mask", mask, persistent=False)
        self.register_buffer("integer_bits", torch.full((nodes.k, n, 1), torch.nan))
        is_alike = torch.from_numpy(nodes.columns["shared_turns"] > 1)[:, None, None]
        self.register_buffer("_is_alike", is_alike, persistent=False)

    _is_alike: torch.Tensor

    def _of_elements(self, bits: torch.Tensor) -> torch.Tensor:
        """Return one number per element of numbers per width, float32[k, ..., 1]."""
        own = bits.repeat_interleave(self.integer_bits.shape[1] // self._n_widths, dim=1)
        return (
            own if not self._is_alike.any() else torch.where(self._is_alike, self._alike(own), own)
        )

    def _alike(self, bits: torch.Tensor) -> torch.Tensor:
        """Give all positions of a feature the mean of theirs."""
        by_feature = bits.view(len(bits), self._padded, -1)
        return by_feature.mean(dim=2, keepdim=True).expand_as(by_feature).reshape(bits.shape)

    def width_parameters(self) -> list[torch.nn.Parameter]:
        return [self.fraction_bits]

    def forward(self, inputs: Sequence[Signal], step: TrainStep) -> Signal:
        (data,) = inputs
        values = data.values[0][self._leading].flatten(0, -2)[None]
        if step.selects_ranges:
            reach = torch.quantile(values[0].abs(), _INPUT_COVERAGE, dim=1, keepdim=True)
            bits = torch.ceil(torch.log2(reach.clamp_min(2.0**-6)))
            widest = bits.view(self._n_widths, -1).amax(dim=1)[None, :, None]
            own = widest.repeat_interleave(bits.numel() // self._n_widths, dim=1)
            by_feature = own.view(self._padded, -1).amax(dim=1, keepdim=True)
            alike = by_feature.expand(-1, self._n_positions).reshape(1, -1, 1)
            self.integer_bits = torch.where(self._is_alike, alike, own).contiguous()
        fraction_bits = self._of_elements(self.fraction_bits)
        if step.measures_price:
            widths = torch.relu(self.integer_bits + 1.0 + _whole(fraction_bits)) * self.mask
            self.price = torch.zeros(len(self.mask), device=self.mask.device)
            return _signal(widths.view(len(widths), self._padded, -1))
        with torch.no_grad():
            span = torch.exp2(self.integer_bits)
            whole = torch.round(fraction_bits)
            has_bits = (self.integer_bits + 1.0 + whole > 0).to(span.dtype) * self.mask
            lsb = torch.exp2(-whole)
            clipped = torch.maximum(
                torch.minimum(values, (span - lsb) * has_bits), -span * has_bits
            )
        rounded = _RoundLanes.apply(clipped, fraction_bits, 0, 0.5)  # type: ignore[no-untyped-call]
        return _signal(rounded.view(len(rounded), self._padded, -1))

    @torch.no_grad()
    def export(self, index: int, name: str, draft: NetworkDraft) -> None:
        shape = self._shapes[index]
        integer = self.integer_bits[index] + 1
        bits = torch.relu(integer + torch.round(self._of_elements(self.fraction_bits)[index]))

        def of_shape(values: torch.Tensor) -> NDArray[np.int64]:
            return _int(values).reshape(-1, self._n_positions)[: shape[-1]].T.reshape(shape)

        draft.result[name] = TensorType(
            shape=shape,
            signed=np.array(True),
            bits=of_shape(bits),
            integer_bits=of_shape(integer),
            rounding="RND",
            overflow="SAT",
        )


class LearnedActivation(LearnedModule):
    """k activations, every lane rounded to a width of its own (half up, tables down); ranges follow what is seen.

    All positions of a lane have one width: its half a bit lies in the bias, which they share.  The outputs
    of networks are exact: rounding them saves nothing.
    """

    mask: torch.Tensor
    top: torch.Tensor

    def __init__(self, nodes: TrainNodes) -> None:
        super().__init__()
        self._is_output = nodes.is_output
        self._shapes, self._n_positions = nodes.shapes, nodes.n_positions
        self._spans: list[tuple[Activation, slice]] = []
        start = 0
        for name, run in groupby(nodes.layers):
            layer = LAYERS.get(name)
            assert isinstance(layer, Activation), f"{name} is no activation"
            stop = start + len(list(run))
            self._spans.append((layer, slice(start, stop)))
            start = stop
        signs = np.repeat(
            [s.result_is_signed for s, _ in self._spans], [n.stop - n.start for _, n in self._spans]
        )
        # nodes of one type lie together; unsigned ones first, or their rounding takes one more copy
        self._signs = signs
        self._is_table = [isinstance(LAYERS.get(name), TableActivation) for name in nodes.layers]
        # tables round down: hls4ml has one table for all lanes and rounds its words again
        offset = torch.tensor([0.0 if table else 0.5 for table in self._is_table])[:, None, None]
        self.register_buffer("_offset", offset, persistent=False)
        unsigned = np.flatnonzero(~signs)
        self._order = np.concatenate([unsigned, np.flatnonzero(signs)])
        self._n_unsigned = len(unsigned)
        self._is_ordered = bool((self._order == np.arange(nodes.k)).all())
        lanes = 1 if nodes.granularity == "layer" else nodes.padded_output
        self.fraction_bits = torch.nn.Parameter(torch.full((nodes.k, lanes, 1), _lane_start(nodes)))
        self.register_buffer("mask", nodes.output_mask(), persistent=False)
        self.register_buffer("top", torch.zeros(nodes.k, nodes.padded_output, 1))
        self.register_buffer(
            "_signed", torch.from_numpy(signs.astype(np.float32))[:, None, None], persistent=False
        )
        costs = np.repeat(
            [s.luts_per_bit for s, _ in self._spans], [n.stop - n.start for _, n in self._spans]
        )
        self.register_buffer(
            "_luts_per_bit", torch.from_numpy(costs.astype(np.float32)), persistent=False
        )

    _signed: torch.Tensor
    _offset: torch.Tensor
    _luts_per_bit: torch.Tensor

    def width_parameters(self) -> list[torch.nn.Parameter]:
        return [] if self._is_output else [self.fraction_bits]

    def _widths(self) -> torch.Tensor:
        is_used = (self.top > 0).to(self.top.dtype) * self.mask
        integer_bits = _word_length(self.top) + self._signed
        return torch.relu(integer_bits + _whole(self.fraction_bits)) * is_used

    def forward(self, inputs: Sequence[Signal], step: TrainStep) -> Signal:
        (source,) = inputs
        if step.measures_price:
            widths = (
                source.values if self._is_output else self._widths().repeat(1, 1, self._n_positions)
            )
            # what is not read costs nothing, and its width has no gradient but this
            self.price = (
                widths.sum(dim=(1, 2)) if not self._is_output else 0.0
            ) * self._luts_per_bit
            return _signal(widths)
        parts = [layer.train_function(source.values[nodes]) for layer, nodes in self._spans]
        values = parts[0] if len(parts) == 1 else torch.cat(parts)
        if self._is_output:
            return _signal(values)
        if self._is_ordered:
            values = _RoundLanes.apply(values, self.fraction_bits, self._n_unsigned, self._offset)  # type: ignore[no-untyped-call]
        else:
            cut = torch.where(self._signed > 0, values, torch.relu(values))
            values = _RoundLanes.apply(cut, self.fraction_bits, 0, self._offset)  # type: ignore[no-untyped-call]
        if step.tracks_ranges:
            with torch.no_grad():
                seen = values.abs().amax(dim=2, keepdim=True)
                self.top = torch.maximum(self.top * _TOP_MEMORY, seen)
        return _signal(values)

    @torch.no_grad()
    def export(self, index: int, name: str, draft: NetworkDraft) -> None:
        n = int(self.mask[index].sum())
        fraction = torch.round(self.fraction_bits[index]).expand(self.top.shape[1], 1)[:n, 0]
        signed = bool(self._signs[index])
        integer = _word_length(self.top[index, :n, 0]).clamp(-20, 20) + float(signed) + _SPARE_BITS
        integer = torch.maximum(integer, 1.0 + float(signed) - fraction)
        draft.result[name] = TensorType(
            shape=self._shapes[index],
            signed=np.array(signed),
            bits=_int(integer + fraction),
            integer_bits=_int(integer),
            rounding="TRN" if self._is_table[index] else "RND",
            overflow="SAT" if self._is_table[index] else "WRAP",  # a table saturates for nothing
        )


class LearnedDense(LearnedModule):
    """k dense layers, y = W x + b, every weight with a width of its own.  Batch norms stay folded."""

    def __init__(self, nodes: TrainNodes) -> None:
        super().__init__()
        k, n_out, n_in = nodes.k, nodes.padded_output, nodes.padded_inputs[0]
        real_out = nodes.columns["n_out"].astype(np.int64)
        self._real_shape = list(zip(real_out.tolist(), nodes.input_widths[0].tolist(), strict=True))
        mask = connection_mask(nodes)
        self.weight = torch.nn.Parameter(initial_weights(nodes, mask))
        self.bias = torch.nn.Parameter(torch.zeros(k, n_out, 1))
        widths: dict[Granularity, tuple[int, int, int]] = {
            "element": (k, n_out, n_in),
            "channel": (k, n_out, 1),
            "layer": (k, 1, 1),
        }
        chosen = widths[nodes.granularity or "element"]
        self.fraction_bits = torch.nn.Parameter(torch.full(chosen, _WEIGHT_START))
        self.register_buffer("mask", mask, persistent=False)
        strategy = nodes.columns["strategy"].astype(np.int64)
        shares = np.isin(strategy, [MATVEC_STRATEGIES.index(name) for name in _SHARING])
        shares &= nodes.columns["reuse_factor"] > 1  # with a factor of 1 all weights are constants
        is_da = strategy == MATVEC_STRATEGIES.index("distributed_arithmetic")
        n_weights = real_out * nodes.input_widths[0]
        for name, values in (
            ("_is_latency", ~shares & ~is_da),
            ("_is_resource", shares),
            ("_n_multipliers", np.ceil(n_weights / np.maximum(nodes.columns["reuse_factor"], 1.0))),
        ):
            kind = bool if values.dtype == bool else np.float32
            self.register_buffer(name, torch.from_numpy(values.astype(kind)), persistent=False)

    mask: torch.Tensor
    _is_latency: torch.Tensor
    _is_resource: torch.Tensor
    _n_multipliers: torch.Tensor

    def width_parameters(self) -> list[torch.nn.Parameter]:
        return [self.fraction_bits]

    def _rounded(self) -> torch.Tensor:
        rounded: torch.Tensor = _RoundWeight.apply(self.weight, self.fraction_bits)  # type: ignore[no-untyped-call]
        return rounded * self.mask

    def forward(self, inputs: Sequence[Signal], step: TrainStep) -> Signal:
        (source,) = inputs
        if step.measures_price:
            return _signal(self._measure(source.values))
        values = torch.baddbmm(self.bias, self._rounded(), source.values)
        return _signal(values)

    def _measure(self, widths: torch.Tensor) -> torch.Tensor:
        """Price the product as its strategy builds it; return the bits of the sums.

        Distributed arithmetic: signed digits of each weight times the bits of what it multiplies.  Where a
        sum has m terms there are m - 1 adders, each about one bit wider than its terms: the two
        corrections cancel: 0.99 to 1.14 of alkaid's cost on 18 solved graphs (docs/precision.md).

        Latency and unrolled (the terms of `hw_models.primitives.matvec`): an adder as wide as the
        accumulator for each weight, one as wide as both factors for each further digit, or a DSP where the
        factors are wide enough for one.  Resource: as many multipliers as the reuse factor leaves, each as
        wide as the widest factors of the layer; a weight that is pruned by itself buys nothing there.
        """
        with torch.no_grad():
            magnitude = self._rounded().abs()
            is_used = (magnitude > 0).to(magnitude.dtype)
            fraction = torch.round(self.fraction_bits)
            words = torch.mul(magnitude, torch.exp2(fraction)).long().clamp_(0, len(_DIGITS) - 1)
            digits = _DIGITS.to(words.device)[words]
            slope = torch.where(words > 1, _DIGITS_PER_BIT, 1.0) * is_used
        bits = _whole(self.fraction_bits)
        count = digits + slope * (bits - bits.detach())  # exact digits, smooth gradient
        widest = (is_used[..., None] * widths.detach()[:, None]).amax(dim=2)
        sums = widest + _SUM_GROWTH * (widest > 0)
        self.price = torch.bmm(count, widths).sum(dim=(1, 2))
        if self._is_latency.any():
            shortest = slope * (words <= 1)  # of these, the last bit is the weight
            first = is_used + shortest * (bits - bits.detach())
            further = torch.relu(digits - 1.0) + (slope - shortest) * (bits - bits.detach())
            with torch.no_grad():
                length = torch.log2(words.clamp_min(1).float()).floor() + 1.0 + is_used
                read = widths.mean(dim=2)[:, None]
                in_dsp = (digits >= 3) & (length + read >= DSP_WIDTH_SUM_BITS)
            adders = further * (length + widths.mean(dim=2)[:, None])
            adders = torch.where(in_dsp, _LUTS_PER_DSP + adders - adders.detach(), adders)
            accumulated = (
                first * (sums.mean(dim=2, keepdim=True) + length.amax(2, True) + 3.0)
            ).sum(2)
            own = (accumulated + adders.sum(dim=2)).sum(dim=1) * widths.shape[2]
            self.price = torch.where(self._is_latency, own, self.price)
        if self._is_resource.any():
            integer = _word_length(magnitude) + 1.0
            weight_bits = ((integer + bits) * is_used).amax(dim=(1, 2))
            multiplier = weight_bits * widths.amax(dim=(1, 2))
            own = self._n_multipliers * torch.clamp_max(multiplier, _LUTS_PER_DSP)
            self.price = torch.where(self._is_resource, own * widths.shape[2], self.price)
        return sums

    @torch.no_grad()
    def export(self, index: int, name: str, draft: NetworkDraft) -> None:
        n_out, n_in = self._real_shape[index]
        weight = self._rounded()[index, :n_out, :n_in].T.double().cpu().numpy()
        bias = self.bias[index, :n_out, 0].double().cpu().numpy()
        steps = 2.0**_BIAS_FRACTION_BITS
        draft.constants[name] = {
            "weight": own_words(weight),
            "bias": own_words(np.floor(bias * steps + 0.5) / steps),
        }


def own_words(values: NDArray[np.float64]) -> Words:
    """Return real constants as words, each of just the width that it needs.

    Args:
        values: multiples of a power of two, at most 50 bits each.
    """
    scaled = np.rint(np.ldexp(values, 24)).astype(np.int64)
    used = scaled != 0
    magnitude = np.abs(scaled)
    zeros = np.where(used, np.frexp((magnitude & -magnitude).astype(np.float64))[1] - 1, 0)
    least = scaled >> zeros  # odd
    length = np.frexp(np.abs(least).astype(np.float64))[1]
    bits = np.where(used, length + (scaled < 0) * (least != -1), 0)
    known = TensorType(
        shape=values.shape,
        signed=scaled < 0,
        bits=bits,
        integer_bits=np.where(used, bits - (24 - zeros), 0),
    )
    return Words(values=scaled >> (24 - known.fraction_bits) if used.any() else scaled, type=known)


def _int(values: torch.Tensor) -> NDArray[np.int64]:
    return np.asarray(values.round().cpu().numpy(), dtype=np.int64)
