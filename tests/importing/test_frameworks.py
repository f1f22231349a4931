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
    for package in ("onnxscript", "onnxoptimizer"):
        pytest.importorskip(package, reason=f"{package}, by which it exports, is not installed")
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


def _brevitas(per_channel: bool) -> Any:
    import torch
    from brevitas.nn import QuantIdentity, QuantLinear, QuantReLU
    from brevitas.quant import (
        Int8ActPerTensorFixedPoint,
        Int8WeightPerTensorFixedPoint,
        Uint8ActPerTensorFixedPoint,
    )

    torch.manual_seed(0)
    dense = {
        "weight_quant": Int8WeightPerTensorFixedPoint,
        "weight_bit_width": 5,
        "weight_scaling_per_output_channel": per_channel,
        "bias": True,
    }
    return torch.nn.Sequential(
        QuantIdentity(act_quant=Int8ActPerTensorFixedPoint, bit_width=8),
        QuantLinear(16, 12, **dense),
        QuantReLU(act_quant=Uint8ActPerTensorFixedPoint, bit_width=6),
        QuantLinear(12, 5, **dense),
        QuantIdentity(act_quant=Int8ActPerTensorFixedPoint, bit_width=10),
    )


def _train(module: Any, n_in: int, n_out: int, penalty: Any = None) -> None:
    import torch

    torch.manual_seed(0)
    x = torch.randn(600, n_in)
    y = torch.tanh(2 * x[:, :n_out])
    module.train()
    optimizer = torch.optim.Adam(module.parameters(), 5e-3)
    for _ in range(40):
        loss = ((module(x) - y) ** 2).mean() + (0.0 if penalty is None else penalty(module))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    module.eval()


@pytest.mark.parametrize("per_channel", [False, True])
def test_a_brevitas_module_needs_no_file(per_channel: bool) -> None:
    pytest.importorskip("brevitas", reason="Brevitas is not installed (pip install brevitas)")
    for package in ("onnxscript", "onnxoptimizer"):
        pytest.importorskip(package, reason=f"{package}, by which it exports, is not installed")
    module = _brevitas(per_channel)
    _train(module, 16, 5)
    imported = read_object(module, input_shape=(16,))
    assert imported.framework == "torch"
    _equals(imported)


@pytest.fixture
def pquant() -> Any:
    os.environ["KERAS_BACKEND"] = "torch"
    return pytest.importorskip("pquant", reason="PQuantML is not installed (pip install pquant-ml)")


@pytest.mark.parametrize(
    ("learns", "overflow", "rounding", "granularity"),
    [
        (False, "SAT", "RND", "per_tensor"),
        (False, "SAT", "RND_CONV", "per_channel"),
        (True, "SAT", "RND_CONV", "per_weight"),
        (True, "WRAP", "TRN", "per_weight"),
    ],
)
@pytest.mark.parametrize("is_final", [False, True])
def test_pquantml_word_for_word(
    pquant: Any, learns: bool, overflow: str, rounding: str, granularity: str, is_final: bool
) -> None:
    import torch
    from pquant.activations import PQActivation
    from pquant.layers import PQDense

    config = pquant.pdp_config()
    options = config.quantization_parameters
    options.use_high_granularity_quantization = learns
    options.overflow_mode_data = options.overflow_mode_parameters = overflow
    options.round_mode, options.granularity = rounding, granularity
    options.default_data_integer_bits, options.default_data_fractional_bits = 3, 4
    options.default_weight_integer_bits, options.default_weight_fractional_bits = 1, 5
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        PQDense(config, 16, 12),
        PQActivation(config, "relu"),
        PQDense(config, 12, 8),
        PQActivation(config, "relu"),
        PQDense(config, 8, 5, quantize_output=True),
    )
    module(torch.randn(10, 16))
    for part in module.modules():
        if hasattr(part, "post_pre_train_function"):
            part.post_pre_train_function()
    _train(module, 16, 5, lambda m: pquant.get_model_losses(m, torch.tensor(0.0)))
    if is_final:
        pquant.apply_final_compression(module)
    _equals(read_object(module, input_shape=(16,)))
