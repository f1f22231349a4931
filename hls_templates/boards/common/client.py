#!/usr/bin/env python3
"""Reference client of a board's server: Python 3.8, standard library only, none of codesign's own code.

Written from docs/wire-protocol.md, and meant to be read beside it or copied.

    python3 client.py ADDRESS:5005                      # what runs there
    python3 client.py ADDRESS:5005 words.txt            # one event a line, integers; prints the answers

    with Client("192.168.2.99", 5005) as board:
        print(board.description["digest"], board.n_inputs, board.n_outputs)
        rows = board.run([[0] * board.n_inputs])
"""

import json
import socket
import struct
import sys
import zlib

HEADER = struct.Struct("<4sBBHIII")
HELLO, WELCOME, RUN, RESULT, COUNTERS, COUNTED, RESET, ERROR = range(1, 9)


class Client:
    """One connection; one request is outstanding at a time."""

    def __init__(self, host, port, digest="", timeout_s=10.0):
        """Connect and say hello; `digest` insists on that network, "" takes any."""
        self._socket = socket.create_connection((host, port), timeout=timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sequence = 0
        try:
            welcome = json.loads(self._ask(HELLO, json.dumps({"digest": digest}).encode(), WELCOME))
        except BaseException:
            self._socket.close()
            raise
        self.description = welcome["description"]
        self.boot_id = welcome["boot_id"]
        self._limit = welcome["max_payload_bytes"]
        self.n_inputs = len(self.description["input_formats"])
        self.n_outputs = len(self.description["output_formats"])
        self._size_in = _container(self.description["input_formats"])
        self._size_out = _container(self.description["output_formats"])

    def __enter__(self):
        return self

    def __exit__(self, *reasons):
        self._socket.close()

    def run(self, events):
        """Return the output words of events, rows of `n_inputs` integers each."""
        per_event = max(self.n_inputs * self._size_in, self.n_outputs * self._size_out)
        per_batch = max((self._limit - 16) // per_event, 1)
        rows = []
        for start in range(0, len(events), per_batch):
            rows += self._batch(events[start : start + per_batch])
        return rows

    def _batch(self, events):
        payload = struct.pack("<I", len(events)) + b"".join(
            word.to_bytes(self._size_in, "little", signed=True)
            for event in events
            for word in event
        )
        answer = self._ask(RUN, payload, RESULT)
        n_events, boot_id, _events_done = struct.unpack_from("<IIQ", answer)
        if boot_id != self.boot_id:
            raise RuntimeError("the board was reset in between; connect again")
        size, width = self._size_out, self._size_out * self.n_outputs
        words = answer[16:]
        if n_events != len(events) or len(words) != n_events * width:
            raise RuntimeError("the answer has another number of events than were sent")
        return [
            [
                int.from_bytes(words[i : i + size], "little", signed=True)
                for i in range(row * width, (row + 1) * width, size)
            ]
            for row in range(n_events)
        ]

    def counters(self):
        """Return the server's counters."""
        return json.loads(self._ask(COUNTERS, b"", COUNTED))

    def _ask(self, kind, payload, expected):
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        head = struct.pack("<4sBBHII", b"CDHW", 1, kind, 0, self._sequence, len(payload))
        checksum = struct.pack("<I", zlib.crc32(payload, zlib.crc32(head)))
        self._socket.sendall(head + checksum + payload)
        header = self._receive(HEADER.size)
        magic, version, answered, flags, sequence, length, checksum = HEADER.unpack(header)
        if magic != b"CDHW" or version != 1 or flags != 0:
            raise RuntimeError(f"no frame of version 1 of this protocol: {header!r}")
        body = self._receive(length)
        if zlib.crc32(body, zlib.crc32(header[:16])) != checksum:
            raise RuntimeError("the checksum of the answer does not match")
        if answered == ERROR:
            refused = json.loads(body)
            raise RuntimeError(f"{refused['code']}: {refused['message']}")
        if answered != expected or sequence != self._sequence:
            raise RuntimeError(f"answer {sequence} of kind {answered} to another request")
        return body

    def _receive(self, n_bytes):
        parts = b""
        while len(parts) < n_bytes:
            part = self._socket.recv(min(n_bytes - len(parts), 65536))
            if not part:
                raise RuntimeError("the server closed the connection")
            parts += part
        return parts


def _container(formats):
    """Return 1, 2, 4 or 8: bytes of the smallest signed integer that holds the words of all ports."""
    bits = max(width + (0 if signed else 1) for width, _integer_bits, signed in formats)
    return next(size for size in (1, 2, 4, 8) if 8 * size >= bits)


def main():
    """Describe the server, or run the events of a file."""
    if len(sys.argv) not in (2, 3) or ":" not in sys.argv[1]:
        sys.exit("usage: client.py HOST:PORT [FILE]")
    host, port = sys.argv[1].rsplit(":", 1)
    with Client(host, int(port)) as board:
        if len(sys.argv) == 2:
            print(json.dumps({"description": board.description, "counters": board.counters()}))
            return
        with open(sys.argv[2], encoding="utf-8") as stream:
            events = [[int(word) for word in line.split()] for line in stream if line.strip()]
        for row in board.run(events):
            print(*row)


if __name__ == "__main__":
    main()
