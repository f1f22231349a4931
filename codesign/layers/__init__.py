"""Layer types, one file each, and what follows from them for whole networks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError
from codesign.ir import Network, Population, QuantizedNetwork, TensorType
from codesign.layers.base import Site
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


@dataclass(frozen=True, kw_only=True, eq=False)
class TypedNetwork:
    """A quantized network with the type and range of every tensor.

    Attributes:
        sites: every node where it stands, by name, in topological order.
    """

    sites: dict[str, Site]

    def __iter__(self) -> Iterator[Site]:
        return iter(self.sites.values())

    def __getitem__(self, name: str) -> Site:
        return self.sites[name]

    @property
    def input(self) -> WordRange:
        """What is known of the network's input."""
        return next(iter(self)).output

    @property
    def output(self) -> WordRange:
        """What is known of the network's output."""
        return self.sites[next(reversed(self.sites))].output


@dataclass(frozen=True, kw_only=True, eq=False)
class Products:
    """Every matrix product that the nodes of a population do, as their layers describe it; float64[m] each.

    Attributes:
        row: int64[m], the node.
        n_in, n_out: shape of the matrix, zeros included.
        n_uses: how often it is used per event: positions times copies.
        kept: share of the matrix that is not zero.
        vector_bits, matrix_bits: words of its factors.
        is_constant: bool[m], whether the matrix is known when the design is made: weights.
        has_bias: 0 or 1.
    """

    row: NDArray[np.int64]
    n_in: NDArray[np.float64]
    n_out: NDArray[np.float64]
    n_uses: NDArray[np.float64]
    kept: NDArray[np.float64]
    vector_bits: NDArray[np.float64]
    matrix_bits: NDArray[np.float64]
    is_constant: NDArray[np.bool_]
    has_bias: NDArray[np.float64]

    @property
    def n_kept(self) -> NDArray[np.float64]:
        """float64[m], elements of the matrix that are not zero."""
        return self.n_in * self.n_out * self.kept

    @property
    def bit_operations(self) -> NDArray[np.float64]:
        """float64[m], products of all that is not zero, each as wide as both its factors together."""
        return self.n_kept * self.n_uses * self.matrix_bits * self.vector_bits

    @property
    def weight_bits(self) -> NDArray[np.float64]:
        """float64[m], what storing the constants takes."""
        return np.where(self.is_constant, self.n_kept * self.matrix_bits, 0.0)


def products_of(population: Population) -> Products:
    """Collect the products of all nodes, layer type by layer type."""
    columns: list[tuple[NDArray[np.float64], ...]] = []
    for code in np.unique(population.layer):
        rows = np.flatnonzero(population.layer == code)
        layer = LAYERS.get(population.layer_names[code])
        for product in layer.products(population.of(rows)):
            values = (
                rows,
                product.n_in,
                product.n_out,
                np.multiply(product.n_positions, product.n_instances),
                1.0 - np.asarray(product.zero_fraction),
                product.input_bits,
                product.weight_bits,
                product.is_constant,
                product.has_bias,
            )
            columns.append(
                tuple(np.broadcast_to(np.asarray(v, dtype=np.float64), rows.shape) for v in values)
            )
    joined = [np.concatenate(c) for c in zip(*columns, strict=True)] or [np.zeros(0)] * 9
    return Products(
        row=joined[0].astype(np.int64),
        n_in=joined[1],
        n_out=joined[2],
        n_uses=joined[3],
        kept=joined[4],
        vector_bits=joined[5],
        matrix_bits=joined[6],
        is_constant=joined[7].astype(bool),
        has_bias=joined[8],
    )


#: Keyed by the very object: a network never changes, and what follows from it dies with it.
_TYPED: WeakKeyDictionary[QuantizedNetwork, TypedNetwork] = WeakKeyDictionary()


def typed(network: QuantizedNetwork) -> TypedNetwork:
    """Derive the type and range of every tensor of a network, once.

    Raises:
        DesignError: shapes or types do not fit, or a word would need more than 62 bits; names the node.
    """
    if network not in _TYPED:
        sites: dict[str, Site] = {}
        for node in network.network.nodes:
            sites[node.name] = Site(
                node=node,
                inputs=tuple(sites[name].output for name in node.inputs),
                constants=network.constants.get(node.name, {}),
                result=network.result.get(node.name),
                hardware=network.candidate.hardware,
            )
        sites[next(reversed(sites))].output  # noqa: B018  (refuses here what cannot be typed)
        _TYPED[network] = TypedNetwork(sites=sites)
    return _TYPED[network]


