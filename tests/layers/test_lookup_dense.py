"""Layers of learned tables: what they compute, what training does to them, what they cost."""

import numpy as np
import pytest
import torch

from codesign.errors import DesignError, ExportError
from codesign.export.hls4ml import export_hls4ml
from codesign.export.rtl import run_trace, trace_network
from codesign.ir import Tensors
from codesign.layers import LAYERS, run_words, typed
from codesign.layers._train_lookup import LookupModule, knot_weights
from codesign.layers._training import NetworkDraft, Signal, TrainNodes, TrainStep
from codesign.testing.layers import network_of, vectors

LAYER = LAYERS.get("lookup_dense")


def module(*, pruned=0.0, bits=4, signed=1.0, weight_bits=8) -> LookupModule:
    """Two layers of tables side by side: 3 words in, 2 sums out; 2 in, 3 out with one bit less."""
    columns = {
        "input_bits": np.array([bits, bits - 1.0]), "input_signed": np.full(2, signed),
        "n_out": np.array([2.0, 3.0]), "weight_bits": np.full(2, float(weight_bits)),
        "pruned_fraction": np.full(2, pruned),
    }  # fmt: skip
    nodes = TrainNodes(
        layers=("lookup_dense",) * 2, columns=columns, input_widths=(np.array([3, 2]),), padded_inputs=(4,),
        padded_output=3, input_positions=(1,), input_axes=(np.zeros((2, 2), dtype=np.int64),), n_positions=1,
        is_normalised=np.zeros(2, dtype=bool), is_output=False, seeds=(3, 4),
    )  # fmt: skip
    made = LAYER.train_module(nodes)
    assert isinstance(made, LookupModule)
    return made


def test_the_sums_are_those_of_the_entries_one_by_one():
    network = network_of(LAYER, LAYER.examples()[1], rank=2)
    traced = run_words(network, vectors(network), trace=True)
    table = network.constants["probe"]["table"].values
    least = typed(network)["probe"].source.format.min_word
    for row, found in zip(traced["rounded"][:40], traced["probe"][:40], strict=True):
        for position in range(3):
            words = row.reshape(3, -1)[position]
            expected = sum(table[i, word - least] for i, word in enumerate(words))
            assert np.array_equal(found.reshape(3, -1)[position], expected)


def test_words_wider_than_tables_look_at_are_refused():
    one = np.ones(1)
    wide = Tensors(
        n_rows=0 * one, n_columns=0 * one, n_channels=4 * one, bits=9 * one, is_signed=one
    )
    parameters = {"n_out": 2 * one, "weight_bits": 4 * one, "pruned_fraction": 0 * one}
    with pytest.raises(DesignError, match="up to 8 bits, got 9; round before"):
        LAYER.propagate(parameters, [wide])


def test_tables_too_many_for_a_compiler_are_refused_as_a_project_but_not_in_rtl():
    network = network_of(LAYER, LAYER.examples()[0] | {"units": 24}, rank=2)
    source, n_out = typed(network)["probe"].source, 24
    n_positions, n_in = source.shape
    n_weights = (n_positions * n_in) * (n_positions * n_in * n_out)  # to each table its own word
    n_weights += (n_positions * n_in * n_out) * (n_positions * n_out)  # and the sums
    assert n_weights > 4096
    with pytest.raises(ExportError, match=f"{n_weights:,} weights.*export plain RTL"):
        export_hls4ml(network)
    words = vectors(network)[:50]
    assert np.array_equal(
        run_trace(trace_network(network), network, words), run_words(network, words)
    )


def test_entries_between_knots_lie_on_the_lines_between_them():
    weights = knot_weights(17, 9)
    assert torch.allclose(weights.sum(dim=1), torch.ones(17))
    assert torch.allclose(weights @ torch.arange(9.0), torch.arange(17) / 2)
    assert torch.equal(knot_weights(4, 4), torch.eye(4))


@pytest.mark.parametrize("signed", [0.0, 1.0])
def test_training_looks_up_the_very_words_that_it_exports(signed):
    layers = module(signed=signed)
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(0, 8, (2, 4, 50), generator=generator) - (4 if signed else 0)
    signal = Signal(words * 0.25, torch.full((2,), 2.0))
    found = layers([signal], TrainStep(selects_ranges=True))
    for i, (n_in, n_out, entries) in enumerate([(3, 2, 16), (2, 3, 8)]):
        draft = NetworkDraft()
        layers.export(i, "node", draft)
        table = draft.constants["node"]["table"]
        assert table.values.shape == (n_in, entries, n_out)
        assert table.type.fraction_bits == int(found.fraction_bits[i])
        entry = words[i, :n_in].numpy() + (entries // 2 if signed else 0)
        expected = table.real[np.arange(n_in)[:, None], entry].sum(axis=0).T
        assert np.allclose(found.values[i, :n_out].detach().numpy(), expected, atol=1e-6)


def test_a_table_learns_a_function_that_no_weight_has_and_passes_its_slope_on():
    layers = module()
    words = (torch.arange(16) - 8).repeat(2, 4, 1) * 0.25
    target = (words[0, 0] ** 2)[None]
    optimiser = torch.optim.Adam(layers.parameters(), lr=0.05)
    for step in range(300):
        found = layers(
            [Signal(words, torch.full((2,), 2.0))], TrainStep(selects_ranges=step % 20 == 0)
        )
        loss = (found.values[0, :1] - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.02  # the square of a line is off by 1.2
    values = words.clone().requires_grad_()
    layers([Signal(values, torch.full((2,), 2.0))], TrainStep()).values[0, 0].sum().backward()
    slope = values.grad[0, :3].sum(dim=0)  # all three inputs are the same word
    assert torch.allclose(slope[2:-2], 2 * words[0, 0, 2:-2], atol=0.8)


def test_the_flattest_tables_are_pruned_to_zero():
    layers = module(pruned=0.5)
    with torch.no_grad():
        layers.knots[0, 0] *= 1e-3
    layers(
        [Signal(torch.zeros(2, 4, 5), torch.full((2,), 2.0))],
        TrainStep(selects_ranges=True, pruning=1.0),
    )
    assert layers.kept[0].sum() == 3 and layers.kept[1].sum() == 3
    assert (layers.kept[0, 0] == 0).all()
    draft = NetworkDraft()
    layers.export(0, "node", draft)
    assert (draft.constants["node"]["table"].values[0] == 0).all()


def test_a_table_costs_a_lut_per_bit_and_64_entries_and_the_adders_behind_it():
    one = np.ones(1)
    columns = {
        "n_in": 6 * one, "n_out": 4 * one, "n_copies": one, "n_turns": one, "input_bits": 6 * one,
        "weight_bits": 5 * one, "output_bits": 8 * one, "pruned_fraction": 0.5 * one,
    }  # fmt: skip
    table, total = (part.operation() for part in LAYER.describe(columns))
    assert (table.primitive, total.primitive) == ("table", "reduce")
    assert table.parameters["n_lanes"] == 12 and table.parameters["table_size"] == 64
    assert total.parameters["n_window"] == 3 and total.parameters["n_lanes"] == 4


def test_logic_has_one_look_up_for_each_table_that_is_not_constant():
    network = network_of(LAYER, LAYER.examples()[1], rank=1)
    table = network.constants["probe"]["table"].values
    varying = int((table != table[:, :1]).any(axis=1).sum())
    looked_up = sum(op.opcode == 8 for op in trace_network(network).ops)
    assert 0 < varying < table.shape[0] * table.shape[2]
    assert looked_up <= varying
