"""The register map of a network behind IPbus: identity, port formats, control, buffers.

One place for addresses; the client, the twin and the address table for uHAL all read them here.
"""

from __future__ import annotations

from typing import NamedTuple
from xml.sax.saxutils import quoteattr

MAGIC = 0x43444857  # "CDHW"
MAP_VERSION = 1

#: Value of `latency_cycles` when the firmware does not know it.
UNKNOWN = 0xFFFFFFFF


class Register(NamedTuple):
    """Address, number of words, and who may write."""

    address: int
    n_words: int
    permission: str
    description: str


REGISTERS = {
    "magic": Register(0x00, 1, "r", "0x43444857"),
    "map_version": Register(0x01, 1, "r", "version of this map"),
    "digest": Register(0x02, 2, "r", "digest of the network, high word first"),
    "n_inputs": Register(0x04, 1, "r", "input ports"),
    "n_outputs": Register(0x05, 1, "r", "output ports"),
    "latency_cycles": Register(0x06, 1, "r", "latency, 0xffffffff when unknown"),
    "clock_period_ps": Register(0x07, 1, "r", "clock period, 0 when unknown"),
    "boot_id": Register(0x08, 1, "r", "changes with every reset"),
    "max_events": Register(0x09, 1, "r", "events that the buffers hold"),
    "is_hardware": Register(0x0A, 1, "r", "1 on a board, 0 on an emulator"),
    "control": Register(0x10, 1, "rw", "bit 0 starts a run, bit 1 resets"),
    "status": Register(0x11, 1, "r", "bit 0 done, bit 1 error"),
    "n_events": Register(0x12, 1, "rw", "events of the next run"),
    "events_done": Register(0x13, 1, "r", "events computed since the reset"),
    "input_formats": Register(
        0x1000, 0x1000, "r", "bits | integer bits << 8 | signed << 16, per port"
    ),
    "output_formats": Register(0x2000, 0x1000, "r", "the same for the outputs"),
    "input_buffer": Register(0x0100_0000, 0x0100_0000, "rw", "words, event by event"),
    "output_buffer": Register(0x0200_0000, 0x0100_0000, "r", "words, event by event"),
}

START, RESET = 1, 2
DONE, ERROR = 1, 2


def format_word(bits: int, integer_bits: int, signed: bool) -> int:
    """Return a port format as one register word."""
    return bits | (integer_bits & 0xFF) << 8 | int(signed) << 16


def format_triple(word: int) -> tuple[int, int, bool]:
    """Read what `format_word` wrote."""
    integer_bits = word >> 8 & 0xFF
    return (
        word & 0xFF,
        integer_bits - 256 if integer_bits > 127 else integer_bits,
        bool(word >> 16 & 1),
    )


def words_per_value(bits: int) -> int:
    """Return how many 32-bit words carry one port value of `bits` bits, low word first."""
    return 1 if bits <= 32 else 2


def address_table() -> str:
    """Return the address table that uHAL reads, as XML."""
    lines = ['<node id="codesign">']
    for name, register in REGISTERS.items():
        mode = f' mode="incremental" size="{register.n_words:#x}"' if register.n_words > 1 else ""
        lines.append(
            f'  <node id="{name}" address="{register.address:#010x}" permission="{register.permission}"'
            f"{mode} description={quoteattr(register.description)}/>"
        )
    return "\n".join([*lines, "</node>"]) + "\n"
