"""Whatever bytes come, parsers end in a value or a named fault, never in another exception or a hang."""

import ast

import numpy as np
import pytest

from codesign.resources import data_root
from codesign.testing.ipbus_twin import RegisterFile, Target, ipbus_twin
from codesign.validate import DeviceFault, ipbus, open_device, wire
from codesign.validate.emp_files import PatternFile, pack_events
from codesign.validate.run import validate_device


@pytest.fixture
def emulator(library, context):
    with open_device(f"emulator:{library}", context) as device:
        yield device


def mutated(data, rng):
    """Change, remove or insert a few bytes."""
    data = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(0, max(1, len(data))))
        action = rng.integers(0, 4)
        if action == 0 and data:
            data[at] = int(rng.integers(0, 256))
        elif action == 1:
            del data[at : at + int(rng.integers(1, 20))]
        elif action == 2:
            data[at:at] = rng.bytes(int(rng.integers(1, 20)))
        else:
            del data[at:]
    return bytes(data)


def test_mutated_pattern_files_are_read_or_named(words, reference):
    rng = np.random.default_rng(0)
    data = pack_events(words[:12], reference.description.input_formats, 2)
    flags = np.ones(data.shape, dtype=bool)
    good = PatternFile(
        board="x", links=(0, 1), data=data, valid=flags, start_of_orbit=flags, start_of_packet=flags,
        end_of_packet=flags,
    ).to_text().encode()  # fmt: skip
    outcomes = set()
    for _ in range(600):
        try:
            PatternFile.from_text(mutated(good, rng).decode("latin-1"))
            outcomes.add("read")
        except DeviceFault as fault:
            outcomes.add(fault.name)
    assert outcomes == {"read", "garbage", "truncated-frame"}


def test_mutated_frames_are_read_or_named():
    rng = np.random.default_rng(1)
    good = wire.encode(wire.RUN, 3, b"payload of some length")
    outcomes = set()
    for _ in range(2000):
        data = mutated(good, rng).ljust(wire.HEADER.size, b"\0")
        head, payload = data[: wire.HEADER.size], data[wire.HEADER.size :]
        try:
            header = wire.decode_header(head)
            wire.check_payload(head, header, payload)
            outcomes.add("read")
        except wire.WireError as error:
            outcomes.add(error.fault)
    assert {"garbage", "crc-error", "protocol-version", "oversize-message"} <= outcomes


def test_an_ipbus_target_survives_any_packet(emulator):
    rng = np.random.default_rng(2)
    target = Target(RegisterFile(emulator, 16))
    good = [ipbus.packet_header(0, ipbus.CONTROL)]
    for index, transaction in enumerate(
        [
            ipbus.Transaction(ipbus.READ, 0, 4),
            ipbus.Transaction(ipbus.WRITE, 0x12, 1, (3,)),
            ipbus.Transaction(ipbus.RMW_BITS, 0x10, 1, (0, 1)),
            ipbus.Transaction(ipbus.READ_FIXED, 0x13, 5),
            ipbus.Transaction(ipbus.RMW_SUM, 0x12, 1, (1,)),
            ipbus.Transaction(ipbus.WRITE_FIXED, 0x0100_0000, 2, (1, 2)),
        ]
    ):
        good += ipbus.request_words(index, transaction)
    answer = target.answer(ipbus.words_to_bytes(good, "<"))
    assert answer is not None
    words, order = ipbus.words_from_bytes(answer)
    assert order == "<"  # a target answers in the byte order of the request
    assert words[0] == good[0]
    for _ in range(1500):
        data = mutated(ipbus.words_to_bytes(good, ">"), rng)
        answer = target.answer(data)
        assert answer is None or len(answer) % 4 == 0
    assert target.answer(ipbus.words_to_bytes(good, ">")) is not None


def test_the_ipbus_client_gives_the_right_words_or_a_named_fault(
    emulator, context, reference, words
):
    rng = np.random.default_rng(3)
    n_answers = 0

    def spoil(data):
        nonlocal n_answers
        n_answers += 1
        return mutated(data, rng) if n_answers % 40 == 20 else data

    with ipbus_twin(emulator, spoil_answer=spoil) as (url, _):
        report = validate_device(
            open_device(url + "?timeout_s=0.3", context), reference, words, n_events=600,
            batch_events=50, max_retries=30, retry_wait_s=0.0,
        )  # fmt: skip
    # UDP has a checksum of its own and IPbus none: a spoiled word inside an answer is a wrong result
    assert report.n_events == 600
    assert report.verdict in ("pass", "pass-after-faults", "mismatch")
    assert n_answers > 40


def test_what_runs_on_a_board_keeps_to_python_3_8():
    sources = [*(data_root("hls_templates") / "boards").rglob("*.py")]
    assert len(sources) >= 3
    for path in [*sources, wire.__file__]:
        with open(path, encoding="utf-8") as stream:
            ast.parse(stream.read(), feature_version=(3, 8))
