"""Emulator twins: what a board says over its transport, said by an emulator on this machine.

A twin runs the very files that go onto the board (server, protocol), with the emulator library in the
place of the overlay, so the client under test cannot tell.  All twins listen on loopback only.
"""

from __future__ import annotations

import contextlib
import os
import pty
import select
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from codesign.errors import DeviceError
from codesign.validate.boards import write_board_server
from codesign.validate.forms import EmulatorLibrary
from codesign.validate.links import set_raw_mode

#: Seconds that a twin may take to start.
START_TIMEOUT_S = 20.0


def write_twin(folder: Path, library: Path) -> None:
    """Write the server folder of a twin of an emulator library."""
    emulator = EmulatorLibrary(library)
    options = {"library": library.name, "prefix": emulator.prefix}
    write_board_server(folder, "emulator", emulator.description, options)
    shutil.copyfile(library, folder / library.name)


@contextlib.contextmanager
def _server(folder: Path, *arguments: str) -> Iterator[str]:
    """Run `server.py` of a folder; yield the line that says where it listens."""
    process = subprocess.Popen(
        [sys.executable, "-u", str(folder / "server.py"), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None, "asked for a pipe"
    try:
        ready, _, _ = select.select([process.stdout], [], [], START_TIMEOUT_S)
        line = process.stdout.readline() if ready else ""
        if not line.startswith("listening on "):
            raise DeviceError(
                f"the twin in {folder} did not start within {START_TIMEOUT_S:g} s; run its server.py by"
                " hand to see why"
            )
        yield line.split()[-1]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@contextlib.contextmanager
def tcp_twin(folder: Path, library: Path, *arguments: str) -> Iterator[str]:
    """Start the TCP server on a free loopback port; yield its URL.

    Args:
        folder: where its files are written.
        library: emulator library.
        arguments: further options of the server.
    """
    write_twin(folder, library)
    with _server(folder, "--port", "0", *arguments) as address:
        yield f"tcp://{address}"


#: Changes bytes on their way: (is_from_board, bytes) -> bytes.
Tamper = Callable[[bool, bytes], bytes]


@contextlib.contextmanager
def uart_twin(
    folder: Path, library: Path, *, baud: int = 115200, tamper: Tamper | None = None
) -> Iterator[str]:
    """Start the serial server on a pseudo-terminal; yield the URL of the other end.

    Two pseudo-terminals joined by a thread make the cable: both the client and the server open an
    ordinary serial device.

    Args:
        folder: where the server's files are written.
        library: emulator library.
        baud: as in the URL; a pseudo-terminal does not slow down.
        tamper: applied to the bytes in the cable, to inject faults.
    """
    write_twin(folder, library)
    ends = [pty.openpty() for _ in range(2)]
    stop_read, stop_write = os.pipe()
    try:
        for _, terminal in ends:
            set_raw_mode(terminal, baud)
        client_side, board_side = (master for master, _ in ends)
        cable = threading.Thread(
            target=_join, args=(client_side, board_side, stop_read, tamper), daemon=True
        )
        cable.start()
        port, board_port = (os.ttyname(terminal) for _, terminal in ends)
        with _server(folder, "--uart", board_port, "--baud", str(baud)):
            yield f"uart://{port}?baud={baud}"
        os.write(stop_write, b"x")
        cable.join()
    finally:
        for descriptor in (*ends[0], *ends[1], stop_read, stop_write):
            os.close(descriptor)


def _join(client_side: int, board_side: int, stop: int, tamper: Tamper | None) -> None:
    """Copy bytes both ways until `stop` becomes readable."""
    while True:
        ready, _, _ = select.select([client_side, board_side, stop], [], [])
        if stop in ready:
            return
        for source, target in ((client_side, board_side), (board_side, client_side)):
            if source in ready:
                data = os.read(source, 65536)
                if tamper is not None:
                    data = tamper(source == board_side, data)
                while data:
                    data = data[os.write(target, data) :]