def element_bits(
    sites: Mapping[str, Site], types: Mapping[str, TensorType]
) -> dict[str, torch.Tensor]:
    """Return the bits of every element of every node: of its type, or of the words that it can have.

    Args:
        sites: the nodes of a network.
        types: of those that round.

    Returns:
        float64[1, *shape] by node.  Those of types are leaves: what is computed from them has a gradient in each.
    """
    import torch

    bits: dict[str, torch.Tensor] = {}
    for name, site in sites.items():
        kind = LAYERS.get(site.node.layer)
        if name in types:
            own = np.broadcast_to(types[name].bits, types[name].shape).astype(np.float64)
            bits[name] = torch.from_numpy(own)[None].requires_grad_()
        elif kind.is_wiring:
            bits[name] = kind.torch_exact(site, [bits[n] for n in site.node.inputs])
        else:
            bits[name] = torch.from_numpy(site.output.element_bits.astype(np.float64))[None]
    return bits


def port_words(network: QuantizedNetwork, words: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return input words as int64[n, *shape], checked.

    Args:
        network: the quantized network.
        words: int64[n, n_inputs], words of `network.input_format`.

    Raises:
        DesignError: wrong shape, or a word that its element of the input type does not hold.
    """
    words, known = np.asarray(words, dtype=np.int64), network.input_type
    if words.ndim != 2 or words.shape[1] != known.size:
        raise DesignError(f"input words have shape {words.shape}; expected (n, {known.size})")
    shaped = words.reshape(len(words), *known.shape)
    if not known.holds(shaped):
        raise DesignError(
            f"an input word lies outside {known.describe()}; quantize the inputs to that type"
        )
    return shaped


def run_words(
    network: QuantizedNetwork, words: NDArray[np.int64], *, trace: bool = False
) -> NDArray[np.int64] | dict[str, NDArray[np.int64]]:
    """Evaluate a network on raw input words in integer arithmetic: the reference for all exports.

    Args:
        network: the quantized network.
        words: int64[n, n_inputs], words of `network.input_format`.
        trace: return the words of every node instead of the last one's.

    Returns:
        int64[n, n_outputs], or with `trace` a mapping from node name to its words, int64[n, size].

    Raises:
        DesignError: wrong shape, or a word outside the input type.
    """
    first, *others = typed(network)
    values = {first.node.name: port_words(network, words)}
    for site in others:
        layer = LAYERS.get(site.node.layer)
        values[site.node.name] = layer.run_words(site, [values[name] for name in site.node.inputs])
    flat = {name: value.reshape(len(words), -1) for name, value in values.items()}
    return flat if trace else flat[network.network.nodes[-1].name]


def run_torch(network: QuantizedNetwork, words: NDArray[np.int64]) -> NDArray[np.int64]:
    """Evaluate a network with torch in float64 on real values; an oracle independent of `run_words`.

    Args:
        network: the quantized network.
        words: int64[n, n_inputs] input words.

    Returns:
        int64[n, n_outputs] output words.

    Raises:
        DesignError: an intermediate sum needs more than 53 bits, so float64 would round.
    """
    import torch

    first, *others = typed(network)
    for site in others:
        bits = LAYERS.get(site.node.layer).largest_sum(site).bit_length()
        if bits > 53:
            raise DesignError(
                f"{site.node.name}: sums need {bits} bits, float64 holds 53; use fewer bits"
            )
    shaped = port_words(network, words)
    values = {first.node.name: torch.from_numpy(network.input_type.values_from_words(shaped))}
    for site in others:
        layer = LAYERS.get(site.node.layer)
        values[site.node.name] = layer.torch_exact(
            site, [values[name] for name in site.node.inputs]
        )
    output = values[network.network.nodes[-1].name].reshape(len(words), -1)
    return np.asarray(torch.round(output / network.output_format.lsb).to(torch.int64).numpy())
