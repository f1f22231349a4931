#!/usr/bin/env python3
"""Serve a co-design network that runs on this board (or in an emulator) to one client at a time.

Needs Python 3.8 and nothing else, unless the backend does.  Beside it lie `codesign_wire.py` (the
protocol), `config.json` (what the firmware is) and `backend.py` (what computes).

    python3 server.py                               # TCP on 127.0.0.1:5005, loopback only
    python3 server.py --host 192.168.2.99           # say so to accept the network
    python3 server.py --uart /dev/ttyPS1 --baud 921600
"""

import argparse
import importlib.util
import json
import os
import select
import socket
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import codesign_wire as wire

FOLDER = os.path.dirname(os.path.abspath(__file__))


class Refused(Exception):
    """A request that is understood and turned down; `code` goes to the client."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class Server:
    """Answers requests; knows nothing of sockets or serial ports.

    `backend` has two methods: `reset()` and `run(words: bytes, n_events: int) -> bytes`, with words as
    little-endian signed integers of `word_bytes_in` / `word_bytes_out` bytes.
    """

    def __init__(self, description, backend, max_payload_bytes=wire.MAX_PAYLOAD_BYTES):
        self.description = description
        self.backend = backend
        self.max_payload_bytes = max_payload_bytes
        self.bytes_in = wire.word_bytes(description["input_formats"]) * len(
            description["input_formats"]
        )
        self.bytes_out = wire.word_bytes(description["output_formats"]) * len(
            description["output_formats"]
        )
        self.counts = {"events": 0, "batches": 0, "refused": 0}
        self.boot()

    def boot(self):
        """Take a new identity and zero the counters: a client sees that a reset happened."""
        self.boot_id = int.from_bytes(os.urandom(4), "little")
        self.counts = {"events": 0, "batches": 0, "refused": 0}
        self.backend.reset()

    def answer(self, header, payload):
        """Return (kind, payload) of the answer to one checked request."""
        try:
            if header.kind == wire.RUN:
                return wire.RESULT, self._run(payload)
            if header.kind == wire.HELLO:
                return wire.WELCOME, self._hello(wire.decode_json(payload))
            if header.kind == wire.COUNTERS:
                return wire.COUNTED, wire.encode_json(self.counts)
            if header.kind == wire.RESET:
                self.boot()
                return wire.WELCOME, self._welcome()
            raise Refused("unknown-request", f"kind {header.kind} is no request")
        except Refused as error:
            self.counts["refused"] += 1
            return wire.ERROR, wire.encode_json({"code": error.code, "message": str(error)})
        except wire.WireError as error:
            self.counts["refused"] += 1
            return wire.ERROR, wire.encode_json({"code": error.fault, "message": str(error)})

    def _hello(self, request):
        wanted = request.get("digest", "")
        if wanted and wanted != self.description["digest"]:
            raise Refused("wrong-firmware", f"this board runs {self.description['digest']}")
        return self._welcome()

    def _welcome(self):
        return wire.encode_json(
            {
                "description": self.description,
                "boot_id": self.boot_id,
                "events_done": self.counts["events"],
                "max_payload_bytes": self.max_payload_bytes,
            }
        )

    def _run(self, payload):
        if len(payload) < wire.RUN_HEAD.size:
            raise Refused("wrong-count", "a batch starts with its number of events")
        (n_events,) = wire.RUN_HEAD.unpack_from(payload)
        if len(payload) != wire.RUN_HEAD.size + n_events * self.bytes_in:
            raise Refused(
                "wrong-count",
                f"{len(payload) - wire.RUN_HEAD.size} bytes are not {n_events} events of"
                f" {self.bytes_in} bytes",
            )
        if wire.RESULT_HEAD.size + n_events * self.bytes_out > self.max_payload_bytes:
            raise Refused("oversize-message", f"the results of {n_events} events exceed the limit")
        try:
            words = self.backend.run(payload[wire.RUN_HEAD.size :], n_events) if n_events else b""
        except (RuntimeError, ValueError, OSError) as error:
            raise Refused("backend", str(error)) from error
        if len(words) != n_events * self.bytes_out:
            raise Refused("backend", f"the backend returned {len(words)} bytes")
        self.counts["events"] += n_events
        self.counts["batches"] += 1
        return wire.RESULT_HEAD.pack(n_events, self.boot_id, self.counts["events"]) + words


def serve_stream(server, receive, send):
    """Answer requests from one byte stream until it ends.

    `receive(n, inside_frame)` returns exactly n bytes or raises EOFError / TimeoutError.  After bytes that are no
    frame nothing in the stream can be trusted: the fault is answered and the stream is given up.
    """
    while True:
        try:
            head = receive(wire.HEADER.size, False)
        except (EOFError, TimeoutError):
            return
        sequence = 0
        try:
            header = wire.decode_header(head, server.max_payload_bytes)
            sequence = header.sequence
            payload = receive(header.length, True)
            wire.check_payload(head, header, payload)
        except (EOFError, TimeoutError):
            return
        except wire.WireError as error:
            refusal = wire.encode_json({"code": error.fault, "message": str(error)})
            send(wire.encode(wire.ERROR, sequence, refusal))
            return
        kind, body = server.answer(header, payload)
        send(wire.encode(kind, header.sequence, body))


def serve_tcp(server, host, port, idle_timeout_s):
    """Serve one TCP client after another; print the port once listening."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(8)  # a shorter queue makes quick reconnects wait for seconds
    address = listener.getsockname()
    print(f"listening on {address[0]}:{address[1]}", flush=True)
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def receive(n_bytes, inside_frame, connection=connection):
            # one deadline for all bytes: a client that sends one byte a minute must not keep the board
            deadline_s = time.monotonic() + idle_timeout_s
            parts = bytearray(n_bytes)
            view, done = memoryview(parts), 0
            while done < n_bytes:
                left_s = deadline_s - time.monotonic()
                if left_s <= 0:
                    raise TimeoutError
                connection.settimeout(left_s)
                try:
                    count = connection.recv_into(view[done:])
                except (TimeoutError, socket.timeout) as error:  # noqa: UP041 -- two classes before 3.10
                    raise TimeoutError from error
                if count == 0:
                    raise EOFError
                done += count
            connection.settimeout(idle_timeout_s)
            return bytes(parts)

        try:
            serve_stream(server, receive, connection.sendall)
        except OSError as error:  # the client went away in the middle of an answer
            print(f"client lost: {error}", file=sys.stderr, flush=True)
        finally:
            connection.close()


