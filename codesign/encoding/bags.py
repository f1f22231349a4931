"""Bags of substructures as sparse counts: Weisfeiler-Lehman colours and short walks.

Colours are 64-bit hashes, so that a batch needs no shared dictionary while it is coloured; the
vocabulary is the colours of the training graphs, everything else falls into one unknown column.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from codesign.encoding.batch import GraphBatch

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scramble 64-bit words (the finaliser of SplitMix64, Steele et al., OOPSLA 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _start(operators: NDArray[np.int64]) -> NDArray[np.uint64]:
    return _mix((operators.astype(np.uint64) + np.uint64(1)) * _MULTIPLIER)


def weisfeiler_lehman(
    batch: GraphBatch, operators: NDArray[np.int64], *, rounds: int
) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.float32]]:
    """Colour nodes by their neighbourhoods up to `rounds` edges away, both directions kept apart.

    Source: Shervashidze et al., JMLR 12 (2011); directed form.

    Args:
        batch: graphs.
        operators: int64[m], first colours.
        rounds: neighbourhood radius.

    Returns:
        Graph number, colour and weight of every (node, round) pair.
    """
    colour = _start(operators)
    source, target = batch.edge_index
    times = batch.edge_multiplicity.astype(np.uint64)
    graphs, colours = [batch.graph_index], [colour]
    for step in range(1, rounds + 1):
        before = np.zeros_like(colour)
        after = np.zeros_like(colour)
        np.add.at(before, target, times * _mix(colour[source] + np.uint64(3)))
        np.add.at(after, source, times * _mix(colour[target] + np.uint64(5)))
        colour = _mix(colour * _MULTIPLIER + _mix(before + np.uint64(7)) * np.uint64(3) + after)
        graphs.append(batch.graph_index)
        colours.append(colour + np.uint64(step))
    weights = np.ones(len(colour) * (rounds + 1), np.float32)
    return np.concatenate(graphs), np.concatenate(colours), weights


def unrolled_expressions(batch: GraphBatch, operators: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Hash what each output computes, written out as an expression of the input: uint64[n].

    Shared and repeated subexpressions are not told apart, so that graphs with equal hashes compute
    the same family of functions but may share weights differently.
    """
    start = _start(operators)
    source, target = batch.edge_index
    times = batch.edge_multiplicity.astype(np.uint64)
    colour = start
    for _ in range(int(batch.n_nodes.max())):
        before = np.zeros_like(start)
        np.add.at(before, target, times * _mix(colour[source] + np.uint64(3)))
        colour = _mix(start * _MULTIPLIER + before)
    return colour[batch.output_node]


def walks(
    batch: GraphBatch, operators: NDArray[np.int64], *, length: int
) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.float32]]:
    """List the operator sequences of all walks of 1 to `length` nodes, with their multiplicities.

    The number of walks is bounded by nodes x out-degree^(length - 1); whole paths are not listed.

    Returns:
        Graph number, hash of the sequence and multiplicity of every walk.
    """
    names = _start(operators)
    source, target = batch.edge_index
    order = np.argsort(source, kind="stable")
    source, target = source[order], target[order]
    times = batch.edge_multiplicity[order]
    starts = np.searchsorted(source, np.arange(len(operators)))
    counts = np.bincount(source, minlength=len(operators))
    end = np.arange(len(operators))
    colour, weight = names, np.ones(len(operators), np.float32)
    parts = [(batch.graph_index, colour, weight)]
    for _ in range(length - 1):
        repeat = counts[end]
        owner = np.repeat(np.arange(len(end)), repeat)
        first = np.concatenate([[0], np.cumsum(repeat)[:-1]])
        edge = np.arange(len(owner)) - first[owner] + starts[end][owner]
        end = target[edge]
        colour = _mix(colour[owner] * _MULTIPLIER + names[end])
        weight = weight[owner] * times[edge]
        parts.append((batch.graph_index[end], colour, weight))
    graphs, colours, weights = zip(*parts, strict=True)
    return np.concatenate(graphs), np.concatenate(colours), np.concatenate(weights)


@dataclass(frozen=True, kw_only=True)
class BagVocabulary:
    """Which column a colour has.

    Attributes:
        colours: uint64[k], rising.
    """

    colours: NDArray[np.uint64]

    @classmethod
    def fit(cls, colours: NDArray[np.uint64]) -> "BagVocabulary":
        """Take the colours of the training graphs."""
        return cls(colours=np.unique(colours))

    def count(
        self,
        n_graphs: int,
        graphs: NDArray[np.int64],
        colours: NDArray[np.uint64],
        weights: NDArray[np.float32],
    ) -> sparse.csr_array:
        """Return square roots of counts, rows of unit length: float32[n, k + 1], last = unknown."""
        place = np.searchsorted(self.colours, colours)
        place = np.minimum(place, len(self.colours) - 1)
        column = np.where(self.colours[place] == colours, place, len(self.colours))
        matrix = sparse.csr_array(
            (weights, (graphs, column)), shape=(n_graphs, len(self.colours) + 1)
        )
        matrix.sum_duplicates()
        # Unknown colours lengthen a row but match nothing: no training graph has that column.
        matrix.data = np.sqrt(matrix.data)
        length = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
        return sparse.csr_array(sparse.diags_array(1.0 / length) @ matrix).astype(np.float32)
