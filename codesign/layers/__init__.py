"""Layer types, one file each, and what follows from them for whole networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError
from codesign.ir import Network, QuantizedNetwork
from codesign.registry import Registry

if TYPE_CHECKING:
    import torch

    from codesign.layers.base import Layer, WordRange

LAYERS: Registry[Layer] = Registry(kind="layer type", package="codesign.layers")


def check_network(network: Network) -> None:
    """Check every node of a network against its layer type.

    Raises:
        DesignError: an unknown layer type, or an illegal parameter.
    """
    for node in network.nodes:
        LAYERS.get(node.layer).check(node)


def infer_formats(network: QuantizedNetwork) -> dict[str, WordRange]:
    """Derive the exact format and word range of every node's output, in topological order."""
    ranges: dict[str, WordRange] = {}
    for node in network.network.nodes:
        layer = LAYERS.get(node.layer)
        ranges[node.name] = layer.infer(node, network, [ranges[name] for name in node.inputs])
    return ranges


def run_words(
    network: QuantizedNetwork, words: NDArray[np.int64], *, trace: bool = False
) -> NDArray[np.int64] | dict[str, NDArray[np.int64]]:
    """Evaluate a network on raw input words in integer arithmetic: the reference for all exports.

    Args:
        network: the quantized network.
        words: int64[n, n_inputs], words of `network.input_format`.
        trace: return the words of every node instead of the last one's.

    Returns:
        int64[n, n_outputs], or with `trace` a mapping from node name to its words.

    Raises:
        DesignError: wrong shape, or a word outside the input format.
    """
    words = np.asarray(words, dtype=np.int64)
    nodes = network.network.nodes
    n_inputs = int(nodes[0].parameters["width"])
    if words.ndim != 2 or words.shape[1] != n_inputs:
        raise DesignError(f"input words have shape {words.shape}; expected (n, {n_inputs})")
    fmt = network.input_format
    if words.size and (words.min() < fmt.min_word or words.max() > fmt.max_word):
        raise DesignError(
            f"an input word lies outside {fmt.to_hls()}; quantize the inputs to that format"
        )
    ranges = infer_formats(network)
    values = {nodes[0].name: words}
    for node in nodes[1:]:
        values[node.name] = LAYERS.get(node.layer).run_words(
            node,
            network,
            [values[name] for name in node.inputs],
            [ranges[name].format for name in node.inputs],
            ranges[node.name].format,
        )
    return values if trace else values[nodes[-1].name]


def run_torch(network: QuantizedNetwork, words: NDArray[np.int64]) -> NDArray[np.int64]:
    """Evaluate a network with torch in float64 on real values; an oracle independent of `run_words`.

    Args:
        network: the quantized network.
        words: int64[n, n_inputs] input words.

    Returns:
        int64[n, n_outputs] output words.

    Raises:
        DesignError: an intermediate word needs more than 53 bits, so float64 would round.
    """
    import torch

    ranges = infer_formats(network)
    for name, known in ranges.items():
        if known.format.bits > 53:
            raise DesignError(
                f"{name}: {known.format.to_hls()} exceeds float64's 53 bits; use fewer bits"
            )
    nodes = network.network.nodes
    values: dict[str, torch.Tensor] = {
        nodes[0].name: torch.from_numpy(network.input_format.values_from_words(words))
    }
    for node in nodes[1:]:
        values[node.name] = LAYERS.get(node.layer).torch_exact(
            node, network, [values[name] for name in node.inputs], ranges[node.name].format
        )
    output = network.output_format
    return np.asarray(torch.round(values[nodes[-1].name] / output.lsb).to(torch.int64).numpy())