def serve_uart(server, path, baud, byte_timeout_s):
    """Serve a serial port; silence inside a frame, or garbage, restarts at the next quiet moment."""
    import termios

    descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY)
    speed = getattr(termios, f"B{baud}")
    control = termios.tcgetattr(descriptor)[6]
    control[termios.VMIN], control[termios.VTIME] = 1, 0
    flags = termios.CS8 | termios.CREAD | termios.CLOCAL
    termios.tcsetattr(descriptor, termios.TCSANOW, [0, 0, flags, 0, speed, speed, control])
    print(f"listening on {path}", flush=True)

    def receive(n_bytes, inside_frame):
        parts = bytearray()
        while len(parts) < n_bytes:
            wait_s = byte_timeout_s if parts or inside_frame else None
            if not select.select([descriptor], [], [], wait_s)[0]:
                raise TimeoutError
            parts += os.read(descriptor, n_bytes - len(parts))
        return bytes(parts)

    def send(data):
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view[:4096]) :]

    while True:
        serve_stream(server, receive, send)
        while select.select([descriptor], [], [], 0.01)[0]:
            os.read(descriptor, 65536)
        time.sleep(0)


def load_backend(folder, options):
    """Create the `Backend` of the file backend.py in `folder`."""
    spec = importlib.util.spec_from_file_location(
        "codesign_backend", os.path.join(folder, "backend.py")
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Backend(folder, options)


def main():
    """Read config.json, start the backend, serve."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=5005, help="0 takes any free port")
    parser.add_argument("--idle-timeout-s", type=float, default=60.0)
    parser.add_argument("--max-payload-bytes", type=int, default=wire.MAX_PAYLOAD_BYTES)
    parser.add_argument("--uart", help="serve this serial port instead of TCP")
    parser.add_argument("--baud", type=int, default=115200)
    arguments = parser.parse_args()
    with open(os.path.join(FOLDER, "config.json"), encoding="utf-8") as stream:
        config = json.load(stream)
    backend = load_backend(FOLDER, config["backend"])
    server = Server(config["description"], backend, arguments.max_payload_bytes)
    if arguments.uart:
        serve_uart(server, arguments.uart, arguments.baud, byte_timeout_s=1.0)
    else:
        serve_tcp(server, arguments.host, arguments.port, arguments.idle_timeout_s)


if __name__ == "__main__":
    main()
