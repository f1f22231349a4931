"""Chosen designs sharpen the front; what is known already is not asked for again."""

import numpy as np
import pytest

from codesign.errors import DesignError
from codesign.synthesis.experiments import Responses, choose_designs


def _same(rows):
    return {"lut": Responses(rows=tuple(rows))}


def test_every_choice_sharpens_and_the_first_is_the_best_single_one():
    rng = np.random.default_rng(0)
    names = [f"term:{k}" for k in range(5)]
    pool = [dict(zip(names, rng.dirichlet(np.ones(5)), strict=True)) for _ in range(12)]
    front = pool[:3]
    before, choices = choose_designs(_same(pool), _same(front), _same([]), 5)
    spreads = [before, *(choice.front_std for choice in choices)]
    assert all(later < earlier for earlier, later in zip(spreads[:-1], spreads[1:], strict=True))
    assert len({choice.index for choice in choices}) == 5
    mean_variance = []
    for row in pool:
        x = np.array([row[name] for name in names])
        f = np.array([[r[name] for name in names] for r in front])
        covariance = np.linalg.inv(np.eye(5) / 0.6**2 + np.outer(x, x) / 0.25**2)
        mean_variance.append(np.einsum("ij,jk,ik->i", f, covariance, f).mean())
    assert choices[0].index == int(np.argmin(mean_variance))


def test_designs_that_share_no_term_with_the_front_come_last():
    pool = [{"term:other": 1.0}, {"term:mine": 1.0}, {"term:mine": 0.1, "term:other": 0.9}]
    _, choices = choose_designs(_same(pool), _same([{"term:mine": 1.0}]), _same([]), 3)
    assert [choice.index for choice in choices] == [1, 2, 0]


def test_known_terms_are_not_asked_for_again():
    pool = [{"term:a": 1.0}, {"term:b": 1.0}]
    front = [{"term:a": 0.5, "term:b": 0.5}]
    _, (choice,) = choose_designs(_same(pool), _same(front), _same([{"term:a": 1.0}] * 20), 1)
    assert choice.index == 1


def test_impossible_requests_are_refused():
    with pytest.raises(DesignError, match="ask for fewer"):
        choose_designs(_same([{"term:a": 1.0}]), _same([{"term:a": 1.0}]), _same([]), 2)
    with pytest.raises(DesignError, match="front is empty"):
        choose_designs(_same([{"term:a": 1.0}]), _same([]), _same([]), 1)
