"""Problems from problems: filters, chains, precomputed profilers, ladders of fidelity.

Every class here wraps a `Problem` and is one, so they nest.  After the composition of NNI and of
successive-halving ladders, on arrays.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError
from codesign.search.problem import Booleans, Evaluation, Floats, Genomes, Problem


class Profiler(Protocol):
    """Answers for any sample of the space at once: latency, parameters, FLOPs, BOPs, energy."""

    def __call__(self, genomes: Genomes) -> Floats:
        """Return float[n], one figure per genome."""
        ...


@dataclass(frozen=True, kw_only=True)
class TableProfiler:
    """A profiler precomputed over the space: a sum of one table per group of genes.

    A figure that is a sum over layers (parameters, bit operations, a latency table) depends, layer
    by layer, on few genes; each group's table holds its contribution for every combination of them.

    Attributes:
        groups: the genes of each table, in the order of its axes.
        tables: one array per group, of shape (upper + 1 of each gene of the group).
    """

    groups: tuple[tuple[int, ...], ...]
    tables: tuple[Floats, ...]

    def __post_init__(self) -> None:
        for genes, table in zip(self.groups, self.tables, strict=True):
            if table.ndim != len(genes):
                raise DesignError(
                    f"the table of genes {genes} has {table.ndim} axes; give one each"
                )

    def __call__(self, genomes: Genomes) -> Floats:
        total = np.zeros(len(genomes))
        for genes, table in zip(self.groups, self.tables, strict=True):
            total += table[tuple(genomes[:, gene] for gene in genes)]
        return total


def precompute_profiler(
    profile: Profiler, upper: NDArray[np.int64], groups: tuple[tuple[int, ...], ...]
) -> TableProfiler:
    """Tabulate a profiler that is a sum over groups of genes, with few calls of it.

    Args:
        profile: the figure to tabulate; exact where it is additive over the groups.
        upper: int64[n_var].
        groups: genes of each summand; a gene may be in several groups only if it is in the first.

    Raises:
        DesignError: the figure is not additive over these groups (checked on 256 random genomes).
    """
    base = float(profile(np.zeros((1, len(upper)), dtype=np.int64))[0])
    tables = []
    for i_group, genes in enumerate(groups):
        shape = tuple(int(upper[gene]) + 1 for gene in genes)
        choices = np.stack(np.unravel_index(np.arange(int(np.prod(shape))), shape), axis=1)
        genomes = np.zeros((len(choices), len(upper)), dtype=np.int64)
        genomes[:, list(genes)] = choices
        # the figure of the all-zero genome is counted once, by the first table
        values = profile(genomes) - (base if i_group > 0 else 0.0)
        tables.append(values.reshape(shape))
    table = TableProfiler(groups=groups, tables=tuple(tables))
    sample = np.random.default_rng(0).integers(0, upper + 1, size=(256, len(upper)))
    truth = profile(sample)
    # sums in another order differ in the last bits only
    if not np.allclose(table(sample), truth, rtol=1e-9, atol=1e-9 * max(1.0, abs(base))):
        raise DesignError(
            "the profile is not a sum over these groups of genes; put genes that act together into "
            "one group, or use the profiler itself"
        )
    return table


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A hard upper limit on a cheap figure.

    Attributes:
        name: of the constraint.
        profiler: the figure.
        at_most: the limit, positive.
    """

    name: str
    profiler: Profiler
    at_most: float

    def __post_init__(self) -> None:
        if not self.at_most > 0:
            raise DesignError(
                f"limit {self.name!r}: expected a positive number, got {self.at_most}"
            )


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Keeps genomes that miss cheap limits away from a dear evaluator ("return a bad metric").

    Dropped genomes get infinite objectives and their violations; the wrapped problem never sees
    them.

    Attributes:
        problem: the dear one.
        limits: the cheap limits, added to the problem's constraints.
    """

    problem: Problem
    limits: tuple[Limit, ...]

    @property
    def upper(self) -> NDArray[np.int64]:
        """See `Problem`."""
        return self.problem.upper

    @property
    def ordered(self) -> Booleans:
        """See `Problem`."""
        return self.problem.ordered

    @property
    def objective_names(self) -> tuple[str, ...]:
        """See `Problem`."""
        return self.problem.objective_names

    @property
    def constraint_names(self) -> tuple[str, ...]:
        """The limits' names, then the problem's."""
        return tuple(limit.name for limit in self.limits) + self.problem.constraint_names

    def canonicalize(self, genomes: Genomes) -> Genomes:
        """See `Problem`."""
        return self.problem.canonicalize(genomes)

    def passes(self, genomes: Genomes) -> Booleans:
        """Return bool[n]: every limit holds; to drop genomes before they are scored at all."""
        return np.asarray((self._excess(genomes) <= 0).all(axis=1))

    def _excess(self, genomes: Genomes) -> Floats:
        columns = [limit.profiler(genomes) / limit.at_most - 1.0 for limit in self.limits]
        return np.column_stack(columns) if columns else np.zeros((len(genomes), 0))

    def evaluate(self, genomes: Genomes) -> Evaluation:
        """See `Problem`."""
        excess = self._excess(genomes)
        rows = np.flatnonzero((excess <= 0).all(axis=1))
        n = len(genomes)
        objectives = np.full((n, len(self.problem.objective_names)), np.inf)
        violations = np.zeros((n, len(self.problem.constraint_names)))
        metrics: dict[str, Floats] = {}
        # called for no rows too: the metrics' names must not depend on the batch
        inner = self.problem.evaluate(genomes[rows])
        objectives[rows], violations[rows] = inner.objectives, inner.violations
        for name, values in inner.metrics.items():
            metrics[name] = np.full(n, np.nan)
            metrics[name][rows] = values
        return Evaluation(
            objectives=objectives,
            violations=np.concatenate([excess, violations], axis=1),
            metrics=metrics,
        )


@dataclass(frozen=True, kw_only=True)
class Chain:
    """Several evaluators of one space side by side: their objectives and constraints joined.

    Attributes:
        problems: at least one, over the same genes; names must not repeat.
    """

    problems: tuple[Problem, ...]

    def __post_init__(self) -> None:
        if not self.problems:
            raise DesignError("a chain needs at least one problem")
        first = self.problems[0].upper
        if any(not np.array_equal(problem.upper, first) for problem in self.problems):
            raise DesignError(
                "the problems of a chain have different genes; build them on one space"
            )
        for names in (self.objective_names, self.constraint_names):
            if len(set(names)) != len(names):
                raise DesignError(f"a chain has repeated names: {', '.join(names)}; rename one")

    @property
    def upper(self) -> NDArray[np.int64]:
        """See `Problem`."""
        return self.problems[0].upper

    @property
    def ordered(self) -> Booleans:
        """See `Problem`."""
        return self.problems[0].ordered

    @property
    def objective_names(self) -> tuple[str, ...]:
        """The problems' names in order."""
        return tuple(name for problem in self.problems for name in problem.objective_names)

    @property
    def constraint_names(self) -> tuple[str, ...]:
        """The problems' names in order."""
        return tuple(name for problem in self.problems for name in problem.constraint_names)

    def canonicalize(self, genomes: Genomes) -> Genomes:
        """See `Problem`."""
        return self.problems[0].canonicalize(genomes)

    def evaluate(self, genomes: Genomes) -> Evaluation:
        """See `Problem`."""
        parts = [problem.evaluate(genomes) for problem in self.problems]
        return Evaluation(
            objectives=np.concatenate([part.objectives for part in parts], axis=1),
            violations=np.concatenate([part.violations for part in parts], axis=1),
            metrics={name: values for part in parts for name, values in part.metrics.items()},
        )


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One fidelity of a ladder.

    Attributes:
        name: "proxy", "predictor", "training", "synthesis".
        score: float[n] for genomes, larger is better; dearer and truer than the rung below.
        keep: how many go on to the next rung.
    """

    name: str
    score: Callable[[Genomes], Floats]
    keep: int

    def __post_init__(self) -> None:
        if self.keep < 1:
            raise DesignError(f"rung {self.name!r}: expected to keep at least 1, got {self.keep}")


@dataclass(frozen=True, kw_only=True)
class LadderResult:
    """Who came through a ladder.

    Attributes:
        rows: int64[k], rows of the genomes given, best first by the last rung's score.
        scores: per rung, the scores it gave, by row; NaN for rows that never reached it.
    """

    rows: NDArray[np.int64]
    scores: Mapping[str, Floats]


def climb(genomes: Genomes, rungs: tuple[Rung, ...]) -> LadderResult:
    """Send candidates up a ladder: cheap proxies filter, the predictor ranks, training confirms.

    Args:
        genomes: int64[n, n_var].
        rungs: cheapest first.

    Raises:
        DesignError: no rungs, or a rung that scores with NaN.
    """
    if not rungs:
        raise DesignError("a ladder needs at least one rung")
    rows = np.arange(len(genomes))
    scores: dict[str, Floats] = {}
    for rung in rungs:
        values = rung.score(genomes[rows])
        if values.shape != rows.shape or np.isnan(values).any():
            raise DesignError(f"rung {rung.name!r} must give every genome a score that is no NaN")
        scores[rung.name] = np.full(len(genomes), np.nan)
        scores[rung.name][rows] = values
        rows = rows[np.argsort(-values, kind="stable")[: rung.keep]]
    return LadderResult(rows=rows, scores=scores)
