"""Child processes that never outlive their parent, however it ends, and that use one core each.

Three rules, kept here and nowhere else:

- Whatever was started, with all that it started itself, is killed when this process ends; a warden does it,
  since a killed process cannot clean up (`Warden`).
- The kernel ends a worker process with its parent, so that none depends on the warden alone (`start_worker`).
- Numerical libraries use one thread: work is divided over processes, and threads that wait for a core by
  spinning make everything slower on a busy machine (`one_thread`).
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager

from codesign.errors import ToolError

#: What OpenMP, OpenBLAS and MKL read when they are loaded.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

#: Marks of all codesign processes above a process, in its environment, which everything it starts inherits.
_OWNERS = "CODESIGN_OWNERS"

#: The warden's program: its input ends when the process that started it has ended, in whatever way; then
#: it kills whatever carries that process' mark, until none is seen any more (one that is just being
#: started shows its environment late).
_WARDEN = """
import os, signal, sys, time
mark = sys.argv[1].encode()
sys.stdin.read()
n_quiet = 0
while n_quiet < 5:
    n_quiet += 1
    for name in os.listdir("/proc"):
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                if mark in file.read():
                    os.kill(int(name), signal.SIGKILL)
                    n_quiet = 0
        except OSError:
            pass
    time.sleep(0.1)
"""

#: `prctl`'s number for the signal that the kernel sends a process when its parent ends.
_PR_SET_PDEATHSIG = 1


class Warden:
    """Kills everything that this process started, and what that started, when this process ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pid = self._owner = 0

    def start(self) -> None:
        """Have a warden; called before anything is started, which must inherit `os.environ`."""
        with self._lock:
            if (
                self._owner == os.getpid()
            ):  # else it is that of a process that this one was forked from
                with contextlib.suppress(ChildProcessError):  # somebody else has reaped it
                    if os.waitpid(self._pid, os.WNOHANG) == (0, 0):
                        return
            # without marks: what kills all below an owner must not kill its wardens before they have done the same
            above = os.environ.pop(_OWNERS, "")
            mark = secrets.token_hex(16)
            # its input ends when nobody holds the pipe's other end, which no child of this process inherits
            reading, _ = os.pipe()
            try:
                self._pid = os.posix_spawn(
                    sys.executable,
                    [sys.executable, "-I", "-S", "-c", _WARDEN, mark],
                    os.environ,
                    file_actions=[
                        (os.POSIX_SPAWN_DUP2, reading, 0),
                        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                        (os.POSIX_SPAWN_DUP2, 1, 2),
                    ],
                    setsid=True,  # the terminal's signals end this process, not its warden
                )
                self._owner = os.getpid()
                above = f"{above} {mark}"
            finally:
                os.close(reading)
                os.environ[_OWNERS] = above.strip()


#: The one of this process.
WARDEN = Warden()


def kill_group(process: subprocess.Popen[str]) -> None:
    """Kill a process that leads its own session, and everything that it started, and reap it."""
    with contextlib.suppress(ProcessLookupError):  # all of them have ended already
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def limit_threads() -> None:
    """Let numerical libraries that are not loaded yet use one thread, unless the user has set otherwise."""
    for variable in _THREAD_VARIABLES:
        os.environ.setdefault(variable, "1")


@contextmanager
def one_thread() -> Iterator[None]:
    """Let loaded numerical libraries use one thread while the block runs."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        yield


def start_worker() -> None:
    """Prepare a worker process: one thread, and an end when its parent ends.

    The kernel ends it, since a thread of its own may have to wait for long: loading a library, or a call
    into one, holds the interpreter.
    """
    for variable in _THREAD_VARIABLES:
        os.environ[variable] = "1"
    parent = multiprocessing.parent_process()
    if parent is None:
        return  # another kind of executor runs this, which looks after its workers itself
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent.pid:  # it ended before
        os._exit(1)


def n_worker_processes() -> int:
    """Return how many processes to use: CODESIGN_WORKERS, else the cores this process may run on."""
    value = os.environ.get("CODESIGN_WORKERS")
    if value is None:
        return max(1, len(os.sched_getaffinity(0)))
    if not value.isdigit() or int(value) < 1:
        raise ToolError(
            f"CODESIGN_WORKERS is {value!r}; expected a positive integer; correct or unset it"
        )
    return int(value)


@contextmanager
def worker_pool(n_workers: int | None = None) -> Iterator[Executor | None]:
    """Give a pool of worker processes, one core each; None (work here) for one worker.

    Args:
        n_workers: processes; None asks `n_worker_processes`.
    """
    n_workers = n_workers or n_worker_processes()
    if n_workers == 1:
        yield None
        return
    # spawn: a forked child inherits torch's thread pools in an undefined state, and file descriptors
    # that keep `sentinel` from telling that the parent has ended
    context = multiprocessing.get_context("spawn")
    WARDEN.start()
    with ProcessPoolExecutor(
        max_workers=n_workers, mp_context=context, initializer=start_worker
    ) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
