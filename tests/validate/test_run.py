"""Comparison of a device with the reference: mismatches, tracing, soak, checkpoints, verdicts."""

import json
from dataclasses import replace

import numpy as np
import pytest

from codesign.errors import DesignError, DeviceError
from codesign.ir import FixedPoint
from codesign.validate.faults import DeviceFault
from codesign.validate.implementation import DeviceDescription, Form, Implementation, Timing
from codesign.validate.run import EventSource, validate_device

INPUT = FixedPoint(bits=6, integer_bits=3)
OUTPUT = FixedPoint(bits=16, integer_bits=9)
WEIGHTS = np.random.default_rng(0).integers(-9, 10, (2, 4, 4))


def hidden(words):
    return np.maximum(words @ WEIGHTS[0], 0)


def evaluate(words):
    return hidden(words) @ WEIGHTS[1][:, :3]


DIGEST = "0123456789abcdef"
REFERENCE = Form(
    description=DeviceDescription(
        kind="reference",
        digest=DIGEST,
        input_formats=(INPUT,) * 4,
        output_formats=(OUTPUT,) * 3,
        latency_cycles=None,
        clock_period_ns=None,
        stage="emulated",
    ),
    run=evaluate,
    trace=lambda words: {"input": words, "hidden": hidden(words), "output": evaluate(words)},
)


class Scripted(Implementation):
    """Computes the integer network, but misbehaves as told.

    Args:
        break_at: event at which "bias" of the hidden layer is spoiled from then on.
        faults: faults to raise, by number of the call.
    """

    def __init__(self, *, break_at=None, faults=None, digest=DIGEST, n_outputs=3):
        self.break_at, self.faults = break_at, dict(faults or {})
        self.digest, self.n_outputs = digest, n_outputs
        self.n_calls = self.n_events = self.n_loads = 0
        self.is_closed = False

    def load(self):
        self.n_loads += 1

    def describe(self):
        return DeviceDescription(
            kind="scripted", digest=self.digest, input_formats=(INPUT,) * 4,
            output_formats=(OUTPUT,) * self.n_outputs, latency_cycles=5, clock_period_ns=2.5, stage="measured",
        )  # fmt: skip

    def _hidden(self, words):
        return hidden(words) + (self.break_at is not None and self.n_events >= self.break_at)

    def run(self, words):
        self.n_calls += 1
        if self.n_calls in self.faults:
            raise DeviceFault(self.faults[self.n_calls], "scripted")
        out = self._hidden(words) @ WEIGHTS[1][:, :3]
        self.n_events += len(words)
        return out

    def counters(self):
        return {"events": self.n_events}

    def trace(self, words):
        inside = self._hidden(words)
        return {"input": words, "hidden": inside, "output": inside @ WEIGHTS[1][:, :3]}

    def measure_timing(self):
        return Timing(latency_cycles=5, interval_cycles=1, events=1, how="scripted")

    def close(self):
        self.is_closed = True


NO_WORDS = np.empty((0, 4), dtype=np.int64)


def compare(device, words=NO_WORDS, **options):
    arguments = {"n_events": 1000, "batch_events": 128, "retry_wait_s": 0.0} | options
    return validate_device(device, REFERENCE, words, **arguments)


def test_a_faithful_device_passes_and_is_closed():
    device = Scripted()
    report = compare(device)
    assert report.verdict == "pass"
    assert report.passed
    assert report.n_events == 1000
    assert report.n_faults == 0
    assert report.timing.latency_cycles == 5
    assert device.is_closed
    assert report.events_per_s > 0
    assert 0 < report.round_trip_us <= report.round_trip_us_p99


def test_given_words_come_first_and_in_order():
    words = np.arange(40).reshape(10, 4) % 30
    source = EventSource(words=words, formats=(INPUT,) * 4, seed=1, batch_events=8)
    assert np.array_equal(source.block(0), words[:8])
    assert np.array_equal(source.block(1)[:2], words[8:])
    assert np.array_equal(source.block(5), source.block(5))
    assert not np.array_equal(source.block(5), source.block(6))
    random = source.block(7)
    assert random.min() >= INPUT.min_word and random.max() <= INPUT.max_word


def test_a_wrong_layer_is_named_with_events_outputs_and_words():
    report = compare(Scripted(break_at=256))
    assert report.verdict == "mismatch"
    assert report.first_differing_layer == "hidden"
    assert report.n_mismatched_events == 1000 - 256
    assert report.mismatches[0].event == 256
    difference = report.mismatches[0].got - report.mismatches[0].expected
    assert difference == WEIGHTS[1][:, report.mismatches[0].output].sum()
    assert len(report.mismatches) == 50
    assert report.n_mismatched_words > 50


def test_the_run_stops_when_too_many_events_are_wrong():
    report = compare(Scripted(break_at=0), max_mismatched_events=200)
    assert report.n_events == 256
    assert report.verdict == "mismatch"


