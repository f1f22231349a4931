"""One protocol for everything that computes a network on raw words: evaluators, simulators, boards.

A raw word is the two's-complement integer of one fixed-point port value.  The certificate compares
implementations that it makes from an export (`codesign.validate.forms`); a device under test is an
implementation that a URL names (`codesign.validate.devices`, `open_device`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError, DeviceError, ExportError
from codesign.ir import FixedPoint, QuantizedNetwork
from codesign.layers import typed
from codesign.validate.faults import DeviceFault

SCHEMA = 1

Words = NDArray[np.int64]

#: What a device's figures may be called: a board measures, everything else emulates.
STAGES = ("emulated", "measured")


@dataclass(frozen=True, kw_only=True)
class DeviceDescription:
    """What an implementation says it is.

    Attributes:
        kind: evaluator or transport ("torch", "onnx", "csim-vitis", "emulator", "rtl", "tcp", ...).
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

    @classmethod
    def of(
        cls, network: QuantizedNetwork, kind: str, *, stage: str = "emulated"
    ) -> DeviceDescription:
        """Describe an implementation of `network` that knows no clock."""
        sites = typed(network)
        return cls(
            kind=kind,
            digest=network.digest,
            input_formats=(network.input_format,) * sites.input.size,
            output_formats=(network.output_format,) * sites.output.size,
            latency_cycles=None,
            clock_period_ns=None,
            stage=stage,
        )

    def require_digest(self, expected: str | None) -> None:
        """Insist on a network; None takes any.

        Raises:
            DeviceFault: it is another one ("wrong-firmware").
        """
        if expected and self.digest != expected:
            raise DeviceFault("wrong-firmware", f"expected {expected}, found {self.digest}")

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


def check_words(words: Words, formats: tuple[FixedPoint, ...]) -> Words:
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


class Implementation(ABC):
    """Interface of everything that runs batches of raw words."""

    @abstractmethod
    def describe(self) -> DeviceDescription:
        """Say what it is.  Available after `load`."""

    @abstractmethod
    def load(self) -> None:
        """Open or reopen it, bring it into a known state and check who it is.

        Callable again after a fault; that is how a run resumes.

        Raises:
            DeviceFault: it cannot be reached or is not the expected one.
            ToolError: a tool that it needs is missing or failed.
        """

    @abstractmethod
    def run(self, words: Words) -> Words:
        """Compute a batch.

        Args:
            words: int64[n, n_inputs] raw words inside the port formats.

        Returns:
            int64[n, n_outputs] raw words.

        Raises:
            DeviceFault: it misbehaved; the fault has a name.
            DesignError: the words do not fit the ports.
        """

    @abstractmethod
    def counters(self) -> Mapping[str, int]:
        """Read the counters; "events" counts the events computed since `load`."""

    @abstractmethod
    def trace(self, words: Words) -> Mapping[str, Words] | None:
        """Return the words of every inner node for a batch, or None when nothing inside shows."""

    @abstractmethod
    def measure_timing(self) -> Timing | None:
        """Measure latency and interval in clock cycles, or None when it shows no clock."""

    @abstractmethod
    def close(self) -> None:
        """Release it; harmless when it is closed already."""

    def __enter__(self) -> Implementation:
        self.load()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


@dataclass(frozen=True, kw_only=True)
class Form:
    """A form of a network, opened in this process.

    Attributes:
        description: what it is.
        run: int64[n, n_inputs] words in, int64[n, n_outputs] words out.
        trace: the words of every node it can show, in topological order; None when nothing inside shows.
        timing: measures a clocked form; None for one that is not.
        counters: counts of its own.
        close: ends it.
        confine: rounds words of the input ports to what the elements behind them hold, where that is less
            than the ports carry; None where it is all.
    """

    description: DeviceDescription
    run: Callable[[Words], Words]
    trace: Callable[[Words], Mapping[str, Words]] | None = None
    timing: Callable[[], Timing] | None = None
    counters: Callable[[], Mapping[str, int]] = field(default=dict)
    close: Callable[[], None] = lambda: None
    confine: Callable[[Words], Words] | None = None


class InProcess(Implementation):
    """A form that runs in this process: its words are checked, its events counted, its digest verified.

    Args:
        open: makes the form ready; called by `load`.
        expected_digest: of the network; None takes any.
    """

    def __init__(self, open: Callable[[], Form], *, expected_digest: str | None) -> None:
        self._open = open
        self._expected_digest = expected_digest
        self._form: Form | None = None
        self._n_events = 0

    def _loaded(self) -> Form:
        if self._form is None:
            raise DeviceFault("link-dropped", "not loaded; load the device first")
        return self._form

    def describe(self) -> DeviceDescription:
        return self._loaded().description

    def load(self) -> None:
        self.close()
        form = self._open()
        try:
            form.description.require_digest(self._expected_digest)
        except DeviceFault:
            form.close()
            raise
        self._form, self._n_events = form, 0

    def run(self, words: Words) -> Words:
        form = self._loaded()
        words = check_words(words, form.description.input_formats)
        try:
            out = form.run(words)
        except ExportError as error:  # values off the output grid
            raise DeviceFault("wrong-values", str(error)) from error
        self._n_events += len(words)
        return out

    def counters(self) -> Mapping[str, int]:
        return {"events": self._n_events, **self._loaded().counters()}

    def trace(self, words: Words) -> Mapping[str, Words] | None:
        form = self._loaded()
        if form.trace is None:
            return None
        return form.trace(check_words(words, form.description.input_formats))

    def measure_timing(self) -> Timing | None:
        form = self._loaded()
        return None if form.timing is None else form.timing()

    def close(self) -> None:
        if self._form is not None:
            self._form.close()
        self._form = None
