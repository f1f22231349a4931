"""Uniform networks compute the same words and export the same bytes as when the digests were recorded.

`make golden` records them again; a change that moves one says why in its commit.
"""

import hashlib
import json
from pathlib import Path

import onnx
import pytest

from codesign.export.emulator import emulator_files
from codesign.export.hls4ml import export_hls4ml
from codesign.export.onnx import export_onnx, export_qonnx
from codesign.export.rtl import export_rtl
from codesign.layers import LAYERS
from tests.export.random_networks import random_network, random_words, reference

RECORD = Path(__file__).with_name("digests.json")
SEEDS = range(12)


def golden_network(seed):
    return random_network(seed, max_width=6, max_bits=6, n_blocks=3)


def digest(content) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _graph(content: bytes) -> bytes:
    """Return an ONNX file without the compressed network in it, whose bytes are zlib's affair."""
    model = onnx.load_from_string(content)
    said = [p for p in model.metadata_props if p.key not in ("codesign_network", "codesign_graph_digest")]  # fmt: skip
    del model.metadata_props[:]
    model.metadata_props.extend(said)
    return model.SerializeToString(deterministic=True)


def digests_of(network) -> dict[str, str]:
    """Return digests per form, those of network and candidate (which name their schemas) left out."""
    forms = {
        "onnx": {"model.onnx": _graph(export_onnx(network).content)},
        "qonnx": {"model_qonnx.onnx": _graph(export_qonnx(network).content)},
        "hls4ml": export_hls4ml(network).plan.files,
        "emulator": {
            name: text.encode()
            for name, text in emulator_files(network, name="golden", version=1).items()
        },
        "rtl": export_rtl(network).plan.files,
    }

    def whole(files) -> str:
        lines = []
        for name, content in sorted(files.items()):
            for known in (network.digest, network.digest[:8], network.candidate.digest):
                content = content.replace(known.encode(), b"." * len(known))
            lines.append(f"{name} {digest(content)}\n")
        return digest("".join(lines).encode())

    words = reference(network, random_words(network, 500, seed=1))
    return {"words": digest(words.astype("<i8").tobytes())} | {
        form: whole(files) for form, files in forms.items()
    }


def test_the_networks_hold_every_layer_type():
    used = {node.layer for seed in SEEDS for node in golden_network(seed).network.nodes}
    recorded = {"input", "dense", "relu", "leaky_relu", "linear", "tanh", "sigmoid"}
    assert recorded | {"add", "concat", "flatten"} <= used <= set(LAYERS.names())


@pytest.mark.parametrize("seed", SEEDS)
def test_words_and_exports_are_those_on_record(seed):
    assert digests_of(golden_network(seed)) == json.loads(RECORD.read_text())[str(seed)]


if __name__ == "__main__":
    record = {str(seed): digests_of(golden_network(seed)) for seed in SEEDS}
    RECORD.write_text(json.dumps(record, indent=1) + "\n")
