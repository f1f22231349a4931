"""The IPbus twin: a UDP target on loopback that speaks IPbus 2.0 and computes with a device."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator

import numpy as np

from codesign.errors import DesignError, DeviceError
from codesign.validate import ipbus, ipbus_map
from codesign.validate.devices.ipbus import join_words, split_words
from codesign.validate.implementation import Implementation, port_triple
from codesign.validate.ipbus_map import REGISTERS
from codesign.validate.url import open_device

#: Answers that the target keeps for requests to send them again.
N_KEPT = 16


class RegisterFile:
    """The registers and buffers of `ipbus_map`, with a device behind them."""

    def __init__(self, device: Implementation, max_events: int) -> None:
        self._device = device
        described = device.describe()
        inputs = [port_triple(f) for f in described.input_formats]
        outputs = [port_triple(f) for f in described.output_formats]
        digest = int(described.digest, 16)
        latency, clock_ns = described.latency_cycles, described.clock_period_ns
        self._size_in = ipbus_map.words_per_value(max(p[0] for p in inputs))
        self._size_out = ipbus_map.words_per_value(max(p[0] for p in outputs))
        self._n_inputs, self._n_outputs = len(inputs), len(outputs)
        self.memory: dict[str, list[int]] = {
            "magic": [ipbus_map.MAGIC],
            "map_version": [ipbus_map.MAP_VERSION],
            "digest": [digest >> 32, digest & 0xFFFFFFFF],
            "n_inputs": [len(inputs)],
            "n_outputs": [len(outputs)],
            "latency_cycles": [ipbus_map.UNKNOWN if latency is None else latency],
            "clock_period_ps": [0 if clock_ns is None else round(1000 * clock_ns)],
            "boot_id": [0],
            "max_events": [max_events],
            "is_hardware": [int(described.stage == "measured")],
            "control": [0],
            "status": [0],
            "n_events": [0],
            "events_done": [0],
            "input_formats": [ipbus_map.format_word(*p) for p in inputs],
            "output_formats": [ipbus_map.format_word(*p) for p in outputs],
            "input_buffer": [0] * (max_events * len(inputs) * self._size_in),
            "output_buffer": [0] * (max_events * len(outputs) * self._size_out),
        }
        self.boot()

    def boot(self) -> None:
        """Reset: a new identity, counters at zero."""
        self.memory["boot_id"] = [int.from_bytes(os.urandom(4), "big")]
        self.memory["status"] = [0]
        self.memory["events_done"] = [0]

    def _find(self, address: int, n_words: int) -> tuple[str, int] | None:
        for name, register in REGISTERS.items():
            offset = address - register.address
            if offset >= 0 and offset + n_words <= len(self.memory[name]):
                return name, offset
        return None

    def read(self, address: int, n_words: int) -> list[int] | None:
        """Return words, or None where there is nothing."""
        found = self._find(address, n_words)
        return None if found is None else self.memory[found[0]][found[1] : found[1] + n_words]

    def write(self, address: int, data: list[int]) -> bool:
        """Write words; false where nothing can be written."""
        found = self._find(address, len(data))
        if found is None or REGISTERS[found[0]].permission != "rw":
            return False
        name, offset = found
        self.memory[name][offset : offset + len(data)] = data
        if name == "control":
            if data[0] & ipbus_map.RESET:
                self.boot()
            if data[0] & ipbus_map.START:
                self._start()
        return True

    def _start(self) -> None:
        (n_events,) = self.memory["n_events"]
        n_words = n_events * self._n_inputs * self._size_in
        if not 1 <= n_events <= self.memory["max_events"][0]:
            self.memory["status"] = [ipbus_map.ERROR]
            return
        raw = self.memory["input_buffer"][:n_words]
        words = join_words(raw, self._size_in).reshape(n_events, self._n_inputs)
        try:
            results = self._device.run(words)
        except (DesignError, DeviceError):
            self.memory["status"] = [ipbus_map.ERROR]
            return
        out = split_words(np.asarray(results), self._size_out)
        self.memory["output_buffer"][: len(out)] = out
        self.memory["events_done"] = [self.memory["events_done"][0] + n_events]
        self.memory["status"] = [ipbus_map.DONE]


class Target:
    """Answers IPbus packets; knows nothing of sockets."""

    def __init__(self, registers: RegisterFile) -> None:
        self.registers = registers
        self._expected = 1
        self._kept: OrderedDict[int, bytes] = OrderedDict()

    def answer(self, data: bytes) -> bytes | None:
        """Return the answer to one packet, or None for what a target ignores."""
        try:
            words, order = ipbus.words_from_bytes(data)
        except ValueError:
            return None
        packet_id, kind = ipbus.parse_packet_header(words[0])
        if kind == ipbus.STATUS:
            return ipbus.words_to_bytes(self._status(), order) if len(words) == 16 else None
        if kind == ipbus.RESEND:
            return self._kept.get(packet_id)
        if packet_id not in (0, self._expected) or len(words) > ipbus.MAX_PACKET_WORDS:
            return None
        answer = ipbus.words_to_bytes(self._control(words), order)
        if packet_id:
            self._expected = packet_id % 0xFFFF + 1
            self._kept[packet_id] = answer
            while len(self._kept) > N_KEPT:
                self._kept.popitem(last=False)
        return answer

    def _status(self) -> list[int]:
        words = [0] * ipbus.STATUS_WORDS
        words[0] = ipbus.packet_header(0, ipbus.STATUS)
        words[1] = 4 * ipbus.MAX_PACKET_WORDS
        words[2] = N_KEPT
        words[3] = ipbus.packet_header(self._expected, ipbus.CONTROL)
        return words

    def _control(self, words: list[int]) -> list[int]:
        answer = [words[0]]
        position = 1
        while position + 1 < len(words):
            head = words[position]
            n_words, kind = head >> 8 & 0xFF, head >> 4 & 0xF
            base = head & ~0xF
            if head >> 28 != ipbus.VERSION or head & 0xF != ipbus.REQUEST or kind > ipbus.RMW_SUM:
                answer.append(base | ipbus.BAD_HEADER)
                break
            address, position = words[position + 1], position + 2
            n_data = {ipbus.READ: 0, ipbus.READ_FIXED: 0, ipbus.RMW_BITS: 2, ipbus.RMW_SUM: 1}.get(
                kind, n_words
            )
            data, position = words[position : position + n_data], position + n_data
            if len(data) != n_data:
                answer.append(base | ipbus.BAD_HEADER)
                break
            info, body = self._execute(kind, address, n_words, data)
            answer += [base | info, *body]
            if info != ipbus.SUCCESS:  # a target stops at the first error
                break
        return answer

    def _execute(
        self, kind: int, address: int, n_words: int, data: list[int]
    ) -> tuple[int, list[int]]:
        registers = self.registers
        if kind == ipbus.WRITE:
            return (ipbus.SUCCESS if registers.write(address, data) else ipbus.WRITE_ERROR), []
        if kind == ipbus.WRITE_FIXED:
            done = all(registers.write(address, [word]) for word in data)
            return (ipbus.SUCCESS if done else ipbus.WRITE_ERROR), []
        fixed = kind == ipbus.READ_FIXED
        before = registers.read(address, n_words if kind == ipbus.READ else 1)
        if before is None:
            return ipbus.READ_ERROR, []
        if kind == ipbus.READ:
            return ipbus.SUCCESS, before
        if fixed:
            return ipbus.SUCCESS, before * n_words
        if kind == ipbus.RMW_BITS:
            after = before[0] & data[0] | data[1]
        else:
            after = (before[0] + data[0]) & 0xFFFFFFFF
        written = registers.write(address, [after])
        return (ipbus.SUCCESS, before) if written else (ipbus.WRITE_ERROR, [])


#: Changes an answer on its way: bytes -> bytes, or None to lose it.
Spoil = Callable[[bytes], bytes | None]


@contextlib.contextmanager
def ipbus_twin(
    device: Implementation,
    *,
    max_events: int = 256,
    spoil_request: Spoil | None = None,
    spoil_answer: Spoil | None = None,
) -> Iterator[tuple[str, Target]]:
    """Serve a loaded device over IPbus on a free loopback port; yield the URL and the target.

    Args:
        device: computes the events.
        max_events: depth of the buffers.
        spoil_request, spoil_answer: applied to packets on their way, to inject faults.
    """
    target = Target(RegisterFile(device, max_events))
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind(("127.0.0.1", 0))
    stop = threading.Event()
    thread = threading.Thread(
        target=_serve, args=(listener, target, stop, spoil_request, spoil_answer), daemon=True
    )
    thread.start()
    try:
        host, port = listener.getsockname()
        yield f"ipbus://{host}:{port}", target
    finally:
        stop.set()
        thread.join()
        listener.close()


def _serve(
    listener: socket.socket,
    target: Target,
    stop: threading.Event,
    spoil_request: Spoil | None,
    spoil_answer: Spoil | None,
) -> None:
    """Answer packets until told to stop."""
    listener.settimeout(0.05)
    while not stop.is_set():
        try:
            data, sender = listener.recvfrom(65536)
        except TimeoutError:
            continue
        request = data if spoil_request is None else spoil_request(data)
        answer = None if request is None else target.answer(request)
        if answer is not None and spoil_answer is not None:
            answer = spoil_answer(answer)
        if answer is not None:
            listener.sendto(answer, sender)


def main() -> None:
    """Serve the device whose URL is the argument until interrupted; print where."""
    with (
        open_device(sys.argv[1]) as device,
        ipbus_twin(device) as (url, _),
        contextlib.suppress(KeyboardInterrupt),
    ):
        print(f"listening on {url}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
