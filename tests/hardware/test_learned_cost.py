"""Costs of networks that learn their widths, before they are trained: honest intervals that labels narrow."""

from dataclasses import replace

import numpy as np
import pytest

from codesign.hardware.device import load_device
from codesign.hardware.learned_cost import (
    _FINISHING,
    FEATURES,
    QUANTITIES,
    LearnedCostModel,
    features,
)
from codesign.hardware.scorer import HardwareScorer
from codesign.space import load_space

SPACE = load_space("mlp_learned", n_inputs=16, n_outputs=5)
PART = "xcvu13p-flga2577-2-e"


def population(n: int, seed: int = 0):
    return SPACE.decode(SPACE.sample(n, np.random.default_rng(seed)))


def made_costs(people, seed: int = 0, noise: float = 0.1) -> list[dict[str, float]]:
    """Costs by a law of their own, not the prior's: 20 % below the budget, levels by depth alone."""
    generator, x = np.random.default_rng(seed), features(people)
    depth = x[:, FEATURES.index("depth")]
    luts = 0.8 * people.lut_budget * np.exp(generator.normal(0, noise, len(x)))
    levels = (8.0 + 5.0 * depth) * np.exp(generator.normal(0, noise, len(x)))
    cuts = 100.0 * np.exp(0.5 * x[:, 1] + generator.normal(0, noise, len(x)))
    return [dict(zip(QUANTITIES, row, strict=True)) for row in zip(luts, levels, cuts, strict=True)]


def inside(model: LearnedCostModel, people, costs) -> dict[str, float]:
    """Share of costs in their 90 % intervals, finished as labels are to finalists."""
    shares, generator = {}, np.random.default_rng(9)
    for name, (median, half) in model.logarithms(people).items():
        finish = generator.normal(*_FINISHING[name], len(median))
        error = np.log([c[name] for c in costs]) + finish - median
        shares[name] = float((np.abs(error) <= half).mean())
    return shares


def test_intervals_hold_nine_in_ten_of_networks_that_were_not_labelled():
    few, many = population(60), population(1500, seed=1)
    model = LearnedCostModel.of(few, made_costs(few))
    for name, share in inside(model, many, made_costs(many, seed=2)).items():
        assert 0.85 < share < 0.99, name


def test_labels_narrow_intervals_and_move_the_answer_to_what_they_say():
    few, others = population(80), population(200, seed=3)
    blank, taught = (
        LearnedCostModel.of(None, ()),
        LearnedCostModel.of(few, made_costs(few, noise=0.02)),
    )
    for name in QUANTITIES:
        assert (taught.logarithms(others)[name][1] < blank.logarithms(others)[name][1]).all()
    truth = np.log([c["adder_levels"] for c in made_costs(others, noise=0.0)])
    errors = [
        np.abs(m.logarithms(others)["adder_levels"][0] - truth).mean() for m in (blank, taught)
    ]
    assert errors[1] < 0.1 < errors[0]


def test_a_small_network_is_not_expected_to_spend_a_great_budget():
    blank, people = LearnedCostModel.of(None, ()), population(400)
    share = np.exp(blank.logarithms(people)["adder_cost"][0]) / people.lut_budget
    assert 0.5 < np.median(share) < 1.0
    richer = replace(people, lut_budget=people.lut_budget * 50)
    spent = np.exp(blank.logarithms(richer)["adder_cost"][0]) / richer.lut_budget
    assert np.median(spent) < 0.8 * np.median(share)


def test_the_scorer_prices_learned_networks_by_their_budget_and_says_how_sure_it_is():
    people, device = population(300), load_device("xcvu13p")
    scores = HardwareScorer(device=device).score(people)
    lut, cycles = scores.metrics["lut"], scores.metrics["latency_cycles"]
    assert np.corrcoef(np.log(lut.value), np.log(people.lut_budget))[0, 1] > 0.9
    for known in (lut, cycles, scores.metrics["ff"]):
        assert (known.low <= known.value).all() and (known.value <= known.high).all()
    assert (lut.high / lut.low > 1.3).all()
    assert (scores.metrics["dsp"].value == 0).all()
    slower = replace(people, clock_period_ns=people.clock_period_ns * 2)
    assert (
        HardwareScorer(device=device).score(slower).metrics["latency_cycles"].value <= cycles.value
    ).all()


def test_networks_of_stated_widths_are_priced_as_before():
    mixed = load_space("mlp_l1", n_inputs=16, n_outputs=5)
    people = mixed.decode(mixed.sample(50, np.random.default_rng(0)))
    assert LearnedCostModel.of(None, ()).predict(people, PART) is None
    few = population(20)
    device = load_device("xcvu13p")
    plain = HardwareScorer(device=device).score(people)
    taught = HardwareScorer(device=device, learned=LearnedCostModel.of(few, made_costs(few)))
    for name, known in taught.score(people).metrics.items():
        np.testing.assert_array_equal(known.high, plain.metrics[name].high)


def test_the_same_labels_give_the_same_model_whatever_their_order():
    few, costs = population(30), made_costs(population(30))
    order = np.random.default_rng(0).permutation(30)
    genomes = SPACE.sample(30, np.random.default_rng(0))
    shuffled = SPACE.decode(genomes[order])
    first = LearnedCostModel.of(few, costs).logarithms(few)["cut_bits"][0]
    second = LearnedCostModel.of(shuffled, [costs[i] for i in order]).logarithms(few)["cut_bits"][0]
    assert first == pytest.approx(second)
