"""A TCP proxy that speaks the framed protocol and spoils chosen answers."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from codesign.validate import wire


class Drop(Exception):
    """Close the connection instead of answering."""


#: Gets the proxy and one answer frame (header, payload); returns the bytes to send instead.
Spoil = Callable[["FaultyProxy", wire.Header, bytes], bytes]


class FaultyProxy:
    """Relays frames between a client and a twin; spoils the answers of one kind.

    Args:
        url: of the twin.
        spoil: what to do to a chosen answer.
        kind: kind of answer that is chosen.
        first: index of the first such answer that is spoiled.
        count: how many in a row.
        timeout_s: of the client; long, unless the test waits for it.
    """

    def __init__(
        self,
        url: str,
        spoil: Spoil,
        *,
        kind: int,
        first: int,
        count: int,
        timeout_s: float = 10.0,
    ) -> None:
        self._timeout_s = timeout_s
        parts = urlsplit(url)
        self._target = (parts.hostname, parts.port)
        self._spoil, self._kind = spoil, kind
        self._chosen = range(first, first + count)
        self._n_seen = 0
        self.board: socket.socket | None = None
        self.previous: bytes | None = None  # the chosen kind's last unspoiled answer
        self.n_spoiled = 0
        self._stop = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def url(self) -> str:
        port = self._listener.getsockname()[1]
        return f"tcp://127.0.0.1:{port}?timeout_s={self._timeout_s}"

    def __enter__(self) -> "FaultyProxy":
        self._thread.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._stop = True
        with contextlib.suppress(OSError):
            socket.create_connection(self._listener.getsockname(), timeout=1).close()
        self._thread.join(timeout=5)
        self._listener.close()

    def _serve(self) -> None:
        while not self._stop:
            client, _ = self._listener.accept()
            if self._stop:
                client.close()
                return
            board = socket.create_connection(self._target)
            self.board = board
            with client, board, contextlib.suppress(OSError, EOFError, Drop):
                while True:
                    board.sendall(read_frame(client)[2])
                    client.sendall(self._answer(*read_frame(board)))

    def _answer(self, header: wire.Header, payload: bytes, frame: bytes) -> bytes:
        if header.kind != self._kind:
            return frame
        index, self._n_seen = self._n_seen, self._n_seen + 1
        if index not in self._chosen:
            self.previous = frame
            return frame
        self.n_spoiled += 1
        return self._spoil(self, header, payload)


def read_exactly(connection: socket.socket, n_bytes: int) -> bytes:
    data = b""
    while len(data) < n_bytes:
        part = connection.recv(n_bytes - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def read_frame(connection: socket.socket) -> tuple[wire.Header, bytes, bytes]:
    head = read_exactly(connection, wire.HEADER.size)
    header = wire.decode_header(head)
    payload = read_exactly(connection, header.length)
    return header, payload, head + payload


def sleep(seconds: float) -> None:
    time.sleep(seconds)
