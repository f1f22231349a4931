"""The reference client, which shares no code with ours, speaks with a server and gets the reference's words."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codesign.resources import data_root
from codesign.validate import wire

CLIENT = data_root("hls_templates") / "boards" / "common" / "client.py"


@pytest.fixture(scope="module")
def client() -> Any:
    spec = importlib.util.spec_from_file_location("reference_client", CLIENT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _address(twin: str) -> tuple[str, int]:
    host, port = twin.partition("://")[2].partition("?")[0].rsplit(":", 1)
    return host, int(port)


def test_it_runs_events_in_batches_word_for_word(
    client: Any, twin: str, reference: Any, words: np.ndarray
) -> None:
    expected = reference.run(words[:200]).tolist()
    with client.Client(*_address(twin)) as board:
        board._limit = 1024  # many batches
        assert board.run(words[:200].tolist()) == expected
        assert board.counters()["events"] >= 200


def test_it_insists_on_a_network(client: Any, twin: str) -> None:
    with pytest.raises(RuntimeError, match="wrong-firmware"):
        client.Client(*_address(twin), digest="0" * 16)


def test_its_command_prints_the_answers(
    twin: str, reference: Any, words: np.ndarray, tmp_path: Path
) -> None:
    (tmp_path / "words.txt").write_text(
        "\n".join(" ".join(map(str, w)) for w in words[:3].tolist())
    )
    host, port = _address(twin)
    command = [sys.executable, str(CLIENT), f"{host}:{port}"]
    done = subprocess.run(
        [*command, str(tmp_path / "words.txt")], text=True, capture_output=True, check=True
    )
    found = [[int(w) for w in line.split()] for line in done.stdout.splitlines()]
    assert found == reference.run(words[:3]).tolist()
    about = subprocess.run(command, text=True, capture_output=True, check=True)
    assert set(json.loads(about.stdout)) == {"description", "counters"}


def test_the_page_names_every_kind_and_key_of_the_protocol(client: Any, twin: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "wire-protocol.md").read_text(encoding="utf-8")
    for name in ("HELLO", "WELCOME", "RUN", "RESULT", "COUNTERS", "COUNTED", "RESET", "ERROR"):
        assert f"| {name} | {getattr(wire, name)} |" in page
    with client.Client(*_address(twin)) as board:
        keys = {*board.description, "boot_id", "events_done", "max_payload_bytes"}
    assert all(f'"{key}"' in page for key in keys)
