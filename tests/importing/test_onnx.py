"""Networks from ONNX and QONNX files compute the words that their own framework computes."""

import base64
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from codesign.errors import DesignError
from codesign.export.onnx import export_onnx, export_qonnx
from codesign.importing import Imported, read_model
from codesign.importing.proof import compare, drawn_inputs
from codesign.layers import LAYERS, run_torch, run_words
from tests.export.random_networks import random_network
from tests.export.test_template_forms import SPACES, networks
from tests.importing.qonnx_files import Graph, mlp


def _is_exact(imported: Imported, n: int = 400) -> bool:
    found = [compare(imported, x)[0] for x in drawn_inputs(imported, n=n, seed=1).values()]
    return all(d.differing == 0 and d.largest == 0.0 for d in found)


def _layers(imported: Imported) -> list[str]:
    return [node.layer for node in imported.network.network.nodes]


@pytest.mark.parametrize("mode", ["ROUND", "FLOOR", "HALF_UP", "DOWN"])
@pytest.mark.parametrize("rounds_output", [True, False])
def test_float_biases_are_exact_in_every_rounding(
    mode: str, rounds_output: bool, tmp_path: Path
) -> None:
    imported = read_model(mlp(tmp_path / "m.onnx", mode=mode, rounds_output=rounds_output))
    assert _layers(imported)[:3] == ["input", "dense", "relu"]
    if rounds_output:
        assert _is_exact(imported)
    else:  # nothing rounds the last sum: its float bias is brought to the grid, and the difference is told
        found = [compare(imported, x)[0] for x in drawn_inputs(imported, n=200, seed=1).values()]
        assert 0 < max(d.largest_steps for d in found) <= 0.51
        assert any("biases" in note for note in imported.notes)


def test_what_is_imported_computes_the_same_words_in_torch(tmp_path: Path) -> None:
    network = read_model(mlp(tmp_path / "m.onnx")).network
    words = network.input_type.draw(np.random.default_rng(2), 200).reshape(200, -1)
    assert np.array_equal(run_torch(network, words), run_words(network, words))


def test_a_scale_that_is_no_power_of_two_is_told_with_its_difference(tmp_path: Path) -> None:
    imported = read_model(mlp(tmp_path / "m.onnx", scale=0.83))
    assert any("no power of two" in note for note in imported.notes)
    found = compare(imported, drawn_inputs(imported, n=2000, seed=3)["normal"])[0]
    assert found.differing / found.outputs < 0.02
    assert found.largest_steps < 8


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("export", [export_onnx, export_qonnx])
@pytest.mark.parametrize("is_ours", [True, False])
def test_our_own_files_come_back_word_for_word(
    seed: int, export: Callable[..., Any], is_ours: bool, tmp_path: Path
) -> None:
    network = random_network(seed)
    model = onnx.load_from_string(export(network).content)
    if not is_ours:
        if any(n.layer in ("tanh", "sigmoid") for n in network.network.nodes):
            pytest.skip("tables in standard operators are read of our own files only")
        del model.metadata_props[:]
    path = tmp_path / "own.onnx"
    onnx.save(model, path)
    imported = read_model(path)
    assert (imported.network.digest == network.digest) is is_ours
    words = network.input_type.draw(np.random.default_rng(seed), 300).reshape(300, -1)
    real = network.input_type.values_from_words(words)
    expected = network.output_format.values_from_words(np.asarray(run_words(network, words)))
    assert np.array_equal(imported.outputs(imported.words_of_inputs(real)), expected)
    assert _is_exact(imported)


