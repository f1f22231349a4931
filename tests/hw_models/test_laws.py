"""Every law's figures on small designs of the project's own, and figures that reports state.

`make golden` writes tests/hw_models/golden/laws.json again; a human reads the difference.
"""

import json
import sys
from pathlib import Path

import pytest

from hw_models.coefficients import Coefficients
from hw_models.compose import estimate, raw_costs
from hw_models.formula import RESOURCES
from hw_models.record_lowering import batch_records, lower_record
from hw_models.records import LayerRecord, Record
from hw_models.types import METRICS
from tests.hw_models.golden.designs import designs

GOLDEN = Path(__file__).parent / "golden"
DESIGNS = dict(designs())
#: Intervals of every class, wide enough that a prior's share can be taken out.
WIDE = Coefficients(intervals={metric: {"*": (-1.0, 1.0)} for metric in METRICS})


def batch_of(record):
    ((_, batch),) = batch_records([record], [lower_record(record)])
    return batch


def law(batch):
    """What the laws say of one design, before any fitted factor, and the ends of its intervals."""
    raw = raw_costs(batch, {})
    terms = {
        target: {name: float(f"{value[0]:.9g}") for name, value in raw.terms[target].items() if value[0]}
        for target in RESOURCES
    }  # fmt: skip
    metrics = estimate(batch, WIDE).metrics
    return {
        "latency_cycles": float(raw.latency_cycles[0]),
        "interval_cycles": float(raw.interval_cycles[0]),
        "energy_pj": float(f"{raw.energy_pj[0]:.9g}"),
        **terms,
        "ends": {m: [float(metrics[m].low[0]), float(metrics[m].high[0])] for m in METRICS},
    }


@pytest.mark.parametrize("name", list(DESIGNS))
def test_laws_say_what_they_said(name):
    expected = json.loads((GOLDEN / "laws.json").read_text())[name]
    found = law(DESIGNS[name])
    assert set(found) == set(expected)
    for key, value in expected.items():
        assert found[key] == (pytest.approx(value) if isinstance(value, float | dict) and key != "ends" else value), key  # fmt: skip


def test_every_primitive_and_term_is_held():
    from hw_models.primitives import primitives

    assert {op.primitive for batch in DESIGNS.values() for op in batch.ops} == set(primitives())
    assert list(json.loads((GOLDEN / "laws.json").read_text())) == list(DESIGNS)


def _one(kind, ins, outs, *, tool=("Vivado HLS", "2019.2"), part="xcu250-figd2104-2L-e", io="io_parallel", clock_period_ns=5.0, clock_uncertainty_ns=None, **more):  # fmt: skip
    word = "ap_fixed<16,6>"
    words = dict.fromkeys(("input_precision", "weight_precision", "accum_precision"), word)
    layer = LayerRecord(
        type=kind, name="x", in_shape=ins, out_shape=outs, result_precision=word, **(words | more)
    )
    return Record(
        id="x", source="s", tool=tool[0], tool_version=tool[1], part=part,
        clock_period_ns=clock_period_ns, clock_uncertainty_ns=clock_uncertainty_ns, io_type=io,
        model_precision=word, layers=(layer,),
    )  # fmt: skip


def _resource(n_in, n_out, reuse, **more):
    return _one("Dense", (n_in,), (n_out,), strategy="resource", reuse_factor=reuse, **more)


_EIGHT = {
    "input_precision": "ap_fixed<8,2>", "weight_precision": "ap_fixed<8,1>", "clock_period_ns": 3.33,
    "clock_uncertainty_ns": 0.42,
}  # fmt: skip
_EIGHTEEN = {
    "input_precision": "ap_fixed<18,8>", "weight_precision": "ap_fixed<18,8>", "accum_precision": "ap_fixed<18,8>",
}  # fmt: skip

