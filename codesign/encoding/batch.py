"""Many graphs as one struct of arrays: what predictors read and population encoders write."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from codesign.errors import PredictorError

#: Node attributes that a feature schema may lack, and the value by which they then say nothing: a network
#: of vectors has one position and one axis everywhere.
NEUTRAL: Final = {"n_positions": 1.0, "rank": 1.0}


@dataclass(frozen=True, kw_only=True)
class GraphBatch:
    """n graphs with m nodes and e edges in total, in raw units: nothing is standardised here.

    The nodes of one graph lie together, in topological order: **the first node of a graph is its
    input, the last one its output**, and every edge goes from a smaller to a larger node number.
    Graphs are expected to be canonical (`codesign.encoding.graph.canonicalise`): whoever builds a
    batch from a population emits no dead and no identity nodes.

    Attributes:
        op_names: vocabulary that `op` indexes.  Any vocabulary will do; a predictor maps the names
            to those it was trained on.
        numeric_names: what the columns of `numeric` are, units included ("weight_bits").
        extra_names: what the columns of `extras` are ("log2_bit_operations").
        op: int64[m], index into `op_names`.
        numeric: float32[m, len(numeric_names)], attributes of nodes; NaN where a node has none.
        graph_index: int64[m], non-decreasing, 0..n-1; every graph has at least one node.
        edge_index: int64[2, e], node numbers (from, to).
        edge_multiplicity: float32[e], how many parallel edges this one stands for, at least 1.
        extras: float32[n, len(extra_names)], attributes of whole graphs.
    """

    op_names: tuple[str, ...]
    numeric_names: tuple[str, ...]
    extra_names: tuple[str, ...]
    op: NDArray[np.int64]
    numeric: NDArray[np.float32]
    graph_index: NDArray[np.int64]
    edge_index: NDArray[np.int64]
    edge_multiplicity: NDArray[np.float32]
    extras: NDArray[np.float32]

    def __post_init__(self) -> None:
        n_nodes, n_edges, n_graphs = len(self.op), self.edge_index.shape[-1], len(self.extras)
        expected = {
            "op": (n_nodes,),
            "numeric": (n_nodes, len(self.numeric_names)),
            "graph_index": (n_nodes,),
            "edge_index": (2, n_edges),
            "edge_multiplicity": (n_edges,),
            "extras": (n_graphs, len(self.extra_names)),
        }
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise PredictorError(
                    f"graph batch: {name} has shape {getattr(self, name).shape}; expected {shape}"
                )
        if n_graphs == 0:
            raise PredictorError("graph batch: no graphs; expected at least one")
        steps = np.diff(self.graph_index)
        if (
            n_nodes == 0
            or self.graph_index[0] != 0
            or self.graph_index[-1] != n_graphs - 1
            or ((steps < 0) | (steps > 1)).any()
        ):
            raise PredictorError(
                "graph batch: graph_index must rise from 0 to n_graphs - 1 without gaps; sort the "
                "nodes by graph and give every graph a node"
            )
        if ((self.op < 0) | (self.op >= len(self.op_names))).any():
            raise PredictorError(f"graph batch: op must index {len(self.op_names)} op_names")
        source, target = self.edge_index
        if n_edges and (source.min() < 0 or target.max() >= n_nodes or (source >= target).any()):
            raise PredictorError(
                "graph batch: an edge does not go from a smaller to a larger node number; number "
                "the nodes topologically (a cyclic graph has no such numbering)"
            )
        if n_edges and (self.graph_index[source] != self.graph_index[target]).any():
            raise PredictorError("graph batch: an edge joins two graphs; expected none to")

    def __len__(self) -> int:
        return len(self.extras)

    def says_nothing(self, name: str) -> bool:
        """Whether a node attribute holds its neutral value everywhere."""
        column = self.numeric[:, self.numeric_names.index(name)]
        return name in NEUTRAL and bool((column == NEUTRAL[name]).all())

    @cached_property
    def n_nodes(self) -> NDArray[np.int64]:
        """int64[n]: nodes per graph."""
        return np.bincount(self.graph_index, minlength=len(self))

    @cached_property
    def input_node(self) -> NDArray[np.int64]:
        """int64[n]: the first node of each graph."""
        return np.concatenate([[0], np.cumsum(self.n_nodes)[:-1]])

    @cached_property
    def output_node(self) -> NDArray[np.int64]:
        """int64[n]: the last node of each graph."""
        return self.input_node + self.n_nodes - 1

    @cached_property
    def node_in_graph(self) -> NDArray[np.int64]:
        """int64[m]: the place of each node in its own graph, 0 for the input."""
        return np.arange(len(self.op)) - self.input_node[self.graph_index]

    def take(self, graphs: NDArray[np.integer] | NDArray[np.bool_] | Sequence[int]) -> "GraphBatch":
        """Return some of the graphs, in the order asked for.

        Args:
            graphs: graph numbers (repeats allowed), or a mask bool[n].
        """
        chosen = np.asarray(graphs)
        if chosen.dtype == np.bool_:
            chosen = np.flatnonzero(chosen)
        chosen = chosen.astype(np.int64)
        counts = self.n_nodes[chosen]
        nodes, graph_index = _ranges(self.input_node[chosen], counts)
        edge_graph = self.graph_index[self.edge_index[0]]
        order = np.argsort(edge_graph, kind="stable")
        edge_counts = np.bincount(edge_graph, minlength=len(self))
        edge_starts = np.concatenate([[0], np.cumsum(edge_counts)[:-1]])
        places, edge_owner = _ranges(edge_starts[chosen], edge_counts[chosen])
        edges = order[places]
        new_start = np.concatenate([[0], np.cumsum(counts)])[: len(chosen)]
        shift = (new_start - self.input_node[chosen])[edge_owner]
        return GraphBatch(
            op_names=self.op_names,
            numeric_names=self.numeric_names,
            extra_names=self.extra_names,
            op=self.op[nodes],
            numeric=self.numeric[nodes],
            graph_index=graph_index,
            edge_index=self.edge_index[:, edges] + shift,
            edge_multiplicity=self.edge_multiplicity[edges],
            extras=self.extras[chosen],
        )


def _ranges(
    starts: NDArray[np.int64], counts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Join the ranges starts[i]..starts[i]+counts[i]; also return the i each member came from."""
    owner = np.repeat(np.arange(len(counts)), counts)
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    return np.arange(len(owner)) - first[owner] + starts[owner], owner


