"""Properties of the estimator: monotone where hardware is, exact where counting is, loud where unknown."""

import math
from dataclasses import replace

import numpy as np
import pytest

from hw_models.coefficients import Coefficients
from hw_models.compose import estimate
from hw_models.errors import ModelError, UnsupportedError
from hw_models.legality import legal_reuse_factors
from hw_models.primitives import get_primitive, primitives
from hw_models.types import MATVEC_STRATEGIES, METRICS, DesignBatch, OpBatch
from hw_models.weights import (
    count_weights,
    csd_digits,
    natural_zero_fraction,
    prior_shares,
    word_bits,
)

PART = "xcvu13p-flga2577-2-e"


def matvec_batch(n=1, *, tool="vivado_hls", part=PART, clock_period_ns=5.0, **columns):
    defaults = dict(
        n_in=16.0, n_out=32.0, reuse_factor=1.0, strategy=0.0, weight_bits=8.0, input_bits=16.0,
        input_is_signed=1.0, accumulator_bits=20.0, zero_fraction=0.0, has_bias=1.0,
    )  # fmt: skip
    columns = {**defaults, **columns}
    return DesignBatch(
        n_designs=n,
        clock_period_ns=np.broadcast_to(np.asarray(clock_period_ns, float), (n,)).copy(),
        clock_uncertainty_ns=np.full(n, np.nan),
        part=part,
        tool=tool,
        tool_version="",
        io_type="io_parallel",
        ops=(
            OpBatch(
                primitive="matvec",
                design=np.arange(n),
                stage=np.zeros(n, dtype=np.int64),
                parameters={
                    k: np.broadcast_to(np.asarray(v, float), (n,)).copy()
                    for k, v in columns.items()
                },
            ),
        ),
    )


def values(batch, **options):
    return {name: known.value for name, known in estimate(batch, **options).metrics.items()}


@pytest.mark.parametrize(
    "strategy", [n for n in MATVEC_STRATEGIES if n != "distributed_arithmetic"]
)
@pytest.mark.parametrize("weight_bits", [4, 8, 16])
def test_more_reuse_never_costs_more_dsp_and_never_shortens_the_interval(strategy, weight_bits):
    reuse = legal_reuse_factors(24, 32, "resource").astype(float)
    batch = matvec_batch(
        reuse.size, n_in=24.0, n_out=32.0, reuse_factor=reuse, strategy=float(MATVEC_STRATEGIES.index(strategy)),
        weight_bits=float(weight_bits),
    )  # fmt: skip
    found = values(batch)
    # at reuse 1 weights are constants, and narrow constants need no DSP at all: the order holds above it
    first = 0 if strategy == "latency" or weight_bits != 8 else 1
    assert np.all(np.diff(found["dsp"][first:]) <= 0)
    assert np.all(np.diff(found["interval_cycles"]) >= 0)


@pytest.mark.parametrize("strategy", range(len(MATVEC_STRATEGIES)))
def test_pruning_never_costs_more_lut_or_dsp(strategy):
    # at 6-bit weights every kept weight is narrow, so the prior's tail does not move the other way
    zero = np.linspace(0.05, 0.95, 10)
    found = values(
        matvec_batch(
            10, zero_fraction=zero, strategy=float(strategy), weight_bits=5.0, input_bits=8.0
        )
    )
    assert np.all(np.diff(found["lut"]) <= 0)
    assert np.all(np.diff(found["dsp"]) <= 0)


@pytest.mark.parametrize(
    ("column", "sizes"), [("n_in", [4, 16, 64, 256]), ("n_out", [4, 16, 64, 256])]
)
@pytest.mark.parametrize("strategy", range(len(MATVEC_STRATEGIES)))
def test_larger_matrices_never_cost_less(column, sizes, strategy):
    found = values(matvec_batch(4, **{column: np.array(sizes, float)}, strategy=float(strategy)))
    for name in ("lut", "dsp", "latency_cycles"):
        assert np.all(np.diff(found[name]) >= 0), name


