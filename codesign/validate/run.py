"""Compare a device with the reference, event by event, through faults and for as long as asked."""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError
from codesign.files import write_atomically
from codesign.ir import FixedPoint
from codesign.validate.compare import WrongWord, difference, first_differing_node, run_checked
from codesign.validate.faults import PERMANENT, DeviceFault, diagnose
from codesign.validate.implementation import (
    DeviceDescription,
    Form,
    Implementation,
    Timing,
    check_words,
    port_triple,
)

SCHEMA = 1

#: Mismatches and faults that a report lists one by one; all are counted.
N_LISTED = 50

#: Single events sent to measure the round trip, and the time after which fewer must do.
N_ROUND_TRIPS = 64
ROUND_TRIPS_S = 0.5

#: The wait before another attempt doubles so often, then stays.
MAX_DOUBLINGS = 5

VERDICTS = {
    "pass": "every event agrees",
    "pass-after-faults": "every event agrees; faults on the way were overcome",
    "mismatch": "words differ from the reference",
    "failed": "the device could not be brought to finish",
    "refused": "the device is not the one that was expected",
}


@dataclass(frozen=True, kw_only=True)
class FaultSeen:
    """One fault: its name, what was said, at which event, and whether the run went on."""

    name: str
    message: str
    event: int
    recovered: bool