def concatenate(batches: Sequence[GraphBatch]) -> GraphBatch:
    """Join batches of the same vocabulary and columns, in order.

    Raises:
        PredictorError: the list is empty, or vocabularies or columns differ.
    """
    if not batches:
        raise PredictorError("no graph batches to join; expected at least one")
    first = batches[0]
    for name in ("op_names", "numeric_names", "extra_names"):
        if any(getattr(b, name) != getattr(first, name) for b in batches):
            raise PredictorError(f"graph batches with different {name} cannot be joined")
    node_shift = np.cumsum([0] + [len(b.op) for b in batches[:-1]])
    graph_shift = np.cumsum([0] + [len(b) for b in batches[:-1]])
    return GraphBatch(
        op_names=first.op_names,
        numeric_names=first.numeric_names,
        extra_names=first.extra_names,
        op=np.concatenate([b.op for b in batches]),
        numeric=np.concatenate([b.numeric for b in batches]),
        graph_index=np.concatenate(
            [b.graph_index + s for b, s in zip(batches, graph_shift, strict=True)]
        ),
        edge_index=np.concatenate(
            [b.edge_index + s for b, s in zip(batches, node_shift, strict=True)], axis=1
        ),
        edge_multiplicity=np.concatenate([b.edge_multiplicity for b in batches]),
        extras=np.concatenate([b.extras for b in batches]),
    )
