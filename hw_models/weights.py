"""Constants as hardware sees them: canonical-signed-digit counts of real weights, and a prior without them.

A constant multiplication with one or two non-zero digits in canonical signed-digit (CSD) form is shifts
and at most one add; with three or more it is a multiplier, in a DSP block when the operands are wide
enough.  Equal constants of one input are computed once.
Source: Vivado HLS reports of 27 Dense layers with known weight laws (the shared synthesis records): DSPs
of 19 layers of 6 to 14 bits within 2.3 % on average; without the sharing 7 %, with constants that
differ by sign or power of two shared too 11 and 16 %.
"""

from dataclasses import asdict, dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Array = NDArray[np.float64]

#: A multiplication goes to a DSP when (signed width of the constant) + (input width) reaches this.
DSP_WIDTH_SUM_BITS = 22.0
#: Ratio of a weight format's largest value to the standard deviation of trained weights scaled to fill it.
FULL_SCALE_SIGMAS = 3.5


def csd_digits(words: NDArray[np.integer]) -> NDArray[np.int64]:
    """Count the non-zero digits of each integer in canonical signed-digit form.

    The count equals the number of ones in x xor 3x (Reitwiesner 1960).
    """
    magnitude = np.abs(np.asarray(words, dtype=np.int64)).astype(np.uint64)
    return np.bitwise_count(magnitude ^ (np.uint64(3) * magnitude)).astype(np.int64)


