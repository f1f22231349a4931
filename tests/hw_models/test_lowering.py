"""Descriptions become the operations they say; bits of sums are enough and hardly more; records are checked."""

import numpy as np
import pytest

from codesign.ir.population import Tensors
from codesign.layers import LAYERS
from hw_models.coefficients import Coefficients
from hw_models.compose import estimate, raw_costs
from hw_models.errors import ModelError, UnsupportedError
from hw_models.lowering import (
    Copy,
    Lanes,
    Product,
    Table,
    activation,
    combination,
    op_batches,
    sum_bits,
)
from hw_models.profile import count_operations
from hw_models.record_lowering import layer_kind, lower_record
from hw_models.records import LayerRecord, Record, read_record, record_json
from hw_models.types import DesignBatch


def batch_of(*parts, tool="vivado_hls", io_type="io_parallel", n=1):
    zeros = np.zeros(n, dtype=np.int64)
    ops = []
    for stage, part in enumerate(parts):
        ops += op_batches([part], design=np.arange(n), stage=zeros + stage)
    return DesignBatch(
        n_designs=n, clock_period_ns=np.full(n, 5.0), clock_uncertainty_ns=np.full(n, np.nan),
        part="xcvu9p", tool=tool, tool_version="", io_type=io_type, ops=tuple(ops),
    )  # fmt: skip


def value(batch, metric):
    return estimate(batch, Coefficients()).metrics[metric].value


@pytest.mark.parametrize("n_in", [1, 2, 7, 8, 16, 100, 255, 256])
@pytest.mark.parametrize(("input_bits", "weight_bits"), [(3, 2), (8, 8), (16, 6)])
def test_sums_of_products_fit_their_bits_with_a_bit_to_spare_at_most(n_in, input_bits, weight_bits):
    worst = n_in * 2 ** (input_bits - 1) * 2 ** (weight_bits - 1)  # both at their lowest
    needed = worst.bit_length() + 1
    bits = float(sum_bits(n_in, 0.0, input_bits, weight_bits))
    assert needed <= bits <= needed + 1


def test_a_dense_node_grows_as_its_product_says():
    one = np.ones(1)
    empty = 0 * one
    source = Tensors(
        n_rows=empty, n_columns=empty, n_channels=16 * one, bits=8 * one, is_signed=one
    )
    parameters = {"n_out": 4 * one, "weight_bits": 6 * one, "pruned_fraction": 0.5 * one}
    grown = LAYERS.get("dense").propagate(parameters, [source])
    product = Product(n_in=16.0, n_out=4.0, input_bits=8.0, weight_bits=6.0, zero_fraction=0.5)
    assert grown.bits[0] == product.sum_bits() == 8 + 6 - 1 + 4


def test_products_of_two_variables_cost_multipliers_and_share_them():
    reuse = np.array([1.0, 4.0, 16.0])
    product = Product(
        n_in=16.0, n_out=8.0, input_bits=12.0, weight_bits=12.0, reuse_factor=reuse, is_constant=False
    )  # fmt: skip
    batch = batch_of(product, n=3)
    assert value(batch, "dsp").tolist() == [128, 32, 8]
    assert value(batch, "interval_cycles").tolist() == [1, 4, 16]
    narrow = Product(n_in=16.0, n_out=8.0, input_bits=6.0, weight_bits=6.0, is_constant=False)
    terms = raw_costs(batch_of(narrow), {}).terms
    assert terms["dsp"]["product.multipliers"][0] == 0
    assert terms["lut"]["product.multiply"][0] == pytest.approx(128 * 36 / 1.2)
    counts = count_operations(batch.ops, 3)
    assert counts.macs.tolist() == [128] * 3 and counts.parameters.tolist() == [0] * 3


def test_positions_repeat_and_instances_copy():
    base = {"n_in": 8.0, "n_out": 4.0, "input_bits": 12.0, "weight_bits": 12.0, "is_constant": False}  # fmt: skip
    once = batch_of(Product(**base))
    many = batch_of(Product(**base, n_positions=10.0))
    copied = batch_of(Product(**base, n_instances=3.0))
    assert value(many, "interval_cycles")[0] == 10 * value(once, "interval_cycles")[0]
    assert value(copied, "dsp")[0] == 3 * value(once, "dsp")[0]


@pytest.mark.parametrize(
    ("function", "kind"),
    [("ReLU", "relu"), ("linear", "quantize"), ("LeakyReLU", "leaky_relu"), ("hard_tanh", "hard_sigmoid")],
)  # fmt: skip
def test_compared_functions_are_lanes(function, kind):
    part = activation(function, n_lanes=4.0, input_bits=8.0, output_bits=6.0)
    assert isinstance(part, Lanes) and part.kind == kind


@pytest.mark.parametrize(
    ("function", "kind", "how"),
    [("sigmoid", "function", ""), ("elu", "piecewise", ""), ("softmax", "softmax", "stable"), ("softmax", "softmax_latency", "Latency")],
)  # fmt: skip
def test_other_functions_are_tables(function, kind, how):
    part = activation(function, n_lanes=4.0, input_bits=8.0, output_bits=6.0, implementation=how)
    assert isinstance(part, Table) and part.kind == kind


def test_functions_without_a_law_are_refused_by_name():
    with pytest.raises(UnsupportedError, match="fourier"):
        activation("fourier", n_lanes=1.0, input_bits=1.0, output_bits=1.0)


