"""ONNX and QONNX files to the layers of a synthesis record, for estimates of networks made elsewhere."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from codesign.errors import DesignError
from hw_models.weights import layer_counts

_ACTIVATIONS = {
    "Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "Softmax": "softmax", "LeakyRelu": "leaky_relu",
    "Elu": "elu", "Selu": "selu", "PRelu": "prelu", "Softplus": "softplus", "Softsign": "softsign",
    "HardSigmoid": "hard_sigmoid",
}  # fmt: skip
_WIRES = {"Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Cast"}
_POOLS = {
    "MaxPool": "Max",
    "AveragePool": "Average",
    "GlobalMaxPool": "Max",
    "GlobalAveragePool": "Average",
}
#: Operators that round a scaled value to a word: what lies between two powers of two is one quantizer.
_ROUNDINGS = {"Floor", "Round", "Clip", "Max", "Min"}
_MERGES = {"Add": "add", "Sub": "subtract", "Mul": "multiply", "Concat": "concatenate"}


@dataclass(kw_only=True)
class _Reader:
    """Walks a graph in order; `types` holds the fixed-point type of each tensor that has one."""

    model: onnx.ModelProto
    default_type: str
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)
    scales: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    layers: list[dict[str, Any]] = field(default_factory=list)
    makers: dict[str, dict[str, Any]] = field(default_factory=dict)
    shapes: dict[str, list[int]] = field(default_factory=dict)
    shifts: dict[str, float] = field(default_factory=dict)
    fractions: dict[str, float] = field(default_factory=dict)
    lows: dict[str, float] = field(default_factory=dict)

    def follow(self, source: str, target: str) -> None:
        """Let a tensor be another one: wires, and every step of a quantizer in standard operators."""
        self.sources[target] = self.sources.get(source, source)
        self.types[target] = self.type_of(source)
        for known in (self.shifts, self.fractions, self.lows):
            if source in known:
                known[target] = known[source]
        if source in self.makers:
            self.makers[target] = self.makers[source]

    def shape(self, name: str, node: onnx.NodeProto) -> list[int]:
        """Return a tensor's shape without the batch."""
        shape = self.shapes.get(name)
        if shape is None or any(n <= 0 for n in shape[1:]):
            raise DesignError(
                f"{node.op_type} {node.name}: shape of {name!r} is unknown; export the ONNX file with fixed shapes"
            )
        return shape[1:]

    def type_of(self, name: str) -> str:
        """Return the fixed-point type of a tensor, looking through wires."""
        return self.types.get(self.sources.get(name, name), self.types.get(name, self.default_type))


def _fixed(bits: int, scale: float, signed: bool) -> str:
    fraction = -math.log2(scale)
    # A scale that is no power of two is realised on the next finer grid.
    return f"ap_{'' if signed else 'u'}fixed<{bits},{bits - math.ceil(fraction - 1e-9)}>"


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    for attribute in node.attribute:
        if attribute.name == name:
            return onnx.helper.get_attribute_value(attribute)
    return default


