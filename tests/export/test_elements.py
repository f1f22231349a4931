"""Tensors whose elements have types of their own: every form equals the reference, in every mode.

The types hold words of no bits, of one bit, of more integer bits than bits and of negative ones; they
round down, to nearest and to even, and saturate or wrap.
"""

import ctypes
from dataclasses import replace

import numpy as np
import pytest

from codesign.errors import ExportError
from codesign.export.bundle import _ports
from codesign.export.emulator import build_emulator, emulator_files
from codesign.export.hls4ml import build_c_simulation, export_hls4ml
from codesign.export.onnx import export_onnx, export_qonnx, run_qonnx
from codesign.export.rtl import export_rtl, run_trace, trace_network
from codesign.ir import FixedPoint, TensorType
from codesign.layers import run_torch, run_words, typed
from codesign.layers._activation import quantize_rtl, quantize_torch
from codesign.validate.forms import onnx_form, reference_form, torch_form, verilog_form
from codesign.validate.implementation import InProcess
from codesign.validate.run import validate_device
from codesign.validate.vectors import corner_words
from tests.export.random_networks import random_network, random_words, reference, write_emulator
from tests.export.test_all_forms import emulated_outputs


def network_and_words(seed, **options):
    network = random_network(seed, elements=True, **options)
    words = np.concatenate([random_words(network, 500, seed), corner_words(network, limit=500)])
    return network, words


def different_forms(seed):
    network, words = network_and_words(seed)
    expected = reference(network, words)
    found = {
        "torch": run_torch(network, words),
        "onnx": onnx_form(export_onnx(network).content, "the export").run(words),
        "qonnx": run_qonnx(export_qonnx(network), network, words),
        "alkaid": run_trace(trace_network(network), network, words),
    }
    return [name for name, got in found.items() if not np.array_equal(got, expected)]


@pytest.mark.parametrize("seed", range(12))
def test_forms_without_a_compiler_agree(seed):
    assert different_forms(seed) == []


@pytest.mark.slow
@pytest.mark.parametrize("first", range(12, 300, 48))
def test_forms_of_hundreds_of_networks_agree(first):
    different = {seed: different_forms(seed) for seed in range(first, first + 48)}
    assert not any(different.values()), {k: v for k, v in different.items() if v}


@pytest.mark.parametrize("seed", range(12))
def test_every_word_lies_in_its_inferred_range(seed):
    network, words = network_and_words(seed)
    for name, values in run_words(network, words, trace=True).items():
        known = typed(network)[name].output
        shaped = values.reshape(-1, *known.shape)
        assert (shaped >= known.low).all() and (shaped <= known.high).all()
        assert known.type.holds(shaped)


def test_the_emulator_agrees(tmp_path):
    network, words = network_and_words(3, max_width=6)
    assert np.array_equal(emulated_outputs(network, words, tmp_path), reference(network, words))


def test_the_emulator_refuses_words_that_an_element_does_not_hold(tmp_path):
    network, words = network_and_words(3, max_width=6)
    known = network.input_type
    zeros = np.broadcast_to(known.trailing_zeros, known.shape).ravel()
    wrong = words[:1].copy()
    wrong[0, int(np.argmax(zeros))] += 1
    assert not known.holds(wrong.reshape(1, *known.shape))
    write_emulator(network, tmp_path, name="net")
    run = ctypes.CDLL(str(build_emulator(tmp_path))).net_v1_run
    run.argtypes, run.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64], ctypes.c_int64
    outputs = np.zeros((1, typed(network).output.size), dtype=np.int64)
    assert run(words.ctypes.data, outputs.ctypes.data, 1) == 0
    assert run(wrong.ctypes.data, outputs.ctypes.data, 1) == 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20, 24))
