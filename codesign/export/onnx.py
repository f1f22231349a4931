"""ONNX of a quantized network: standard operators, and QONNX for arbitrary widths.

Both graphs compute on real values and take real inputs.  Rounding down is not what QuantizeLinear does
(it rounds to nearest, ties to even), so every rounding is written out: multiply by 2**f, Floor, divide,
Clip; a QuantizeLinear/DequantizeLinear pair follows that is then exact and tells tools the width
(words up to 16 bits; wider ones go without the pair).  Every constant factor is a power of two.

Arithmetic is float32 while every word and partial sum fits its 24 bits, else float64 (53 bits): the
export says which, and refuses what float64 cannot hold.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError, ExportError, ToolError
from codesign.ir import FixedPoint, QuantizedNetwork, TensorType, Words
from codesign.layers import LAYERS, port_words, typed

if TYPE_CHECKING:
    import onnx
    import onnxruntime
    from onnx.reference import ReferenceEvaluator

    from codesign.layers._export import OnnxGraph

#: Operator set: 21 is the first whose QuantizeLinear knows 16-bit words.
OPSET = 21
#: File format version of each operator set that is written: ONNX Runtime 1.17 (CMS software of 2025) reads
#: operator sets up to 20 and versions up to 9; the library's default is 14.
IR_VERSIONS = {19: 9, OPSET: 10}
QONNX_DOMAIN = "qonnx.custom_op.general"
#: Name of the graph's input: hls4ml refuses a QONNX input called "input".
_INPUT = {"standard": "input", "qonnx": "network_input"}
#: QONNX's names of the roundings that it has.
_QUANT_MODES = {"TRN": "FLOOR", "RND_CONV": "ROUND"}


def check_opset(opset: int) -> int:
    """Return an operator set that is written.

    Raises:
        ExportError: it is another one.
    """
    if opset not in IR_VERSIONS:
        known = ", ".join(map(str, IR_VERSIONS))
        raise ExportError(f"ONNX operator set {opset} is not written; choose one of {known}")
    return opset


@dataclass(frozen=True, kw_only=True)
class OnnxExport:
    """A network as ONNX.

    Attributes:
        flavor: "standard" or "qonnx".
        content: the file.
        arithmetic: "float32" or "float64".
        without_pair: nodes that round in plain operators, without a QuantizeLinear/DequantizeLinear pair or
            Quant node: words over 16 bits, and types of single elements or modes that these do not have.
    """

    flavor: str
    content: bytes
    arithmetic: str
    without_pair: tuple[str, ...]


def words_needed_bits(network: QuantizedNetwork) -> tuple[int, str]:
    """Return how many bits a float's significand needs for every word and partial sum, and which node asks."""
    worst, where = 1, network.network.nodes[0].name
    for site in typed(network):
        bits = LAYERS.get(site.node.layer).largest_sum(site).bit_length()
        if bits > worst:
            worst, where = bits, site.node.name
    return worst, where


def _arithmetic(network: QuantizedNetwork) -> str:
    bits, where = words_needed_bits(network)
    if bits <= 24:
        return "float32"
    if bits <= 53:
        return "float64"
    raise ExportError(
        f"{where}: sums need {bits} bits, ONNX's widest type (float64) holds 53; use fewer weight or activation bits"
    )


