"""Graph files: what is accepted, what is refused, and the canonical form."""

import gzip
import json
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.encoding.graph import Graph, batch_from_graphs, canonicalise, load_graphs
from codesign.errors import DataError
from tests.encoding.graph_strategies import QUICK, graphs


def signal(graph: Graph) -> float:
    """Run the graph on numbers: an oracle for what it computes.

    A node multiplies the sum of its inputs by a number of its operator; zero gives 0.
    """
    factor = {"conv": 3.0, "pool": 0.5, "skip": 1.0, "none": 0.0}
    order = list(nx.topological_sort(nx.DiGraph([(s, t) for s, t, _ in graph.edges])))
    value = {order[0]: 1.0} if order else {}
    for node in order[1:]:
        total = sum(m * value[s] for s, t, m in graph.edges if t == node)
        gain = factor.get(graph.ops[node], 1.0) + graph.attributes[node].get("width", 0.0)
        value[node] = total * gain
    return value[order[-1]] if order else 0.0


@QUICK
@given(graphs())
def test_canonical_graph_computes_the_same(graph: Graph) -> None:
    assert signal(canonicalise(graph)) == pytest.approx(signal(graph), rel=1e-9)


@QUICK
@given(graphs())
def test_canonicalisation_is_idempotent_and_leaves_no_removable_node(graph: Graph) -> None:
    once = canonicalise(graph)
    assert canonicalise(once) == once
    assert not {"skip", "none"} & set(once.ops)
    assert once.ops[0] == "input" and once.ops[-1] == "output"


def test_contraction_keeps_multiplicities() -> None:
    edges = ((0, 1, 1.0), (0, 2, 1.0), (1, 3, 1.0), (2, 3, 1.0), (0, 3, 1.0))
    graph = Graph(
        name="three ways",
        ops=("input", "skip", "skip", "output"),
        roles=(None, "identity", "identity", None),
        attributes=({},) * 4,
        edges=edges,
    )
    assert canonicalise(graph).edges == ((0, 1, 3.0),)


def write(path: Path, *records: dict) -> Path:
    """Write records as JSON lines, gzipped when the name says so."""
    text = "".join(json.dumps(r) + "\n" for r in records)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def record(**changes: object) -> dict:
    """Return a valid record, changed as asked."""
    nodes = [{"op": "input"}, {"op": "dense", "units": 8}, {"op": "output"}]
    return {"nodes": nodes, "edges": [[0, 1], [1, 2]], "target": 0.7, **changes}


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_loads_plain_and_gzipped(tmp_path: Path, name: str) -> None:
    (graph,) = load_graphs(write(tmp_path / name, record()))
    assert graph.ops == ("input", "dense", "output")
    assert graph.attributes[1] == {"units": 8.0}
    assert graph.target == 0.7


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"edges": [[0, 1], [1, 0], [1, 2]]}, "cycle"),
        ({"edges": [[0, 2]]}, "disconnected"),
        ({"edges": [[0, 1], [1, 5]]}, "leaves the 3 nodes"),
        ({"edges": [[0, "1"]]}, "pair of node numbers"),
        ({"target": float("nan")}, "label is nan"),
        ({"target": "good"}, "no number"),
        ({"nodes": []}, "no nodes"),
        ({"nodes": [{"role": "zero"}]}, "'op'"),
        ({"nodes": [{"op": "input"}, {"op": "x", "role": "magic"}, {"op": "o"}]}, "unknown role"),
        ({"nodes": [{"op": "i"}, {"op": "x", "w": float("inf")}, {"op": "o"}]}, "attribute 'w'"),
    ],
)
def test_bad_graphs_are_refused_with_file_and_line(
    tmp_path: Path, changes: dict, says: str
) -> None:
    path = write(tmp_path / "bad.jsonl", record(), record(**changes))
    with pytest.raises(DataError, match=says) as caught:
        load_graphs(path)
    assert "bad.jsonl:2" in str(caught.value)


def test_duplicates_with_different_labels_are_refused_or_averaged(tmp_path: Path) -> None:
    path = write(tmp_path / "twice.jsonl", record(target=0.7), record(target=0.8))
    with pytest.raises(DataError, match="same graph with labels 0.7 and 0.8"):
        load_graphs(path)
    (graph,) = load_graphs(path, duplicates="mean")
    assert graph.target == pytest.approx(0.75)


def test_missing_empty_and_damaged_files_say_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such graph file"):
        load_graphs(tmp_path / "absent.jsonl")
    with pytest.raises(DataError, match="no graphs in it"):
        load_graphs(write(tmp_path / "empty.jsonl"))
    (tmp_path / "broken.jsonl.gz").write_bytes(b"no gzip at all")
    with pytest.raises(DataError, match="damaged"):
        load_graphs(tmp_path / "broken.jsonl.gz")
    (tmp_path / "text.jsonl").write_text("hello\n")
    with pytest.raises(DataError, match="not JSON"):
        load_graphs(tmp_path / "text.jsonl")


@QUICK
@given(st.lists(graphs(), min_size=1, max_size=5), st.data())
def test_batch_take_equals_encoding_the_chosen_graphs(
    many: list[Graph], data: st.DataObject
) -> None:
    chosen = data.draw(st.lists(st.integers(0, len(many) - 1), min_size=1, max_size=6))
    taken = batch_from_graphs(many).take(chosen)
    direct = batch_from_graphs([many[i] for i in chosen])
    names = np.array(taken.op_names)[taken.op], np.array(direct.op_names)[direct.op]
    assert (names[0] == names[1]).all()
    assert (taken.edge_index == direct.edge_index).all()
    assert (taken.graph_index == direct.graph_index).all()
    assert (taken.edge_multiplicity == direct.edge_multiplicity).all()