def test_squares_multiply_and_differences_add():
    wide = {"n_lanes": 8.0, "input_bits": 16.0, "output_bits": 16.0}
    assert value(batch_of(combination("square", **wide)), "dsp")[0] == 8
    assert value(batch_of(combination("subtract", **wide)), "dsp")[0] == 0
    assert value(batch_of(combination("subtract", **wide)), "lut")[0] >= 8 * 16


def test_wires_have_no_cost_in_parallel_and_a_word_a_cycle_in_streams():
    copy = Copy(n_lanes=4.0, bits=8.0, n_positions=100.0)
    assert value(batch_of(copy), "lut")[0] == 0
    assert value(batch_of(copy, io_type="io_stream"), "interval_cycles")[0] >= 100


@pytest.mark.parametrize(
    ("name", "kind"),
    [("ZeroPadding2D", "copy"), ("zeropad2d_cl", "copy"), ("Concatenate", "copy"), ("concatenate1d", "copy"),
     ("PointwiseConv1D", "conv"), ("DepthwiseConv2D", "depthwise"), ("GlobalAveragePooling1D", "pooling"),
     ("GRU", "recurrent"), ("Softmax", "activation"), ("unary_lut", "activation"), ("Subtract", "combination"),
     ("H_Quantizer", "quantizer"), ("Dropout", "wires"), ("zeropad2d_cl_me", "zeropad2d_cl_me")],
)  # fmt: skip
def test_spellings_of_a_kind_are_one(name, kind):
    assert layer_kind(LayerRecord(type=name)) == kind


@pytest.mark.parametrize(
    ("partitions", "io_type", "turns"),
    [(1, "io_parallel", 1), (None, "io_parallel", 4), (2, "io_parallel", 2), (1, "io_stream", 4)],
)
def test_a_product_at_every_position_is_copied_or_repeated(partitions, io_type, turns):
    layer = LayerRecord(type="Dense", in_shape=(4, 3), out_shape=(4, 8), n_partitions=partitions)
    record = Record(tool="vivado", clock_period_ns=5.0, io_type=io_type, layers=(layer,))
    (product,) = lower_record(record).of("matvec")
    assert (product["n_in"], product["n_out"]) == (3, 8)
    assert product["n_positions"] == turns
    assert product["n_instances"] == 4 / turns


# ---- records ----------------------------------------------------------------------------------
def test_records_lose_nothing_in_memory():
    document = {
        "schema": 2, "id": "a", "source": "s", "tool": "Vitis HLS", "clock_period_ns": 5.0, "seed": 7,
        "layers": [{"type": "Dense", "name": "d", "in_shape": [4], "out_shape": [2], "odd": [1]}],
        "csynth": {"lut": 12, "carry4": 3}, "modules": [{"module": "m", "ff": 1}],
    }  # fmt: skip
    assert record_json(read_record(document)) == document


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clock_period_ns": "5"}, "clock_period_ns is '5', expected a finite number"),
        ({"clock_period_ns": float("nan")}, "expected a finite number"),
        ({"layers": [{"name": "x"}]}, r"layers\[0\]: type is None"),
        ({"layers": [{"type": "Dense", "n_zeros": -1}]}, r"layers\[0\]: n_zeros is -1"),
        ({"layers": [{"type": "Dense", "in_shape": "16"}]}, r"in_shape is '16', expected a list"),
        ({"layers": [{"type": "Dense", "in_shape": [float("inf")]}]}, "in_shape is"),
        ({"layers": [{"type": "Dense", "kernel": ["N"]}]}, r"kernel is \['N'\], expected a list"),
        ({"csynth": {"lut": True}}, "csynth: lut is True"),
        ({"csynth": {"lut": 10**400}}, "csynth: lut is 1000"),
        ({"layers": [{"type": "Dense", "in_shape": [10**400]}]}, "in_shape is"),
        ({"csynth": [1]}, "csynth: list, expected an object"),
        ({"flags": [3]}, "flags"),
        ({"schema": 3}, "schema 3, expected 2"),
    ],
)
def test_wrong_fields_are_named_with_their_place(change, message):
    with pytest.raises(ModelError, match=f"r.jsonl:3.*{message}"):
        read_record({"schema": 1, "layers": []} | change, where="r.jsonl:3")


def test_a_batch_axis_is_dropped_and_an_unknown_axis_makes_a_shape_unknown():
    layers = [{"type": "Dense", "in_shape": [None, 8.0, 3], "out_shape": [4, None]}]
    (layer,) = read_record({"schema": 1, "layers": layers}).layers
    assert layer.in_shape == (8, 3) and layer.out_shape is None


def test_schema_1_is_read_under_the_names_of_today():
    old = {
        "schema": 1, "id": "a", "source": "s", "layers": [],
        "impl": {"lut": 5}, "synthesized": {"lut": 7}, "vsynth": None,
    }  # fmt: skip
    record = read_record(old)
    assert {stage: report.lut for stage, report in record.reports.items()} == {
        "vsynth": 7,
        "implemented": 5,
    }
    assert record_json(record)["schema"] == 2
    assert read_record(record_json(record)) == record
    with pytest.raises(ModelError, match="two reports of vsynth"):
        read_record({**old, "vsynth": {"lut": 8}})
