"""A candidate, its own record and its own hls4ml project are one design and get one estimate."""

import json

import pytest
from typer.testing import CliRunner

from codesign.cli import build_app
from codesign.hardware.device import load_device
from codesign.layers import LAYERS
from codesign.study import Study, StudyConfig
from codesign.synthesis.estimates import estimate_design, estimate_network, project_record
from codesign.synthesis.networks import network_record
from codesign.synthesis.operations import count_network_operations
from codesign.testing.layers import network_of
from hw_models.profile import count_operations
from hw_models.record_lowering import batch_records, lower_record
from hw_models.records import parse_type, read_record, record_json
from hw_models.types import METRICS
from tests.export.random_networks import random_network

DEVICE = load_device("xcvu13p")


def figures(item):
    assert item.summary["supported"], item.summary["notes"]
    return {metric: item.summary[metric] for metric in METRICS}


@pytest.mark.parametrize("seed", range(16))
@pytest.mark.parametrize("stage", ["csynth", "implemented"])
def test_a_candidate_and_its_record_get_one_estimate(seed, stage):
    """Solved graphs of plain RTL included; the record goes through a file as a user's would."""
    graphs = ("distributed_arithmetic",)
    network = random_network(seed, strategies=graphs if seed % 4 == 0 else ("latency", *graphs))
    record = read_record(json.loads(json.dumps(record_json(network_record(network)))))
    assert figures(estimate_network(network, DEVICE, stage=stage)) == figures(
        estimate_design(record, stage=stage)
    )


@pytest.mark.parametrize(
    "seed",
    [1, 7, 11, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(20, 29))],
)
def test_a_candidate_and_its_hls4ml_project_get_one_estimate(tmp_path, seed):
    from codesign.export.hls4ml import export_hls4ml

    network = random_network(seed, strategies=("latency",))
    export_hls4ml(network).plan.write(tmp_path / "p")
    assert figures(estimate_network(network, DEVICE)) == figures(
        estimate_design(project_record(tmp_path / "p"))
    )


@pytest.mark.parametrize("name", [n for n in LAYERS.names() if n not in ("input", "batch_norm")])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_every_layer_has_a_record_of_its_own_cost(name, rank):
    layer = LAYERS.get(name)
    if rank not in layer.ranks:
        pytest.skip(f"{name} takes no tensors of {rank} axes")
    network = network_of(layer, layer.examples()[0], rank)
    assert figures(estimate_network(network, DEVICE)) == figures(
        estimate_design(network_record(network))
    )


def test_a_merge_is_recorded_with_its_widest_input():
    layers = {layer.name: layer for layer in network_record(random_network(11)).layers}
    node = next(n for n in random_network(11).network.nodes if n.layer == "add")
    widths = [parse_type(layers[source].result_precision).bits for source in node.inputs]
    assert len(set(widths)) == 2
    assert parse_type(layers[node.name].input_precision).bits == max(widths)


def test_a_candidate_and_its_record_count_the_same_operations():
    for seed in range(8):
        network = random_network(seed)
        record = network_record(network, solve_graphs=False)
        ((_, batch),) = batch_records([record], [lower_record(record)])
        assert count_operations(batch.ops, 1) == count_network_operations([network])


def test_shares_of_layers_add_up_in_both_forms():
    network = random_network(2, strategies=("latency",))
    both = [estimate_network(network, DEVICE), estimate_design(network_record(network))]
    sums = [{m: sum(share.metrics[m] for share in item.layers) for m in METRICS} for item in both]
    assert sums[0] == pytest.approx(sums[1])
    assert sums[0]["dsp"] == both[0].summary["dsp"]["value"]


def test_the_verb_prices_a_candidate_of_a_study_as_the_scorer_does(tmp_path):
    network = random_network(3)
    study = Study.at(tmp_path / "s", StudyConfig(name="s", device="xcvu13p")).begin()
    path = study.weights_file(network.digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    network.save(path)
    arguments = ["estimate", str(tmp_path / "s"), "--candidate", network.digest, "--json"]
    result = CliRunner().invoke(build_app(), arguments)
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    expected = estimate_network(network, DEVICE, stage="implemented")  # what studies state
    assert {metric: printed[metric] for metric in METRICS} == figures(expected)
    assert printed["id"] == network.digest  # as the study calls it
    nodes = network.candidate.network.nodes
    assert [layer["name"] for layer in printed["layers"]] == [node.name for node in nodes]
    assert printed["notes"][-1].startswith("share of xcvu13p") and printed["over"] == []
    assert 0 < printed["utilization"]["lut"] < 0.1