def _quantizer(reader: _Reader, node: onnx.NodeProto) -> None:
    """Read a QONNX Quant or BipolarQuant, or a standard QuantizeLinear / DequantizeLinear pair."""
    source, target = node.input[0], node.output[0]
    if any(name not in reader.constants for name in node.input[1:] if name):
        raise DesignError(
            f"{node.op_type} {node.name}: scale or width is computed, not constant; fold it first"
        )
    scales = np.asarray(reader.constants[node.input[1]], dtype=np.float64)
    scale = float(np.max(scales))
    if not (scales > 0).all():
        raise DesignError(
            f"{node.op_type} {node.name}: scale {scale}; expected a number above zero"
        )
    if node.op_type == "Quant":
        bits = int(np.max(reader.constants[node.input[3]]))
        signed = bool(_attribute(node, "signed", 1))
    elif node.op_type == "BipolarQuant":
        bits, signed = 1, True
    else:
        zero = (
            reader.constants.get(node.input[2])
            if len(node.input) > 2 and node.input[2]
            else np.zeros(1, np.uint8)
        )
        kind = np.asarray(zero).dtype
        bits, signed = 8 * kind.itemsize, np.issubdtype(kind, np.signedinteger)
    if source in reader.constants:
        values = reader.constants[source]
        if node.op_type == "DequantizeLinear":
            low, high = int(values.min(initial=0)), int(values.max(initial=0))
            signed = low < 0
            bits = max(high.bit_length(), (-low - 1).bit_length() if signed else 1) + signed
            axis = _attribute(node, "axis", 1)
            if scales.size > 1:  # one scale per index of one axis
                scales = scales.reshape(
                    [-1 if i == axis % values.ndim else 1 for i in range(values.ndim)]
                )
            values = values.astype(np.float64) * scales
        reader.constants[target] = values
        reader.scales[target] = scales
        reader.types[target] = _fixed(bits, scale, signed)
        return
    if source in reader.fractions:  # stored in the bytes that a word rounded before fits into
        reader.follow(source, target)
        return
    reader.types[target] = _fixed(bits, scale, signed)
    reader.sources[target] = target
    maker = reader.makers.get(source)
    if maker is not None:
        maker["result_precision"] = reader.types[target]
        reader.makers[target] = maker


def _constant(reader: _Reader, node: onnx.NodeProto) -> None:
    """Fold a wire of a constant: the same words in another arrangement."""
    values = reader.constants[node.input[0]]
    if node.op_type == "Transpose":
        values = np.transpose(values, _attribute(node, "perm", None))
    elif node.op_type == "Reshape":
        values = values.reshape(reader.constants[node.input[1]].astype(int))
    elif node.op_type not in ("Identity", "Cast"):
        raise DesignError(
            f"{node.op_type} {node.name}: of a constant; fold constants before, e.g. with qonnx' cleanup"
        )
    source, target = node.input[0], node.output[0]
    reader.constants[target] = values
    if source in reader.types:
        reader.types[target] = reader.types[source]
    if source in reader.scales:
        scales = reader.scales[source]
        if scales.size > 1:  # arranged as the values are
            scales = np.broadcast_to(scales, reader.constants[source].shape)
            is_moved = node.op_type == "Transpose"
            scales = (
                np.transpose(scales, _attribute(node, "perm", None))
                if is_moved
                else scales.reshape(values.shape)
            )
        reader.scales[target] = scales


def _power_of_two(values: NDArray[Any]) -> float | None:
    """Return the greatest binary logarithm, None where an element is neither a power of two nor 0 (no lane)."""
    known = np.asarray(values, dtype=np.float64)
    mantissa, exponent = np.frexp(known[known != 0])
    if not (mantissa == 0.5).all():
        return None
    return float(exponent.max() - 1) if exponent.size else 0.0


def _is_address(reader: _Reader, name: str) -> bool:
    """Whether a tensor only says where in a table to look."""
    readers = [node for node in reader.model.graph.node if name in node.input]
    return bool(readers) and all(
        node.input[1] == name
        if node.op_type == "Gather"
        else node.op_type in ("Add", "Cast") and _is_address(reader, node.output[0])
        for node in readers
    )


def _rounding(reader: _Reader, node: onnx.NodeProto, source: str) -> None:
    """Read one step of a quantizer in standard operators: scale, round, clip, scale back."""
    target = node.output[0]
    reader.follow(source, target)
    shift = reader.shifts.get(source, 0.0)
    constants = [reader.constants[name] for name in node.input if name in reader.constants]
    if node.op_type in ("Floor", "Round"):
        reader.fractions[target] = shift
        return
    if source not in reader.fractions:
        raise DesignError(
            f"{node.op_type} {node.name}: clips a value that was not rounded before; no cost law covers it"
        )
    words = [
        np.asarray(c, dtype=np.float64) * 2.0 ** (reader.fractions[source] - shift)
        for c in constants
    ]
    if node.op_type == "Max":
        reader.lows[target] = float(words[0].min())
        return
    low = float(words[0].min()) if node.op_type == "Clip" else reader.lows.get(source, 0.0)
    high = float(words[-1].max())
    bits = max(int(high), 0).bit_length() + (low < 0)
    reader.types[target] = _fixed(max(bits, 1), 2.0 ** -reader.fractions[source], low < 0)
    reader.sources[target] = target
    if target in reader.makers:
        reader.makers[target]["result_precision"] = reader.types[target]