class _Graph:
    """What both flavours share: nodes, constants, unique names.  Implements `layers._export.OnnxGraph`."""

    def __init__(self, arithmetic: str, opset: int) -> None:
        self.arithmetic = arithmetic
        self.opset = opset
        self.dtype = np.dtype(arithmetic)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self.scope = ""
        self.without_pair: list[str] = []
        self._n_names = 0

    def _name(self, stem: str) -> str:
        self._n_names += 1
        return f"{self.scope}_{stem}_{self._n_names}"

    def operator(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        import onnx

        output = self._name(op_type.lower())
        self.nodes.append(
            onnx.helper.make_node(op_type, list(inputs), [output], name=output, **attributes)
        )
        return output

    def constant(self, values: NDArray[Any], name: str) -> str:
        import onnx

        self.constants[name] = onnx.numpy_helper.from_array(
            np.ascontiguousarray(values).reshape(values.shape), name
        )
        return name

    def real(self, values: NDArray[np.float64]) -> str:
        return self.constant(np.asarray(values, dtype=self.dtype), self._name("constant"))

    def integers(self, values: Sequence[int]) -> str:
        return self.constant(np.asarray(values, dtype=np.int64), self._name("integers"))

    def indices(self, tensor: str) -> str:
        return self._cast(tensor, "", "int64")

    def reals(self, tensor: str) -> str:
        return self._cast(tensor, "bool", self.arithmetic)

    def _cast(self, tensor: str, source: str, target: str) -> str:
        import onnx

        if source == target:
            return tensor
        return self.operator(
            "Cast", tensor, to=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(target))
        )

    def rounded(self, tensor: str, result: TensorType) -> str:
        """Write rounding and overflow to the elements' own types in standard operators."""
        lsb = np.ldexp(1.0, -result.element_fraction_bits)
        steps = self.operator("Mul", tensor, self.real(1.0 / lsb))
        if result.rounding == "RND":
            steps = self.operator("Add", steps, self.real(np.array(0.5)))
        # ONNX rounds ties to even, which is RND_CONV
        steps = self.operator("Round" if result.rounding == "RND_CONV" else "Floor", steps)
        low, high = (
            np.unique(words) if result.uniform else words
            for words in (
                result.values_from_words(result.min_words) / lsb,
                result.values_from_words(result.max_words) / lsb,
            )
        )
        if result.overflow == "SAT":
            steps = self.operator("Max", steps, self.real(low))
            steps = self.operator("Min", steps, self.real(high))
        else:  # subtract the multiple of the span that leaves a word in range
            span, least = self.real(high - low + 1.0), self.real(low)
            turns = self.operator("Div", self.operator("Sub", steps, least), span)
            multiple = self.operator("Mul", self.operator("Floor", turns), span)
            steps = self.operator("Sub", steps, multiple)
        return self.operator("Mul", steps, self.real(lsb))


class _StandardGraph(_Graph):
    """Standard operators with QuantizeLinear/DequantizeLinear."""

    def _storage(self, fmt: FixedPoint) -> np.dtype[Any] | None:
        has_16 = self.opset >= OPSET
        width = 8 if fmt.bits <= 8 else 16 if fmt.bits <= 16 and has_16 else None
        return None if width is None else np.dtype(f"{'' if fmt.signed else 'u'}int{width}")

    def stored(self, name: str, words: Words) -> str:
        fmt = words.type.covering
        # float32, in which DequantizeLinear computes, would round more than 24 bits; ONNX Runtime 1.17 fuses 32-bit
        # weights into a QGemm that it then refuses
        if fmt.bits > 24 or self.opset < OPSET:
            return self.constant(words.real.astype(self.dtype), name)
        # never 8 bits: ONNX Runtime fuses 8-bit weights into MatMulNBits, which rounds the activations
        storage = np.dtype("int16" if fmt.bits <= 16 - (not fmt.signed) else "int32")
        integers = self.constant(words.values.astype(storage), name)
        scale = self.constant(np.array(fmt.lsb, dtype=np.float32), f"{name}_scale")
        return self._cast(
            self.operator("DequantizeLinear", integers, scale), "float32", self.arithmetic
        )

    def quantize(self, tensor: str, result: TensorType) -> str:
        fmt = result.uniform
        if fmt is None or (fmt.rounding, fmt.overflow) != ("TRN", "SAT"):
            self.without_pair.append(self.scope)
            return self.rounded(tensor, result)
        steps = self.operator(
            "Floor", self.operator("Mul", tensor, self.real(np.array(1.0 / fmt.lsb)))
        )
        rounded = self.operator("Mul", steps, self.real(np.array(fmt.lsb)))
        clipped = self.operator(
            "Clip", rounded, self.real(np.array(fmt.min_value)), self.real(np.array(fmt.max_value))
        )
        storage = self._storage(fmt)
        if storage is None:
            self.without_pair.append(self.scope)
            return clipped
        scale = self.constant(np.array(fmt.lsb, dtype=np.float32), self._name("scale"))
        zero = self.constant(np.zeros((), dtype=storage), self._name("zero"))
        narrow = self._cast(clipped, self.arithmetic, "float32")
        pair = self.operator(
            "DequantizeLinear", self.operator("QuantizeLinear", narrow, scale, zero), scale, zero
        )
        return self._cast(pair, "float32", self.arithmetic)


