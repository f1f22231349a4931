"""The stacked dense network against an independent message-passing implementation."""

import warnings

import numpy as np
import pytest
import torch

from codesign.encoding.features import FeatureSchema
from codesign.encoding.graph import Graph, batch_from_graphs
from codesign.predictor.network import (
    NetworkShape,
    StackedGin,
    predict_stack,
    stack_from_arrays,
    stack_to_arrays,
)


def graphs() -> list[Graph]:
    """Graphs of two to five nodes, one with a double edge."""
    made = []
    for i, edges in enumerate(
        [
            ((0, 1, 1.0),),
            ((0, 1, 1.0), (1, 2, 1.0), (0, 2, 2.0)),
            ((0, 1, 1.0), (0, 2, 1.0), (1, 3, 1.0), (2, 3, 1.0), (3, 4, 1.0), (0, 4, 1.0)),
        ]
    ):
        n = max(t for _, t, _ in edges) + 1
        ops = ("input", *(("conv", "pool")[k % 2] for k in range(n - 2)), "output")
        made.append(
            Graph(name=str(i), ops=ops, roles=(None,) * n, attributes=({},) * n, edges=edges)
        )
    return made


@pytest.mark.slow
def test_stack_equals_message_passing() -> None:
    with warnings.catch_warnings():
        # torch_geometric 2.8 calls torch.jit.script, which torch 2.13 deprecates, at import.
        warnings.simplefilter("ignore", DeprecationWarning)
        from tests.predictor.message_passing import TwoWayGin, to_torch_geometric
    batch = batch_from_graphs(graphs())
    schema = FeatureSchema.fit(batch)
    encoded = schema.encode(batch)
    shape = NetworkShape(
        n_members=2,
        n_node_features=encoded.nodes.shape[2],
        n_globals=encoded.globals.shape[1],
        width=8,
        depth=2,
    )
    stack = StackedGin(shape, torch.Generator().manual_seed(1)).requires_grad_(False)
    fast = predict_stack(stack, encoded)
    sparse = to_torch_geometric(batch, schema)
    for member in range(2):
        slow = TwoWayGin.from_stack(stack, member)(sparse)
        # Sums in another order: float32 rounding only.
        np.testing.assert_allclose(fast[member], slow.numpy(), atol=1e-5)
    again = stack_from_arrays(shape, stack_to_arrays(stack))
    np.testing.assert_array_equal(predict_stack(again, encoded), fast)
