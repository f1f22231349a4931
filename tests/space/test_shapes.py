"""Shapes of any rank travel through a population: positions before the last axis, channels in it."""

from dataclasses import replace

import numpy as np
import pytest

from codesign.errors import DesignError
from codesign.ir import Candidate, HardwareConfig, Network, Node
from codesign.space import candidates_from_population, population_from_candidates


def node(name: str, layer: str, *inputs: str, **parameters: float) -> Node:
    return Node(name=name, layer=layer, inputs=inputs, parameters=parameters)


def candidate(*nodes: Node) -> Candidate:
    dense = [n.name for n in nodes if n.layer == "dense"]
    return Candidate(
        network=Network(nodes=nodes),
        hardware=HardwareConfig(
            part="xcvu13p-flga2577-2-e",
            clock_period_ns=2.5,
            flow="hls",
            io_type="io_stream",
            strategy=dict.fromkeys(dense, "resource"),
            reuse_factor=dict.fromkeys(dense, 3),
        ),
    )


def particles(*more: Node, **axes: int) -> Candidate:
    return candidate(
        node("input_1", "input", width=3, result_bits=6, **axes),
        node("dense_1", "dense", "input_1", units=6, weight_bits=4, pruned_fraction=0.0),
        node("relu_1", "relu", "dense_1", result_bits=5),
        *more,
    )


@pytest.mark.parametrize(
    ("axes", "shape"), [({}, ()), ({"columns": 8}, (8,)), ({"rows": 4, "columns": 8}, (4, 8))]
)
def test_a_layer_keeps_the_positions_that_it_works_at_and_flatten_ends_them(axes, shape):
    network = particles(node("flatten_1", "flatten", "relu_1"), **axes)
    columns = population_from_candidates([network]).columns
    n_positions = int(np.prod(shape))
    assert columns["n_positions"].tolist() == [*[n_positions] * 3, 1]
    assert columns["input_positions"].tolist() == [0, *[n_positions] * 3]
    assert columns["n_in"].tolist() == [0, 3, 6, 6]
    assert columns["n_out"].tolist() == [3, 6, 6, 6 * n_positions]
    # the sum of a dense layer grows with what it reads at one position only
    assert columns["output_bits"].tolist() == [6, 6 + 4 - 1 + 2, 5, 5]


def test_candidates_of_any_rank_and_io_type_come_back():
    known = [particles(), particles(columns=8), particles(rows=4, columns=8)]
    population = population_from_candidates(known)
    found = candidates_from_population(population, part=known[0].hardware.part)
    assert found == known
    assert "columns" not in found[0].network.nodes[0].parameters  # as before there were any


def test_shapes_that_do_not_fit_are_refused():
    flat = node("flatten_1", "flatten", "relu_1")
    for layer in ("add", "concat"):
        merged = node("merge", layer, "relu_1", "flatten_1")
        with pytest.raises(DesignError, match=r"\(8, 6\) and \(48,\) do not fit"):
            population_from_candidates([particles(flat, merged, columns=8)])
    with pytest.raises(DesignError, match="rows needs columns"):
        population_from_candidates([particles(rows=8)])


def test_branches_of_equal_positions_join_along_the_channels():
    joined = node("concat_1", "concat", "relu_1", "input_1")
    columns = population_from_candidates([particles(joined, columns=8)]).columns
    assert (columns["n_out"][-1], columns["n_columns"][-1], columns["n_positions"][-1]) == (9, 8, 8)


def test_a_layer_at_several_positions_shares_a_multiplier_by_at_most_its_inputs():
    """hls4ml asserts it in C++ (nnet_conv1d_resource.h); the scorer must not promise more."""
    for axes in ({}, {"columns": 8}):
        known = particles(**axes)
        hardware = replace(known.hardware, reuse_factor={"dense_1": 6})
        other = replace(known, hardware=hardware)
        if not axes:
            assert population_from_candidates([other]).columns["reuse_factor"][1] == 6
            continue
        with pytest.raises(DesignError, match="3 x 6 layer at several positions .* below is 3"):
            population_from_candidates([other])
