"""Proof that every implementation of a network computes the same words.

`open_device` opens anything that runs raw words, by URL; `validate_device` (in
`codesign.validate.run`) compares it with the reference; `codesign.validate.certificate` holds the
comparison of all exports.
"""

from codesign.validate.faults import FAULTS, DeviceFault
from codesign.validate.implementation import DeviceDescription, Implementation
from codesign.validate.url import DEVICES, DeviceContext, DeviceUrl, open_device

__all__ = [
    "DEVICES",
    "FAULTS",
    "DeviceContext",
    "DeviceDescription",
    "DeviceFault",
    "DeviceUrl",
    "Implementation",
    "open_device",
]
