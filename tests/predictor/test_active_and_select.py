"""Which labels to buy, which method to trust, and the figures that decide."""

import numpy as np
import pytest
from scipy.stats import norm

from codesign.encoding.graph import Graph, batch_from_graphs
from codesign.errors import PredictorError
from codesign.predictor.active import expected_improvement, select_informative
from codesign.predictor.base import METHODS, PredictedScores
from codesign.predictor.metrics import conformal_scale, kendall_tau, measure, top_regret
from codesign.predictor.scores import NormalScores
from codesign.predictor.select import choose


def test_expected_improvement_equals_simulation() -> None:
    random = np.random.default_rng(0)
    draws = random.normal(0.7, 0.1, 200_000)
    expected = np.maximum(draws - 0.75, 0).mean()
    value = expected_improvement(np.array([0.7]), np.array([0.1]), np.array([0.75]))[0]
    # Monte Carlo error of 200,000 draws of values below 0.1: about 1e-4.
    assert value == pytest.approx(expected, abs=5e-4)
    assert expected_improvement(np.array([0.8]), np.zeros(1), np.array([0.75]))[0] == pytest.approx(
        0.05
    )


def test_selection_prefers_what_can_move_the_front() -> None:
    mean = np.array([0.70, 0.74, 0.74, 0.60])
    std = np.array([0.01, 0.01, 0.01, 0.01])
    costs = np.array([[10.0], [10.0], [200.0], [5.0]])
    front = np.array([[0.71, 10.0], [0.74, 100.0]])
    # 1 beats the front at its cost by far; 3 is cheaper than anything known.
    assert set(select_informative(mean, std, costs, front, 2)) == {1, 3}


def test_selection_spreads_instead_of_taking_twins() -> None:
    mean, std = np.array([0.75, 0.75, 0.72]), np.full(3, 0.005)
    costs = np.array([[50.0], [50.0], [10.0]])
    chosen = select_informative(mean, std, costs, np.array([[0.70, 10.0]]), 2)
    assert set(chosen) == {0, 2}


def test_selection_gives_every_candidate_when_asked_for_more_and_refuses_nonsense() -> None:
    mean, std, costs = np.array([0.7, 0.8]), np.full(2, 0.1), np.array([[1.0], [2.0]])
    assert sorted(select_informative(mean, std, costs, np.zeros((0, 2)), 9)) == [0, 1]
    with pytest.raises(PredictorError, match="do not fit"):
        select_informative(mean, std, costs[:1], np.zeros((0, 2)), 1)
    with pytest.raises(PredictorError, match="not finite"):
        select_informative(np.array([0.7, np.nan]), std, costs, np.zeros((0, 2)), 1)
    with pytest.raises(PredictorError, match="at least 1"):
        select_informative(mean, std, costs, np.zeros((0, 2)), 0)


def test_conformal_scale_widens_overconfident_and_narrows_timid_intervals() -> None:
    random = np.random.default_rng(0)
    error = random.normal(size=5000)
    for claimed in (0.25, 1.0, 4.0):
        scale = conformal_scale(error, np.zeros(5000), np.full(5000, claimed))
        assert scale * claimed == pytest.approx(1.0, rel=0.05)


def test_measure_counts_coverage_and_regret() -> None:
    labels = np.array([0.1, 0.2, 0.3, 0.9])
    predicted = PredictedScores(mean=np.array([0.1, 0.2, 0.3, 0.4]), std=np.full(4, 0.1))
    figures = measure(labels, predicted)
    assert figures.tau == 1.0 and figures.coverage_90 == 0.75 and figures.top10_regret == 0.0
    assert top_regret(labels, -labels, n_top=1) == pytest.approx(0.8)
    assert kendall_tau(labels, np.zeros(4)) == 0.0


def test_normal_scores_are_monotone_and_invertible_also_beyond_the_labels() -> None:
    labels = np.random.default_rng(0).gamma(2.0, size=40)
    scores = NormalScores.fit(np.append(labels, labels[:3]))
    probe = np.linspace(labels.min() - 1, labels.max() + 1, 300)
    assert (np.diff(scores.to_scores(probe)) > 0).all()
    np.testing.assert_allclose(scores.to_labels(scores.to_scores(probe)), probe, atol=1e-9)
    assert scores.to_scores(np.median(labels)) == pytest.approx(0.0, abs=0.2)
    assert norm.cdf(scores.scores[-1]) < 1


def test_choice_names_the_best_and_its_rivals() -> None:
    from tests.predictor.test_predictor_methods import chains

    batch, labels = chains(60, seed=0)
    choice = choose(batch, labels, seed=0, contenders=("ridge", "kernel_ridge", "gp_globals"))
    assert choice.method in choice.reason
    assert set(choice.taus) == {"ridge", "kernel_ridge", "gp_globals"}
    assert choice.taus[choice.method] >= max(choice.taus.values()) - 0.01
    with pytest.raises(PredictorError, match="raw graphs"):
        choose(batch, labels, seed=0, contenders=("ridge_raw",))


def macro(n: int, seed: int):
    """Networks of eight places with one of three operators each, one of them the identity, and what places make of them."""
    random = np.random.default_rng(7)
    worth, pairs = random.normal(size=(8, 3)), 0.3 * random.normal(size=(7, 3, 3))
    ops = np.random.default_rng(seed).integers(0, 3, (n, 8))
    labels = worth[np.arange(8), ops].sum(axis=1)
    labels += pairs[np.arange(7), ops[:, :-1], ops[:, 1:]].sum(axis=1)
    names = ("skip", "narrow", "wide")
    graphs = [
        Graph(
            name=str(i),
            ops=("input", *(names[op] for op in row), "output"),
            roles=(None, *(("identity", None, None)[op] for op in row), None),
            attributes=({},) * 10,
            edges=tuple((k, k + 1, 1.0) for k in range(9)),
        )
        for i, row in enumerate(ops.tolist())
    ]
    return graphs, labels


def test_where_places_say_most_the_default_is_no_worse_than_positional_regression() -> None:
    graphs, labels = macro(900, seed=1)
    canonical, raw = (batch_from_graphs(graphs, canonical=c) for c in (True, False))
    known, unseen = np.arange(156), np.arange(156, 900)
    choice = choose(
        canonical.take(known),
        labels[known],
        seed=0,
        contenders=("kernel_ridge", "gp_globals"),
        raw=raw.take(known),
    )
    assert choice.method == "kernel_ridge_raw" and "kernel_ridge_raw of" in choice.reason
    found = kendall_tau(labels[unseen], choice.predictor.predict(raw.take(unseen)).mean)
    blind = METHODS.get("kernel_ridge").fit(canonical.take(known), labels[known], seed=0)
    lost = kendall_tau(labels[unseen], blind.predict(canonical.take(unseen)).mean)
    assert found > 0.6 > lost + 0.1
