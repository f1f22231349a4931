"""Filters, chains, profilers, ladders and compound scaling."""

import numpy as np
import pytest

from codesign.errors import DesignError
from codesign.search.compose import Filter, Limit, precompute_profiler
from codesign.search.loop import run_search
from codesign.search.problem import Problem
from codesign.search.scaling import dimensions_of, scaled_genomes
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


NAMES = ("depth", "clock", "strategy", "activation") + tuple(
    f"{kind}_{i}" for i in (1, 2) for kind in ("width", "bits", "reuse")
)


def test_compound_scaling_moves_all_genes_of_a_kind_together():
    genomes = np.array([[0, 1, 1, 0, 1, 1, 1, 0, 0, 0], [1, 1, 1, 0, 3, 1, 1, 2, 1, 1]])
    dimensions = dimensions_of(NAMES, PROBLEM.ordered, {"depth": 0.34, "width": 1.0})
    assert {rate: columns.tolist() for rate, columns in dimensions.items()} == {
        0.34: [0],
        1.0: [4, 7],
    }
    scaled = scaled_genomes(PROBLEM, genomes, dimensions, n_steps=3)
    expected = set()
    for depth, first, second, rest in ((0, 1, 0, 0), (1, 3, 2, 1)):
        for phi in (-3, -2, -1, 1, 2, 3):
            grown = np.array(
                [[depth + round(0.34 * phi), 1, 1, 0, first + phi, 1, 1, second + phi, rest, rest]]
            )
            expected.add(tuple(PROBLEM.canonicalize(np.clip(grown, 0, PROBLEM.upper))[0].tolist()))
    assert {tuple(row) for row in scaled.tolist()} == expected - {
        tuple(g) for g in genomes.tolist()
    }
    assert len(scaled) == len({tuple(row) for row in scaled.tolist()})


@pytest.mark.parametrize(
    ("rates", "said"),
    [
        ({"heigth": 1.0}, "unknown dimension of compound scaling"),
        ({"strategy": 1.0}, "mere names"),
        ({"depth": 0.0}, "must be positive"),
    ],
)
def test_dimensions_that_cannot_grow_are_refused(rates, said):
    with pytest.raises(DesignError, match=said):
        dimensions_of(NAMES, PROBLEM.ordered, rates)