def _weights(reader: _Reader, node: onnx.NodeProto, name: str, input_type: str) -> dict[str, Any]:
    weights = reader.constants[name]
    scale = reader.scales.get(name)
    if scale is None:
        return {"weight_precision": reader.default_type}
    words = np.rint(np.asarray(weights, dtype=np.float64) / scale).astype(np.int64)
    if node.op_type == "Gemm" and _attribute(node, "transB", 0):
        words = words.T
    if words.ndim > 2:  # convolution: outputs first
        words = np.moveaxis(words, 0, -1)
    return {"weight_precision": reader.types[name], **layer_counts(words, _bits(input_type))}


def _bits(kind: str) -> int:
    return int(kind.split("<")[1].split(",")[0])


def _add_layer(reader: _Reader, node: onnx.NodeProto, source: str, layer: dict[str, Any]) -> None:
    layer = {"name": node.name or node.output[0], "input_precision": reader.type_of(source)} | layer
    layer.setdefault("result_precision", reader.default_type)
    reader.layers.append(layer)
    reader.makers[node.output[0]] = layer
    reader.types[node.output[0]] = layer["result_precision"]


def _multiplied(reader: _Reader, node: onnx.NodeProto) -> None:
    source, name = node.input[0], node.input[1]
    if name not in reader.constants:
        raise DesignError(
            f"{node.op_type} {node.name}: the second operand is no constant; no cost law covers it"
        )
    kind = reader.type_of(source)
    facts = _weights(reader, node, name, kind)
    shape_in, shape_out = reader.shape(source, node), reader.shape(node.output[0], node)
    fan_in = (
        int(np.prod(reader.constants[name].shape)) // shape_out[-1 if node.op_type != "Conv" else 0]
    )
    width = _bits(kind) + _bits(facts["weight_precision"]) + math.ceil(math.log2(max(fan_in, 2)))
    # float weights: nothing says how sums are rounded, so hls4ml's rule holds: to the default type
    is_float = name not in reader.scales
    facts["accum_precision"] = (
        reader.default_type if is_float else f"ap_fixed<{width},{width // 2}>"
    )
    if node.op_type in ("MatMul", "Gemm"):
        # An exact product keeps every bit until something rounds it.
        _add_layer(reader, node, source, {
            "type": "Dense", "in_shape": shape_in, "out_shape": shape_out, "units": shape_out[-1],
            "result_precision": facts["accum_precision"], **facts,
        })  # fmt: skip
        return
    channels, *pixels = shape_in
    filters, *pixels_out = shape_out
    group = _attribute(node, "group", 1)
    if group not in (1, channels):
        raise DesignError(
            f"Conv {node.name}: {group} groups of {channels} channels; no cost law covers it"
        )
    kernel = list(_attribute(node, "kernel_shape", reader.constants[name].shape[2:]))
    dimension = f"{len(pixels)}D"
    _add_layer(reader, node, source, {
        "type": f"{'DepthwiseConv' if group > 1 else 'Conv'}{dimension}",
        "in_shape": [*pixels, channels], "out_shape": [*pixels_out, filters], "filters": filters,
        "kernel": kernel, "stride": list(_attribute(node, "strides", [1] * len(pixels))),
        "result_precision": facts["accum_precision"], **facts,
    })  # fmt: skip


def _channels_last(shape: list[int]) -> list[int]:
    return [*shape[1:], shape[0]] if len(shape) > 1 else shape


