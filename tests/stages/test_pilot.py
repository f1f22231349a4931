"""Topologies of finalists that learn their widths: of every kind some are tried, those that do well are kept."""

from types import SimpleNamespace

import numpy as np

from codesign.ir import Network, Node
from codesign.stages.pilot import assign, choose_topologies, topology


def candidate(units, layer="relu", bits=6):
    nodes = (
        Node(name="x", layer="input", inputs=(), parameters={"width": 4, "result_bits": 8}),
        Node(name="d", layer="dense", inputs=("x",), parameters={"units": units, "weight_bits": bits}),
        Node(name="a", layer=layer, inputs=("d",), parameters={"result_bits": bits}),
    )  # fmt: skip
    return SimpleNamespace(network=Network(nodes=nodes))


def test_a_topology_has_no_widths():
    assert topology(candidate(8, bits=6)) == topology(candidate(8, bits=3))
    assert len({topology(candidate(*c)) for c in ((8,), (12,), (8, "tanh"))}) == 3


def test_every_kind_is_tried_before_a_second_size_of_one():
    networks = [candidate(u, k) for u, k in ((8, "tanh"), (12, "tanh"), (8, "relu"), (8, "tanh"))]
    points = [SimpleNamespace(score=s) for s in (0.8, 0.79, 0.7, 0.75)]
    assert choose_topologies(points, networks, 2) == [[0, 3], [2]]
    assert choose_topologies(points, networks, 9) == [[0, 3], [2], [1]]


def test_every_budget_gets_a_point_of_one_of_the_three_best_there():
    topologies = [[0, 1], [2, 3, 4], [5], [6, 7]]
    scores = np.array([[0.9, 0.1], [0.5, 0.6], [0.4, 0.5], [0.3, 0.9]])
    luts = np.geomspace(100, 1000, 8)
    chosen = assign(topologies, scores, np.array([100.0, 1000.0]), luts)
    assert sorted(chosen) == list(range(8))  # none twice
    assert chosen[0] == 0  # the best of the cheapest budget
    of = {point: t for t, members in enumerate(topologies) for point in members}
    assert [of[p] for p in chosen[:3]] == [0, 1, 3]  # neighbours take turns
    assert len(assign(topologies, scores, np.array([100.0, 1000.0]), luts[:3])) == 3