class _QonnxGraph(_Graph):
    """QONNX: `Quant` nodes that round down (FLOOR) and saturate."""

    def _quant(self, tensor: str, result: TensorType, output: str) -> str:
        import onnx

        lsb = np.ldexp(1.0, -result.element_fraction_bits)
        scale = self.constant(np.asarray(lsb, dtype=self.dtype), f"{output}_scale")
        zero = self.constant(np.zeros((), dtype=self.dtype), f"{output}_zero")
        bits = self.constant(np.asarray(result.bits, dtype=self.dtype), f"{output}_bits")
        self.nodes.append(
            onnx.helper.make_node(
                "Quant",
                [tensor, scale, zero, bits],
                [output],
                name=output,
                domain=QONNX_DOMAIN,
                signed=int(result.signed),
                narrow=0,
                rounding_mode=_QUANT_MODES[result.rounding],
            )
        )
        return output

    def stored(self, name: str, words: Words) -> str:
        values, fmt = (
            self.constant(words.real.astype(self.dtype), f"{name}_values"),
            words.type.covering,
        )
        if fmt.bits == 1 and fmt.signed:  # constants fit a wider word as well
            fmt = replace(fmt, bits=2, integer_bits=fmt.integer_bits + 1)
        return self._quant(
            values, TensorType.of(replace(fmt, rounding="TRN"), words.type.shape), name
        )

    def quantize(self, tensor: str, result: TensorType) -> str:
        if not _is_quant(result):
            self.without_pair.append(self.scope)
            return self.rounded(tensor, result)
        return self._quant(tensor, result, self._name("quant"))


def _is_quant(result: TensorType) -> bool:
    """Whether a `Quant` node computes this: one sign and width for all elements, and a mode it has.

    It saturates, knows no half-up, and reads one signed bit as {-1, +1}; the qonnx library reads scales of
    single elements, but widths of whole tensors only.
    """
    return (
        result.overflow == "SAT"
        and result.rounding in _QUANT_MODES
        and result.signed.ndim == result.bits.ndim == 0
        and int(result.bits) >= 1 + int(result.signed)
    )


def _metadata(
    network: QuantizedNetwork, flavor: str, arithmetic: str, study: str, scaling: Mapping[str, Any]
) -> dict[str, str]:
    return {
        "codesign_study": study,
        "codesign_candidate_digest": network.candidate.digest,
        "codesign_network_digest": network.digest,
        "codesign_flavor": flavor,
        "codesign_arithmetic": arithmetic,
        "codesign_input_format": network.input_format.to_hls(),
        "codesign_output_format": network.output_format.to_hls(),
        "codesign_precision": json.dumps(
            {site.node.name: site.output.type.describe() for site in typed(network)},
            sort_keys=True,
        ),
        "codesign_input_scaling": json.dumps(dict(scaling), sort_keys=True),
    }


#: Metadata of our own files: the network as `QuantizedNetwork.to_bytes`, and what the graph was that says the same.
_NETWORK, _GRAPH = "codesign_network", "codesign_graph_digest"


def _graph_digest(model: onnx.ModelProto) -> str:
    return hashlib.sha256(model.graph.SerializeToString(deterministic=True)).hexdigest()


