"""Reuse factors of whole populations: which are legal, and the greatest legal one below a wish."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hw_models.legality import CHECKED_STRATEGIES, is_legal_reuse, legal_reuse_factors
from hw_models.types import MATVEC_STRATEGIES

Int = NDArray[np.int64]

_CHECKED = [MATVEC_STRATEGIES.index(name) for name in CHECKED_STRATEGIES]
_DISTRIBUTED = MATVEC_STRATEGIES.index("distributed_arithmetic")


def is_legal_reuse_factor(
    n_in: Int, n_out: Int, strategy: Int, reuse_factor: Int
) -> NDArray[np.bool_]:
    """Test, element by element, whether hls4ml keeps a reuse factor as requested.

    Args:
        n_in, n_out: int64[k], shape of the multiplied matrix.
        strategy: int64[k], codes into `MATVEC_STRATEGIES`.
        reuse_factor: int64[k].
    """
    checked = np.isin(strategy, _CHECKED)
    plain = (reuse_factor >= 1) & (reuse_factor <= n_in * n_out)
    plain &= (strategy != _DISTRIBUTED) | (reuse_factor == 1)
    return np.where(checked, is_legal_reuse(n_in, n_out, reuse_factor), plain)


def greatest_legal_reuse_factor(n_in: Int, n_out: Int, strategy: Int, wish: Int) -> Int:
    """Return the greatest legal reuse factor that is at most `wish` (1 is always legal)."""
    result: Int = np.minimum(np.maximum(wish, 1), n_in * n_out)
    result[strategy == _DISTRIBUTED] = 1
    rows = np.flatnonzero(np.isin(strategy, _CHECKED) & (result > 1))
    shapes, inverse = np.unique(n_in[rows] * 2**32 + n_out[rows], return_inverse=True)
    for index, shape in enumerate(shapes):  # a handful of shapes per population
        legal = legal_reuse_factors(
            int(shape >> 32), int(shape & (2**32 - 1)), CHECKED_STRATEGIES[0]
        )
        members = rows[inverse == index]
        result[members] = legal[np.searchsorted(legal, result[members], side="right") - 1]
    return result
