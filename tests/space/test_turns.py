"""Intervals of plain RTL as a gene: what they mean, what they cost, and what cannot have them."""

from dataclasses import replace

import numpy as np
import pytest
import yaml

from codesign.errors import ConfigError, DesignError
from codesign.hardware.device import load_device
from codesign.hardware.scorer import HardwareScorer
from codesign.ir import Candidate
from codesign.resources import data_root
from codesign.space import candidates_from_population, population_from_candidates
from codesign.space.templates import TEMPLATES
from codesign.space.turns import greatest_divisor
from codesign.training.options import label_key

PART = "xcvu13p-flga2577-2-e"
SPACES = ("deepsets_l1", "interaction_l1")


def template(name, **domains):
    value = yaml.safe_load((data_root("constraints") / "spaces" / f"{name}.yaml").read_text())
    given = {"particles": [6, 16], "interval_cycles": [1, 2, 3, 4, 9]} | domains
    return TEMPLATES.get(value["template"])(
        value["domains"] | given, input_shape=(16, 3), n_outputs=5
    )


def genomes(of, n, seed=1, **fixed):
    upper = np.array([len(gene.domain) - 1 for gene in of.genes])
    drawn = np.random.default_rng(seed).integers(0, upper + 1, (n, upper.size))
    for name, index in fixed.items():
        drawn[:, [gene.name for gene in of.genes].index(name)] = index
    return of.canonicalize(drawn)


def test_the_greatest_divisor_below_a_wish():
    n, wish = np.array([6, 16, 16, 7, 1]), np.array([4, 9, 16, 6, 9])
    assert greatest_divisor(n, wish).tolist() == [3, 8, 16, 1, 1]


@pytest.mark.parametrize("name", SPACES)
def test_an_interval_divides_the_particles_and_equal_designs_have_equal_genomes(name):
    of = template(name)
    drawn = genomes(of, 300)
    population = of.decode(drawn)
    particles = population.columns["n_columns"][population.stage == 0]
    assert (particles % population.interval_cycles == 0).all()
    assert set(population.interval_cycles) == {1, 2, 3, 4, 6, 8}
    assert (population.interval_cycles[~population.is_rtl] == 1).all()
    assert np.array_equal(of.canonicalize(drawn), drawn)
    candidates = candidates_from_population(population, part=PART)
    assert len({c.digest for c in candidates}) == len(np.unique(drawn, axis=0))
    assert [Candidate.from_json(c.to_json()) for c in candidates] == candidates
    again = population_from_candidates(candidates)
    for column, values in population.columns.items():
        assert np.array_equal(again.columns[column], values), column


@pytest.mark.parametrize("name", SPACES)
def test_longer_intervals_take_less_logic_and_more_cycles(name):
    of = template(name, interval_cycles=[1, 2, 4, 8], particles=[16], flow=["rtl"])
    scorer = HardwareScorer(device=load_device("xcvu13p"))
    found = [scorer.score(of.decode(genomes(of, 100, interval_cycles=i))).metrics for i in range(4)]
    for few, more in zip(found, found[1:], strict=False):
        assert (few["lut"].value > more["lut"].value).mean() > 0.95
        assert (few["latency_cycles"].value <= more["latency_cycles"].value).all()
    assert [set(m["interval_cycles"].value) for m in found] == [{1.0}, {2.0}, {4.0}, {8.0}]


def test_a_round_waits_as_long_as_both_of_its_pools_take():
    of = template(
        "interaction_l1", interval_cycles=[2, 8], particles=[16], flow=["rtl"], rounds=[1]
    )
    scorer = HardwareScorer(device=load_device("xcvu13p"))
    short, long = (
        scorer.score(of.decode(genomes(of, 50, interval_cycles=i))).metrics for i in (0, 1)
    )
    difference = long["latency_cycles"].value - short["latency_cycles"].value
    # two pools wait six cycles longer each; fewer terms of the pools' sums save levels
    assert ((difference <= 12) & (difference >= 12 - 4)).all()


