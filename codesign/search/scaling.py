"""Compound scaling: grow a found design in several dimensions at once until a limit binds.

Source: Tan and Le, EfficientNet, ICML 2019, eq. 3: depth, width and resolution grow together as
alpha ** phi, beta ** phi, gamma ** phi under one resource constraint.  Here a dimension is a set of
ordered genes (depth; all widths; input particles), and its rate says how many steps of its genes
one step of phi is worth.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError
from codesign.search.problem import Evaluation, Genomes, Problem


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """Genes that grow together.

    Attributes:
        name: "depth", "width", "particles".
        genes: int64[k], their columns; ordered genes only.
        rate: gene steps per step of phi, positive.
    """

    name: str
    genes: NDArray[np.int64]
    rate: float

    def __post_init__(self) -> None:
        if not self.rate > 0:
            raise DesignError(f"dimension {self.name!r}: expected a positive rate, got {self.rate}")


@dataclass(frozen=True, kw_only=True)
class ScaledDesigns:
    """One design at growing scales.

    Attributes:
        phi: float[n], the compound coefficient of each.
        genomes: int64[n, n_var], canonical, distinct, smallest first, all feasible.
        evaluation: what they are worth.
    """

    phi: NDArray[np.float64]
    genomes: Genomes
    evaluation: Evaluation


def scale_design(
    problem: Problem,
    genome: NDArray[np.int64],
    dimensions: tuple[Dimension, ...],
    *,
    n_steps: int = 12,
    step: float = 1.0,
) -> ScaledDesigns:
    """Scale a design up until its genes end or a constraint fails, and down as far.

    Args:
        problem: says what is feasible; its constraints are the resource limit.
        genome: int64[n_var], the design found by a search.
        dimensions: what grows, and how fast relative to the others.
        n_steps: how many steps of phi to try in each direction.
        step: size of one.

    Returns:
        The feasible scales, the design itself (phi = 0) among them if it is feasible.

    Raises:
        DesignError: a dimension has an unordered gene, or genes outside the genome.
    """
    for dimension in dimensions:
        genes = dimension.genes
        if len(genes) == 0 or genes.min() < 0 or genes.max() >= len(genome):
            raise DesignError(
                f"dimension {dimension.name!r} has genes {genes.tolist()}; expected columns from 0 "
                f"to {len(genome) - 1}"
            )
        if not problem.ordered[genes].all():
            raise DesignError(
                f"dimension {dimension.name!r} has genes that are mere names; list ordered ones"
            )
    phi = np.asarray(step * np.arange(-n_steps, n_steps + 1), dtype=np.float64)
    genomes = np.repeat(genome[None, :], len(phi), axis=0)
    for dimension in dimensions:
        shift = np.round(dimension.rate * phi).astype(np.int64)
        genomes[:, dimension.genes] += shift[:, None]
    genomes = problem.canonicalize(np.clip(genomes, 0, problem.upper))
    # of equal genomes the one nearest to the found design is kept
    order = np.argsort(np.abs(phi), kind="stable")
    _, first = np.unique(genomes[order], axis=0, return_index=True)
    rows = np.sort(order[first])
    evaluation = problem.evaluate(genomes[rows])
    feasible = np.flatnonzero(evaluation.is_feasible)
    return ScaledDesigns(
        phi=phi[rows][feasible],
        genomes=genomes[rows][feasible],
        evaluation=evaluation.take(feasible),
    )
