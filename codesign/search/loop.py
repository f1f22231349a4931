"""The search loop: ask, evaluate, log, tell, archive; resumes by replaying the log."""

import hashlib
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from codesign.errors import DesignError, StudyError
from codesign.search.archive import Archive, empty_archive
from codesign.search.compose import Dropping, Filter
from codesign.search.problem import (
    Evaluation,
    Genomes,
    Problem,
    check_genomes,
    concatenate,
)
from codesign.search.store import EvaluationStore
from codesign.search.strategies.base import StrategySettings, make_strategy


@dataclass(frozen=True, kw_only=True)
class Parallel:
    """Where batches are evaluated, and in what pieces.

    The pieces are the same whoever evaluates them: a matrix product of other rows may round its
    last bit differently, and a search follows its last bits.

    Attributes:
        executor: a process pool, dask's `client.get_executor()`; None: this process.
        chunk_size: genomes per piece.
    """

    executor: Executor | None
    chunk_size: int

    def __post_init__(self) -> None:
        if self.chunk_size < 1:
            raise DesignError(f"chunk_size: expected at least 1, got {self.chunk_size}")


def evaluate(problem: Problem, genomes: Genomes, parallel: Parallel | None) -> Evaluation:
    """Evaluate genomes here or on an executor; the answer does not depend on where.

    Raises:
        DesignError: the evaluator answers for another number of genomes, or in other columns.
    """
    if parallel is None:
        result = problem.evaluate(genomes)
    else:
        starts = range(0, len(genomes), parallel.chunk_size)
        chunks = [genomes[start : start + parallel.chunk_size] for start in starts]
        if parallel.executor is None:
            result = concatenate([problem.evaluate(chunk) for chunk in chunks])
        else:
            futures = [parallel.executor.submit(problem.evaluate, chunk) for chunk in chunks]
            result = concatenate([future.result() for future in futures])
    expected = (
        (len(genomes), len(problem.objective_names)),
        (len(genomes), len(problem.constraint_names)),
    )
    if (result.objectives.shape, result.violations.shape) != expected:
        raise DesignError(
            f"the evaluator answered with objectives {result.objectives.shape} and violations "
            f"{result.violations.shape}; expected {expected[0]} and {expected[1]}"
        )
    return result


def fingerprint(
    problem: Problem, strategy: str, seed: int, settings: StrategySettings, problem_digest: str
) -> dict[str, object]:
    """Return what decides the course of a search, in JSON values; resuming demands the same."""
    initial = (
        "" if settings.initial is None else hashlib.sha256(settings.initial.tobytes()).hexdigest()
    )
    return {
        "strategy": strategy,
        "seed": seed,
        "population_size": settings.population_size,
        "reward": repr(settings.reward),
        "initial": initial,
        "upper": problem.upper.tolist(),
        "objectives": list(problem.objective_names),
        "constraints": list(problem.constraint_names),
        "problem_digest": problem_digest,
    }


class _Log:
    """Rows to replay, then an appender; without a store it remembers nothing."""

    def __init__(self, store: EvaluationStore | None, label: str) -> None:
        self._store = store
        self._label = label
        stored = None if store is None else store.read()
        self._stored = stored
        self.n_stored = 0 if stored is None else len(stored[0])

    def replay(self, first_row: int, genomes: Genomes) -> Evaluation | None:
        """Return the stored evaluations of the leading `genomes`, None when there are none.

        Raises:
            StudyError: the strategy asks for other genomes than are on record.
        """
        if self._stored is None or first_row >= self.n_stored:
            return None
        rows = slice(first_row, min(first_row + len(genomes), self.n_stored))
        logged, evaluation = self._stored[0][rows], self._stored[1].take(rows)
        if not np.array_equal(logged, genomes[: len(logged)]):
            raise StudyError(
                f"{self._label} asks for other genomes than are on record from evaluation "
                f"{first_row} on; expected the same version of codesign and its libraries; "
                "start a new study"
            )
        return evaluation

    def append(self, first_row: int, genomes: Genomes, evaluation: Evaluation) -> None:
        """Commit new evaluations."""
        if self._store is not None:
            self._store.append(first_row, genomes, evaluation)


def run_search(
    problem: Problem,
    strategy: str,
    *,
    n_evaluations: int,
    seed: int,
    settings: StrategySettings | None = None,
    store: EvaluationStore | None = None,
    problem_digest: str = "",
    progress: Callable[[Archive], None] | None = None,
    parallel: Parallel | None = None,
) -> Archive:
    """Search a problem until the budget is spent or nothing is left to ask for.

    Same arguments, same archive: whether the run was killed and resumed from its store, extended
    from a smaller budget, or evaluated on an executor.

    Args:
        problem: what to search.
        strategy: registered name.
        n_evaluations: the budget, exact; a last batch that does not fit is cut.
        seed: fixes every random choice.
        settings: population, reward, first genomes.
        store: an open log; evaluations already in it are replayed, not repeated.
        problem_digest: identifies what `evaluate` computes (space, budget, predictor); a store
            made with another one is refused.
        progress: told the archive so far, after every batch.
        parallel: where to evaluate; None: here, whole batches.

    Returns:
        The Pareto archive of all evaluations made.

    Raises:
        DesignError: unknown strategy, or an evaluator that breaks its contract.
        StudyError: the store belongs to another search, or cannot be written.
    """
    if n_evaluations < 1:
        raise DesignError(f"n_evaluations: expected at least 1, got {n_evaluations}")
    chosen = settings or StrategySettings()
    agent = make_strategy(strategy, problem, seed=seed, settings=chosen)
    if isinstance(problem, Filter) and problem.mode == "drop":
        agent = Dropping(agent, problem)
    if store is not None:
        store.begin(fingerprint(problem, strategy, seed, chosen, problem_digest))
    log = _Log(store, f"strategy {strategy!r} with seed {seed}")
    archive = empty_archive(problem)
    n_done = 0
    while n_done < n_evaluations:
        asked = agent.ask()
        if len(asked) == 0:
            break
        check_genomes(problem, asked)
        genomes = asked[: n_evaluations - n_done]
        known = log.replay(n_done, genomes)
        n_known = 0 if known is None else len(known)
        parts = [] if known is None else [known]
        if n_known < len(genomes):
            fresh = evaluate(problem, genomes[n_known:], parallel)
            log.append(n_done + n_known, genomes[n_known:], fresh)
            parts.append(fresh)
        evaluation = concatenate(parts)
        archive = archive.add(genomes, evaluation)
        n_done += len(genomes)
        if len(genomes) == len(asked):
            agent.tell(asked, evaluation)
        if progress is not None:
            progress(archive)
    return archive