def _node(reader: _Reader, node: onnx.NodeProto) -> None:
    kind, target = node.op_type, node.output[0]
    dynamic = [name for name in node.input if name and name not in reader.constants]
    if kind == "Constant":
        reader.constants[target] = numpy_helper.to_array(_attribute(node, "value", None))
    elif kind in ("Quant", "BipolarQuant", "QuantizeLinear", "DequantizeLinear"):
        _quantizer(reader, node)
    elif kind in ("MatMul", "Gemm", "Conv"):
        _multiplied(reader, node)
    elif kind in _WIRES and not dynamic:
        _constant(reader, node)
    elif kind in _WIRES or (kind in ("Add", "Sub") and len(dynamic) == 1):
        # a constant added behind a product is its bias; behind anything else it only moves words
        reader.follow(dynamic[0], target)
    elif (
        kind in ("Mul", "Div")
        and len(dynamic) == 1
        and (
            shift := _power_of_two(
                reader.constants[next(n for n in node.input if n in reader.constants)]
            )
        )
        is not None
    ):
        reader.follow(dynamic[0], target)
        reader.shifts[target] = reader.shifts.get(dynamic[0], 0.0) + (
            shift if kind == "Mul" else -shift
        )
    elif kind == "Mul" and len(dynamic) == 1 and _is_address(reader, target):
        reader.follow(dynamic[0], target)  # the address of a lane's own table: word * lanes + lane
    elif kind in _ROUNDINGS and len(dynamic) == 1:
        _rounding(reader, node, dynamic[0])
    elif (
        kind in ("Max", "Sub")
        and len(dynamic) == 2
        and len({reader.sources.get(name, name) for name in dynamic}) == 1
    ):
        # two branches of one tensor: the larger of x and x / 8, or what wrapping leaves
        reader.follow(dynamic[0], target)
        if kind == "Max":
            shape = _channels_last(reader.shape(target, node))
            _add_layer(reader, node, dynamic[0], {
                "type": "Activation", "activation": "leaky_relu", "in_shape": shape, "out_shape": shape,
                "result_precision": reader.type_of(dynamic[0]),
            })  # fmt: skip
    elif kind == "Gather" and node.input[0] in reader.constants:
        shape = _channels_last(reader.shape(target, node))
        _add_layer(reader, node, dynamic[0], {
            "type": "Activation", "activation": "tanh", "in_shape": shape, "out_shape": shape,
            "table_size": 2 ** _bits(reader.type_of(dynamic[0])),  # lanes may have tables of their own
            "result_precision": reader.type_of(dynamic[0]),
        })  # fmt: skip
    elif kind in _ACTIVATIONS:
        shape = _channels_last(reader.shape(target, node))
        _add_layer(reader, node, dynamic[0], {
            "type": "Activation", "activation": _ACTIVATIONS[kind], "in_shape": shape, "out_shape": shape,
            "result_precision": reader.type_of(dynamic[0]),
        })  # fmt: skip
    elif kind == "BatchNormalization":
        shape = _channels_last(reader.shape(target, node))
        _add_layer(reader, node, dynamic[0], {"type": kind, "in_shape": shape, "out_shape": shape})
    elif kind in _POOLS:
        shape_in = _channels_last(reader.shape(dynamic[0], node))
        shape_out = _channels_last(reader.shape(target, node))
        is_global = kind.startswith("Global")
        layer: dict[str, Any] = {
            "type": f"{'GlobalPooling' if is_global else 'Pooling'}{len(shape_in) - 1}D", "in_shape": shape_in,
            "out_shape": shape_out[-1:] if is_global else shape_out, "pool_op": _POOLS[kind],
            "result_precision": reader.type_of(dynamic[0]),
        }  # fmt: skip
        if not is_global:
            layer |= {
                "kernel": list(_attribute(node, "kernel_shape", [])),
                "stride": list(_attribute(node, "strides", [])),
            }
        _add_layer(reader, node, dynamic[0], layer)
    elif kind in _MERGES and len(dynamic) > 1:
        shape = _channels_last(reader.shape(target, node))
        _add_layer(reader, node, dynamic[0], {
            "type": _MERGES[kind], "in_shape": shape, "out_shape": shape,
            "result_precision": reader.type_of(dynamic[0]),
        })  # fmt: skip
    else:
        raise DesignError(
            f"{kind} {node.name}: no cost law covers this operator; give a QONNX file (Quant nodes, MatMul, Conv, ...)"
        )