def test_the_exact_number_of_events_is_compared():
    for n_events in (1, 127, 128, 129, 1000):
        assert compare(Scripted(), n_events=n_events).n_events == n_events


def test_a_soak_goes_on_for_its_time():
    report = compare(Scripted(), n_events=10, soak_s=0.2)
    assert report.wall_s >= 0.2
    assert report.n_events > 1000
    assert report.verdict == "pass"


def test_another_firmware_and_other_ports_are_refused_without_running_an_event():
    for device, name in (
        (Scripted(digest="00"), "wrong-firmware"),
        (Scripted(n_outputs=2), "wrong-width"),
    ):
        report = compare(device)
        assert (report.verdict, report.faults[0].name) == ("refused", name)
        assert device.n_calls == 0


def test_faults_in_a_row_are_overcome_up_to_the_limit():
    faults = {3: "late-answer", 4: "crc-error", 5: "link-dropped"}
    device = Scripted(faults=faults)
    report = compare(device)
    assert report.verdict == "pass-after-faults"
    assert [fault.name for fault in report.faults] == list(faults.values())
    assert device.n_loads == 4

    report = compare(Scripted(faults=faults), max_retries=2)
    assert report.verdict == "failed"
    assert report.n_events == 256


def test_a_broken_run_resumes_where_it_was_and_ends_in_the_same_report(tmp_path):
    checkpoint = tmp_path / "run.json"
    lasting = dict.fromkeys(range(4, 100), "link-dropped")
    first = compare(Scripted(faults=lasting), checkpoint=checkpoint, checkpoint_every_s=0.0)
    assert first.verdict == "failed"
    assert first.n_events == 384
    assert checkpoint.exists()

    second = compare(Scripted(), checkpoint=checkpoint)
    assert second.resumed_at_event == 384
    assert second.verdict == "pass-after-faults"
    assert second.n_events == 1000
    assert second.n_faults == first.n_faults
    assert not checkpoint.exists()


def test_an_interrupt_leaves_a_checkpoint(tmp_path):
    def interrupt(n_events):
        if n_events == 256:
            raise KeyboardInterrupt

    device = Scripted()
    with pytest.raises(KeyboardInterrupt):
        compare(device, checkpoint=tmp_path / "run.json", progress=interrupt)
    assert device.is_closed
    assert compare(Scripted(), checkpoint=tmp_path / "run.json").resumed_at_event == 256


def test_a_mismatch_before_the_break_is_not_forgotten(tmp_path):
    checkpoint = tmp_path / "run.json"
    lasting = dict.fromkeys(range(5, 100), "link-dropped")
    first = compare(Scripted(break_at=128, faults=lasting), checkpoint=checkpoint)
    second = compare(Scripted(), checkpoint=checkpoint)
    assert first.n_mismatched_events > 0
    assert second.verdict == "mismatch"
    assert second.n_mismatched_events == first.n_mismatched_events
    assert second.mismatches == first.mismatches


def test_a_checkpoint_of_another_comparison_or_a_damaged_one_is_refused(tmp_path):
    checkpoint = tmp_path / "run.json"
    lasting = dict.fromkeys(range(3, 100), "link-dropped")
    compare(Scripted(faults=lasting), checkpoint=checkpoint)
    with pytest.raises(DesignError, match="another comparison; delete it"):
        compare(Scripted(), checkpoint=checkpoint, seed=9)
    checkpoint.write_text(checkpoint.read_text()[:-20])
    with pytest.raises(DesignError, match="damaged .*; delete it"):
        compare(Scripted(), checkpoint=checkpoint)


def test_words_outside_the_ports_are_refused_with_their_place():
    words = np.zeros((3, 4), dtype=np.int64)
    words[2, 1] = 32
    with pytest.raises(DesignError, match="word 32 of event 2, input 1"):
        compare(Scripted(), words)
    with pytest.raises(DesignError, match=r"shape \(3, 3\); expected \(n, 4\)"):
        compare(Scripted(), words[:, :3])
    with pytest.raises(DesignError, match="give positive numbers"):
        compare(Scripted(), n_events=0)


def test_the_report_is_json_and_says_what_the_verdict_means():
    value = json.loads(json.dumps(compare(Scripted(break_at=500)).to_json(), allow_nan=False))
    assert value["verdict"] == "mismatch"
    assert value["meaning"] == "words differ from the reference"
    assert value["description"]["digest"] == DIGEST
    assert value["mismatches"][0].keys() == {"event", "output", "expected", "got"}


def test_a_description_survives_the_wire_and_refuses_nonsense():
    described = Scripted().describe()
    value = json.loads(json.dumps(described.to_json()))
    back = DeviceDescription.from_json(value)
    assert back.to_json() == described.to_json()
    for change in (
        {"schema": 2},
        {"input_formats": "x"},
        {"stage": "guessed"},
        {"output_formats": []},
    ):
        with pytest.raises(DeviceError):
            DeviceDescription.from_json(value | change)
    with pytest.raises(DeviceError, match="describe every port"):
        replace(described, input_formats=())
