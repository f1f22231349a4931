"""Budget, progress, executors, and evaluators that break their contract."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

from codesign.errors import DesignError
from codesign.search.islands import IslandPlan, run_islands
from codesign.search.loop import Parallel, run_search
from codesign.search.problem import Evaluation
from codesign.search.rewards import LogCostReward
from codesign.search.store import EvaluationStore
from codesign.search.strategies.base import StrategySettings, make_strategy
from codesign.testing.synthetic import SyntheticProblem

PROBLEM = SyntheticProblem(lut_limit=1500.0, latency_limit_ns=28.0)


def test_the_budget_is_exact_and_progress_is_told():
    seen = []
    archive = run_search(PROBLEM, "nsga2", n_evaluations=333, seed=0, progress=seen.append)
    assert archive.n_evaluations == 333
    assert seen[-1] is archive
    assert [p.n_evaluations for p in seen] == sorted(p.n_evaluations for p in seen)


def test_a_smaller_budget_is_a_prefix_of_a_larger_one():
    small = run_search(PROBLEM, "nsga2", n_evaluations=600, seed=3)
    large = run_search(PROBLEM, "nsga2", n_evaluations=1200, seed=3)
    early = large.found_at < 600
    rows = {tuple(row) for row in small.genomes.tolist()}
    assert {tuple(row) for row in large.genomes[early].tolist()} <= rows


def test_process_pool_and_islands_give_the_serial_archive():
    plan = IslandPlan(n_islands=2, n_epochs=2, n_evaluations=800)
    serial = run_search(PROBLEM, "nsga2", n_evaluations=400, seed=5)
    serial_islands = run_islands(PROBLEM, "nsga2", plan, seed=5)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        parallel = run_search(
            PROBLEM,
            "nsga2",
            n_evaluations=400,
            seed=5,
            parallel=Parallel(executor=pool, chunk_size=10),
        )
        pooled_islands = run_islands(PROBLEM, "nsga2", plan, seed=5, executor=pool)
    assert np.array_equal(serial.genomes, parallel.genomes)
    assert np.array_equal(serial.objectives, parallel.objectives)
    assert np.array_equal(serial_islands.genomes, pooled_islands.genomes)
    assert serial_islands.n_evaluations == 800


def test_islands_resume_from_what_finished_and_end_the_same(tmp_path):
    plan = IslandPlan(n_islands=2, n_epochs=3, n_evaluations=600)
    n_scored = 0

    class Counting(SyntheticProblem):
        def evaluate(self, genomes):
            nonlocal n_scored
            n_scored += len(genomes)
            return super().evaluate(genomes)

    def search(progress=None):
        return run_islands(
            Counting(lut_limit=1500.0, latency_limit_ns=28.0),
            "nsga2",
            plan,
            seed=5,
            store=lambda name: EvaluationStore(tmp_path / "search.db", run=name),
            progress=progress,
        )

    def stop_after_three_islands(archive):
        if archive.n_evaluations == 300:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(stop_after_three_islands)
    resumed = search()
    assert n_scored <= 700  # one island at most was repeated
    alone = run_islands(PROBLEM, "nsga2", plan, seed=5)
    assert np.array_equal(resumed.genomes, alone.genomes)
    assert np.array_equal(resumed.found_at, alone.found_at)
    n_before = n_scored
    assert np.array_equal(search().genomes, alone.genomes) and n_scored == n_before


@pytest.mark.slow
def test_dask_with_two_local_workers_gives_the_serial_archive():
    distributed = pytest.importorskip("distributed")
    plan = IslandPlan(n_islands=2, n_epochs=2, n_evaluations=800)
    serial = run_islands(PROBLEM, "nsga2", plan, seed=5)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        spread = run_islands(PROBLEM, "nsga2", plan, seed=5, executor=client.get_executor())
        archive = run_search(
            PROBLEM,
            "nsga2",
            n_evaluations=300,
            seed=5,
            parallel=Parallel(executor=client.get_executor(), chunk_size=10),
        )
    assert np.array_equal(serial.genomes, spread.genomes)
    alone = run_search(PROBLEM, "nsga2", n_evaluations=300, seed=5)
    assert np.array_equal(alone.objectives, archive.objectives)


def test_a_careless_evaluator_is_named():
    class Short(SyntheticProblem):
        def evaluate(self, genomes):
            whole = super().evaluate(genomes)
            return Evaluation(objectives=whole.objectives[:-1], violations=whole.violations[:-1])

    with pytest.raises(DesignError, match="the evaluator answered"):
        run_search(Short(), "random", n_evaluations=10, seed=0)


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(DesignError, match="did you mean 'nsga2'"):
        run_search(PROBLEM, "nsga22", n_evaluations=10, seed=0)
    with pytest.raises(DesignError, match="takes no reward"):
        reward = LogCostReward(error="error", cost="lut", weight=0.1)
        make_strategy("nsga2", PROBLEM, seed=0, settings=StrategySettings(reward=reward))
    with pytest.raises(DesignError, match="at least 4"):
        StrategySettings(population_size=2)
    with pytest.raises(DesignError, match="expected 0 to"):
        outside = PROBLEM.upper[None, :] + 1
        make_strategy("nsga2", PROBLEM, seed=0, settings=StrategySettings(initial=outside))
    with pytest.raises(DesignError, match="enumerate|at most"):
        make_strategy("exhaustive", SyntheticProblem(n_layers=6), seed=0)
    with pytest.raises(DesignError, match="fewer than"):
        IslandPlan(n_islands=4, n_epochs=4, n_evaluations=3)


def test_nsga2_beats_random_search_on_a_constrained_space():
    from codesign.search.archive import archive_of
    from codesign.search.metrics import normalized_hypervolume
    from codesign.testing.synthetic import enumerate_space

    genomes = enumerate_space(PROBLEM.upper)
    truth = archive_of(PROBLEM, genomes, PROBLEM.evaluate(genomes)).objectives
    box = {"ideal": truth.min(axis=0), "nadir": truth.max(axis=0)}
    best = normalized_hypervolume(truth, **box)
    for seed in (0, 1):
        reached = {
            name: normalized_hypervolume(
                run_search(PROBLEM, name, n_evaluations=800, seed=seed).objectives, **box
            )
            for name in ("nsga2", "random")
        }
        assert reached["random"] < reached["nsga2"] < best
        assert reached["nsga2"] > 0.9 * best
