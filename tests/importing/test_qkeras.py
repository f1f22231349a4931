"""QKeras files, read without QKeras, give the words that QKeras gave when they were written (make_qkeras_files.py)."""

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from codesign.cli import build_app
from codesign.errors import DesignError
from codesign.importing import read_model
from codesign.importing.proof import compare, compare_answers, drawn_inputs
from codesign.importing.qkeras_reader import quantized_weights

FILES = Path(__file__).parent / "files"


@pytest.mark.parametrize("kind", ["dense", "functional", "conv"])
def test_words_are_those_that_qkeras_gave(kind: str) -> None:
    imported = read_model(FILES / f"qkeras_{kind}.h5")
    with np.load(FILES / f"qkeras_{kind}.npz", allow_pickle=False) as known:
        inputs, answers = known["inputs"].astype(np.float64), known["outputs"]
    theirs = answers.reshape(len(answers), -1).astype(np.float64)
    difference = compare_answers(imported, inputs, theirs, of="QKeras")
    assert difference.differing == 0
    # QKeras computes x + (q - x) in float32, which is q but for the last bits
    assert difference.largest < 1e-5
    for drawn in drawn_inputs(imported, n=100, seed=0).values():
        assert compare(imported, drawn)[0].differing == 0


def test_answers_of_the_own_framework_are_compared(tmp_path: Path) -> None:
    with np.load(FILES / "qkeras_dense.npz", allow_pickle=False) as known:
        np.save(tmp_path / "x.npy", known["inputs"])
        np.save(tmp_path / "y.npy", known["outputs"])
    command = [
        "import", str(FILES / "qkeras_dense.h5"), "--output", str(tmp_path / "study"),
        "--inputs", str(tmp_path / "x.npy"), "--outputs", str(tmp_path / "y.npy"), "--json",
    ]  # fmt: skip
    done = CliRunner().invoke(build_app(), command)
    assert done.exit_code == 0, done.output
    proof = json.loads(done.stdout)["proof"]
    assert proof["answers"]["vectors"] == 300 and proof["answers"]["differing"] == 0


def _changed(folder: Path, **quantizer: Any) -> Path:
    path = folder / "changed.h5"
    shutil.copy(FILES / "qkeras_dense.h5", path)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        for layer in config["config"]["layers"]:
            if layer["config"]["name"] == "q_activation_1":
                layer["config"]["activation"] = quantizer
        file.attrs["model_config"] = json.dumps(config)
    return path


@pytest.mark.parametrize(
    ("quantizer", "message"),
    [
        (
            {"class_name": "quantized_bits", "config": {"alpha": "auto"}},
            "q_activation_1.*own range",
        ),
        ({"class_name": "quantized_ulaw", "config": {}}, "q_activation_1.*quantized_ulaw"),
        ({"class_name": "quantized_relu", "config": {"negative_slope": 0.5}}, "negative_slope"),
        ({"class_name": "quantized_bits", "config": {"qnoise_factor": 0.5}}, "not rounded"),
    ],
)
def test_what_has_no_exact_form_is_named(
    quantizer: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DesignError, match=message):
        read_model(_changed(tmp_path, **quantizer))


def test_a_file_of_weights_alone_is_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.create_group("dense")
    with pytest.raises(DesignError, match="weights without a model"):
        read_model(tmp_path / "w.h5")


def test_layers_of_other_packages_are_named(tmp_path: Path) -> None:
    layer = {"class_name": "HDense", "module": "HGQ.layers", "config": {"name": "d"}}
    config = {"class_name": "Sequential", "config": {"layers": [layer]}}
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.attrs["model_config"] = json.dumps(config)
    with pytest.raises(DesignError, match="layers of HGQ.*QONNX"):
        read_model(tmp_path / "m.h5")


@pytest.mark.parametrize("function", ["quantized_bits", "ternary", "binary", "quantized_po2"])
def test_quantized_weights_lie_on_their_grid(function: str) -> None:
    values = np.random.default_rng(0).normal(size=(20, 6)) * 0.5
    for alpha in (None, 1.0, "auto", "auto_po2"):
        options = {"bits": 4, "integer": 0, "alpha": alpha}
        quantized, step, bits = quantized_weights(values, function, options, "d", True)
        words = quantized / step
        assert np.allclose(words, np.rint(words), atol=1e-6)
        assert np.abs(words).max() <= 2.0 ** (bits - 1)
        assert np.corrcoef(quantized.ravel(), values.ravel())[0, 1] > 0.7
