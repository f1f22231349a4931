"""Latency and interval are measured from the results alone; random words fill every idle cycle."""

import numpy as np
import pytest

from codesign.ir import FixedPoint
from codesign.validate.faults import DeviceFault
from codesign.validate.timing import measure_timing, random_idle, stream, telling_events

FORMATS = (FixedPoint(bits=6, integer_bits=3),) * 3


class Pipeline:
    """Results leave `latency` edges after the sampling edge; takes one event every `interval` edges.

    Args:
        drops_after_gap: loses its state when an event follows an idle cycle (a bug).
    """

    def __init__(self, latency, interval=1, *, is_stuck=False):
        self.latency, self.interval, self.is_stuck = latency, interval, is_stuck
        self.line = [np.zeros(2, dtype=np.int64)] * latency
        self.busy = 0
        self.held = np.zeros(2, dtype=np.int64)

    def clock(self, words):
        shown = []
        for row in words:
            result = np.array([row[0] * row[1] - row[2], row.sum()]) * (not self.is_stuck)
            self.line.append(result)
            shown.append(self.line.pop(0))
        return np.array(shown)


class Sequential(Pipeline):
    """Accepts an event only when it has finished the one before; the input is sampled then."""

    def clock(self, words):
        shown = []
        for row in words:
            if self.busy == 0:
                self.pending = np.array([row[0] * row[1] - row[2], row.sum()])
                self.busy = self.interval
            self.busy -= 1
            if self.busy == 0:
                self.held = self.pending
            shown.append(self.held)
        return np.array(shown)


@pytest.mark.parametrize("latency", [0, 1, 2, 7, 40])
def test_a_pipeline_of_any_depth_is_measured(latency):
    timing = measure_timing(Pipeline(latency).clock, FORMATS)
    assert timing.latency_cycles == latency
    assert timing.interval_cycles == 1


def test_a_stuck_output_is_named():
    with pytest.raises(DeviceFault, match="stuck-output"):
        measure_timing(Pipeline(3, is_stuck=True).clock, FORMATS)


class Trigger(Pipeline):
    """One bit, which random words never set: the sum of all inputs must be as large as it gets."""

    def answer(self, words):
        return (words.sum(axis=1) >= 3 * 31 - 4).astype(np.int64)[:, None]

    def clock(self, words):
        shown = []
        for bit in self.answer(words):
            self.line.append(bit)
            shown.append(self.line.pop(0)[:1])
        return np.array(shown)


def test_a_bit_that_random_words_never_set_is_measured_with_events_that_do():
    rng = np.random.default_rng(0)
    words = random_idle(FORMATS, rng)(1000)
    words[::100] = 31
    trigger = Trigger(5)
    with pytest.raises(DeviceFault, match="stuck-output"):
        measure_timing(trigger.clock, FORMATS)
    events = telling_events(words, trigger.answer(words))
    assert trigger.answer(events[:8]).ravel().tolist() == [0, 1] * 4
    timing = measure_timing(Trigger(5).clock, FORMATS, events=events)
    assert (timing.latency_cycles, timing.interval_cycles) == (5, 1)


def test_a_design_that_loses_events_at_random_gaps_is_named():
    """It samples every fourth cycle only, so no fixed delay explains all results."""
    with pytest.raises(DeviceFault, match="wrong-latency"):
        measure_timing(Sequential(0, interval=4).clock, FORMATS)


def test_events_and_gaps_are_laid_out_over_cycles():
    words = np.arange(12).reshape(4, 3)
    idle = random_idle(FORMATS, np.random.default_rng(0))
    inputs, cycles = stream(words, np.array([0, 2, 0, 1]), idle, 5)
    assert cycles.tolist() == [0, 1, 4, 5]
    assert len(inputs) == 4 + 3 + 5
    assert np.array_equal(inputs[cycles], words)
    assert inputs[[2, 3]].min() >= -32
