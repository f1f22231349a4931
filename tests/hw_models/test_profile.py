"""Operation counts: by hand, and against brute force."""

from dataclasses import replace

import numpy as np
import pytest

from hw_models.compose import estimate
from hw_models.profile import (
    count_operations,
    processor_energy_nj,
)
from hw_models.types import DesignBatch, OpBatch
from hw_models.weights import effective_bits, weight_facts


def two_layers():
    columns = dict(n_in=[16, 8], n_out=[8, 4], reuse_factor=[1, 1], strategy=[0, 0], weight_bits=[6, 4], input_bits=[8, 5],
                   input_is_signed=[1, 0], accumulator_bits=[16, 16], zero_fraction=[0.5, 0.0], has_bias=[1, 0])  # fmt: skip
    return DesignBatch(
        n_designs=1, clock_period_ns=np.array([5.0]), clock_uncertainty_ns=np.array([np.nan]), part="xcvu13p", tool="vivado_hls",
        tool_version="", io_type="io_parallel",
        ops=(OpBatch(primitive="matvec", design=np.zeros(2, dtype=np.int64), stage=np.array([0, 1]),
                     parameters={k: np.array(v, float) for k, v in columns.items()}),),
    )  # fmt: skip


def test_counts_by_hand():
    counts = count_operations(two_layers().ops, 1)
    assert counts.macs[0] == 64 + 32
    assert counts.parameters[0] == 64 + 8 + 32
    assert counts.flops[0] == 2 * 96 + 8
    assert counts.bops[0] == pytest.approx(64 * (48 + 14 + 4) + 32 * (20 + 9 + 3))
    assert counts.ebops[0] == 64 * 5 * 8 + 32 * 3 * 5


def test_known_weights_count_their_own_bits():
    (op,) = two_layers().ops
    known = replace(op, parameters={**op.parameters, "effective_bits": np.array([100.0, np.nan])})
    assert count_operations([known], 1).ebops[0] == 100 * 8 + 32 * 3 * 5


def test_effective_bits_match_the_binary_text():
    words = np.arange(-300, 301)
    expected = [len(bin(abs(w))[2:].strip("0")) for w in words]
    assert effective_bits(words).tolist() == expected
    assert weight_facts(words, 7)["effective_bits"] == sum(expected)


def test_wider_words_need_more_energy():
    narrow = two_layers()
    (op,) = narrow.ops
    wide = DesignBatch(**{**narrow.__dict__, "ops": (OpBatch(**{**op.__dict__, "parameters": {
        **op.parameters, "weight_bits": op.parameters["weight_bits"] + 6}}),)})  # fmt: skip
    assert estimate(wide).energy_nj[0] > estimate(narrow).energy_nj[0] > 0


@pytest.mark.parametrize(
    ("precision", "add_pj", "multiply_pj"), [("float_32", 0.9, 3.7), ("float_16", 0.4, 1.1)]
)
def test_a_processor_pays_for_every_addition_and_product(precision, add_pj, multiply_pj):
    """Figures of Horowitz, ISSCC 2014, figure 1.1.9."""
    counts = count_operations(two_layers().ops, 1)
    others = counts.flops[0] - 2 * counts.macs[0]
    expected_pj = counts.macs[0] * (add_pj + multiply_pj) + others * add_pj
    assert processor_energy_nj(counts, precision=precision)[0] == pytest.approx(expected_pj / 1000)
