"""Prices of learned widths, worked out by hand."""

import operator

import pytest
import torch

from codesign.layers._train_merge import CombinationModule
from codesign.layers._training import Signal, TrainStep


def widths(*rows):
    return Signal(torch.tensor([rows]).mT.contiguous(), torch.tensor([2.0]))


@pytest.mark.parametrize(
    ("combine", "is_product", "price", "result"),
    [
        (operator.mul, True, 3 * 4 + 5 * 2, [7.0, 7.0, 0.0]),  # partial products of every lane
        (operator.add, False, 4 + 5 + 6, [5.0, 6.0, 7.0]),  # one carry bit on top of the wider
    ],
)
def test_a_merge_costs_partial_products_or_the_wider_word(combine, is_product, price, result):
    module = CombinationModule(combine, is_product=is_product)
    both = [widths([3.0, 5.0, 0.0]), widths([4.0, 2.0, 6.0])]
    found = module(both, TrainStep(measures_price=True))
    assert module.price.tolist() == [price]
    assert found.values.flatten().tolist() == result
    assert found.fraction_bits.tolist() == [4.0 if is_product else 2.0]
