"""Input words that try a network hard: random ones, and corners where mistakes hide."""

import numpy as np
from numpy.typing import NDArray

from codesign.ir import QuantizedNetwork


def random_words(network: QuantizedNetwork, n: int, seed: int) -> NDArray[np.int64]:
    """Return int64[n, n_inputs] words, uniform over the whole input format."""
    fmt = network.input_format
    width = int(network.network.nodes[0].parameters["width"])
    return np.random.default_rng(seed).integers(
        fmt.min_word, fmt.max_word + 1, size=(n, width), dtype=np.int64
    )


def corner_words(network: QuantizedNetwork, *, limit: int = 4096) -> NDArray[np.int64]:
    """Return the corner vectors of a network, without repetition.

    All zero; all least, greatest, one, minus one; alternating extremes; each input alone at either
    extreme, at one and at minus one; and for every output of every dense layer the inputs that drive
    its sum to either end: exactly so for layers that read the input, through the product of the
    weight matrices (activations taken as identities) for deeper ones.

    Args:
        network: the network.
        limit: at most so many vectors.

    Returns:
        int64[n, n_inputs], n at most `limit`.
    """
    fmt = network.input_format
    width = int(network.network.nodes[0].parameters["width"])
    low, high = fmt.min_word, fmt.max_word
    ones = [word for word in (1, -1) if low <= word <= high]
    even = np.arange(width) % 2 == 0
    rows = [np.zeros(width, dtype=np.int64)]
    rows += [np.full(width, word) for word in (low, high, *ones)]
    rows += [np.where(even, low, high), np.where(even, high, low)]
    blocks = [np.array(rows, dtype=np.int64)]
    blocks += [np.eye(width, dtype=np.int64) * word for word in (low, high, *ones)]
    for slope in _slopes(network).values():  # float64[n_inputs, n_out]
        for sign in (1.0, -1.0):
            extreme = np.where(sign * slope.T > 0, high, low)
            blocks.append(np.where(slope.T == 0, 0, extreme).astype(np.int64))
    words = np.concatenate(blocks)
    _, first = np.unique(words, axis=0, return_index=True)
    return words[np.sort(first)][:limit]


def _slopes(network: QuantizedNetwork) -> dict[str, NDArray[np.float64]]:
    """Return, per dense node, its linear response to the inputs, activations taken as identities."""
    width = int(network.network.nodes[0].parameters["width"])
    maps: dict[str, NDArray[np.float64]] = {}
    dense: dict[str, NDArray[np.float64]] = {}
    for node in network.network.nodes:
        if not node.inputs:
            maps[node.name] = np.eye(width)
        elif node.name in network.weight_words:
            weights = network.weight_format[node.name].values_from_words(
                network.weight_words[node.name]
            )
            maps[node.name] = dense[node.name] = maps[node.inputs[0]] @ weights
        elif len(node.inputs) == 1:
            maps[node.name] = maps[node.inputs[0]]
        elif len({maps[name].shape[1] for name in node.inputs}) == 1 and node.layer == "add":
            maps[node.name] = sum(maps[name] for name in node.inputs)  # type: ignore[assignment]
        else:
            maps[node.name] = np.concatenate([maps[name] for name in node.inputs], axis=1)
    return dense
