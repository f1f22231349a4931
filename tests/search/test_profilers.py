"""Figures of a space: counted by hand, tabulated once, and as limits that designs never see past."""

import numpy as np
import pytest

from codesign.errors import DesignError
from codesign.hardware.device import load_device
from codesign.hardware.scorer import HardwareScorer
from codesign.search.compose import Filter, Limit
from codesign.search.loop import run_search
from codesign.search.problem import Evaluation
from codesign.search.profilers import COUNTED, FIGURES, SpaceProfiler, precompute_chain
from codesign.search.strategies.base import STRATEGIES
from codesign.space import load_space
from codesign.testing.synthetic import SyntheticProblem

SCORER = HardwareScorer(device=load_device("xcvu13p"))
TINY = load_space("mlp_tiny", n_inputs=16, n_outputs=5)
FULL = load_space("mlp_l1", n_inputs=16, n_outputs=5)


def profiler(figure, space=TINY):
    return SpaceProfiler(space=space, scorer=SCORER, figure=figure)


def genome_of(space, **values):
    genome = np.zeros((1, len(space.genes)), dtype=np.int64)
    for i, gene in enumerate(space.genes):
        if gene.name in values:
            genome[0, i] = gene.domain.index(values[gene.name])
    return space.canonicalize(genome)


def test_counts_are_those_of_a_network_counted_by_hand():
    genome = genome_of(
        TINY, depth=1, width_1=8, weight_bits_1=4, weight_bits_head=3, input_bits=6,
        result_bits_1=4, flow="rtl",
    )  # fmt: skip
    weights = 16 * 8 + 8 * 5
    assert profiler("macs")(genome) == weights
    assert profiler("parameters")(genome) == weights + 8 + 5
    bops = 16 * 8 * (4 * 6 + 4 + 6 + np.log2(16)) + 8 * 5 * (3 * 4 + 3 + 4 + np.log2(8))
    assert profiler("bops")(genome)[0] == pytest.approx(bops, rel=1e-12)
    # weights, and the widest layer's inputs and outputs: 16 of 6 bits to 8 sums of many bits
    assert profiler("memory_bytes")(genome)[0] > (16 * 8 * 4 + 8 * 5 * 3 + 16 * 6) / 8


def test_half_the_weights_are_half_the_products():
    dense = genome_of(TINY, depth=2, width_1=16, width_2=16)
    thin = genome_of(
        TINY, depth=2, width_1=16, width_2=16, pruned_fraction_1=0.5, pruned_fraction_2=0.5,
        pruned_fraction_head=0.5,
    )  # fmt: skip
    assert profiler("macs")(thin) == 0.5 * profiler("macs")(dense)


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize("space", [TINY, FULL, load_space("cell_l1", n_inputs=16, n_outputs=5)])
def test_every_figure_answers_for_any_sample_of_any_space(figure, space):
    sample = space.sample(200, np.random.default_rng(1))
    values = profiler(figure, space)(sample)
    assert values.shape == (200,)
    assert (values >= 0).all()
    # one at a time gives the same as all together
    assert profiler(figure, space)(sample[7:8])[0] == pytest.approx(values[7], rel=1e-12)


@pytest.mark.parametrize("figure", [*COUNTED, "energy_nj", "dsp", "bram_18k"])
def test_a_tabulated_figure_is_the_figure(figure):
    table = precompute_chain(profiler(figure))
    sample = TINY.sample(500, np.random.default_rng(2))
    assert table(sample) == pytest.approx(profiler(figure)(sample), rel=1e-9)


def test_spaces_and_figures_that_have_no_tables_are_refused():
    with pytest.raises(DesignError, match="not a sum"):
        # skips that concatenate make a layer's inputs depend on all layers before it
        precompute_chain(profiler("macs", _small_space_with_skips()))
    for figure in ("lut", "memory_bytes"):  # whole blocks, the widest layer
        with pytest.raises(DesignError, match="not a sum"):
            precompute_chain(profiler(figure))
    with pytest.raises(DesignError, match="no chain"):
        precompute_chain(profiler("macs", load_space("cell_l1", n_inputs=16, n_outputs=5)))
    with pytest.raises(DesignError, match="did you mean 'bops'"):
        profiler("bop")


