"""Rewards, metrics, uncertainty: formulas against hand-made or brute-force oracles."""

import numpy as np
import pytest

from codesign.errors import DesignError
from codesign.search.archive import archive_of
from codesign.search.metrics import normalized_hypervolume
from codesign.search.problem import Evaluation
from codesign.search.rewards import (
    LexicographicContract,
    LinearPenaltyReward,
    LogCostReward,
    MnasnetReward,
)
from codesign.testing.synthetic import SyntheticProblem, enumerate_space
from tests.benchmarks._front_metrics import (
    attainment_surface,
    hypervolume_curve,
    regret,
    share_of_front_found,
)

NAMES = ("error", "latency_ns", "share")


def evaluation_of(rows):
    objectives = np.array(rows, dtype=float)
    return Evaluation(objectives=objectives, violations=np.zeros((len(rows), 1)))


def test_mnasnet_reward_is_the_papers_formula():
    reward = MnasnetReward(error="error", cost="latency_ns", target=100.0, alpha=0.0, beta=-1.0)
    values = reward(evaluation_of([[0.3, 50.0, 0.1], [0.3, 200.0, 0.1]]), NAMES)
    assert values == pytest.approx([0.7, 0.35])


def test_log_and_linear_rewards_are_their_formulas():
    rows = evaluation_of([[0.3, np.e, 0.1], [0.3, 2.0, 0.1]])
    log = LogCostReward(error="error", cost="latency_ns", weight=0.2)(rows, NAMES)
    assert log == pytest.approx([0.5, 0.7 - 0.2 * np.log(2.0)])
    linear = LinearPenaltyReward(error="error", cost="latency_ns", target=2.5, weight=0.5)
    assert linear(rows, NAMES) == pytest.approx([0.7 - 0.5 * (np.e / 2.5 - 1.0), 0.7])


def test_the_contract_is_lexicographic():
    contract = LexicographicContract(error="error", limits=(("latency_ns", 100.0), ("share", 0.2)))
    ascending = [
        [0.01, 1000.0, 0.01],  # misses the first limit by far, however accurate
        [0.90, 110.0, 0.01],
        [0.01, 90.0, 0.90],  # meets the first, misses the second
        [0.90, 90.0, 0.21],
        [0.90, 99.0, 0.19],  # meets all
        [0.20, 100.0, 0.20],
    ]
    values = contract(evaluation_of(ascending), NAMES)
    assert (np.diff(values) > 0).all()


def test_rewards_refuse_what_they_cannot_use():
    rows = evaluation_of([[0.3, 0.0, 0.1]])
    with pytest.raises(DesignError, match="needs positive costs"):
        LogCostReward(error="error", cost="latency_ns", weight=0.2)(rows, NAMES)
    with pytest.raises(DesignError, match="unknown objective 'lut'"):
        LogCostReward(error="error", cost="lut", weight=0.2)(rows, NAMES)
    with pytest.raises(DesignError, match="positive"):
        MnasnetReward(error="error", cost="latency_ns", target=0.0)


def test_hypervolume_agrees_with_counting_cells():
    generator = np.random.default_rng(0)
    points = generator.integers(0, 10, size=(30, 3)).astype(float)
    # unit cells of the grid 0..11 whose lower corner is dominated by a point; margin 0.1 of 10 = 1
    cells = np.stack(np.meshgrid(*[np.arange(11)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    counted = (points[:, None, :] <= cells[None, :, :]).all(axis=2).any(axis=0).sum()
    volume = normalized_hypervolume(points, ideal=np.zeros(3), nadir=np.full(3, 10.0))
    assert volume == pytest.approx(counted / 1000.0, rel=1e-12)


def test_the_true_front_has_no_regret_and_everything_else_some():
    problem = SyntheticProblem(n_layers=1)
    genomes = enumerate_space(problem.upper)
    evaluation = problem.evaluate(genomes)
    truth = archive_of(problem, genomes, evaluation)
    assert regret(truth, truth.objectives) == 0
    assert share_of_front_found(truth, truth.objectives) == 1
    part = archive_of(problem, genomes[::7], evaluation.take(slice(None, None, 7)))
    assert 0 < regret(part, truth.objectives) < 1
    assert share_of_front_found(part, truth.objectives) < 1


def test_hypervolume_never_falls_with_more_evaluations():
    problem = SyntheticProblem()
    generator = np.random.default_rng(1)
    genomes = generator.integers(0, problem.upper + 1, size=(500, len(problem.upper)))
    evaluation = problem.evaluate(genomes)
    rows = np.flatnonzero(evaluation.is_feasible)
    objectives = evaluation.objectives[rows]
    curve = hypervolume_curve(
        objectives,
        rows,
        np.arange(0, 501, 50),
        ideal=objectives.min(axis=0),
        nadir=objectives.max(axis=0),
    )
    assert curve[0] == 0
    assert (np.diff(curve) >= 0).all()


def test_median_attainment_lies_between_the_runs():
    fronts = [np.array([[0.0, 2.0 + i], [1.0, 1.0 + i]]) for i in range(3)]
    surface = attainment_surface(fronts, 50.0)
    assert {tuple(row) for row in surface.tolist()} == {(0.0, 3.0), (1.0, 2.0)}
