"""hls4ml project folders: the network that the firmware's own C++ computes, layer by layer.

What the C++ says is what the tool compiles, so types, sizes and constants come from there (`parameters.h`,
`defines.h`, the headers of constants, the calls of the top function), not from the model or the YAML beside
it: folders that hold firmware only are enough, and so are the layouts of the trigger experiments'
repositories (`NN/`, flat, sizes by name).  Every call becomes a foreign node of the kinds that hls4ml's model
graph has, read by the same layer types.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError
from codesign.importing.nodes import read_node
from codesign.ir import FixedPoint
from codesign.layers._import import MAX_WEIGHT_BITS, Constant, Draft, Foreign, Grid, Value
from codesign.synthesis.onnx_config import LayerSection
from hw_models.calibration.parsers.project import (
    Call,
    Firmware,
    read_firmware,
    read_weight_values,
    scalar_type,
)

_ACTIVATIONS = {
    "relu": "Activation.relu", "relu1": "Activation.relu1", "linear": "Activation.linear", "sigmoid": "Activation.sigmoid",
    "tanh": "Activation.tanh", "softmax": "Activation.softmax", "softmax_multidim": "Activation.softmax",
    "hard_sigmoid": "Activation.hard_sigmoid", "hard_tanh": "Activation.hard_tanh",
    "binary_tanh": "Activation.binary_tanh", "leaky_relu": "LeakyReLU", "repack_stream": "Activation.linear",
}  # fmt: skip
_MERGES = ("add", "subtract", "multiply")
_DENSE = ("dense", "compute_layer", "dense_resource", "dense_latency", "dense_large")
#: Strategies whose kernels take the weights of one output after another.
_OUTPUTS_FIRST = ("resource", "resource_unrolled", "unrolled", "compressed")


@dataclass(frozen=True, kw_only=True)
class Project:
    """What the C++ of a project says beside its layers.

    Attributes:
        firmware: the sources.
        top: name of the top function.
        ports: type and name of each of its ports.
        inputs, outputs: type, name and number of elements of those that carry data.
        constants: names of weights and biases.
        hardware: strategy and reuse factor by layer.
    """

    firmware: Firmware
    top: str
    ports: tuple[tuple[str, str], ...]
    inputs: tuple[tuple[str, str, int], ...]
    outputs: tuple[tuple[str, str, int], ...]
    constants: tuple[str, ...]
    hardware: Mapping[str, LayerSection]


def read_project(folder: Path) -> tuple[Draft, Value, Project]:
    """Read the C++ of an hls4ml project.

    Args:
        folder: its root, or the folder of its sources.

    Returns:
        The network so far, the value that it puts out, and the rest.

    Raises:
        DesignError: a call cannot be built; names it.
        ReportError: a file cannot be read.
    """
    firmware = read_firmware(folder)
    if firmware is None or firmware.source is None:
        raise DesignError(
            f"{folder}: no source calls a layer of nnet:: beside a parameters.h; give the folder that hls4ml wrote,"
            " or the model itself"
        )
    reader = _Reader(firmware)
    for call in firmware.calls:
        reader.read(call)
    output = reader.output()
    return reader.draft, output, reader.project()


def _ports(firmware: Firmware) -> list[tuple[str, str]]:
    """Return type and name of every port of the top function, in order."""
    source = firmware.source
    assert source is not None, "a project that was read has a top function"
    match = re.search(
        rf"\bvoid\s+{re.escape(_top_name(firmware))}\s*\((.*?)\)\s*\{{", firmware.text, re.S
    )
    if match is None:
        raise DesignError(f"{source}: its top function cannot be found; write the project again")
    found = []
    for port in re.split(r",(?![^<]*>)", match[1]):
        words = re.fullmatch(
            r"\s*(?:const\s+)?(?:hls::stream<\s*([\w:<>, ]+?)\s*>\s*&|([\w:<>, ]+?)\s*&?)\s*\b(\w+)\s*(?:\[.*\])?\s*",
            port,
            re.S,
        )
        if words is not None:
            found.append(((words[1] or words[2]).strip(), words[3]))
    return found


def _top_name(firmware: Firmware) -> str:
    """Return the name of the function that calls the first layer."""
    start = firmware.text.index("nnet::" + firmware.calls[0].function)
    names = re.findall(r"^\s*void\s+(\w+)\s*\(", firmware.text[:start], re.MULTILINE)
    if not names:
        raise DesignError(
            f"{firmware.source}: no function calls its layers; write the project again"
        )
    return str(names[-1])


class _Reader:
    """Turns calls into foreign nodes; `values` holds what every variable is, as a flat tensor."""

    def __init__(self, firmware: Firmware) -> None:
        self.firmware = firmware
        self.draft = Draft()
        self.hardware: dict[str, LayerSection] = {}
        self.values: dict[str, Value] = {}
        self.ports = _ports(firmware)
        self.constants: dict[str, None] = {}
        self.input_name = ""
        self._aliases = dict(re.findall(r"auto\s*&\s*(\w+)\s*=\s*(\w+)\s*;", firmware.text))
        self._readers: dict[str, int] = {}
        for call in firmware.calls:
            for name in call.arguments:
                self._readers[self._own(name)] = self._readers.get(self._own(name), 0) + 1

    def _own(self, name: str) -> str:
        while name in self._aliases:
            name = self._aliases[name]
        return name

    def _outputs(self) -> list[tuple[str, str, Value]]:
        return [
            (kind, name, self.values[own])
            for kind, name in self.ports
            if (own := self._own(name)) in self.values and own != self.input_name
        ]

    def project(self) -> Project:
        """Return what the sources say beside the layers."""
        kinds = {self._own(name): (kind, name) for kind, name in self.ports}
        kind, name = kinds[self.input_name]
        return Project(
            firmware=self.firmware,
            top=_top_name(self.firmware),
            ports=tuple(self.ports),
            inputs=((kind, name, self.draft.input_value.index.size),),
            outputs=tuple((k, n, v.index.size) for k, n, v in self._outputs()),
            constants=tuple(self.constants),
            hardware=self.hardware,
        )

    def output(self) -> Value:
        """Return what the ports that layers write carry, joined in their order."""
        outputs = {name: value for _, name, value in self._outputs()}
        if not outputs:
            raise DesignError(
                f"{self.firmware.source}: no port of the top function is written by a layer"
            )
        return self.draft.joined(outputs)

    def read(self, call: Call) -> None:
        """Read one call."""
        config = self.firmware.structs.get(call.template[-1], {})
        label = Foreign(
            kind=f"hls4ml.{call.function}", name=call.comment or call.template[-1], inputs=()
        )
        if re.match(r"dense_da|.*conv.*_da", call.function):
            raise label.refuse(
                "is distributed arithmetic, which holds no weights but their adders; give the model file instead"
            )
        names = [self._own(name) for name in call.arguments]
        if not self.values:
            self._input(label, call, config, names[0])
        sources = [self.values[name] for name in names if name in self.values]
        if not sources:
            raise label.refuse(f"reads {names[0]!r}, which nothing writes")
        if call.function.startswith("clone_stream"):
            for name in names[1:]:
                self.values[name] = sources[0]
            return
        rest = [
            n for n in names if n not in self.values and not re.fullmatch(r"[-+]?[\d.][-+\w.]*", n)
        ]
        constants = [n for n in rest if read_weight_values(self._weights, n) is not None]
        targets = [n for n in rest if n not in constants]
        if missing := [n for n in targets if re.fullmatch(r"[wbs]\d+", n)]:
            raise label.refuse(
                f"its constants {', '.join(missing)} are in no header and no text file; give the whole folder"
            )
        if len(targets) != 1:
            raise label.refuse(
                f"writes {', '.join(targets) or 'nothing that is known'}; expected one tensor"
            )
        value = self._read(call, label, config, sources, constants)
        fmt = self._type(self._result_type(call), label)
        rounded = self.draft.rounded(label, value, Grid.of(fmt)) if fmt is not None else value
        flat = rounded.arranged(lambda a: a.reshape(-1))
        if self._readers.get(targets[0], 0) > 2:
            flat = self.draft.shared(label, flat)
        self.values[targets[0]] = flat

    @property
    def _weights(self) -> Path:
        return self.firmware.folder / "weights"

    def _input(self, label: Foreign, call: Call, config: Mapping[str, Any], name: str) -> None:
        shape = _read_shape(call.function, config)
        if shape is None:
            raise label.refuse("is the first layer and does not say what shape it reads")
        value = self.draft.input(shape)
        fmt = self._type(call.template[0], label)
        if fmt is not None:
            value = self.draft.rounded(label, value, Grid.of(fmt))
        self.values[name] = value.arranged(lambda a: a.reshape(-1))
        if name not in {self._own(port) for _, port in self.ports}:
            raise label.refuse(f"reads {name!r}, which is no port of the top function")
        self.input_name = name

    def _type(self, text: str, label: Foreign) -> FixedPoint | None:
        resolved, _ = scalar_type(text, self.firmware.types, self.firmware.sizes)
        whole = re.fullmatch(r"(?:ap|ac)_(u?)int<(\d+)>|(bool)", resolved)
        if whole is not None:
            bits = int(whole[2] or 1)
            unsigned = bool(whole[1] or whole[3])
            return FixedPoint(bits=bits, integer_bits=bits, signed=not unsigned)
        if resolved.startswith("ac_"):  # Siemens writes the sign as a word, and other modes
            sized = re.fullmatch(r"ac_(u?)fixed<(\d+),(-?\d+)(?:,(true|false))?(.*)>", resolved)
            if sized is None or sized[5]:
                raise label.refuse(f"its type {resolved} is not read; expected ac_fixed<W,I,S>")
            signed = sized[4] != "false" and not sized[1]
            return FixedPoint(bits=int(sized[2]), integer_bits=int(sized[3]), signed=signed)
        try:
            return FixedPoint.from_hls(resolved.replace("AP_", ""))
        except DesignError as error:
            raise label.refuse(f"has a type that is not read: {error}") from error

    def _result_type(self, call: Call) -> str:
        types = [t for t in call.template[:-1] if not re.fullmatch(r"\d+", t)]
        return types[-1]

    def _constant(
        self,
        name: str,
        text: str | None,
        label: Foreign,
        shape: tuple[int, ...],
        turned: bool = False,
    ) -> Constant:
        values = read_weight_values(self._weights, name)
        self.constants[name] = None
        assert values is not None, "constants were told apart by having values"
        if values.size != prod(shape):
            raise label.refuse(
                f"{name} holds {values.size} numbers, expected {' x '.join(map(str, shape))}; write the project again"
            )
        shaped = values.reshape(shape[::-1]).T if turned else values.reshape(shape)
        fmt = None if text is None else self._type(text, label)
        if fmt is not None:
            shaped = fmt.values_from_words(fmt.words_from_values(shaped))
        return Constant(values=np.asarray(shaped, dtype=np.float64))

    def _read(
        self,
        call: Call,
        label: Foreign,
        config: Mapping[str, Any],
        sources: list[Value],
        constants: list[str],
    ) -> Value:
        function, types = call.function, dict(config.get("types", {}))
        attributes: dict[str, Any] = {
            key: value for key, value in config.items() if isinstance(value, (int, float, str))
        }
        kind, inputs = "", list[Value | Constant | None](sources)
        if function in _DENSE or function.endswith(("conv_1d_cl", "conv_2d_cl")):
            return self._product(call, label, config, sources[0], constants)
        if function == "normalize":
            n_in, n_filt = int(config["n_in"]), int(config.get("n_filt", -1))
            n = n_in if n_filt < 1 else n_filt
            kind = "BatchNormalization"
            inputs = [_reshaped(sources[0], (-1, n))]
            for name, alias in zip(constants, ("scale_t", "bias_t"), strict=False):
                inputs.append(self._constant(name, types.get(alias), label, (n,)))
        elif function in _ACTIVATIONS:
            kind = _ACTIVATIONS[function]
            if function == "leaky_relu":
                slope = float(call.arguments[1])
                fmt = self._type(types["param_t"], label) if "param_t" in types else None
                attributes["activ_param"] = (
                    slope
                    if fmt is None
                    else float(fmt.values_from_words(fmt.words_from_values(np.array(slope))))
                )
        elif function in _MERGES:
            kind = f"Merge.{function}"
        elif function.startswith("concatenate"):
            kind, rank = "Concatenate", int(function[-2])
            inputs = [
                _reshaped(v, [config[f"n_elem{k}_{i}"] for i in range(rank)])
                for k, v in enumerate(sources, 1)
            ]
        elif "pooling" in function:
            pooled = _read_shape(function, config)
            assert pooled is not None, "pools say what they read"
            inputs = [_reshaped(sources[0], pooled)]
            operation = str(config.get("pool_op", "")).rpartition(":")[2]
            kind = f"{'Global' if function.startswith('global') else ''}Pooling.{operation}"
            if operation == "Average":
                return self._average(label, kind, inputs[0], config, attributes)
        elif function.startswith("transpose"):
            shape, perm = _lists(config, "dims", "from_shape"), _lists(config, "perm")
            if shape is None or perm is None:
                shape, perm = _old_transpose(config)
            if shape is None or perm is None:
                raise label.refuse("does not say how it moves its axes; write the project again")
            kind, attributes["perm"] = "Transpose", perm
            inputs = [_reshaped(sources[0], shape)]
        else:
            kind = function
        result = read_node(
            Foreign(
                kind=f"hls4ml.{kind}", name=label.name, inputs=tuple(inputs), attributes=attributes
            ),
            self.draft,
        )
        assert isinstance(result, Value), "what reads a tensor is computed"
        return result

    def _average(
        self,
        label: Foreign,
        kind: str,
        source: Value | Constant | None,
        config: Mapping[str, Any],
        attributes: Mapping[str, Any],
    ) -> Value:
        """Read a mean: the sum in its accumulator, divided and cut towards zero, as `ap_fixed` divides by a whole number."""
        summed = replace(label, kind=f"hls4ml.{kind}", inputs=(source,), attributes=attributes)
        result = read_node(summed, self.draft)
        assert isinstance(result, Value), "what reads a tensor is computed"
        types = config.get("types", {})
        accumulator = self._type(types["accum_t"], label) if "accum_t" in types else None
        if accumulator is None:
            return result
        n = round(1.0 / float(result.gain.flat[0]))
        total = self.draft.rounded(
            label, self.draft.affine(result, float(n), 0.0), Grid.of(accumulator)
        )
        # floor(s / n) of whole s: half a last bit more keeps multiples of n on their side, whatever 1 / n is rounded to
        half = 0.0 if n & (n - 1) == 0 else accumulator.lsb / (2 * n)
        places = MAX_WEIGHT_BITS - 2 + (n - 1).bit_length()
        share = np.ldexp(np.rint(np.ldexp(1.0 / n, places)), -places)

        def divided(value: Value) -> Value:
            scaled = self.draft.affine(value, float(share), half)
            return self.draft.rounded(label, scaled, Grid.of(accumulator))

        if self.draft.is_never_negative(total):
            return divided(total)
        total = self.draft.shared(label, total)
        above, below = (
            divided(
                self.draft.applied(
                    self.draft.activation(self.draft.affine(total, sign, 0.0), "relu")
                )
            )
            for sign in (1.0, -1.0)
        )
        return self.draft.combined(label, "subtract", [above, below])

    def _product(
        self,
        call: Call,
        label: Foreign,
        config: Mapping[str, Any],
        source: Value,
        constants: list[str],
    ) -> Value:
        """Read a dense layer or a convolution: weights, biases, and how sums are kept."""
        structs, types = self.firmware.structs, dict(config.get("types", {}))
        multiply = structs.get(str(types.get("mult_config", "")), {})
        strategy = str(config.get("strategy", multiply.get("strategy", "latency")))
        if not constants:
            raise label.refuse(
                "its weights are in no header and no text file; give the whole folder"
            )
        strategy = "resource" if call.function in ("dense_resource", "dense_large") else strategy
        self.hardware[label.name] = LayerSection(
            strategy=strategy if strategy in ("latency", "resource") else "latency",
            reuse_factor=max(int(config.get("reuse_factor", 1)), 1),
        )
        attributes = {key: value for key, value in config.items() if isinstance(value, (int, str))}
        if call.function in _DENSE:
            kind = "Dense"
            sizes = (int(config["n_in"]), int(config["n_out"]))
            shape: tuple[int, ...] = sizes[:1]
            kernel: tuple[int, ...] = sizes
        else:
            known = _read_shape(call.function, config)
            assert known is not None, "convolutions say what they read"
            if "depthwise" in call.function or "separable" in call.function:
                raise label.refuse("no layer is built from it; give the model file instead")
            kind, shape = f"Conv{len(known) - 1}D", known
            axes = ("height", "width")[-(len(known) - 1) :]
            window = [int(config[f"filt_{axis}"]) for axis in axes]
            kernel = (*window, int(config["n_chan"]), int(config["n_filt"]))
            sizes = (prod(kernel[:-1]), kernel[-1])
            if "dilation" in attributes:
                attributes["dilation_width"] = attributes["dilation"]
        weights = self._constant(
            constants[0], types.get("weight_t"), label, sizes, turned=strategy in _OUTPUTS_FIRST
        ).arranged(lambda a: a.reshape(kernel))
        n_out = sizes[1]
        accumulator = self._type(types["accum_t"], label) if "accum_t" in types else None
        bias = (
            self._constant(constants[1], types.get("bias_t"), label, (n_out,))
            if len(constants) > 1
            else None
        )
        if bias is not None and accumulator is not None:  # the sum starts from it
            kept = accumulator.values_from_words(accumulator.words_from_values(bias.values))
            bias = Constant(values=kept)
        result = read_node(
            Foreign(
                kind=f"hls4ml.{kind}",
                name=label.name,
                inputs=(_reshaped(source, shape), weights, bias),
                attributes=attributes,
            ),
            self.draft,
        )
        assert isinstance(result, Value), "what reads a tensor is computed"
        if accumulator is None:
            return result
        step = self._product_step(call, weights.values, label)
        if accumulator.lsb > step:
            self.draft.note(
                f"{label}: its sums ({accumulator.to_hls()}) drop bits of every single product; here the exact sum is"
                " rounded once"
            )
        return self.draft.rounded(label, result, Grid.of(accumulator))

    def _product_step(self, call: Call, weights: NDArray[np.float64], label: Foreign) -> float:
        """Return the last bit of an exact product."""
        source = self._type(call.template[0], label)
        used = weights[weights != 0]
        if source is None or not used.size:
            return np.inf
        mantissa, exponent = np.frexp(np.abs(used))
        whole = np.rint(np.ldexp(mantissa, 53)).astype(np.int64)
        zeros = np.frexp((whole & -whole).astype(np.float64))[1] - 1
        return float(np.ldexp(source.lsb, int((exponent - 53 + zeros).min())))


def _reshaped(value: Value, shape: Sequence[int]) -> Value:
    return value.arranged(lambda a: a.reshape(shape))


def _read_shape(function: str, config: Mapping[str, Any]) -> tuple[int, ...] | None:
    """Return the shape that a call reads, channels last; None where its configuration does not say."""
    channels = config.get("n_chan", config.get("n_filt"))
    if "2d" in function and "in_height" in config:
        return int(config["in_height"]), int(config["in_width"]), int(channels or 1)
    if "1d" in function and "concatenate" not in function:
        width = config.get("in_width", config.get("n_in"))
        return None if width is None else (int(width), int(channels or 1))
    if function.startswith("transpose") and (shape := _lists(config, "from_shape")):
        return tuple(shape)
    n = config.get("n_in", config.get("n_elem", config.get("N")))
    return (int(n),) if isinstance(n, int) else None


def _lists(config: Mapping[str, Any], *names: str) -> list[int] | None:
    """Return the numbers of a member that is an array."""
    for name in names:
        text = config.get(name)
        if isinstance(text, str) and (numbers := re.findall(r"-?\d+", text)):
            return [int(n) for n in numbers]
    return None


def _old_transpose(config: Mapping[str, Any]) -> tuple[list[int] | None, list[int] | None]:
    """Return shape and axes of hls4ml's older transposition: its sizes stand one by one."""
    names = ("depth", "height", "width")
    shape = [int(config[n]) for n in names if isinstance(config.get(n), int)]
    perm = _lists(config, "perm")
    if perm is None or not shape:
        return None, None
    return shape[-len(perm) :], perm
