"""Child processes end with their parent, however it ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from codesign.errors import ToolError
from codesign.processes import limit_threads, n_worker_processes, one_thread

#: Starts a program that starts a program in a session of its own, as compilers' drivers may.
_PARENT_OF_TOOL = """
import signal, sys
from pathlib import Path
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup makes its children deaf to it
from codesign.tools import run_tool
child = "import time; time.sleep(600)"
program = (
    f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}], start_new_session=True)"
)
print("ready", flush=True)
run_tool([sys.executable, "-c", program], folder=Path("."), timeout_s=600)
"""

#: Keeps a pool of two workers busy: one holds the interpreter, so that no Python of its own can run, as while a
#: library loads or a solver works; the other has a program of its own.
_PARENT_OF_POOL = """
import ctypes, signal, sys
from pathlib import Path
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from codesign.processes import worker_pool
from codesign.tools import run_tool
def hold_the_interpreter():
    ctypes.PyDLL(None).sleep(600)
if __name__ == "__main__":
    with worker_pool(2) as pool:
        busy = pool.submit(hold_the_interpreter)
        other = pool.submit(run_tool, [sys.executable, "-c", "import time; time.sleep(600)"],
                            folder=Path("."), timeout_s=600)
        print("ready", flush=True)
        busy.result()
"""


def still_running(processes: list[psutil.Process], within_s: float) -> list[psutil.Process]:
    """Return those that have not ended in time; one that its new parent has yet to reap has ended."""
    deadline = time.monotonic() + within_s
    while True:
        running = [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
        if not running or time.monotonic() > deadline:
            return running
        time.sleep(0.02)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(("script", "n_children"), [(_PARENT_OF_TOOL, 3), (_PARENT_OF_POOL, 6)])
def test_nothing_is_left_of_a_killed_process(
    how: signal.Signals, script: str, n_children: int, tmp_path: Path
) -> None:
    file = tmp_path / "parent.py"
    file.write_text(script, encoding="utf-8")
    parent = subprocess.Popen([sys.executable, str(file)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "ready\n"
    deadline = time.monotonic() + 30
    children: list[psutil.Process] = []
    while len(children) < n_children and time.monotonic() < deadline:
        children = psutil.Process(parent.pid).children(recursive=True)
        time.sleep(0.05)
    assert len(children) >= n_children, "the children had no time to start"
    parent.send_signal(how)
    parent.wait(timeout=30)
    parent.stdout.close()
    assert not still_running(children, within_s=5)


def test_libraries_are_told_to_use_one_thread_unless_the_user_says_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    limit_threads()
    assert os.environ["OMP_NUM_THREADS"] == "3"
    assert os.environ["OPENBLAS_NUM_THREADS"] == "1"


def test_loaded_libraries_use_one_thread_for_a_while() -> None:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_number_of_workers_is_the_cores_or_what_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CODESIGN_WORKERS", raising=False)
    assert n_worker_processes() == len(os.sched_getaffinity(0))
    monkeypatch.setenv("CODESIGN_WORKERS", "7")
    assert n_worker_processes() == 7


@pytest.mark.parametrize("value", ["0", "-1", "two", "", "1.5"])
def test_a_wrong_number_of_workers_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODESIGN_WORKERS", value)
    with pytest.raises(
        ToolError, match="CODESIGN_WORKERS is .*; expected a positive integer; correct or unset it"
    ):
        n_worker_processes()
