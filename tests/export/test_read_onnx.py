"""Reading ONNX for estimates: our own files say the same in both flavours; others' habits are read right."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from codesign.export.onnx import export_onnx, export_qonnx
from codesign.export.read_onnx import onnx_layers
from tests.export.random_networks import random_network

#: What does not depend on whether a file states a weight's type or only its words.
FACTS = ("type", "activation", "in_shape", "out_shape", "input_precision", "n_zeros")
GENERATOR = np.random.default_rng(3)
WORDS = np.where(GENERATOR.random((6, 4)) < 0.3, 0, GENERATOR.integers(-7, 8, (6, 4)))


@pytest.mark.parametrize("seed", range(24))
def test_both_flavours_of_a_network_read_the_same(seed: int, tmp_path: Path) -> None:
    network = random_network(seed)
    read = []
    for export in (export_onnx, export_qonnx):
        path = tmp_path / f"{export.__name__}.onnx"
        path.write_bytes(export(network).content)
        layers = onnx_layers(path)
        for layer in layers:
            if layer["type"] != "Dense":  # sums are as wide as a weight's type, where one is stated
                del layer["input_precision"]
        read.append([{key: layer.get(key) for key in FACTS} for layer in layers])
    assert read[0] == read[1]


def _quant(name: str, source: str, scale: Any, bits: int) -> tuple[list[Any], onnx.NodeProto]:
    constants = {
        f"{name}_s": np.float32(scale),
        f"{name}_z": np.float32(0),
        f"{name}_b": np.float32(bits),
    }
    node = helper.make_node(
        "Quant", [source, *constants], [name], domain="qonnx.custom_op.general", signed=1, narrow=0,
        rounding_mode="ROUND",
    )  # fmt: skip
    return [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()], node


def _layers(
    path: Path,
    weights: np.ndarray,
    nodes: list[onnx.NodeProto],
    constants: list[Any],
    *,
    imports_domain: bool = True,
) -> list[dict[str, Any]]:
    inputs, node = _quant("xq", "x", 0.25, 8)
    graph = helper.make_graph(
        [node, *nodes],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(weights.astype(np.float32), "w"), *inputs, *constants],
    )
    opsets = [helper.make_opsetid("", 17)]
    opsets += [helper.make_opsetid("qonnx.custom_op.general", 1)] if imports_domain else []
    model = helper.make_model(graph, opset_imports=opsets)
    if not imports_domain:  # make_model adds nothing, as older exporters did not
        assert {o.domain for o in model.opset_import} == {""}
    onnx.save(model, str(path))
    return onnx_layers(path)


def _plain(path: Path, **options: bool) -> dict[str, Any]:
    constants, quant = _quant("wq", "w", 0.125, 4)
    multiply = helper.make_node("MatMul", ["xq", "wq"], ["y"])
    (layer,) = _layers(path, WORDS * 0.125, [quant, multiply], constants, **options)
    return layer


def test_a_plain_product_is_counted_word_by_word(tmp_path: Path) -> None:
    layer = _plain(tmp_path / "a.onnx")
    assert layer["n_zeros"] == int((WORDS == 0).sum())
    assert layer["in_shape"], layer["out_shape"] == ([6], [4])
    assert (
        layer["input_precision"] == "ap_fixed<8,6>" and layer["weight_precision"] == "ap_fixed<4,1>"
    )


def test_a_file_that_does_not_import_the_domain_of_its_operators_is_read(tmp_path: Path) -> None:
    assert _plain(tmp_path / "a.onnx", imports_domain=False) == _plain(tmp_path / "b.onnx")


def test_a_transposed_constant_is_the_same_layer(tmp_path: Path) -> None:
    constants, quant = _quant("wq", "w", 0.125, 4)
    turn = helper.make_node("Transpose", ["wq"], ["wt"], perm=[1, 0])
    multiply = helper.make_node("MatMul", ["xq", "wt"], ["y"])
    (layer,) = _layers(tmp_path / "a.onnx", WORDS.T * 0.125, [quant, turn, multiply], constants)
    assert layer == _plain(tmp_path / "b.onnx")


def test_gemm_counts_the_same_constants_transposed_or_not(tmp_path: Path) -> None:
    found = []
    for trans_b in (0, 1):
        constants, quant = _quant("wq", "w", 0.125, 4)
        multiply = helper.make_node("Gemm", ["xq", "wq"], ["y"], transB=trans_b)
        weights = (WORDS.T if trans_b else WORDS) * 0.125
        found += _layers(tmp_path / f"{trans_b}.onnx", weights, [quant, multiply], constants)
    assert found[0] == found[1]


def test_a_scale_per_channel_keeps_the_words_of_small_channels(tmp_path: Path) -> None:
    scales = 0.125 / 2.0 ** np.arange(4)[None, :]
    constants, quant = _quant("wq", "w", scales, 4)
    multiply = helper.make_node("MatMul", ["xq", "wq"], ["y"])
    (layer,) = _layers(tmp_path / "a.onnx", WORDS * scales, [quant, multiply], constants)
    plain = _plain(tmp_path / "b.onnx")
    assert layer["n_zeros"] == plain["n_zeros"]
    assert layer["csd_digits"] == plain["csd_digits"]


def test_float_weights_are_read_at_the_precision_stated(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["xq", "w"], ["y"])]
    (layer,) = _layers(tmp_path / "a.onnx", GENERATOR.normal(size=(6, 4)), nodes, [])
    assert {layer[k] for k in ("weight_precision", "accum_precision", "result_precision")} == {
        "ap_fixed<16,6>"
    }
