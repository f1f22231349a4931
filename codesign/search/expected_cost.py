"""The expectation of a hardware cost under independent choices per gene, differentiable.

A chain of layers costs the sum of its layers, and a layer depends on few genes: its own width,
activation, precision and those of its input.  For each depth the cost is therefore written over a
chain of overlapping groups of genes (a junction tree),

    C(g) = sum over groups C(group, rest at base) - sum over overlaps C(overlap, rest at base),

which is exact for costs that are sums over layers, and whose expectation under independent gene
probabilities is a sum of small products of tables with probability vectors.  The tables are read
off the hardware models themselves, a few ten thousand designs in one pass; `relative_error` says
how exact the form is for the models at hand.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from codesign.search._elastic import Gates, Layout
from codesign.search.problem import Floats, Genomes

#: Scores genomes: float[n, n_costs].
Score = Callable[[Genomes], Floats]


@dataclass(frozen=True, kw_only=True)
class Term:
    """One table of the sum.

    Attributes:
        genes: columns of its axes.
        table: float32[n_values of each gene..., n_costs], already signed.
    """

    genes: tuple[int, ...]
    table: torch.Tensor

    def expectation(self, gates: Gates) -> torch.Tensor:
        """Return float32[n_costs], the table contracted with the genes' probabilities."""
        value = self.table
        for gene in self.genes:
            value = torch.tensordot(gates[gene], value, dims=([0], [0]))
        return value


@dataclass(frozen=True, kw_only=True)
class ExpectedCost:
    """Expected costs of a distribution over an MLP space.

    Attributes:
        depth_gene: column of the depth gene.
        terms: per value of the depth gene, the terms of that depth.
        relative_error: float[n_costs], median of |form - model| / model over random designs.
    """

    depth_gene: int
    terms: tuple[tuple[Term, ...], ...]
    relative_error: Floats

    def __call__(self, gates: Gates) -> torch.Tensor:
        """Return float32[n_costs], differentiable in the gates."""
        by_depth = [
            torch.stack([term.expectation(gates) for term in terms]).sum(dim=0)
            for terms in self.terms
        ]
        return gates[self.depth_gene] @ torch.stack(by_depth)


def tabulate_cost(layout: Layout, score: Score, *, seed: int = 0) -> ExpectedCost:
    """Read the tables off a hardware model.

    Args:
        layout: the searched genes.
        score: costs of full genomes int64[n, n_var], float[n, n_costs].
        seed: of the random designs on which the form is checked.
    """
    depths = [int(v) for v in layout.values["depth"]]
    every = tuple(
        tuple(_term(layout, score, i_depth, genes, sign) for genes, sign in _groups(layout, depth))
        for i_depth, depth in enumerate(depths)
    )
    plain = ExpectedCost(depth_gene=layout.index["depth"], terms=every, relative_error=np.zeros(0))
    generator = np.random.default_rng(seed)
    sizes = [len(layout.values[name]) for name in layout.searched]
    genomes = np.repeat(layout.base[None, :], 200, axis=0)
    genomes[:, layout.columns] = generator.integers(0, sizes, size=(200, len(sizes)))
    truth = score(genomes)
    with torch.no_grad():
        form = np.stack([plain(layout.one_hot(genome)).numpy() for genome in genomes])
    error = np.median(np.abs(form - truth) / np.maximum(np.abs(truth), 1e-9), axis=0)
    return ExpectedCost(depth_gene=plain.depth_gene, terms=every, relative_error=error)


def _groups(layout: Layout, depth: int) -> list[tuple[tuple[str, ...], float]]:
    """List the groups (+1) and overlaps (-1) of a chain of `depth` hidden layers."""
    groups: list[tuple[tuple[str, ...], float]] = []
    before: tuple[str, ...] = ()
    for k in range(1, depth + 1):
        groups.append(((*before, f"weight_bits_{k}", f"width_{k}"), 1.0))
        groups.append(((f"width_{k}",), -1.0))
        groups.append(((f"width_{k}", f"activation_{k}", f"result_bits_{k}"), 1.0))
        before = (f"width_{k}", f"result_bits_{k}")
        groups.append((before, -1.0))
    groups.append(((*before, "weight_bits_head"), 1.0))
    return groups


def _term(layout: Layout, score: Score, i_depth: int, names: tuple[str, ...], sign: float) -> Term:
    shape = tuple(len(layout.values[name]) for name in names)
    columns = [layout.index[name] for name in names]
    choices = np.stack(np.unravel_index(np.arange(int(np.prod(shape))), shape), axis=1)
    genomes = np.repeat(layout.base[None, :], len(choices), axis=0)
    genomes[:, layout.index["depth"]] = i_depth
    genomes[:, columns] = choices
    costs = sign * score(genomes)
    table = torch.tensor(costs.reshape(*shape, costs.shape[1]), dtype=torch.float32)
    return Term(genes=tuple(columns), table=table)
