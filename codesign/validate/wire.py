"""The framed protocol between a client and a board: bytes in, bytes out, standard library only.

This one file is used by the client and copied beside the server that runs on the board, so it keeps to
Python 3.8.  All numbers are little-endian.

    frame   = header (20 bytes) + payload
    header  = magic "CDHW", version u8, kind u8, flags u16 (0), sequence u32, length u32, crc u32
    crc     = CRC-32 of the first 16 header bytes and the payload

A client sends one request and waits for the one answer that carries the request's sequence number.

    HELLO    {"digest"}         -> WELCOME  {"description", "boot_id", "events_done", "max_payload_bytes"}
    RUN      n u32, words       -> RESULT   n u32, boot_id u32, events_done u64, words
    COUNTERS                    -> COUNTED  {name: count}
    RESET                       -> WELCOME
    anything that is refused    -> ERROR    {"code", "message"}

Words travel as signed integers of 1, 2, 4 or 8 bytes: the smallest container that holds every port.
docs/wire-protocol.md says all of it for clients that are not ours.
"""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any, NamedTuple

MAGIC = b"CDHW"
VERSION = 1
HEADER = struct.Struct("<4sBBHIII")
RUN_HEAD = struct.Struct("<I")
RESULT_HEAD = struct.Struct("<IIQ")

HELLO, WELCOME, RUN, RESULT, COUNTERS, COUNTED, RESET, ERROR = range(1, 9)
KINDS = frozenset(range(1, 9))

#: Largest payload either side accepts, unless both agree on less.
MAX_PAYLOAD_BYTES = 1 << 24
#: Largest JSON payload: a description of thousands of ports fits.
MAX_JSON_BYTES = 1 << 20


class WireError(Exception):
    """Bytes that are no legal frame; `fault` names what is wrong with them."""

    def __init__(self, fault: str, detail: str) -> None:
        super().__init__(detail)
        self.fault = fault


class Header(NamedTuple):
    """The parsed first 20 bytes of a frame."""

    kind: int
    sequence: int
    length: int
    crc: int


def encode(kind: int, sequence: int, payload: bytes) -> bytes:
    """Return one frame."""
    head = HEADER.pack(MAGIC, VERSION, kind, 0, sequence & 0xFFFFFFFF, len(payload), 0)[:16]
    crc = zlib.crc32(payload, zlib.crc32(head))
    return head + struct.pack("<I", crc) + payload


def decode_header(data: bytes, max_payload_bytes: int = MAX_PAYLOAD_BYTES) -> Header:
    """Check and read a header of exactly `HEADER.size` bytes.

    Raises:
        WireError: swapped bytes, no magic, another version, an unknown kind or too large a payload.
    """
    magic, version, kind, flags, sequence, length, crc = HEADER.unpack(data)
    if magic == MAGIC[::-1]:
        raise WireError("endianness-swap", "the frame's magic reads backwards")
    if magic != MAGIC:
        raise WireError("garbage", f"expected {MAGIC!r}, got {magic!r}")
    if version != VERSION:
        raise WireError("protocol-version", f"version {version}; this side speaks {VERSION}")
    if kind not in KINDS or flags != 0:
        raise WireError("garbage", f"unknown kind {kind} or flags {flags:#x}")
    if length > max_payload_bytes:
        raise WireError("oversize-message", f"{length} bytes; limit {max_payload_bytes}")
    return Header(kind, sequence, length, crc)


def check_payload(header_bytes: bytes, header: Header, payload: bytes) -> None:
    """Compare the checksum.

    Raises:
        WireError: it does not match.
    """
    crc = zlib.crc32(payload, zlib.crc32(header_bytes[:16]))
    if crc != header.crc:
        raise WireError("crc-error", f"computed {crc:08x}, frame says {header.crc:08x}")


def encode_json(value: Any) -> bytes:
    """Return compact UTF-8 JSON."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def decode_json(payload: bytes) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        WireError: too long, not JSON, or no object.
    """
    if len(payload) > MAX_JSON_BYTES:
        raise WireError("oversize-message", f"{len(payload)} bytes of JSON")
    try:
        value = json.loads(payload.decode("utf-8"))
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise WireError("garbage", f"payload is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise WireError("garbage", "payload is no JSON object")
    return value


def word_bytes(formats: Any) -> int:
    """Return the bytes of the smallest signed container that holds every word.

    Args:
        formats: (bits, integer_bits, signed) per port.
    """
    bits = max(int(width) + (0 if signed else 1) for width, _, signed in formats)
    return next(size for size in (1, 2, 4, 8) if 8 * size >= bits)
