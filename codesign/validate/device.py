"""One protocol for everything that computes a network on raw words: emulators, simulators, boards.

A raw word is the two's-complement integer of one fixed-point port value.  A leaf of `Device` lives in
one file of `codesign.validate.devices` and is opened by URL (`codesign.validate.open_device`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError, DeviceError
from codesign.ir import FixedPoint
from codesign.validate.faults import DeviceFault

SCHEMA = 1

#: What a device's figures may be called: a board measures, everything else emulates.
STAGES = ("emulated", "measured")


@dataclass(frozen=True, kw_only=True)
class DeviceDescription:
    """What a device says it is.

    Attributes:
        kind: transport or evaluator ("tcp", "rtl", ...).
        digest: digest of the firmware, that is of the quantized network it computes.
        input_formats, output_formats: one format per port, in port order.  Only `bits`,
            `integer_bits` and `signed` matter; rounding and overflow are the network's business.
        latency_cycles: clock cycles from input to output where the device knows it, else None.
        clock_period_ns: period of that clock, None when unknown.
        stage: "measured" for real hardware, "emulated" for everything else.
    """

    kind: str
    digest: str
    input_formats: tuple[FixedPoint, ...]
    output_formats: tuple[FixedPoint, ...]
    latency_cycles: int | None
    clock_period_ns: float | None
    stage: str

    def __post_init__(self) -> None:
        if not self.input_formats or not self.output_formats:
            raise DeviceError(
                f"device {self.kind!r} has no inputs or no outputs; describe every port"
            )
        if self.stage not in STAGES:
            raise DeviceError(f"device stage is one of {STAGES}, got {self.stage!r}")

    @property
    def n_inputs(self) -> int:
        """Number of input ports."""
        return len(self.input_formats)

    @property
    def n_outputs(self) -> int:
        """Number of output ports."""
        return len(self.output_formats)

    def to_json(self) -> dict[str, Any]:
        """Return the mapping that crosses every wire."""
        return {
            "schema": SCHEMA,
            "kind": self.kind,
            "digest": self.digest,
            "input_formats": [port_triple(f) for f in self.input_formats],
            "output_formats": [port_triple(f) for f in self.output_formats],
            "latency_cycles": self.latency_cycles,
            "clock_period_ns": self.clock_period_ns,
            "stage": self.stage,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> DeviceDescription:
        """Read what `to_json` wrote.

        Raises:
            DeviceFault: another schema, a missing key or an illegal format ("bad-description").
        """
        try:
            if value["schema"] != SCHEMA:
                raise DeviceFault(
                    "bad-description",
                    f"schema {value['schema']!r}; this version reads schema {SCHEMA}",
                )
            latency, clock = value["latency_cycles"], value["clock_period_ns"]
            return cls(
                kind=str(value["kind"]),
                digest=str(value["digest"]),
                input_formats=_formats(value["input_formats"]),
                output_formats=_formats(value["output_formats"]),
                latency_cycles=None if latency is None else int(latency),
                clock_period_ns=None if clock is None else float(clock),
                stage=str(value["stage"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DeviceFault("bad-description", f"cannot be read: {error!r}") from error


@dataclass(frozen=True, kw_only=True)
class Timing:
    """What was measured of a device's pipeline, in clock cycles.

    Attributes:
        latency_cycles: rising clock edges between the one that samples an event and the one after which
            its result shows.
        interval_cycles: fewest cycles between two events that both come out right.
        events: how many events the measurement rests on.
        how: one sentence saying how it was measured.
    """

    latency_cycles: int
    interval_cycles: int
    events: int
    how: str


def port_triple(fmt: FixedPoint) -> tuple[int, int, bool]:
    """Return (bits, integer_bits, signed): what a port is."""
    return fmt.bits, fmt.integer_bits, fmt.signed


def _formats(triples: Any) -> tuple[FixedPoint, ...]:
    if not isinstance(triples, list) or len(triples) > 65536:
        raise TypeError("formats must be a list of at most 65536 ports")
    return tuple(
        FixedPoint(bits=int(bits), integer_bits=int(integer_bits), signed=bool(signed))
        for bits, integer_bits, signed in triples
    )


def check_words(words: NDArray[np.int64], formats: tuple[FixedPoint, ...]) -> NDArray[np.int64]:
    """Return input words as contiguous int64[n, n_ports] after checking shape and ranges.

    Raises:
        DesignError: wrong shape, or a word outside the format of its port.
    """
    words = np.ascontiguousarray(words, dtype=np.int64)
    if words.ndim != 2 or words.shape[1] != len(formats):
        raise DesignError(f"words have shape {words.shape}; expected (n, {len(formats)})")
    outside = out_of_range(words, formats)
    if outside is not None:
        event, port = outside
        raise DesignError(
            f"word {words[event, port]} of event {event}, input {port} lies outside"
            f" {formats[port].to_hls()}; quantize the inputs to that format"
        )
    return words


def out_of_range(
    words: NDArray[np.int64], formats: tuple[FixedPoint, ...]
) -> tuple[int, int] | None:
    """Return (event, port) of the first word outside its port's format, or None."""
    low = np.array([f.min_word for f in formats], dtype=np.int64)
    high = np.array([f.max_word for f in formats], dtype=np.int64)
    outside = (words < low) | (words > high)
    if not outside.any():
        return None
    event, port = np.argwhere(outside)[0]
    return int(event), int(port)


class Device(ABC):
    """Interface of everything that runs batches of raw words."""

    @abstractmethod
    def describe(self) -> DeviceDescription:
        """Say what the device is.  Available after `load`."""

    @abstractmethod
    def load(self) -> None:
        """Open or reopen the device, bring it into a known state and check who it is.

        Callable again after a fault; that is how a run resumes.

        Raises:
            DeviceFault: the device cannot be reached or is not the expected one.
        """

    @abstractmethod
    def run(self, words: NDArray[np.int64]) -> NDArray[np.int64]:
        """Compute a batch.

        Args:
            words: int64[n, n_inputs] raw words inside the port formats.

        Returns:
            int64[n, n_outputs] raw words.

        Raises:
            DeviceFault: the device misbehaved; the fault has a name.
            DesignError: the words do not fit the ports.
        """

    @abstractmethod
    def counters(self) -> Mapping[str, int]:
        """Read the counters; "events" counts the events computed since `load`."""

    @abstractmethod
    def trace(self, words: NDArray[np.int64]) -> Mapping[str, NDArray[np.int64]] | None:
        """Return the words of every inner node for a batch, or None when nothing inside shows."""

    @abstractmethod
    def measure_timing(self) -> Timing | None:
        """Measure latency and interval in clock cycles, or None when the device shows no clock."""

    @abstractmethod
    def close(self) -> None:
        """Release the device; harmless when it is closed already."""

    def __enter__(self) -> Device:
        self.load()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
