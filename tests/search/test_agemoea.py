"""The survival of AGE-MOEA: pymoo's, individual by individual, and the paper's geometry by hand."""

import numpy as np
import pytest

from codesign.errors import DesignError
from codesign.search.strategies.agemoea import GeometrySurvival, survival_score
from codesign.search.strategies.base import make_strategy


def sphere(n, seed, exponent=2.0):
    """Draw points of the positive unit sphere of a norm: all nondominated."""
    drawn = np.random.default_rng(seed).random((n, 3)) + 1e-3
    return drawn / (drawn**exponent).sum(axis=1, keepdims=True) ** (1.0 / exponent)


@pytest.mark.parametrize("exponent", [0.6, 1.0, 2.0, 4.0])
def test_the_exponent_of_a_known_front_is_found(exponent):
    corners = np.eye(3)
    front = np.concatenate([corners, sphere(600, 0, exponent)])
    _, found, scale = survival_score(front, np.zeros(3))
    assert found == pytest.approx(exponent, rel=0.1)  # the member nearest the diagonal is off it
    assert scale == pytest.approx(np.ones(3))


def test_corners_come_first_and_crowded_members_last():
    # three near copies: the last of them to be taken has both of its nearest members beside it
    copies = sphere(1, 1) + 1e-6 * np.array([[0, 0, 0], [1, -1, 0], [-1, 0, 1]])
    front = np.concatenate([np.eye(3), sphere(20, 2), copies])
    score, _, _ = survival_score(front, np.zeros(3))
    assert np.isinf(score[:3]).all()
    assert np.isfinite(score[3:]).all()
    assert score.argmin() >= len(front) - 3


def test_one_objective_has_no_geometry():
    class Single:
        upper = np.array([3])
        objective_names = ("error",)

    with pytest.raises(DesignError, match="two objectives"):
        make_strategy("agemoea", Single(), seed=0)


@pytest.mark.parametrize("seed", range(6))
def test_survivors_and_scores_are_those_of_pymoo(seed):
    pytest.importorskip("numba", reason="pymoo's AGE-MOEA, the oracle, needs numba")
    from pymoo.algorithms.moo.age import AGEMOEASurvival
    from pymoo.core.population import Population
    from pymoo.core.problem import Problem

    generator = np.random.default_rng(seed)
    objectives = np.concatenate([sphere(40, seed), 1.0 + generator.random((60, 3))])
    if seed % 2:
        objectives[:, 0] = np.round(objectives[:, 0], 1)  # ties
    problem = Problem(n_var=1, n_obj=3, n_ieq_constr=1)
    found = []
    for survival in (GeometrySurvival(), AGEMOEASurvival()):
        population = Population.new("X", np.arange(100)[:, None], "F", objectives.copy())
        population.set("G", np.where(np.arange(100) % 7 == 0, 1.0, -1.0)[:, None])
        kept = survival.do(problem, population, n_survive=50)
        order = np.argsort(kept.get("X")[:, 0])
        found.append((kept.get("X")[order, 0], kept.get("crowding")[order].astype(float)))
    assert np.array_equal(found[0][0], found[1][0])
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-9)
