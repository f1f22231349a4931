"""What a layer writes itself into when it is exported: interfaces that `codesign.export` implements.

They live beside the layers so that imports point down: `codesign.export` imports the layers, never the
other way round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from codesign.ir import FixedPoint


class OnnxGraph(Protocol):
    """A graph of ONNX operators on real values, under construction.

    Two implementations exist: standard operators with QuantizeLinear/DequantizeLinear, and QONNX.
    """

    def operator(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Add a standard operator with one output and return that output's name."""

    def real(self, values: NDArray[np.float64]) -> str:
        """Add a constant of real values and return its name."""

    def indices(self, tensor: str) -> str:
        """Convert a tensor of whole real numbers to int64 and return its name."""

    def stored(self, name: str, words: NDArray[np.int64], fmt: FixedPoint) -> str:
        """Add the constant real values of raw words (weights, biases), kept as integers if possible."""

    def quantize(self, tensor: str, fmt: FixedPoint) -> str:
        """Round (floor) and saturate a tensor to a format; the values stay real."""


class HlsGraph(Protocol):
    """A list of hls4ml layers under construction."""

    def add(
        self,
        class_name: str,
        name: str,
        inputs: Sequence[str],
        *,
        precision: Mapping[str, FixedPoint],
        configuration: Mapping[str, Any] | None = None,
        **attributes: Any,
    ) -> str:
        """Add a layer and return its name.

        Args:
            class_name: hls4ml's class of the layer.
            name: unique name.
            inputs: names of the layers it reads.
            precision: format of each of its types ("result", "weight", "bias", "accum", ...).
            configuration: further entries of its configuration ("Strategy", "ReuseFactor", ...).
            attributes: what the class needs (n_in, weight_data, ...).
        """

    def table(
        self,
        name: str,
        source: str,
        *,
        function: str,
        words: NDArray[np.int64],
        n_lanes: int,
        result: FixedPoint,
    ) -> str:
        """Look every lane of `source` up in a table and return the name of the result.

        Args:
            name: unique name.
            source: a layer whose words index the table.
            function: name of the function ("tanh"), for messages.
            words: int64[n_entries] result words, entry 0 for the smallest index word.
            n_lanes: how many lanes.
            result: format of the result words.
        """

    def hardware(self, name: str) -> Mapping[str, Any]:
        """Return the configuration (Strategy, ReuseFactor) of a node with multipliers."""


def exact(fmt: FixedPoint) -> FixedPoint:
    """Return `fmt` without rounding and saturation logic, for values that are known to fit."""
    return FixedPoint(
        bits=fmt.bits,
        integer_bits=fmt.integer_bits,
        signed=fmt.signed,
        rounding="TRN",
        overflow="WRAP",
    )
