"""Comparing words: what certificate and device runs share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.ir import FixedPoint
from codesign.validate.faults import DeviceFault
from codesign.validate.implementation import Implementation, Words, out_of_range


@dataclass(frozen=True, kw_only=True)
class WrongWord:
    """One wrong word: event and output count from 0."""

    event: int
    output: int
    expected: int
    got: int


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Two batches of words that are not equal.

    Attributes:
        expected, got: int64[n, n_outputs].
    """

    expected: Words
    got: Words

    @property
    def events(self) -> NDArray[np.int64]:
        """Indices of the events that differ, ascending."""
        return np.flatnonzero((self.expected != self.got).any(axis=1))

    @property
    def n_words(self) -> int:
        """How many words differ."""
        return int((self.expected != self.got).sum())

    def words(self) -> Iterator[WrongWord]:
        """Yield every wrong word, in order of events."""
        for event, output in np.argwhere(self.expected != self.got):
            yield WrongWord(
                event=int(event),
                output=int(output),
                expected=int(self.expected[event, output]),
                got=int(self.got[event, output]),
            )


def difference(expected: Words, got: Words) -> Difference | None:
    """Return how two batches of one shape differ, or None when they are equal."""
    return None if np.array_equal(expected, got) else Difference(expected=expected, got=got)


def run_checked(
    implementation: Implementation, words: Words, formats: tuple[FixedPoint, ...]
) -> Words:
    """Run a batch and check that the answer has its shape and lies inside the output formats.

    Raises:
        DeviceFault: "wrong-count" or "word-out-of-range", or one of the implementation's own.
    """
    got = implementation.run(words)
    if got.shape != (len(words), len(formats)):
        raise DeviceFault("wrong-count", f"results of shape {got.shape} for {len(words)} events")
    outside = out_of_range(got, formats)
    if outside is not None:
        event, port = outside
        raise DeviceFault("word-out-of-range", f"event {event}, output {port}: {got[outside]}")
    return got


def first_differing_node(
    expected: Mapping[str, Words], got: Mapping[str, Words] | None
) -> str | None:
    """Return the first node, in the order of `expected`, whose words differ, where `got` shows it."""
    shown = (name for name in expected if got is not None and name in got)
    return next(
        (name for name in shown if got and not np.array_equal(expected[name], got[name])), None
    )
