"""Constants as hardware sees them: canonical-signed-digit counts of real weights, and a prior without them.

A constant multiplication is built from the odd part of the integer weight.  With one or two non-zero
digits in canonical signed-digit (CSD) form it is shifts and at most one add; with three or more it is
a multiplier, in a DSP block when the operands are wide enough.
Source: Vivado HLS reports of 27 Dense layers with known weight laws (the shared synthesis records).
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

Array = NDArray[np.float64]

#: A multiplication goes to a DSP when (signed width of the odd part) + (input width) reaches this.
DSP_WIDTH_SUM_BITS = 22.0
#: Ratio of a weight format's largest value to the standard deviation of trained weights scaled to fill it.
FULL_SCALE_SIGMAS = 3.5


def csd_digits(words: NDArray[np.integer]) -> NDArray[np.int64]:
    """Count the non-zero digits of each integer in canonical signed-digit form.

    The count equals the number of ones in x xor 3x (Reitwiesner 1960).
    """
    magnitude = np.abs(np.asarray(words, dtype=np.int64)).astype(np.uint64)
    return np.bitwise_count(magnitude ^ (np.uint64(3) * magnitude)).astype(np.int64)


def odd_part_bits(words: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the signed width in bits of each integer without its trailing zeros; 0 for zero."""
    magnitude = np.abs(np.asarray(words, dtype=np.int64))
    odd = np.where(magnitude > 0, magnitude // np.maximum(magnitude & -magnitude, 1), 0)
    return np.where(odd > 0, np.frexp(odd.astype(np.float64))[1] + 1, 0).astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class WeightCounts:
    """Exact counts of one weight matrix.

    Attributes:
        n_nonzero: non-zero weights.
        n_multipliers: weights with three or more digits whose widths put them in a DSP.
        n_lut_multipliers: weights with three or more digits, too narrow for a DSP.
        csd_digits: digits of all weights.
        constant_adders: sum of (digits - 1) over the weights that are not in a DSP.
    """

    n_nonzero: int
    n_multipliers: int
    n_lut_multipliers: int
    csd_digits: int
    constant_adders: int


def count_weights(weight_words: NDArray[np.integer], input_bits: int) -> WeightCounts:
    """Count what a weight matrix costs, digit by digit.

    Args:
        weight_words: raw integer weights, any shape.
        input_bits: width of the data they multiply.
    """
    digits = csd_digits(weight_words)
    multiplied = digits >= 3
    in_dsp = multiplied & (odd_part_bits(weight_words) + input_bits >= DSP_WIDTH_SUM_BITS)
    return WeightCounts(
        n_nonzero=int((digits > 0).sum()),
        n_multipliers=int(in_dsp.sum()),
        n_lut_multipliers=int((multiplied & ~in_dsp).sum()),
        csd_digits=int(digits.sum()),
        constant_adders=int((digits - 1)[(digits > 0) & ~in_dsp].sum()),
    )


# ---- the prior: integer weights drawn from a law, the smallest pruned ----------------------
_STEPS_PER_OCTAVE = 4
_MIN_LOG2, _MAX_LOG2 = -2.0, 13.0
_PRUNED = np.array([0.0, 0.25, 0.5, 0.625, 0.75, 0.875, 0.95])
_N_WIDTHS = 24


@dataclass(frozen=True, kw_only=True)
class _Prior:
    """Tables over (log2 sigma, pruned share, odd width needed); shares are of non-zero weights."""

    multiplied: (
        Array  # [2 laws, n_sigma, n_pruned, n_widths] share with >= 3 digits and odd width >= index
    )
    adders: (
        Array  # [2 laws, n_sigma, n_pruned, n_widths] mean digits - 1 of weights not counted above
    )
    digits: Array  # [2 laws, n_sigma, n_pruned]
    zeros: Array  # [n_sigma] natural share of zeros


@cache
def _prior() -> _Prior:
    n_sigma = int((_MAX_LOG2 - _MIN_LOG2) * _STEPS_PER_OCTAVE) + 1
    sigmas = 2.0 ** np.linspace(_MIN_LOG2, _MAX_LOG2, n_sigma)
    multiplied = np.zeros((2, n_sigma, _PRUNED.size, _N_WIDTHS))
    adders = np.zeros_like(multiplied)
    digits_table = np.zeros((2, n_sigma, _PRUNED.size))
    zeros = np.zeros(n_sigma)
    widths = np.arange(_N_WIDTHS)
    for i, sigma in enumerate(sigmas):
        words = np.arange(0, int(4 * sigma) + 2)
        # |round(w)| = k: both signs of (k - 1/2, k + 1/2]
        share = 2 * (norm.cdf((words + 0.5) / sigma) - norm.cdf((words - 0.5) / sigma))
        share[0] /= 2
        zeros[i] = share[0]
        limit = np.sqrt(3.0) * sigma
        flat = np.clip((limit - (words - 0.5)), 0.0, 1.0)
        flat[0] = 0.5
        digits, width = csd_digits(words), odd_part_bits(words)
        for law, law_share in enumerate((share, flat)):
            # the pruned are the smallest, up to this share of all
            below = np.cumsum(law_share) / law_share.sum()
            for j, pruned in enumerate(_PRUNED):
                kept = np.where(below > pruned, law_share, 0.0)
                kept[0] = 0.0
                if kept.sum() <= 0:
                    kept[min(1, words.size - 1)] = 1.0
                kept /= kept.sum()
                wide = (digits >= 3)[:, None] & (width[:, None] >= widths[None, :])
                multiplied[law, i, j] = kept @ wide
                adders[law, i, j] = (kept * np.maximum(digits - 1, 0)) @ ~wide
                digits_table[law, i, j] = kept @ digits
    return _Prior(multiplied=multiplied, adders=adders, digits=digits_table, zeros=zeros)


@dataclass(frozen=True, kw_only=True)
class WeightShares:
    """Expected constants per non-zero weight, float[m] each; fields as in `WeightCounts`."""

    multiplied: Array
    multiplied_any: Array
    adders: Array
    digits: Array


def _sigma_row(sigma_words: Array) -> NDArray[np.intp]:
    row = (np.log2(np.maximum(sigma_words, 1e-3)) - _MIN_LOG2) * _STEPS_PER_OCTAVE + 0.5
    return np.clip(row, 0, (_MAX_LOG2 - _MIN_LOG2) * _STEPS_PER_OCTAVE).astype(np.intp)


def natural_zero_fraction(sigma_words: Array) -> Array:
    """Return the share of weights that round to zero when drawn from a normal law of this sigma."""
    return _prior().zeros[_sigma_row(sigma_words)]


def prior_shares(
    sigma_words: Array, pruned_fraction: Array, input_bits: Array, is_uniform: NDArray[np.bool_]
) -> WeightShares:
    """Look up the expected shares of constants under a law with the smallest weights pruned.

    Args:
        sigma_words: standard deviation of the weights in units of their least significant bit.
        pruned_fraction: share of weights at zero.
        input_bits: width of the data they multiply.
        is_uniform: a uniform law (as layers are initialised) rather than a normal one.
    """
    table = _prior()
    law = is_uniform.astype(np.intp)
    row = _sigma_row(sigma_words)
    column = np.searchsorted(_PRUNED[1:] - np.diff(_PRUNED) / 2, pruned_fraction)
    width = np.clip(DSP_WIDTH_SUM_BITS - input_bits, 0, _N_WIDTHS - 1).astype(np.intp)
    return WeightShares(
        multiplied=table.multiplied[law, row, column, width],
        multiplied_any=table.multiplied[law, row, column, 0],
        adders=table.adders[law, row, column, width],
        digits=table.digits[law, row, column],
    )
