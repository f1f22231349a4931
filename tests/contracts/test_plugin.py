"""A layer type, a strategy and their tests in a package of somebody else: found, and held to the contracts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

LAYER = '''
"""max(0, x) once more, as a package of somebody else would write it."""
import numpy as np
import torch

from codesign.layers import LAYERS
from codesign.layers._activation import Activation, add_hls_activation, describe_activation


class Rectifier(Activation):
    name = "rectifier"
    result_is_signed = False

    def describe(self, columns):
        return (describe_activation("relu", columns),)

    def train_function(self, values):
        return values

    def apply_words(self, words, fraction_bits, result):
        return result.cast_words(np.maximum(words, 0), fraction_bits)

    def torch_function(self, values):
        return torch.relu(values)

    def onnx_function(self, graph, source):
        return graph.operator("Relu", source)

    def hls_function(self, graph, name, source, n_lanes, result):
        return add_hls_activation(graph, "relu", name, source, n_lanes, result)

    def cpp_function(self, word, cast):
        return f"{cast(0)}({word} > 0 ? {word} : 0)"

    def rtl_function(self, source):
        return source.relu()


LAYERS.add(Rectifier.name, Rectifier())
'''

STRATEGY = '''
"""Random designs, as a package of somebody else would propose them."""
from codesign.search.strategies.base import STRATEGIES

STRATEGIES.add("lottery", lambda problem, **more: STRATEGIES.get("random")(problem, **more))
'''

TESTS = """
import pytest

from codesign.layers import LAYERS
from codesign.testing.layers import LayerContract
from codesign.testing.strategies import StrategyContract


class TestRectifier(LayerContract):
    seeds = (0,)

    @pytest.fixture
    def layer(self):
        return LAYERS.get("rectifier")


class TestLottery(StrategyContract):
    budget = 90

    @pytest.fixture
    def name(self):
        return "lottery"
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder in which a package that extends codesign is installed."""
    folder = tmp_path / "their_package"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "rectifier.py").write_text(LAYER)
    (folder / "lottery.py").write_text(STRATEGY)
    (tmp_path / "test_theirs.py").write_text(TESTS)
    info = tmp_path / "their_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[codesign.layers]\nrectifier = their_package.rectifier\n"
        "[codesign.strategies]\nlottery = their_package.lottery\n"
    )
    return tmp_path


def run_their_tests(package: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", package, package, *options],
        env={**os.environ, "PYTHONPATH": f"{package}{os.pathsep}{ROOT}"},
        cwd=package,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )  # fmt: skip


def test_their_layer_and_strategy_inherit_every_test(package: Path) -> None:
    done = run_their_tests(package)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "17 passed" in done.stdout, done.stdout[-300:]


def test_a_wrong_layer_fails_their_tests(package: Path) -> None:
    path = package / "their_package" / "rectifier.py"
    path.write_text(LAYER.replace("np.maximum(words, 0)", "np.abs(words)"))
    done = run_their_tests(package, "-k", "every_word")
    assert done.returncode == 1, done.stdout[-2000:]
    assert "test_torch_agrees_with_the_integers_on_every_word" in done.stdout
