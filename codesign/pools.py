"""Where work is done: worker processes of this machine, or the workers of a dask cluster."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager

from codesign.errors import ToolError
from codesign.processes import worker_pool
from codesign.tools import require_module

#: How often a task is done again when the worker that had it is lost.
_RETRIES = 3


@contextmanager
def open_pool(
    n_workers: int | None = None, *, dask: str | None = None
) -> Iterator[Executor | None]:
    """Give the executor that work is divided over; None: do it in this process.

    Args:
        n_workers: processes of this machine, one core each; None: as many as
            `codesign.processes.n_worker_processes` says; 1: none.
        dask: address of a dask scheduler ("tcp://host:8786"), which wins over `n_workers`; dask-jobqueue
            starts such a cluster on HTCondor or Slurm.  What a lost worker had is done again elsewhere.

    Raises:
        ToolError: dask is not installed, or the scheduler does not answer.
    """
    if not dask:
        with worker_pool(n_workers) as pool:
            yield pool
        return
    distributed = require_module("distributed")
    try:
        client = distributed.Client(dask, timeout="20s")
    except (OSError, ValueError) as error:
        raise ToolError(
            f"no dask scheduler answers at {dask} ({error}); start one, or leave out --dask"
        ) from error
    with client:
        yield client.get_executor(retries=_RETRIES)
