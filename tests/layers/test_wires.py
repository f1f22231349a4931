"""What moves or pools elements over positions: its C++, compiled, and the largest of its partial sums."""

import subprocess

import numpy as np
import pytest

from codesign.errors import ToolError
from codesign.export.emulator import emulator_files, emulator_prefix
from codesign.layers import LAYERS, run_words, typed
from codesign.testing.layers import network_with, quantized, vectors
from codesign.tools import require_tool
from codesign.validate.forms import EmulatorLibrary

MOVING = ("patches", "concat", "transpose", "slice", "sum_pool", "max_pool", "mean_pool")


def networks():
    """One network on rows for each of these layers and each of its examples."""
    for name in MOVING:
        layer = LAYERS.get(name)
        for i, example in enumerate(layer.examples()[:2]):
            yield f"{name}_{i}", quantized(network_with(layer, example, 2), seed=i)


def test_the_cpp_of_layers_that_move_elements_gives_the_words_of_the_reference(tmp_path):
    try:
        compiler = require_tool("g++")
    except ToolError:
        pytest.skip("needs g++")
    known = dict(networks())
    for name, network in known.items():
        for file, text in emulator_files(network, name=name, version=1).items():
            if file in (f"{emulator_prefix(name, 1)}.cpp", f"{emulator_prefix(name, 1)}.h"):
                (tmp_path / file).write_text(text)
    sources = sorted(str(path) for path in tmp_path.glob("*.cpp"))
    command = [compiler, "-std=c++17", "-O0", "-shared", "-fPIC", "-o", "all.so", *sources]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=300)
    for name, network in known.items():
        library = tmp_path / f"lib{emulator_prefix(name, 1)}.so"
        library.symlink_to(tmp_path / "all.so")
        words = vectors(network)
        found = EmulatorLibrary(library).run(words)
        assert np.array_equal(found, np.asarray(run_words(network, words))), name


@pytest.mark.parametrize("name", ["sum_pool", "mean_pool"])
def test_the_largest_partial_sum_of_a_pool_is_that_of_all_its_terms_at_one_end(name):
    layer = LAYERS.get(name)
    network = quantized(network_with(layer, layer.examples()[0], 2), seed=3)
    site = typed(network)["probe"]
    ends = np.maximum(np.abs(site.source.low), np.abs(site.source.high)).reshape(-1)
    expected = max(int(ends[terms].sum()) for terms in layer.terms(site).T)
    assert layer.largest_sum(site) == expected
