"""Scores of populations: the same alone and together, hard budgets, constraints named."""

from dataclasses import replace

import numpy as np
import pytest

from codesign.errors import BudgetError, ConfigError
from codesign.hardware.device import Budget, load_budget, load_device
from codesign.hardware.scorer import (
    HardwareScorer,
    constraint_names,
    limits,
    pessimistic,
    violations,
)
from codesign.joint import JointProblem, check_budget
from codesign.resources import data_root
from codesign.space import load_space
from hw_models.types import METRICS, Estimate


@pytest.fixture(scope="module")
def space():
    return load_space("mlp_l1", n_inputs=16, n_outputs=5)


@pytest.fixture(scope="module")
def scorer():
    return HardwareScorer(device=load_device("xcvu13p"))


@pytest.fixture(scope="module")
def genomes(space):
    return space.sample(300, np.random.default_rng(0))


def test_every_shipped_device_and_budget_loads_with_its_source():
    for path in (data_root("constraints") / "devices").glob("*.yaml"):
        assert load_device(path.stem).source
    for path in (data_root("constraints") / "budgets").glob("*.yaml"):
        assert load_budget(path.stem).source


def test_an_unknown_device_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'xcvu13p'"):
        load_device("xcvu13")


def test_a_population_scores_as_its_members_do(space, scorer, genomes):
    together = scorer.score(space.decode(genomes))
    for i in (0, 13, 299):
        alone = scorer.score(space.decode(genomes[i : i + 1]))
        for name, known in alone.metrics.items():
            for end in ("value", "low", "high"):
                assert getattr(known, end)[0] == pytest.approx(
                    getattr(together.metrics[name], end)[i], rel=1e-9
                )


def test_values_lie_in_their_intervals_and_are_finite(space, scorer, genomes):
    scores = scorer.score(space.decode(genomes))
    for name in METRICS:
        known = scores.metrics[name]
        assert np.isfinite(known.value).all() and (known.value >= 0).all(), name
        assert (known.low <= known.value).all() and (known.value <= known.high).all(), name
    assert (scores.metrics["latency_cycles"].value >= 1).all()


def test_distributed_arithmetic_uses_no_dsp_and_interval_one(space, scorer, genomes):
    population = space.decode(genomes)
    scores, is_rtl = scorer.score(population), population.is_rtl
    assert is_rtl.any() and not is_rtl.all()
    assert (scores.metrics["dsp"].value[is_rtl] == 0).all()
    assert (scores.metrics["interval_cycles"].value[is_rtl] == 1).all()


def test_every_flow_and_io_type_is_scored_as_itself(space, scorer, genomes):
    """A mixed population costs what its parts cost when each is the whole."""
    population = space.decode(genomes)
    stream = np.where(population.is_rtl, 0, np.arange(300) % 2)
    mixed = scorer.score(replace(population, io_type=stream)).metrics
    parallel = scorer.score(population).metrics
    all_stream = scorer.score(replace(population, io_type=1 - population.is_rtl)).metrics
    for name in METRICS:
        expected = np.where(stream == 1, all_stream[name].value, parallel[name].value)
        assert np.allclose(mixed[name].value, expected, rtol=1e-9), name
    assert (all_stream["ff"].value != parallel["ff"].value)[~population.is_rtl].mean() > 0.9


def test_taking_candidates_out_changes_none_of_them(space, scorer, genomes):
    population = space.decode(genomes)
    members = np.arange(300) % 3 == 0
    part = scorer.score(population.take(members))
    whole = scorer.score(population)
    assert np.allclose(part.metrics["lut"].value, whole.metrics["lut"].value[members], rtol=1e-12)


def test_violations_are_relative_and_named(space, scorer, genomes):
    budget = load_budget("l1_100ns").model_copy(update={"confidence": 0.5})
    device = load_device("xcvu13p")
    scores = scorer.score(space.decode(genomes))
    excess = violations(scores, budget, device)
    names = constraint_names(budget)
    assert excess.shape == (300, len(names))
    limit = limits(budget, device)["latency_ns"]
    expected = scores.metrics["latency_ns"].value / limit - 1
    assert np.allclose(excess[:, names.index("latency_ns")], expected)


def test_more_confidence_is_never_more_optimistic():
    known = Estimate(
        value=np.array([10.0, 100.0]), low=np.array([5.0, 80.0]), high=np.array([30.0, 150.0])
    )
    values = [pessimistic(known, c) for c in (0.5, 0.7, 0.9, 0.95)]
    assert np.allclose(values[0], known.value)
    assert np.allclose(values[-1], known.high)
    assert all((b >= a).all() for a, b in zip(values, values[1:], strict=False))


@pytest.mark.parametrize(
    ("update", "named"),
    [({"latency_ns": 0.5}, "latency_ns"), ({"maximum": {"lut": 3.0}}, "lut")],
)
def test_a_hopeless_limit_is_named_with_what_was_found(space, scorer, update, named):
    budget = load_budget("l1_100ns").model_copy(update=update)
    with pytest.raises(BudgetError, match=f"none meets.*{named}.*least found"):
        check_budget(space, scorer, budget, seed=1, n_samples=400)


def test_a_budget_with_an_unknown_resource_is_refused():
    with pytest.raises(ValueError, match="unknown resource"):
        Budget.model_validate(load_budget("l1_100ns").model_dump() | {"maximum": {"urams": 3}})


def test_the_joint_problem_hides_infeasible_accuracy_and_minimises_everything(
    space, scorer, genomes
):
    asked = []

    def score(population):
        asked.append(population.n_candidates)
        return np.full(population.n_candidates, 0.7), np.full(population.n_candidates, 0.01)

    problem = JointProblem(
        space=space,
        scorer=scorer,
        budget=load_budget("l1_100ns").model_copy(update={"confidence": 0.5}),
        score=score,
        objectives=("score", "latency_ns", "lut"),
        pessimism=1.0,
    )
    evaluation = problem.evaluate(genomes)
    assert asked == [int(evaluation.is_feasible.sum())]
    assert np.allclose(evaluation.objectives[evaluation.is_feasible, 0], 1 - 0.69)
    assert problem.objective_names == ("error", "latency_ns", "lut")
