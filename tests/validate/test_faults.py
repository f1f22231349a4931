"""Every injected fault is detected, named, and either overcome without losing an event or fatal."""

import numpy as np
import pytest

from codesign.validate import FAULTS, open_device, wire
from codesign.validate.faults import diagnose
from codesign.validate.run import validate_device
from tests.validate.faulty import Drop, FaultyProxy, read_frame, sleep

BATCH = 100


def words_of(payload):
    return np.frombuffer(payload, "<i2", offset=wire.RESULT_HEAD.size).copy()


def with_words(header, payload, words):
    body = payload[: wire.RESULT_HEAD.size] + words.astype("<i2").tobytes()
    return wire.encode(header.kind, header.sequence, body)


def drop_link(proxy, header, payload):
    raise Drop


def answer_late(proxy, header, payload):
    sleep(1.5)
    return wire.encode(header.kind, header.sequence, payload)


def garbage(proxy, header, payload):
    return np.random.default_rng(0).bytes(64)


def truncate_and_hang(proxy, header, payload):
    return wire.encode(header.kind, header.sequence, payload)[:-7]


def only_half_a_header(proxy, header, payload):
    return wire.encode(header.kind, header.sequence, payload)[:9]


def flip_bit_on_wire(proxy, header, payload):
    frame = bytearray(wire.encode(header.kind, header.sequence, payload))
    frame[60] ^= 4
    return bytes(frame)


def flip_bit_of_checksum(proxy, header, payload):
    frame = bytearray(wire.encode(header.kind, header.sequence, payload))
    frame[17] ^= 1
    return bytes(frame)


def swap_header(proxy, header, payload):
    frame = wire.encode(header.kind, header.sequence, payload)
    return frame[:4][::-1] + frame[4:]


def swap_words(proxy, header, payload):
    return with_words(header, payload, words_of(payload).byteswap())


def repeat_previous_answer(proxy, header, payload):
    return proxy.previous


def skip_ahead(proxy, header, payload):
    return wire.encode(header.kind, header.sequence + 5, payload)


def oversize(proxy, header, payload):
    return wire.HEADER.pack(wire.MAGIC, wire.VERSION, header.kind, 0, header.sequence, 2**31, 0)


def other_version(proxy, header, payload):
    frame = bytearray(wire.encode(header.kind, header.sequence, payload))
    frame[4] = 9
    return bytes(frame)


def other_kind(proxy, header, payload):
    return wire.encode(wire.COUNTED, header.sequence, b"{}")


def one_event_less(proxy, header, payload):
    n_events, boot, done = wire.RESULT_HEAD.unpack_from(payload)
    head = wire.RESULT_HEAD.pack(n_events - 1, boot, done)
    return wire.encode(header.kind, header.sequence, head + payload[wire.RESULT_HEAD.size : -8])


def wrong_event_number(proxy, header, payload):
    n_events, boot, done = wire.RESULT_HEAD.unpack_from(payload)
    head = wire.RESULT_HEAD.pack(n_events - 1, boot, done)
    return wire.encode(header.kind, header.sequence, head + payload[wire.RESULT_HEAD.size :])


def stuck_counter(proxy, header, payload):
    n_events, boot, done = wire.RESULT_HEAD.unpack_from(payload)
    head = wire.RESULT_HEAD.pack(n_events, boot, done - n_events)
    return wire.encode(header.kind, header.sequence, head + payload[wire.RESULT_HEAD.size :])


def reset_board(proxy, header, payload):
    """Really reset the board, then ask it the same again."""
    proxy.board.sendall(wire.encode(wire.RESET, 1, b""))
    reset, body, _ = read_frame(proxy.board)
    assert reset.kind == wire.WELCOME
    boot = wire.decode_json(body)["boot_id"]
    n_events, _, _ = wire.RESULT_HEAD.unpack_from(payload)
    head = wire.RESULT_HEAD.pack(n_events, boot, n_events)
    return wire.encode(header.kind, header.sequence, head + payload[wire.RESULT_HEAD.size :])


def refuse(proxy, header, payload):
    body = wire.encode_json({"code": "backend", "message": "DMA timed out"})
    return wire.encode(wire.ERROR, header.sequence, body)


def out_of_range(proxy, header, payload):
    words = words_of(payload)
    words[3] = 0x3F3F
    return with_words(header, payload, words)


