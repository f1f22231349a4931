"""Child processes that never outlive their parent, however it ends, and that use one core each.

Three rules, kept here and nowhere else:

- A worker process watches its parent and leaves when that is gone (`worker_pool`).
- A program that was started, with all that it started itself, is killed when this process ends; a warden
  does it, since a killed process cannot clean up (`Warden`).
- Numerical libraries use one thread: work is divided over processes, and threads that wait for a core by
  spinning make everything slower on a busy machine (`one_thread`).
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import wait

from codesign.errors import ToolError

#: What OpenMP, OpenBLAS and MKL read when they are loaded.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

#: The warden's program: it reads "+<group>" and "-<group>", and kills what is left when its input ends,
#: which is when the process that started it has ended, in whatever way.
_WARDEN = """
import os, signal, sys
groups = set()
for line in sys.stdin:
    (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
for group in groups:
    try:
        os.killpg(group, signal.SIGKILL)
    except OSError:
        pass
"""


class Warden:
    """Kills registered process groups when this process ends, even by SIGKILL."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._owner = 0

    def _tell(self, line: str) -> None:
        with self._lock:
            if self._process is None or self._owner != os.getpid():  # none yet, or a forked child
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", _WARDEN],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    text=True,
                    start_new_session=True,  # the terminal's signals end this process, not its warden
                )
                self._owner = os.getpid()
                atexit.register(self._close)
            assert self._process.stdin is not None, "asked for a pipe"
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def _close(self) -> None:
        process = self._process
        if process is not None and self._owner == os.getpid() and process.stdin is not None:
            process.stdin.close()
            process.wait()

    @contextmanager
    def guard(self, process: subprocess.Popen[str]) -> Iterator[None]:
        """Guard a process that leads its own session while the block runs; kill its group on an error."""
        self._tell(f"+{process.pid}")
        try:
            yield
        except BaseException:
            kill_group(process)
            raise
        finally:
            self._tell(f"-{process.pid}")


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
    """Prepare a worker process: one thread, and an end when its parent ends."""
    for variable in _THREAD_VARIABLES:
        os.environ[variable] = "1"
    parent = multiprocessing.parent_process()
    if parent is None:
        return  # another kind of executor runs this, which looks after its workers itself

    def leave_with_parent() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=leave_with_parent, daemon=True).start()


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
    with ProcessPoolExecutor(
        max_workers=n_workers, mp_context=context, initializer=start_worker
    ) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