def test_a_slower_clock_never_needs_more_cycles():
    clock = np.array([2.0, 3.0, 4.0, 5.0, 8.0, 12.0])
    for tool in ("vivado_hls", "vitis_hls", "alkaid"):
        strategy = 4.0 if tool == "alkaid" else 0.0
        found = values(matvec_batch(6, clock_period_ns=clock, tool=tool, strategy=strategy))
        assert np.all(np.diff(found["latency_cycles"]) <= 0)


def test_distributed_arithmetic_uses_no_dsp_and_takes_a_sample_each_cycle():
    found = values(matvec_batch(3, strategy=4.0, tool="alkaid", n_in=np.array([4.0, 16.0, 64.0])))
    assert found["dsp"].tolist() == [0, 0, 0]
    assert found["interval_cycles"].tolist() == [1, 1, 1]


def test_a_known_adder_graph_replaces_the_law():
    found = values(matvec_batch(1, strategy=4.0, tool="alkaid", adder_graph_cost=1234.0, has_bias=0.0),
                   coefficients=Coefficients())  # fmt: skip
    assert found["lut"][0] == 1234


def test_resource_counts_are_exact():
    # hls4ml: ceil(16 * 32 / 64) multipliers, II = RF, 16-bit data and weights in one DSP each
    found = values(matvec_batch(1, reuse_factor=64.0, strategy=1.0, weight_bits=16.0))
    assert found["dsp"][0] == 8
    assert found["interval_cycles"][0] == 64


def test_every_interval_holds_its_value():
    metrics = estimate(matvec_batch(5, n_out=np.array([1.0, 8.0, 32.0, 128.0, 512.0]))).metrics
    for name in METRICS:
        known = metrics[name]
        assert np.all(known.low <= known.value) and np.all(known.value <= known.high), name
        assert np.all(known.low >= 0), name


def test_one_design_costs_what_it_costs_in_a_population():
    sizes = np.array([3.0, 17.0, 64.0])
    together = values(matvec_batch(3, n_in=sizes))
    for i, size in enumerate(sizes):
        alone = values(matvec_batch(1, n_in=size))
        for name in METRICS:
            assert alone[name][0] == together[name][i]


def test_mixed_strategies_equal_their_parts():
    codes = np.arange(5, dtype=float)
    together = values(matvec_batch(5, strategy=codes, reuse_factor=4.0))
    for code in codes:
        alone = values(matvec_batch(1, strategy=code, reuse_factor=4.0))
        for name in METRICS:
            assert alone[name][0] == together[name][int(code)], (name, code)


def test_parameters_outside_the_fit_widen_the_interval_and_are_named():
    fitted = Coefficients(ranges={"matvec.n_in": (8.0, 64.0)}, provenance={"source": "test"})
    below = estimate(matvec_batch(1, n_in=2.0), fitted, with_notes=True)
    assert any("n_in" in note for note in below.notes[0])
    inside, outside = matvec_batch(1, n_in=64.0), matvec_batch(1, n_in=640.0)
    near = estimate(inside, fitted).metrics["lut"]
    far = estimate(outside, fitted, with_notes=True)
    assert far.metrics["lut"].high[0] / far.metrics["lut"].value[0] > near.high[0] / near.value[0]
    assert any("matvec.n_in = 640" in note and "factor 10" in note for note in far.notes[0])


def test_unknown_keys_widen_and_say_so():
    fitted = Coefficients(seen={"tool=vivado_hls": 9, "family=ultrascale_plus": 9, "io=io_parallel": 9},
                          provenance={"source": "test"})  # fmt: skip
    known = estimate(matvec_batch(), fitted, with_notes=True)
    new = estimate(matvec_batch(tool="vitis_hls"), fitted, with_notes=True)
    assert not any("not in the fitted" in note for note in known.notes[0])
    assert any("tool=vitis_hls" in note for note in new.notes[0])
    assert (
        new.metrics["lut"].low[0] / new.metrics["lut"].value[0]
        < known.metrics["lut"].low[0] / known.metrics["lut"].value[0]
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"part": "nonsense"}, "unknown device part"),
        ({"tool": "gcc"}, "unknown synthesis tool"),
    ],
)
def test_unknown_devices_and_tools_are_refused(change, message):
    with pytest.raises(UnsupportedError, match=message):
        estimate(matvec_batch(**change))


