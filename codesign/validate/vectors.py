"""Input words that try a network hard: random ones, and corners where mistakes hide."""

from math import prod

import numpy as np
from numpy.typing import NDArray

from codesign.ir import QuantizedNetwork
from codesign.layers import typed


def random_words(network: QuantizedNetwork, n: int, seed: int) -> NDArray[np.int64]:
    """Return int64[n, n_inputs] words, uniform over the whole input type."""
    return network.input_type.draw(np.random.default_rng(seed), n).reshape(n, -1)


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
    known = network.input_type
    low, high = known.min_words.ravel(), known.max_words.ravel()
    lsb = np.broadcast_to(np.int64(1) << known.trailing_zeros, known.shape).ravel()
    ends = (low, high, np.minimum(lsb, high), np.maximum(-lsb, low))
    even = np.arange(low.size) % 2 == 0
    rows = [np.zeros_like(low), *ends, np.where(even, low, high), np.where(even, high, low)]
    blocks = [np.array(rows, dtype=np.int64), *(np.diag(words) for words in ends)]
    for slope in _slopes(network).values():  # float64[n_inputs, size]
        for sign in (1.0, -1.0):
            extreme = np.where(sign * slope.T > 0, high, low)
            blocks.append(np.where(slope.T == 0, 0, extreme).astype(np.int64))
    words = np.concatenate(blocks)
    _, first = np.unique(words, axis=0, return_index=True)
    return words[np.sort(first)][:limit]


def _slopes(network: QuantizedNetwork) -> dict[str, NDArray[np.float64]]:
    """Return, per dense node, its linear response to the inputs, activations taken as identities.

    What reads a layer type that is not linear in its inputs' elements, and is no activation, is left out.
    """
    size = network.input_type.size
    maps: dict[str, NDArray[np.float64]] = {}
    dense: dict[str, NDArray[np.float64]] = {}
    for site in typed(network):
        name, shape = site.node.name, (size, *site.output.shape)
        read = [maps[source] for source in site.node.inputs if source in maps]
        if not site.node.inputs:
            maps[name] = np.eye(size).reshape(shape)
        elif len(read) < len(site.node.inputs):
            continue
        elif site.node.layer == "dense":
            maps[name] = read[0] @ site.constants["weight"].real
            dense[name] = maps[name].reshape(size, -1)
        elif site.node.layer == "add":
            maps[name] = read[0] + read[1]
        elif site.node.layer == "concat":
            maps[name] = np.concatenate(read, axis=-1)
        elif len(read) == 1 and read[0].size == prod(shape):
            maps[name] = read[0].reshape(shape)
    return dense
