"""Products of computed tensors, and the index of the largest: answers that one can check by hand."""

import numpy as np
import pytest
import torch

from codesign.errors import DesignError
from codesign.export.rtl import run_trace, trace_network
from codesign.ir import Tensors
from codesign.layers import LAYERS, run_words, typed
from codesign.layers._training import Signal, TrainNodes, TrainStep
from codesign.testing.layers import network_of, vectors
from hw_models.primitives.base import rtl_dsp_share


def test_a_matrix_product_is_rows_by_rows():
    network = network_of(LAYERS.get("matmul"), {}, rank=2)
    words = run_words(network, vectors(network), trace=True)
    first, second = (words[name].reshape(-1, 3, 5) for name in ("dense_2", "relu_1"))
    expected = np.einsum("npc,nqc->npq", first, second)
    assert np.array_equal(words["probe"].reshape(-1, 3, 3), expected)
    assert typed(network)["probe"].output.shape == (3, 3)


def test_a_scalar_product_is_one_of_every_position():
    network = network_of(LAYERS.get("dot"), {}, rank=3)
    words = run_words(network, vectors(network), trace=True)
    assert np.array_equal(
        words["probe"], (words["dense_2"] * words["relu_1"]).reshape(-1, 4, 5).sum(axis=2)
    )


def test_of_equal_values_the_lowest_index_wins_in_integers_and_in_logic():
    network = network_of(LAYERS.get("argmax"), {}, rank=1)
    words = vectors(network)
    traced = run_words(network, words, trace=True)
    values = traced["dense_2"]
    expected = [next(i for i in range(5) if row[i] == row.max()) for row in values]
    assert traced["probe"].ravel().tolist() == expected
    ties = (np.sort(values, axis=1)[:, -1] == np.sort(values, axis=1)[:, -2]).sum()
    assert ties >= 1  # all biases, and all products, are equal somewhere
    assert np.array_equal(
        run_trace(trace_network(network), network, words), run_words(network, words)
    )


def test_branches_that_do_not_fit_are_refused():
    k = np.ones(1)
    rows = [
        Tensors(n_rows=0 * k, n_columns=3 * k, n_channels=c * k, bits=4 * k, is_signed=k)
        for c in (5, 4)
    ]
    for name in ("matmul", "dot"):
        with pytest.raises(DesignError, match="do not fit together"):
            LAYERS.get(name).propagate({}, rows)
    with pytest.raises(DesignError, match="transpose one of them"):
        LAYERS.get("matmul").blocks((3, 5), (5, 3))


def test_lanes_of_padding_add_nothing_to_a_product():
    """Of two products of 2 and of 3 channels side by side, each counts its own."""
    axes = (np.tile([0, 2], (2, 1)), np.tile([0, 4], (2, 1)))
    nodes = TrainNodes(
        layers=("matmul",) * 2, columns={}, input_widths=(np.array([2, 3]),) * 2, padded_inputs=(3, 4),
        padded_output=4, input_positions=(2, 4), input_axes=axes, n_positions=2,
        is_normalised=np.zeros(2, dtype=bool), is_output=False, seeds=(0, 1),
    )  # fmt: skip
    first, second = torch.randn(2, 3, 2 * 7), torch.randn(2, 4, 4 * 7)
    module = LAYERS.get("matmul").train_module(nodes)
    bits = torch.tensor([1.0, 2.0])
    found = module([Signal(first, bits), Signal(second, bits)], TrainStep())
    assert found.fraction_bits.tolist() == [2.0, 4.0]
    a, b = first.view(2, 3, 2, 7), second.view(2, 4, 4, 7)
    for i, c in enumerate((2, 3)):
        expected = (a[i, :c, None] * b[i, :c, :, None].transpose(0, 0)).sum(0)
        assert torch.allclose(found.values[i].view(4, 2, 7), expected, atol=1e-5)


def test_products_of_nine_bits_take_a_dsp_in_plain_rtl():
    assert rtl_dsp_share(np.array([4.0, 8.0, 9.0, 24.0])).tolist() == [0.0, 0.0, 1.0, 1.0]
