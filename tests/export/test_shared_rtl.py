"""Particles that take turns at the same logic: the words of the network, at a longer interval, with less logic."""

from dataclasses import replace

import numpy as np
import pytest

from codesign.errors import ExportError
from codesign.export.bundle import export_candidate
from codesign.export.rtl import export_rtl, solve_network
from codesign.export.shared_rtl import export_shared_rtl
from codesign.ir import FixedPoint
from codesign.layers import run_words
from codesign.testing.layers import vectors
from codesign.validate.certificate import certify
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


def rounds(pool="mean_pool", particles=6, n_rounds=1):
    """Particles that learn from their pool, as in JEDI-linear, then a pool and a layer on it."""
    net = Builder(weights=(5, 2), kept=0.8)
    tip = net.chain(
        net.input(FixedPoint(bits=5, integer_bits=3), 3, columns=particles), 4, bits=(4, 2)
    )
    for _ in range(n_rounds):
        pooled = net.rounded("linear", net.add(pool, tip), 6, 4, signed=True)
        spread = net.add("broadcast", net.dense(pooled, 5), columns=particles)
        tip = net.rounded("relu", net.add("add", net.dense(tip, 5), spread), 4, 3)
    pooled = net.rounded("linear", net.add("sum_pool", tip), 7, 6, signed=True)
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
        ({}, 1, "shares no logic; choose 2 or more"),
        ({"mixes": True}, 2, "treats particles together before they are pooled"),
        ({"twice": True}, 2, "not every particle is pooled alike, by one pool at a time"),
    ],
)
def test_what_cannot_take_turns_is_refused_in_one_sentence(more, interval, message):
    with pytest.raises(ExportError, match=message):
        export_shared_rtl(network(**more), interval)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("quantized", "interval"),
    [
        (network("mean_pool"), 2),
        (network("sum_pool"), 3),
        (network("max_pool"), 3),
        (network("max_pool"), 6),
        (rounds("mean_pool"), 3),
        (rounds("max_pool"), 6),
        (rounds("sum_pool", n_rounds=2), 2),
    ],
    ids=["mean", "sum", "max", "max-one-copy", "round-mean", "round-max-one-copy", "two-rounds"],
)
def test_emulated_words_and_cycles_are_exact(quantized, interval, tmp_path):
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
def test_a_candidate_of_a_longer_interval_is_exported_and_certified(tmp_path):
    quantized = rounds()
    hardware = replace(quantized.candidate.hardware, interval_cycles=3)
    quantized = replace(quantized, candidate=replace(quantized.candidate, hardware=hardware))
    exported = export_candidate(
        quantized,
        tmp_path / "firmware",
        scaling={"method": "none", "features": []},
        vectors=vectors(quantized)[:50],
        backends=(),
    )
    assert exported.rtl["verilog"].interval_cycles == 3 and set(exported.rtl) == {"verilog"}
    assert "particles take turns" in exported.skipped["rtl_vhdl"]
    solved = solve_network(quantized)
    assert solved.latency_cycles == exported.rtl["verilog"].latency_cycles
    assert solved.adder_cost == exported.rtl["verilog"].adder_cost
    found = certify(exported, test_words=vectors(quantized)[:50], inputs=None, n_random=200, seed=1)
    (rtl,) = (c for c in found.comparisons if c.name == "rtl")
    assert rtl.status == "equal" and "one vector every 3 cycles" in rtl.note
    assert found.latency_cycles == solved.latency_cycles


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
