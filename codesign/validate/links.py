"""Byte links to a board: TCP sockets and serial ports, with deadlines on every read."""

from __future__ import annotations

import os
import select
import socket
import termios
import time
from abc import ABC, abstractmethod

from codesign.errors import DesignError
from codesign.validate.faults import DeviceFault


class Link(ABC):
    """A bidirectional stream of bytes; `open` may be called again after a fault."""

    @abstractmethod
    def open(self) -> None:
        """Connect, dropping an earlier connection and everything unread."""

    @abstractmethod
    def send(self, data: bytes) -> None:
        """Send everything.

        Raises:
            DeviceFault: "link-dropped", or "late-answer" when the other side does not take it.
        """

    @abstractmethod
    def receive(self, n_bytes: int, deadline_s: float) -> bytes:
        """Return up to `n_bytes` (at least one) before the monotonic time `deadline_s`.

        Raises:
            DeviceFault: "link-dropped" or "late-answer".
        """

    @abstractmethod
    def close(self) -> None:
        """Close; harmless when closed."""


def receive_exactly(link: Link, n_bytes: int, deadline_s: float, *, inside_frame: bool) -> bytes:
    """Return exactly `n_bytes`; silence in the middle of a frame is a truncated frame.

    Args:
        link: an open link.
        n_bytes: how many.
        deadline_s: monotonic time by which the last byte must be there.
        inside_frame: whether bytes of this frame were read before.

    Raises:
        DeviceFault: "link-dropped", "late-answer" or "truncated-frame".
    """
    parts = bytearray()
    while len(parts) < n_bytes:
        try:
            parts += link.receive(n_bytes - len(parts), deadline_s)
        except DeviceFault as fault:
            if parts or inside_frame:
                raise DeviceFault(
                    "truncated-frame", f"{len(parts)} of {n_bytes} bytes came, then {fault.name}"
                ) from fault
            raise
    return bytes(parts)


class TcpLink(Link):
    """A TCP connection."""

    def __init__(self, host: str, port: int, *, timeout_s: float) -> None:
        if not 1 <= port <= 65535:
            raise DesignError(f"a TCP port lies in 1..65535, got {port}; correct the URL")
        self._address = (host, port)
        self._timeout_s = timeout_s
        self._socket: socket.socket | None = None

    def open(self) -> None:
        self.close()
        try:
            self._socket = socket.create_connection(self._address, timeout=self._timeout_s)
        except OSError as error:
            host, port = self._address
            raise DeviceFault(
                "link-dropped", f"cannot connect to {host}:{port}: {error}"
            ) from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data: bytes) -> None:
        connection = self._connected()
        connection.settimeout(self._timeout_s)
        try:
            connection.sendall(data)
        except TimeoutError as error:
            raise DeviceFault(
                "late-answer", f"request not taken in {self._timeout_s:g} s"
            ) from error
        except OSError as error:
            raise DeviceFault("link-dropped", f"while sending: {error}") from error

    def receive(self, n_bytes: int, deadline_s: float) -> bytes:
        connection = self._connected()
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            raise DeviceFault("late-answer", "time ran out")
        connection.settimeout(left_s)
        try:
            data = connection.recv(n_bytes)
        except TimeoutError as error:
            raise DeviceFault("late-answer", f"silence for {left_s:.3g} s") from error
        except OSError as error:
            raise DeviceFault("link-dropped", f"while receiving: {error}") from error
        if not data:
            raise DeviceFault("link-dropped", "the other side closed the connection")
        return data

    def _connected(self) -> socket.socket:
        if self._socket is None:
            raise DeviceFault("link-dropped", "not connected; load the device first")
        return self._socket

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


#: Baud rates that termios knows, by number.
BAUD_RATES = {
    int(name[1:]): getattr(termios, name)
    for name in dir(termios)
    if name.startswith("B") and name[1:].isdigit() and int(name[1:]) > 0
}


def set_raw_mode(descriptor: int, baud: int) -> None:
    """Put a terminal into raw 8N1 mode without flow control.

    Raises:
        DesignError: the baud rate is none that the operating system offers.
    """
    if baud not in BAUD_RATES:
        known = ", ".join(map(str, sorted(BAUD_RATES)))
        raise DesignError(f"baud rate {baud} is not offered by this system; choose from {known}")
    control = termios.tcgetattr(descriptor)[6]
    flags = termios.CS8 | termios.CREAD | termios.CLOCAL
    speed = BAUD_RATES[baud]
    control[termios.VMIN], control[termios.VTIME] = 0, 0
    termios.tcsetattr(descriptor, termios.TCSANOW, [0, 0, flags, 0, speed, speed, control])


class UartLink(Link):
    """A serial port, raw 8N1."""

    def __init__(self, path: str, *, baud: int, timeout_s: float) -> None:
        if baud not in BAUD_RATES:
            known = ", ".join(map(str, sorted(BAUD_RATES)))
            raise DesignError(
                f"baud rate {baud} is not offered by this system; choose from {known}"
            )
        self._path = path
        self._baud = baud
        self._timeout_s = timeout_s
        self._descriptor: int | None = None

    def open(self) -> None:
        self.close()
        try:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
            set_raw_mode(self._descriptor, self._baud)
            termios.tcflush(self._descriptor, termios.TCIOFLUSH)
        except (OSError, termios.error) as error:
            self.close()
            raise DeviceFault("link-dropped", f"cannot open {self._path}: {error}") from error
        self._drain()

    def _drain(self) -> None:
        """Throw away what an interrupted answer still sends, until the line is quiet for 20 ms."""
        assert self._descriptor is not None, "drained while open"
        give_up_s = time.monotonic() + self._timeout_s
        while time.monotonic() < give_up_s:
            if not select.select([self._descriptor], [], [], 0.02)[0]:
                return
            try:
                if not os.read(self._descriptor, 65536):
                    return
            except OSError:
                return  # the next read reports a dropped link with its reason

    def send(self, data: bytes) -> None:
        descriptor = self._opened()
        # a serial line takes 10 bits a byte: the time limit counts from when the last bit is due
        give_up_s = time.monotonic() + self._timeout_s + 10.0 * len(data) / self._baud
        view = memoryview(data)
        while view:
            left_s = give_up_s - time.monotonic()
            if left_s <= 0 or not select.select([], [descriptor], [], left_s)[1]:
                raise DeviceFault("late-answer", "the port does not take the request")
            try:
                view = view[os.write(descriptor, view[:4096]) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise DeviceFault("link-dropped", f"while sending: {error}") from error

    def receive(self, n_bytes: int, deadline_s: float) -> bytes:
        descriptor = self._opened()
        while True:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or not select.select([descriptor], [], [], left_s)[0]:
                raise DeviceFault("late-answer", "silence on the line")
            try:
                data = os.read(descriptor, n_bytes)
            except BlockingIOError:
                continue
            except OSError as error:
                raise DeviceFault("link-dropped", f"while receiving: {error}") from error
            if not data:
                raise DeviceFault("link-dropped", "the port was closed")
            return data

    def _opened(self) -> int:
        if self._descriptor is None:
            raise DeviceFault("link-dropped", "not open; load the device first")
        return self._descriptor

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
