"""Graphs as tables of positions: what tabular rivals read.  Depends on the order of the nodes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.encoding.batch import GraphBatch
from codesign.encoding.features import FeatureSchema

Float32 = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class PositionTable:
    """One row per graph.

    Attributes:
        operators: float32[n, N * V], one-hot operator of the i-th node.
        numbers: float32[n, N * K + E], standardised attributes of nodes and graph.
    """

    operators: Float32
    numbers: Float32


def tabulate(batch: GraphBatch, schema: FeatureSchema, *, n_places: int) -> PositionTable:
    """Lay the nodes of each graph side by side.

    Args:
        batch: graphs; nodes beyond the first `n_places` of a graph are left out.
        schema: vocabulary and standardisation.
        n_places: N, the most nodes of a training graph.

    Raises:
        PredictorError: the columns do not fit the schema.
    """
    schema.check(batch)
    n, n_ops, n_numbers = len(batch), len(schema.op_names), len(schema.numeric_names)
    inside = batch.node_in_graph < n_places
    row, place = batch.graph_index[inside], batch.node_in_graph[inside]
    operators = np.zeros((n, n_places, n_ops), np.float32)
    operators[row, place, schema.vocabulary(batch)[inside]] = 1.0
    node_numbers, extras = schema.standardised(batch)
    numbers = np.zeros((n, n_places, n_numbers), np.float32)
    numbers[row, place] = node_numbers[inside]
    return PositionTable(
        operators=operators.reshape(n, -1),
        numbers=np.concatenate([numbers.reshape(n, -1), extras], axis=1),
    )