def test_what_cannot_take_turns_says_why():
    (candidate,) = candidates_from_population(
        template("deepsets_l1").decode(genomes(template("deepsets_l1"), 1, flow=0)), part=PART
    )
    hardware = replace(candidate.hardware, interval_cycles=5)
    with pytest.raises(DesignError, match="does not divide the work on"):
        population_from_candidates([replace(candidate, hardware=hardware)])
    with pytest.raises(DesignError, match="where reuse factors and io_type say it"):
        replace(hardware, flow="hls")
    with pytest.raises(DesignError, match="interval_cycles must be at least 1, got 0"):
        replace(hardware, interval_cycles=0)
    with pytest.raises(ConfigError, match="interval_cycles"):
        template("mixer_l1")
    with pytest.raises(ConfigError, match="expected whole numbers of cycles"):
        template("deepsets_l1", interval_cycles=[1.5])
    flat = TEMPLATES.get("mlp")
    value = yaml.safe_load((data_root("constraints") / "spaces" / "mlp_l1.yaml").read_text())
    mlp = flat(value["domains"], input_shape=(16,), n_outputs=5)
    (candidate,) = candidates_from_population(mlp.decode(genomes(mlp, 1, flow=0)), part=PART)
    hardware = replace(candidate.hardware, interval_cycles=2)
    with pytest.raises(DesignError, match="particles cannot take turns: it has no particles"):
        population_from_candidates([replace(candidate, hardware=hardware)])


def test_only_networks_that_learn_their_widths_have_a_label_per_interval():
    of = template("deepsets_l1", interval_cycles=[1, 2], particles=[16], flow=["rtl"])
    one, two = (
        candidates_from_population(of.decode(genomes(of, 1, interval_cycles=i)), part=PART)[0]
        for i in (0, 1)
    )
    assert label_key(one) == label_key(two)
    one, two = (replace(c, lut_budget=1000.0) for c in (one, two))
    assert label_key(one) != label_key(two)


@pytest.mark.parametrize("name", SPACES)
def test_a_mask_is_a_gene_where_nothing_is_streamed_and_widths_are_stated(name):
    of = template(name, mask=[0, 1], io_type=["io_parallel", "io_stream"])
    drawn = genomes(of, 300)
    population = of.decode(drawn)
    masks = [n == "mask" for n in np.array(population.layer_names)[population.layer]]
    n_masks = np.bincount(population.candidate[masks], minlength=300)
    wanted = drawn[:, [gene.name for gene in of.genes].index("mask")] == 1
    assert set(n_masks[wanted]) == {1 if name == "deepsets_l1" else 2}
    assert not n_masks[~wanted].any() and not (population.io_type[wanted] == 1).any()
    assert (population.interval_cycles[wanted] > 1).any()
    with pytest.raises(ConfigError, match="a mask compares with a word of the input"):
        template(name, mask=[1], lut_budget=[1000])
    with pytest.raises(ConfigError, match="expected 0 or 1"):
        template(name, mask=[2])


def test_learned_networks_wait_for_their_turns_too():
    found = []
    for interval in (1, 8):
        value = yaml.safe_load(
            (data_root("constraints") / "spaces" / "interaction_learned.yaml").read_text()
        )
        given = value["domains"] | {"particles": [16], "interval_cycles": [interval]}
        of = TEMPLATES.get("interaction")(given, input_shape=(16, 3), n_outputs=5)
        scorer = HardwareScorer(device=load_device("xcvu13p"))
        metrics = scorer.score(of.decode(genomes(of, 50))).metrics
        assert set(metrics["interval_cycles"].value) == {float(interval)}
        found.append(metrics["latency_cycles"].value)
    # two pools of eight turns, one cycle to spread, and three more pipelines that fill half a cycle each
    assert ((found[1] - found[0] >= 17) & (found[1] - found[0] <= 20)).all()
