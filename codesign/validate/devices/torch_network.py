"""`torch:`: the quantized network evaluated by torch on real values, in this process."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from codesign.ir import QuantizedNetwork
from codesign.layers import run_torch
from codesign.validate.device import Device, DeviceDescription, check_words
from codesign.validate.run import Reference
from codesign.validate.url import DEVICES, DeviceContext, DeviceUrl


class TorchDevice(Device):
    """Wraps `codesign.layers.run_torch`."""

    def __init__(self, network: QuantizedNetwork) -> None:
        self._network = network
        self._n_events = 0

    def load(self) -> None:
        self._n_events = 0

    def describe(self) -> DeviceDescription:
        reference = Reference.from_network(self._network)
        return DeviceDescription(
            kind="torch",
            digest=self._network.digest,
            input_formats=reference.input_formats,
            output_formats=reference.output_formats,
            latency_cycles=None,
            clock_period_ns=None,
            stage="emulated",
        )

    def run(self, words: NDArray[np.int64]) -> NDArray[np.int64]:
        words = check_words(words, self.describe().input_formats)
        self._n_events += len(words)
        return run_torch(self._network, words)

    def counters(self) -> Mapping[str, int]:
        return {"events": self._n_events}

    def trace(self, words: NDArray[np.int64]) -> None:
        return None  # `run_torch` shows the output only

    def measure_timing(self) -> None:
        return None  # untimed

    def close(self) -> None:
        return


def open_torch(url: DeviceUrl, context: DeviceContext) -> TorchDevice:
    """Create the device from the candidate's quantized network."""
    url.check_options()
    return TorchDevice(context.require_network(url))


DEVICES.add("torch", open_torch)
