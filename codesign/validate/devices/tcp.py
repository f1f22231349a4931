"""`tcp://host:port?timeout_s=10`: a board that runs the server of `hls_templates/boards`."""

from __future__ import annotations

from codesign.validate.framed import FramedDevice
from codesign.validate.links import TcpLink
from codesign.validate.url import DEFAULT_TIMEOUT_S, DEVICES, DeviceContext, DeviceUrl


def open_tcp(url: DeviceUrl, context: DeviceContext) -> FramedDevice:
    """Create the client."""
    url.check_options("timeout_s")
    host, port = url.endpoint()
    timeout_s = url.number("timeout_s", DEFAULT_TIMEOUT_S)
    return FramedDevice(
        TcpLink(host, port, timeout_s=timeout_s),
        kind="tcp",
        timeout_s=timeout_s,
        expected_digest=context.expected_digest,
    )


DEVICES.add("tcp", open_tcp)
