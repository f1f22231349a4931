"""Compound scaling: grow found designs in several dimensions at once, until a limit binds.

Source: Tan and Le, EfficientNet, ICML 2019, eq. 3: depth, width and resolution grow together as
alpha ** phi, beta ** phi, gamma ** phi under one resource constraint.  Here a dimension is all ordered
genes of one kind (depth; all widths; input particles), and its rate says how many steps of its genes one
step of phi is worth.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError, unknown_name
from codesign.search.problem import Genomes, Problem


def dimensions_of(
    names: tuple[str, ...], ordered: NDArray[np.bool_], rates: Mapping[str, float]
) -> dict[float, NDArray[np.int64]]:
    """Find the genes of each dimension.

    Args:
        names: of all genes, in genome order ("depth", "width_1", "weight_bits_head").
        ordered: bool[n_var], whether neighbouring values of a gene are alike.
        rates: gene steps per step of phi by kind of gene ("depth", "width"); positive.

    Returns:
        The columns that move with each rate.

    Raises:
        DesignError: a kind that the space has no genes of, whose values are mere names, or whose rate is
            not positive.
    """
    kinds = [name if name in rates else name.rpartition("_")[0] for name in names]
    found: dict[float, NDArray[np.int64]] = {}
    for kind, rate in rates.items():
        columns = np.array([i for i, own in enumerate(kinds) if own == kind], dtype=np.int64)
        if columns.size == 0:
            known = {k for k, is_ordered in zip(kinds, ordered, strict=True) if k and is_ordered}
            raise DesignError(unknown_name("dimension of compound scaling", kind, known))
        if not ordered[columns].all():
            raise DesignError(
                f"compound scaling: values of {kind!r} are mere names; scale ordered genes only"
            )
        if not rate > 0:
            raise DesignError(
                f"compound scaling: the rate of {kind!r} must be positive, got {rate}"
            )
        found[rate] = np.concatenate([found.get(rate, columns[:0]), columns])
    return found


def scaled_genomes(
    problem: Problem,
    genomes: Genomes,
    dimensions: Mapping[float, NDArray[np.int64]],
    *,
    n_steps: int,
) -> Genomes:
    """Scale designs up and down, as far as their genes go.

    Args:
        problem: says which genomes are the same design.
        genomes: int64[n, n_var], designs found by a search.
        dimensions: what grows together, of `dimensions_of`.
        n_steps: steps of phi in each direction, at least 1.

    Returns:
        int64[m, n_var], canonical, distinct, none of them among `genomes`.
    """
    phi = np.concatenate([np.arange(-n_steps, 0), np.arange(1, n_steps + 1)])
    scaled = np.repeat(genomes[:, None, :], len(phi), axis=1)
    for rate, columns in dimensions.items():
        scaled[:, :, columns] += np.round(rate * phi).astype(np.int64)[None, :, None]
    flat = np.clip(scaled, 0, problem.upper).reshape(-1, genomes.shape[1])
    distinct = np.unique(problem.canonicalize(flat), axis=0)
    known = {row.tobytes() for row in np.ascontiguousarray(genomes)}
    return distinct[[row.tobytes() not in known for row in distinct]]
