"""Every registered search strategy keeps the promises of ask/tell."""

import importlib.util

import numpy as np
import pytest

from codesign.search.archive import archive_of
from codesign.search.loop import run_search
from codesign.search.problem import Evaluation, check_genomes
from codesign.search.rewards import LexicographicContract
from codesign.search.store import EvaluationStore
from codesign.search.strategies.base import STRATEGIES, StrategySettings, make_strategy
from codesign.search.synthetic import SyntheticProblem, enumerate_space

PROBLEM = SyntheticProblem(lut_limit=1500.0, latency_limit_ns=28.0)
#: Strategies whose every proposal is dear get a smaller budget.
BUDGETS = {"optuna_tpe": 75}
BUDGET = 300

#: optuna rebuilds its models for every proposal.
OPTIONAL = {"optuna_tpe": "optuna"}

strategies = pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=[
                pytest.mark.slow,
                pytest.mark.skipif(
                    importlib.util.find_spec(OPTIONAL[name]) is None,
                    reason=f"the optional package {OPTIONAL[name]} is not installed",
                ),
            ],
        )
        if name in OPTIONAL
        else name
        for name in STRATEGIES.names()
    ],
)


def ask_and_tell(name: str, problem: SyntheticProblem, n_rounds: int, seed: int):
    agent = make_strategy(name, problem, seed=seed)
    asked, told = [], []
    for _ in range(n_rounds):
        genomes = agent.ask()
        evaluation = problem.evaluate(genomes)
        agent.tell(genomes, evaluation)
        asked.append(genomes)
        told.append(evaluation)
    return asked, told


@strategies
def test_asks_for_canonical_genomes_in_bounds_and_none_twice(name):
    asked, _ = ask_and_tell(name, PROBLEM, 6, seed=3)
    genomes = check_genomes(PROBLEM, np.concatenate(asked))
    assert np.array_equal(PROBLEM.canonicalize(genomes), genomes)
    assert len(np.unique(genomes, axis=0)) == len(genomes)


@strategies
def test_same_seed_same_archive_and_no_infeasible_point_in_it(name):
    budget = BUDGETS.get(name, BUDGET)
    first = run_search(PROBLEM, name, n_evaluations=budget, seed=5)
    again = run_search(PROBLEM, name, n_evaluations=budget, seed=5)
    assert np.array_equal(first.genomes, again.genomes)
    assert first.n_evaluations == budget
    assert first.evaluation.is_feasible.all()
    fresh = PROBLEM.evaluate(first.genomes)
    assert np.array_equal(fresh.objectives, first.objectives)
    assert fresh.is_feasible.all()


@strategies
def test_resumed_from_any_prefix_ends_in_the_same_archive(name, tmp_path):
    budget = BUDGETS.get(name, BUDGET)
    whole = run_search(PROBLEM, name, n_evaluations=budget, seed=11)
    with EvaluationStore(tmp_path / "study.db") as store:
        # cut inside a batch, twice
        for n in (budget // 3 + 7, budget // 2 + 1, budget):
            resumed = run_search(PROBLEM, name, n_evaluations=n, seed=11, store=store)
    assert np.array_equal(whole.genomes, resumed.genomes)
    assert np.array_equal(whole.objectives, resumed.objectives)
    assert np.array_equal(whole.found_at, resumed.found_at)


@strategies
def test_a_small_space_is_searched_to_the_end(name):
    problem = SyntheticProblem(n_layers=1, n_widths=3, n_bits=2, n_reuse=2, lut_limit=900.0)
    if name == "moead":
        settings = StrategySettings(population_size=12)
    elif name == "optuna_tpe":
        pytest.skip("optuna takes minutes for a whole space; the other contracts cover it")
    else:
        settings = None
    genomes = enumerate_space(problem.upper)
    truth = archive_of(problem, genomes, problem.evaluate(genomes))
    found = run_search(problem, name, n_evaluations=len(genomes), seed=2, settings=settings)
    assert found.n_evaluations <= len(genomes)
    # a strategy may give up on the last few genomes, not on the front
    assert len(found) >= 0.95 * len(truth)


@strategies
def test_infeasible_everywhere_gives_an_empty_archive(name):
    problem = SyntheticProblem(lut_limit=1e-3)
    archive = run_search(problem, name, n_evaluations=80, seed=1)
    assert len(archive) == 0
    assert archive.n_feasible == 0


@strategies
def test_infinite_objectives_of_infeasible_genomes_are_harmless(name):
    class Holes(SyntheticProblem):
        def evaluate(self, genomes):
            plain = super().evaluate(genomes)
            broken = ~plain.is_feasible & (genomes[:, 1] % 2 == 0)
            return Evaluation(
                objectives=np.where(broken[:, None], np.nan, plain.objectives),
                violations=np.where(broken[:, None], np.inf, plain.violations),
            )

    budget = BUDGETS.get(name, 200)
    archive = run_search(Holes(lut_limit=1500.0), name, n_evaluations=budget, seed=1)
    assert np.isfinite(archive.objectives).all()


@strategies
def test_given_genomes_are_asked_for_first(name):
    if name == "exhaustive":
        pytest.skip("exhaustive asks for everything, in one fixed order")
    initial = np.array([[1, 2, 1, 0, 3, 2, 1, 2, 2, 1], [0, 1, 2, 0, 3, 2, 1, 0, 0, 0]])
    agent = make_strategy(
        name, PROBLEM, seed=0, settings=StrategySettings(initial=initial.astype(np.int64))
    )
    first = {tuple(row) for row in agent.ask().tolist()}
    assert {tuple(row) for row in initial.tolist()} <= first


SCALAR = ("regularized_evolution", "simulated_annealing", "reinforce", "nanonas")


@pytest.mark.parametrize("name", SCALAR)
def test_scalar_strategies_maximise_the_reward_they_are_given(name):
    contract = LexicographicContract(error="error", limits=(("latency_ns", 20.0), ("lut", 1000.0)))
    problem = SyntheticProblem()
    archive = run_search(
        problem, name, n_evaluations=600, seed=0, settings=StrategySettings(reward=contract)
    )
    genomes = enumerate_space(problem.upper)
    everything = problem.evaluate(genomes)
    values = contract(everything, problem.objective_names)[everything.is_feasible]
    best = contract(archive.evaluation, problem.objective_names).max()
    assert (values > best).mean() < 0.005
