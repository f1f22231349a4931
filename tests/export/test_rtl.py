"""RTL: exact by alkaid's interpreter, pipelined for the clock, deterministic, named safely."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from codesign.errors import ExportError
from codesign.export.alkaid_hls import export_alkaid_hls
from codesign.export.rtl import (
    export_rtl,
    pack_hex,
    run_trace,
    solve_network,
    trace_network,
    unpack_hex,
)
from codesign.hardware.device import load_device
from codesign.hardware.scorer import HardwareScorer
from codesign.ir import FixedPoint
from codesign.synthesis.networks import network_record
from codesign.tools import find_tool
from codesign.validate.rtl_emulation import run_vhdl
from hw_models.coefficients import Coefficients
from tests.export.random_networks import random_network, random_words, reference


# 49 holds lanes of one signed bit, which alkaid's bit tables would take for unsigned
@pytest.mark.parametrize("seed", [*range(9), 49])
def test_the_traced_logic_equals_the_reference(seed):
    network = random_network(seed)
    words = random_words(network, 1000, seed)
    assert np.array_equal(
        run_trace(trace_network(network), network, words), reference(network, words)
    )


def test_a_faster_clock_needs_more_cycles_and_no_other_logic():
    latencies = []
    for clock_period_ns in (10.0, 2.0):
        export = export_rtl(random_network(10, clock_period_ns=clock_period_ns))
        latencies.append(export.latency_cycles)
        assert export.interval_cycles == 1
        assert f"-period {clock_period_ns}" in export.plan.files["codesign_nn.xdc"].decode()
    assert latencies == sorted(latencies) and latencies[0] < latencies[-1]


@pytest.mark.parametrize("seed", [0, 3, 8])
def test_the_solved_network_is_what_the_export_builds(seed):
    network = random_network(seed, strategies=("distributed_arithmetic",))
    export, solved = export_rtl(network), solve_network(network)
    record = network_record(network)
    assert solved is not None
    for fact, name in (
        ("adder_cost", "adder_cost"), ("register_bits", "register_bits"), ("latency_cycles", "pipeline_cycles"),
    ):  # fmt: skip
        assert getattr(solved, fact) == getattr(export, fact) == getattr(record, name)
    scorer = HardwareScorer(device=load_device("xcvu13p"), coefficients=Coefficients())
    cycles = scorer.score_quantized([network], solve=solve_network).metrics["latency_cycles"]
    assert cycles.low[0] == cycles.value[0] == cycles.high[0] == export.latency_cycles


@pytest.mark.parametrize(("flavor", "suffix"), [("verilog", "v"), ("vhdl", "vhd")])
def test_projects_are_complete_and_deterministic(flavor, suffix):
    network = random_network(8)
    words = random_words(network, 10)
    golden = (words, reference(network, words))
    first, second = (
        export_rtl(network, flavor=flavor, golden=golden, name="top_x") for _ in range(2)
    )
    assert first.plan.digest == second.plan.digest
    assert set(first.sources) < set(first.plan.files)
    assert first.sources[-1] == f"src/top_x.{suffix}"
    for script in ("vivado.tcl", "quartus.tcl"):
        text = first.plan.files[script].decode()
        assert all(source in text for source in first.sources)
    facts = json.loads(first.plan.files["rtl.json"])
    assert facts["latency_cycles"] == first.latency_cycles
    assert facts["y"]["bits"] == network.output_format.bits
    assert facts["network_digest"] == network.digest
    for (
        source
    ) in first.sources:  # names that every alkaid design shares would clash in one firmware
        assert not re.search(rb"\blogic\d", first.plan.files[source])


def test_a_dense_layer_whose_products_are_all_constant_is_traced():
    network = random_network(
        12, max_width=6, max_bits=6, strategies=("distributed_arithmetic", "latency", "resource")
    )
    weights = network.constants["dense_2"]["weight"].values
    assert not weights[:3].any()  # its one weight reads a constant lane
    words = random_words(network, 500)
    assert np.array_equal(
        run_trace(trace_network(network), network, words), reference(network, words)
    )


def test_constant_networks_are_refused():
    network = random_network(8)
    zeros = {
        name: {
            **roles,
            "weight": replace(roles["weight"], values=np.zeros_like(roles["weight"].values)),
        }
        for name, roles in network.constants.items()
    }
    with pytest.raises(ExportError, match="depend on no input"):
        trace_network(replace(network, constants=zeros))


def test_names_and_flavors_are_checked():
    with pytest.raises(ExportError, match="cannot name a project"):
        export_rtl(random_network(8), name="top; rm")
    with pytest.raises(ExportError, match="flavor 'chisel' unknown"):
        export_rtl(random_network(8), flavor="chisel")


def test_lanes_are_packed_low_lane_first():
    assert pack_hex(np.array([[-1, 1], [0, -8]]), 4) == "1f\n80\n"


def test_alkaid_hls_is_deterministic_and_names_part_and_clock():
    network = random_network(8, clock_period_ns=2.5)
    plans = [export_alkaid_hls(network, trace_network(network), name="net") for _ in range(2)]
    assert plans[0].digest == plans[1].digest
    script = plans[0].files["build_vitis_prj.tcl"].decode()
    assert network.candidate.hardware.part in script and "2.5" in script


def test_packed_vectors_unpack_to_the_same_words():
    for signed in (True, False):
        fmt = FixedPoint(bits=7, integer_bits=3, signed=signed)
        words = np.random.default_rng(0).integers(fmt.min_word, fmt.max_word + 1, size=(50, 3))
        assert np.array_equal(unpack_hex(pack_hex(words, fmt.bits), 3, fmt), words)
    with pytest.raises(ExportError, match="unknown bits"):
        unpack_hex("0x\n", 1, fmt)


@pytest.mark.slow
@pytest.mark.skipif(find_tool("ghdl") is None, reason="ghdl is not installed")
@pytest.mark.parametrize("seed", range(4))
def test_the_vhdl_equals_the_reference(seed, tmp_path):
    network = random_network(seed)
    words = random_words(network, 1000, seed)
    expected = reference(network, words)
    export = export_rtl(network, flavor="vhdl", golden=(words, expected))
    assert np.array_equal(run_vhdl(export, network, words, tmp_path / "rtl"), expected)
