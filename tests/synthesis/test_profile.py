"""Latency tables interpolate what was measured, add up to networks, and refuse what they do not know."""

import json

import numpy as np
import pytest

from codesign.errors import ConfigError, DataError, DesignError, DeviceError
from codesign.synthesis.latency_tables import (
    LatencyTable,
    Operator,
    load_table,
    measure_network_ns,
    measure_table,
    mlp_operators,
    network_time_ns,
    operator_time_ns,
)


def _table():
    """Times that are powers: interpolation in the logarithms is exact on them."""
    batches, widths = (1, 16), (4, 16, 64)
    b, m, n = np.meshgrid(batches, widths, widths, indexing="ij")
    return LatencyTable(
        device="made up", torch_version="0", n_threads=1, batch_sizes=batches, widths=widths,
        time_ns={"dense": 10.0 * b * m**0.5 * n, "relu": 3.0 * np.outer(batches, widths)},
    )  # fmt: skip


def test_interpolation_is_exact_on_power_laws():
    table = _table()
    for batch, n_in, n_out in ((1, 4, 64), (4, 10, 37), (16, 64, 5)):
        found = operator_time_ns(
            table, Operator(name="dense", n_in=n_in, n_out=n_out), batch_size=batch
        )
        assert found == pytest.approx(10 * batch * n_in**0.5 * n_out)
    assert operator_time_ns(
        table, Operator(name="relu", n_in=20, n_out=20), batch_size=2
    ) == pytest.approx(120)


def test_a_network_is_the_sum_of_its_operators():
    operators = mlp_operators([16, 32, 5])
    assert [operator.name for operator in operators] == ["dense", "relu", "dense"]
    table = _table()
    parts = [operator_time_ns(table, operator, batch_size=1) for operator in operators]
    assert network_time_ns(table, operators, batch_size=1) == pytest.approx(sum(parts))


@pytest.mark.parametrize(
    ("operator", "batch", "message"),
    [
        (Operator(name="dense", n_in=2, n_out=8), 1, "outside the measured 4 to 64"),
        (Operator(name="relu", n_in=8, n_out=8), 99, "batch size 99"),
        (Operator(name="rleu", n_in=8, n_out=8), 1, "did you mean 'relu'"),
    ],
)
def test_what_was_not_measured_is_refused(operator, batch, message):
    with pytest.raises(DesignError, match=message):
        operator_time_ns(_table(), operator, batch_size=batch)


def test_tables_survive_a_file_and_damage_is_named(tmp_path):
    path = tmp_path / "t.json"
    path.write_text(json.dumps(_table().to_json()))
    np.testing.assert_allclose(
        load_table(path).time_ns["dense"], _table().time_ns["dense"], rtol=0.01
    )
    for text in (
        "",
        "{}",
        path.read_text().replace('"schema": 1', '"schema": 2'),
        path.read_text().replace("[[", "[[[1],", 1),
    ):
        path.write_text(text)
        with pytest.raises(DataError):
            load_table(path)


def test_measuring_gives_times_for_every_point():
    table = measure_table(widths=(4, 8), batch_sizes=(1, 4), budget_s=0.0005)
    assert all((times > 0).all() for times in table.time_ns.values())
    assert table.time_ns["dense"].shape == (2, 2, 2)
    assert (
        measure_network_ns(mlp_operators([4, 8, 4]), device="cpu", batch_size=1, budget_s=0.001) > 0
    )


def test_unknown_devices_and_grids_are_refused():
    import torch

    with pytest.raises(ConfigError, match="unknown device"):
        measure_table(device="tpu")
    with pytest.raises(ConfigError, match="rising"):
        measure_table(widths=(8, 4))
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="--device cpu"):
            measure_table(device="cuda")


def test_operation_counts_of_a_known_network(tmp_path):
    import importlib.util
    from pathlib import Path

    from codesign.synthesis.operations import count_network_operations

    path = Path(__file__).resolve().parents[1] / "export" / "random_networks.py"
    spec = importlib.util.spec_from_file_location("random_networks_of_profile", path)
    assert spec is not None and spec.loader is not None
    helper = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(helper)
    network = helper.random_network(3)
    counts = count_network_operations([network])
    words = [roles["weight"].values for roles in network.constants.values()]
    nonzero = sum(int((w != 0).sum()) for w in words)
    assert counts.macs[0] == nonzero
    assert counts.parameters[0] == nonzero + sum(w.shape[1] for w in words)
    assert counts.flops[0] > 2 * nonzero
    assert 0 < counts.ebops[0] <= counts.bops[0]
