"""Small made-up designs that together use every law: each layer type, strategy, tool generation and io type."""

from collections.abc import Iterator

import numpy as np

from hw_models.primitives.turns import KINDS
from hw_models.record_lowering import batch_records, lower_record
from hw_models.records import LayerRecord, Record
from hw_models.types import MATVEC_STRATEGIES, DesignBatch, OpBatch

_VIVADO, _VITIS = ("Vivado HLS", "2020.1"), ("Vitis HLS", "2024.1")
_FAST, _SLOW, _VIRTEX7 = "xcvu9p-flga2104-2-e", "xc7z020-clg400-1", "xc7vx690tffg1927-2"


def _layer(kind: str, ins: tuple[int, ...], outs: tuple[int, ...], **more: object) -> LayerRecord:
    types = {
        "input_precision": "ap_fixed<16,6>",
        "result_precision": "ap_fixed<16,6>",
        "weight_precision": "ap_fixed<8,1>",
        "accum_precision": "ap_fixed<18,8>",
    }
    return LayerRecord(type=kind, name=kind.lower(), in_shape=ins, out_shape=outs, **(types | more))  # type: ignore[arg-type]


def _dense(n_in: int, n_out: int, **more: object) -> LayerRecord:
    return _layer("Dense", (n_in,), (n_out,), **({"n_zeros": n_in * n_out // 4} | more))


def _relu(n: int, function: str = "relu") -> LayerRecord:
    saturated = "ap_ufixed<8,0,AP_RND,AP_SAT>"
    return _layer("Activation", (n,), (n,), activation=function, result_precision=saturated)


def _design(
    name: str,
    *layers: LayerRecord,
    tool: tuple[str, str] = _VIVADO,
    part: str = _FAST,
    clock_ns: float = 5.0,
    io_type: str = "io_parallel",
    strategy: str = "latency",
) -> Record:
    return Record(
        id=name, source="golden", tool=tool[0], tool_version=tool[1], part=part, clock_period_ns=clock_ns,
        strategy=strategy, io_type=io_type, model_precision="ap_fixed<16,6>", layers=layers,
    )  # fmt: skip


def _conv(kind: str = "Conv2D", **more: object) -> LayerRecord:
    shape = {"Conv2D": ((8, 8, 3), (6, 6, 4), (3, 3)), "Conv1D": ((16, 6), (16, 8), (1,))}
    ins, outs, kernel = shape.get(kind, shape["Conv2D"])
    return _layer(kind, ins, outs, **({"kernel": kernel, "n_zeros": 20} | more))


_KNOWN = {
    "n_multipliers": 40, "n_lut_multipliers": 100, "constant_adders": 500, "csd_digits": 1000, "effective_bits": 2000,
}  # fmt: skip


def designs() -> Iterator[tuple[str, DesignBatch]]:
    """Yield name and operations of every design."""
    for record in _records():
        ((_, batch),) = batch_records([record], [lower_record(record)])
        yield record.id, batch
    yield from _without_records()


def _without_records() -> Iterator[tuple[str, DesignBatch]]:
    """Yield designs of what no record can say: products of two variables, and particles that take turns."""
    sums = {"n_in": 8.0, "n_out": 16.0, "input_bits": 8.0, "weight_bits": 6.0}
    for reuse in (1.0, 16.0):
        product = _op("product", 0, sums | {"reuse_factor": reuse, "n_instances": 2.0})
        yield f"product by {reuse:.0f}", _batch(product, tool="vitis_hls", tool_version="2024.1")
    yield "product in plain RTL", _batch(_op("product", 0, sums), tool="alkaid")
    matrix = sums | {
        "strategy": float(MATVEC_STRATEGIES.index("distributed_arithmetic")), "reuse_factor": 1.0,
        "input_is_signed": 1.0, "accumulator_bits": 17.0, "zero_fraction": 0.25, "has_bias": 1.0, "n_instances": 4.0,
    }  # fmt: skip
    for turns in (2.0, 8.0):
        for kind in range(len(KINDS)):
            between = {"kind": float(kind), "n_bits": 96.0, "n_turns": turns}
            yield f"{KINDS[kind]} between {turns:.0f} turns", _batch(
                _op("matvec", 0, matrix), _op("turns", 1, between), _op("matvec", 2, matrix), tool="alkaid",
            )  # fmt: skip


def _op(primitive: str, stage: int, parameters: dict[str, float]) -> OpBatch:
    return OpBatch(
        primitive=primitive, design=np.zeros(1, dtype=np.int64), stage=np.array([stage]),
        parameters={name: np.array([value]) for name, value in parameters.items()},
    )  # fmt: skip


def _batch(*ops: OpBatch, tool: str, tool_version: str = "") -> DesignBatch:
    return DesignBatch(
        n_designs=1, clock_period_ns=np.array([2.5]), clock_uncertainty_ns=np.full(1, np.nan), part=_FAST,
        tool=tool, tool_version=tool_version, io_type="io_parallel", ops=ops,
    )  # fmt: skip


def _records() -> Iterator[Record]:
    network = (_dense(16, 32), _relu(32), _dense(32, 5, input_precision="ap_ufixed<8,0>"))
    for tool in (_VIVADO, _VITIS, ("Vitis HLS", "2021.1"), ("Vivado HLS", "2017.2")):
        for part, clock_ns in ((_FAST, 5.0), (_SLOW, 5.0), (_FAST, 2.5)):
            yield _design(
                f"mlp {tool[1]} {part[:6]} {clock_ns}",
                *network, tool=tool, part=part, clock_ns=clock_ns,
            )  # fmt: skip
    for reuse in (2, 16, 64):
        yield _design(f"shared by {reuse}", _dense(32, 32, reuse_factor=reuse))
        yield _design(
            f"resource by {reuse}", _dense(32, 32, reuse_factor=reuse), strategy="resource"
        )
    yield _design("resource at 1", _dense(32, 32), strategy="resource")
    yield _design("narrow resource", _dense(32, 40, reuse_factor=64, weight_precision="ap_fixed<4,1>"), strategy="resource")  # fmt: skip
    yield _design("unrolled", _dense(32, 32, reuse_factor=4), strategy="unrolled")
    yield _design("adders in HLS", _dense(32, 32), strategy="distributed_arithmetic", tool=_VITIS)
    yield _design("adder graph", *network, strategy="distributed_arithmetic", tool=("alkaid", ""))
    yield _design("known weights", _dense(32, 32, **_KNOWN))
    yield _design("known weights, narrow", _dense(32, 32, **_KNOWN), tool=("Vitis HLS", "2021.1"))
    yield _design("pruned", _dense(64, 32, n_zeros=1600), _relu(32), _dense(32, 5))
    yield _design("untrained", _dense(64, 32, n_zeros=3, weight_precision="ap_fixed<12,2>"))
    yield _design("wide words", _dense(16, 8, weight_precision="ap_fixed<32,8>", input_precision="ap_fixed<32,16>"))  # fmt: skip
    for function in ("sigmoid", "tanh", "elu", "leaky_relu", "linear", "hard_sigmoid"):
        yield _design(f"{function} lanes", _dense(16, 10), _relu(10, function))
    for tool in (_VIVADO, _VITIS, ("Vitis HLS", "2021.1")):
        yield _design(f"softmax {tool[1]}", _dense(16, 5), _layer("Softmax", (5,), (5,)), tool=tool)
    yield _design("fast softmax", _dense(16, 5), _layer("Softmax", (5,), (5,), implementation="latency"))  # fmt: skip
    for reuse in (1, 24):
        yield _design(f"batch norm by {reuse}", _layer("BatchNormalization", (24,), (24,), reuse_factor=reuse, weight_precision="ap_fixed<16,6>"))  # fmt: skip
    for merge in ("add", "multiply", "concatenate"):
        yield _design(f"{merge} of two", _dense(16, 8), _layer(merge, (8,), (8,)))
    for tool in (_VIVADO, _VITIS, ("Vitis HLS", "2022.2")):
        for reuse, strategy in ((1, "latency"), (27, "resource")):
            yield _design(
                f"stream conv {tool[1]} by {reuse}",
                _layer("ZeroPadding2D", (6, 6, 3), (8, 8, 3)), _conv(reuse_factor=reuse), _relu(144),
                _layer("MaxPooling2D", (6, 6, 4), (3, 3, 4), kernel=(2, 2)), _dense(36, 5),
                tool=tool, io_type="io_stream", strategy=strategy,
            )  # fmt: skip
    yield _design("stream conv on a slow part", _conv(reuse_factor=9), part=_SLOW, io_type="io_stream", strategy="resource")  # fmt: skip
    yield _design("stream mlp", *network, _layer("Softmax", (5,), (5,)), io_type="io_stream")
    yield _design("stream mlp, vitis", *network, io_type="io_stream", tool=_VITIS)
    yield _design("depthwise", _conv("DepthwiseConv2D"), io_type="io_stream")
    yield _design("separable", _conv("SeparableConv2D"), io_type="io_stream")
    yield _design("normalised stream", _conv(), _layer("BatchNormalization", (6, 6, 4), (6, 6, 4)), io_type="io_stream")  # fmt: skip
    for tool in (_VIVADO, _VITIS):
        yield _design(
            f"pointwise and mean {tool[1]}",
            _conv("Conv1D"), _relu(128), _layer("GlobalAveragePooling1D", (16, 8), (8,)), _dense(8, 5),
            tool=tool, clock_ns=2.8,
        )  # fmt: skip
    for length in (120, 121):
        pool = _layer("AveragePooling1D", (length, 3), ((length + 1) // 2, 3), kernel=(2,))
        yield _design(f"mean of {length}", pool)
    yield _design("positions at once", _conv(n_partitions=1))
    for cell in ("GRU", "LSTM", "SimpleRNN"):
        for part in (_FAST, _VIRTEX7):
            for reuse, strategy in ((1, "latency"), (1, "resource"), (30, "resource")):
                yield _design(
                    f"{cell} {part[:6]} {strategy} by {reuse}",
                    _layer(cell, (20, 6), (20,), units=20, reuse_factor=reuse), _dense(20, 1),
                    part=part, strategy=strategy,
                )  # fmt: skip