def edit_welcome(**changes):
    def spoil(proxy, header, payload):
        value = wire.decode_json(payload)
        value["description"].update(changes)
        return wire.encode(header.kind, header.sequence, wire.encode_json(value))

    return spoil


def empty_welcome(proxy, header, payload):
    return wire.encode(header.kind, header.sequence, b"{}")


def welcome_is_no_json(proxy, header, payload):
    return wire.encode(header.kind, header.sequence, b"\xff\xfe{")


RECOVERABLE = [
    (drop_link, "link-dropped"),
    (answer_late, "late-answer"),
    (garbage, "garbage"),
    (truncate_and_hang, "truncated-frame"),
    (only_half_a_header, "truncated-frame"),
    (flip_bit_on_wire, "crc-error"),
    (flip_bit_of_checksum, "crc-error"),
    (swap_header, "endianness-swap"),
    (swap_words, "endianness-swap"),
    (repeat_previous_answer, "duplicate-sequence"),
    (skip_ahead, "out-of-order"),
    (oversize, "oversize-message"),
    (other_kind, "wrong-kind"),
    (one_event_less, "wrong-count"),
    (wrong_event_number, "wrong-count"),
    (stuck_counter, "stuck-counter"),
    (reset_board, "reset"),
    (refuse, "refused"),
    (out_of_range, "word-out-of-range"),
]

PERMANENT_FAULTS = [
    (other_version, "protocol-version"),
    (edit_welcome(digest="feedfacefeedface"), "wrong-firmware"),
    (edit_welcome(output_formats=[[9, 6, True]] * 3), "wrong-width"),
    (edit_welcome(input_formats=[[8, 0, True]] * 22), "wrong-width"),
    (edit_welcome(input_formats=[[99, 0, True]]), "bad-description"),
    (edit_welcome(schema=7), "bad-description"),
    (empty_welcome, "bad-description"),
]


def compare(proxy, context, reference, words, **options):
    arguments = {"n_events": 600, "batch_events": BATCH, "retry_wait_s": 0.01} | options
    return validate_device(open_device(proxy.url, context), reference, words, **arguments)


@pytest.mark.parametrize(
    ("spoil", "name"), RECOVERABLE, ids=[f"{s.__name__}" for s, _ in RECOVERABLE]
)
def test_one_fault_is_named_overcome_and_loses_no_event(
    spoil, name, twin, context, reference, words
):
    waits = spoil in (answer_late, truncate_and_hang, only_half_a_header)
    with FaultyProxy(
        twin, spoil, kind=wire.RESULT, first=2, count=1, timeout_s=1.0 if waits else 10.0
    ) as proxy:
        report = compare(proxy, context, reference, words)

    assert proxy.n_spoiled == 1
    assert [fault.name for fault in report.faults] == [name]
    assert report.faults[0].event == 2 * BATCH
    assert report.faults[0].recovered
    assert report.verdict == "pass-after-faults"
    assert report.n_events == 600
    assert report.n_mismatched_events == 0


@pytest.mark.parametrize("spoil", [drop_link, garbage, swap_words, stuck_counter])
def test_a_lasting_fault_ends_the_run_with_a_verdict(spoil, twin, context, reference, words):
    with FaultyProxy(twin, spoil, kind=wire.RESULT, first=2, count=1000) as proxy:
        report = compare(proxy, context, reference, words, max_retries=2)

    assert report.verdict == "failed"
    assert report.n_events == 2 * BATCH
    assert report.n_faults == 3
    assert [fault.recovered for fault in report.faults] == [True, True, False]


@pytest.mark.parametrize(
    ("spoil", "name"), PERMANENT_FAULTS, ids=[name for _, name in PERMANENT_FAULTS]
)
def test_a_wrong_device_is_refused_at_once(spoil, name, twin, context, reference, words):
    with FaultyProxy(twin, spoil, kind=wire.WELCOME, first=0, count=1000) as proxy:
        report = compare(proxy, context, reference, words)

    assert report.verdict == "refused"
    assert report.n_faults == 1
    assert report.faults[0].name == name
    assert report.n_events == 0


def test_a_welcome_that_is_no_json_is_garbage(twin, context, reference, words):
    with FaultyProxy(twin, welcome_is_no_json, kind=wire.WELCOME, first=0, count=1) as proxy:
        report = compare(proxy, context, reference, words)

    assert [fault.name for fault in report.faults] == ["garbage"]
    assert report.verdict == "pass-after-faults"