def _small_space_with_skips():
    from codesign.config import read_yaml
    from codesign.resources import data_root
    from codesign.space.space import SearchSpace
    from codesign.space.templates import TEMPLATES

    value = read_yaml(data_root("constraints") / "spaces" / "mlp_tiny.yaml")
    domains = value["domains"] | {"skip": ["none", "concat"]}
    template = TEMPLATES.get("mlp")(domains, input_shape=(16,), n_outputs=5)
    return SearchSpace(name="skips", template=template, input_shape=(16,), n_outputs=5)


PROBLEM = SyntheticProblem(lut_limit=1500.0, latency_limit_ns=28.0)


def widths(genomes):
    return 1.0 + genomes[:, 4] ** 2 + 2.0 * genomes[:, 7]


class Counted(SyntheticProblem):
    n_scored = 0

    def evaluate(self, genomes):
        type(self).n_scored += len(genomes)
        assert (widths(genomes) <= 9.0).all()
        return super().evaluate(genomes)


@pytest.mark.parametrize(
    "name", [n for n in STRATEGIES.names() if n not in ("exhaustive", "optuna_tpe")]
)
def test_dropped_genomes_cost_nothing_of_the_budget(name):
    limited = Filter(
        problem=Counted(lut_limit=1500.0, latency_limit_ns=28.0),
        limits=(Limit(name="widths", profiler=widths, at_most=9.0),),
        mode="drop",
    )
    Counted.n_scored = 0
    archive = run_search(limited, name, n_evaluations=300, seed=0)
    assert archive.n_evaluations == 300
    assert Counted.n_scored == 300
    assert (widths(archive.genomes) <= 9.0).all()
    again = run_search(limited, name, n_evaluations=300, seed=0)
    assert np.array_equal(archive.genomes, again.genomes)


def test_a_penalised_genome_costs_an_evaluation_and_a_hopeless_filter_ends_the_search():
    limits = (Limit(name="widths", profiler=widths, at_most=9.0),)
    Counted.n_scored = 0
    run_search(Filter(problem=Counted(), limits=limits), "random", n_evaluations=300, seed=0)
    assert 0 < Counted.n_scored < 300
    hopeless = (Limit(name="widths", profiler=widths, at_most=0.5),)
    dropped = Filter(problem=Counted(), limits=hopeless, mode="drop")
    archive = run_search(dropped, "random", n_evaluations=300, seed=0)
    assert archive.n_evaluations == 0
    with pytest.raises(DesignError, match="did you mean 'drop'"):
        Filter(problem=Counted(), limits=limits, mode="drops")


@pytest.mark.parametrize("limit_bytes", [200.0, 800.0])
def test_growth_stays_below_a_hard_memory_limit_and_comes_near_it(limit_bytes):
    memory = profiler("memory_bytes")

    class Accurate:
        """More kept weights, better; no other limit."""

        upper, ordered = TINY.upper, np.array([gene.is_ordered for gene in TINY.genes])
        objective_names, constraint_names = ("error",), ()

        def canonicalize(self, genomes):
            return TINY.canonicalize(genomes)

        def evaluate(self, genomes):
            error = 1.0 / (1.0 + profiler("parameters")(genomes))
            return Evaluation(objectives=error[:, None], violations=np.zeros((len(genomes), 0)))

    problem = Filter(
        problem=Accurate(),
        limits=(Limit(name="memory_bytes", profiler=memory, at_most=limit_bytes),),
    )
    archive = run_search(problem, "nanonas", n_evaluations=600, seed=0)
    used = memory(archive.genomes)
    assert (used <= limit_bytes).all()
    assert used.max() > 0.5 * limit_bytes
