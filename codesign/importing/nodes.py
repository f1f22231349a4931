"""Which layer type reads a kind of foreign node."""

from __future__ import annotations

import functools

from codesign.errors import DesignError, unknown_name
from codesign.layers import LAYERS
from codesign.layers._import import Constant, Draft, Foreign, Refused, Value
from codesign.layers.base import Layer


@functools.cache
def _readers() -> dict[str, Layer]:
    return {kind: layer for layer in map(LAYERS.get, LAYERS.names()) for kind in layer.foreign}


def read_node(node: Foreign, draft: Draft) -> Value | Constant:
    """Let the layer type that knows a foreign node read it.

    Raises:
        DesignError: no layer type knows its kind, or this one says something that it does not compute.
    """
    layer = _readers().get(node.kind)
    if layer is None:
        framework, _, operator = node.kind.partition(".")
        known = sorted(k.partition(".")[2] for k in _readers() if k.startswith(f"{framework}."))
        raise node.refuse(f"no layer is built from it; {unknown_name('operator', operator, known)}")
    try:
        return layer.read(node, draft)
    except Refused:
        raise
    except DesignError as error:  # of a layer of ours, by our name
        raise node.refuse(str(error)) from error