def onnx_layers(path: Path, *, default_type: str = "ap_fixed<16,6>") -> list[dict[str, Any]]:
    """Read the layers of an ONNX or QONNX file in the schema of synthesis records.

    Args:
        path: the file.
        default_type: fixed-point type of everything that no quantizer speaks of.

    Returns:
        Layers with shapes, types, and, for quantized weights, exact zero and digit counts.

    Raises:
        DesignError: the file is no ONNX model, or holds an operator that no cost law covers.
    """
    try:
        model = onnx.load(str(path))
        _import_domains(model)
        inferred = onnx.shape_inference.infer_shapes(model)
    except Exception as error:  # protobuf's and onnx' errors share no base class
        raise DesignError(f"{path}: not a readable ONNX file ({error}); export it again") from error
    reader = _Reader(model=model, default_type=default_type)
    for tensor in model.graph.initializer:
        reader.constants[tensor.name] = numpy_helper.to_array(tensor)
    for value in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output):
        reader.shapes[value.name] = [d.dim_value or 0 for d in value.type.tensor_type.shape.dim]
    for node in model.graph.node:
        # shape inference does not know QONNX' operators: they keep the shape of their data
        if node.op_type in ("Quant", "BipolarQuant") and node.input[0] in reader.shapes:
            reader.shapes.setdefault(node.output[0], reader.shapes[node.input[0]])
    _complete_shapes(reader)
    for node in model.graph.node:
        _node(reader, node)
    if not reader.layers:
        raise DesignError(f"{path}: holds no layer; give the network itself")
    return reader.layers


def _import_domains(model: onnx.ModelProto) -> None:
    """Import the domains of operators that the file forgot to: older QONNX files all did."""
    known = {opset.domain for opset in model.opset_import}
    for domain in sorted({node.domain for node in model.graph.node} - known):
        model.opset_import.append(onnx.helper.make_opsetid(domain, 1))


def _complete_shapes(reader: _Reader) -> None:
    """Give shapes to what follows a QONNX operator: inference stops there."""
    for node in reader.model.graph.node:
        target = node.output[0]
        if target in reader.shapes and all(n > 0 for n in reader.shapes[target][1:]):
            continue
        known = [
            reader.shapes[name]
            for name in node.input
            if name in reader.shapes and name not in reader.constants
        ]
        if not known:
            continue
        if node.op_type in ("MatMul", "Gemm") and node.input[1] in _all_constants(reader):
            weight = _all_constants(reader)[node.input[1]]
            transposed = node.op_type == "Gemm" and _attribute(node, "transB", 0)
            reader.shapes[target] = [*known[0][:-1], weight[0] if transposed else weight[-1]]
        elif node.op_type == "Concat":
            axis = _attribute(node, "axis", -1)
            shape = list(known[0])
            shape[axis] = sum(s[axis] for s in known)
            reader.shapes[target] = shape
        elif node.op_type not in ("Conv", "Flatten", "Reshape", "Transpose", *_POOLS):
            reader.shapes[target] = known[0]
        elif node.op_type == "Flatten":
            reader.shapes[target] = [known[0][0], int(np.prod(known[0][1:]))]


def _all_constants(reader: _Reader) -> Mapping[str, tuple[int, ...]]:
    """Return the shape of each constant, quantized ones included."""
    shapes = {name: tuple(value.shape) for name, value in reader.constants.items()}
    for node in reader.model.graph.node:
        if (
            node.op_type in ("Quant", "BipolarQuant", "DequantizeLinear", "QuantizeLinear")
            and node.input[0] in shapes
        ):
            shapes[node.output[0]] = shapes[node.input[0]]
    return shapes
