"""Torch modules from graphs, and (A, X, W) on disk."""

from pathlib import Path

import numpy as np
import pytest
import torch

from codesign.encoding.graph import Graph, canonicalise
from codesign.encoding.torch_graph import (
    GraphModule,
    WeightedGraph,
    assign_weights,
    flatten_weights,
    load_weighted_graph,
    save_weighted_graph,
)
from codesign.errors import DataError, DesignError


def diamond(**changes: object) -> Graph:
    """input -> dense 4 -> relu -> (identity, dense 4) -> add and concat -> dense 3 = output."""
    ops = ("input", "dense", "relu", "identity", "dense", "add", "concat", "dense")
    roles = (None, None, None, "identity", None, None, None, None)
    units = {1: 4.0, 4: 4.0, 7: 3.0}
    values = {
        "name": "diamond",
        "ops": ops,
        "roles": roles,
        "attributes": tuple({"units": units[i]} if i in units else {} for i in range(8)),
        "edges": tuple(
            (s, t, 1.0)
            for s, t in ((0, 1), (1, 2), (2, 3), (2, 4), (3, 5), (4, 5), (5, 6), (2, 6), (6, 7))
        ),
    }
    return Graph(**{**values, **changes})


def test_module_computes_what_the_graph_says() -> None:
    module = GraphModule(diamond(), n_features=5)
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    hidden = module.dense["1"](x).relu()
    expected = module.dense["7"](torch.cat([hidden + module.dense["4"](hidden), hidden], dim=1))
    torch.testing.assert_close(module(x), expected, rtol=0, atol=1e-6)
    assert module.n_outputs == 3


def test_canonical_graph_computes_the_same_with_the_same_weights() -> None:
    module = GraphModule(diamond(), n_features=5)
    canonical = GraphModule(canonicalise(diamond()), n_features=5)
    assert "identity" not in canonical.graph.ops
    assign_weights(canonical, flatten_weights(module))
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(canonical(x), module(x), rtol=0, atol=1e-6)


def test_zero_nodes_carry_nothing() -> None:
    graph = Graph(
        name="zero",
        ops=("input", "zero", "dense"),
        roles=(None, "zero", None),
        attributes=({}, {}, {"units": 2.0}),
        edges=((0, 1, 1.0), (1, 2, 1.0)),
    )
    module = GraphModule(graph, n_features=3)
    assert torch.equal(module(torch.ones(2, 3)), module(torch.zeros(2, 3)))


def test_weights_survive_the_vector_and_the_file(tmp_path: Path) -> None:
    module = GraphModule(diamond(), n_features=5)
    value = WeightedGraph(graph=diamond(), n_features=5, weights=flatten_weights(module))
    save_weighted_graph(value, tmp_path / "network.npz")
    again = load_weighted_graph(tmp_path / "network.npz")
    assert again.graph == value.graph
    x = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again.module()(x), module(x))


def test_bad_graphs_and_files_say_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(DesignError, match="unknown operator 'densse'; did you mean 'dense'"):
        GraphModule(diamond(ops=("input", "densse", *diamond().ops[2:])), n_features=5)
    with pytest.raises(DesignError, match="sums inputs of widths"):
        narrow = tuple({"units": 2.0} if i == 4 else a for i, a in enumerate(diamond().attributes))
        GraphModule(diamond(attributes=narrow), n_features=5)
    with pytest.raises(DesignError, match="dense has units 0"):
        GraphModule(diamond(attributes=({},) * 8), n_features=5)
    with pytest.raises(DataError, match="belong to another graph"):
        assign_weights(GraphModule(diamond(), n_features=5), np.zeros(3, np.float32))
    np.savez(tmp_path / "pickled.npz", ops=np.array([object()], dtype=object))
    with pytest.raises(DataError, match="pickled objects"):
        load_weighted_graph(tmp_path / "pickled.npz")
    with pytest.raises(DataError, match="no such network file"):
        load_weighted_graph(tmp_path / "absent.npz")
    np.savez(tmp_path / "foreign.npz", a=np.zeros(2))
    with pytest.raises(DataError, match="schema"):
        load_weighted_graph(tmp_path / "foreign.npz")
