"""The log survives a kill at any moment, and refuses to resume another search."""

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from codesign.errors import StudyError
from codesign.search.loop import run_search
from codesign.search.store import EvaluationStore
from codesign.search.strategies.base import STRATEGIES, StrategySettings
from codesign.testing.synthetic import SyntheticProblem

PROBLEM = SyntheticProblem(lut_limit=1500.0, latency_limit_ns=28.0)
#: Evaluations of a whole run; a proposal of optuna takes about 0.1 s.
N_EVALUATIONS = {"optuna_tpe": 60}
FAST = ("nsga2", "regularized_evolution")
#: Packages that a strategy needs beside the project's own.
NEEDS = {"optuna_tpe": "optuna"}

CHILD = """
import sys, time
from pathlib import Path
from codesign.search.loop import run_search
from codesign.search.store import EvaluationStore
from codesign.testing.synthetic import SyntheticProblem
problem = SyntheticProblem(lut_limit=1500.0, latency_limit_ns=28.0)
with EvaluationStore(Path(sys.argv[1])) as store:
    print("ready", flush=True)
    run_search(problem, sys.argv[2], n_evaluations=int(sys.argv[3]), seed=7, store=store,
               progress=lambda progress: time.sleep(0.004))
"""


@pytest.mark.parametrize(
    "name",
    [
        name if name in FAST else pytest.param(name, marks=pytest.mark.slow)
        for name in STRATEGIES.names()
        if name != "exhaustive"  # this space is too large for it
    ],
)
def test_killed_at_random_moments_and_resumed_gives_the_same_archive(name, tmp_path):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    n_evaluations = N_EVALUATIONS.get(name, 2000)
    whole = run_search(PROBLEM, name, n_evaluations=n_evaluations, seed=7)
    path = tmp_path / "study.db"
    moments = random.Random(name)
    n_rows = []
    for _ in range(2):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(path), name, str(n_evaluations)],
            stdout=subprocess.PIPE,
        )
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(moments.uniform(0.05, 0.4))
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
        with EvaluationStore(path) as store:
            stored = store.read()
        n_rows.append(0 if stored is None else len(stored[0]))
    assert n_rows == sorted(n_rows)
    with EvaluationStore(path) as store:
        resumed = run_search(PROBLEM, name, n_evaluations=n_evaluations, seed=7, store=store)
    assert np.array_equal(whole.genomes, resumed.genomes)
    assert np.array_equal(whole.objectives, resumed.objectives)
    assert np.array_equal(whole.metrics["cycles"], resumed.metrics["cycles"])


def test_a_finished_run_is_replayed_without_evaluating(tmp_path):
    with EvaluationStore(tmp_path / "s.db") as store:
        first = run_search(PROBLEM, "nsga2", n_evaluations=500, seed=1, store=store)

    class Forbidden(SyntheticProblem):
        def evaluate(self, genomes):
            raise AssertionError("nothing is left to evaluate")

    again = Forbidden(lut_limit=1500.0, latency_limit_ns=28.0)
    with EvaluationStore(tmp_path / "s.db") as store:
        second = run_search(again, "nsga2", n_evaluations=500, seed=1, store=store)
    assert np.array_equal(first.genomes, second.genomes)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 2}, "seed"),
        ({"problem_digest": "other"}, "problem_digest"),
        ({"settings": StrategySettings(population_size=50)}, "population_size"),
    ],
)
def test_another_search_is_refused_by_what_differs(change, said, tmp_path):
    arguments = {"n_evaluations": 50, "seed": 1}
    with EvaluationStore(tmp_path / "s.db") as store:
        run_search(PROBLEM, "nsga2", store=store, **arguments)
    with EvaluationStore(tmp_path / "s.db") as store, pytest.raises(StudyError, match=said):
        run_search(PROBLEM, "nsga2", store=store, **(arguments | change))


def test_runs_of_one_file_do_not_mix(tmp_path):
    for run, seed in (("round-0", 1), ("round-1", 2)):
        with EvaluationStore(tmp_path / "s.db", run=run) as store:
            run_search(PROBLEM, "random", n_evaluations=300, seed=seed, store=store)
    with EvaluationStore(tmp_path / "s.db", run="round-0") as store:
        stored = store.read()
    assert stored is not None
    assert len(stored[0]) == 300
    assert np.array_equal(stored[1].objectives, PROBLEM.evaluate(stored[0]).objectives)


def test_foreign_files_and_second_writers_are_named(tmp_path):
    path = tmp_path / "notes.db"
    path.write_text("this is no database " * 100)
    with pytest.raises(StudyError, match="cannot be opened"), EvaluationStore(path):
        pass
    genomes = np.zeros((1, len(PROBLEM.upper)), dtype=np.int64)
    evaluation = PROBLEM.evaluate(genomes)
    with EvaluationStore(tmp_path / "s.db") as store:
        store.begin({})
        store.append(0, genomes, evaluation)
        with pytest.raises(StudyError, match="only writer"):
            store.append(0, genomes, evaluation)
        store.append(5, genomes, evaluation)
        with pytest.raises(StudyError, match="lacks the rows"):
            store.read()
    with pytest.raises(StudyError, match="not open"):
        store.read()


def test_a_log_that_the_strategy_would_not_have_asked_for_is_refused(tmp_path):
    path = tmp_path / "s.db"
    with EvaluationStore(path) as store:
        run_search(PROBLEM, "nsga2", n_evaluations=40, seed=1, store=store)
        stored = store.read()
        assert stored is not None
        wrong = PROBLEM.canonicalize((stored[0] + 1) % (PROBLEM.upper + 1))
        store.append(40, wrong, PROBLEM.evaluate(wrong))
    with EvaluationStore(path) as store, pytest.raises(StudyError, match="other genomes"):
        run_search(PROBLEM, "nsga2", n_evaluations=80, seed=1, store=store)
