"""The archive holds exactly the feasible nondominated genomes, whatever the batching."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.errors import DesignError
from codesign.search.archive import archive_of, empty_archive
from codesign.search.problem import Evaluation
from codesign.testing.synthetic import SyntheticProblem, enumerate_space

PROBLEM = SyntheticProblem(n_layers=1)


def brute_force(objectives, feasible):
    kept = []
    for i, a in enumerate(objectives):
        beaten = not feasible[i] or any(
            feasible[j] and (b <= a).all() and ((b < a).any() or j < i)
            for j, b in enumerate(objectives)
            if j != i
        )
        if not beaten:
            kept.append(i)
    return kept


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), n_batches=st.integers(1, 5))
def test_agrees_with_brute_force_for_any_batching(seed, n_batches):
    generator = np.random.default_rng(seed)
    # few distinct values: ties and equal vectors are frequent
    objectives = generator.integers(0, 4, size=(40, 3)).astype(float)
    violations = generator.integers(-2, 2, size=(40, 2)).astype(float)
    genomes = np.arange(40, dtype=np.int64)[:, None] * np.ones((1, len(PROBLEM.upper)), np.int64)
    archive = empty_archive(PROBLEM)
    for rows in np.array_split(np.arange(40), n_batches):
        part = Evaluation(objectives=objectives[rows], violations=violations[rows])
        archive = archive.add(genomes[rows], part)
    expected = brute_force(objectives, (violations <= 0).all(axis=1))
    assert archive.genomes[:, 0].tolist() == expected
    assert archive.found_at.tolist() == expected
    assert archive.n_evaluations == 40
    assert archive.n_feasible == int((violations <= 0).all(axis=1).sum())


def test_merging_two_archives_is_the_archive_of_both():
    genomes = enumerate_space(PROBLEM.upper)
    evaluation = PROBLEM.evaluate(genomes)
    half = len(genomes) // 2
    left = archive_of(PROBLEM, genomes[:half], evaluation.take(slice(0, half)))
    right = archive_of(PROBLEM, genomes[half:], evaluation.take(slice(half, None)))
    whole = archive_of(PROBLEM, genomes, evaluation)
    merged = left.merge(right)
    assert np.array_equal(merged.genomes, whole.genomes)
    assert np.array_equal(merged.found_at, whole.found_at)
    assert merged.n_feasible == whole.n_feasible
    assert np.array_equal(merged.metrics["cycles"], whole.metrics["cycles"])


def test_an_evaluation_that_makes_no_sense_is_refused():
    ok = np.zeros((2, 1))
    with pytest.raises(DesignError, match="not finite"):
        Evaluation(objectives=np.array([[np.nan], [0.0]]), violations=ok)
    with pytest.raises(DesignError, match="NaN violations"):
        Evaluation(objectives=ok, violations=np.array([[np.nan], [0.0]]))
    with pytest.raises(DesignError, match="shape"):
        Evaluation(objectives=ok, violations=np.zeros((3, 1)))
    with pytest.raises(DesignError, match="one per genome"):
        Evaluation(objectives=ok, violations=ok, metrics={"x": np.zeros(3)})