def test_bad_batches_are_refused():
    with pytest.raises(ModelError, match="unknown parameter 'n_inn'"):
        estimate(matvec_batch(n_inn=3.0))
    with pytest.raises(ModelError, match="is NaN"):
        estimate(matvec_batch(n_in=math.nan))
    with pytest.raises(ModelError, match="above 0"):
        estimate(matvec_batch(clock_period_ns=0.0))
    with pytest.raises(UnsupportedError, match="cannot be predicted"):
        estimate(matvec_batch(), stage="measured")
    with pytest.raises(UnsupportedError, match="unknown primitive"):
        get_primitive("attention")


@pytest.mark.parametrize("name", primitives())
@pytest.mark.parametrize("io_type", ["io_parallel", "io_stream"])
@pytest.mark.parametrize("tool", ["vivado_hls", "vitis_hls", "alkaid"])
def test_every_primitive_gives_finite_costs(name, io_type, tool):
    primitive = get_primitive(name)
    given = {p.name: np.array([1.0, 4.0, 16.0]) for p in primitive.parameters if p.default is None}
    for code in ("kind", "strategy", "input_is_signed", "has_bias"):
        if code in given:
            given[code] = np.array([0.0, 1.0, 1.0])
    if "zero_fraction" in given:
        given["zero_fraction"] = np.array([0.0, 0.5, np.nan])
    batch = DesignBatch(
        n_designs=3, clock_period_ns=np.full(3, 5.0), clock_uncertainty_ns=np.full(3, np.nan), part=PART, tool=tool,
        tool_version="", io_type=io_type,
        ops=(OpBatch(primitive=name, design=np.arange(3), stage=np.zeros(3, dtype=np.int64), parameters=given),),
    )  # fmt: skip
    found = estimate(batch, with_notes=True, with_per_op=True)
    for metric in METRICS:
        assert np.all(np.isfinite(found.metrics[metric].value)) and np.all(
            found.metrics[metric].value >= 0
        )
        assert found.per_op[name][metric].shape == (3,)
    assert np.all(found.energy_nj >= 0)


def test_signed_digits_match_a_search():
    # oracle: fewest signed powers of two that sum to n, by breadth-first search
    best = {0: 0}
    frontier = [0]
    for n_digits in range(1, 4):
        frontier = [s + sign * 2**k for s in frontier for k in range(9) for sign in (1, -1)]
        frontier = [v for v in set(frontier) if v not in best]
        best.update({v: n_digits for v in frontier})
    words = np.arange(-63, 64)
    expected = [best.get(int(w), 4) for w in words]
    assert csd_digits(words).tolist() == expected


def test_word_bits_are_signed_widths():
    words = np.array([0, 1, 2, 3, 12, -5, 64])
    assert word_bits(words).tolist() == [0, 2, 3, 3, 5, 4, 8]


def test_exact_weights_decide_the_multipliers():
    weights = np.array([[1, 2], [0, 11], [85, 4]])
    counts = count_weights(weights, input_bits=16)
    assert counts.n_nonzero == 5
    assert counts.n_multipliers == 1  # 85: four digits, 8 bits beside 16: a DSP
    assert counts.n_lut_multipliers == 1  # 11: three digits, 5 bits beside 16: LUTs
    found = values(matvec_batch(1, n_multipliers=7.0, weight_bits=8.0))
    assert found["dsp"][0] == 7


def test_equal_weights_of_one_input_are_one_product():
    row = np.full((1, 8), 85)
    assert count_weights(row, input_bits=16).n_multipliers == 1
    assert count_weights(row.T, input_bits=16).n_multipliers == 8  # eight inputs
    assert count_weights(row * np.array([1, -1] * 4), input_bits=16).n_multipliers == 2
    assert count_weights(row, input_bits=16).n_nonzero == 8


