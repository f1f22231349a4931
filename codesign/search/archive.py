"""The Pareto archive: every feasible, nondominated genome seen so far, and nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from moocore import is_nondominated
from numpy.typing import NDArray

from codesign.errors import DesignError
from codesign.search.problem import Evaluation, Floats, Genomes, Problem


@dataclass(frozen=True, kw_only=True)
class Archive:
    """Feasible, mutually nondominated genomes; equal objective vectors keep the first one found.

    Rows are in the order in which they were found, so the same evaluations always give the same
    archive, bit for bit.

    Attributes:
        genomes: int64[n, n_var].
        evaluation: their objectives, violations (all at most 0) and metrics.
        found_at: int64[n], how many evaluations had been made before each was found.
        n_evaluations: how many evaluations went in.
        n_feasible: how many of them were feasible.
        objective_names: names of the objectives, all minimised.
    """

    genomes: Genomes
    evaluation: Evaluation
    found_at: NDArray[np.int64]
    n_evaluations: int
    n_feasible: int
    objective_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.genomes)

    @property
    def objectives(self) -> Floats:
        """float[n, n_objectives]."""
        return self.evaluation.objectives

    @property
    def metrics(self) -> Mapping[str, Floats]:
        """Further float[n] arrays by name."""
        return self.evaluation.metrics

    def add(self, genomes: Genomes, evaluation: Evaluation) -> "Archive":
        """Return the archive after one more batch of evaluations.

        Costs one C-coded nondominated filter of archive and batch together.

        Args:
            genomes: int64[m, n_var].
            evaluation: their evaluation.
        """
        if len(genomes) != len(evaluation):
            raise DesignError(
                f"{len(genomes)} genomes with {len(evaluation)} evaluations; expected as many"
            )
        n_made = self.n_evaluations
        return self._insert(
            genomes,
            evaluation,
            found_at=n_made + np.arange(len(genomes)),
            n_evaluations=n_made + len(genomes),
            n_feasible=self.n_feasible + int(evaluation.is_feasible.sum()),
        )

    def merge(self, other: "Archive") -> "Archive":
        """Return the archive of both searches' evaluations, ours counted first."""
        return self._insert(
            other.genomes,
            other.evaluation,
            found_at=self.n_evaluations + other.found_at,
            n_evaluations=self.n_evaluations + other.n_evaluations,
            n_feasible=self.n_feasible + other.n_feasible,
        )

    def spread(self, n: int) -> Genomes:
        """Return at most n genomes, int64[k, n_var], evenly along the first objective."""
        order = np.argsort(self.objectives[:, 0], kind="stable")
        picks = np.unique(np.linspace(0, len(order) - 1, n).round().astype(np.int64))
        return self.genomes[order[picks]] if len(self) else self.genomes

    def _insert(
        self,
        genomes: Genomes,
        evaluation: Evaluation,
        *,
        found_at: NDArray[np.int64],
        n_evaluations: int,
        n_feasible: int,
    ) -> "Archive":
        feasible = np.flatnonzero(evaluation.is_feasible)
        feasible = feasible[_is_front(evaluation.objectives[feasible])]
        keep = _is_front(np.concatenate([self.objectives, evaluation.objectives[feasible]]))
        old, new = keep[: len(self)], feasible[keep[len(self) :]]
        return Archive(
            genomes=np.concatenate([self.genomes[old], genomes[new]]),
            evaluation=_join(self.evaluation.take(old), evaluation.take(new)),
            found_at=np.concatenate([self.found_at[old], found_at[new]]),
            n_evaluations=n_evaluations,
            n_feasible=n_feasible,
            objective_names=self.objective_names,
        )


def empty_archive(problem: Problem) -> Archive:
    """Return the archive of no evaluations."""
    return Archive(
        genomes=np.zeros((0, len(problem.upper)), dtype=np.int64),
        evaluation=Evaluation(
            objectives=np.zeros((0, len(problem.objective_names))),
            violations=np.zeros((0, len(problem.constraint_names))),
        ),
        found_at=np.zeros(0, dtype=np.int64),
        n_evaluations=0,
        n_feasible=0,
        objective_names=problem.objective_names,
    )


def archive_of(problem: Problem, genomes: Genomes, evaluation: Evaluation) -> Archive:
    """Return the archive of one batch: the front of an enumerated space, of a labelled set."""
    return empty_archive(problem).add(genomes, evaluation)


def _is_front(objectives: Floats) -> NDArray[np.bool_]:
    """Mark the nondominated rows; of equal rows the first."""
    if len(objectives) == 0:
        return np.zeros(0, dtype=bool)
    return np.asarray(is_nondominated(objectives, keep_weakly=False), dtype=bool)


def _join(left: Evaluation, right: Evaluation) -> Evaluation:
    """Join two evaluations; an empty left side has no metrics of its own yet."""
    if len(left) == 0:
        return right
    if len(right) == 0:
        return left
    if left.metrics.keys() != right.metrics.keys():
        raise DesignError(
            "evaluations with different metrics cannot be joined; report the same ones"
        )
    return Evaluation(
        objectives=np.concatenate([left.objectives, right.objectives]),
        violations=np.concatenate([left.violations, right.violations]),
        metrics={n: np.concatenate([left.metrics[n], right.metrics[n]]) for n in left.metrics},
    )