def word_bits(words: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the signed width in bits of each integer's magnitude; 0 for zero."""
    magnitude = np.abs(np.asarray(words, dtype=np.int64))
    return np.where(magnitude > 0, np.frexp(magnitude.astype(np.float64))[1] + 1, 0).astype(
        np.int64
    )


def effective_bits(weight_words: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the bits between the first and the last one of each |integer|; 0 for zero."""
    magnitude = np.abs(np.asarray(weight_words, dtype=np.int64))
    odd = np.where(magnitude > 0, magnitude // np.maximum(magnitude & -magnitude, 1), 0)
    return np.where(odd > 0, np.frexp(odd.astype(np.float64))[1], 0).astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class WeightCounts:
    """Exact counts of one weight matrix.

    Equal weights of one input are one product, which the tools compute once.

    Attributes:
        n_nonzero: non-zero weights.
        n_multipliers: products with three or more digits whose widths put them in a DSP.
        n_lut_multipliers: products with three or more digits, too narrow for a DSP.
        csd_digits: digits of all weights.
        constant_adders: sum of (digits - 1) over the products that are not in a DSP.
        effective_bits: bits of all weights between their first and their last one (EBOPs).
    """

    n_nonzero: int
    n_multipliers: int
    n_lut_multipliers: int
    csd_digits: int
    constant_adders: int
    effective_bits: int


def count_weights(weight_words: NDArray[np.integer], input_bits: int) -> WeightCounts:
    """Count what a weight matrix costs, digit by digit.

    Args:
        weight_words: raw integer weights, int[n_in, n_out] (leading axes are joined into n_in).
        input_bits: width of the data they multiply.
    """
    rows = np.atleast_2d(np.asarray(weight_words, dtype=np.int64))
    rows = np.sort(rows.reshape(-1, rows.shape[-1]), axis=1)
    is_first = np.ones(rows.shape, dtype=bool)
    is_first[:, 1:] = rows[:, 1:] != rows[:, :-1]
    products = rows[is_first & (rows != 0)]
    digits = csd_digits(products)
    multiplied = digits >= 3
    in_dsp = multiplied & (word_bits(products) + input_bits >= DSP_WIDTH_SUM_BITS)
    return WeightCounts(
        n_nonzero=int((rows != 0).sum()),
        n_multipliers=int(in_dsp.sum()),
        n_lut_multipliers=int((multiplied & ~in_dsp).sum()),
        csd_digits=int(csd_digits(rows).sum()),
        constant_adders=int((digits - 1)[~in_dsp].sum()),
        effective_bits=int(effective_bits(rows).sum()),
    )


def weight_facts(weight_words: NDArray[np.integer], input_bits: int) -> dict[str, int]:
    """Return what known weights tell of a product, by the names of `lowering.WEIGHT_FACTS`; as `count_weights`."""
    facts = asdict(count_weights(weight_words, input_bits))
    del facts["n_nonzero"]
    return facts


def layer_counts(weight_words: NDArray[np.integer], input_bits: int) -> dict[str, int]:
    """Return what a record's layer says of its weights, by its field names; arguments of `count_weights`."""
    return {
        "n_weights": int(weight_words.size),
        "n_zeros": int((weight_words == 0).sum()),
        **weight_facts(weight_words, input_bits),
    }


# ---- the prior: integer weights drawn from a law, the smallest pruned ----------------------
_STEPS_PER_OCTAVE = 4
_MIN_LOG2, _MAX_LOG2 = -2.0, 13.0
_PRUNED = np.array([0.0, 0.25, 0.5, 0.625, 0.75, 0.875, 0.95])
_N_WIDTHS = 24
#: Non-zero weights of one input, for which shared products are tabulated.
_FAN_OUT = 2.0 ** np.arange(0, 10)


@dataclass(frozen=True, kw_only=True)
class _Prior:
    """Tables over (log2 sigma, pruned share, fan-out, width needed); shares are of non-zero weights."""

    multiplied: (
        Array  # [2 laws, n_sigma, n_pruned, n_fan, n_widths] products, >= 3 digits, width >= index
    )
    adders: Array  # [2 laws, n_sigma, n_pruned, n_fan, n_widths] digits - 1 of products not counted above
    digits: Array  # [2 laws, n_sigma, n_pruned]
    zeros: Array  # [n_sigma] natural share of zeros


def _from_width(values: Array, width: NDArray[np.int64]) -> Array:
    """Sum values[n_fan, k] over k with width >= index: float[n_fan, n_widths]."""
    at = np.minimum(width, _N_WIDTHS - 1)
    sums = np.stack([np.bincount(at, row, minlength=_N_WIDTHS) for row in values])
    return np.asarray(sums[:, ::-1].cumsum(axis=1)[:, ::-1])


@cache
def _prior() -> _Prior:
    n_sigma = int((_MAX_LOG2 - _MIN_LOG2) * _STEPS_PER_OCTAVE) + 1
    sigmas = 2.0 ** np.linspace(_MIN_LOG2, _MAX_LOG2, n_sigma)
    multiplied = np.zeros((2, n_sigma, _PRUNED.size, _FAN_OUT.size, _N_WIDTHS))
    adders = np.zeros_like(multiplied)
    digits_table = np.zeros((2, n_sigma, _PRUNED.size))
    zeros = np.zeros(n_sigma)
    for i, sigma in enumerate(sigmas):
        words = np.arange(0, int(4 * sigma) + 2)
        # |round(w)| = k: both signs of (k - 1/2, k + 1/2]
        share = 2 * (ndtr((words + 0.5) / sigma) - ndtr((words - 0.5) / sigma))
        share[0] /= 2
        zeros[i] = share[0]
        limit = np.sqrt(3.0) * sigma
        flat = np.clip((limit - (words - 0.5)), 0.0, 1.0)
        flat[0] = 0.5
        digits, width = csd_digits(words[1:]), word_bits(words[1:])
        for law, law_share in enumerate((share, flat)):
            # the pruned are the smallest, up to this share of all
            below = np.cumsum(law_share) / law_share.sum()
            for j, pruned in enumerate(_PRUNED):
                kept = np.where(below > pruned, law_share, 0.0)[1:]
                if kept.sum() <= 0:
                    kept[0] = 1.0
                kept /= kept.sum()
                # m weights of one input hold 1 - (1 - p)^m of a word of share p, at most m p; both
                # signs are words of their own
                half = np.minimum(kept / 2, 1 - 1e-12)
                distinct = -2 * np.expm1(_FAN_OUT[:, None] * np.log1p(-half)) / _FAN_OUT[:, None]
                wide = _from_width(np.where(digits >= 3, distinct, 0.0), width)
                extra = distinct * (digits - 1)
                wide_extra = _from_width(np.where(digits >= 3, extra, 0.0), width)
                multiplied[law, i, j] = wide
                adders[law, i, j] = extra.sum(axis=1, keepdims=True) - wide_extra
                digits_table[law, i, j] = kept @ digits
    return _Prior(multiplied=multiplied, adders=adders, digits=digits_table, zeros=zeros)


@dataclass(frozen=True, kw_only=True)
class WeightShares:
    """Expected products per non-zero weight, float[m] each; fields as in `WeightCounts`."""

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
    sigma_words: Array,
    pruned_fraction: Array,
    fan_out: Array,
    input_bits: Array,
    is_uniform: NDArray[np.bool_],
) -> WeightShares:
    """Look up the expected shares of constants under a law with the smallest weights pruned.

    Args:
        sigma_words: standard deviation of the weights in units of their least significant bit.
        pruned_fraction: share of weights at zero.
        fan_out: non-zero weights of one input, at least 0: equal products of one input are shared.
        input_bits: width of the data they multiply.
        is_uniform: a uniform law (as layers are initialised) rather than a normal one.
    """
    table = _prior()
    law = is_uniform.astype(np.intp)
    row = _sigma_row(sigma_words)
    column = np.searchsorted(_PRUNED[1:] - np.diff(_PRUNED) / 2, pruned_fraction)
    fan = np.rint(np.log2(np.clip(fan_out, 1.0, _FAN_OUT[-1]))).astype(np.intp)
    width = np.clip(DSP_WIDTH_SUM_BITS - input_bits, 0, _N_WIDTHS - 1).astype(np.intp)
    return WeightShares(
        multiplied=table.multiplied[law, row, column, fan, width],
        multiplied_any=table.multiplied[law, row, column, fan, 0],
        adders=table.adders[law, row, column, fan, width],
        digits=table.digits[law, row, column],
    )