@pytest.mark.parametrize("fan_out", [4, 32, 128])
def test_prior_counts_what_random_weights_hold(fan_out):
    # oracle: count drawn weights of the very law that the prior tabulates
    rng = np.random.default_rng(fan_out)
    sigma, n_in = 2**4.5, 400  # a point of the table
    words = np.rint(rng.normal(0, sigma, (n_in, fan_out))).astype(np.int64)
    counts = count_weights(words, input_bits=16)
    one = np.ones(1)
    fan = one * counts.n_nonzero / n_in
    shares = prior_shares(one * sigma, one * 0.0, fan, one * 16.0, one.astype(bool) ^ True)
    assert counts.n_multipliers == pytest.approx(shares.multiplied[0] * counts.n_nonzero, rel=0.06)
    assert counts.constant_adders == pytest.approx(shares.adders[0] * counts.n_nonzero, rel=0.06)


def test_small_weights_round_to_zero_as_often_as_drawn_ones():
    sigma = 2.0 ** np.array([-1.0, 0.0, 1.0])
    drawn = np.rint(np.random.default_rng(0).normal(0, sigma, (200_000, 3)))
    # the error of a share of 200,000 draws is at most 0.0012
    np.testing.assert_allclose(natural_zero_fraction(sigma), (drawn == 0).mean(axis=0), atol=0.005)


def test_exact_weights_narrow_the_interval():
    prior = estimate(matvec_batch(1, weight_bits=16.0))
    digits = dict(
        n_multipliers=prior.metrics["dsp"].value[0], n_lut_multipliers=0.0, constant_adders=50.0
    )
    exact = estimate(matvec_batch(1, weight_bits=16.0, **digits), with_notes=True)
    for name in ("lut", "dsp"):
        before, after = prior.metrics[name], exact.metrics[name]
        assert after.high[0] / after.value[0] < before.high[0] / before.value[0]
    assert not any("prior" in note for note in exact.notes[0])


def test_a_solved_graph_takes_the_place_of_the_laws():
    batch = matvec_batch(3, strategy=float(MATVEC_STRATEGIES.index("distributed_arithmetic")))
    batch = replace(batch, tool="alkaid")
    solved = {
        "adder_cost": np.array([500.0, np.nan, 800.0]),
        "register_bits": np.array([300.0, np.nan, np.nan]),
        "latency_cycles": np.array([4.0, np.nan, 2.0]),
    }
    law, known = (
        estimate(b, Coefficients(), with_notes=True, with_per_op=True)
        for b in (batch, replace(batch, solved=solved))
    )
    cycles, lut, ff = (known.metrics[name] for name in ("latency_cycles", "lut", "ff"))
    assert lut.value.tolist() == [500, law.metrics["lut"].value[1], 800]
    assert ff.value[0] == 300 and ff.value[2] == law.metrics["ff"].value[2]
    assert cycles.value.tolist() == [4, law.metrics["latency_cycles"].value[1], 2]
    assert cycles.low[0] == cycles.high[0] == 4 and cycles.low[1] < cycles.high[1]
    total = sum(values["lut"] for values in known.per_op.values())
    assert total[0] == pytest.approx(500)
    assert any("unknown" in note for note in known.notes[1])
    assert not any("unknown" in note for note in known.notes[0])


@pytest.mark.parametrize("stage", ["csynth", "vsynth"])
def test_distance_from_the_fit_does_not_move_what_plain_rtl_has_by_construction(stage):
    """A wide interval made small designs look slower than one event a cycle, and unfit for a budget of one."""
    far = matvec_batch(2, strategy=4.0, tool="alkaid", n_in=np.array([1.0, 16.0]), n_out=1.0, weight_bits=1.0,
                       input_bits=np.array([1.0, 60.0]))  # fmt: skip
    found = estimate(far, stage=stage).metrics
    assert np.all(found["lut"].high > found["lut"].value), "far from the fit, so its LUT are wide"
    for target, value in (("interval_cycles", 1.0), ("dsp", 0.0), ("bram_18k", 0.0)):
        assert found[target].low.tolist() == found[target].high.tolist() == [value] * 2
