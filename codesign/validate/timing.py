"""Measuring a pipeline cycle by cycle, knowing nothing about it but its ports.

Results are found by what they are, not by when they should come: first each event is held until the
output settles, then the same events go through one after another and we look for the one delay at
which all settled results appear, with meaningless words on the inputs wherever no event is.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from codesign.ir import FixedPoint
from codesign.validate.faults import DeviceFault
from codesign.validate.implementation import Timing

#: One row per clock edge in, what the output port shows after each edge out.
Clock = Callable[[NDArray[np.int64]], NDArray[np.int64]]

#: Longest pipeline that is measured.
LIMIT_CYCLES = 2048

#: Events of each measurement.
N_EVENTS = 96


def stream(
    words: NDArray[np.int64],
    gaps: NDArray[np.int64],
    idle: Callable[[int], NDArray[np.int64]],
    n_flush: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Lay events out over clock cycles.

    Args:
        words: int64[n, n_inputs] events.
        gaps: int64[n], idle cycles after each event.
        idle: gives n rows of words for cycles in which there is no event.
        n_flush: idle cycles at the end.

    Returns:
        int64[n_cycles, n_inputs] input of every cycle, and int64[n] the cycle of each event.
    """
    ends = np.cumsum(gaps + 1)
    cycles = ends - gaps - 1
    inputs = idle(int(ends[-1]) + n_flush) if len(words) else idle(n_flush)
    inputs[cycles] = words
    return inputs, cycles


def random_idle(
    formats: tuple[FixedPoint, ...], rng: np.random.Generator
) -> Callable[[int], NDArray[np.int64]]:
    """Return a source of meaningless in-range words."""
    low = np.array([f.min_word for f in formats])
    high = np.array([f.max_word for f in formats])

    def idle(n_cycles: int) -> NDArray[np.int64]:
        return rng.integers(low, high, size=(n_cycles, len(formats)), endpoint=True)

    return idle


