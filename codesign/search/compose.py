"""Profilers, precomputed over a space, and the filters that keep a search inside their limits."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError, unknown_name
from codesign.search.problem import Booleans, Evaluation, Floats, Genomes, Problem
from codesign.search.strategies.base import Strategy

FILTER_MODES: Final = ("penalise", "drop")
#: Batches in a row of which nothing passes a filter, before a search concludes that nothing will.
N_EMPTY_BATCHES: Final = 200


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

    def __call__(self, genomes: Genomes) -> Floats:
        total = np.zeros(len(genomes))
        for genes, table in zip(self.groups, self.tables, strict=True):
            total += table[tuple(genomes[:, gene] for gene in genes)]
        return total


def precompute_profiler(
    profile: Profiler,
    upper: NDArray[np.int64],
    groups: tuple[tuple[int, ...], ...],
    *,
    fixed: Mapping[int, int] | None = None,
) -> TableProfiler:
    """Tabulate a profiler that is a sum over groups of genes, with few calls of it.

    Groups may overlap, as those of neighbouring layers do: a group's table is the figure of its
    genes less that of the genes which earlier groups cover already, all others at 0.  That is exact
    where each group's overlap with the earlier ones lies within one of them.

    Args:
        profile: the figure to tabulate.
        upper: int64[n_var].
        groups: genes of each summand.
        fixed: genes that keep a value, and which; the table holds for genomes that have it.

    Raises:
        DesignError: the figure is no such sum (checked on 256 random genomes).
    """
    base = np.zeros(len(upper), dtype=np.int64)
    for gene, value in (fixed or {}).items():
        base[gene] = value
    covered: set[int] = set()
    tables = []
    for genes in groups:
        shape = tuple(int(upper[gene]) + 1 for gene in genes)
        choices = np.stack(np.unravel_index(np.arange(int(np.prod(shape))), shape), axis=1)
        genomes = np.repeat(base[None, :], len(choices), axis=0)
        genomes[:, list(genes)] = choices
        values = profile(genomes)
        if covered:
            own = [gene for gene in genes if gene not in covered]
            genomes[:, own] = base[own]
            known, where = np.unique(genomes, axis=0, return_inverse=True)
            values = values - profile(known)[where.reshape(-1)]
        tables.append(values.reshape(shape))
        covered.update(genes)
    sample = np.random.default_rng(0).integers(0, upper + 1, size=(256, len(upper)))
    for gene in fixed or {}:
        sample[:, gene] = base[gene]
    truth = profile(sample)
    table = TableProfiler(groups=groups, tables=tuple(tables))
    error = float((np.abs(table(sample) - truth) / np.maximum(np.abs(truth), 1e-9)).max())
    if error > 1e-9:  # sums in another order differ in the last bits only
        raise DesignError(
            f"the figure is not a sum over these groups of genes (off by up to {100 * error:.2g} %); "
            "leave tables out"
        )
    return table


@dataclass(frozen=True, kw_only=True)
class SwitchedProfiler:
    """One table profiler per value of some genes: which layers exist depends on the depth.

    Attributes:
        genes: the switches.
        upper: int64[k], greatest value of each switch.
        by_value: a profiler for each of their combinations, the last switch fastest.
    """

    genes: tuple[int, ...]
    upper: NDArray[np.int64]
    by_value: tuple[TableProfiler, ...]

    def __call__(self, genomes: Genomes) -> Floats:
        values = np.empty(len(genomes))
        position = np.ravel_multi_index(tuple(genomes[:, self.genes].T), tuple(self.upper + 1))
        for i, profiler in enumerate(self.by_value):
            rows = np.flatnonzero(position == i)
            values[rows] = profiler(genomes[rows])
        return values


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
    """Keeps genomes that miss cheap limits away from a dear evaluator; it never sees them.

    Attributes:
        problem: the dear one.
        limits: the cheap limits, added to the problem's constraints.
        mode: "penalise": such genomes count as evaluations, with infinite objectives and their
            violations; "drop": `run_search` passes them by before they are scored, and they cost
            nothing of its budget (the strategy is told of them all the same).
    """

    problem: Problem
    limits: tuple[Limit, ...]
    mode: str = "penalise"

    def __post_init__(self) -> None:
        if self.mode not in FILTER_MODES:
            raise DesignError(unknown_name("filter mode", self.mode, FILTER_MODES))

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
        """Return bool[n]: every limit holds."""
        return np.asarray((self._excess(genomes) <= 0).all(axis=1))

    def _excess(self, genomes: Genomes) -> Floats:
        columns = [limit.profiler(genomes) / limit.at_most - 1.0 for limit in self.limits]
        return np.column_stack(columns) if columns else np.zeros((len(genomes), 0))

    def joined(self, genomes: Genomes, inner: Evaluation) -> Evaluation:
        """Return the evaluation of all genomes, given that of those which pass."""
        excess = self._excess(genomes)
        rows = np.flatnonzero((excess <= 0).all(axis=1))
        n = len(genomes)
        objectives = np.full((n, len(self.problem.objective_names)), np.inf)
        violations = np.zeros((n, len(self.problem.constraint_names)))
        metrics: dict[str, Floats] = {}
        objectives[rows], violations[rows] = inner.objectives, inner.violations
        for name, values in inner.metrics.items():
            metrics[name] = np.full(n, np.nan)
            metrics[name][rows] = values
        return Evaluation(
            objectives=objectives,
            violations=np.concatenate([excess, violations], axis=1),
            metrics=metrics,
        )

    def evaluate(self, genomes: Genomes) -> Evaluation:
        """See `Problem`."""
        # asked for no rows too: the metrics' names must not depend on the batch
        return self.joined(genomes, self.problem.evaluate(genomes[self.passes(genomes)]))


class Dropping(Strategy):
    """A strategy whose proposals pass a filter before anybody scores them.

    Those that miss a limit are told to the strategy at once as infeasible.  When a long row of
    batches passes none, nothing more is asked for: the limits rule out (nearly) all that is left.
    """

    def __init__(self, inner: Strategy, limited: Filter) -> None:
        self._inner = inner
        self._filter = limited
        self._asked = np.zeros((0, len(limited.upper)), dtype=np.int64)

    def ask(self) -> Genomes:
        """See `Strategy.ask`."""
        for _ in range(N_EMPTY_BATCHES):
            self._asked = self._inner.ask()
            passing = self._asked[self._filter.passes(self._asked)]
            if len(self._asked) == 0 or len(passing) > 0:
                return passing
            nothing = Evaluation(
                objectives=np.zeros((0, len(self._filter.objective_names))),
                violations=np.zeros((0, len(self._filter.problem.constraint_names))),
            )
            self._inner.tell(self._asked, self._filter.joined(self._asked, nothing))
        return self._asked[:0]

    def tell(self, genomes: Genomes, evaluation: Evaluation) -> None:
        """See `Strategy.tell`."""
        # the loop evaluates the filter itself: its own limits come first
        inner = Evaluation(
            objectives=evaluation.objectives,
            violations=evaluation.violations[:, len(self._filter.limits) :],
        )
        self._inner.tell(self._asked, self._filter.joined(self._asked, inner))
