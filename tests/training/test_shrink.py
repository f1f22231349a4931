"""Precision after training keeps the score within the loss that is stated, and saves what it can."""

from pathlib import Path

import numpy as np
import pytest

from codesign.importing import read_model
from codesign.ir import QuantizedNetwork
from codesign.layers import run_torch, run_words
from codesign.training.shrink import products, shrink
from tests.importing.qonnx_files import mlp


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> QuantizedNetwork:
    return read_model(mlp(tmp_path_factory.mktemp("model") / "m.onnx", (10, 8, 4), bits=9)).network


def _classes(network: QuantizedNetwork, words: np.ndarray) -> np.ndarray:
    return np.asarray(run_words(network, words)).argmax(axis=1)


@pytest.mark.parametrize("loss", [0.0, 0.02, 0.1])
def test_the_score_stays_within_the_stated_loss(network: QuantizedNetwork, loss: float) -> None:
    rng = np.random.default_rng(0)
    normal = rng.normal(size=(600, 10))
    words = network.input_type.words_from_values(normal)
    truth = _classes(network, words)

    def merit(outputs: np.ndarray) -> float:
        return float((outputs.argmax(axis=1) == truth).mean())

    found = shrink(network, words, merit, loss=loss)
    assert found.merit_before == 1.0
    assert found.merit >= 1.0 - loss
    assert found.merit == (_classes(found.network, words) == truth).mean()
    assert found.products < found.products_before == products(network)
    assert found.network.input_type == network.input_type
    assert found.network.output_format == network.output_format
    some = words[:50]
    assert np.array_equal(run_torch(found.network, some), run_words(found.network, some))


def test_a_greater_loss_saves_more(network: QuantizedNetwork) -> None:
    words = network.input_type.draw(np.random.default_rng(1), 400).reshape(400, -1)
    values = network.output_format.values_from_words(np.asarray(run_words(network, words)))

    def merit(outputs: np.ndarray) -> float:
        return -float(np.abs(outputs - values).mean())

    left = [shrink(network, words, merit, loss=loss).products for loss in (0.0, 0.05, 0.3)]
    assert left[0] >= left[1] > left[2]


def test_a_loss_of_nothing_on_every_word_changes_no_word(tmp_path: Path) -> None:
    network = read_model(mlp(tmp_path / "m.onnx", (2, 3, 2), bits=4)).network
    low, high = int(network.input_type.min_words.min()), int(network.input_type.max_words.max())
    axis = np.arange(low, high + 1)
    words = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    expected = np.asarray(run_words(network, words))

    def merit(outputs: np.ndarray) -> float:
        return -float(np.abs(outputs - network.output_format.values_from_words(expected)).max())

    found = shrink(network, words, merit, loss=0.0)
    assert np.array_equal(run_words(found.network, words), expected)
