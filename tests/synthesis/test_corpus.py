"""Corpus designs are reproducible, spread out, exact, and the shipped corpus is what it says."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest

from codesign.errors import DesignError
from codesign.synthesis.adder_graph import (
    ConstantMatrix,
    solve_adder_graph,
)
from codesign.synthesis.corpus import (
    corpus_design,
    done_indices,
    layer_records,
    rough_cost,
    write_rtl,
)
from hw_models.weights import csd_digits

SHIPPED = (
    Path(__file__).resolve().parents[2]
    / "hw_models"
    / "calibration"
    / "corpus"
    / "open_synthesis.jsonl"
)


@functools.cache
def _designs():
    return [corpus_design(7, index) for index in range(20)]


def _smallest(n_layers):
    return min((d for d in _designs() if len(d.layers) == n_layers), key=rough_cost)


def test_digit_counts_match_a_direct_recoding():
    def recode(n: int) -> int:
        count = 0
        while n:
            if n & 1:
                digit = 2 - (n & 3)
                n -= digit
                count += 1
            n >>= 1
        return count

    values = np.arange(-300, 300)
    np.testing.assert_array_equal(csd_digits(values), [recode(abs(int(n))) for n in values])


def test_cost_of_known_matrices():
    single = ConstantMatrix(weights_in_out=np.array([[1], [1]]), input_low=-128, input_high=127)
    assert solve_adder_graph(single).n_adders == 1
    shifts = ConstantMatrix(weights_in_out=np.diag([1, 2, 4]), input_low=-8, input_high=7)
    assert solve_adder_graph(shifts).adder_cost == 0
    nothing = ConstantMatrix(weights_in_out=np.zeros((3, 2), dtype=int), input_low=0, input_high=15)
    assert solve_adder_graph(nothing).n_adders == 0


def test_cost_does_not_depend_on_a_power_of_two_and_grows_with_input_width():
    weights = np.random.default_rng(1).integers(-7, 8, (12, 6))
    narrow, scaled, wide = map(
        solve_adder_graph,
        [
            ConstantMatrix(weights_in_out=weights, input_low=-8, input_high=7),
            ConstantMatrix(weights_in_out=weights * 4, input_low=-8, input_high=7),
            ConstantMatrix(weights_in_out=weights, input_low=-128, input_high=127),
        ],
    )
    assert narrow.adder_cost == scaled.adder_cost
    assert wide.adder_cost > narrow.adder_cost
    # sharing can only save adders over one per digit
    assert narrow.n_adders <= csd_digits(weights).sum()


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (
            ConstantMatrix(weights_in_out=np.array([[0.5]]), input_low=0, input_high=1),
            "integer matrix",
        ),
        (ConstantMatrix(weights_in_out=np.array([[1]]), input_low=2, input_high=1), "low end"),
        (ConstantMatrix(weights_in_out=np.array([[2**25]]), input_low=0, input_high=1), "24 bits"),
    ],
)
def test_unusable_matrices_are_refused(matrix, message):
    with pytest.raises(DesignError, match=message):
        solve_adder_graph(matrix)


def test_designs_are_reproducible_and_spread():
    designs = _designs()
    again = corpus_design(7, 3)
    np.testing.assert_array_equal(
        designs[3].layers[0].weights_in_out, again.layers[0].weights_in_out
    )
    assert len({design.layers[0].weights_in_out.shape for design in designs}) > 4
    for design in designs:
        for layer in design.layers:
            assert 4 <= min(layer.weights_in_out.shape) <= max(layer.weights_in_out.shape) <= 128
            assert np.abs(layer.weights_in_out).max() <= 2 ** (layer.weight_bits - 1)


def test_rtl_of_a_design_computes_the_network_exactly(tmp_path):
    """The traced adder graph against plain integer arithmetic."""
    from alkaid.types import CombLogic

    design = _smallest(2)
    facts = write_rtl(design, tmp_path / "rtl")
    assert facts["latency_cycles"] >= 1
    traced = CombLogic.load(tmp_path / "rtl" / "model" / "comb.json.gz")
    rng = np.random.default_rng(0)
    scale = 2.0 ** (design.input_bits - 1)
    x = (
        rng.integers(-int(scale), int(scale), (50, design.layers[0].weights_in_out.shape[0]))
        / scale
    )
    value, fraction = x, design.input_bits - 1
    for layer in design.layers:
        grid = layer.weight_fraction_bits + fraction
        value = (
            value @ (layer.weights_in_out / 2.0**layer.weight_fraction_bits)
            + layer.bias / 2.0**grid
        )
        if layer.output_integer_bits is not None:
            value = (
                np.floor(np.maximum(value, 0) * 2.0**layer.output_fraction_bits)
                / 2.0**layer.output_fraction_bits
            )
            value = np.mod(value, 2.0**layer.output_integer_bits)
            fraction = layer.output_fraction_bits
    np.testing.assert_array_equal(traced.predict(x), value)


def test_layer_records_chain_their_types():
    design = _smallest(3)
    records = layer_records(design)
    for before, after in zip(records[:-1], records[1:], strict=True):
        assert before["result_precision"] == after["input_precision"]
        assert before["out_shape"] == after["in_shape"]


@pytest.mark.skipif(not SHIPPED.is_file(), reason="the shipped corpus is absent")
def test_shipped_corpus_covers_what_it_promises():
    records = [json.loads(line) for line in SHIPPED.read_text().splitlines()]
    assert len(records) >= 150
    assert len({record["id"] for record in records}) == len(records)
    layers = [layer for record in records for layer in record["layers"]]
    widths = [n for layer in layers for n in (layer["in_shape"][0], layer["units"])]
    assert min(widths) <= 4
    assert max(widths) >= 100
    assert {len(record["layers"]) for record in records} == {1, 2, 3, 4}
    assert {int(layer["weight_precision"].split("<")[1].split(",")[0]) for layer in layers} == set(
        range(2, 11)
    )
    sparsities = [layer["n_zeros"] / (layer["in_shape"][0] * layer["units"]) for layer in layers]
    assert min(sparsities) < 0.05
    assert max(sparsities) > 0.85
    assert all(record["vsynth"]["lut"] > 0 and record["vsynth"]["dsp"] == 0 for record in records)
    assert done_indices(SHIPPED, seed=records[0]["seed"]) == {record["index"] for record in records}


@pytest.mark.skipif(not SHIPPED.is_file(), reason="the shipped corpus is absent")
def test_shipped_records_are_reproducible_from_their_seed():
    for line in SHIPPED.read_text().splitlines()[:3]:
        record = json.loads(line)
        assert layer_records(corpus_design(record["seed"], record["index"])) == record["layers"]
