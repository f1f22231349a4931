"""Modules of a report as records of single layers."""

import numpy as np
import pytest

from hw_models.calibration.fit import Dataset, fit, predict
from hw_models.calibration.modules import module_records
from hw_models.coefficients import Coefficients
from hw_models.record_lowering import lower_record
from hw_models.records import Record, read_record


def _module(name: str, **figures: int) -> dict:
    body = {
        "latency_cycles_max": 1,
        "interval_cycles_max": 1,
        "lut": 100,
        "ff": 10,
        "dsp": 0,
        "bram_18k": 0,
    }
    return {"module": name, **body, **figures}


def _record(
    io_type: str = "io_parallel", modules: tuple[dict, ...] = (), **changes: object
) -> Record:
    fixed = "ap_fixed<16,6>"
    precision = {
        "weight_precision": fixed,
        "accum_precision": fixed,
        "result_precision": fixed,
        "input_precision": fixed,
    }
    document = {
        "schema": 1, "id": "d", "source": "s", "tool": "Vivado HLS", "tool_version": "2020.1", "backend": "Vivado",
        "part": "xcu250-figd2104-2L-e", "clock_period_ns": 5.0, "strategy": "latency", "io_type": io_type,
        "model_precision": fixed, "family": "MLP", "flags": [],
        "layers": [
            {"name": "a", "type": "Dense", "in_shape": [8], "out_shape": [16], "units": 16, "reuse_factor": 1, **precision},
            {"name": "r", "type": "Activation", "activation": "relu", "in_shape": [16], "out_shape": [16], **precision},
            {"name": "b", "type": "Dense", "in_shape": [16], "out_shape": [4], "units": 4, "reuse_factor": 1, **precision},
        ],
        "csynth": {"latency_cycles_max": 5, "interval_cycles_max": 1, "lut": 3000, "ff": 800, "dsp": 100, "bram_18k": 0},
        "modules": list(modules),
    } | changes  # fmt: skip
    return read_record(document)


DENSE_2 = "dense_latency_ap_fixed_16_6_5_3_0_ap_fixed_16_6_5_3_0_config2_s"
DENSE_5 = "dense_latency_ap_fixed_16_6_5_3_0_ap_fixed_16_6_5_3_0_config5_s"
RELU_4 = "relu_ap_fixed_16_6_5_3_0_ap_fixed_16_6_5_3_0_relu_config4_s"


def test_modules_follow_the_order_of_the_network_not_of_the_report():
    found = module_records(
        _record(modules=(_module(DENSE_5, lut=7), _module(RELU_4, lut=8), _module(DENSE_2, lut=9)))
    )
    assert {x.layer_index: x.reports["csynth"].lut for x in found} == {0: 9, 1: 8, 2: 7}
    assert not any(x.modules for x in found)


def test_streams_are_matched_by_the_channels_that_a_module_writes():
    """Vitis and Vivado of 2019.2 and later write both streams into a name, the one that is read first."""
    names = ("dense_array_ap_fixed_8u_array_ap_fixed_16_6_5_3_0_16u_config2_s",
             "dense_array_ap_fixed_16u_array_ap_fixed_16_6_5_3_0_4u_config5_s")  # fmt: skip
    found = module_records(_record("io_stream", tuple(_module(name) for name in names)))
    assert [x.layer_index for x in found] == [0, 2]
    wrong = (names[0].replace("16u", "12u"), names[1])
    assert not module_records(_record("io_stream", tuple(_module(name) for name in wrong)))


@pytest.mark.parametrize(
    "name",
    [
        "dense_ss_ap_fixed_ap_fixed_16_6_5_3_0_config2_s",  # a research group's own kernel
        "dense_latency_0_0_0_0_0_0_0_s",  # cut name: which layer is unknown
        "Loop_1_proc",
    ],
)
def test_unknown_kernels_match_nothing(name):
    assert module_records(_record(modules=(_module(name), _module(DENSE_5)))) == []


def test_a_missing_module_leaves_its_kind_out():
    found = module_records(_record(modules=(_module(DENSE_2), _module(RELU_4))))
    assert [x.layer_index for x in found] == [1]


def test_stream_modules_of_other_channels_do_not_match():
    names = [
        f"dense_array_array_ap_fixed_16_6_5_3_0_{n}u_config{k}_s" for n, k in ((16, 2), (5, 5))
    ]
    assert module_records(_record("io_stream", tuple(_module(n) for n in names))) == []
    names[1] = names[1].replace("_5u_", "_4u_")
    assert len(module_records(_record("io_stream", tuple(_module(n) for n in names)))) == 2


def test_one_layer_is_lowered_without_its_neighbours():
    record = _record("io_stream")
    whole = [placed.operation.primitive for placed in lower_record(record).operations]
    assert whole == [
        "matvec",
        "fifo",
        "elementwise",
        "fifo",
        "matvec",
    ]  # the last writes to the ports
    for only, n_in in ((0, 8), (2, 16)):
        (placed,) = lower_record(record, only=only).operations
        assert (placed.operation.primitive, placed.stage) == ("matvec", 0)
        assert placed.operation.parameters["n_in"] == n_in


def test_modules_are_no_designs_but_teach_the_fit():
    costly = (_module(DENSE_2, lut=60_000, ff=400), _module(DENSE_5, lut=30_000, ff=200))
    plain, taught = (
        Dataset([_record(modules=modules, id=f"d{i}", source=f"s{i}") for i in range(6)])
        for modules in ((), costly)
    )
    assert len(plain) == len(taught) == 6
    assert plain.modules is None and len(taught.modules) == 12
    rows = np.arange(6)
    low, high = (predict(d, fit(d, rows, base=Coefficients()))["lut"][0] for d in (plain, taught))
    assert high > low