def flip_result_bit(proxy, header, payload):
    words = words_of(payload)
    words[41] ^= 2
    return with_words(header, payload, words)


def stale(proxy, header, payload):
    n_events, boot, done = wire.RESULT_HEAD.unpack_from(payload)
    return with_words(header, payload, words_of(proxy.previous[wire.HEADER.size :]))


def stuck(proxy, header, payload):
    words = words_of(payload).reshape(-1, 4)
    words[:] = words[0]
    return with_words(header, payload, words)


def shifted(proxy, header, payload):
    words = words_of(payload).reshape(-1, 4)
    return with_words(header, payload, np.roll(words, 1, axis=0))


def off_by_one(proxy, header, payload):
    return with_words(header, payload, np.clip(words_of(payload) + 1, -256, 255))


WRONG_RESULTS = [
    (flip_result_bit, "bit-flip"),
    (stale, "stale-results"),
    (stuck, "stuck-output"),
    (shifted, "shifted-events"),
    (off_by_one, "wrong-values"),
]


@pytest.mark.parametrize(("spoil", "name"), WRONG_RESULTS, ids=[name for _, name in WRONG_RESULTS])
def test_wrong_results_under_a_good_checksum_are_a_mismatch_with_a_diagnosis(
    spoil, name, twin, context, reference, words
):
    with FaultyProxy(twin, spoil, kind=wire.RESULT, first=2, count=1) as proxy:
        report = compare(proxy, context, reference, words)

    assert report.verdict == "mismatch"
    assert [fault.name for fault in report.faults] == [name]
    assert "other words when repeated" in report.faults[0].message
    assert report.n_events == 600
    assert report.n_mismatched_words >= 1
    first = report.mismatches[0]
    expected = reference.run(words)
    assert 2 * BATCH <= first.event < 3 * BATCH
    assert first.expected == expected[first.event, first.output] != first.got


def test_a_flipped_bit_is_reported_at_its_event_and_output(twin, context, reference, words):
    with FaultyProxy(twin, flip_result_bit, kind=wire.RESULT, first=1, count=1) as proxy:
        report = compare(proxy, context, reference, words)

    assert report.n_mismatched_words == 1
    assert (report.mismatches[0].event, report.mismatches[0].output) == (BATCH + 10, 1)
    assert report.mismatches[0].expected ^ report.mismatches[0].got == 2


def test_at_least_twelve_distinct_faults_are_injected():
    injected = {name for _, name in (*RECOVERABLE, *PERMANENT_FAULTS, *WRONG_RESULTS)}
    assert injected <= set(FAULTS)
    assert len(injected) >= 12


def test_the_client_answers_any_mutated_frame_with_the_right_words_or_a_named_fault(
    twin, context, words, reference
):
    """Random bytes of a real answer are changed, removed or added."""
    rng = np.random.default_rng(7)
    outcomes = set()

    def mutate(proxy, header, payload):
        frame = bytearray(wire.encode(header.kind, header.sequence, payload))
        for _ in range(int(rng.integers(1, 4))):
            position = int(rng.integers(0, min(len(frame), 64)))
            action = rng.integers(0, 3)
            if action == 0:
                frame[position] = int(rng.integers(0, 256))
            elif action == 1:
                del frame[position : position + int(rng.integers(1, 9))]
            else:
                frame[position:position] = rng.bytes(int(rng.integers(1, 9)))
        return bytes(frame)

    with FaultyProxy(twin, mutate, kind=wire.RESULT, first=0, count=24, timeout_s=0.3) as proxy:
        report = compare(
            proxy, context, reference, words[:100], n_events=100, max_retries=60, retry_wait_s=0.001
        )
    outcomes = {fault.name for fault in report.faults}
    assert report.passed
    assert report.n_events == 100
    assert outcomes <= set(FAULTS)
    assert len(outcomes) >= 3


def test_diagnosis_prefers_the_pattern_that_explains_every_word():
    rng = np.random.default_rng(1)
    expected = rng.integers(-200, 200, (50, 3))
    wrong = expected.copy()
    wrong[4, 1] ^= 8
    assert diagnose(expected, wrong, None) == "bit-flip"
    wrong[5, 1] += 3
    wrong[5, 1] ^= 64
    assert diagnose(expected, wrong, None) == "wrong-values"
    assert diagnose(expected, wrong, wrong.copy()) == "stale-results"
