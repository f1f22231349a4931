"""QKeras files, read without QKeras: their configuration and weights, written as the QONNX graph that they compute.

QKeras 0.9 needs TensorFlow 2 with Keras 2, which few installations still have; a saved file (`.h5`, or `.keras`)
is JSON and arrays.  Weights are quantized here as QKeras quantizes them (`quantized_weights`), activations
become `Quant` nodes of the same grid; what reads the graph is the reader of QONNX files.

Source of the arithmetic: qkeras/quantizers.py of QKeras 0.9.0.
"""

from __future__ import annotations

import ast
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError
from codesign.export.onnx import QONNX_DOMAIN
from codesign.tools import require_module

if TYPE_CHECKING:
    import onnx

Floats = NDArray[np.float64]
Config = Mapping[str, Any]
_EPSILON = 1e-7  # keras.backend.epsilon()


def is_qkeras(config: Config) -> bool:
    """Whether a model's configuration holds a layer of QKeras."""
    return any(_is_qkeras_layer(layer) for layer in _layers(config))


def _is_qkeras_layer(layer: Config) -> bool:
    module = str(layer.get("module", ""))
    keys = layer.get("config", {})
    return module.startswith("qkeras") or (
        layer["class_name"].startswith("Q")
        and not module.startswith("hgq")
        and any(key.endswith("_quantizer") or key == "activation" for key in keys)
        and not any(key in keys for key in ("iq_conf", "kq_conf"))
    )


def read_keras_config(path: Path) -> Config:
    """Read the configuration of a saved Keras model, without opening the model.

    Raises:
        DesignError: the file holds none.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                config = json.loads(archive.read("config.json"))
        else:
            with require_module("h5py").File(path, "r") as file:
                text = file.attrs.get("model_config")
                if text is None:
                    raise DesignError(
                        f"{path}: holds weights without a model; save the whole model (model.save)"
                    )
                config = json.loads(text)
    except (OSError, KeyError, ValueError) as error:
        raise DesignError(
            f"{path}: not a Keras model ({error}); save it with model.save('x.keras') or model.save('x.h5')"
        ) from error
    if not isinstance(config, dict) or not isinstance(config.get("config"), dict):
        raise DesignError(
            f"{path}: holds no model of layers; save a Sequential or functional model"
        )
    return config


def foreign_modules(config: Config) -> list[str]:
    """Return the packages that a model's layers come from, where they say, but Keras itself."""
    found = {
        str(layer.get("module") or "").partition(".")[0]
        or str(layer.get("registered_name") or "").partition(">")[0]
        for layer in _layers(config)
    }
    return sorted(
        name for name in found if name and not name.startswith(("keras", "builtins", "tensorflow"))
    )


def _layers(config: Config) -> list[Any]:
    found = config["config"].get("layers")
    if not isinstance(found, list):
        raise DesignError("the model lists no layers; save a Sequential or functional model")
    return found


class _Weights:
    """Arrays of a saved model, by layer."""

    def __init__(self, path: Path, config: Config) -> None:
        self._arrays: dict[str, list[Floats]] = {}
        h5py = require_module("h5py")
        if zipfile.is_zipfile(path):
            with (
                zipfile.ZipFile(path) as archive,
                archive.open("model.weights.h5") as stored,
                h5py.File(stored, "r") as file,
            ):
                self._read_numbered(file, config)
        else:
            with h5py.File(path, "r") as file:
                group = file["model_weights"]
                for name in group:
                    order = [
                        n.decode() if isinstance(n, bytes) else n
                        for n in group[name].attrs["weight_names"]
                    ]
                    self._arrays[name] = [
                        np.asarray(group[name][n], dtype=np.float64) for n in order
                    ]

    def _read_numbered(self, file: Any, config: Config) -> None:
        """Read Keras 3's layout: groups named as the layer, or as its class, counted."""
        groups = file["layers"] if "layers" in file else file["_layer_checkpoint_dependencies"]
        counts: dict[str, int] = {}
        for layer in _layers(config):
            snake = _snake(layer["class_name"])
            k = counts[snake] = counts.get(snake, -1) + 1
            names = (layer["config"]["name"], snake if k == 0 else f"{snake}_{k}")
            place = next((groups[name] for name in names if name in groups), None)
            stored: Any = [] if place is None or "vars" not in place else place["vars"]
            self._arrays[layer["config"]["name"]] = [
                np.asarray(stored[str(i)], dtype=np.float64) for i in range(len(stored))
            ]

    def of(self, name: str) -> list[Floats]:
        return self._arrays.get(name, [])


