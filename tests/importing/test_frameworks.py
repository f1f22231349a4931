"""Networks trained by other frameworks, where these are installed, give their framework's words."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codesign.importing import Imported, read_model
from codesign.importing.proof import compare, drawn_inputs
from codesign.importing.reader import read_object

#: What other packages warn of is theirs to mend.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
N = 10_000


def _equals(imported: Imported) -> None:
    for kind, inputs in drawn_inputs(imported, n=N, seed=5).items():
        difference, _ = compare(imported, inputs)
        assert difference.differing == 0 and difference.largest == 0.0, (kind, difference)


@pytest.fixture
def hgq() -> Any:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    return pytest.importorskip("hgq", reason="HGQ2 is not installed (pip install hgq2 keras)")


def _hgq_model(kind: str) -> Any:
    import keras
    from hgq.config import LayerConfigScope, QuantizerConfigScope
    from hgq.layers import QAdd, QBatchNormDense, QConv1D, QDense

    with (
        QuantizerConfigScope(place="all", default_q_type="kbi", overflow_mode="SAT_SYM"),
        QuantizerConfigScope(place="datalane", default_q_type="kif", overflow_mode="WRAP"),
        LayerConfigScope(enable_ebops=True, beta0=1e-5),
    ):
        if kind == "conv":
            source = keras.layers.Input((10, 3))
            rows = QConv1D(4, 3, activation="relu")(source)
            return keras.Model(source, QDense(5)(keras.layers.Flatten()(rows)))
        source = keras.layers.Input((16,))
        if kind == "skip":
            first = QDense(16, activation="relu")(source)
            joined = QAdd()([first, QDense(16)(first)])
            return keras.Model(source, QDense(5)(joined))
        layer = QBatchNormDense if kind == "batch_norm" else QDense
        hidden = QDense(16, activation="relu")(layer(32, activation="relu")(source))
        return keras.Model(source, QDense(5)(hidden))


@pytest.mark.parametrize("kind", ["mlp", "batch_norm", "skip", "conv"])
def test_hgq2_word_for_word(hgq: Any, kind: str, tmp_path: Path) -> None:
    import keras
    from hgq.utils import trace_minmax

    model, rng = _hgq_model(kind), np.random.default_rng(0)
    x = rng.normal(size=(1000, *model.input_shape[1:])).astype(np.float32)
    y = np.tanh(x.reshape(len(x), -1)[:, :5] * 2)
    model.compile(optimizer=keras.optimizers.Adam(3e-3), loss="mse")
    model.fit(x, y, epochs=2, batch_size=250, verbose=0)
    trace_minmax(model, x, verbose=0)
    imported = read_object(model)
    _equals(imported)
    path = tmp_path / "model.keras"
    model.save(path)
    assert read_model(path).network.digest == imported.network.digest


def test_keras_floats_take_the_precision_that_is_stated() -> None:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras", reason="Keras is not installed")
    model = keras.Sequential(
        [keras.layers.Input((8,)), keras.layers.Dense(6, activation="relu"), keras.layers.Dense(3)]
    )
    imported = read_object(model, precision="fixed<20,6,RND,SAT>")
    difference, _ = compare(imported, drawn_inputs(imported, n=1000, seed=0)["normal"])
    assert difference.largest < 1e-2


def test_a_torch_module_takes_the_precision_that_is_stated() -> None:
    import torch

    module = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.ReLU(), torch.nn.Linear(6, 3))
    imported = read_object(module, precision="fixed<20,6,RND,SAT>", input_shape=(8,))
    difference, _ = compare(imported, drawn_inputs(imported, n=1000, seed=0)["normal"])
    assert difference.largest < 1e-2


def test_brevitas_word_for_word(tmp_path: Path) -> None:
    pytest.importorskip("brevitas", reason="Brevitas is not installed (pip install brevitas)")
    pytest.importorskip("onnxscript", reason="onnxscript, by which it exports, is not installed")
    import torch
    from brevitas.export import export_qonnx
    from brevitas.nn import QuantIdentity, QuantLinear, QuantReLU
    from brevitas.quant import (
        Int8ActPerTensorFixedPoint,
        Int8WeightPerTensorFixedPoint,
        Uint8ActPerTensorFixedPoint,
    )

    torch.manual_seed(0)
    dense = {"weight_quant": Int8WeightPerTensorFixedPoint, "weight_bit_width": 6, "bias": True}
    module = torch.nn.Sequential(
        QuantIdentity(act_quant=Int8ActPerTensorFixedPoint, bit_width=8),
        QuantLinear(16, 12, **dense),
        QuantReLU(act_quant=Uint8ActPerTensorFixedPoint, bit_width=6),
        QuantLinear(12, 5, **dense),
        QuantIdentity(act_quant=Int8ActPerTensorFixedPoint, bit_width=10),
    )
    x = torch.randn(500, 16)
    module(x)  # activation ranges settle
    module.eval()
    path = tmp_path / "brevitas.onnx"
    export_qonnx(module, args=x[:1], export_path=str(path))
    _equals(read_model(path))