def test_compiled_forms_agree(seed, tmp_path):
    network, words = network_and_words(seed, max_width=5, max_bits=6, n_blocks=1)
    expected = reference(network, words)
    assert np.array_equal(emulated_outputs(network, words, tmp_path / "emulator"), expected)
    rtl = verilog_form(export_rtl(network), tmp_path / "rtl", optimize=False)
    assert np.array_equal(rtl.run(words), expected)
    rtl.close()
    try:
        project = export_hls4ml(network)
    except ExportError as error:
        assert "one table for all elements" in str(error)  # and nothing was written
    else:
        simulation = build_c_simulation(project, network, tmp_path / "hls", optimize=False)
        assert np.array_equal(simulation.run(words), expected)


def one_rounding(seed):
    """A format, words of it, a format to round to, and the values that come out."""
    rng = np.random.default_rng(seed)
    source = FixedPoint(
        bits=int(rng.integers(1, 8)),
        integer_bits=int(rng.integers(-2, 4)),
        signed=bool(rng.integers(2)),
    )
    result = FixedPoint(
        bits=int(rng.integers(1, 6)),
        integer_bits=int(rng.integers(-2, 4)),
        signed=bool(rng.integers(2)),
        rounding=str(rng.choice(["TRN", "RND", "RND_CONV"])),
        overflow=str(rng.choice(["SAT", "WRAP"])),
    )
    words = np.arange(source.min_word, source.max_word + 1)[:, None]
    values = source.values_from_words(words)
    return source, result, values, result.values_from_words(result.cast_words(words, source))


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_one_rounding_is_the_same_for_every_word_in_logic_and_torch(first):
    import torch
    from alkaid.trace import FVArrayInput, HWConfig, trace

    for seed in range(first, first + 50):
        source, result, values, expected = one_rounding(seed)
        kind = TensorType.of(result, (1,))
        assert np.array_equal(quantize_torch(torch.from_numpy(values), kind).numpy(), expected)
        port = FVArrayInput((1,), HWConfig(1, -1, -1))
        lane = port.quantize(
            int(source.signed), source.integer_bits - source.signed, source.fraction_bits
        )
        logic = trace(port, quantize_rtl(lane, kind), keep_dead_inputs=True)
        got = logic.predict(np.ascontiguousarray(values), n_threads=1)
        assert np.array_equal(got, expected), (source.to_hls(), result.to_hls())


def test_a_lane_of_no_bits_costs_nothing_and_is_zero_everywhere():
    network, words = network_and_words(0)
    first = network.network.nodes[0].name
    assert (network.result[first].bits == 0).any()
    zero = np.broadcast_to(network.input_type.bits == 0, network.input_type.shape).ravel()
    assert not words[:, zero].any()
    text = emulator_files(network, name="zero", version=1)["zero_v1.cpp"]
    assert "n_input_0" in text


def test_streams_do_not_take_types_of_single_elements():
    network, _ = network_and_words(3)
    hardware = network.candidate.hardware
    hardware = replace(
        hardware,
        flow="hls",
        io_type="io_stream",
        strategy=dict.fromkeys(hardware.strategy, "latency"),
    )
    streamed = replace(network, candidate=replace(network.candidate, hardware=hardware))
    with pytest.raises(ExportError, match="elements have types of their own.*io_parallel"):
        export_hls4ml(streamed)


def test_devices_are_sent_words_that_their_elements_hold(tmp_path):
    network, words = network_and_words(3)
    report = validate_device(
        InProcess(lambda: torch_form(network), expected_digest=network.digest),
        reference_form(network),
        words[:10],
        n_events=300,
    )
    assert report.verdict == "pass"


def test_what_the_export_says_about_inputs_makes_the_words():
    network, _ = network_and_words(3)
    said = _ports(network, None)
    values = np.random.default_rng(0).normal(0, 4, (200, network.input_type.size))
    namespace = {
        "scaled": values,
        "floor": np.floor,
        "round_half_even": np.rint,
        "clip": np.clip,
        "wrap": lambda words, low, high: (words - low) % (high - low + 1.0) + low,
        "i": slice(None),
        **{name: np.array(said[name], dtype=float) for name in ("f", "low", "high")},
    }
    assert np.array_equal(eval(said["word"], namespace), network.input_words(values))
