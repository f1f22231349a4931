"""Filters, chains, profilers, ladders and compound scaling."""

import numpy as np
import pytest

from codesign.errors import DesignError
from codesign.search.compose import Filter, Limit, precompute_profiler
from codesign.search.loop import run_search
from codesign.search.problem import Problem
from codesign.search.scaling import Dimension, scale_design
from codesign.testing.synthetic import SyntheticProblem

PROBLEM = SyntheticProblem()


def sample(n=300, seed=0):
    drawn = np.random.default_rng(seed).integers(0, PROBLEM.upper + 1, size=(n, 10))
    return PROBLEM.canonicalize(drawn)


def width_sum(genomes):
    return 1.0 + genomes[:, 4] ** 2 + 2.0 * genomes[:, 7]


def test_a_filter_never_bothers_the_dear_problem_with_hopeless_genomes():
    seen = []

    class Watched(SyntheticProblem):
        def evaluate(self, genomes):
            seen.append(genomes)
            return super().evaluate(genomes)

    limited = Filter(
        problem=Watched(), limits=(Limit(name="width_sum", profiler=width_sum, at_most=9.0),)
    )
    assert isinstance(limited, Problem)
    genomes = sample()
    evaluation = limited.evaluate(genomes)
    assert (width_sum(np.concatenate(seen)) <= 9.0).all()
    passed = limited.passes(genomes)
    assert np.array_equal(passed, width_sum(genomes) <= 9.0)
    plain = PROBLEM.evaluate(genomes)
    assert np.array_equal(evaluation.objectives[passed], plain.objectives[passed])
    assert not evaluation.is_feasible[~passed].any()
    archive = run_search(limited, "nsga2", n_evaluations=300, seed=0)
    assert (width_sum(archive.genomes) <= 9.0).all()


def test_a_precomputed_profiler_answers_like_the_original():
    table = precompute_profiler(width_sum, PROBLEM.upper, ((4,), (7, 8)))
    assert np.array_equal(table(sample()), width_sum(sample()))
    with pytest.raises(DesignError, match="not a sum"):
        precompute_profiler(
            lambda genomes: genomes[:, 4] * genomes[:, 7] * 1.0, PROBLEM.upper, ((4,), (7,))
        )


def test_compound_scaling_grows_together_and_stays_feasible():
    genome = np.array([0, 1, 1, 0, 1, 1, 1, 1, 1, 1])
    dimensions = (
        Dimension(name="depth", genes=np.array([0]), rate=0.34),
        Dimension(name="width", genes=np.array([4, 7]), rate=1.0),
    )
    scaled = scale_design(PROBLEM, genome, dimensions)
    assert scaled.evaluation.is_feasible.all()
    assert (np.diff(scaled.phi) > 0).all()
    assert 0.0 in scaled.phi
    assert (np.diff(scaled.genomes[:, [0, 4]], axis=0) >= 0).all()
    assert len(np.unique(scaled.genomes, axis=0)) == len(scaled.genomes)
    # larger is dearer
    assert (np.diff(scaled.evaluation.objectives[:, 1]) > 0).all()
    with pytest.raises(DesignError, match="mere names"):
        scale_design(PROBLEM, genome, (Dimension(name="x", genes=np.array([2]), rate=1.0),))
