"""Product of two computed matrices, rows by rows: what attention is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from codesign.errors import DesignError
from codesign.ir import Tensors
from codesign.layers import LAYERS
from codesign.layers._product import Blocks, RowProduct
from codesign.layers.base import FloatColumns, common


class MatMul(RowProduct):
    """(p, c) and (q, c) to (p, q): y = a b^T, exact; `transpose` its inputs for the other products."""

    name = "matmul"
    ranks = (2,)
    is_between_positions = True

    def propagate(self, parameters: FloatColumns, inputs: Sequence[Tensors]) -> Tensors:
        joined = common(inputs, "n_rows", "n_channels")
        first, second = inputs
        return replace(
            joined,
            n_columns=first.n_columns,
            n_channels=second.n_columns,
            bits=self.sum_bits(inputs),
        )

    def blocks(self, first: tuple[int, ...], second: tuple[int, ...]) -> Blocks:
        if len(first) != 2 or len(second) != 2 or first[1] != second[1]:
            raise DesignError(
                f"matmul needs (p, channels) and (q, channels), got {first} and {second}; transpose one of them"
            )
        return 1, first[0], second[0], first[1]

    def output_shape(self, first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...]:
        return first[0], second[0]


LAYERS.add(MatMul.name, MatMul())