@pytest.mark.parametrize(("space", "shape"), SPACES)
@pytest.mark.parametrize("export", [export_onnx, export_qonnx])
def test_our_own_files_of_every_template_come_back(
    export: Callable[..., Any], space: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    (network,) = networks(space, shape, 1, 3, tmp_path)
    path = tmp_path / "own.onnx"
    path.write_bytes(export(network).content)
    imported = read_model(path)
    assert imported.network.network == network.network
    assert imported.network.candidate.hardware == network.candidate.hardware
    assert _is_exact(imported, n=60)


def _own(tmp_path: Path) -> tuple[Path, onnx.ModelProto]:
    return tmp_path / "own.onnx", onnx.load_from_string(export_onnx(random_network(2)).content)


def test_a_file_of_ours_that_was_changed_is_read_as_it_stands(tmp_path: Path) -> None:
    path, model = _own(tmp_path)
    weight = next(t for t in model.graph.initializer if len(t.dims) == 2)
    values = numpy_helper.to_array(weight).copy()
    values.flat[np.flatnonzero(values)[0]] = 0
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(model, path)
    imported = read_model(path)
    assert imported.network.digest != random_network(2).digest
    assert _is_exact(imported)


def test_a_file_of_ours_whose_network_is_damaged_is_refused(tmp_path: Path) -> None:
    path, model = _own(tmp_path)
    entry = next(p for p in model.metadata_props if p.key == "codesign_network")
    for value, message in (("%%", "metadata are damaged"), ("AAAA", "not a quantized network")):
        entry.value = value
        onnx.save(model, path)
        with pytest.raises(DesignError, match=message):
            read_model(path)


def test_the_network_in_a_file_is_not_believed_but_compared(tmp_path: Path) -> None:
    path, model = _own(tmp_path)
    network = random_network(2)
    words = network.constants["dense_0"]["weight"]
    flipped = replace(words, values=np.where(words.values > 0, 0, words.values))
    roles = {**network.constants["dense_0"], "weight": flipped}
    other = replace(network, constants={**network.constants, "dense_0": roles})
    entry = next(p for p in model.metadata_props if p.key == "codesign_network")
    entry.value = base64.b64encode(other.to_bytes()).decode()
    onnx.save(model, path)
    assert not _is_exact(read_model(path))


def _dense(g: Graph, source: str, name: str, n_in: int, n_out: int, seed: int = 0) -> str:
    values = np.random.default_rng(seed).integers(-7, 8, (n_in, n_out)) / 8
    g.constant(f"{name}_w", values)
    return g.add("MatMul", [source, g.quant(f"{name}_w", f"{name}_q", 0.125, 4)], name)


def _skip(g: Graph) -> str:
    a = g.quant(g.add("Relu", [_dense(g, "xq", "d0", 6, 5)], "r"), "rq", 0.25, 6, signed=0)
    b = g.quant(_dense(g, a, "d1", 5, 5, 1), "bq", 0.125, 7)
    joined = g.add("Concat", [g.add("Add", [a, b], "sum"), b], "cat", axis=1)
    return _dense(g, joined, "d2", 10, 3, 2)


def _wires(g: Graph) -> str:
    shape = g.constant("shape", [0, 2, 3], np.int64)
    turned = g.add("Transpose", [g.add("Reshape", ["xq", shape], "re")], "tr", perm=[0, 2, 1])
    flat = g.add("Flatten", [turned], "fl", axis=1)
    ends = [g.constant(k, v, np.int64) for k, v in (("s", [1]), ("e", [5]), ("ax", [1]))]
    return _dense(g, g.add("Slice", [flat, *ends], "sl"), "d", 4, 3)


def _batch_norm(g: Graph) -> str:
    product = _dense(g, "xq", "d", 6, 4)
    read = [
        g.constant(k, v)
        for k, v in (
            ("ga", [0.5, 1.5, 0.7, 2.0]), ("be", [0.1, -0.2, 0.3, 0.0]), ("mu", [0.1, 0.0, 0.2, 0.5]),
            ("va", [1.0, 2.0, 0.5, 4.0]),
        )
    ]  # fmt: skip
    return g.add("BatchNormalization", [product, *read], "bn", epsilon=0.0)


def _gemm(g: Graph) -> str:
    g.constant("w", np.random.default_rng(0).integers(-7, 8, (3, 6)) / 8)
    quantized = g.quant("w", "wq", np.array([[0.125], [0.25], [0.0625]]), 5)
    return g.add("Gemm", ["xq", quantized, g.constant("c", [0.25, -0.5, 0.125])], "ge", transB=1)


def _pool(g: Graph) -> str:
    shape = g.constant("shape", [0, 3, 2], np.int64)
    rows = _dense(g, g.add("Reshape", ["xq", shape], "re"), "d", 2, 3)
    return g.add("ReduceSum", [rows, g.constant("axes", [1], np.int64)], "su", keepdims=0)


@pytest.mark.parametrize("build", [_skip, _wires, _gemm, _pool])
def test_graphs_of_every_kind_are_exact(build: Callable[[Graph], str], tmp_path: Path) -> None:
    g = Graph()
    g.quant("x", "xq", 0.25, 6)
    path = g.save(tmp_path / "g.onnx", 6, 3, output=build(g))
    assert _is_exact(read_model(path))


def test_a_batch_norm_becomes_part_of_the_layer_before_it(tmp_path: Path) -> None:
    g = Graph()
    g.quant("x", "xq", 0.25, 6)
    g.quant(_batch_norm(g), "y", 2.0**-4, 9)
    path = g.save(tmp_path / "g.onnx", 6, 4, output="y")
    imported = read_model(path, precision="ap_fixed<18,6,RND_CONV,SAT>")
    assert _layers(imported).count("dense") <= 2
    found = compare(imported, drawn_inputs(imported, n=1000, seed=3)["random"])[0]
    assert found.differing / found.outputs < 0.01


@pytest.mark.parametrize(
    ("pads", "strides"), [([0, 0], [1]), ([1, 1], [1]), ([0, 0], [2]), ([1, 0], [2])]
)
def test_convolutions_are_exact(pads: list[int], strides: list[int], tmp_path: Path) -> None:
    rng, g = np.random.default_rng(0), Graph()
    g.quant("x", "xq", 0.25, 6)
    g.constant("w", rng.integers(-7, 8, (4, 2, 3)) / 8)
    g.constant("b", rng.integers(-7, 8, 4) / 16)
    weights = g.quant("w", "wq", 0.125, 4)
    g.add("Conv", ["xq", weights, "b"], "c", pads=pads, strides=strides, kernel_shape=[3])
    g.quant(g.add("Relu", ["c"], "r"), "rq", 0.25, 6, signed=0)
    n_windows = (7 + sum(pads) - 3) // strides[0] + 1
    g.add("Flatten", ["rq"], "f", axis=1)
    output = _dense(g, "f", "d", 4 * n_windows, 3)
    assert _is_exact(read_model(g.save(tmp_path / "g.onnx", (2, 7), 3, output=output)))


@pytest.mark.parametrize(
    ("pads", "own", "is_small"),
    [([1, 1], [0, 0], True), ([0, 2], [1, 0], False), ([1, 0], [0, 1], True)],
)
def test_padding_before_a_convolution_is_its_own(
    pads: list[int], own: list[int], is_small: bool, tmp_path: Path
) -> None:
    g = Graph()
    g.quant("x", "xq", 0.125, 5)
    around = g.constant("around", [0, 0, pads[0], 0, 0, pads[1]], np.int64)
    g.add("Pad", ["xq", around], "p")
    g.constant("w", np.random.default_rng(0).integers(-7, 8, (4, 2, 3)) / 8)
    g.add("Conv", ["p", g.quant("w", "wq", 0.125, 4)], "c", pads=own, kernel_shape=[3])
    g.quant(g.add("Relu", ["c"], "r"), "rq", 0.25, 6, signed=0)
    n_windows = 7 + sum(pads) + sum(own) - 2
    output = _dense(g, g.add("Flatten", ["rq"], "f", axis=1), "d", 4 * n_windows, 3)
    imported = read_model(g.save(tmp_path / "g.onnx", (2, 7), 3, output=output))
    assert _is_exact(imported)
    assert (
        "patches" in _layers(imported)
    ) is is_small  # weights once, not a matrix of all positions


@pytest.mark.parametrize("fill", [0.0, 0.375])
def test_padding_before_anything_else_is_exact(fill: float, tmp_path: Path) -> None:
    g = Graph()
    g.quant("x", "xq", 0.125, 5)
    pads, filled = g.constant("pads", [1, 2], np.int64), g.constant("fill", fill)
    g.add("Pad", ["xq", pads, filled, g.constant("axes", [2], np.int64)], "p")
    output = _dense(g, g.add("Flatten", ["p"], "f", axis=1), "d", 2 * 6, 4)
    path = g.save(tmp_path / "g.onnx", (2, 3), 4, output=output)
    model = onnx.load(str(path))
    model.opset_import[0].version = 18  # the first whose padding names axes
    onnx.save(model, str(path))
    assert _is_exact(read_model(path))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"mode": "reflect"}, "pads by reflect"), ({"at": 0}, "pads the batch"), ({"n": -1}, "cuts")],
)
def test_padding_that_is_none_is_refused(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    g, pads = Graph(), [0] * 6
    g.quant("x", "xq", 0.125, 5)
    pads[change.get("at", 2)] = change.get("n", 1)
    mode = {"mode": change["mode"]} if "mode" in change else {}
    g.add("Pad", ["xq", g.constant("pads", pads, np.int64)], "p", **mode)
    output = _dense(g, g.add("Flatten", ["p"], "f", axis=1), "d", 8, 4)
    with pytest.raises(DesignError, match=message):
        read_model(g.save(tmp_path / "g.onnx", (2, 3), 4, output=output))


@pytest.mark.parametrize("operator", ["Max", "Min"])
def test_two_computed_values_are_compared_exactly(operator: str, tmp_path: Path) -> None:
    g = Graph()
    g.quant("x", "xq", 0.125, 5)
    read = [_dense(g, "xq", "a", 6, 4), _dense(g, "xq", "b", 6, 4, 1)]
    g.quant(g.add(operator, read, "m"), "mq", 0.125, 7)
    path = g.save(tmp_path / "g.onnx", 6, 3, output=_dense(g, "mq", "e", 4, 3, 2))
    assert _is_exact(read_model(path))


@pytest.mark.parametrize("keepdims", [0, 1])
def test_the_index_of_the_largest_is_a_word(keepdims: int, tmp_path: Path) -> None:
    g = Graph()
    g.quant("x", "xq", 0.125, 5)
    index = g.add("ArgMax", [_dense(g, "xq", "a", 6, 5)], "i", axis=-1, keepdims=keepdims)
    if not keepdims:
        index = g.add("Unsqueeze", [index, g.constant("last", [1], np.int64)], "u")
    output = g.add("Cast", [index], "y", to=TensorProto.FLOAT)
    imported = read_model(g.save(tmp_path / "g.onnx", 6, 1, output=output))
    assert _layers(imported)[-2:] == ["argmax", "linear"] and _is_exact(imported)


def test_a_part_of_the_input_takes_the_precision_of_all_of_it(tmp_path: Path) -> None:
    g = Graph()
    ends = [g.constant(k, v, np.int64) for k, v in (("s", [1]), ("e", [4]), ("ax", [1]))]
    g.add("MatMul", [g.add("Slice", ["x", *ends], "p"), g.constant("w", np.eye(3, 2) / 2)], "y")
    imported = read_model(g.save(tmp_path / "g.onnx", 6, 2, output="y"), precision="ap_fixed<8,4>")
    inputs = imported.inputs_of_words(np.arange(-60, 60, 10).reshape(2, 6))
    assert np.array_equal(
        imported.outputs(imported.words_of_inputs(inputs)), inputs[:, 1:3] / 2 // 2**-4 * 2**-4
    )


def test_leaks_of_single_channels_are_exact(tmp_path: Path) -> None:
    g = Graph()
    g.quant("x", "xq", 0.125, 5)
    slopes = g.constant("slopes", [0.0, 0.25, 0.125, 0.5])
    g.quant(g.add("PRelu", [_dense(g, "xq", "d", 6, 4), slopes], "p"), "pq", 0.125, 7)
    imported = read_model(g.save(tmp_path / "g.onnx", 6, 3, output=_dense(g, "pq", "e", 4, 3, 1)))
    assert _is_exact(imported)


def _qdq(path: Path, *, clip: bool, zero: int = 0) -> Path:
    """Write what quantizers of PyTorch and ONNX Runtime write: pairs, weights stored as integers."""
    rng, g = np.random.default_rng(4), Graph()
    g.constant("s", 0.125)
    g.constant("z", zero, np.int8)
    steps = g.add("QuantizeLinear", ["x", "s", "z"], "q0")
    if clip:
        steps = g.add(
            "Clip", [steps, g.constant("lo", -16, np.int8), g.constant("hi", 15, np.int8)], "cl"
        )
    g.add("DequantizeLinear", [steps, "s", "z"], "x0")
    g.constant("ws", [0.25, 0.125, 0.5])
    g.constant("wz", [0, 0, 0], np.int8)
    g.constant("wi", rng.integers(-8, 8, (6, 3)), np.int8)
    g.add("DequantizeLinear", ["wi", "ws", "wz"], "wr", axis=1)
    g.add("MatMul", ["x0", "wr"], "m")
    g.add("Relu", ["m"], "r")
    g.constant("s2", 0.25)
    g.constant("z2", 0, np.uint8)
    g.add("DequantizeLinear", [g.add("QuantizeLinear", ["r", "s2", "z2"], "q1"), "s2", "z2"], "y")
    return g.save(path, 6, 3)


@pytest.mark.parametrize(("clip", "zero"), [(False, 0), (True, 0), (False, 3)])
def test_pairs_of_standard_operators_are_exact(clip: bool, zero: int, tmp_path: Path) -> None:
    imported = read_model(_qdq(tmp_path / "q.onnx", clip=clip, zero=zero))
    assert _is_exact(imported)
    if clip:
        assert imported.network.input_format.bits == 5


def test_floats_take_the_precision_that_is_stated(tmp_path: Path) -> None:
    rng, g = np.random.default_rng(0), Graph()
    g.add("MatMul", ["x", g.constant("w", rng.normal(size=(6, 8)) / 3)], "m")
    g.add("Relu", [g.add("Add", ["m", g.constant("b", rng.normal(size=8) / 9)], "a")], "r")
    g.add("MatMul", ["r", g.constant("v", rng.normal(size=(8, 3)) / 3)], "y")
    path = g.save(tmp_path / "f.onnx", 6, 3)
    with pytest.raises(DesignError, match=r"MatMul 'm'.*--precision"):
        read_model(path)
    worst = []
    for precision in ("ap_fixed<12,6,RND,SAT>", "ap_fixed<18,6,RND,SAT>"):
        imported = read_model(path, precision=precision)
        assert imported.network.input_format.to_hls() == precision.replace("<", "<").replace(
            "RND,SAT", "AP_RND,AP_SAT"
        )
        worst.append(compare(imported, drawn_inputs(imported, n=500, seed=0)["normal"])[0].largest)
    assert worst[1] < worst[0] / 8


def _broken(path: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    model = onnx.load(str(mlp(path)))
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


def _custom(model: onnx.ModelProto) -> None:
    model.graph.node[5].domain = "my.ops"
    model.graph.node[5].op_type = "Fancy"
    model.opset_import.append(helper.make_opsetid("my.ops", 1))


def _dynamic(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "features"


def _control(model: onnx.ModelProto) -> None:
    model.graph.node[4].op_type = "If"


def _opsets(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("", 11))


def _external(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL


def _dropout(model: onnx.ModelProto) -> None:
    node = next(n for n in model.graph.node if n.op_type == "Relu")
    flag = numpy_helper.from_array(np.array(True), "training")
    ratio = numpy_helper.from_array(np.float32(0.5), "ratio")
    model.graph.initializer.extend([flag, ratio])
    node.op_type = "Dropout"
    node.input.extend(["ratio", "training"])


def _float_weights(model: onnx.ModelProto) -> None:
    node = next(n for n in model.graph.node if n.op_type == "MatMul")
    node.input[1] = "w0"


def _sideways(model: onnx.ModelProto) -> None:
    next(n for n in model.graph.node if n.op_type == "Relu").op_type = "Erf"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_custom, "Fancy 'a?m?.*custom operator of domain 'my.ops'"),
        (_dynamic, "input 'x' has shape.*fixed"),
        (_control, "If '.*branches"),
        (_opsets, "several operator sets"),
        (_external, "external data"),
        (_dropout, "Dropout 'r0'.*training"),
        (_float_weights, "MatMul 'm0'.*floats"),
        (_sideways, "Erf 'r0'.*no layer"),
    ],
)
def test_what_cannot_be_built_is_named(
    change: Callable[[onnx.ModelProto], None], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DesignError, match=message):
        read_model(_broken(tmp_path / "b.onnx", change))


def test_an_archive_with_pickles_is_never_opened(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(DesignError, match="pickle"):
        read_model(path)


def test_every_kind_of_foreign_node_has_one_reader() -> None:
    kinds = [kind for name in LAYERS.names() for kind in LAYERS.get(name).foreign]
    assert len(kinds) == len(set(kinds)) > 40


@pytest.mark.parametrize("pool", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("group", [1, 2])
def test_images_are_exact(pool: str, group: int, tmp_path: Path) -> None:
    rng, g = np.random.default_rng(0), Graph()
    g.quant("x", "xq", 0.25, 6)
    g.constant("w", rng.integers(-7, 8, (4, 2 // group, 3, 3)) / 8)
    weights = g.quant("w", "wq", 0.125, 4)
    g.add("Conv", ["xq", weights], "c", pads=[1, 1, 1, 1], kernel_shape=[3, 3], group=group)
    g.quant(g.add("Relu", ["c"], "r"), "rq", 0.25, 6, signed=0)
    g.add(pool, ["rq"], "p", kernel_shape=[2, 2], strides=[2, 2])
    output = _dense(g, g.add("Flatten", ["p"], "f", axis=1), "d", 4 * 2 * 3, 3)
    imported = read_model(g.save(tmp_path / "g.onnx", (2, 4, 6), 3, output=output))
    assert _is_exact(imported, n=100)
    assert ("patches" in _layers(imported)) == (group == 1)
