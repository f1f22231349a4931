"""ONNX and QONNX files: every node as the standard (or qonnx) defines it, in the order of the graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError
from codesign.export.onnx import QONNX_DOMAIN, onnx_session, qonnx_evaluator
from codesign.importing.nodes import read_node
from codesign.ir import FixedPoint
from codesign.layers._import import Constant, Draft, Foreign, Value

if TYPE_CHECKING:
    import onnx

Floats = NDArray[np.float64]
_CONTROL_FLOW = ("If", "Loop", "Scan")
#: Quantizers, which layer types read of constants, too: what they say about words must not be lost.
QUANTIZERS = ("FixedPoint", "Quant", "BipolarQuant", "QuantizeLinear", "DequantizeLinear")
_WIRES = (
    "Identity",
    "Reshape",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Slice",
    "Gather",
    "Flatten",
    "Cast",
)


def load_onnx(path: Path) -> onnx.ModelProto:
    """Load a file, and refuse what cannot be read before anything is computed.

    Raises:
        DesignError: it is no ONNX model, keeps data elsewhere, or branches; names the node.
    """
    import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's and onnx' errors share no base class
        raise DesignError(f"{path}: not a readable ONNX file ({error}); export it again") from error
    check_onnx(model, str(path))
    return model


def check_onnx(model: onnx.ModelProto, path: str) -> None:
    """Refuse what cannot be read, and name the operator sets that a file forgot.

    Raises:
        DesignError: it keeps data elsewhere, branches, or holds unknown operators; names the node.
    """
    import onnx

    graph = model.graph
    for tensor in graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise DesignError(
                f"{path}: keeps {tensor.name!r} in an external data file; save it with its weights inside"
            )
    domains = Counter("" if o.domain == "ai.onnx" else o.domain for o in model.opset_import)
    if repeated := [domain for domain, n in domains.items() if n > 1]:
        raise DesignError(
            f"{path}: imports several operator sets of domain {repeated[0] or 'ai.onnx'!r}; convert it to one"
        )
    local = {f.name for f in model.functions}
    for node in graph.node:
        label = f"{path}: {node.op_type} {node.name or node.output[0]!r}"
        if node.op_type in _CONTROL_FLOW:
            raise DesignError(
                f"{label}: branches at run time; export the network without control flow"
            )
        if node.op_type in ("GRU", "LSTM", "RNN"):
            raise DesignError(f"{label}: is recurrent, of which no layer is built; unroll it")
        if node.op_type in local:
            raise DesignError(f"{label}: is a function of the file's own; inline it (onnx.inliner)")
        is_known = node.domain in ("", "ai.onnx") or "qonnx" in node.domain or "finn" in node.domain
        if not is_known and node.op_type not in QUANTIZERS:
            raise DesignError(
                f"{label}: is a custom operator of domain {node.domain!r}; replace it by standard ones"
            )
    for domain in sorted({node.domain for node in graph.node} - set(domains)):
        if domain != "ai.onnx":  # older QONNX files all forgot theirs
            model.opset_import.append(onnx.helper.make_opsetid(domain, 1))
    if not domains[""]:
        model.opset_import.append(onnx.helper.make_opsetid("", 13))


def rounds_itself(model: onnx.ModelProto) -> bool:
    """Whether a graph says where it rounds: a precision is then of what it leaves in floats."""
    return any(node.op_type in (*QUANTIZERS, "Floor", "Round") for node in model.graph.node)


def read_onnx(
    model: onnx.ModelProto, precision: FixedPoint | None, *, channels_last: bool = False
) -> tuple[Draft, Value]:
    """Read a graph.

    Args:
        model: what `load_onnx` returned.
        precision: of what the file leaves in floats; None: nothing may be.
        channels_last: the input has its channels last, though convolutions read them first.

    Returns:
        The network so far, and the value that the graph puts out.

    Raises:
        DesignError: a node cannot be built; names it.
    """
    from onnx import numpy_helper

    graph = model.graph
    draft = Draft(precision, rounds_results=not rounds_itself(model))
    known: dict[str, Value | Constant] = {
        tensor.name: Constant(values=np.asarray(numpy_helper.to_array(tensor), dtype=np.float64))
        for tensor in graph.initializer
        if tensor.data_type not in (8, 14, 15)  # strings, complex numbers
    }
    stored = {t.name: str(numpy_helper.to_array(t).dtype) for t in graph.initializer}
    inputs = [value for value in graph.input if value.name not in known]
    if not inputs or not graph.output:
        raise DesignError("the graph has no input or no output; export the network itself")
    if len(inputs) == 1:
        shape, is_first = _input_shape(inputs[0], graph)
        known[inputs[0].name] = draft.input(shape, is_first and not channels_last)
    else:
        values = draft.inputs([_input_shape(info, graph)[0] for info in inputs])
        known.update({info.name: value for info, value in zip(inputs, values, strict=True)})
    readers = Counter(name for node in graph.node for name in node.input)
    readers.update(value.name for value in graph.output)
    for node in _inputs_first(graph):
        foreign = _foreign(node, known, stored)
        if node.op_type == "Constant":
            known[node.output[0]] = _constant_node(node, foreign, stored)
            continue
        if node.op_type == "Shape":
            sizes = np.asarray([1, *foreign.value().shape], dtype=np.float64)
            known[node.output[0]] = Constant(values=sizes)
            continue
        if node.op_type == "Split":
            known.update(_split(node, foreign))
            continue
        is_folded = (
            bool(foreign.inputs)
            and all(not isinstance(x, Value) for x in foreign.inputs)
            and node.op_type not in (*QUANTIZERS, *_WIRES)
        )
        result = _folded(model, node, foreign) if is_folded else read_node(foreign, draft)
        if isinstance(result, Value) and readers[node.output[0]] > 1:
            result = draft.shared(foreign, result)
        known[node.output[0]] = result
        if node.op_type == "QuantizeLinear":
            stored[node.output[0]] = str(foreign.attributes["stored_2"])
    outputs: dict[str, Value] = {}
    for info in graph.output:
        output = known.get(info.name)
        if not isinstance(output, Value):
            raise DesignError(
                f"the graph's output {info.name!r} does not depend on its input; export the network itself"
            )
        outputs[info.name] = output
    return draft, draft.joined(outputs)


def _inputs_first(graph: Any) -> list[Any]:
    """Return the nodes, first those that do nothing but round an input: all inputs are typed before one is read."""
    constant = {tensor.name for tensor in graph.initializer}
    alone = {value.name for value in graph.input}
    early, late = [], []
    for node in graph.node:
        names = {name for name in node.input if name}
        if names <= constant:
            early.append(node)
            constant.update(node.output)
        elif names <= constant | alone and node.op_type in (*_WIRES, *QUANTIZERS):
            early.append(node)
            alone.update(node.output)
        else:
            late.append(node)
    return [*early, *late]


def _input_shape(info: Any, graph: Any) -> tuple[tuple[int, ...], bool]:
    """Return the shape of one event, and whether convolutions read it with channels first."""
    dims = info.type.tensor_type.shape.dim
    shape = tuple(int(d.dim_value) for d in dims)
    if len(shape) < 2 or any(n < 1 for n in shape[1:]):
        raise DesignError(
            f"the input {info.name!r} has shape {[d.dim_param or d.dim_value for d in dims]}; expected a batch"
            " and then fixed sizes; export the network with fixed shapes"
        )
    return shape[1:], len(shape) > 2 and any(
        node.op_type in ("Conv", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool")
        for node in graph.node
    )


def _foreign(node: Any, known: dict[str, Value | Constant], stored: dict[str, str]) -> Foreign:
    from onnx.helper import get_attribute_value

    label = node.name or node.output[0]
    if missing := [name for name in node.input if name and name not in known]:
        raise DesignError(f"{node.op_type} {label!r} reads {missing[0]!r}, which nothing writes")
    attributes: dict[str, Any] = {}
    for attribute in node.attribute:
        value = get_attribute_value(attribute)
        attributes[attribute.name] = value.decode() if isinstance(value, bytes) else value
    for i, name in enumerate(node.input):
        if name in stored:
            attributes[f"stored_{i}"] = stored[name]
    inputs = tuple(known[name] if name else None for name in node.input)
    return Foreign(kind=f"onnx.{node.op_type}", name=label, inputs=inputs, attributes=attributes)


def _constant_node(node: Any, foreign: Foreign, stored: dict[str, str]) -> Constant:
    from onnx import numpy_helper

    for name in ("value_float", "value_floats", "value_int", "value_ints"):
        if name in foreign.attributes:
            return Constant(values=np.asarray(foreign.attributes[name], dtype=np.float64))
    if "value" not in foreign.attributes:
        raise foreign.refuse("holds no numbers; expected a tensor of numbers")
    array = numpy_helper.to_array(foreign.attributes["value"])
    stored[node.output[0]] = str(array.dtype)
    return Constant(values=np.asarray(array, dtype=np.float64))


def _split(node: Any, foreign: Foreign) -> dict[str, Value]:
    value, axis = foreign.value(), int(foreign.attributes.get("axis", 0))
    own = axis - 1 if axis > 0 else axis + len(value.shape)
    if axis == 0 or not 0 <= own < len(value.shape):
        raise foreign.refuse("splits the batch; one event at a time")
    sizes = foreign.optional(1)
    n = len(node.output)
    ends = (
        np.cumsum(np.ravel(sizes.real).astype(int))[:-1]
        if sizes is not None
        else np.arange(1, n) * -(-value.shape[own] // n)
    )
    edges = [0, *[int(e) for e in ends], value.shape[own]]
    return {
        name: value.arranged(lambda a, k=k: np.take(a, range(edges[k], edges[k + 1]), axis=own))  # type: ignore[misc]
        for k, name in enumerate(node.output)
    }


def _folded(model: onnx.ModelProto, node: Any, foreign: Foreign) -> Constant:
    """Evaluate a node whose inputs are all constant."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    constants = {name: foreign.constant(i).real for i, name in enumerate(node.input) if name}
    integers = {"Reshape", "Gather", "Slice", "Concat", "Range", "Expand", "ConstantOfShape"}
    doubles = {
        name
        for i, name in enumerate(node.input)
        if foreign.attributes.get(f"stored_{i}") == "float64"
    }
    typed = {
        name: array.astype(np.int64)
        if node.op_type in integers and not (array % 1).any()
        else array.astype(np.float64 if name in doubles else np.float32)  # as the runtime folds
        for name, array in constants.items()
    }
    infos = [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in typed.items()
    ]
    outputs = [onnx.helper.make_tensor_value_info(node.output[0], 0, None)]
    small = onnx.helper.make_model(
        onnx.helper.make_graph([node], "constant", infos, outputs), opset_imports=model.opset_import
    )
    try:
        (value, *_) = ReferenceEvaluator(small).run(None, typed)
    except Exception as error:  # whatever an operator's reference implementation raises
        raise foreign.refuse(f"cannot be computed from its constants ({error})") from error
    return Constant(values=np.asarray(value, dtype=np.float64))


