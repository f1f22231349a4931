"""What the data did to the fixed-point grid: ranges of the inputs, saturation and rounding per layer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.ir import QuantizedNetwork, TensorType
from codesign.layers import LAYERS, run_words, typed
from codesign.layers._activation import Activation
from codesign.layers._table import TableActivation
from codesign.layers.base import Site
from codesign.layers.linear import Linear
from codesign.validate.implementation import Words


def audit_inputs(
    network: QuantizedNetwork, inputs: NDArray[np.floating] | None, test_words: Words
) -> dict[str, Any]:
    """Check the input range against data: how many events saturate (and would wrap without saturation).

    Args:
        network: the network.
        inputs: scaled real values, as `QuantizedNetwork.input_values` takes them, or None to use
            `test_words`.
        test_words: int64[n, n_inputs].
    """
    known, fmt = network.input_type, network.input_format
    if inputs is None:
        values, source = fmt.values_from_words(test_words), "test words (already inside the format)"
    else:
        values, source = network.input_values(inputs).astype(np.float64), "full data set"
    lsb = np.broadcast_to(np.ldexp(1.0, -known.element_fraction_bits), known.shape).ravel()
    low, high = (
        known.values_from_words(words).ravel() for words in (known.min_words, known.max_words)
    )
    floored = np.floor(values / lsb) * lsb
    outside = (floored < low) | (floored > high)
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
    values = run_words(network, words, trace=True)
    assert isinstance(values, dict), "run_words with trace returns a mapping"
    rows: list[dict[str, Any]] = []
    for site in typed(network):
        node, known, got = site.node, site.output, values[site.node.name]
        row: dict[str, Any] = {
            "node": node.name,
            "layer": node.layer,
            "format": known.type.describe(),
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
            row |= _rounding(layer, site, values[node.inputs[0]])
        rows.append(row)
    return rows


def _rounding(layer: Activation, site: Site, words: Words) -> dict[str, float]:
    """Return which share of values saturated (or wrapped), and which lost bits to rounding."""
    source, result = site.source, site.rounded
    words = words.reshape(-1, *source.shape)
    if isinstance(layer, TableActivation):  # its index rounds; the table absorbs the rest
        result = TensorType.of(layer.index_format, source.shape)
        layer = Linear()
    fraction = source.type.fraction_bits
    got = layer.apply_words(words, fraction, result)
    saturated = layer.leaves(words, fraction, result)
    exact = layer.unrounded(source).type
    lost = exact.values_from_words(layer.apply_words(words, fraction, exact)) != (
        result.values_from_words(got)
    )
    n = max(got.size, 1)
    return {
        "saturated_fraction": float(saturated.sum() / n),
        "rounded_fraction": float((lost & ~saturated).sum() / n),
    }
