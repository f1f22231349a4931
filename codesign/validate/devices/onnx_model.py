"""`onnx:FILE`: an exported ONNX model in ONNX Runtime; formats and digest come from its metadata."""

from __future__ import annotations

from codesign.validate.forms import onnx_form
from codesign.validate.implementation import InProcess
from codesign.validate.url import DEVICES, DeviceContext, DeviceUrl


def open_onnx(url: DeviceUrl, context: DeviceContext) -> InProcess:
    """Create the device; without a path, the candidate's `onnx/model.onnx`."""
    url.check_options()
    path = context.locate(url, "onnx/model.onnx")
    return InProcess(
        lambda: onnx_form(path.read_bytes(), str(path)), expected_digest=context.expected_digest
    )


DEVICES.add("onnx", open_onnx)
