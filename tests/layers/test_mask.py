"""Masks: what is absent is zero, whatever biases say."""

import numpy as np
import pytest
import torch

from codesign.errors import DesignError
from codesign.ir import Tensors
from codesign.layers import LAYERS, run_words
from codesign.layers._training import NetworkDraft, Signal, TrainNodes, TrainStep
from codesign.testing.layers import network_of, vectors

LAYER = LAYERS.get("mask")


def test_positions_above_the_constant_stay_and_the_others_are_zero():
    network = network_of(LAYER, {"channel": 2}, rank=2)
    traced = run_words(network, vectors(network), trace=True)
    values, told, found = (
        traced[name].reshape(-1, 3, 5) for name in ("dense_2", "relu_1", "probe")
    )
    present = told[:, :, 2] > int(network.constants["probe"]["absent"].values)
    assert 0 < present.mean() < 1
    assert np.array_equal(found[present], values[present])
    assert (found[~present] == 0).all() and (values[~present] != 0).any()


def test_training_reads_off_which_word_absent_particles_have():
    nodes = TrainNodes(
        layers=("mask",) * 2, columns={"channel": np.array([0.0, 1.0])}, input_widths=(np.array([2, 3]),) * 2,
        padded_inputs=(3, 3), padded_output=3, input_positions=(4, 4),
        input_axes=(np.tile([0, 4], (2, 1)),) * 2, n_positions=4,
        is_normalised=np.zeros(2, dtype=bool), is_output=False, seeds=(0, 1),
    )  # fmt: skip
    told = torch.randint(-2, 9, (2, 3, 20), generator=torch.Generator().manual_seed(1)) * 0.25
    values = torch.ones(2, 3, 20)
    module = LAYER.train_module(nodes)
    grids = torch.tensor([2.0, 4.0])
    found = module(
        [Signal(values, torch.zeros(2)), Signal(told, grids)], TrainStep(selects_ranges=True)
    )
    for i, (channel, fraction_bits) in enumerate([(0, 2), (1, 4)]):
        expected = (told[i, channel] > told[i, channel].min()).float()
        assert torch.equal(found.values[i], expected.expand(3, -1)) and expected.sum() < 20
        draft = NetworkDraft()
        module.export(i, "node", draft)
        absent = draft.constants["node"]["absent"]
        assert float(absent.real) == float(told[i, channel].min())
        assert absent.type.fraction_bits == fraction_bits


def test_a_channel_that_is_not_there_is_refused():
    one = np.ones(1)
    known = Tensors(
        n_rows=0 * one, n_columns=3 * one, n_channels=4 * one, bits=6 * one, is_signed=one
    )
    with pytest.raises(DesignError, match="name a channel that there is"):
        LAYER.propagate({"channel": 4 * one}, [known, known])
