"""hls4ml project folders, as hls4ml writes them and as the trigger experiments keep them."""

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from codesign.errors import DesignError
from codesign.export.hls4ml import export_hls4ml
from codesign.importing import Imported, read_model
from codesign.importing.proof import compare, drawn_inputs
from codesign.ir import QuantizedNetwork
from codesign.layers import run_words
from tests.export.random_networks import random_network

#: Random networks without tables and distributed arithmetic: dense layers, leaks, additions, positions.
SEEDS = (2, 9, 15, 25)


def _project(folder: Path, seed: int = 15, strategy: str = "latency") -> QuantizedNetwork:
    network = random_network(seed)
    hardware = network.candidate.hardware
    chosen = {name: strategy for name in hardware.strategy}
    hardware = replace(hardware, strategy=chosen)
    network = replace(network, candidate=replace(network.candidate, hardware=hardware))
    export_hls4ml(network).plan.write(folder)
    return network


def _is_the_same(imported: Imported, network: QuantizedNetwork) -> bool:
    words = network.input_type.draw(np.random.default_rng(0), 300).reshape(300, -1)
    real = network.input_type.values_from_words(words.reshape(300, *network.input_type.shape))
    expected = network.output_format.values_from_words(np.asarray(run_words(network, words)))
    found = imported.outputs(imported.words_of_inputs(real.reshape(300, *imported.shape)))
    return np.array_equal(found, expected)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("strategy", ["latency", "resource"])
def test_projects_come_back_word_for_word(seed: int, strategy: str, tmp_path: Path) -> None:
    network = _project(tmp_path, seed, strategy)
    imported = read_model(tmp_path)
    assert _is_the_same(imported, network)
    assert set(imported.network.candidate.hardware.strategy.values()) == {strategy}


def _nn(folder: Path) -> Path:
    (folder / "firmware").rename(folder / "NN")
    return folder


def _sources(folder: Path) -> Path:
    return folder / "firmware"


def _flat(folder: Path) -> Path:
    firmware = folder / "firmware"
    for header in (firmware / "weights").iterdir():
        header.rename(firmware / header.name)
    text = (firmware / "parameters.h").read_text()
    (firmware / "parameters.h").write_text(text.replace('"weights/', '"'))
    for file in firmware.iterdir():
        file.rename(folder / file.name)
    return folder


def _one_header(folder: Path) -> Path:
    firmware = folder / "firmware"
    headers = sorted((firmware / "weights").glob("*.h"))
    (firmware / "weights.h").write_text("\n".join(h.read_text() for h in headers))
    shutil.rmtree(firmware / "weights")
    return folder


def _named_sizes(folder: Path) -> Path:
    """Write array sizes as constants, as `N_LAYER_2` or `constexpr` ones."""
    firmware = folder / "firmware"
    for source in (*firmware.glob("*.cpp"), firmware / "parameters.h"):
        sizes: dict[str, None] = {}

        def named(match: re.Match[str], sizes: dict[str, None] = sizes) -> str:
            sizes[match[2]] = None
            return f"{match[1]}N_OF_{match[2]}{match[3]}"

        text = re.sub(r"(_out\[|n_in = |n_out = )(\d+)(\]|;)", named, source.read_text())
        source.write_text(text)
        defines = firmware / "defines.h"
        lines = "".join(f"static const unsigned N_OF_{n} = {n};\n" for n in sizes)
        defines.write_text(defines.read_text().replace("#endif", f"{lines}#endif") if lines else "")
    return folder


@pytest.mark.parametrize("layout", [_nn, _sources, _flat, _one_header])
def test_firmware_alone_is_enough_in_every_layout(
    layout: Callable[[Path], Path], tmp_path: Path
) -> None:
    network = _project(tmp_path)
    for other in ("hls4ml_config.yml", "project.tcl"):
        (tmp_path / other).unlink(missing_ok=True)
    assert _is_the_same(read_model(layout(tmp_path)), network)


def test_sizes_may_be_names(tmp_path: Path) -> None:
    network = _project(tmp_path)
    _named_sizes(tmp_path)
    assert "N_OF_" in (tmp_path / "firmware" / "parameters.h").read_text()
    assert _is_the_same(read_model(tmp_path), network)


@pytest.mark.slow
def test_its_own_program_answers_the_same(tmp_path: Path) -> None:
    _project(tmp_path, 25)
    imported = read_model(tmp_path)
    assert imported.framework == "hls4ml's C++"
    for kind, inputs in drawn_inputs(imported, n=500, seed=2).items():
        difference, _ = compare(imported, inputs)
        assert difference.differing == 0 and difference.largest == 0.0, kind


def _without_weights(folder: Path) -> None:
    sorted((folder / "firmware" / "weights").glob("w*.h"))[0].unlink()


def _too_few(folder: Path) -> None:
    header = sorted((folder / "firmware" / "weights").glob("w*.h"))[0]
    header.write_text(re.sub(r"\{([^,]*),", r"{", header.read_text()))


def _unknown(folder: Path) -> None:
    source = next((folder / "firmware").glob("*.cpp"))
    source.write_text(
        re.sub(r"nnet::(relu|linear|leaky_relu)<", "nnet::swish<", source.read_text())
    )


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_without_weights, "dense 'dense_0': its constants w2"),
        (_too_few, "holds .* numbers, expected"),
        (_unknown, "swish .*no layer is built"),
    ],
)
def test_what_cannot_be_read_is_named(
    damage: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    _project(tmp_path)
    damage(tmp_path)
    with pytest.raises(DesignError, match=message):
        read_model(tmp_path)


def test_distributed_arithmetic_holds_no_weights(tmp_path: Path) -> None:
    export_hls4ml(random_network(0)).plan.write(tmp_path)
    with pytest.raises(DesignError, match="adders; give the model file"):
        read_model(tmp_path)


def test_a_folder_of_something_else_is_named(tmp_path: Path) -> None:
    with pytest.raises(DesignError, match="neither an hls4ml project"):
        read_model(tmp_path)
