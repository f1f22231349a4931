"""Scalar product of two branches at every position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from codesign.errors import DesignError
from codesign.ir import Tensors
from codesign.layers import LAYERS
from codesign.layers._product import Blocks, RowProduct
from codesign.layers.base import FloatColumns, common


class Dot(RowProduct):
    """The sum of a_c b_c over the channels c of each position, exact: one channel is left."""

    name = "dot"
    is_between_positions = False

    def propagate(self, parameters: FloatColumns, inputs: Sequence[Tensors]) -> Tensors:
        joined = common(inputs, "n_rows", "n_columns", "n_channels")
        return replace(
            joined, n_channels=np.ones_like(joined.n_channels), bits=self.sum_bits(inputs)
        )

    def blocks(self, first: tuple[int, ...], second: tuple[int, ...]) -> Blocks:
        if first != second:
            raise DesignError(f"dot needs branches of equal shape, got {first} and {second}")
        return prod(first[:-1]), 1, 1, first[-1]

    def output_shape(self, first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...]:
        return (*first[:-1], 1)


LAYERS.add(Dot.name, Dot())
