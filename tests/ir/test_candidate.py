"""Candidates on disk: what is written is read back, older schemas too; illegal ones are refused."""

from dataclasses import replace

import pytest

from codesign.errors import DesignError
from codesign.ir import Candidate, HardwareConfig, Network, Node


def candidate(strategy: str = "distributed_arithmetic", flow: str = "rtl") -> Candidate:
    nodes = (
        Node(name="x", layer="input", inputs=(), parameters={"width": 3, "result_bits": 4}),
        Node(name="d", layer="dense", inputs=("x",), parameters={"units": 2, "weight_bits": 4}),
    )
    hardware = HardwareConfig(
        part="xcvu13p-flga2577-2-e",
        clock_period_ns=2.5,
        flow=flow,
        io_type="io_parallel",
        strategy={"d": strategy},
        reuse_factor={"d": 1},
    )
    return Candidate(network=Network(nodes=nodes), hardware=hardware)


def test_a_candidate_is_read_back():
    for one in (candidate(), candidate(flow="hls"), candidate("latency", "hls")):
        assert Candidate.from_json(one.to_json()) == one


@pytest.mark.parametrize(
    ("strategy", "flow"), [("distributed_arithmetic", "rtl"), ("latency", "hls")]
)
def test_schema_1_said_the_flow_by_its_strategies(strategy, flow):
    known = candidate(strategy, flow)
    old = known.to_json() | {"schema": 1}
    del old["hardware"]["flow"]
    assert Candidate.from_json(old) == known


def test_another_schema_is_refused():
    with pytest.raises(DesignError, match="schema 3; this version reads schemas 1 and 2"):
        Candidate.from_json(candidate().to_json() | {"schema": 3})


def test_the_flow_is_part_of_the_digest():
    assert candidate().digest != candidate(flow="hls").digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"flow": "hsl"}, "did you mean 'hls'"),
        ({"io_type": "io_streams"}, "did you mean 'io_stream'"),
        ({"io_type": "io_stream"}, "choose io_parallel"),
        ({"strategy": {"d": "latency"}}, "d: strategy 'latency' in flow rtl"),
    ],
)
def test_an_illegal_configuration_is_refused(change, message):
    with pytest.raises(DesignError, match=message):
        replace(candidate().hardware, **change)
