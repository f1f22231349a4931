"""Features: invariant to node order, equal to path enumeration, stored with their meaning."""

import itertools

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.encoding.bags import BagVocabulary, walks, weisfeiler_lehman
from codesign.encoding.features import FeatureSchema, chunks
from codesign.encoding.graph import Graph, batch_from_graphs, canonicalise
from codesign.errors import PredictorError
from tests.encoding.graph_strategies import QUICK, graphs, permute

REFERENCE = [
    Graph(
        name=str(i),
        ops=("input", first, second, "output"),
        roles=(None,) * 4,
        attributes=({}, {"width": 1.0 + i}, {"width": 4.0}, {}),
        edges=((0, 1, 1.0), (1, 2, 1.0), (2, 3, 1.0), (0, 3, 1.0))
        if i % 2
        else ((0, 1, 1.0), (0, 2, 1.0), (1, 3, 1.0), (2, 3, 1.0)),
    )
    for i, (first, second) in enumerate(itertools.product(("conv", "pool"), repeat=2))
]


def with_width(graph: Graph) -> Graph:
    """Give the graph an attribute, so that it has the columns of REFERENCE."""
    attributes = tuple({"width": 2.0, **a} for a in graph.attributes)
    return Graph(
        name=graph.name,
        ops=graph.ops,
        roles=graph.roles,
        attributes=attributes,
        edges=graph.edges,
    )


@QUICK
@given(graphs(), st.data())
def test_encoding_does_not_depend_on_the_order_of_nodes(graph: Graph, data: st.DataObject) -> None:
    graph = with_width(graph)
    order = data.draw(st.permutations(range(len(graph.ops))))
    schema = FeatureSchema.fit(batch_from_graphs(REFERENCE))
    pair = batch_from_graphs([graph, permute(graph, list(order))])
    encoded = schema.encode(pair)
    # Sums in another order: float32 rounding only.
    np.testing.assert_allclose(encoded.globals[0], encoded.globals[1], atol=1e-5)
    rows = [sorted(map(tuple, encoded.nodes[i].round(4).tolist())) for i in (0, 1)]
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-3)
    operators = schema.vocabulary(pair)
    for bag in (walks(pair, operators, length=4), weisfeiler_lehman(pair, operators, rounds=2)):
        counts = BagVocabulary.fit(bag[1]).count(2, *bag).toarray()
        np.testing.assert_allclose(counts[0], counts[1], atol=1e-6)


@QUICK
@given(graphs())
def test_path_features_equal_enumeration(graph: Graph) -> None:
    graph = canonicalise(with_width(graph))
    schema = FeatureSchema.fit(batch_from_graphs(REFERENCE))
    padded = schema._pad(batch_from_graphs([graph]))
    values = dict(zip(schema._all_global_names(), schema._globals(padded)[0], strict=True))
    network = nx.DiGraph()
    network.add_nodes_from(range(len(graph.ops)))
    network.add_edges_from((s, t) for s, t, _ in graph.edges)
    times = {(s, t): m for s, t, m in graph.edges}
    paths = list(nx.all_simple_paths(network, 0, len(graph.ops) - 1))
    weights = [np.prod([times[e] for e in itertools.pairwise(p)]) for p in paths]
    lengths = [len(p) for p in paths]
    convolutions = [sum(graph.ops[v] == "conv" for v in p) for p in paths]
    assert values["log paths"] == pytest.approx(np.log1p(sum(weights)), rel=1e-5)
    if paths:
        for name, counts in (("length", lengths), ("op conv", convolutions)):
            assert values[f"max {name}"] == max(counts)
            assert values[f"min {name}"] == min(counts)
            assert values[f"mean {name}"] == pytest.approx(
                np.average(counts, weights=weights), rel=1e-4, abs=1e-5
            )
    assert values["total op conv"] == graph.ops.count("conv")


def test_unknown_operators_share_a_bucket_and_training_decides_the_vocabulary() -> None:
    schema = FeatureSchema.fit(batch_from_graphs(REFERENCE))
    assert schema.op_names == ("conv", "input", "output", "pool", "(unknown)")
    foreign = batch_from_graphs(
        [
            with_width(
                Graph(
                    name="x",
                    ops=("input", "attention", "output"),
                    roles=(None,) * 3,
                    attributes=({},) * 3,
                    edges=((0, 1, 1.0), (1, 2, 1.0)),
                )
            )
        ]
    )
    assert schema.vocabulary(foreign).tolist() == [1, 4, 2]
    assert np.isfinite(schema.encode(foreign).globals).all()


def test_mismatched_columns_are_named() -> None:
    schema = FeatureSchema.fit(batch_from_graphs(REFERENCE))
    other = Graph(
        name="y",
        ops=("input", "output"),
        roles=(None, None),
        attributes=({"bits": 3.0}, {}),
        edges=((0, 1, 1.0),),
    )
    with pytest.raises(PredictorError, match="missing: width; surplus: bits"):
        schema.encode(batch_from_graphs([other]))


def test_schema_survives_storage_and_refuses_another_version() -> None:
    schema = FeatureSchema.fit(batch_from_graphs(REFERENCE))
    meta, arrays = schema.state()
    again = FeatureSchema.restore(meta, arrays)
    batch = batch_from_graphs(REFERENCE)
    assert (again.encode(batch).globals == schema.encode(batch).globals).all()
    with pytest.raises(PredictorError, match="version 0"):
        FeatureSchema.restore({**meta, "version": 0}, arrays)
    with pytest.raises(PredictorError, match="total op warp"):
        FeatureSchema.restore({**meta, "global_names": ["total op warp"]}, arrays)


def test_chunks_cover_every_graph_once_and_change_nothing() -> None:
    batch = batch_from_graphs(REFERENCE * 50)
    schema = FeatureSchema.fit(batch)
    whole = schema.encode(batch).globals
    seen = np.zeros(len(batch), int)
    for chosen, part in chunks(batch):
        seen[chosen] += 1
        np.testing.assert_allclose(schema.encode(part).globals, whole[chosen], atol=1e-6)
    assert (seen == 1).all()
