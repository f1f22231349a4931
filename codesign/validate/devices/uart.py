"""`uart:///dev/ttyUSB0?baud=115200&timeout_s=10`: the board server behind a serial port."""

from __future__ import annotations

from codesign.errors import DesignError
from codesign.validate.framed import FramedDevice
from codesign.validate.links import UartLink
from codesign.validate.url import DEFAULT_TIMEOUT_S, DEVICES, DeviceContext, DeviceUrl

#: Payload of one request over a serial line: 16 KiB take 1.4 s at 115,200 baud.
MAX_PAYLOAD_BYTES = 1 << 14


def open_uart(url: DeviceUrl, context: DeviceContext) -> FramedDevice:
    """Create the client."""
    url.check_options("baud", "timeout_s")
    if not url.path or url.host:
        raise DesignError(
            f"device URL {url.text!r} names no serial port; expected uart:///dev/ttyUSB0?baud=115200"
        )
    timeout_s = url.number("timeout_s", DEFAULT_TIMEOUT_S)
    link = UartLink(url.path, baud=int(url.number("baud", 115200)), timeout_s=timeout_s)
    return FramedDevice(
        link,
        kind="uart",
        timeout_s=timeout_s,
        expected_digest=context.expected_digest,
        max_payload_bytes=MAX_PAYLOAD_BYTES,
    )


DEVICES.add("uart", open_uart)
