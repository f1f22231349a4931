"""`ipbus://host:port?client=uhal&protocol=ipbusudp-2.0`: a network behind IPbus registers.

`client=builtin` (default) uses our own UDP client; `client=uhal` uses CERN's uHAL when it is installed,
which also reaches a ControlHub (`protocol=chtcp-2.0&target=...`).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError, ToolError
from codesign.tools import install_command
from codesign.validate import ipbus_map
from codesign.validate.faults import DeviceFault
from codesign.validate.implementation import DeviceDescription, Implementation, check_words
from codesign.validate.ipbus import UdpClient
from codesign.validate.ipbus_map import REGISTERS
from codesign.validate.url import DEVICES, DeviceContext, DeviceUrl


class Bus(Protocol):
    """Reads and writes words at addresses."""

    def open(self) -> None:
        """Connect."""

    def read(self, address: int, n_words: int = 1) -> list[int]:
        """Read consecutive words."""

    def write(self, address: int, data: Sequence[int]) -> None:
        """Write consecutive words."""

    def close(self) -> None:
        """Disconnect."""


class UhalBus:
    """The same through uHAL."""

    def __init__(self, uri: str, timeout_s: float) -> None:
        try:
            import uhal
        except ImportError as error:
            raise ToolError(
                f"uhal is not installed ({error}); `{install_command('uhal')}`, or use client=builtin"
            ) from error
        self._uhal = uhal
        self._uri = uri
        self._timeout_s = timeout_s
        self._client: Any = None

    def open(self) -> None:
        uhal = self._uhal
        uhal.setLogLevelTo(uhal.LogLevel.ERROR)
        with tempfile.TemporaryDirectory() as folder:
            table = Path(folder) / "codesign.xml"
            table.write_text(ipbus_map.address_table(), encoding="utf-8")
            device = uhal.getDevice("codesign", self._uri, f"file://{table}")
        self._client = device.getClient()
        self._client.setTimeoutPeriod(int(1000 * self._timeout_s))

    def read(self, address: int, n_words: int = 1) -> list[int]:
        uhal = self._uhal
        value = self._client.readBlock(address, n_words, uhal.BlockReadWriteMode.INCREMENTAL)
        self._dispatch()
        return [int(word) for word in value]

    def write(self, address: int, data: Sequence[int]) -> None:
        self._client.writeBlock(address, list(data), self._uhal.BlockReadWriteMode.INCREMENTAL)
        self._dispatch()

    def _dispatch(self) -> None:
        try:
            self._client.dispatch()
        except self._uhal.exception as error:  # base of all of uHAL's errors
            text = str(error)
            name = "late-answer" if "imeout" in type(error).__name__ else "bus-error"
            raise DeviceFault(
                name, text.splitlines()[0] if text else type(error).__name__
            ) from error

    def close(self) -> None:
        self._client = None


class IpbusDevice(Implementation):
    """Fills the input buffer, starts, waits, reads the output buffer."""

    def __init__(self, bus: Bus, *, expected_digest: str | None, timeout_s: float) -> None:
        self._bus = bus
        self._expected_digest = expected_digest
        self._timeout_s = timeout_s
        self._description: DeviceDescription | None = None
        self._boot_id = self._max_events = self._events_done = 0

    def _register(self, name: str) -> int:
        return self._bus.read(REGISTERS[name].address)[0]

    def load(self) -> None:
        self._bus.open()
        magic = self._register("magic")
        if magic == int.from_bytes(ipbus_map.MAGIC.to_bytes(4, "big"), "little"):
            raise DeviceFault("endianness-swap", "the magic register reads backwards")
        if magic != ipbus_map.MAGIC:
            raise DeviceFault("garbage", f"magic register holds {magic:#010x}")
        version = self._register("map_version")
        if version != ipbus_map.MAP_VERSION:
            raise DeviceFault("protocol-version", f"register map {version}")
        self._bus.write(REGISTERS["control"].address, [ipbus_map.RESET])
        self._boot_id = self._register("boot_id")
        self._max_events = self._register("max_events")
        self._events_done = self._register("events_done")
        high, low = self._bus.read(REGISTERS["digest"].address, 2)
        digest = f"{high:08x}{low:08x}"
        if self._expected_digest and digest != self._expected_digest:
            raise DeviceFault("wrong-firmware", f"expected {self._expected_digest}, found {digest}")
        latency, clock_ps = self._register("latency_cycles"), self._register("clock_period_ps")
        self._description = DeviceDescription.from_json(
            {
                "schema": 1,
                "kind": "ipbus",
                "digest": digest,
                "input_formats": self._formats("input_formats", self._register("n_inputs")),
                "output_formats": self._formats("output_formats", self._register("n_outputs")),
                "latency_cycles": None if latency == ipbus_map.UNKNOWN else latency,
                "clock_period_ns": clock_ps / 1000 if clock_ps else None,
                "stage": "measured" if self._register("is_hardware") else "emulated",
            }
        )
        if self._max_events < 1:
            raise DeviceFault("bad-description", "the buffers hold no event")

    def _formats(self, name: str, count: int) -> list[list[int | bool]]:
        register = REGISTERS[name]
        if not 1 <= count <= register.n_words:
            raise DeviceFault("bad-description", f"{count} ports in {name}")
        words = self._bus.read(register.address, count)
        return [list(ipbus_map.format_triple(word)) for word in words]

    def describe(self) -> DeviceDescription:
        if self._description is None:
            raise DeviceFault("link-dropped", "not connected; load the device first")
        return self._description

    def run(self, words: NDArray[np.int64]) -> NDArray[np.int64]:
        described = self.describe()
        words = check_words(words, described.input_formats)
        parts = [
            self._run_batch(words[start : start + self._max_events], described)
            for start in range(0, len(words), self._max_events)
        ]
        return (
            np.concatenate(parts) if parts else np.empty((0, described.n_outputs), dtype=np.int64)
        )

    def _run_batch(
        self, words: NDArray[np.int64], described: DeviceDescription
    ) -> NDArray[np.int64]:
        size_in = ipbus_map.words_per_value(max(f.bits for f in described.input_formats))
        size_out = ipbus_map.words_per_value(max(f.bits for f in described.output_formats))
        self._bus.write(REGISTERS["input_buffer"].address, split_words(words, size_in))
        self._bus.write(REGISTERS["n_events"].address, [len(words)])
        self._bus.write(REGISTERS["control"].address, [ipbus_map.START])
        deadline_s = time.monotonic() + self._timeout_s
        while True:
            status = self._register("status")
            if status & ipbus_map.ERROR:
                raise DeviceFault("refused", f"status register {status:#x}")
            if status & ipbus_map.DONE:
                break
            if time.monotonic() > deadline_s:
                raise DeviceFault("late-answer", "the run does not end")
        count = len(words) * described.n_outputs * size_out
        raw = self._bus.read(REGISTERS["output_buffer"].address, count)
        boot_id, done = self._register("boot_id"), self._register("events_done")
        if boot_id != self._boot_id:
            raise DeviceFault("reset", f"boot {self._boot_id:08x} became {boot_id:08x}")
        if done != (self._events_done + len(words)) & 0xFFFFFFFF:
            raise DeviceFault(
                "stuck-counter", f"counted {done} after {self._events_done} and {len(words)} more"
            )
        self._events_done = done
        return join_words(raw, size_out).reshape(len(words), described.n_outputs)

    def counters(self) -> Mapping[str, int]:
        return {"events": self._register("events_done")}

    def trace(self, words: NDArray[np.int64]) -> None:
        return None  # nothing inside a board shows

    def measure_timing(self) -> None:
        return None  # registers carry events, not clock cycles

    def close(self) -> None:
        self._bus.close()


def split_words(words: NDArray[np.int64], size: int) -> list[int]:
    """Return values as 32-bit words, sign-extended, low word first."""
    return np.ascontiguousarray(words, dtype=f"<i{4 * size}").view("<u4").ravel().tolist()


def join_words(raw: Sequence[int], size: int) -> NDArray[np.int64]:
    """Read what `split_words` wrote."""
    return np.array(raw, dtype="<u4").view(f"<i{4 * size}").astype(np.int64)


def open_ipbus(url: DeviceUrl, context: DeviceContext) -> IpbusDevice:
    """Create the device."""
    url.check_options("client", "protocol", "target", "timeout_s")
    host, port = url.endpoint()
    timeout_s = url.number("timeout_s", 1.0)
    client = url.options.get("client", "builtin")
    if client == "builtin":
        if set(url.options) & {"protocol", "target"}:
            raise DesignError(f"device URL {url.text!r}: protocol and target need client=uhal")
        bus: Bus = UdpClient(host, port, timeout_s)
    elif client == "uhal":
        target = f"?target={url.options['target']}" if "target" in url.options else ""
        protocol = url.options.get("protocol", "ipbusudp-2.0")
        bus = UhalBus(f"{protocol}://{host}:{port}{target}", timeout_s)
    else:
        raise DesignError(f"device URL {url.text!r}: client is builtin or uhal, got {client!r}")
    return IpbusDevice(bus, expected_digest=context.expected_digest, timeout_s=timeout_s)


DEVICES.add("ipbus", open_ipbus)
