"""Networks that run in triggers, from files and modules of their trainers: read, priced, searched, exported, proved."""

import time
from pathlib import Path

import numpy as np
import pytest

from codesign.export.bundle import export_candidate
from codesign.export.onnx import export_onnx, export_qonnx
from codesign.hardware.device import load_device
from codesign.hardware.scorer import HardwareScorer, violations
from codesign.importing import Imported, read_model
from codesign.importing.estimate import estimate_model
from codesign.importing.proof import compare, drawn_inputs
from codesign.importing.reader import read_object
from codesign.ir import QuantizedNetwork
from codesign.layers import run_words
from codesign.search.hardware import search_hardware
from codesign.synthesis.estimates import estimate_network
from codesign.synthesis.onnx_config import OnnxConfig
from codesign.validate.certificate import certify
from codesign.validate.forms import onnx_form, qonnx_form
from hw_models.coefficients import load_coefficients
from tests.export.published import PUBLISHED
from tests.importing.written_networks import Written, rounded_to_even, write_qkeras
from tests.search.test_hardware import _budget, _space

#: The rounded mean of ten particles is no word of ours: a tenth is a constant of 18 bits, and ties go either way.
INEXACT = ("toollip_v3",)
NAMES = [name for name in PUBLISHED if name != "tgc"]
#: What is proved in seconds; tests/export/test_published_structures.py proves the structures of all.
PROVED = ("axol1tl_v4", "emtf", "toollip_v3")
RTL = OnnxConfig(strategy="distributed_arithmetic")


def _network(name: str) -> QuantizedNetwork:
    return rounded_to_even(PUBLISHED[name]().network(seed=1))


def _from_qkeras(network: QuantizedNetwork, folder: Path) -> Imported:
    return read_model(write_qkeras(network, folder / "model.h5"), config=RTL)


def _from_torch(network: QuantizedNetwork, folder: Path) -> Imported:
    module = Written(network)
    return read_object(module, config=RTL, input_shape=module.input_shape)


FORMS = {"qkeras": _from_qkeras, "torch": _from_torch}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", FORMS)
def test_words_are_those_of_the_network_that_was_written(
    form: str, name: str, tmp_path: Path
) -> None:
    network = _network(name)
    imported = FORMS[form](network, tmp_path)
    for inputs in drawn_inputs(imported, n=300, seed=0).values():
        if name in INEXACT:
            difference, _ = compare(imported, inputs)
            assert difference.largest < 0.1 and any("power of two" in n for n in imported.notes)
            continue
        is_turned = form == "torch" and len(imported.shape) == 3
        shaped = np.moveaxis(inputs, 1, -1) if is_turned else inputs  # ours has its channels last
        words = network.input_words(shaped.reshape(len(inputs), -1))
        expected = network.output_format.values_from_words(np.asarray(run_words(network, words)))
        assert np.array_equal(imported.outputs(imported.words_of_inputs(inputs)), expected)


@pytest.mark.parametrize("name", NAMES)
def test_files_are_priced_as_the_network_that_they_hold(name: str, tmp_path: Path) -> None:
    imported = read_model(write_qkeras(_network(name), tmp_path / "model.h5"))
    coefficients, stage = load_coefficients(), "implemented"
    path = tmp_path / "model.h5"
    found = estimate_model(path, None, stage=stage, coefficients=coefficients)
    device = load_device("xcvu13p")
    itself = estimate_network(imported.network, device, stage=stage, coefficients=coefficients)
    assert found.layers == itself.layers and found.summary["supported"]
    assert not any("cannot be imported" in note for note in found.summary["notes"])


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_hardware_that_fits_is_found_within_a_minute(name: str, tmp_path: Path) -> None:
    network = _from_qkeras(_network(name), tmp_path).network
    device, started_s = load_device("xcvu13p"), time.monotonic()
    space, budget, scorer = _space(network), _budget(1000.0), HardwareScorer(device=device)
    found = search_hardware(space, scorer, budget, device)
    assert time.monotonic() - started_s < 60
    assert (
        (violations(scorer.score(space.decode(found.genomes)), budget, device) <= 0)
        .all(axis=1)
        .any()
    )


@pytest.mark.parametrize("name", NAMES)
def test_what_was_imported_is_exported_as_onnx(name: str, tmp_path: Path) -> None:
    network = _from_qkeras(_network(name), tmp_path).network
    words = network.input_type.draw(np.random.default_rng(0), 300).reshape(300, -1)
    expected = np.asarray(run_words(network, words))
    assert (expected != expected[0]).any()
    standard = onnx_form(export_onnx(network).content, "the export")
    assert np.array_equal(standard.run(words), expected)
    assert np.array_equal(qonnx_form(export_qonnx(network), network).run(words), expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROVED)
def test_firmware_of_what_was_imported_is_proved(name: str, tmp_path: Path) -> None:
    network = _from_qkeras(_network(name), tmp_path).network
    words = network.input_type.draw(np.random.default_rng(0), 100).reshape(100, -1)
    exported = export_candidate(
        network, tmp_path / "firmware", scaling={"method": "none"}, vectors=words, backends=()
    )
    later = ("rtl_vhdl", "emulator")  # forms of the same logic that take minutes of g++
    certificate = certify(exported, test_words=words, n_random=200, later=later)
    status = {c.name: c.status for c in certificate.comparisons}
    assert all(
        status[form] == "equal" for form in ("torch", "onnxruntime", "qonnx", "alkaid", "rtl")
    )
    assert certificate.latency_cycles == certificate.reported_latency_cycles
