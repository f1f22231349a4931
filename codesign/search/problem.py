"""What a search is about: integer genomes in, objectives and constraint violations out.

The search knows nothing of networks, FPGAs, YAML or predictors: whoever wants something searched
hands in a `Problem`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError

#: int64[n, n_var]: one row per candidate, one index into a finite domain per column.
Genomes = NDArray[np.int64]
Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a problem says about n genomes.

    Attributes:
        objectives: float[n, n_objectives], every one minimised.  Finite where feasible.
        violations: float[n, n_constraints]; at most 0 where the constraint holds.  Use *relative*
            violations ((value - limit) / limit), so that constraints of different units compare.
        metrics: further float[n] arrays worth keeping ("score_std", "latency_ns").
    """

    objectives: Floats
    violations: Floats
    metrics: Mapping[str, Floats] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.objectives)
        if self.objectives.ndim != 2 or self.violations.ndim != 2 or len(self.violations) != n:
            raise DesignError(
                f"an evaluation has objectives of shape {self.objectives.shape} and violations of "
                f"shape {self.violations.shape}; expected (n, n_objectives) and (n, n_constraints)"
            )
        for name, values in self.metrics.items():
            if values.shape != (n,):
                raise DesignError(
                    f"metric {name!r} has shape {values.shape}; expected ({n},), one per genome"
                )
        if np.isnan(self.violations).any():
            raise DesignError(
                "an evaluation contains NaN violations; say infinity where a constraint cannot hold"
            )
        if not np.isfinite(self.objectives[self.is_feasible]).all():
            raise DesignError(
                "a feasible genome has an objective that is not finite; correct the evaluator or "
                "give that genome a positive violation"
            )

    def __len__(self) -> int:
        return len(self.objectives)

    @property
    def is_feasible(self) -> Booleans:
        """bool[n]: every constraint holds."""
        return np.asarray((self.violations <= 0).all(axis=1))

    @property
    def total_violation(self) -> Floats:
        """float[n]: the sum of the positive violations; 0 exactly where feasible."""
        return np.asarray(np.maximum(self.violations, 0.0).sum(axis=1))

    def take(self, rows: NDArray[np.integer] | Booleans | slice) -> "Evaluation":
        """Return the evaluation of some of the genomes.

        Args:
            rows: indices, a mask or a slice along the first axis.
        """
        return Evaluation(
            objectives=self.objectives[rows],
            violations=self.violations[rows],
            metrics={name: values[rows] for name, values in self.metrics.items()},
        )


def concatenate(evaluations: list[Evaluation]) -> Evaluation:
    """Join evaluations of the same problem along the genomes.

    Raises:
        DesignError: the list is empty, or the metrics' names differ.
    """
    if not evaluations:
        raise DesignError("no evaluations to join; expected at least one")
    names = evaluations[0].metrics.keys()
    if any(e.metrics.keys() != names for e in evaluations):
        raise DesignError(
            "evaluations with different metrics cannot be joined; report the same ones"
        )
    return Evaluation(
        objectives=np.concatenate([e.objectives for e in evaluations]),
        violations=np.concatenate([e.violations for e in evaluations]),
        metrics={name: np.concatenate([e.metrics[name] for e in evaluations]) for name in names},
    )


@runtime_checkable
class Problem(Protocol):
    """Something to search.  `evaluate` is deterministic; instances that go to a pool can be pickled.

    Attributes:
        upper: int64[n_var]; gene i ranges over 0..upper[i], both included.
        ordered: bool[n_var]; True where neighbouring values of the gene are alike (a width), False
            where the values are mere names (an activation).
        objective_names: one per column of `Evaluation.objectives`.
        constraint_names: one per column of `Evaluation.violations`.
    """

    @property
    def upper(self) -> NDArray[np.int64]: ...

    @property
    def ordered(self) -> Booleans: ...

    @property
    def objective_names(self) -> tuple[str, ...]: ...

    @property
    def constraint_names(self) -> tuple[str, ...]: ...

    def evaluate(self, genomes: Genomes) -> Evaluation:
        """Score genomes int64[n, n_var]; the same row always gets the same answer."""
        ...

    def canonicalize(self, genomes: Genomes) -> Genomes:
        """Set the genes that do not matter to 0, so that equal designs have equal genomes.

        Idempotent.  A problem in which every gene always matters returns its argument.
        """
        ...


def space_size(problem: Problem) -> int:
    """Count the genomes of a problem, equal designs included."""
    size = 1
    for upper in problem.upper.tolist():
        size *= upper + 1
    return size


def check_genomes(problem: Problem, genomes: Genomes) -> Genomes:
    """Return `genomes` when they fit the problem.

    Raises:
        DesignError: wrong shape or type, or a gene out of its range; the message says which.
    """
    upper = problem.upper
    if genomes.ndim != 2 or genomes.shape[1] != len(upper) or genomes.dtype != np.int64:
        raise DesignError(
            f"genomes of type {genomes.dtype} and shape {genomes.shape}; expected int64 and "
            f"(n, {len(upper)})"
        )
    outside = (genomes < 0) | (genomes > upper)
    if outside.any():
        row, gene = (int(i) for i in np.argwhere(outside)[0])
        raise DesignError(
            f"genome {row} has value {genomes[row, gene]} at gene {gene}; expected 0 to "
            f"{upper[gene]}"
        )
    return genomes
