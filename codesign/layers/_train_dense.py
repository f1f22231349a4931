"""Training of fully connected layers: pruned, batch-normalised and quantized as they will be deployed.

Batch norm is folded before weights are rounded, so that what is rounded in training is what is
rounded in the end (Jacob et al., arXiv 1712.05877, section 3.2).  Mean and variance of x W follow
from mean and covariance of x, which are tracked over batches: mean = m W, variance = diag(W' C W).
That costs one small product per batch instead of a second pass over the outputs, gives the gradient
of the normalisation with respect to W exactly, and makes training and deployment the same function.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from codesign.ir import FixedPoint, Words, covering_format
from codesign.layers import LAYERS
from codesign.layers._training import (
    NetworkDraft,
    Signal,
    TrainModule,
    TrainNodes,
    TrainStep,
    best_integer_bits,
    round_symmetric,
)
from codesign.layers.dense import Dense

#: Share of the old input statistics that each look at a batch keeps.
_MOMENT_MEMORY = 0.85
#: Added to variances, as in torch.nn.BatchNorm1d.
_EPSILON = 1e-5
#: Biases have no more fraction bits than this: finer ones only widen the accumulator.
_MAX_BIAS_FRACTION_BITS = 12
#: Bound of bias words, far outside what training reaches.
_MAX_BIAS_WORD = 2.0**20


class _Fold(torch.autograd.Function):
    """Absorb batch norm: w = scale W, b = bias - scale W m, with scale = gain / sqrt(diag(W C W')).

    Written out because autograd would take thrice the passes over the weights.
    """

    @staticmethod
    def forward(ctx, weight, bias, gain, kept, mean, covariance, is_normalised):  # type: ignore[no-untyped-def]
        pruned = weight * kept
        spread = torch.bmm(pruned, covariance)
        variance = (spread * pruned).sum(dim=2).clamp_min_(0.0)
        inverse = variance.add_(_EPSILON).rsqrt_()
        # 1 where no batch norm follows, and no centre
        scale = (gain * inverse - 1.0) * is_normalised + 1.0
        centre = torch.bmm(pruned, mean[:, :, None])[:, :, 0] * is_normalised
        ctx.save_for_backward(
            pruned, spread, gain, kept, mean, inverse, scale, centre, is_normalised
        )
        return pruned * scale[:, :, None], bias - scale * centre

    @staticmethod
    def backward(ctx, of_weight, of_bias):  # type: ignore[no-untyped-def]
        pruned, spread, gain, kept, mean, inverse, scale, centre, is_normalised = ctx.saved_tensors
        of_scale = ((of_weight * pruned).sum(dim=2) - of_bias * centre) * is_normalised
        of_gain = of_scale * inverse
        # of the variance, twice: d variance / d W = 2 C W
        of_variance = -of_gain * gain * inverse.square()
        of_centre = -of_bias * scale * is_normalised
        result = of_weight * scale[:, :, None]
        result.addcmul_(spread, of_variance[:, :, None])
        result.addcmul_(of_centre[:, :, None], mean[:, None, :])
        return result.mul_(kept), of_bias, of_gain, None, None, None, None


def connection_mask(nodes: TrainNodes) -> torch.Tensor:
    """float32[k, padded_output, padded_input], 1 where a weight may differ from zero."""
    layer = LAYERS.get(nodes.layers[0])
    assert isinstance(layer, Dense), f"{layer.name} has no weights"
    n_outputs, n_inputs = nodes.columns["n_out"].astype(np.int64), nodes.input_widths[0]
    mask = torch.zeros(nodes.k, nodes.padded_output, nodes.padded_inputs[0])
    for i, (n_out, n_in) in enumerate(zip(n_outputs.tolist(), n_inputs.tolist(), strict=True)):
        mask[i, :n_out, :n_in] = torch.from_numpy(layer.connections(n_in, n_out).T)
    return mask


def initial_weights(nodes: TrainNodes, mask: torch.Tensor) -> torch.Tensor:
    """Draw weights of variance 1.5 / (connections of an output), from the seed of each node.

    Args:
        nodes: the nodes.
        mask: what `connection_mask` returned for them.
    """
    weights = np.zeros(mask.shape, dtype=np.float32)
    fan_in = mask.sum(dim=2).amax(dim=1).tolist()
    for i, n_out in enumerate(nodes.columns["n_out"].astype(np.int64).tolist()):
        shape = (n_out, int(nodes.input_widths[0][i]))
        drawn = np.random.default_rng(nodes.seeds[i]).normal(0, np.sqrt(1.5 / fan_in[i]), shape)
        weights[i, : shape[0], : shape[1]] = drawn
    return torch.from_numpy(weights)


class DenseModule(TrainModule):
    """k dense layers, y = W x + b, each followed by a batch norm or none."""

    real: torch.Tensor
    kept: torch.Tensor
    bits: torch.Tensor
    integer_bits: torch.Tensor
    is_normalised: torch.Tensor
    pruned_fraction: torch.Tensor
    size: torch.Tensor
    bias_fraction_bits: torch.Tensor
    mean: torch.Tensor
    second_moment: torch.Tensor

    def __init__(self, nodes: TrainNodes) -> None:
        super().__init__()
        k, n_out, n_in = nodes.k, nodes.padded_output, nodes.padded_inputs[0]
        real_out = nodes.columns["n_out"].astype(np.int64)
        real_in = nodes.input_widths[0]
        mask = connection_mask(nodes)
        self.weight = torch.nn.Parameter(initial_weights(nodes, mask))
        self.bias = torch.nn.Parameter(torch.zeros(k, n_out))
        self._any_normalised = bool(nodes.is_normalised.any())
        if self._any_normalised:
            flags = torch.from_numpy(nodes.is_normalised.astype(np.float32))
            self.register_buffer("is_normalised", flags[:, None], persistent=False)
            self.gain = torch.nn.Parameter(torch.ones(k, n_out))
            self.register_buffer("mean", torch.full((k, n_in), float("nan")))
            self.register_buffer("second_moment", torch.full((k, n_in, n_in), float("nan")))
        self.register_buffer("real", mask, persistent=False)
        self.register_buffer("kept", mask.clone())
        self._real_shape = [(int(o), int(i)) for o, i in zip(real_out, real_in, strict=True)]

        def column(values: np.ndarray) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.float32)

        self.register_buffer("bits", column(nodes.columns["weight_bits"]), persistent=False)
        self.register_buffer("integer_bits", torch.full((k,), float("nan")))
        self.register_buffer(
            "pruned_fraction", column(nodes.columns["pruned_fraction"]), persistent=False
        )
        self.register_buffer("size", mask.sum(dim=(1, 2)), persistent=False)
        self.register_buffer("bias_fraction_bits", torch.full((k,), float("nan")))
        self._covariance: torch.Tensor | None = None
        self._grids: tuple[torch.Tensor, ...] | None = None
        self._fraction_bits: torch.Tensor | None = None

    # ---- folding --------------------------------------------------------------------------------
    def _folded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return pruned real weights [k, out, in] and biases [k, out], batch norm absorbed."""
        if not self._any_normalised:
            return self.weight * self.kept, self.bias
        if self._covariance is None:
            outer = self.mean[:, :, None] * self.mean[:, None, :]
            self._covariance = self.second_moment - outer
        return _Fold.apply(  # type: ignore[no-any-return,no-untyped-call]
            self.weight,
            self.bias,
            self.gain,
            self.kept,
            self.mean,
            self._covariance,
            self.is_normalised,
        )

    @torch.no_grad()
    def _update_moments(self, values: torch.Tensor) -> None:
        mean = values.mean(dim=2)
        second = torch.bmm(values, values.transpose(1, 2)) / values.shape[2]
        self._covariance = None
        if torch.isnan(self.mean).any():
            self.mean, self.second_moment = mean, second
            return
        self.mean.lerp_(mean, 1 - _MOMENT_MEMORY)
        self.second_moment.lerp_(second, 1 - _MOMENT_MEMORY)

    # ---- pruning and ranges -----------------------------------------------------------------------
    @torch.no_grad()
    def _prune(self, progress: float) -> None:
        """Keep the largest folded weights; exactly round(progress * fraction * size) go."""
        self.kept.copy_(self.real)
        magnitude = self._folded()[0].abs()
        magnitude = torch.where(self.real > 0, magnitude, torch.inf).flatten(1)
        rank = magnitude.argsort(dim=1, stable=True).argsort(dim=1)
        n_pruned = torch.floor(self.pruned_fraction * progress * self.size + 0.5)
        kept = (rank >= n_pruned[:, None]).view_as(self.real)
        self.kept.copy_(self.real * kept)

    def _grid(self, integer_bits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        lsb = torch.exp2(integer_bits - self.bits)[:, None, None]
        limit = (torch.exp2(self.bits - 1) - 1)[:, None, None]
        return lsb, limit

    # ---- forward ------------------------------------------------------------------------------------
    def _rounded(self, weight: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if self._grids is None:
            bias_lsb = torch.exp2(-self.bias_fraction_bits)[:, None]
            bound = torch.full_like(bias_lsb, _MAX_BIAS_WORD)
            self._grids = (*self._grid(self.integer_bits), bias_lsb, bound)
        lsb, limit, bias_lsb, bound = self._grids
        return round_symmetric(weight, lsb, limit), round_symmetric(bias, bias_lsb, bound)

    def _choose_formats(self, weight: torch.Tensor, source: Signal, step: TrainStep) -> None:
        if step.selects_ranges:
            self.integer_bits = best_integer_bits(weight.detach(), self.bits)
        fraction_bits = source.fraction_bits + self.bits - self.integer_bits
        self.bias_fraction_bits = fraction_bits.clamp_max(float(_MAX_BIAS_FRACTION_BITS))
        self._fraction_bits = torch.maximum(fraction_bits, self.bias_fraction_bits)
        self._grids = None

    def forward(self, inputs: Sequence[Signal], step: TrainStep) -> Signal:
        (source,) = inputs
        if step.updates_moments and self._any_normalised:
            self._update_moments(source.values)
        if step.pruning is not None:
            self._prune(step.pruning)
        weight, bias = self._folded()
        if self._fraction_bits is None or step.changes_formats:
            self._choose_formats(weight, source, step)
        assert self._fraction_bits is not None, "chosen above"
        weight, bias = self._rounded(weight, bias)
        values = torch.baddbmm(bias[:, :, None], weight, source.values)
        return Signal(values, self._fraction_bits)

    @torch.no_grad()
    def export(self, index: int, name: str, draft: NetworkDraft) -> None:
        n_out, n_in = self._real_shape[index]
        weight, bias = self._rounded(*self._folded())
        fmt = FixedPoint(bits=int(self.bits[index]), integer_bits=int(self.integer_bits[index]))
        weight_words = torch.round(weight[index, :n_out, :n_in] / fmt.lsb)
        fraction_bits = int(self.bias_fraction_bits[index])
        bias_words = torch.round(bias[index, :n_out] * 2.0**fraction_bits).cpu().numpy()
        words = bias_words.astype(np.int64)
        bias_format = covering_format(min(int(words.min()), -1), int(words.max()), fraction_bits)
        draft.constants[name] = {
            "weight": Words.of(weight_words.cpu().numpy().T, fmt),
            "bias": Words.of(words, bias_format),
        }
