"""Mean over positions, up to a power of two: the sum with its binary point moved, which costs nothing.

For n positions the sum is divided by the least power of two from n on.  Where n is none, the result is
the mean times a constant between 1/2 and 1, which the weights of the next layer absorb; a true division
would cost a multiplier per channel and round.
"""

from __future__ import annotations

from codesign.layers import LAYERS
from codesign.layers._pool import Total


class MeanPool(Total):
    """The sum of each channel over the n positions of a window or of all, divided by 2**ceil(log2 n), exact."""

    name = "mean_pool"

    def shift(self, n_terms: int) -> int:
        return (n_terms - 1).bit_length()


LAYERS.add(MeanPool.name, MeanPool())
