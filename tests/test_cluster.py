"""A study on a cluster ends as on one machine, also when a worker is lost in the middle."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from codesign.pipeline import run_study
from codesign.results import Choice, Labels, Search
from codesign.study import Study, StudyConfig

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def _found(folder: Path, dask: str | None) -> dict[str, object]:
    """Run a study up to its winner: everything that a cluster works on; return all that was found."""
    config = StudyConfig.model_validate(
        {
            "name": "tiny",
            "space": "mlp_tiny",
            "labels": {"n_initial": 16, "n_per_round": 4, "epochs": 2, "predictor": "ridge"},
            "search": {
                "n_evaluations": 400,
                "n_rounds": 2,
                "strategy": "nsga2",
                "islands": {"n_islands": 2},
            },
            "train": {"n_finalists": 2, "epochs": 2, "n_splits": 2},
        }
    )
    study = Study.at(folder, config).begin()
    run_study(study, until="choose", dask=dask)
    results, designs = study.results(), study.designs()
    synthesized = {digest: study.synthesized(design) for digest, design in designs.items()}
    return {
        "labels": [r.scores for r in results.of(Labels)],
        "fronts": [r.points for r in results.of(Search)],
        "networks": {digest: design.network_digest for digest, design in designs.items()},
        "synthesized": {k: s and (s.lut, s.ff, s.network_digest) for k, s in synthesized.items()},
        "winner": results.require(Choice).winner,
    }


def test_a_cluster_that_loses_workers_gives_the_results_of_one_machine(tmp_path: Path) -> None:
    """One is lost among the labels, and one while finalists are trained."""
    distributed = pytest.importorskip("distributed", reason="needs the extra cluster")
    expected = _found(tmp_path / "alone", None)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
    ) as cluster:
        searched = tmp_path / "cluster" / "results" / "search_2.json"
        killed: list[bool] = []

        def kill_in_the_middle() -> None:
            time.sleep(3.0)
            os.kill(next(iter(cluster.workers.values())).pid, signal.SIGKILL)
            killed.append(searched.exists())
            deadline = time.monotonic() + 500
            while not searched.exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            time.sleep(0.5)
            os.kill(list(cluster.workers.values())[-1].pid, signal.SIGKILL)
            killed.append((searched.parent / "train.json").exists())

        killer = threading.Thread(target=kill_in_the_middle)
        killer.start()
        found = _found(tmp_path / "cluster", cluster.scheduler_address)
        killer.join()
    assert killed == [False, False], "both were lost before what they worked on was done"
    assert found == expected