def own_network(model: onnx.ModelProto, origin: str) -> QuantizedNetwork | None:
    """Return the network that a file of ours was exported from, with its hardware.

    Its graph computes softmax and tables in standard operators, of which no reader makes the layer again.

    Args:
        model: any file.
        origin: where it came from, for errors.

    Returns:
        None where the file is not ours, is of an older version, or its graph was changed since.

    Raises:
        DesignError: the network in it is damaged.
    """
    said = {entry.key: entry.value for entry in model.metadata_props}
    if _NETWORK not in said or said.get(_GRAPH) != _graph_digest(model):
        return None
    try:
        content = base64.b64decode(said[_NETWORK], validate=True)
    except ValueError as error:
        raise DesignError(
            f"{origin}: its metadata are damaged ({error}); export it again"
        ) from error
    return QuantizedNetwork.from_bytes(content, origin)


def _export(
    network: QuantizedNetwork,
    graph: _Graph,
    flavor: str,
    study: str,
    scaling: Mapping[str, Any],
    batch: int | str,
) -> OnnxExport:
    import onnx

    sites = typed(network)
    outputs: dict[str, str] = {}
    for site in sites:
        node, graph.scope = site.node, site.node.name
        inputs = [outputs[name] for name in node.inputs] or [_INPUT[flavor]]
        outputs[node.name] = LAYERS.get(node.layer).to_onnx(site, cast("OnnxGraph", graph), inputs)
    last = network.network.nodes[-1]
    # rename rather than append an Identity: hls4ml drops Identity nodes, and with it the output
    for made in graph.nodes:
        for i, tensor in enumerate(made.output):
            if tensor == outputs[last.name]:
                made.output[i] = "output"
    element = onnx.helper.np_dtype_to_tensor_dtype(graph.dtype)
    shape_in, shape_out = ([batch, *known.shape] for known in (sites.input, sites.output))
    opsets = [onnx.helper.make_opsetid("", graph.opset)]
    if flavor == "qonnx":
        opsets.append(onnx.helper.make_opsetid(QONNX_DOMAIN, 1))
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            graph.nodes,
            "codesign_network",
            [onnx.helper.make_tensor_value_info(_INPUT[flavor], element, shape_in)],
            [onnx.helper.make_tensor_value_info("output", element, shape_out)],
            list(graph.constants.values()),
        ),
        opset_imports=opsets,
        ir_version=IR_VERSIONS[graph.opset],
        producer_name="codesign",
    )
    onnx.helper.set_model_props(model, _metadata(network, flavor, graph.arithmetic, study, scaling))
    if flavor == "standard":
        onnx.checker.check_model(model, full_check=True)
        model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    else:
        model = _infer_qonnx_shapes(model)
    own = {_NETWORK: base64.b64encode(network.to_bytes()).decode(), _GRAPH: _graph_digest(model)}
    for key, value in own.items():
        model.metadata_props.add(key=key, value=value)
    return OnnxExport(
        flavor=flavor,
        content=model.SerializeToString(deterministic=True),
        arithmetic=graph.arithmetic,
        without_pair=tuple(dict.fromkeys(graph.without_pair)),
    )


def _infer_qonnx_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.transformation.infer_shapes import InferShapes

    inferred = ModelWrapper(model).transform(InferShapes())
    if unknown := [
        name
        for name in inferred.get_all_tensor_names()
        if not inferred.get_tensor_shape(name)
        and name not in {c.name for c in model.graph.initializer}
    ]:
        raise ExportError(
            f"QONNX shape inference found no shape for {unknown[0]!r}; this layer's export is wrong"
        )
    result: onnx.ModelProto = inferred.model
    return result


def export_onnx(
    network: QuantizedNetwork,
    *,
    study: str = "",
    scaling: Mapping[str, Any] | None = None,
    opset: int = OPSET,
) -> OnnxExport:
    """Export a network as standard ONNX, checked and shape-inferred.

    Args:
        network: the network.
        study: name of the study, for the metadata.
        scaling: the input scaling the firmware needs, for the metadata.
        opset: operator set, one of `IR_VERSIONS`; below 21 weights are floats, words of more than 8 bits without a pair.

    Raises:
        ExportError: a sum needs more than float64's 53 bits, or the operator set is not written.
    """
    graph = _StandardGraph(_arithmetic(network), check_opset(opset))
    return _export(network, graph, "standard", study, scaling or {}, "batch")