def _snake(name: str) -> str:
    import re

    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def qonnx_of(path: Path, config: Config) -> onnx.ModelProto:
    """Write a QKeras model as a QONNX graph, batches of one first axis.

    Args:
        path: the saved model.
        config: what `read_keras_config` returned.

    Raises:
        DesignError: a layer or quantizer has no exact form; names it.
    """
    return _Writer(config, _Weights(path, config)).model()


class _Writer:
    """A QONNX graph under construction; tensors are channels last, as Keras has them."""

    def __init__(self, config: Config, weights: _Weights) -> None:
        self._config, self._weights = config, weights
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._inputs: list[tuple[str, list[int]]] = []
        self._names: dict[str, str] = {}
        self._ranks: dict[str, int] = {}

    # ---- the graph --------------------------------------------------------------------------------
    def model(self) -> onnx.ModelProto:
        from onnx import TensorProto, helper

        layers = _layers(self._config)
        previous = ""
        for layer in layers:
            sources = _sources(layer) or ([previous] if previous else [])
            previous = layer["config"]["name"]
            self._layer(layer, [self._names[s] for s in sources])
        ends = self._config["config"].get("output_layers")
        outputs = [self._names[n] for n in _named(ends)] if ends else [self._names[previous]]
        graph = helper.make_graph(
            self._nodes,
            "qkeras",
            [
                helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", *s])
                for n, s in self._inputs
            ],
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs],
            self._constants,
        )
        opsets = [helper.make_opsetid("", 13), helper.make_opsetid(QONNX_DOMAIN, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)

    def _add(self, operator: str, inputs: list[str], label: str, **attributes: Any) -> str:
        from onnx import helper

        output = f"{label}_{operator.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [output], name=label, **attributes))
        return output

    def _constant(self, values: Any, dtype: Any = np.float32) -> str:
        from onnx import numpy_helper

        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(values, dtype=dtype), name))
        return name

    def _quant(
        self, source: str, label: str, step: Any, bits: int, *, signed: bool, narrow: bool = False
    ) -> str:
        read = [self._constant(step), self._constant(0.0), self._constant(bits)]
        return self._add(
            "Quant", [source, *read], label, domain=QONNX_DOMAIN, signed=int(signed), narrow=int(narrow),
            rounding_mode="ROUND",
        )  # fmt: skip

    # ---- layers -----------------------------------------------------------------------------------
    def _layer(self, layer: Config, sources: list[str]) -> None:
        kind, config = str(layer["class_name"]), layer["config"]
        name = str(config["name"])
        if kind == "InputLayer":
            shape = config.get("batch_input_shape") or config.get("batch_shape")
            if any(n is None for n in shape[1:]):
                raise DesignError(f"{kind} {name!r}: has no fixed shape; save the model with one")
            self._inputs.append((name, [int(n) for n in shape[1:]]))
            self._names[name], self._ranks[name] = name, len(shape) - 1
            return
        if not sources:  # a Sequential model that states its shape on its first layer
            shape = config.get("batch_input_shape") or layer.get("build_config", {}).get(
                "input_shape"
            )
            if not shape or any(n is None for n in shape[1:]):
                raise DesignError(
                    f"{kind} {name!r}: is the first and has no fixed shape; add an Input"
                )
            self._inputs.append(("input", [int(n) for n in shape[1:]]))
            self._ranks["input"] = len(shape) - 1
            sources = ["input"]
        build = _LAYERS.get(kind)
        if build is None:
            raise DesignError(
                f"{kind} {name!r}: is not read; known: {', '.join(sorted(_LAYERS))}"
                + (
                    "; unfold its batch norm first (qkeras.bn_folding_utils.unfold_model)"
                    if "Batchnorm" in kind
                    else ""
                )
            )
        result, rank = build(self, config, sources, self._ranks[sources[0]])
        activation = None if kind in ("QActivation", "Activation") else config.get("activation")
        result = self._activation(result, name, activation)
        self._names[name], self._ranks[result] = result, rank

    def _activation(self, source: str, label: str, quantizer: Any) -> str:
        """Write a function, with the rounding that belongs to it."""
        function, options = _parsed(quantizer, label)
        if function in ("linear", ""):
            return source
        if function in _FUNCTIONS:
            attributes = {"axis": -1} if function == "softmax" else {}
            return self._add(_FUNCTIONS[function], [source], label, **attributes)
        if options.get("qnoise_factor", 1.0) != 1.0:
            raise DesignError(
                f"{label}: mixes in values that are not rounded (qnoise_factor); set it to 1"
            )
        bits = int(options.get("bits", 8))
        if function in ("quantized_bits", "quantized_linear"):
            alpha = options.get("alpha")
            if isinstance(alpha, str):
                raise DesignError(
                    f"{label}: scales activations by their own range (alpha={alpha!r}), which no hardware does; set alpha=1"
                )
            signed = bool(options.get("keep_negative", True))
            if bits - signed < 1:
                raise DesignError(
                    f"{label}: is one signed bit, which QKeras reads as -1 and +1; use two"
                )
            step = 2.0 ** (int(options.get("integer", 0)) - (bits - signed))
            narrow = signed and bool(options.get("symmetric", function == "quantized_linear"))
            rounded = self._quant(source, label, step, bits, signed=signed, narrow=narrow)
            gain = 1.0 if alpha is None else float(alpha)
            return (
                rounded if gain == 1.0 else self._add("Mul", [rounded, self._constant(gain)], label)
            )
        if function == "quantized_relu":
            odd = [key for key in ("use_sigmoid", "negative_slope") if options.get(key)]
            if options.get("relu_upper_bound") and not options.get("is_quantized_clip", True):
                odd.append("relu_upper_bound")
            if odd:
                raise DesignError(
                    f"{label}: {function} with {', '.join(odd)} is not read; leave it out"
                )
            positive = self._add("Relu", [source], label)
            step = 2.0 ** (int(options.get("integer", 0)) - bits)
            return self._quant(positive, label, step, bits, signed=False)
        if function in ("quantized_tanh", "quantized_sigmoid"):
            is_tanh = function == "quantized_tanh"
            if options.get("use_real_tanh" if is_tanh else "use_real_sigmoid"):
                value = self._add("Tanh" if is_tanh else "Sigmoid", [source], label)
            else:
                value = self._add("HardSigmoid", [source], label, alpha=0.5, beta=0.5)
                if is_tanh:  # 2 clip(x / 2 + 1 / 2, 0, 1) - 1
                    ends = [self._constant(-1.0), self._constant(1.0)]
                    value = self._add("Clip", [source, *ends], label)
            if options.get("symmetric") and not is_tanh:
                raise DesignError(
                    f"{label}: leaves out zero (symmetric), which no word does; leave it out"
                )
            step = 2.0 ** (-(bits - 1) if is_tanh else -bits)
            narrow = bool(options.get("symmetric", False))
            return self._quant(value, label, step, bits, signed=is_tanh, narrow=narrow)
        raise DesignError(
            f"{label}: the quantizer {function} is not read for activations; use quantized_bits or quantized_relu"
        )

    def _weight(self, values: Floats, label: str, quantizer: Any, is_kernel: bool) -> str:
        """Write quantized weights: their values, and a `Quant` that says on which grid they lie."""
        if quantizer is None:
            return self._constant(values)
        function, options = _parsed(quantizer, label)
        if function in ("linear", ""):
            return self._constant(values)
        quantized, step, bits = quantized_weights(values, function, options, label, is_kernel)
        return self._quant(self._constant(quantized), label, step, bits, signed=True, narrow=False)

    def _product(self, config: Config, source: str, rank: int) -> tuple[str, int]:
        name = config["name"]
        kernel, *rest = self._weights.of(name)
        weights = self._weight(kernel, name, config.get("kernel_quantizer"), True)
        result = self._add("MatMul", [source, weights], name)
        return self._biased(config, result, rest), rank

    def _biased(self, config: Config, result: str, rest: list[Floats]) -> str:
        if not config.get("use_bias", True) or not rest:
            return result
        bias = self._weight(rest[0], config["name"], config.get("bias_quantizer"), False)
        return self._add("Add", [result, bias], config["name"])

    def _convolution(self, config: Config, source: str, rank: int) -> tuple[str, int]:
        name, n = config["name"], rank - 1
        if config.get("data_format", "channels_last") != "channels_last":
            raise DesignError(f"{name}: reads channels first; save it with channels last")
        kernel, *rest = self._weights.of(name)
        weights = self._weight(kernel, name, config.get("kernel_quantizer"), True)
        turned = self._add("Transpose", [weights], name, perm=[n + 1, n, *range(n)])
        first = self._add("Transpose", [source], name, perm=[0, rank, *range(1, rank)])
        strides, dilations = (_sizes(config.get(key, 1), n) for key in ("strides", "dilation_rate"))
        if config.get("padding", "valid") == "same":
            if set(strides) != {1}:
                raise DesignError(
                    f"{name}: pads a strided window ('same'); pad it by a layer of its own"
                )
            reach = [d * (k - 1) for d, k in zip(dilations, kernel.shape, strict=False)]
            pads = [r // 2 for r in reach] + [r - r // 2 for r in reach]
        elif config.get("padding", "valid") == "valid":
            pads = [0] * (2 * n)
        else:
            raise DesignError(f"{name}: pads by {config['padding']!r}; expected 'valid' or 'same'")
        summed = self._add(
            "Conv", [first, turned], name, strides=strides, dilations=dilations, pads=pads,
            kernel_shape=list(kernel.shape[:n]), group=int(config.get("groups", 1)),
        )  # fmt: skip
        last = self._add("Transpose", [summed], name, perm=[0, *range(2, rank + 1), 1])
        return self._biased(config, last, rest), rank

    def _pool(self, config: Config, source: str, rank: int, operator: str) -> tuple[str, int]:
        name, n = config["name"], rank - 1
        if config.get("padding", "valid") != "valid":
            raise DesignError(f"{name}: pads ({config['padding']}); expected 'valid'")
        size = _sizes(config["pool_size"], n)
        strides = _sizes(config.get("strides") or size, n)
        first = self._add("Transpose", [source], name, perm=[0, rank, *range(1, rank)])
        pooled = self._add(operator, [first], name, kernel_shape=size, strides=strides)
        return self._add("Transpose", [pooled], name, perm=[0, *range(2, rank + 1), 1]), rank

    def _reduced(self, config: Config, source: str, rank: int, operator: str) -> tuple[str, int]:
        if config.get("keepdims"):
            raise DesignError(f"{config['name']}: keeps its axes; leave keepdims out")
        axes = list(range(1, rank))
        return self._add(operator, [source], config["name"], axes=axes, keepdims=0), 1

    def _batch_norm(self, config: Config, source: str, rank: int) -> tuple[str, int]:
        """A gain and an offset per channel, as float as QKeras leaves them."""
        name, arrays = config["name"], list(self._weights.of(config["name"]))
        axis = config.get("axis", -1)
        if (axis[0] if isinstance(axis, list) else axis) not in (-1, rank):
            raise DesignError(f"{name}: normalizes axis {axis}; expected the last")
        values: dict[str, Floats] = {}
        for part, is_there in (
            ("gamma", config.get("scale", True)),
            ("beta", config.get("center", True)),
        ):
            values[part] = arrays.pop(0) if is_there else np.array(float(part == "gamma"))
        values["mean"], values["variance"] = arrays[:2]
        for part in values:
            quantizer = config.get(f"{part}_quantizer")
            if quantizer is not None:
                function, options = _parsed(quantizer, name)
                values[part] = quantized_weights(values[part], function, options, name, False)[0]
        gain = values["gamma"] / np.sqrt(values["variance"] + float(config.get("epsilon", 1e-3)))
        scaled = self._add("Mul", [source, self._constant(gain)], name)
        offset = self._constant(values["beta"] - values["mean"] * gain)
        return self._add("Add", [scaled, offset], name), rank


def _merge(operator: str) -> Callable[..., tuple[str, int]]:
    def build(writer: _Writer, config: Config, sources: list[str], rank: int) -> tuple[str, int]:
        result = sources[0]
        for other in sources[1:]:
            result = writer._add(operator, [result, other], config["name"])
        return result, rank

    return build


def _concatenate(writer: _Writer, config: Config, sources: list[str], rank: int) -> tuple[str, int]:
    return writer._add("Concat", sources, config["name"], axis=int(config.get("axis", -1))), rank


def _dot(writer: _Writer, config: Config, sources: list[str], rank: int) -> tuple[str, int]:
    axes = config.get("axes", -1)
    named = {a if a > 0 else a + 1 + rank for a in ([axes] if isinstance(axes, int) else axes)}
    if named != {1} or rank != 1 or config.get("normalize"):
        raise DesignError(
            f"{config['name']}: multiplies along axes {axes} of rank {rank}; expected two vectors, not normalized"
        )
    product = writer._add("Mul", sources, config["name"])
    return writer._add("ReduceSum", [product, writer._constant([1], np.int64)], config["name"]), 1


def _reshape(writer: _Writer, config: Config, sources: list[str], rank: int) -> tuple[str, int]:
    target = [int(n) for n in config["target_shape"]]
    shape = writer._constant([0, *target], np.int64)
    return writer._add("Reshape", [sources[0], shape], config["name"]), len(target)


def _permute(writer: _Writer, config: Config, sources: list[str], rank: int) -> tuple[str, int]:
    return writer._add("Transpose", sources, config["name"], perm=[0, *config["dims"]]), rank


def _one(method: Callable[..., tuple[str, int]], *more: Any) -> Callable[..., tuple[str, int]]:
    return lambda writer, config, sources, rank: method(writer, config, sources[0], rank, *more)


def _relu(writer: _Writer, config: Config, sources: list[str], rank: int) -> tuple[str, int]:
    if (
        config.get("max_value") is not None
        or config.get("negative_slope")
        or config.get("threshold")
    ):
        raise DesignError(
            f"{config['name']}: a ReLU with limits or a slope is not read; use quantized_relu"
        )
    return writer._add("Relu", sources, config["name"]), rank


def _same(writer: _Writer, config: Config, sources: list[str], rank: int) -> tuple[str, int]:
    return sources[0], rank


def _activated(writer: _Writer, config: Config, sources: list[str], rank: int) -> tuple[str, int]:
    return writer._activation(sources[0], config["name"], config["activation"]), rank


def _softmax(writer: _Writer, config: Config, sources: list[str], rank: int) -> tuple[str, int]:
    return writer._add("Softmax", sources, config["name"], axis=int(config.get("axis", -1))), rank


_LAYERS: Mapping[str, Callable[..., tuple[str, int]]] = {
    "QDense": _one(_Writer._product), "Dense": _one(_Writer._product),
    "QConv1D": _one(_Writer._convolution), "QConv2D": _one(_Writer._convolution),
    "Conv1D": _one(_Writer._convolution), "Conv2D": _one(_Writer._convolution),
    "QBatchNormalization": _one(_Writer._batch_norm), "BatchNormalization": _one(_Writer._batch_norm),
    "QActivation": _activated, "Activation": _activated, "ReLU": _relu, "Softmax": _softmax,
    "Flatten": lambda w, config, sources, rank: (w._add("Flatten", sources, config["name"], axis=1), 1),
    "Reshape": _reshape, "Permute": _permute, "Dropout": _same,
    "Add": _merge("Add"), "Subtract": _merge("Sub"), "Multiply": _merge("Mul"), "Concatenate": _concatenate,
    "Dot": _dot,
    "MaxPooling1D": _one(_Writer._pool, "MaxPool"), "MaxPooling2D": _one(_Writer._pool, "MaxPool"),
    "AveragePooling1D": _one(_Writer._pool, "AveragePool"), "AveragePooling2D": _one(_Writer._pool, "AveragePool"),
    "GlobalAveragePooling1D": _one(_Writer._reduced, "ReduceMean"),
    "GlobalAveragePooling2D": _one(_Writer._reduced, "ReduceMean"),
    "GlobalMaxPooling1D": _one(_Writer._reduced, "ReduceMax"),
    "GlobalMaxPooling2D": _one(_Writer._reduced, "ReduceMax"),
}  # fmt: skip
_FUNCTIONS = {"relu": "Relu", "softmax": "Softmax", "sigmoid": "Sigmoid", "tanh": "Tanh"}


def _sizes(known: Any, n: int) -> list[int]:
    return [int(known)] * n if isinstance(known, int) else [int(k) for k in known]


def _sources(layer: Config) -> list[str]:
    """Return the layers that a layer reads, in the notation of Keras 2 or 3."""
    nodes = layer.get("inbound_nodes") or []
    if len(nodes) > 1:
        raise DesignError(
            f"{layer['class_name']} {layer['config']['name']!r}: is used {len(nodes)} times; give each use a layer"
        )
    return _named(nodes)


def _named(known: Any) -> list[str]:
    if isinstance(known, Mapping):
        history = known.get("keras_history")
        return (
            [str(history[0])] if history else [n for value in known.values() for n in _named(value)]
        )
    if isinstance(known, (list, tuple)):
        if len(known) >= 3 and isinstance(known[0], str) and isinstance(known[1], int):
            return [known[0]]
        return [name for value in known for name in _named(value)]
    return []


def _parsed(quantizer: Any, label: str) -> tuple[str, dict[str, Any]]:
    """Return name and options of a quantizer: a mapping, or a call written as text."""
    if quantizer is None:
        return "", {}
    if isinstance(quantizer, Mapping):
        name = quantizer.get("class_name") or quantizer.get("registered_name") or ""
        inner = quantizer.get("config")
        if isinstance(inner, str):  # a function: its name
            return inner, {}
        return str(name), dict(inner or {})
    try:
        call = ast.parse(str(quantizer), mode="eval").body
        if isinstance(call, ast.Name):
            return call.id, {}
        assert isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
        options = {k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg}
        options |= zip(
            _POSITIONS.get(call.func.id, ()), map(ast.literal_eval, call.args), strict=False
        )
    except (SyntaxError, ValueError, AssertionError) as error:
        raise DesignError(
            f"{label}: {quantizer!r} is no quantizer; expected quantized_bits(8,2)"
        ) from error
    return call.func.id, options


_POSITIONS = {
    "quantized_bits": ("bits", "integer", "symmetric", "keep_negative", "alpha"),
    "quantized_linear": ("bits", "integer", "symmetric", "keep_negative", "alpha"),
    "quantized_relu": ("bits", "integer", "use_sigmoid", "negative_slope"),
    "quantized_tanh": ("bits",),
    "quantized_sigmoid": ("bits",),
    "ternary": ("alpha", "threshold"),
    "binary": ("use_01", "alpha"),
    "quantized_po2": ("bits", "max_value"),
    "quantized_relu_po2": ("bits", "max_value"),
}


# ---- weights ------------------------------------------------------------------------------------------
def quantized_weights(
    values: Floats, function: str, options: Config, label: str, is_kernel: bool
) -> tuple[Floats, Floats, int]:
    """Quantize weights as QKeras does.

    Args:
        values: float64, channels last.
        function, options: of the quantizer.
        label: of the layer, for messages.
        is_kernel: of a layer's kernel, whose scale QKeras fits where none is stated.

    Returns:
        The quantized values, the step between them (one, or per channel) and the bits of their words.

    Raises:
        DesignError: the quantizer is not known.
    """
    alpha = options.get("alpha")
    x = np.asarray(values, dtype=np.float32)  # QKeras decides in float32
    if function in ("quantized_bits", "quantized_linear"):
        return _bits(x, options, "auto_po2" if alpha is None and is_kernel else alpha)
    if function in ("ternary", "stochastic_ternary"):
        return _ternary(x, options, "auto_po2" if alpha is None and is_kernel else alpha)
    if function in ("binary", "stochastic_binary"):
        sign = np.where(x >= 0, np.float32(1), np.float32(-1))
        sign = ((sign + 1) / 2 if options.get("use_01") else sign).astype(np.float32)
        alpha = "auto_po2" if alpha is None and is_kernel else alpha
        scale = _scale(1.0 if alpha is None else alpha, x, sign)
        return np.asarray(sign * scale, dtype=np.float64), np.asarray(scale, dtype=np.float64), 2
    if function in ("quantized_po2", "quantized_relu_po2"):
        return _powers(x, function, options, label)
    raise DesignError(
        f"{label}: the quantizer {function} is not read for weights; use quantized_bits, ternary, binary or quantized_po2"
    )


def _axes(x: NDArray[np.float32]) -> tuple[int, ...]:
    return tuple(range(x.ndim - 1)) if x.ndim > 1 else (0,)


def _power(scale: NDArray[np.float32]) -> NDArray[np.float32]:
    octaves = np.rint(np.log(scale + np.float32(_EPSILON)) / np.float32(np.log(2.0)))
    return np.asarray(np.exp2(octaves), dtype=np.float32)


def _scale(alpha: Any, x: NDArray[np.float32], q: NDArray[np.float32]) -> NDArray[np.float32]:
    """Least squares, per channel; a power of two for "auto_po2"."""
    if not isinstance(alpha, str):
        return np.asarray(alpha, dtype=np.float32)
    axes = _axes(x) if x.ndim > 1 else ()
    qx, qq = (np.mean(p, axis=axes, keepdims=True) if axes else p for p in (x * q, q * q))
    scale = np.asarray(qx / (qq + np.float32(_EPSILON)), dtype=np.float32)
    return _power(scale) if alpha == "auto_po2" else scale


def _bits(x: NDArray[np.float32], options: Config, alpha: Any) -> tuple[Floats, Floats, int]:
    bits, integer = int(options.get("bits", 8)), int(options.get("integer", 0))
    signed = int(options.get("keep_negative", True))
    m, m_i = np.float32(2.0 ** (bits - signed)), np.float32(2.0**integer)
    if isinstance(alpha, str):
        levels = np.float32((2 ** (bits - 1) - 1) * 2)
        u = x / m_i
        scale = np.max(np.abs(u), axis=_axes(x), keepdims=True) * 2 / levels

        def words() -> NDArray[np.float32]:
            v = np.floor(np.abs(u) / scale + np.float32(0.5))
            return np.asarray(
                np.sign(u) * np.where(v < levels / 2, v, levels / 2), dtype=np.float32
            )

        if "po2" in alpha:
            scale = _power(scale)
            for _ in range(5):
                z = words()
                scale = _scale("auto_po2", u, z)
        else:
            z = words()
        step = np.asarray(scale * m_i, dtype=np.float64)
        return z * step, step, bits
    if bits - signed < 1:
        z = np.where(x >= 0, 1.0, -1.0) if signed else np.where(x >= 0, 1.0, 0.0)
        step = np.asarray(1.0 if alpha is None else alpha, dtype=np.float64)
        return z * step, step, 2
    low = signed * (-m + float(options.get("symmetric", 0)))
    z = np.clip(np.rint(x * m / m_i), low, m - 1).astype(np.float64)
    step = np.asarray(float(m_i / m) * (1.0 if alpha is None else alpha), dtype=np.float64)
    return z * step, step, bits + 1 - signed


def _ternary(x: NDArray[np.float32], options: Config, alpha: Any) -> tuple[Floats, Floats, int]:
    if not isinstance(alpha, str):
        threshold = options.get("threshold")
        q = (np.abs(x) >= (0.33 if threshold is None else threshold)) * np.sign(x)
        step = np.asarray(1.0 if alpha is None else alpha, dtype=np.float64)
        return q * step, step, 2
    axes = _axes(x) if x.ndim > 1 else None
    scale = 2 * np.max(np.abs(x), axis=axes, keepdims=True) / np.float32(3.0)
    scale = _power(scale) if "po2" in alpha else scale
    for _ in range(int(options.get("number_of_unrolls", 5))):
        v = scale * np.rint(x / scale)
        signs = np.asarray((np.abs(v) >= scale / 2) * np.sign(x), dtype=np.float32)
        scale = _scale(alpha, x, signs)
    step = np.asarray(scale, dtype=np.float64)
    return np.asarray(signs * step, dtype=np.float64), step, 2


def _powers(
    x: NDArray[np.float32], function: str, options: Config, label: str
) -> tuple[Floats, Floats, int]:
    if options.get("quadratic_approximation"):
        raise DesignError(
            f"{label}: {function} by squares is not read; leave quadratic_approximation out"
        )
    has_sign = function == "quantized_po2"
    most = options.get("max_value")
    exponent_bits = int(options.get("bits", 8)) - has_sign - (most is None or most > 1)
    least, greatest = -(2.0**exponent_bits), 2.0**exponent_bits - 1.0
    magnitude = np.abs(x) if has_sign else np.maximum(x, 0)
    tiny = magnitude < _EPSILON
    filtered = np.where(tiny, np.float32(_EPSILON), magnitude)
    filtered = filtered if most is None else np.minimum(filtered, np.float32(most))
    logarithm = np.log(filtered) / np.float32(np.log(2.0))
    rounded = np.floor(logarithm) if options.get("log2_rounding") == "floor" else np.rint(logarithm)
    exponent = np.where(tiny, least, np.clip(rounded, least, greatest))
    sign = np.where(x >= 0, 1.0, -1.0) if has_sign else 1.0
    low, high = int(exponent.min()), int(exponent.max())
    return sign * np.exp2(exponent.astype(np.float64)), np.asarray(2.0**low), high - low + 2