def telling_events(words: NDArray[np.int64], answers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Choose events whose answers differ from one to the next, rare answers among them.

    A network of one output bit answers almost all random words alike.

    Args:
        words: int64[n, n_inputs].
        answers: int64[n, n_outputs], to them.

    Returns:
        int64[m, n_inputs], m at most N_EVENTS.
    """
    _, kind = np.unique(answers, axis=0, return_inverse=True)
    kind = kind.ravel()
    order = np.argsort(kind, kind="stable")
    starts = np.searchsorted(kind[order], kind[order])
    turn = np.empty_like(order)
    turn[order] = np.arange(len(order)) - starts  # the how manieth of its kind
    return np.asarray(words[np.lexsort((kind, turn))][:N_EVENTS])


def measure_timing(
    clock: Clock,
    formats: tuple[FixedPoint, ...],
    *,
    seed: int = 0,
    events: NDArray[np.int64] | None = None,
) -> Timing:
    """Measure latency and interval of a pipeline.

    Args:
        clock: drives the pipeline.
        formats: of its inputs.
        seed: of the events.
        events: int64[n, n_inputs], to measure with; by default random words.

    Raises:
        DeviceFault: "stuck-output" when the output depends so little on the input that its delay cannot
            be told, "wrong-latency" when there is no delay at which all results appear, or they do not
            with random gaps.
    """
    rng = np.random.default_rng(seed)
    idle = random_idle(formats, rng)
    events = idle(N_EVENTS) if events is None else events
    n_settle = _settling_cycles(clock, events)
    held = clock(np.repeat(events, n_settle, axis=0))
    settled = held[n_settle - 1 :: n_settle]
    for interval in range(1, n_settle + 1):
        gaps = np.full(len(events), interval - 1)
        delays = _delays(clock, events, settled, gaps, idle, n_settle)
        if delays:
            break
    else:
        raise DeviceFault("wrong-latency", f"no delay up to {n_settle} cycles explains the results")
    random_gaps = interval - 1 + rng.integers(0, 8, size=len(events))
    common = delays & _delays(clock, events, settled, random_gaps, idle, n_settle)
    if not common:
        raise DeviceFault("wrong-latency", "with random gaps results appear at another delay")
    if len(common) > 1:
        raise DeviceFault("stuck-output", f"results appear after any of {sorted(common)} cycles")
    return Timing(
        latency_cycles=common.pop(),
        interval_cycles=interval,
        events=2 * len(events),
        how=(
            f"{len(events)} settled results found again, back to back every {interval} cycle(s) and with"
            " random gaps of up to 7 idle cycles carrying random words"
        ),
    )


def measure_told_timing(
    clock: Callable[[NDArray[np.int64], NDArray[np.bool_]], NDArray[np.int64]],
    formats: tuple[FixedPoint, ...],
    latency_cycles: int,
    *,
    seed: int = 0,
    events: NDArray[np.int64] | None = None,
) -> Timing:
    """Measure the interval of a design that is told when an event starts.

    Between its answers such a design shows what it has so far, so the latency is not found but stated; that the
    words there are those of the network says a comparison.

    Args:
        clock: drives the design, with words and whether an event starts with them.
        formats: of its inputs.
        latency_cycles: cycles from an event to its answer.
        seed, events: as in `measure_timing`.

    Raises:
        DeviceFault: "stuck-output" when all answers are alike, "wrong-latency" when those of events far
            apart do not come again however the events follow.
    """
    rng = np.random.default_rng(seed)
    idle = random_idle(formats, rng)
    events = idle(N_EVENTS) if events is None else events
    n = len(events)

    def answers(gaps: NDArray[np.int64]) -> NDArray[np.int64]:
        inputs, cycles = stream(events, gaps, idle, latency_cycles)
        starts = np.zeros(len(inputs), dtype=bool)
        starts[cycles] = True
        return clock(inputs, starts)[cycles + latency_cycles]

    apart = answers(np.full(n, 2 * latency_cycles))
    if (apart == apart[0]).all():
        raise DeviceFault("stuck-output", f"{n} events give the same result")
    for interval in range(1, 2 * latency_cycles):
        gaps = interval - 1 + rng.integers(0, 8, size=n)
        if all(np.array_equal(answers(g), apart) for g in (np.full(n, interval - 1), gaps)):
            return Timing(
                latency_cycles=latency_cycles,
                interval_cycles=interval,
                events=3 * n,
                how=(
                    f"{n} answers at the delay stated, of events far apart, every {interval} cycle(s), and"
                    " with random gaps of up to 7 more, random words in all other cycles"
                ),
            )
    raise DeviceFault("wrong-latency", "no interval brings the answers of events far apart")


def _settling_cycles(clock: Clock, events: NDArray[np.int64]) -> int:
    """Return a number of cycles after which the output no longer changes, with a margin."""
    before = clock(np.repeat(events[:1], LIMIT_CYCLES, axis=0))[-1]
    last = 0
    for event in events[1:9]:
        shown = clock(np.repeat(event[None], LIMIT_CYCLES, axis=0))
        changing = np.flatnonzero((shown != shown[-1]).any(axis=1))
        if changing.size:
            last = max(last, int(changing[-1]) + 1)
        elif (shown[-1] != before).any():
            last = max(last, 1)  # settled within the sampling edge
        before = shown[-1]
    if last == 0:
        raise DeviceFault("stuck-output", "eight different events, held, give the same result")
    if last > LIMIT_CYCLES // 2:
        raise DeviceFault("wrong-latency", f"the output still changes after {last} cycles")
    return 2 * last + 2


def _delays(
    clock: Clock,
    events: NDArray[np.int64],
    settled: NDArray[np.int64],
    gaps: NDArray[np.int64],
    idle: Callable[[int], NDArray[np.int64]],
    n_settle: int,
) -> set[int]:
    """Return every delay at which all settled results appear when the events are streamed."""
    inputs, cycles = stream(events, gaps, idle, n_settle)
    shown = clock(inputs)
    return {delay for delay in range(n_settle) if np.array_equal(shown[cycles + delay], settled)}
