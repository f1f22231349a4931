"""Prices of learned widths, worked out by hand."""

import operator

import numpy as np
import pytest
import torch

from codesign.ir import Network, Node
from codesign.layers._train_learned import LearnedInput
from codesign.layers._train_merge import CombinationModule
from codesign.layers._training import Signal, TrainNodes, TrainStep
from codesign.layers.input import input_shape


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


def input_nodes(n_positions=1, width=2):
    numbers = {"n_rows": 0.0, "n_columns": 0.0, "n_out": float(width)}
    return TrainNodes(
        layers=("input",),
        columns={
            "shared_turns": np.array([1]),
            **{name: np.array([number]) for name, number in numbers.items()},
        },
        input_widths=(np.array([width]),),
        padded_inputs=(width,),
        padded_output=width,
        input_positions=(n_positions,),
        input_axes=(np.zeros((1, 2), dtype=np.int64),),
        n_positions=n_positions,
        is_normalised=np.array([False]),
        is_output=False,
        seeds=(0,),
        granularity="element",
    )


def test_a_learned_input_starts_with_three_fraction_bits_and_the_range_of_its_values():
    """Values up to 3.5 and 0.9 take 2 and 0 integer bits; with a sign and 3 fraction bits 6 and 4."""
    module = LearnedInput(input_nodes())
    data = torch.tensor([[[0.5, -3.5, 3.3125, -3.4], [0.1, 0.9, -0.9, 0.3125]]])
    rounded = module([Signal(data, torch.zeros(1))], TrainStep(selects_ranges=True)).values[0]
    assert module.integer_bits.flatten().tolist() == [2.0, 0.0]
    assert rounded[0].tolist() == [0.5, -3.5, 3.375, -3.375]  # half up on steps of 1/8
    assert rounded[1].tolist() == [0.125, 0.875, -0.875, 0.375]
    widths = module([Signal(data, torch.zeros(1))], TrainStep(measures_price=True)).values
    assert widths.flatten().tolist() == [6.0, 4.0]


def test_an_outlier_in_a_thousand_saturates_and_one_in_a_hundred_does_not():
    few, many = torch.full((1000,), 0.9), torch.full((1000,), 0.9)
    few[:1], many[:10] = 50.0, 50.0
    module = LearnedInput(input_nodes())
    module([Signal(torch.stack([few, many])[None], torch.zeros(1))], TrainStep(selects_ranges=True))
    assert module.integer_bits.flatten().tolist() == [0.0, 6.0]  # 50 < 2**6


def test_an_input_of_a_vector_has_no_rows_and_no_columns():
    node = Node(name="x", layer="input", inputs=(), parameters={"width": 4, "result_bits": 6})
    assert input_shape(Network(nodes=(node,))) == (4,)
