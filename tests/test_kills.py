"""A run that is killed at any moment leaves no process behind and, resumed, ends as one that nobody disturbed."""

import fcntl
import os
import random
import secrets
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import psutil
import pytest

from codesign.results import Choice, Search
from codesign.study import Study
from tests.test_processes import still_running

#: Every stage, with little to do in each; compilers are started at its end.
STUDY = """
schema: 1
name: tiny
space: mlp_tiny
budget: l1_corner
labels: {n_initial: 12, n_per_round: 4, epochs: 1, predictor: ridge}
search: {n_evaluations: 800, n_rounds: 2, strategy: nsga2}
train: {n_finalists: 2, epochs: 2}
export: {backends: [], open_synthesis: false}
"""

#: In the environment of a run, which everything inherits that the run starts.
MARK = "TEST_OF_KILLS"
WAYS = ("terminated", "killed", "its terminal closed")


def _take_terminal() -> None:
    """Make the standard input the terminal of this session, and hear of its end."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup makes its children deaf to it
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Run:
    """`codesign run` in a terminal of its own."""

    def __init__(self, config: Path, folder: Path) -> None:
        self.mark = secrets.token_hex(16)
        self.terminal, end = os.openpty()
        with folder.with_suffix(".log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "codesign", "run", str(config), "--output", str(folder)],
                stdin=end,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_take_terminal,
                env=os.environ | {MARK: self.mark},
            )
        os.close(end)

    def stop(self, how: str) -> None:
        """End it, in one of `WAYS`."""
        if how == "its terminal closed":
            os.close(self.terminal)
        else:
            self.process.send_signal(signal.SIGTERM if how == "terminated" else signal.SIGKILL)
        self.process.wait(timeout=30)
        if how != "its terminal closed":
            os.close(self.terminal)

    def started(self) -> list[psutil.Process]:
        """Return all processes that carry its mark."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark:
                    found.append(process)
            except psutil.Error:
                continue
        return found


def outcome(folder: Path) -> dict[str, object]:
    """Return what a finished study found: fronts, winner, trained networks, proofs."""
    study = Study.open(folder)
    results = study.results()
    winner = study.winner()
    exported = study.exported(study.designs()[winner])
    assert exported is not None
    return {
        "fronts": [(r.front_genomes, r.points, r.n_feasible) for r in results.of(Search)],
        "choice": results.require(Choice).model_copy(update={"seconds": 0.0}),
        "networks": {digest: d.network_digest for digest, d in study.designs().items()},
        "mismatches": {name: row.mismatches for name, row in exported.comparisons.items()},
    }


def kill_and_resume(folder: Path, *, n_kills: int, seed: int) -> list[str]:
    """Run a study undisturbed, then kill and resume it at random moments, so often; say when and how.

    A study that ends before its next kill is compared, and the kills go on with a new one.  A quarter of a whole
    run lies between two kills at most, so that early stages are hit as well as the last.
    """
    draw = random.Random(seed)
    config = folder / "tiny.yaml"
    config.write_text(STUDY)
    started_s = time.monotonic()
    alone = Run(config, folder / "undisturbed")
    assert alone.process.wait() == 0, (folder / "undisturbed.log").read_text()[-2000:]
    whole_s = time.monotonic() - started_s
    expected = outcome(folder / "undisturbed")
    told: list[str] = []
    n_studies = 1
    while True:
        study = folder / f"killed_{n_studies}"
        run = Run(config, study)
        try:
            moment_s = None if len(told) == n_kills else draw.uniform(0.0, 0.25 * whole_s)
            code = run.process.wait(timeout=moment_s)
        except subprocess.TimeoutExpired:
            how = WAYS[len(told) % len(WAYS)]
            before = run.started()
            run.stop(how)
            left = still_running([*before, *run.started()], within_s=5)
            assert not left and not run.started(), (how, moment_s, left)
            n_done = len(list((study / "results").glob("*.json")))
            told.append(
                f"{how} after {moment_s:.1f} s, {n_done} stages done, {len(before)} processes"
            )
            continue
        os.close(run.terminal)
        assert code == 0, (told, study.with_suffix(".log").read_text()[-2000:])
        assert outcome(study) == expected, told
        if len(told) == n_kills:
            return told
        n_studies += 1


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_three_kills_leave_nothing_behind_and_change_nothing(tmp_path: Path) -> None:
    told = kill_and_resume(tmp_path, n_kills=len(WAYS), seed=1)
    assert {line.partition(" after")[0] for line in told} == set(WAYS)
