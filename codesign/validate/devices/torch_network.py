"""`torch:`: the quantized network evaluated by torch on real values, in this process."""

from __future__ import annotations

from codesign.validate.forms import torch_form
from codesign.validate.implementation import InProcess
from codesign.validate.url import DEVICES, DeviceContext, DeviceUrl


def open_torch(url: DeviceUrl, context: DeviceContext) -> InProcess:
    """Create the device from the candidate's quantized network."""
    url.check_options()
    network = context.require_network(url)
    return InProcess(lambda: torch_form(network), expected_digest=context.expected_digest)


DEVICES.add("torch", open_torch)
