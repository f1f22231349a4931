"""Reuse factors of whole populations: which are legal, and the greatest legal one below a wish."""

from __future__ import annotations

from functools import cache

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


class FirstAlike:
    """Says of wishes for a reuse factor which is the first that the legal ones of a matrix answer alike.

    What is known of a shape is kept: spaces have hundreds of shapes, searches ask a million times.

    Args:
        wishes: the domain of the gene.
        is_positional: the matrix is used at every position; no reuse factor is then above n_in.
    """

    def __init__(self, wishes: tuple[int, ...], is_positional: bool) -> None:
        self._wishes, self._is_positional = np.array(wishes, dtype=np.int64), is_positional
        self._shapes: Int = np.zeros(1, dtype=np.int64)  # 0 x 0, which no layer has
        self._first: Int = np.zeros((1, len(wishes)), dtype=np.int64)

    def __call__(self, n_in: Int, n_out: Int, gene: Int) -> Int:
        """Return int64[k], the first gene whose wish is answered like that of `gene`.

        Args:
            n_in, n_out: int64[k], shape of the matrix.
            gene: int64[k], indices into the wishes.
        """
        shapes = n_in * 2**32 + n_out
        place = np.searchsorted(self._shapes, shapes)
        if not (self._shapes[np.minimum(place, self._shapes.size - 1)] == shapes).all():
            self._learn(np.setdiff1d(shapes, self._shapes))
            place = np.searchsorted(self._shapes, shapes)
        return np.asarray(self._first[place, gene])

    def _learn(self, shapes: Int) -> None:
        n_in, n_out = (
            np.repeat(n, self._wishes.size) for n in (shapes >> 32, shapes & (2**32 - 1))
        )
        asked = np.tile(self._wishes, shapes.size)
        # all strategies that share multipliers have the same legal factors
        answers = greatest_legal_reuse_factor(
            n_in,
            n_out,
            np.full(asked.size, _CHECKED[0]),
            np.minimum(asked, n_in) if self._is_positional else asked,
        ).reshape(shapes.size, -1)
        first = (answers[:, :, None] == answers[:, None, :]).argmax(axis=2)
        known = np.concatenate([self._shapes, shapes])
        order = np.argsort(known)
        self._shapes, self._first = known[order], np.concatenate([self._first, first])[order]


@cache
def first_alike(wishes: tuple[int, ...], is_positional: bool) -> FirstAlike:
    """Return the one `FirstAlike` of this process for a domain of wishes."""
    return FirstAlike(wishes, is_positional)