def onnx_reference(path: Path, model: onnx.ModelProto) -> Callable[[Floats], Floats]:
    """Return what runs a file in its own framework: ONNX Runtime, or qonnx where it holds its operators.

    Returns:
        A function of real inputs float64[n, *shape] that gives float64[n, n_outputs].
    """
    import onnx

    graph = model.graph
    constants = {t.name for t in graph.initializer}
    infos = [value for value in graph.input if value.name not in constants]
    dtypes = [onnx.helper.tensor_dtype_to_np_dtype(i.type.tensor_type.elem_type) for i in infos]
    shapes = [[d.dim_value for d in i.type.tensor_type.shape.dim[1:]] for i in infos]
    fixed = infos[0].type.tensor_type.shape.dim[0].dim_value
    run: Callable[[dict[str, NDArray[Any]]], Any]
    if any(node.domain and node.domain != "ai.onnx" for node in graph.node):
        domains = {n.domain for n in graph.node if n.op_type == "Quant"}
        for node in graph.node:  # older files name the same operators by another domain
            if node.op_type == "Quant" and node.domain in domains:
                node.domain = QONNX_DOMAIN
        if QONNX_DOMAIN not in {o.domain for o in model.opset_import}:
            model.opset_import.append(onnx.helper.make_opsetid(QONNX_DOMAIN, 1))
        evaluator = qonnx_evaluator(model)

        def run(feeds: dict[str, NDArray[Any]]) -> Any:
            return evaluator.run(None, feeds)
    else:
        session = onnx_session(model.SerializeToString(), str(path))

        def run(feeds: dict[str, NDArray[Any]]) -> Any:
            return session.run(None, feeds)

    def answer(part: Floats) -> Floats:
        """Answer one batch, float64[n, n_outputs]; several inputs and outputs are joined in order."""
        flat, first, feeds = part.reshape(len(part), -1), 0, {}
        for info, dtype, shape in zip(infos, dtypes, shapes, strict=True):
            size = int(np.prod(shape))
            chosen = flat[:, first : first + size].reshape(len(part), *shape)
            feeds[info.name], first = chosen.astype(dtype), first + size
        found = [
            np.asarray(output, dtype=np.float64).reshape(len(part), -1) for output in run(feeds)
        ]
        return np.concatenate(found, axis=1)

    def reference(inputs: Floats) -> Floats:
        x = np.asarray(inputs)
        parts = [x] if fixed < 1 else [x[i : i + fixed] for i in range(0, len(x), fixed)]
        if fixed > 1 and len(parts[-1]) < fixed:
            padding = np.repeat(parts[-1][-1:], fixed - len(parts[-1]), axis=0)
            parts[-1] = np.concatenate([parts[-1], padding])
        outputs = np.concatenate([answer(part) for part in parts])[: len(x)]
        return np.asarray(outputs, dtype=np.float64)

    return reference
