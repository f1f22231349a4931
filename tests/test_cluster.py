"""A study on a cluster ends as on one machine, also when a worker is lost in the middle."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from codesign.pipeline import run_study
from codesign.results import Labels, Search
from codesign.study import Study, StudyConfig

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def _labels_and_fronts(folder: Path, dask: str | None) -> tuple[list[object], list[object]]:
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
        }
    )
    study = Study.at(folder, config).begin()
    run_study(study, until="search", dask=dask)
    results = study.results()
    return [r.scores for r in results.of(Labels)], [r.points for r in results.of(Search)]


def test_a_cluster_that_loses_a_worker_gives_the_results_of_one_machine(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="needs the extra cluster")
    expected = _labels_and_fronts(tmp_path / "alone", None)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
    ) as cluster:
        victim = next(iter(cluster.workers.values())).pid

        def kill_in_the_middle() -> None:
            time.sleep(3.0)
            os.kill(victim, signal.SIGKILL)

        killer = threading.Thread(target=kill_in_the_middle)
        killer.start()
        found = _labels_and_fronts(tmp_path / "cluster", cluster.scheduler_address)
        killer.join()
    assert found == expected
