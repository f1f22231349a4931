"""What a study's YAML can ask of the search: rewards, filters, attitudes to uncertainty, workers."""

import pickle
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from multiprocessing import get_context

import numpy as np
import pytest

from codesign.config import parse
from codesign.errors import ConfigError
from codesign.hardware.device import load_budget, load_device
from codesign.hardware.scorer import HardwareScorer
from codesign.joint import JointProblem, limit_problem, make_reward
from codesign.pipeline import plan_study, run_study
from codesign.predictor.base import METHODS, load_predictor
from codesign.predictor.pretrained import load_pretrained
from codesign.results import Labels, Search
from codesign.search.loop import Parallel, run_search
from codesign.search.profilers import SpaceProfiler
from codesign.search.strategies.base import StrategySettings
from codesign.space import load_space
from codesign.stages.setting import (
    PredictorScore,
    make_problem,
    open_setting,
    strategy_settings,
    unknown_score,
)
from codesign.study import FilterSection, RewardSection, Study, StudyConfig

SPACE = load_space("mlp_tiny", n_inputs=16, n_outputs=5)
SCORER = HardwareScorer(device=load_device("xcvu13p"))
BUDGET = load_budget("l1_100ns")


@dataclass(frozen=True)
class Made:
    """PredictedScores that grows with the number of nodes' outputs; as uncertain for every second design."""

    def __call__(self, population):
        n = population.n_candidates
        size = np.bincount(population.candidate, population.columns["n_out"], minlength=n)
        mean = 0.5 + 0.3 * size / (size + 50.0)
        return mean, np.where(np.round(size).astype(int) % 3 == 0, 0.05, 0.001)


def joint(**options):
    return JointProblem(
        space=SPACE,
        scorer=SCORER,
        budget=options.pop("budget", BUDGET),
        score=Made(),
        objectives=("score", "latency_ns", "lut"),
        **options,
    )


def sample(n=400):
    return np.unique(SPACE.sample(n, np.random.default_rng(0)), axis=0)


def test_a_chance_constraint_on_accuracy_is_stricter_where_less_is_known():
    genomes = sample()
    mean = joint(minimum_score=0.62).evaluate(genomes)
    sure = joint(minimum_score=0.62, score_confidence=0.95).evaluate(genomes)
    score, std = mean.metrics["score"], mean.metrics["score_std"]
    fits = joint().evaluate(genomes).is_feasible
    assert np.array_equal(mean.is_feasible, fits & (score >= 0.62 - 1e-12))
    assert np.array_equal(sure.is_feasible, fits & (score - 1.6448536 * std >= 0.62))
    assert 0 < sure.is_feasible.sum() < mean.is_feasible.sum()


def test_hardware_objectives_are_means_or_pessimistic_and_limits_stay_chance_constraints():
    genomes = sample()
    pessimistic = joint().evaluate(genomes)
    mean = joint(hardware_confidence=0.5).evaluate(genomes)
    assert (pessimistic.objectives[:, 1:] >= mean.objectives[:, 1:]).all()
    assert mean.objectives[:, 2] == pytest.approx(mean.metrics["lut"])
    assert np.array_equal(mean.violations, pessimistic.violations)
    bold = joint(budget=BUDGET.model_copy(update={"confidence": 0.5})).evaluate(genomes)
    assert bold.is_feasible.sum() > pessimistic.is_feasible.sum()


def test_a_filter_of_the_study_limits_the_archive():
    section = FilterSection(mode="drop", at_most={"memory_bytes": 120.0, "bops": 30_000.0})
    problem = limit_problem(joint(), section, SPACE, SCORER)
    archive = run_search(problem, "directed_nsga2", n_evaluations=300, seed=0)
    assert len(archive) > 3
    for figure, limit in section.at_most.items():
        values = SpaceProfiler(space=SPACE, scorer=SCORER, figure=figure)(archive.genomes)
        assert (values <= limit).all()
    free = run_search(joint(), "directed_nsga2", n_evaluations=300, seed=0)
    assert SpaceProfiler(space=SPACE, scorer=SCORER, figure="bops")(free.genomes).max() > 30_000


def test_tables_of_figures_change_no_search():
    section = FilterSection(mode="drop", at_most={"bops": 30_000.0, "energy_nj": 2.0})
    tabled = section.model_copy(update={"tables": True})
    found = [
        run_search(limit_problem(joint(), s, SPACE, SCORER), "nsga2", n_evaluations=300, seed=0)
        for s in (section, tabled)
    ]
    assert np.array_equal(found[0].genomes, found[1].genomes)


