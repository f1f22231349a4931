"""What the data did to the fixed-point grid: ranges of the inputs, saturation and rounding per layer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.ir import FixedPoint, QuantizedNetwork
from codesign.layers import LAYERS, infer_formats, run_words
from codesign.layers._activation import Activation
from codesign.layers._table import TableActivation
from codesign.validate.implementation import Words


def audit_inputs(
    network: QuantizedNetwork, inputs: NDArray[np.floating] | None, test_words: Words
) -> dict[str, Any]:
    """Check the input range against data: how many events saturate (and would wrap without saturation).

    Args:
        network: the network.
        inputs: float[n, n_inputs] scaled real values, or None to use `test_words`.
        test_words: int64[n, n_inputs].
    """
    fmt = network.input_format
    if inputs is None:
        values, source = fmt.values_from_words(test_words), "test words (already inside the format)"
    else:
        values, source = np.asarray(inputs, dtype=np.float64), "full data set"
    words = np.floor(np.ldexp(values, fmt.fraction_bits))
    outside = (words < fmt.min_word) | (words > fmt.max_word)
    return {
        "source": source,
        "n_events": len(values),
        "format": fmt.to_hls(),
        "min_value": fmt.min_value,
        "max_value": fmt.max_value,
        "n_events_saturated": int(outside.any(axis=1).sum()),
        "n_values_saturated": int(outside.sum()),
        "features": [
            {
                "index": i,
                "min": float(values[:, i].min()) if len(values) else 0.0,
                "max": float(values[:, i].max()) if len(values) else 0.0,
                "n_saturated": int(outside[:, i].sum()),
            }
            for i in range(values.shape[1])
        ],
    }


def audit_layers(network: QuantizedNetwork, words: Words) -> list[dict[str, Any]]:
    """Say for each node what rounding and saturation did to the data, and how much of its range is used.

    Args:
        network: the network.
        words: int64[n, n_inputs].
    """
    ranges = infer_formats(network)
    values = run_words(network, words, trace=True)
    assert isinstance(values, dict), "run_words with trace returns a mapping"
    rows: list[dict[str, Any]] = []
    for node in network.network.nodes:
        known, got = ranges[node.name], values[node.name]
        fmt = known.format
        row: dict[str, Any] = {
            "node": node.name,
            "layer": node.layer,
            "format": fmt.to_hls(),
            "possible_min_word": int(known.low.min()),
            "possible_max_word": int(known.high.max()),
            "seen_min_word": int(got.min()) if got.size else 0,
            "seen_max_word": int(got.max()) if got.size else 0,
            "rounds": node.name in network.result,
            "saturated_fraction": None,
            "rounded_fraction": None,
        }
        layer = LAYERS.get(node.layer)
        if isinstance(layer, Activation) and node.inputs:
            source = ranges[node.inputs[0]].format
            row |= _rounding(layer, values[node.inputs[0]], source, fmt, got)
        rows.append(row)
    return rows


def _rounding(
    layer: Activation, words: Words, source: FixedPoint, result: FixedPoint, got: Words
) -> dict[str, float]:
    """Return which share of values saturated, and which lost bits to rounding."""
    if isinstance(
        layer, TableActivation
    ):  # the index saturates and rounds; the table absorbs the rest
        result = layer.index_format
        got, signed = result.cast_words(words, source), True
        unlimited, exact = words, words
        fraction = source.fraction_bits
    else:
        fraction = max(
            source.fraction_bits + 3, result.fraction_bits
        )  # 3: slopes of 2**-3 stay exact
        signed = True
        wide = FixedPoint(bits=62, integer_bits=62 - fraction, signed=signed)
        unlimited = exact = layer.apply_words(words, source, wide)
    shift = fraction - result.fraction_bits
    floored = unlimited >> shift if shift >= 0 else unlimited << -shift
    lost = exact - (floored << shift if shift >= 0 else floored >> -shift)
    saturated = floored != got
    n = max(got.size, 1)
    return {
        "saturated_fraction": float(saturated.sum() / n),
        "rounded_fraction": float(((lost != 0) & ~saturated).sum() / n),
    }
