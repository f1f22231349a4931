"""Input words that try a network hard: random ones, and corners where mistakes hide."""

import numpy as np
from numpy.typing import NDArray

from codesign.ir import QuantizedNetwork
from codesign.layers import LAYERS, typed
from codesign.layers._activation import Activation


def random_words(network: QuantizedNetwork, n: int, seed: int) -> NDArray[np.int64]:
    """Return int64[n, n_inputs] words, uniform over the whole input type."""
    return network.input_type.draw(np.random.default_rng(seed), n).reshape(n, -1)


def corner_words(network: QuantizedNetwork, *, limit: int = 4096) -> NDArray[np.int64]:
    """Return the corner vectors of a network, without repetition.

    All zero; all least, greatest, one, minus one; alternating extremes; each input alone at either
    extreme, at one and at minus one; and for every output of every layer with weights the inputs that drive
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
    """Return, per node with constants, its linear response to the inputs, activations taken as identities.

    Every other layer answers to unit vectors by itself, less what it answers to zero.
    """
    import torch

    size = network.input_type.size
    maps: dict[str, torch.Tensor] = {}
    found: dict[str, NDArray[np.float64]] = {}
    for site in typed(network):
        name, layer = site.node.name, LAYERS.get(site.node.layer)
        read = [maps[source] for source in site.node.inputs]
        if not read:
            unit = torch.eye(size, dtype=torch.float64)
            maps[name] = unit.reshape(size, *site.output.shape)
        elif isinstance(layer, Activation):
            maps[name] = read[0]
        else:
            nothing = [torch.zeros_like(values) for values in read]
            maps[name] = layer.torch_exact(site, read) - layer.torch_exact(site, nothing)
        if site.constants:
            found[name] = maps[name].reshape(size, -1).numpy()
    return found
