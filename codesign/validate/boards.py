"""Folders to copy onto a board: the server, the protocol, what the firmware is, and a backend."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from codesign.errors import DesignError, unknown_name
from codesign.files import write_atomically
from codesign.resources import data_root
from codesign.validate import wire
from codesign.validate.implementation import DeviceDescription, port_triple


def board_names() -> tuple[str, ...]:
    """Return the boards that `hls_templates/boards` describes."""
    root = data_root("hls_templates") / "boards"
    return tuple(sorted(p.parent.name for p in root.glob("*/board.yaml")))


def _board(name: str) -> dict[str, Any]:
    """Read what a board's `board.yaml` says."""
    if name not in board_names():
        raise DesignError(unknown_name("board", name, board_names()))
    path = data_root("hls_templates") / "boards" / name / "board.yaml"
    about: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return about


def check_part(board: str, part: str) -> None:
    """Check that a board carries the device that firmware was made for.

    Raises:
        DesignError: an unknown board, or another device.
    """
    device = _board(board).get("device", "")
    if not part.lower().startswith(device):
        raise DesignError(
            f"board {board!r} carries {device}, the firmware is for {part}; export for the board's device"
        )


def board_server_files(
    board: str, description: DeviceDescription, options: dict[str, Any]
) -> dict[str, str]:
    """Return the files of a board's server folder.

    Args:
        board: a name of `board_names()`.
        description: what the server will say it is.
        options: for the backend; checked against what the board's `board.yaml` lists.

    Raises:
        DesignError: an unknown board, a missing or unknown option, or ports that the board's
            interface cannot carry exactly.
    """
    root = data_root("hls_templates") / "boards"
    about = _board(board)
    missing = sorted(set(about["options"]) ^ set(options))
    if missing:
        raise DesignError(
            f"board {board!r} takes the options {', '.join(sorted(about['options']))};"
            f" missing or unknown: {', '.join(missing)}"
        )
    widest = max(f.bits for f in (*description.input_formats, *description.output_formats))
    if widest > about["max_word_bits"]:
        raise DesignError(
            f"board {board!r} carries words of up to {about['max_word_bits']} bits exactly, the network"
            f" has {widest}; choose narrower ports"
        )
    inputs = [port_triple(f) for f in description.input_formats]
    outputs = [port_triple(f) for f in description.output_formats]
    backend = {
        **options,
        "n_inputs": len(inputs),
        "n_outputs": len(outputs),
        "word_bytes_in": wire.word_bytes(inputs),
        "word_bytes_out": wire.word_bytes(outputs),
        "input_fraction_bits": [bits - integer for bits, integer, _ in inputs],
        "output_fraction_bits": [bits - integer for bits, integer, _ in outputs],
    }
    config = {"description": description.to_json(), "backend": backend}
    return {
        "server.py": (root / "common" / "server.py").read_text(encoding="utf-8"),
        "client.py": (root / "common" / "client.py").read_text(encoding="utf-8"),
        "codesign_wire.py": Path(wire.__file__).read_text(encoding="utf-8"),
        "backend.py": (root / about["backend"]).read_text(encoding="utf-8"),
        "config.json": json.dumps(config, sort_keys=True, indent=1) + "\n",
        "README.txt": (root / "common" / "README.txt").read_text(encoding="utf-8"),
    }


def write_board_server(
    folder: Path, board: str, description: DeviceDescription, options: dict[str, Any]
) -> None:
    """Write `board_server_files` to a folder."""
    for name, text in board_server_files(board, description, options).items():
        write_atomically(folder / name, text)
