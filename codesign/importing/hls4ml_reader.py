"""hls4ml's model graph: what its front ends make of Keras, HGQ2, QKeras and PyTorch, layer by layer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from codesign.errors import DesignError
from codesign.importing.nodes import read_node
from codesign.ir import FixedPoint
from codesign.layers._import import Constant, Draft, Foreign, Grid, Value

#: Weights of hls4ml's layers, in the order in which our readers expect them.
_WEIGHTS = ("weight", "scale", "bias")
#: Layers whose result is what they read, in another arrangement: nothing is rounded.
_WIRES = ("Reshape", "Transpose", "Concatenate", "InputLayer", "Input")
_MODES = {"TRN_ZERO": None, "RND_ZERO": None, "RND_INF": None, "RND_MIN_INF": None}


def read_graph(graph: Any) -> tuple[Draft, Value]:
    """Read a graph after hls4ml's own passes.

    Args:
        graph: an `hls4ml.model.ModelGraph`.

    Returns:
        The network so far, and the value that the graph puts out.

    Raises:
        DesignError: a layer cannot be built; names it.
    """
    draft = Draft()
    known: dict[str, Value] = {}
    last: Value | None = None
    counts: dict[str, int] = {}
    for layer in graph.get_layers():
        for name in layer.inputs:
            counts[name] = counts.get(name, 0) + 1
    layers = _inputs_first(list(graph.get_layers()))
    n_inputs = sum(layer.class_name in ("InputLayer", "Input") for layer in layers)
    parts = iter(
        draft.inputs([_shape(layer) for layer in layers[:n_inputs]]) if n_inputs > 1 else ()
    )
    for layer in layers:
        node = _foreign(layer, known)
        if layer.class_name in ("InputLayer", "Input"):
            last = draft.input(_shape(layer)) if n_inputs == 1 else next(parts)
            following = [x for x in graph.get_layers() if layer.outputs[0] in x.inputs]
            is_quantized = bool(following) and all(
                x.class_name == "FixedPointQuantizer" for x in following
            )
            if not is_quantized:
                last = _cast(node, draft, last, layer)
        else:
            result = read_node(node, draft)
            if not isinstance(result, Value):
                raise node.refuse("is constant; fold it first")
            # types of the bit-exact pass hold what is needed of every sum: only quantizers round, of
            # which those of one type for all elements were fused into the layer before
            is_exact = layer.class_name in (*_WIRES, "FixedPointQuantizer") or (
                layer.attributes.get("bit_exact_transformed", False)
                and not layer.attributes.get("_result_t_propagated", False)
            )
            last = result if is_exact else _cast(node, draft, result, layer)
        if counts.get(layer.outputs[0], 0) > 1:
            last = draft.shared(node, last)
        known[layer.outputs[0]] = last
    if last is None:
        raise DesignError("the model holds no layer; give the network itself")
    return draft, draft.joined({name: known[name] for name in graph.outputs})


def _shape(layer: Any) -> tuple[int, ...]:
    return tuple(int(n) for n in layer.get_output_variable().shape)


def _inputs_first(layers: list[Any]) -> list[Any]:
    """Return the layers, inputs and what rounds them first: all inputs are typed before one is read."""
    inputs = [layer for layer in layers if layer.class_name in ("InputLayer", "Input")]
    names = {layer.outputs[0] for layer in inputs}
    rounding = [
        layer
        for layer in layers
        if layer.class_name == "FixedPointQuantizer" and layer.inputs[0] in names
    ]
    first = [*inputs, *rounding]
    return [*first, *(layer for layer in layers if layer not in first)]


def _foreign(layer: Any, known: dict[str, Value]) -> Foreign:
    kind = str(layer.class_name)
    attributes = {
        key: value
        for key, value in layer.attributes.items()
        if isinstance(value, (int, float, str, list, tuple, np.ndarray, np.generic))
    }
    if kind in ("Activation", "HardActivation", "ParametrizedActivation"):
        function = str(attributes.get("activation", "linear")).lower()
        kind = "LeakyReLU" if function in ("leakyrelu", "leaky_relu") else f"Activation.{function}"
    elif kind == "Merge":
        kind = f"Merge.{attributes['op']}"
    elif kind.startswith("GlobalPooling"):
        kind = f"GlobalPooling.{attributes['pool_op']}"
    weights = {name: w for name, w in layer.weights.items() if name in _WEIGHTS}
    constants = [
        Constant(values=_values(w, str(layer.name)))
        for name in _WEIGHTS
        if (w := weights.get(name)) is not None
    ]
    return Foreign(
        kind=f"hls4ml.{kind}",
        name=str(layer.name),
        inputs=(*(known.get(name) for name in layer.inputs), *constants),
        attributes=attributes,
    )


def _values(weight: Any, name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return constants as the firmware holds them: rounded to their type."""
    values = np.asarray(weight.data, dtype=np.float64)
    known = fixed_point(weight.type.precision, name)
    return values if known is None else known.values_from_words(known.words_from_values(values))


def fixed_point(precision: Any, name: str) -> FixedPoint | None:
    """Return an hls4ml precision as a format; None where it holds everything that it is given (biases of no bits).

    Raises:
        DesignError: it is none that words here have.
    """
    from hls4ml.model.types import FixedPrecisionType, IntegerPrecisionType

    if not isinstance(precision, (FixedPrecisionType, IntegerPrecisionType)):
        raise DesignError(
            f"{name}: its type {precision} is no fixed-point type; choose one like fixed<16,6>"
        )
    rounding = str(getattr(precision, "rounding_mode", None) or "TRN").rpartition(".")[2]
    overflow = str(getattr(precision, "saturation_mode", None) or "WRAP").rpartition(".")[2]
    if rounding in _MODES or overflow not in ("WRAP", "SAT", "SAT_SYM"):
        raise DesignError(
            f"{name}: its type {precision} rounds by {rounding}, {overflow}; use TRN, RND or RND_CONV"
        )
    if abs(int(precision.integer)) > 30 and int(precision.width) <= 2:
        return None  # how hls4ml writes constants that are all zero
    return FixedPoint(
        bits=int(precision.width),
        integer_bits=int(precision.integer),
        signed=bool(precision.signed),
        rounding=rounding,
        overflow="SAT" if overflow == "SAT_SYM" else overflow,
    )


def _cast(node: Foreign, draft: Draft, value: Value, layer: Any) -> Value:
    """Round to the type of a layer's result, which does nothing where the sums fit it."""
    precision = layer.get_output_variable().type.precision
    fmt = fixed_point(precision, str(layer.name))
    if fmt is None:
        return value
    is_symmetric = str(getattr(precision, "saturation_mode", None)).endswith("SAT_SYM")
    return draft.rounded(node, value, replace(Grid.of(fmt), narrow=is_symmetric))
