"""A device behind the framed protocol of `codesign.validate.wire`, over any byte link."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError
from codesign.validate import wire
from codesign.validate.faults import DeviceFault
from codesign.validate.implementation import (
    DeviceDescription,
    Implementation,
    check_words,
    out_of_range,
)
from codesign.validate.links import Link, receive_exactly


class FramedDevice(Implementation):
    """Client of the board server.

    One request is outstanding at a time, so every answer can be told from every other by its sequence
    number, and a request can be repeated after any fault: the server keeps no state between batches.
    """

    def __init__(
        self,
        link: Link,
        *,
        kind: str,
        timeout_s: float,
        expected_digest: str | None,
        max_payload_bytes: int = wire.MAX_PAYLOAD_BYTES,
    ) -> None:
        """Wrap a link; nothing is opened before `load`.

        Args:
            link: to the board.
            kind: for the description.
            timeout_s: within which an answer must be complete.
            expected_digest: digest to insist on, None for any firmware.
            max_payload_bytes: largest payload to send or accept.
        """
        if not timeout_s > 0:
            raise DesignError(f"a time limit is positive, got {timeout_s} s; correct the URL")
        self._link = link
        self._kind = kind
        self._timeout_s = timeout_s
        self._expected_digest = expected_digest
        self._sequence = 0
        self._description: DeviceDescription | None = None
        self._boot_id = 0
        self._events_done = 0
        self._events_at_load = 0
        self._limit_bytes = max_payload_bytes
        self._max_payload_bytes = max_payload_bytes
        self._word_bytes = (8, 8)

    # ---- frames ---------------------------------------------------------------------------------
    def _ask(self, kind: int, payload: bytes, expected_kind: int) -> bytes:
        """Send one request and return the payload of its answer."""
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        self._link.send(wire.encode(kind, self._sequence, payload))
        deadline_s = time.monotonic() + self._timeout_s
        head = receive_exactly(self._link, wire.HEADER.size, deadline_s, inside_frame=False)
        try:
            header = wire.decode_header(head, self._max_payload_bytes)
            body = receive_exactly(self._link, header.length, deadline_s, inside_frame=True)
            wire.check_payload(head, header, body)
        except wire.WireError as error:
            raise DeviceFault(error.fault, str(error)) from error
        if header.sequence != self._sequence:
            name = (
                "duplicate-sequence"
                if header.sequence == (self._sequence - 1) & 0xFFFFFFFF
                else "out-of-order"
            )
            raise DeviceFault(name, f"sent {self._sequence}, answered {header.sequence}")
        if header.kind == wire.ERROR:
            raise self._refusal(body)
        if header.kind != expected_kind:
            raise DeviceFault("wrong-kind", f"expected kind {expected_kind}, got {header.kind}")
        return body

    def _refusal(self, body: bytes) -> DeviceFault:
        value = self._json(body)
        code, message = str(value.get("code"))[:60], str(value.get("message"))[:300]
        name = code if code in ("wrong-firmware", "oversize-message", "crc-error") else "refused"
        return DeviceFault(name, f"{code}: {message}")

    @staticmethod
    def _json(body: bytes) -> dict[str, Any]:
        try:
            return wire.decode_json(body)
        except wire.WireError as error:
            raise DeviceFault(error.fault, str(error)) from error

    # ---- Implementation ---------------------------------------------------------------------------------
    def load(self) -> None:
        self._link.open()
        self._max_payload_bytes = (
            wire.MAX_PAYLOAD_BYTES
        )  # for descriptions, before a limit is agreed
        hello = wire.encode_json({"digest": self._expected_digest or ""})
        welcome = self._json(self._ask(wire.HELLO, hello, wire.WELCOME))
        try:
            described = DeviceDescription.from_json(welcome["description"])
            self._boot_id = int(welcome["boot_id"])
            self._events_done = int(welcome["events_done"])
            limit = int(welcome["max_payload_bytes"])
        except (KeyError, TypeError, ValueError) as error:
            raise DeviceFault("bad-description", f"welcome lacks or garbles {error}") from error
        if not 1024 <= limit <= wire.MAX_PAYLOAD_BYTES:
            raise DeviceFault("bad-description", f"payload limit of {limit} bytes")
        described.require_digest(self._expected_digest)
        self._events_at_load = self._events_done
        self._max_payload_bytes = min(limit, self._limit_bytes)
        formats = welcome["description"]
        self._word_bytes = (
            wire.word_bytes(formats["input_formats"]),
            wire.word_bytes(formats["output_formats"]),
        )
        self._description = replace(described, kind=f"{self._kind}:{described.kind}")

    def describe(self) -> DeviceDescription:
        if self._description is None:
            raise DeviceFault("link-dropped", "not connected; load the device first")
        return self._description

    def run(self, words: NDArray[np.int64]) -> NDArray[np.int64]:
        described = self.describe()
        words = check_words(words, described.input_formats)
        size_in, size_out = self._word_bytes
        # both directions must fit the limit
        per_event = max(size_in * described.n_inputs, size_out * described.n_outputs)
        per_batch = (self._max_payload_bytes - wire.RESULT_HEAD.size) // per_event
        if per_batch < 1:
            raise DeviceFault("oversize-message", f"one event needs {per_event} bytes")
        out = np.empty((len(words), described.n_outputs), dtype=np.int64)
        for start in range(0, len(words), per_batch):
            batch = words[start : start + per_batch]
            out[start : start + len(batch)] = self._run_batch(batch, described, size_in, size_out)
        return out

    def _run_batch(
        self, words: NDArray[np.int64], described: DeviceDescription, size_in: int, size_out: int
    ) -> NDArray[np.int64]:
        payload = wire.RUN_HEAD.pack(len(words)) + words.astype(f"<i{size_in}").tobytes()
        body = self._ask(wire.RUN, payload, wire.RESULT)
        expected_bytes = wire.RESULT_HEAD.size + len(words) * described.n_outputs * size_out
        if len(body) != expected_bytes:
            raise DeviceFault("wrong-count", f"{len(body)} bytes came, expected {expected_bytes}")
        n_events, boot_id, events_done = wire.RESULT_HEAD.unpack_from(body)
        if boot_id != self._boot_id:
            raise DeviceFault("reset", f"boot {self._boot_id:08x} became {boot_id:08x}")
        if n_events != len(words):
            raise DeviceFault("wrong-count", f"{n_events} events came, {len(words)} were sent")
        if events_done != self._events_done + len(words):
            raise DeviceFault(
                "stuck-counter",
                f"counted {events_done} after {self._events_done} and {len(words)} more",
            )
        self._events_done = events_done
        out = np.frombuffer(body, dtype=f"<i{size_out}", offset=wire.RESULT_HEAD.size)
        out = out.astype(np.int64).reshape(len(words), described.n_outputs)
        check_results(out, described)
        return out

    def counters(self) -> Mapping[str, int]:
        counted = self._json(self._ask(wire.COUNTERS, b"", wire.COUNTED))
        try:
            values = {str(name): int(value) for name, value in counted.items()}
            values["events"] -= self._events_at_load
        except (KeyError, TypeError, ValueError) as error:
            raise DeviceFault("garbage", f"counters: {error!r}") from error
        return values

    def trace(self, words: NDArray[np.int64]) -> None:
        return None  # nothing inside a board shows

    def measure_timing(self) -> None:
        return None  # the protocol carries events, not clock cycles

    def close(self) -> None:
        self._link.close()


def check_results(words: NDArray[np.int64], described: DeviceDescription) -> None:
    """Check that every result fits its port.

    Raises:
        DeviceFault: "endianness-swap" when reversing the bytes would make them fit, else
            "word-out-of-range".
    """
    outside = out_of_range(words, described.output_formats)
    if outside is None:
        return
    event, port = outside
    size = wire.word_bytes([(f.bits, f.integer_bits, f.signed) for f in described.output_formats])
    swapped = words.astype(f"i{size}").byteswap().astype(np.int64)
    name = "word-out-of-range"
    if size > 1 and out_of_range(swapped, described.output_formats) is None:
        name = "endianness-swap"
    raise DeviceFault(
        name,
        f"event {event}, output {port}: {words[event, port]} in"
        f" {described.output_formats[port].to_hls()}",
    )
