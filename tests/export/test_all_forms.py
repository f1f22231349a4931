"""The bar: 200 random networks, every form equal to the reference on 1,000 vectors each.

The default suite runs 10 of them through torch, ONNX Runtime, QONNX and alkaid's adder graph (in
`test_onnx.py`, `test_rtl.py`).  Here, slow: all 200 through those, and 40 of them also through g++
(hls4ml, emulator) and Verilator.
"""

import concurrent.futures
import ctypes
from pathlib import Path

import numpy as np
import pytest

from codesign.export.emulator import build_emulator, emulator_prefix
from codesign.export.hls4ml import build_c_simulation, export_hls4ml
from codesign.export.onnx import export_onnx, export_qonnx, run_qonnx
from codesign.export.rtl import export_rtl, run_trace, trace_network
from codesign.layers import run_torch, typed
from codesign.processes import n_worker_processes
from codesign.validate.forms import onnx_form, verilog_form
from codesign.validate.vectors import corner_words
from tests.export.random_networks import random_network, random_words, reference, write_emulator

N_VECTORS = 1000
N_NETWORKS = 200
N_COMPILED = 20


def vectors(network, seed):
    corners = corner_words(network, limit=N_VECTORS // 2)
    return np.concatenate([corners, random_words(network, N_VECTORS - len(corners), seed)])


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, N_NETWORKS, 20))
def test_forms_that_need_no_compiler(first):
    for seed in range(first, first + 20):
        network = random_network(seed)
        words = vectors(network, seed)
        expected = reference(network, words)
        found = {
            "torch": run_torch(network, words),
            "onnxruntime": onnx_form(export_onnx(network).content, "the export").run(words),
            "qonnx": run_qonnx(export_qonnx(network), network, words),
            "alkaid": run_trace(trace_network(network), network, words),
        }
        different = [name for name, got in found.items() if not np.array_equal(got, expected)]
        assert not different, f"network {seed}: {different}"


def small_network(seed):
    """Smaller than those above, since g++ takes seconds for each; every strategy that unrolls."""
    return random_network(
        seed, max_width=6, max_bits=6, strategies=("distributed_arithmetic", "latency", "resource")
    )


def emulated_outputs(network, words, folder: Path):
    """Build the emulator in a folder and run it."""
    write_emulator(network, folder, name="net")
    library = ctypes.CDLL(str(build_emulator(folder)))
    run = getattr(library, f"{emulator_prefix('net', 1)}_run")
    run.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
    words = np.ascontiguousarray(words)
    outputs = np.empty((len(words), typed(network).output.size), dtype=np.int64)
    run(words.ctypes.data, outputs.ctypes.data, len(words))
    return outputs


def compiled_outputs(seed: int, folder: Path):
    """Build one network in the compiled forms and run them."""
    network = small_network(seed)
    words = vectors(network, seed)
    c_simulation = build_c_simulation(
        export_hls4ml(network), network, folder / "hls", optimize=False
    )
    rtl = verilog_form(export_rtl(network), folder / "rtl", optimize=False)
    expected = reference(network, words)
    emulated = emulated_outputs(network, words, folder / "emulator")
    found = {"hls4ml": c_simulation.run(words), "rtl": rtl.run(words), "emulator": emulated}
    rtl.close()
    return [name for name, got in found.items() if not np.array_equal(got, expected)]


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, N_COMPILED, 10))
def test_forms_that_are_compiled(first, tmp_path):
    seeds = range(first, first + 10)
    with concurrent.futures.ThreadPoolExecutor(max_workers=n_worker_processes()) as pool:
        different = list(pool.map(lambda s: compiled_outputs(s, tmp_path / str(s)), seeds))
    assert not any(different), dict(zip(seeds, different, strict=True))
