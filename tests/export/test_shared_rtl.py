"""Particles that take turns at the same logic: the words of the network, at a longer interval, with less logic."""

from dataclasses import replace

import numpy as np
import pytest

from codesign.errors import ExportError
from codesign.export.bundle import export_candidate
from codesign.export.rtl import export_rtl
from codesign.export.shared_rtl import export_shared_rtl
from codesign.ir import FixedPoint
from codesign.layers import run_words
from codesign.testing.layers import vectors
from codesign.validate.forms import verilog_form
from codesign.validate.shared import share_logic
from tests.export.published import Builder


def network(pool="mean_pool", particles=6, **more):
    """Two layers on each particle, a pool, two layers on it."""
    net = Builder(weights=(5, 2), kept=0.8)
    x = net.input(FixedPoint(bits=5, integer_bits=3), 3, columns=particles)
    hidden = net.chain(x, 4, 4, bits=(4, 2))
    if more.get("mixes"):
        hidden = net.add("transpose", net.add("transpose", hidden))
    pooled = net.rounded("linear", net.add(pool, hidden), 6, 4, signed=True)
    if more.get("twice"):
        pooled = net.add("add", pooled, net.add("sum_pool", net.dense(x, 4)))
    net.rounded("linear", net.dense(net.chain(pooled, 4, bits=(5, 3)), 2), 9, 5, signed=True)
    return net.network(seed=1)


def test_fewer_copies_take_less_logic_and_longer():
    whole = export_rtl(network())
    few, one = (export_shared_rtl(network(), n) for n in (3, 6))
    assert whole.adder_cost > 1.5 * few.adder_cost > 1.5 * one.adder_cost
    assert (few.interval_cycles, one.interval_cycles) == (3, 6)
    assert one.latency_cycles - few.latency_cycles <= 3
    assert "input wire start" in few.plan.files["src/codesign_nn.v"].decode()


@pytest.mark.parametrize(
    ("more", "interval", "message"),
    [
        ({}, 4, "does not divide the work on 6 particles; choose one of 2, 3, 6"),
        ({}, 1, "choose one of 2, 3, 6"),
        ({"mixes": True}, 2, "treats particles together before they are pooled"),
        ({"twice": True}, 2, "and 2 such pools"),
    ],
)
def test_what_cannot_take_turns_is_refused_in_one_sentence(more, interval, message):
    with pytest.raises(ExportError, match=message):
        export_shared_rtl(network(**more), interval)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pool", "interval"), [("mean_pool", 2), ("sum_pool", 3), ("max_pool", 3), ("max_pool", 6)]
)
def test_emulated_words_and_cycles_are_exact(pool, interval, tmp_path):
    quantized = network(pool)
    exported = export_shared_rtl(quantized, interval)
    words = vectors(quantized)
    expected = np.asarray(run_words(quantized, words))
    form = verilog_form(exported, tmp_path, optimize=False, max_gap_cycles=5)
    assert np.array_equal(form.run(words), expected)
    assert form.timing().interval_cycles == interval
    form.close()
    for wrong in (
        replace(exported, latency_cycles=exported.latency_cycles - 1),
        replace(exported, latency_cycles=exported.latency_cycles + 1),
        replace(exported, interval_cycles=interval - 1),
    ):
        if wrong.interval_cycles > 1:
            other = verilog_form(wrong, tmp_path, optimize=False)
            assert not np.array_equal(other.run(words), expected)
            other.close()


@pytest.mark.slow
def test_a_finished_export_is_shared_and_proved_beside_it(tmp_path):
    quantized = network()
    folder = tmp_path / "firmware"
    export_candidate(
        quantized,
        folder,
        scaling={"method": "none", "features": []},
        vectors=vectors(quantized)[:50],
    )
    target, verdict = share_logic(folder, 3)
    assert target == tmp_path / "firmware_interval_3" and (target / "rtl.json").is_file()
    assert "50 vectors equal" in verdict
