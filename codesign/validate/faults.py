"""What can go wrong between us and a device, by name, and how wrong answers are told apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DeviceError

#: Every fault that is detected, and what it means.  The names are a file format: only append.
FAULTS = {
    "link-dropped": "the link was closed or refused",
    "late-answer": "no complete answer came in time",
    "garbage": "what came is no frame of this protocol",
    "truncated-frame": "a frame ended early",
    "crc-error": "a frame's checksum is wrong",
    "endianness-swap": "bytes come in the wrong order",
    "protocol-version": "the device speaks another version of the protocol",
    "duplicate-sequence": "an answer came twice",
    "out-of-order": "an answer came that belongs to another request",
    "oversize-message": "a message is larger than the agreed limit",
    "wrong-kind": "an answer is of another kind than what was asked",
    "wrong-count": "an answer holds another number of events or words than were sent",
    "wrong-width": "the ports have other counts or formats than expected",
    "word-out-of-range": "a word does not fit the format of its port",
    "wrong-firmware": "the firmware's digest is not the expected one",
    "reset": "the device restarted in mid-run",
    "stuck-counter": "the event counter did not advance by the events sent",
    "stale-results": "the answer repeats that of the batch before",
    "bad-description": "the device's description of itself is unusable",
    "refused": "the device refused a request",
    "bus-error": "the device's bus reported an error",
    "wrong-latency": "results appear at another clock cycle than the firmware states",
    "bit-flip": "single bits of the results are flipped",
    "stuck-output": "the results do not depend on the inputs",
    "shifted-events": "the results are right but belong to neighbouring events",
    "wrong-values": "the results differ from the reference",
}

#: Faults after which trying again cannot help.
PERMANENT = frozenset(
    {"protocol-version", "wrong-width", "wrong-firmware", "bad-description", "wrong-latency"}
)


class DeviceFault(DeviceError):
    """A named misbehaviour of a device.

    Attributes:
        name: key of `FAULTS`.
    """

    def __init__(self, name: str, detail: str) -> None:
        if name not in FAULTS:
            raise AssertionError(f"fault {name!r} has no entry in FAULTS")
        self.name = name
        super().__init__(f"{name}: {FAULTS[name]} ({detail})")


def diagnose(
    expected: NDArray[np.int64],
    got: NDArray[np.int64],
    previous_got: NDArray[np.int64] | None,
) -> str:
    """Name what makes the results of one batch wrong.

    Args:
        expected: int64[n, n_outputs], the reference; differs from `got` somewhere.
        got: int64[n, n_outputs], what the device answered.
        previous_got: the device's answer to the batch before, or None.

    Returns:
        The name of a fault: the most specific pattern that explains *every* differing word.
    """
    wrong = expected != got
    if previous_got is not None and previous_got.shape == got.shape and (got == previous_got).all():
        return "stale-results"
    for word_type in (np.uint16, np.uint32, np.uint64):
        if _is_byte_swapped(expected, got, word_type):
            return "endianness-swap"
    if len(got) > 2 and (got == got[0]).all() and not (expected == expected[0]).all():
        return "stuck-output"
    for shift in (1, -1, 2, -2):
        if len(got) > 8 and _is_shifted(expected, got, shift):
            return "shifted-events"
    difference = (expected ^ got)[wrong].astype(np.uint64)
    if (difference & (difference - np.uint64(1)) == 0).all() and len(difference) <= max(
        1, wrong.size // 8
    ):
        return "bit-flip"
    return "wrong-values"


def _is_byte_swapped(expected: NDArray[np.int64], got: NDArray[np.int64], word_type: type) -> bool:
    """Whether `got` is `expected` with the bytes of every word reversed in a container."""
    swapped: NDArray[np.integer] = expected.astype(word_type).byteswap()
    return bool((swapped == got.astype(word_type)).all())


def _is_shifted(expected: NDArray[np.int64], got: NDArray[np.int64], shift: int) -> bool:
    """Whether got[i] is expected[i - shift] wherever both exist, for results that vary."""
    a, b = (got[shift:], expected[:-shift]) if shift > 0 else (got[:shift], expected[-shift:])
    return bool((a == b).all()) and not (expected == expected[0]).all()