@pytest.mark.parametrize(
    "section",
    [
        {"kind": "mnasnet", "target": 40.0},
        {"kind": "log_cost", "cost": "lut", "weight": 0.05},
        {"kind": "linear_penalty", "target": 40.0, "weight": 0.5},
        {"kind": "contract", "limits": {"latency_ns": 40.0, "lut": 2000.0}},
    ],
)
def test_every_reward_of_a_study_finds_its_own_best_design(section):
    reward = make_reward(RewardSection(**section))
    problem = joint()
    archive = run_search(
        problem,
        "regularized_evolution",
        n_evaluations=800,
        seed=1,
        settings=StrategySettings(reward=reward),
    )
    genomes = sample(6000)
    rivals = problem.evaluate(genomes)
    values = reward(rivals, problem.objective_names)[rivals.is_feasible]
    found = reward(archive.evaluation, problem.objective_names).max()
    assert (values > found).mean() < 0.002


@pytest.fixture(scope="module")
def pool():
    """Two worker processes; starting them takes most of the time."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        yield executor


def test_worker_processes_change_nothing_and_get_the_predictor(pool):
    problem = replace(joint(), score=PredictorScore(predictor=load_pretrained()))
    alone = Parallel(executor=None, chunk_size=16)
    serial = run_search(problem, "directed_nsga2", n_evaluations=120, seed=0, parallel=alone)
    parallel = Parallel(executor=pool, chunk_size=16)
    spread = run_search(problem, "directed_nsga2", n_evaluations=120, seed=0, parallel=parallel)
    assert np.array_equal(serial.genomes, spread.genomes)
    assert np.array_equal(serial.objectives, spread.objectives)


def test_a_graph_network_goes_to_workers_too():
    from codesign.encoding.population import encode_population

    population = SPACE.decode(sample()[:40])
    batch = encode_population(population)
    fitted = METHODS.get("ridge").fit(batch, Made()(population)[0], seed=0)
    again = pickle.loads(pickle.dumps(PredictorScore(predictor=fitted)))
    assert np.array_equal(again(population)[0], fitted.predict(batch).mean)


def study_of(tmp_path, **search):
    config = StudyConfig.model_validate(
        {"name": "s", "space": "mlp_tiny", "labels": {"n_initial": 16}, "search": search}
    )
    return Study.at(tmp_path / "s", config).begin()


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ({"reward": {"kind": "log_cost"}}, "search.strategy: .*takes no reward"),
        ({"filter": {"at_most": {"bops": -1.0}}}, "search.filter: .*expected a positive number"),
        (
            {"filter": {"at_most": {"lut": 900.0}, "tables": True}},
            "search.filter: .*leave tables out",
        ),
        (
            {"islands": {"n_islands": 40}, "n_evaluations": 100, "n_rounds": 1},
            "search.islands: .*raise the budget",
        ),
        ({"scaling": {"rates": {"wdith": 1.0}}}, "search.scaling: .*did you mean 'width'"),
        ({"scaling": {"rates": {"strategy": 1.0}}}, "search.scaling: .*mere names"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_any_label_is_trained(tmp_path, search, said):
    study = study_of(tmp_path, **search)
    with pytest.raises(ConfigError, match=said):
        run_study(study, until="prepare")
    assert "prepare" not in study.results()


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ({"reward": {"kind": "mnasnet"}}, "needs a target"),
        ({"reward": {"kind": "contract"}}, "needs limits"),
        ({"filter": {"at_most": {}}}, "at_most"),
        ({"score_confidence": 1.0}, "score_confidence"),
        ({"weight_sharing": {"methods": ["darts"]}}, "weight_sharing"),
        ({"islands": {"n_islands": 1}}, "n_islands"),
        ({"scaling": {"rates": {}}}, "rates"),
        ({"scaling": {"rates": {"depth": -1}}}, "rates"),
    ],
)
def test_incomplete_sections_are_named(search, said):
    with pytest.raises(ConfigError, match=said):
        parse(StudyConfig, {"name": "s", "search": search}, where="s.yaml")


def test_the_settings_of_a_study_reach_the_search(tmp_path):
    study = study_of(
        tmp_path,
        strategy="regularized_evolution",
        population_size=50,
        reward={"kind": "mnasnet", "target": 50.0},
        filter={"at_most": {"parameters": 900.0}},
        hardware_of="mean",
    )
    setting = open_setting(study)
    settings = strategy_settings(setting, None)
    assert settings.population_size == 50
    assert settings.reward is not None
    problem = make_problem(setting, unknown_score)
    assert problem.constraint_names[0] == "parameters at most"
    assert problem.problem.hardware_confidence == 0.5


def searched(folder, executor, *, seed=1, **search):
    """Run a small study up to its front with the given search, on an executor."""
    config = StudyConfig.model_validate(
        {
            "name": "s",
            "seed": seed,
            "space": "mlp_tiny",
            "task": {"options": {"n_train_max": 600, "n_test_max": 200}},
            "labels": {"n_initial": 12, "n_per_round": 3, "epochs": 1, "predictor": "ridge"},
            "search": {"n_evaluations": 600, "n_rounds": 2, "strategy": "nsga2", **search},
        }
    )
    study = Study.at(folder, config).begin()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("codesign.pipeline.open_pool", lambda *_, **__: nullcontext(executor))
        patch.setattr("codesign.stages.setting.open_pool", lambda *_, **__: nullcontext(executor))
        run_study(study, until="search")
    return study


def test_islands_of_a_study_find_the_same_whoever_runs_them(tmp_path, pool):
    islands = {"n_islands": 3, "n_exchanges": 1, "n_migrants": 10}
    alone = searched(tmp_path / "alone", None, islands=islands).results()
    spread = searched(tmp_path / "spread", pool, islands=islands).results()
    assert alone.of(Labels)[1].scores == spread.of(Labels)[1].scores
    for one, other in zip(alone.of(Search), spread.of(Search), strict=True):
        assert one.front_genomes == other.front_genomes and one.points == other.points
        assert one.n_evaluations == other.n_evaluations == 300
    single = searched(tmp_path / "single", None).results()
    assert single.of(Search)[0].front_genomes != alone.of(Search)[0].front_genomes


def test_same_seed_same_archive_with_one_worker_and_with_two(tmp_path, pool):
    first, again = (searched(tmp_path / name, None) for name in ("first", "again"))
    two = searched(tmp_path / "two", pool, n_workers=2)
    for other in (again, two):
        for mine, its in zip(first.results().of(Search), other.results().of(Search), strict=True):
            assert mine.front_genomes == its.front_genomes and mine.points == its.points
            assert mine.to_label == its.to_label and mine.n_feasible == its.n_feasible
    other_seed = searched(tmp_path / "other", None, seed=2).results()
    assert other_seed.of(Search)[0].front_genomes != first.results().of(Search)[0].front_genomes


def test_a_study_scales_its_front_within_the_budget(tmp_path):
    plain = searched(tmp_path / "plain", None)
    scaled = searched(
        tmp_path / "scaled", None, scaling={"rates": {"depth": 0.5, "width": 1.0}, "n_steps": 3}
    )
    before, after = (study.results().of(Search)[0] for study in (plain, scaled))
    assert after.n_evaluations > before.n_evaluations == 300
    # one front holds the other's points, or what dominates them: nothing found is lost
    problem = make_problem(
        open_setting(scaled), PredictorScore(predictor=load_predictor(scaled.predictor_file(1))[0])
    )
    old, new = (problem.evaluate(np.array(r.front_genomes)) for r in (before, after))
    assert new.is_feasible.all()
    # batches of other sizes sum in another order: the last bit may differ
    covered = (new.objectives[:, None] <= old.objectives[None] + 1e-12).all(axis=2).any(axis=0)
    assert covered.all()
    assert {tuple(g) for g in after.front_genomes} - {tuple(g) for g in before.front_genomes}
    # the budget binds: scaled designs that miss it were seen and left out
    assert after.n_feasible < after.n_evaluations


def test_the_plan_says_islands_and_scaling(tmp_path):
    config = StudyConfig.model_validate(
        {"name": "s", "space": "mlp_tiny", "search": {
            "islands": {"n_islands": 3}, "scaling": {"rates": {"depth": 1, "width": 1}}}}
    )  # fmt: skip
    planned = plan_study(tmp_path / "s", config)
    (what, *_) = [p.effort.what for p in planned if p.name == "search_1"]
    assert what.endswith("on 3 islands, scale depth and width of the front")
    said = {p.name: p.effort.what for p in planned}
    assert said["synthesize"].startswith("synthesise the finalists")
    assert said["train"].startswith("train up to 12 finalists (uniform widths), 1 times 40")
    quiet = config.model_copy(update={"export": config.export.model_copy(update={"rtl": False})})
    (plan,) = [p for p in plan_study(tmp_path / "s", quiet) if p.name == "synthesize"]
    assert (plan.effort.what, plan.effort.seconds) == ("nothing", 0.0)
