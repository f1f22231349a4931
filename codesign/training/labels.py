"""Label many candidates by training them: resumable, over processes or a cluster."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, as_completed
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError
from codesign.ir import Candidate
from codesign.training.options import TaskArrays, label_key
from codesign.training.store import Label, LabelStore
from codesign.training.train import (
    Progress,
    chunks_of_similar_size,
    even_chunk_size,
    train_chunk_in_worker,
)


class LabelOptions(Protocol):
    """How networks are trained for labels."""

    @property
    def digest(self) -> str:
        """Digest of everything that labels depend on."""

    @property
    def chunk_size(self) -> int:
        """Networks trained together, at most."""


class Trained(Protocol):
    """What training a chunk of networks gives labels; float64[n], int64[n] and, where costs are, n mappings."""

    @property
    def validation_score(self) -> NDArray[np.float64]: ...
    @property
    def test_score(self) -> NDArray[np.float64]: ...
    @property
    def epochs(self) -> NDArray[np.int64]: ...


#: Trains one chunk on one core: (candidates, task, options, seed, teacher's logits).
ChunkTrainer = Callable[..., Trained]


@dataclass(frozen=True, kw_only=True)
class LabelResult:
    """Labels of candidates, in their order.

    Attributes:
        validation_score, test_score: float64[n_candidates, n_seeds].
        n_trained: networks trained by this call (the others were in the store, or were equal but
            for hardware).
        seconds: wall-clock time.
        costs: of the first seed, what each trained network costs, where that is an outcome of training.
    """

    validation_score: NDArray[np.float64]
    test_score: NDArray[np.float64]
    costs: tuple[Mapping[str, float], ...]
    n_trained: int
    seconds: float


def task_digest(task: TaskArrays) -> str:
    """First 16 hex digits of the SHA-256 of all arrays, and of the target where it is no plain class."""
    digest = hashlib.sha256()
    for array in task.arrays:
        digest.update(str((array.shape, array.dtype)).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    if task.statement is not None:
        digest.update(json.dumps(task.statement, sort_keys=True).encode())
    return digest.hexdigest()[:16]


def label_candidates(
    candidates: Sequence[Candidate],
    task: TaskArrays,
    options: LabelOptions,
    *,
    store: LabelStore,
    train_chunk: ChunkTrainer = train_chunk_in_worker,
    seeds: Sequence[int] = (1,),
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> LabelResult:
    """Train what the store does not know yet, and return the labels of all candidates.

    Chunks are stored as they finish: a killed run resumes where it was.  Which networks share a
    chunk depends on the candidates and the number of cores, so a run resumed on the
    same machine trains the same chunks as an unbroken one.

    Args:
        candidates: what to label; those that differ in hardware only are trained once.
        task: standardised arrays.
        options: how to train.
        store: where labels are kept.
        train_chunk: what trains them.
        seeds: trainings per candidate.
        executor: anything with `submit` (a process pool, `dask.distributed.Client.get_executor()`);
            None trains here.
        progress: told the share done.

    Raises:
        DesignError: no candidates or no seeds, or a network that cannot be trained.
        StudyError: the store cannot be written.
    """
    started = time.perf_counter()
    if not candidates or not seeds:
        raise DesignError("nothing to label; give at least one candidate and one seed")
    keys = [label_key(c) for c in candidates]
    unique = {key: candidate for key, candidate in zip(keys, candidates, strict=True)}
    data = task_digest(task)
    known = store.lookup(options=options.digest, task=data)
    distinct = list(unique)
    jobs = []
    n_trainings = len(distinct) * len(seeds)
    chunk_size = even_chunk_size(n_trainings, at_most=options.chunk_size)
    for seed in seeds:
        for rows in chunks_of_similar_size([unique[k] for k in distinct], chunk_size):
            chunk = [distinct[i] for i in rows]
            if any((key, seed) not in known for key in chunk):
                jobs.append((seed, chunk))
    n_trained = 0

    def keep(seed: int, chunk: list[str], result: Trained) -> None:
        nonlocal n_trained
        n_trained += len(chunk)
        store.add(_labels(unique, chunk, seed, options, data, result))
        if progress is not None:
            progress(n_trained / sum(len(c) for _, c in jobs))

    if executor is None:
        for seed, chunk in jobs:
            keep(
                seed,
                chunk,
                train_chunk([unique[k] for k in chunk], task, options, seed, None),
            )
    else:
        futures = {
            executor.submit(train_chunk, [unique[k] for k in chunk], task, options, seed, None): (
                seed,
                chunk,
            )
            for seed, chunk in reversed(jobs)  # the largest networks first: no straggler at the end
        }
        failure: BaseException | None = None
        for future in as_completed(futures):  # one failed chunk must not lose the finished others
            error = future.exception()
            if error is None:
                keep(*futures[future], future.result())
            failure = failure or error
        if failure is not None:
            raise failure
    known = store.lookup(options=options.digest, task=data)

    def table(name: str) -> NDArray[np.float64]:
        return np.array([[getattr(known[key, seed], name) for seed in seeds] for key in keys])

    return LabelResult(
        validation_score=table("validation_score"),
        test_score=table("test_score"),
        costs=tuple(known[key, seeds[0]].costs for key in keys),
        n_trained=n_trained,
        seconds=time.perf_counter() - started,
    )


def _labels(
    unique: dict[str, Candidate],
    chunk: list[str],
    seed: int,
    options: LabelOptions,
    data: str,
    result: Trained,
) -> Iterator[Label]:
    costs: Sequence[Mapping[str, float]] = getattr(result, "costs", ())
    for i, key in enumerate(chunk):
        yield Label(
            key=key,
            options=options.digest,
            task=data,
            seed=seed,
            validation_score=float(result.validation_score[i]),
            test_score=float(result.test_score[i]),
            epochs=int(result.epochs[i]),
            network=unique[key].network.to_json(),
            costs=costs[i] if costs else {},
        )
