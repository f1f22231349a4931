"""IPbus 2.0: packets, transactions, and a small client over UDP that survives lost packets.

An IPbus packet is a header word followed by transactions of 32-bit words:

    packet header       version (2) 31-28 | 0 27-24 | packet id 23-8 | 0xF 7-4 | type 3-0
    transaction header  version (2) 31-28 | id 27-16 | words 15-8 | type 7-4 | info code 3-0

UDP loses packets, so a target keeps its last answers: a client that misses one asks for the target's
status, learns whether its request or the answer was lost, and sends the request again or asks for the
answer to be sent again.

Source: "IPbus specification" version 2.0, section 4; behaviour checked against uHAL.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from codesign.errors import DesignError
from codesign.validate.faults import DeviceFault

VERSION = 2
CONTROL, STATUS, RESEND = 0, 1, 2
READ, WRITE, READ_FIXED, WRITE_FIXED, RMW_BITS, RMW_SUM = range(6)

#: Info codes of answers, and of requests.
SUCCESS, BAD_HEADER, READ_ERROR, WRITE_ERROR, REQUEST = 0, 1, 4, 5, 0xF
INFO_CODES = {
    0: "success",
    1: "bad header",
    4: "bus error on read",
    5: "bus error on write",
    6: "bus timeout on read",
    7: "bus timeout on write",
}

#: Words of one transaction: the field has 8 bits.
MAX_TRANSACTION_WORDS = 255
#: Words of one packet: an Ethernet frame of 1500 bytes less IP and UDP headers.
MAX_PACKET_WORDS = 368
STATUS_WORDS = 16


class Transaction(NamedTuple):
    """One request: type, address, and for reads a word count, for writes the data."""

    kind: int
    address: int
    n_words: int
    data: tuple[int, ...] = ()


def packet_header(packet_id: int, kind: int) -> int:
    """Return a packet header word."""
    return VERSION << 28 | (packet_id & 0xFFFF) << 8 | 0xF0 | kind


def transaction_header(transaction_id: int, n_words: int, kind: int, info: int) -> int:
    """Return a transaction header word."""
    return VERSION << 28 | (transaction_id & 0xFFF) << 16 | n_words << 8 | kind << 4 | info


def parse_packet_header(word: int) -> tuple[int, int]:
    """Return (packet id, type).

    Raises:
        ValueError: not version 2, or malformed.
    """
    if word >> 28 != VERSION or word >> 24 & 0xF or word >> 4 & 0xF != 0xF or word & 0xF > RESEND:
        raise ValueError(f"{word:#010x} is no IPbus 2.0 packet header")
    return word >> 8 & 0xFFFF, word & 0xF


def words_from_bytes(data: bytes) -> tuple[list[int], str]:
    """Return the words of a packet and their byte order, told from the header's 0xF nibble.

    Raises:
        ValueError: no whole number of words, or neither order gives a header.
    """
    if not data or len(data) % 4:
        raise ValueError(f"{len(data)} bytes are no whole number of words")
    for order in (">", "<"):
        words = list(struct.unpack(f"{order}{len(data) // 4}I", data))
        try:
            parse_packet_header(words[0])
        except ValueError:
            continue
        return words, order
    raise ValueError("no IPbus 2.0 packet header in either byte order")


def words_to_bytes(words: Sequence[int], order: str) -> bytes:
    """Return the bytes of a packet."""
    return struct.pack(f"{order}{len(words)}I", *words)


def request_words(transaction_id: int, transaction: Transaction) -> list[int]:
    """Return the words of one request."""
    head = transaction_header(transaction_id, transaction.n_words, transaction.kind, REQUEST)
    return [head, transaction.address, *transaction.data]


def answer_size(transaction: Transaction) -> int:
    """Return the words of a successful answer, header included."""
    if transaction.kind in (READ, READ_FIXED):
        return 1 + transaction.n_words
    return 2 if transaction.kind in (RMW_BITS, RMW_SUM) else 1


@dataclass
class UdpClient:
    """A client of one target.

    Attributes:
        host, port: the target.
        timeout_s: wait for one packet before asking what happened.
        attempts: how often to ask before the link counts as dropped.
    """

    host: str
    port: int
    timeout_s: float
    attempts: int = 4

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65535:
            raise DesignError(f"a UDP port lies in 1..65535, got {self.port}; correct the URL")
        self._socket: socket.socket | None = None
        self._packet_id = 1
        self.n_resends = 0

    # ---- connection -----------------------------------------------------------------------------
    def open(self) -> None:
        """Open the socket and learn the packet id that the target expects next.

        Raises:
            DeviceFault: nobody answers, or no IPbus target.
        """
        self.close()
        try:
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._socket.connect((self.host, self.port))
        except OSError as error:
            self.close()
            raise DeviceFault("link-dropped", f"{self.host}:{self.port}: {error}") from error
        for _ in range(self.attempts):
            status = self._status()
            if status is not None:
                self._packet_id = status
                return
        raise DeviceFault("late-answer", f"no status from {self.host}:{self.port}")

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    # ---- transactions ---------------------------------------------------------------------------
    def read(self, address: int, n_words: int = 1) -> list[int]:
        """Read consecutive words."""
        parts = range(0, n_words, MAX_TRANSACTION_WORDS)
        return self._dispatch(
            [
                Transaction(READ, address + start, min(MAX_TRANSACTION_WORDS, n_words - start))
                for start in parts
            ]
        )

    def write(self, address: int, data: Sequence[int]) -> None:
        """Write consecutive words."""
        step = MAX_TRANSACTION_WORDS
        self._dispatch(
            [
                Transaction(
                    WRITE,
                    address + start,
                    len(data[start : start + step]),
                    tuple(data[start : start + step]),
                )
                for start in range(0, len(data), step)
            ]
        )

    def _dispatch(self, transactions: list[Transaction]) -> list[int]:
        """Send transactions in as few packets as fit; return all words read."""
        read: list[int] = []
        batch: list[Transaction] = []
        n_sent = n_back = 1
        for transaction in transactions:
            sent, back = 2 + len(transaction.data), answer_size(transaction)
            if batch and max(n_sent + sent, n_back + back) > MAX_PACKET_WORDS:
                read += self._exchange(batch)
                batch, n_sent, n_back = [], 1, 1
            batch.append(transaction)
            n_sent, n_back = n_sent + sent, n_back + back
        return read + self._exchange(batch) if batch else read

    def _exchange(self, transactions: list[Transaction]) -> list[int]:
        packet_id = self._packet_id
        request = [packet_header(packet_id, CONTROL)]
        for index, transaction in enumerate(transactions):
            request += request_words(index, transaction)
        self._send(request)
        for _ in range(self.attempts):
            answer = self._receive(CONTROL, packet_id)
            if answer is not None:
                self._packet_id = packet_id % 0xFFFF + 1
                return self._parse(answer, transactions)
            expected = self._status()
            if expected is None:
                continue
            self.n_resends += 1
            if expected == packet_id:  # the request was lost
                self._send(request)
            elif expected == packet_id % 0xFFFF + 1:  # the answer was lost
                self._send([packet_header(packet_id, RESEND)])
            else:
                raise DeviceFault(
                    "out-of-order", f"the target expects packet {expected}, not {packet_id}"
                )
        raise DeviceFault("late-answer", f"no answer to packet {packet_id}")

    @staticmethod
    def _parse(words: list[int], transactions: list[Transaction]) -> list[int]:
        read: list[int] = []
        position = 1
        for index, transaction in enumerate(transactions):
            if position >= len(words):
                raise DeviceFault("truncated-frame", f"answer ends at transaction {index}")
            head = words[position]
            info = head & 0xF
            if (
                head >> 28 != VERSION
                or head >> 16 & 0xFFF != index
                or head >> 4 & 0xF != transaction.kind
            ):
                raise DeviceFault("garbage", f"{head:#010x} does not answer transaction {index}")
            if info != SUCCESS:
                raise DeviceFault(
                    "bus-error", f"{INFO_CODES.get(info, info)} at {transaction.address:#010x}"
                )
            size = answer_size(transaction)
            body = words[position + 1 : position + size]
            if len(body) != size - 1 or head >> 8 & 0xFF != transaction.n_words:
                raise DeviceFault("wrong-count", f"transaction {index} has {len(body)} words")
            read += body
            position += size
        if position != len(words):
            raise DeviceFault("wrong-count", f"{len(words) - position} words too many")
        return read

    # ---- packets --------------------------------------------------------------------------------
    def _status(self) -> int | None:
        """Return the packet id that the target expects next, or None when no status came."""
        self._send([packet_header(0, STATUS)] + [0] * (STATUS_WORDS - 1))
        words = self._receive(STATUS, 0)
        if words is None:
            return None
        if len(words) != STATUS_WORDS:
            raise DeviceFault("wrong-count", f"status of {len(words)} words")
        try:
            packet_id, _ = parse_packet_header(words[3])
        except ValueError as error:
            raise DeviceFault("garbage", f"status: {error}") from error
        return packet_id

    def _send(self, words: list[int]) -> None:
        if self._socket is None:
            raise DeviceFault("link-dropped", "not open; load the device first")
        try:
            self._socket.send(words_to_bytes(words, ">"))
        except OSError as error:
            raise DeviceFault("link-dropped", f"while sending: {error}") from error

    def _receive(self, kind: int, packet_id: int) -> list[int] | None:
        """Return the one packet that is waited for, or None; late copies of others are dropped."""
        if self._socket is None:
            raise DeviceFault("link-dropped", "not open; load the device first")
        deadline_s = time.monotonic() + self.timeout_s
        while (left_s := deadline_s - time.monotonic()) > 0:
            self._socket.settimeout(left_s)
            try:
                data = self._socket.recv(65536)
            except TimeoutError:
                return None
            except OSError as error:  # the port is closed: ICMP says so
                raise DeviceFault("link-dropped", f"while receiving: {error}") from error
            try:
                words, order = words_from_bytes(data)
            except ValueError as error:
                raise DeviceFault("garbage", str(error)) from error
            if order != ">":
                raise DeviceFault("endianness-swap", "the answer comes in the other byte order")
            found_id, found_kind = parse_packet_header(words[0])
            if found_kind == kind and (kind == STATUS or found_id == packet_id):
                return words
        return None