#: Figures of csynth reports (repositories and modules in docs/hardware-models.md), each of one law alone.
REPORTED = {
    "gru, 20 steps of 5 units": (_one("GRU", (20, 6), (5,), units=5, reuse_factor=1, strategy="resource"), "interval_cycles", 221, 3),
    "gru, 20 steps of 20 units": (_one("GRU", (20, 6), (20,), units=20, reuse_factor=1, strategy="resource"), "latency_cycles", 221, 3),
    "gru by 30": (_one("GRU", (15, 6), (120,), units=120, reuse_factor=30, strategy="resource"), "latency_cycles", 616, 20),
    "gru, virtex 7": (_one("GRU", (20, 6), (20,), units=20, reuse_factor=1, strategy="latency", part="xc7vx690tffg1927-2"), "latency_cycles", 339, 5),
    "lstm, 16 steps of 4 units": (_one("LSTM", (16, 1), (4,), units=4, reuse_factor=1, strategy="latency"), "latency_cycles", 95, 2),
    "resource interval": (_resource(64, 32, 128), "interval_cycles", 128, 0),
    "resource latency": (_resource(64, 32, 128), "latency_cycles", 130, 1),
    "resource multipliers": (_resource(64, 32, 256), "dsp", 8, 0),
    "no dsp at 4 bits": (_resource(64, 32, 128, weight_precision="ap_fixed<4,1>"), "dsp", 0, 0),
    "batch norm by 24, multipliers": (_one("BatchNormalization", (24,), (24,), reuse_factor=24, weight_precision="ap_fixed<16,6>"), "dsp", 1, 0),
    "batch norm by 24, cycles": (_one("BatchNormalization", (24,), (24,), reuse_factor=24, weight_precision="ap_fixed<16,6>"), "latency_cycles", 23, 0),
    "line buffer, 34 x 34": (_one("Conv2D", (34, 34, 3), (32, 32, 64), kernel=(3, 3), reuse_factor=1, io="io_stream", tool=("Vitis HLS", "2024.1")), "latency_cycles", 1160, 4),
    "pixels by 784": (_one("Conv2D", (64, 64, 4), (62, 62, 4), kernel=(3, 3), reuse_factor=108, strategy="resource", io="io_stream", part="xczu5ev-sfvc784-2LV-e"), "latency_cycles", 462850, 2400),
    "means of partial windows": (_one("AveragePooling1D", (121, 3), (61, 3), kernel=(2,), tool=("Vivado HLS", "2020.1")), "lut", 89529, 10000),
    "means of partial windows, cycles": (_one("AveragePooling1D", (121, 3), (61, 3), kernel=(2,), tool=("Vivado HLS", "2020.1")), "latency_cycles", 21, 0),
    "means of whole windows": (_one("AveragePooling1D", (121, 3), (60, 3), kernel=(2,), tool=("Vivado HLS", "2020.1")), "lut", 4178, 1000),
    "sigmoid tables": (_one("Activation", (64,), (64,), activation="sigmoid"), "bram_18k", 32, 0),
    "softmax products": (_one("Softmax", (5,), (5,)), "dsp", 5, 0),
    "softmax tables": (_one("Softmax", (5,), (5,)), "bram_18k", 4, 0),
    "softmax tables, vitis": (_one("Softmax", (5,), (5,), tool=("Vitis HLS", "2022.2")), "bram_18k", 8, 0),
    "zynq, 64 x 32 of 16 bits": (_one("Dense", (64,), (32,), tool=("Vivado HLS", "2020.1"), part="xc7z020clg400-1"), "latency_cycles", 6, 1),
    "zynq, 32 x 5 of 16 bits": (_one("Dense", (32,), (5,), tool=("Vivado HLS", "2020.1"), part="xc7z020clg400-1"), "latency_cycles", 5, 1),
    "zynq, 16 x 64 of 8 bits at 3.3 ns": (_one("Dense", (16,), (64,), n_zeros=160, tool=("Vitis HLS", "2021.1"), part="xc7z007sclg225-2", **_EIGHT), "latency_cycles", 6, 1),
    "virtex 7, 32 x 1 of 18 bits": (_one("Dense", (32,), (1,), n_zeros=6, tool=("Vivado HLS", "2016.4"), part="xc7vx690tffg1927-2", **_EIGHTEEN), "latency_cycles", 4, 0),
    "virtex 7, by 2 in turn": (_one("Dense", (10,), (32,), n_zeros=160, reuse_factor=2, tool=("Vivado HLS", "2016.4"), part="xc7vx690tffg1927-2", **_EIGHTEEN), "interval_cycles", 2, 1),
    "virtex 7, by 4 one after another": (_one("Dense", (10,), (32,), n_zeros=160, reuse_factor=4, tool=("Vivado HLS", "2016.4"), part="xc7vx690tffg1927-2", **_EIGHTEEN), "interval_cycles", 7, 1),
    "softmax of 5, zynq": (_one("Softmax", (5,), (5,), part="xc7z020clg400-1"), "latency_cycles", 14, 2),
    "softmax of 2, zynq": (_one("Softmax", (2,), (2,), tool=("Vitis HLS", "2021.1"), part="xc7z007sclg225-2"), "latency_cycles", 8, 2),
    "vector of a stream, registers": (_resource(384, 5, 16, io="io_stream", input_precision="ap_fixed<14,6>", weight_precision="ap_fixed<6,1>", part="xc7z020clg400-1"), "ff", 22078, 8000),
    "softmax tables, vitis 2021": (_one("Softmax", (16,), (16,), tool=("Vitis HLS", "2021.1")), "bram_18k", 16, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", list(REPORTED))
def test_laws_say_what_reports_say(name):
    record, metric, reported, tolerance = REPORTED[name]
    metrics = estimate(batch_of(record), Coefficients()).metrics
    assert abs(metrics[metric].value[0] - reported) <= tolerance


def test_accumulation_costs_an_adder_for_every_further_weight():
    """The single-layer collection: 18 to 32 LUT for each weight that is not zero, at 16 to 22 bits."""
    for n_in, n_out in ((32, 32), (64, 16), (16, 64)):
        record = _one("Dense", (n_in,), (n_out,), n_zeros=0, weight_precision="ap_fixed<8,1>")
        terms = raw_costs(batch_of(record), {}).terms["lut"]
        added = terms["latency.accumulate"][0] / (n_in * n_out)
        assert 16 < added < 20
        assert 18 < sum(value[0] for value in terms.values()) / (n_in * n_out) < 34


def record_golden() -> None:
    """Write the golden figures again."""
    lines = (f"{json.dumps(name)}: {json.dumps(law(design))}" for name, design in DESIGNS.items())
    (GOLDEN / "laws.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    record_golden()
    print(f"{len(DESIGNS)} designs written", file=sys.stderr)