@dataclass(frozen=True, kw_only=True)
class DeviceReport:
    """What a comparison found.

    Attributes:
        verdict: key of `VERDICTS`.
        description: the device, or None when it could not even be loaded.
        timing: latency and interval in cycles where the device shows a clock.
        n_events: events compared.
        n_mismatched_events, n_mismatched_words: how many differ.
        mismatches: the first `N_LISTED` wrong words.
        first_differing_layer: node at which the first wrong event first differs, when both sides trace.
        faults: the first `N_LISTED` faults, in order; wrong results appear by their diagnosis.
        n_faults: all of them.
        events_per_s: throughput in batches, time of the reference excluded.
        round_trip_us: median time of one single event, there and back.
        round_trip_us_p99: 99th percentile of the same.
        wall_s: seconds this run took, earlier interrupted parts included.
        resumed_at_event: event at which an interrupted run was taken up, 0 for a fresh one.
        counters: the device's counters at the end.
    """

    verdict: str
    description: DeviceDescription | None
    timing: Timing | None
    n_events: int
    n_mismatched_events: int
    n_mismatched_words: int
    mismatches: tuple[WrongWord, ...]
    first_differing_layer: str | None
    faults: tuple[FaultSeen, ...]
    n_faults: int
    events_per_s: float | None
    round_trip_us: float | None
    round_trip_us_p99: float | None
    wall_s: float
    resumed_at_event: int
    counters: Mapping[str, int]

    @property
    def passed(self) -> bool:
        """Whether every event was compared and agrees."""
        return self.verdict in ("pass", "pass-after-faults")

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready mapping."""
        value = asdict(self)
        value["schema"] = SCHEMA
        value["description"] = None if self.description is None else self.description.to_json()
        value["meaning"] = VERDICTS[self.verdict]
        return value


@dataclass(frozen=True, kw_only=True)
class EventSource:
    """Reproducible events: given words first, then seeded random ones without end.

    Attributes:
        words: int64[n, n_inputs], possibly with no row.
        formats: one per input port.
        seed: of the random events.
        batch_events: events per block.
        confine: as `Form.confine`, for the random events.
    """

    words: NDArray[np.int64]
    formats: tuple[FixedPoint, ...]
    seed: int
    batch_events: int
    confine: Callable[[NDArray[np.int64]], NDArray[np.int64]] | None = None

    def block(self, index: int) -> NDArray[np.int64]:
        """Return block `index`, int64[batch_events, n_inputs]; the same at every call."""
        start = index * self.batch_events
        given = self.words[start : start + self.batch_events]
        missing = self.batch_events - len(given)
        if missing == 0:
            return given
        low = np.array([f.min_word for f in self.formats])
        high = np.array([f.max_word for f in self.formats])
        random = np.random.default_rng([self.seed, index]).integers(
            low, high, size=(missing, len(self.formats)), endpoint=True
        )
        if self.confine is not None:
            random = self.confine(random)
        return np.ascontiguousarray(np.concatenate([given, random]))

    @property
    def key(self) -> str:
        """Digest of everything that decides which events come."""
        head = [self.seed, self.batch_events, [port_triple(f) for f in self.formats]]
        text = json.dumps(head).encode()
        return hashlib.sha256(text + np.ascontiguousarray(self.words).tobytes()).hexdigest()[:16]


@dataclass
class _Progress:
    """What a run knows so far; also what a checkpoint holds."""

    n_events: int = 0
    n_mismatched_events: int = 0
    n_mismatched_words: int = 0
    n_faults: int = 0
    device_s: float = 0.0
    wall_s: float = 0.0
    first_differing_layer: str | None = None
    mismatches: list[WrongWord] = field(default_factory=list)
    faults: list[FaultSeen] = field(default_factory=list)

    def add_fault(self, fault: DeviceFault, *, recovered: bool) -> None:
        self.n_faults += 1
        if len(self.faults) < N_LISTED:
            self.faults.append(
                FaultSeen(
                    name=fault.name, message=str(fault), event=self.n_events, recovered=recovered
                )
            )


class _Checkpoint:
    """Progress on disk; a run of other events, another device or network never resumes from it."""

    def __init__(self, path: Path | None, key: str) -> None:
        self._path = path
        self._key = key

    def read(self) -> _Progress:
        if self._path is None or not self._path.exists():
            return _Progress()
        try:
            value = json.loads(self._path.read_text(encoding="utf-8"))
            if value["schema"] != SCHEMA or value["key"] != self._key:
                raise DesignError(
                    f"{self._path} belongs to another comparison; delete it or name another file"
                )
            state = value["progress"]
            state["mismatches"] = [WrongWord(**m) for m in state["mismatches"]]
            state["faults"] = [FaultSeen(**f) for f in state["faults"]]
            return _Progress(**state)
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, DesignError):
                raise
            raise DesignError(
                f"{self._path} is damaged ({error}); delete it to start over"
            ) from error

    def write(self, progress: _Progress) -> None:
        if self._path is not None:
            value = {"schema": SCHEMA, "key": self._key, "progress": asdict(progress)}
            write_atomically(self._path, json.dumps(value, allow_nan=False))

    def remove(self) -> None:
        if self._path is not None:
            self._path.unlink(missing_ok=True)


class _GaveUp(Exception):
    """Recovery failed; carries the verdict."""

    def __init__(self, verdict: str) -> None:
        super().__init__(verdict)
        self.verdict = verdict


def validate_device(
    device: Implementation,
    reference: Form,
    words: NDArray[np.int64],
    *,
    n_events: int,
    soak_s: float = 0.0,
    batch_events: int = 4096,
    seed: int = 0,
    checkpoint: Path | None = None,
    checkpoint_every_s: float = 2.0,
    max_retries: int = 3,
    retry_wait_s: float = 0.1,
    max_mismatched_events: int = 10_000,
    progress: Callable[[int], None] | None = None,
) -> DeviceReport:
    """Run events through a device and compare every word with the reference.

    Link faults are overcome by loading the device again and repeating the batch, at most
    `max_retries` times in a row; a wrong firmware or wrong ports end the run at once.  No event counts
    as compared unless its result was.

    Args:
        device: closed or loaded; it is loaded, and closed at the end.
        reference: the truth, as `codesign.validate.forms.reference_form` makes it.
        words: int64[n, n_inputs] events that come first (the test set); may be empty.
        n_events: events to compare; random in-range ones follow `words`.
        soak_s: go on with random events until this much time has passed.
        batch_events: events per batch.
        seed: of the random events.
        checkpoint: file from which an interrupted run resumes; removed when the run ends.
        checkpoint_every_s: how often it is written.
        max_retries: consecutive attempts to get over a fault.
        retry_wait_s: wait before the first attempt; doubles with each, up to 32-fold.
        max_mismatched_events: stop when so many events are wrong.
        progress: called with the number of events compared so far.

    Raises:
        DesignError: the words do not fit the reference, an argument is out of range, or the
            checkpoint belongs to another comparison.
    """
    if n_events < 1 or batch_events < 1 or max_retries < 0:
        raise DesignError(
            f"cannot compare {n_events} events in batches of {batch_events} with {max_retries} retries;"
            " give positive numbers"
        )
    source = EventSource(
        words=check_words(words, reference.description.input_formats),
        formats=reference.description.input_formats,
        seed=seed,
        batch_events=batch_events,
        confine=reference.confine,
    )
    saved = _Checkpoint(checkpoint, f"{reference.description.digest}-{source.key}")
    state = saved.read()
    run = _Run(
        device=device,
        reference=reference,
        state=state,
        max_retries=max_retries,
        retry_wait_s=retry_wait_s,
    )
    resumed_at, started_s = state.n_events, time.monotonic() - state.wall_s
    verdict, round_trips, timing, is_done = None, None, None, False
    counters: Mapping[str, int] = {}
    try:
        run.load()
        written_s = time.monotonic()
        while state.n_events < n_events or time.monotonic() - started_s < soak_s:
            index, offset = divmod(state.n_events, batch_events)
            block = source.block(index)[offset:]
            if soak_s == 0.0:
                block = block[: n_events - state.n_events]
            run.compare(block)
            state.wall_s = time.monotonic() - started_s
            if progress is not None:
                progress(state.n_events)
            if time.monotonic() - written_s > checkpoint_every_s:
                saved.write(state)
                written_s = time.monotonic()
            if state.n_mismatched_events >= max_mismatched_events:
                break
        round_trips = run.round_trips_us(source.block(0)[:1])
        timing = run.attempt(device.measure_timing)
        counters = run.attempt(device.counters)
        is_done = True
    except _GaveUp as error:
        verdict = error.verdict
    finally:  # Ctrl-C, too, leaves a checkpoint
        if is_done:
            saved.remove()
        else:
            saved.write(state)
        device.close()
    if verdict is None:
        verdict = "pass-after-faults" if state.n_faults else "pass"
    if state.n_mismatched_events and verdict != "refused":
        verdict = "mismatch"
    return DeviceReport(
        verdict=verdict,
        description=run.description,
        timing=timing,
        n_events=state.n_events,
        n_mismatched_events=state.n_mismatched_events,
        n_mismatched_words=state.n_mismatched_words,
        mismatches=tuple(state.mismatches),
        first_differing_layer=state.first_differing_layer,
        faults=tuple(state.faults),
        n_faults=state.n_faults,
        events_per_s=state.n_events / state.device_s if state.device_s > 0 else None,
        round_trip_us=None if round_trips is None else float(np.median(round_trips)),
        round_trip_us_p99=None if round_trips is None else float(np.quantile(round_trips, 0.99)),
        wall_s=time.monotonic() - started_s,
        resumed_at_event=resumed_at,
        counters=counters,
    )


class _Run:
    """The state of one comparison."""

    def __init__(
        self,
        *,
        device: Implementation,
        reference: Form,
        state: _Progress,
        max_retries: int,
        retry_wait_s: float,
    ) -> None:
        self._device = device
        self._reference = reference
        self._state = state
        self._max_retries = max_retries
        self._retry_wait_s = retry_wait_s
        self._previous: NDArray[np.int64] | None = None
        self.description: DeviceDescription | None = None

    def load(self) -> None:
        """Load the device, however often it takes, and check that it is the right one."""
        self._with_retries(self._load_once, reload=False)

    def _load_once(self) -> None:
        self._device.load()
        described = self._device.describe()
        self.description = described
        reference = self._reference.description
        for way, expected, found in (
            ("input", reference.input_formats, described.input_formats),
            ("output", reference.output_formats, described.output_formats),
        ):
            if [port_triple(f) for f in expected] != [port_triple(f) for f in found]:
                raise DeviceFault(
                    "wrong-width",
                    f"expected {len(expected)} {way}s of {expected[0].to_hls()}, found {len(found)} of"
                    f" {found[0].to_hls()}",
                )
        described.require_digest(reference.digest)

    def attempt(self, action: Callable[[], Any]) -> Any:
        """Do one thing with the device, getting over faults."""
        return self._with_retries(action, reload=True)

    def _with_retries(self, action: Callable[[], Any], *, reload: bool) -> Any:
        failures = 0
        must_load = False
        while True:
            try:
                if must_load:
                    self._load_once()
                return action()
            except DeviceFault as fault:
                failures += 1
                permanent = fault.name in PERMANENT
                gives_up = permanent or failures > self._max_retries
                self._state.add_fault(fault, recovered=not gives_up)
                if gives_up:
                    raise _GaveUp("refused" if permanent else "failed") from fault
                must_load = reload
                time.sleep(self._retry_wait_s * 2 ** min(failures - 1, MAX_DOUBLINGS))

    def compare(self, words: NDArray[np.int64]) -> None:
        """Run one batch and note every word that differs."""
        state = self._state
        start_s = time.perf_counter()
        got = self.attempt(lambda: self._run_checked(words))
        state.device_s += time.perf_counter() - start_s
        expected = self._reference.run(words)
        wrong = difference(expected, got)
        if wrong is not None:
            name = diagnose(expected, got, self._previous)
            again = self.attempt(lambda: self._run_checked(words))
            kept = "the same when repeated" if (again == got).all() else "other words when repeated"
            events = wrong.events
            state.add_fault(
                DeviceFault(name, f"{len(events)} of {len(words)} events differ, {kept}"),
                recovered=True,
            )
            if state.n_mismatched_events == 0:
                state.first_differing_layer = self._first_differing_layer(words[events[:1]])
            for word in itertools.islice(wrong.words(), max(0, N_LISTED - len(state.mismatches))):
                state.mismatches.append(replace(word, event=state.n_events + word.event))
            state.n_mismatched_events += len(events)
            state.n_mismatched_words += wrong.n_words
        self._previous = got
        state.n_events += len(words)

    def _run_checked(self, words: NDArray[np.int64]) -> NDArray[np.int64]:
        return run_checked(self._device, words, self._reference.description.output_formats)

    def _first_differing_layer(self, words: NDArray[np.int64]) -> str | None:
        """Return the first node whose words differ for one event, when both sides show them."""
        if self._reference.trace is None:
            return None
        got = self.attempt(lambda: self._device.trace(words))
        return first_differing_node(self._reference.trace(words), got)

    def round_trips_us(self, words: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the times of up to `N_ROUND_TRIPS` single events, float64[n], in microseconds."""
        times: list[float] = []
        while len(times) < N_ROUND_TRIPS and sum(times) < 1e6 * ROUND_TRIPS_S:
            start_s = time.perf_counter()
            self.attempt(lambda: self._device.run(words))
            times.append(1e6 * (time.perf_counter() - start_s))
        return np.array(times)
