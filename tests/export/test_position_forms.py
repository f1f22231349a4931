"""Networks on particles and images, compiled: hls4ml's C++, the emulator and the RTL equal the reference."""

import ctypes

import numpy as np
import pytest

from codesign.export.emulator import build_emulator, emulator_prefix
from codesign.export.hls4ml import build_c_simulation, export_hls4ml
from codesign.export.rtl import export_rtl
from codesign.layers import LAYERS, run_words
from codesign.testing.layers import network_of, vectors
from codesign.validate.forms import verilog_form
from tests.export.random_networks import write_emulator


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "rank", "example"),
    [
        ("sum_pool", 2, 0),
        ("mean_pool", 3, 0),
        ("max_pool", 2, 0),
        ("max_pool", 3, 0),
        ("concat", 2, 0),
        ("patches", 2, 0),
        ("patches", 3, 0),
        ("subtract", 1, 0),
        ("multiply", 1, 0),
        ("square", 1, 0),
        ("absolute", 2, 0),
        ("patches", 3, 4),
        ("slice", 2, 2),
        ("reshape", 2, 1),
        ("transpose", 2, 0),
        ("broadcast", 1, 0),
        ("softmax", 1, 0),
        ("softmax", 2, 0),
        ("max_pool", 3, 1),
        ("mean_pool", 2, 2),
        ("hard_tanh", 1, 1),
        ("hard_sigmoid", 1, 1),
        ("clipped_relu", 1, 0),
        ("sign", 1, 1),
        ("argmax", 2, 0),
        ("matmul", 2, 0),
        ("dot", 1, 0),
        ("lookup_dense", 2, 1),
        ("mask", 2, 1),
    ],
)
def test_compiled_forms_of_any_rank_equal_the_reference(name, rank, example, tmp_path):
    layer = LAYERS.get(name)
    network = network_of(layer, layer.examples()[example], rank)
    words = vectors(network)
    expected = run_words(network, words)
    simulation = build_c_simulation(
        export_hls4ml(network), network, tmp_path / "hls", optimize=False
    )
    assert np.array_equal(simulation.run(words), expected)
    rtl = verilog_form(export_rtl(network), tmp_path / "rtl", optimize=False)
    assert np.array_equal(rtl.run(words), expected)
    rtl.close()
    write_emulator(network, tmp_path / "emulator", name="net")
    library = ctypes.CDLL(str(build_emulator(tmp_path / "emulator")))
    run = getattr(library, f"{emulator_prefix('net', 1)}_run")
    run.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
    words, emulated = np.ascontiguousarray(words), np.empty_like(expected)
    run(words.ctypes.data, emulated.ctypes.data, len(words))
    assert np.array_equal(emulated, run_words(network, words))