def export_qonnx(
    network: QuantizedNetwork,
    *,
    study: str = "",
    scaling: Mapping[str, Any] | None = None,
    opset: int = OPSET,
) -> OnnxExport:
    """Export a network as QONNX: `Quant` nodes of arbitrary width; arguments as in `export_onnx`.

    Raises:
        ExportError: a sum needs more than float64's 53 bits, or the operator set is not written.
    """
    graph = _QonnxGraph(_arithmetic(network), check_opset(opset))
    return _export(network, graph, "qonnx", study, scaling or {}, 1)


def onnx_session(content: bytes, origin: str) -> onnxruntime.InferenceSession:
    """Open a model in ONNX Runtime, on one thread.

    Args:
        content: the model.
        origin: where it came from, for errors.

    Raises:
        ToolError: ONNX Runtime cannot be loaded.
        DesignError: it is no ONNX model.
    """
    try:
        import onnxruntime
        from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidProtobuf
    except ImportError as error:
        raise ToolError(
            f"onnxruntime cannot be loaded ({error}); install codesign's dependencies"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except (Fail, InvalidProtobuf, ValueError, RuntimeError) as error:
        raise DesignError(f"{origin} is no ONNX model: {error}; export it again") from error


def checked_words(values: NDArray[Any], fmt: FixedPoint, origin: str) -> NDArray[np.int64]:
    """Return the words of real values that must lie on the grid of `fmt`.

    Raises:
        ExportError: a value lies off the grid or is not finite.
    """
    scaled = np.ldexp(np.asarray(values, dtype=np.float64), fmt.fraction_bits)
    if not np.isfinite(scaled).all() or (scaled != np.rint(scaled)).any():
        raise ExportError(
            f"{origin} returned values off the grid of {fmt.to_hls()}; the export is wrong"
        )
    return scaled.astype(np.int64)


def run_qonnx(
    export: OnnxExport, network: QuantizedNetwork, words: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Run QONNX on raw input words: `Quant` by the qonnx library, the rest by ONNX' reference evaluator.

    (qonnx 1.0's own executor writes a file version for every node that ONNX Runtime 1.31 refuses.)

    Args:
        export: what `export_qonnx` returned.
        network: its network.
        words: int64[n, n_inputs].

    Returns:
        int64[n, n_outputs] raw output words.

    Raises:
        ToolError: qonnx cannot be loaded.
        ExportError: the model computes values off the output grid.
    """
    import onnx

    model = onnx.ModelProto.FromString(export.content)
    shaped = port_words(network, words)
    values = network.input_type.values_from_words(shaped).astype(export.arithmetic)
    (output,) = qonnx_evaluator(model).run(["output"], {_INPUT["qonnx"]: values})
    return checked_words(np.reshape(output, (len(words), -1)), network.output_format, "qonnx")


def qonnx_evaluator(model: onnx.ModelProto) -> ReferenceEvaluator:
    """Return what runs QONNX: `Quant` by the qonnx library, the rest by ONNX' reference evaluator.

    Raises:
        ToolError: qonnx cannot be loaded.
    """
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.op_run import OpRun

    try:
        from qonnx.custom_op.general.quant import quant
    except ImportError as error:
        raise ToolError(
            f"qonnx cannot be loaded ({error}); install codesign's dependencies"
        ) from error

    class Quant(OpRun):
        op_domain = QONNX_DOMAIN

        def _run(  # type: ignore[no-untyped-def]
            self, x, scale, zero, bits, signed=None, narrow=None, rounding_mode=None
        ):
            mode = rounding_mode or "ROUND"  # the only attribute that may be left out
            return (quant(x, scale, zero, bits, signed, narrow, mode).astype(x.dtype),)

    return ReferenceEvaluator(model, new_ops=[Quant])
