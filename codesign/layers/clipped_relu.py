"""Rectified linear unit with an upper limit of 1, whatever its type could hold."""

from __future__ import annotations

from codesign.layers import LAYERS
from codesign.layers._hard import HardActivation


class ClippedReLU(HardActivation):
    """max(0, min(x, 1)); weights before it scale the limit."""

    name = "clipped_relu"
    foreign = ("hls4ml.Activation.relu1",)
    result_is_signed = False
    low = 0
    hls_name = "relu1"


LAYERS.add(ClippedReLU.name, ClippedReLU())
