"""Precision after training: bits and weights that a network does not miss on its user's data are dropped.

Nothing is trained.  Every move is tried on rows of the data in exact integer arithmetic and kept while the
score stays within a stated loss: a bit less for the range or the fraction of a tensor's words, a coarser
grid for a layer's weights, or its smallest weights set to zero.  Of the moves that the score allows, the
one that saves most products (signed digits of weights times bits of what they multiply) is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from codesign.ir import Network, QuantizedNetwork, TensorType, Words
from codesign.layers import run_words, typed
from codesign.layers._import import exact_type
from hw_models.weights import csd_digits

Floats = NDArray[np.float64]
#: Outputs of the rows, float64[n, n_outputs], to a score of which larger is better.
Merit = Callable[[Floats], float]
#: Share of a layer's weights that one move sets to zero.
_PRUNED_AT_ONCE = 0.04
#: Fewest bits of a word.
_LEAST_BITS = 2


@dataclass(frozen=True, kw_only=True)
class Shrunk:
    """A network of less precision.

    Attributes:
        network: the network.
        merit_before, merit: on the rows that moves were judged by.
        products_before, products: signed digits of weights times bits of what they multiply.
    """

    network: QuantizedNetwork
    merit_before: float
    merit: float
    products_before: float
    products: float


def shrink(
    network: QuantizedNetwork,
    words: NDArray[np.int64],
    merit: Merit,
    *,
    loss: float,
    progress: Callable[[float], None] | None = None,
) -> Shrunk:
    """Drop bits and weights while the score allows it.

    Args:
        network: trained.
        words: int64[n, n_inputs] input words that moves are judged by.
        merit: of the network's outputs on them.
        loss: by how much the score may become worse, at least 0.
        progress: told the products left, as a share of those at first.
    """
    at_first = judged = _merit(network, words, merit)
    before = left = products(network)
    while True:
        tried = sorted(
            ((products(moved), i, moved) for i, moved in enumerate(_moves(network))),
            key=lambda t: t[:2],
        )
        for cost, _, moved in tried:
            if cost >= left:
                return Shrunk(
                    network=network, merit_before=at_first, merit=judged, products_before=before,
                    products=left,
                )  # fmt: skip
            found = _merit(moved, words, merit)
            if found >= at_first - loss:
                network, judged, left = moved, found, cost
                if progress is not None:
                    progress(left / max(before, 1.0))
                break
        else:
            return Shrunk(
                network=network, merit_before=at_first, merit=judged, products_before=before,
                products=left,
            )  # fmt: skip


def products(network: QuantizedNetwork) -> float:
    """Return what the products of a network cost: signed digits of weights times bits of their inputs."""
    total = 0.0
    for site in typed(network):
        if "weight" in site.constants:
            words = site.constants["weight"].values
            shifted = words // np.maximum(words & -words, 1)
            total += float(csd_digits(shifted).sum()) * site.source.format.bits
        if site.result is not None:
            total += 0.5 * float(np.broadcast_to(site.result.bits, site.result.shape).sum())
    return total


def _merit(network: QuantizedNetwork, words: NDArray[np.int64], merit: Merit) -> float:
    outputs = run_words(network, words)
    assert isinstance(outputs, np.ndarray), "without trace, words"
    return merit(network.output_format.values_from_words(outputs))


def _moves(network: QuantizedNetwork) -> Iterator[QuantizedNetwork]:
    """Yield every network that one move makes of this one; the ports keep their types."""
    first, last = network.network.nodes[0].name, network.network.nodes[-1].name
    for name, known in network.result.items():
        if name in (first, last):
            continue
        used = known.bits > _LEAST_BITS
        for integer_bits in (known.integer_bits, known.integer_bits - 1):
            bits = np.where(used, known.bits - 1, known.bits)
            lost = np.where(used, integer_bits, known.integer_bits)
            yield _with_result(network, name, replace(known, bits=bits, integer_bits=lost))
    for name, roles in network.constants.items():
        real = roles["weight"].real
        used = real[real != 0]
        if used.size == 0:
            continue
        fraction = roles["weight"].type.fraction_bits
        coarse = np.ldexp(np.rint(np.ldexp(real, fraction - 1)), 1 - fraction)
        yield from _with_weights(network, name, coarse)
        n_dropped = max(1, round(_PRUNED_AT_ONCE * used.size))
        bound = np.partition(np.abs(used), n_dropped - 1)[n_dropped - 1]
        yield from _with_weights(network, name, np.where(np.abs(real) <= bound, 0.0, real))


def _with_result(network: QuantizedNetwork, name: str, result: TensorType) -> QuantizedNetwork:
    changed = {name: {"result_bits": result.covering.bits}}
    return _rebuilt(network, changed, result={**network.result, name: result})


def _with_weights(network: QuantizedNetwork, name: str, real: Floats) -> Iterator[QuantizedNetwork]:
    known = exact_type(real)
    if known is None or not real.any():
        return
    weights = Words(values=known.words_from_values(real), type=known)
    share = min(float((weights.values == 0).mean()), 0.99)
    changed = {name: {"weight_bits": max(known.covering.bits, 2), "pruned_fraction": share}}
    roles = {**network.constants[name], "weight": weights}
    yield _rebuilt(network, changed, constants={**network.constants, name: roles})


def _rebuilt(
    network: QuantizedNetwork, changed: Mapping[str, Mapping[str, int | float]], **parts: object
) -> QuantizedNetwork:
    nodes = tuple(
        replace(node, parameters={**node.parameters, **changed.get(node.name, {})})
        for node in network.network.nodes
    )
    built = Network(nodes=nodes)
    candidate = replace(network.candidate, network=built)
    return replace(network, network=built, candidate=candidate, **parts)  # type: ignore[arg-type]
