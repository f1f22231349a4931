"""hls4ml project folders: which network, in which configuration, as written in the firmware's C++.

The C++ and the Tcl (or `hls_config.cfg`) are what the tool compiled and ran; the YAML beside them only says
what was asked for, and is believed last.  Only scalar keys of the YAML are read (hls4ml writes Python-tagged
YAML that no safe loader accepts).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw_models.calibration.parsers.errors import ReportError
from hw_models.calibration.parsers.numbers import period_ns_of, uncertainty_ns_of
from hw_models.weights import layer_counts

#: Largest source or configuration file that is read, in bytes.
MAX_TEXT_BYTES = 64 * 2**20

#: Width assumed for a layer's data where the sources do not say (hls4ml's default type).
DEFAULT_INPUT_BITS = 16

_STRUCT = re.compile(
    r"^[ \t]*struct\s+(\w+)\s*(?::\s*(?:public\s+)?nnet::(\w+)\s*)?\{(.*?)^[ \t]*\};",
    re.MULTILINE | re.DOTALL,
)
_MEMBER = re.compile(r"static\s+const(?:expr)?\s+[\w:<>*\s]*?(\w+)\s*=\s*([^;]+);")
_TYPEDEF = re.compile(r"^\s*typedef\s+([^;]+?)\s+(\w+)\s*;", re.MULTILINE)
#: Sizes by name: macros of hls4ml, constants of the repositories that keep several networks apart.
_SIZE = re.compile(
    r"^[ \t]*(?:#define\s+(\w+)[ \t]+([\w*/ ()]+?)|"
    r"(?:static\s+)?const(?:expr)?\s+(?:unsigned|int|(?:std::)?size_t|unsigned\s+int)\s+(\w+)\s*=\s*([^;{}]+);)"
    r"[ \t]*(?://[^\n]*)?$",
    re.MULTILINE,
)
#: Functions of nnet:: that compute nothing in hardware.
_NO_LAYERS = ("load_weights", "load_compressed", "load_exponent", "save_layer_output")
#: Folders below a project's root that hold its sources: hls4ml's, its Quartus and older ones', and those of the
#: trigger experiments' emulators, flat ones last.
_FIRMWARE = ("firmware", "src/firmware", "NN", ".")
_CALL = re.compile(
    r"^\s*nnet::(\w+)\s*<(.+)>\s*\(([^;]*)\)\s*;[ \t]*(?://[ \t]*(\S+))?", re.MULTILINE
)

_DENSE = {
    "dense",
    "compute_layer",
    "dense_resource",
    "dense_latency",
    "dense_large",
    "dense_compressed",
}
_ACTIVATIONS = {
    "relu", "relu6", "relu_max", "leaky_relu", "thresholded_relu", "prelu", "elu", "selu", "sigmoid",
    "hard_sigmoid", "hard_tanh", "tanh", "softmax", "softplus", "softsign", "linear", "binary_tanh", "ternary_tanh",
    "softmax_multidim", "unary_lut",
}  # fmt: skip
_TYPES = {
    "normalize": "BatchNormalization",
    "conv_1d_cl": "Conv1D", "conv_1d": "Conv1D", "pointwise_conv_1d_cl": "Conv1D",
    "conv_2d_cl": "Conv2D", "conv_2d": "Conv2D", "pointwise_conv_2d_cl": "Conv2D",
    "conv_2d_large_cl": "Conv2D", "depthwise_conv_1d_cl": "DepthwiseConv1D", "depthwise_conv_2d_cl": "DepthwiseConv2D",
    "separable_conv_1d_cl": "SeparableConv1D", "separable_conv_2d_cl": "SeparableConv2D",
    "pooling1d_cl": "Pooling1D", "pooling2d_cl": "Pooling2D",
    "global_pooling1d_cl": "GlobalPooling1D", "global_pooling2d_cl": "GlobalPooling2D",
    "gru": "GRU", "gru_stack": "GRU", "lstm": "LSTM", "lstm_stack": "LSTM",
}  # fmt: skip
#: Kernels of hls4ml 0.1 and 0.2, which had no member `strategy`.
_NAMED_STRATEGY = {
    "dense_large": "resource", "dense_resource": "resource", "dense_latency": "latency",
    "dense_compressed": "compressed",
}  # fmt: skip
_STRATEGIES = {
    "latency": "latency", "resource": "resource", "unrolled": "unrolled", "resource_unrolled": "resource_unrolled",
    "distributed_arithmetic": "distributed_arithmetic", "da": "distributed_arithmetic",
    "compressed": "compressed",
}  # fmt: skip


def read_text(path: Path) -> str:
    """Read a text file of bounded size.

    Raises:
        ReportError: it is larger than `MAX_TEXT_BYTES` or cannot be read.
    """
    try:
        size = path.stat().st_size
        if size > MAX_TEXT_BYTES:
            raise ReportError(
                f"{path}: {size / 2**20:.0f} MiB, more than any report has; remove it"
            )
        return path.read_bytes().decode("utf-8", errors="replace")
    except OSError as error:
        raise ReportError(
            f"{path}: cannot be read ({error.strerror}); check the permissions"
        ) from error


def _split_arguments(text: str) -> list[str]:
    """Split template arguments at top-level commas."""
    parts, depth, start = [], 0, 0
    for i, character in enumerate(text):
        if character in "<([":
            depth += 1
        elif character in ">)]":
            depth -= 1
        elif character == "," and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    parts.append(text[start:].strip())
    return parts


def _evaluate(expression: str, names: Mapping[str, int]) -> int | None:
    """Evaluate a product of integers and known names, divisions included; None for anything else."""
    tokens = re.split(r"\s*([*/])\s*", expression.strip())
    value: int | None = None
    for i, token in enumerate(tokens):
        if i % 2:
            continue
        if re.fullmatch(r"-?\d+u?", token):
            number = int(token.rstrip("u"))
        elif token in names:
            number = names[token]
        elif token in ("true", "false"):
            number = int(token == "true")
        else:
            return None
        if value is None:
            value = number
        elif tokens[i - 1] == "*":
            value *= number
        elif number == 0:
            return None
        else:
            value //= number
    return value


def compiled_text(text: str) -> str:
    """Return the C++ that synthesis compiles: no block comments, nothing that `__SYNTHESIS__` leaves out.

    Every other condition is taken to hold, in both of its branches.
    """
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    lines, branches = [], list[bool | None]()
    for line in text.splitlines():
        match = re.match(r"\s*#\s*(ifdef|ifndef|if|elif|else|endif)\b(.*)", line)
        if match is None:
            if False not in branches:
                lines.append(line)
            continue
        word, condition = match[1], match[2].strip()
        if word == "endif":
            branches[-1:] = []
        elif word == "else":
            branches[-1:] = [None if known is None else not known for known in branches[-1:]]
        elif word == "elif":
            branches[-1:] = [None] * len(branches[-1:])
        elif re.search(r"\b__SYNTHESIS__\b", condition):
            branches.append(not (word == "ifndef" or condition.startswith("!")))
        else:
            branches.append(None)
    return "\n".join(lines) + "\n"


def _sizes(text: str) -> dict[str, int]:
    """Read the named sizes of a header, in order, each from those before it."""
    sizes: dict[str, int] = {}
    for macro, defined, constant, given in _SIZE.findall(text):
        value = _evaluate((defined or given).strip().strip("()"), sizes)
        if value is not None:
            sizes[macro or constant] = value
    return sizes


def _structs(parameters: str, constants: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """Read every configuration struct: integer members, word members, type definitions, kind."""
    structs: dict[str, dict[str, Any]] = {}
    for name, kind, body in _STRUCT.findall(parameters):
        known = dict(constants)
        members: dict[str, Any] = {"kind": kind, "types": {}}
        for member, expression in _MEMBER.findall(body):
            value = _evaluate(expression, known)
            if value is not None:
                known[member] = value
                members[member] = value
            else:
                members[member] = expression.strip().removeprefix("nnet::")
        for definition, alias in _TYPEDEF.findall(body):
            members["types"][alias] = definition.strip()
        structs[name] = members
    return structs


def scalar_type(
    text: str, types: Mapping[str, str], sizes: Mapping[str, int] | None = None
) -> tuple[str, int | None]:
    """Resolve a C++ type to a fixed-point type and, for a stream word, its lanes.

    Args:
        text: the type.
        types: type definitions by name.
        sizes: named numbers that it may use.

    Returns:
        The type as written ("ap_fixed<16,6>"), and n for `nnet::array<..., n>`.
    """
    lanes, seen = None, set()
    current = text.strip()
    while current in types and current not in seen:
        seen.add(current)
        current = types[current].strip()
    array = re.fullmatch(r"nnet::array<(.+),\s*([\w\s*]+)>", current)
    if array:
        lanes = _evaluate(array[2], sizes or {})
        current = scalar_type(array[1], types)[0]
    return re.sub(r",\s+", ",", current), lanes


def _member(config: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and value >= 0:
            return value
    return None


def _conv_shapes(kind: str, config: Mapping[str, Any]) -> dict[str, Any]:
    channels = _member(config, "n_chan", "n_filt")
    filters = _member(config, "n_filt", "n_chan")
    if kind.endswith("2D"):
        dims = ("height", "width")
        shape_in = [_member(config, f"in_{d}") for d in dims]
        shape_out = [_member(config, f"out_{d}") for d in dims]
        kernel = [_member(config, f"filt_{d}", f"pool_{d}") for d in dims]
        stride = [_member(config, f"stride_{d}") for d in dims]
        pad = [_member(config, f"pad_{side}") for side in ("top", "bottom", "left", "right")]
    else:
        shape_in = [_member(config, "in_width", "n_in")]
        shape_out = [_member(config, "out_width", "n_out")]
        kernel = [_member(config, "filt_width", "pool_width")]
        stride = [_member(config, "stride_width", "stride")]
        pad = [_member(config, f"pad_{side}") for side in ("left", "right")]
    if kind.startswith("GlobalPooling"):
        return {
            "in_shape": [*shape_in, channels],
            "out_shape": [channels],
            "pool_op": config.get("pool_op"),
        }
    record: dict[str, Any] = {
        "in_shape": [*shape_in, channels],
        "out_shape": [*shape_out, filters],
        "kernel": kernel,
        "stride": stride,
        "pad": pad,
        "implementation": config.get("implementation"),
    }
    if "Pooling" in kind:
        record["pool_op"] = config.get("pool_op")
    else:
        record["filters"] = filters
        if (partitions := _member(config, "n_partitions")) is not None:
            record["n_partitions"] = partitions
    return record


def _elementwise_shapes(kind: str, config: Mapping[str, Any]) -> dict[str, Any]:
    if kind in ("GRU", "LSTM"):
        units, steps = _member(config, "n_state", "n_out"), _member(config, "n_sequence")
        steps_out = _member(config, "n_sequence_out")
        return {
            "in_shape": [steps, _member(config, "n_in")],
            "out_shape": [steps_out, units],
            "units": units,
        }
    if kind.startswith(("zeropad", "resize")):
        return _resized_shapes(config)
    if kind.startswith("concatenate"):
        return _concatenated_shapes(config)
    n_in = _member(config, "n_in", "n_elem", "N")
    return {"in_shape": [n_in], "out_shape": [_member(config, "n_out") or n_in]}


def _resized_shapes(config: Mapping[str, Any]) -> dict[str, Any]:
    """Read the images before and after zero padding or resizing, channels last."""
    channels = _member(config, "n_chan")
    dims = [d for d in ("height", "width") if _member(config, f"in_{d}", d) is not None]
    return {
        "in_shape": [*(_member(config, f"in_{d}", d) for d in dims), channels],
        "out_shape": [*(_member(config, f"out_{d}", f"new_{d}") for d in dims), channels],
    }


def _concatenated_shapes(config: Mapping[str, Any]) -> dict[str, Any]:
    """Read the shape of a concatenation: equal but along `axis` (hls4ml counts axes from 1)."""
    first, second = (
        [v for i in range(3) if (v := _member(config, f"n_elem{n}_{i}")) is not None]
        for n in (1, 2)
    )
    if not first or len(first) != len(second):
        return {"in_shape": [None], "out_shape": [None]}
    different = [i for i, (a, b) in enumerate(zip(first, second, strict=True)) if a != b]
    axis = config.get("axis")
    at = different[0] if different else axis - 1 if isinstance(axis, int) and axis > 0 else -1
    out = list(first)
    out[at if -len(out) <= at < len(out) else -1] += second[at if abs(at) < len(out) else -1]
    return {"in_shape": first, "out_shape": out}


def _layer(
    function: str,
    arguments: list[str],
    weights: list[str],
    name: str | None,
    structs: Mapping[str, Mapping[str, Any]],
    types: Mapping[str, str],
    sizes: Mapping[str, int],
) -> dict[str, Any]:
    config = structs.get(arguments[-1], {})
    multiply = structs.get(str(config.get("types", {}).get("mult_config", "")), {})
    kind = (
        "Dense"
        if function in _DENSE
        else "Activation"
        if function in _ACTIVATIONS
        else _TYPES.get(function, function)
    )
    record: dict[str, Any] = {"name": name or arguments[-1], "type": kind}
    if kind == "Dense":
        record |= {"in_shape": [_member(config, "n_in")], "out_shape": [_member(config, "n_out")]}
        record["units"] = _member(config, "n_out")
    elif kind.startswith(("Conv", "Depthwise", "Separable", "Pooling", "GlobalPooling")):
        record |= _conv_shapes(kind, config)
    else:
        record |= _elementwise_shapes(kind, config)
    if kind == "Activation":
        record["activation"] = function
        if (size := _member(config, "table_size")) is not None:
            record["table_size"] = size
    if (reuse := _member(config, "reuse_factor")) is not None:
        record["reuse_factor"] = reuse
    strategy = config.get("strategy", multiply.get("strategy", _NAMED_STRATEGY.get(function)))
    if isinstance(strategy, str):
        record["strategy"] = _STRATEGIES.get(strategy, strategy)
    n_zeros = _member(multiply, "n_zeros")
    n_zeros = _member(config, "n_zeros") if n_zeros is None else n_zeros
    if n_zeros is not None:
        record["n_zeros"] = n_zeros
    for alias, key in (("weight_t", "weight_precision"), ("bias_t", "bias_precision"), ("accum_t", "accum_precision"),
                       ("table_t", "table_precision"), ("scale_t", "weight_precision")):  # fmt: skip
        if alias in config.get("types", {}):
            record[key] = scalar_type(config["types"][alias], types, sizes)[0]
    data = [argument for argument in arguments[:-1] if not re.fullmatch(r"\d+", argument)]
    if data:
        sources = [scalar_type(argument, types, sizes)[0] for argument in data[:-1] or data]
        # of several inputs the widest decides what the logic costs
        record["input_precision"] = max(sources, key=lambda text: (_fixed_point(text) or (0, 0))[0])
        record["result_precision"] = scalar_type(data[-1], types, sizes)[0]
    if weights:
        record["weight_names"] = weights
    return record


def _fixed_point(text: str) -> tuple[int, int] | None:
    """Return width and integer bits of a fixed-point type, or None."""
    match = re.match(r"(?:ap_|ac_)?u?fixed<\s*(\d+)\s*,\s*(-?\d+)", text)
    if match:
        return int(match[1]), int(match[2])
    match = re.match(r"(?:ap_|ac_)?u?int<\s*(\d+)", text)
    return (int(match[1]), int(match[1])) if match else None


@dataclass(frozen=True, kw_only=True)
class Call:
    """A call of `nnet::` in the top function.

    Attributes:
        function: its name.
        template: template arguments: types of what is read, of what is written, and the configuration.
        arguments: variables and numbers.
        comment: name of the layer behind it, "" for none.
    """

    function: str
    template: tuple[str, ...]
    arguments: tuple[str, ...]
    comment: str


@dataclass(frozen=True, kw_only=True)
class Firmware:
    """The C++ of an hls4ml project, as synthesis compiles it.

    Attributes:
        folder: where the sources lie.
        source: file of the top function; None where no source calls a layer.
        text: what synthesis compiles of it.
        calls: its layers, in order.
        structs: configurations by name: numbers, words, `kind`, and `types`.
        types: type definitions.
        sizes: named sizes.
        is_stream: data pass through streams.
    """

    folder: Path
    source: Path | None
    text: str
    calls: tuple[Call, ...]
    structs: Mapping[str, Mapping[str, Any]]
    types: Mapping[str, str]
    sizes: Mapping[str, int]
    is_stream: bool


def read_firmware(folder: Path, top: str | None = None) -> Firmware | None:
    """Read a project's C++: the first source that calls a layer, the top's own first.

    Args:
        folder: the project's root, or the folder of its sources itself.
        top: name of the top function, where it is known.

    Returns:
        The sources; None where the folder holds none.

    Raises:
        ReportError: a file cannot be read.
    """
    firmware = firmware_folder(folder)
    if firmware is None:
        return None
    parameters = compiled_text(read_text(firmware / "parameters.h"))
    defines = firmware / "defines.h"
    header = (compiled_text(read_text(defines)) if defines.is_file() else "") + parameters
    sizes = _sizes(header)
    chosen: tuple[Path | None, str, tuple[Call, ...]] = (None, "", ())
    for source in sorted(firmware.glob("*.cpp"), key=lambda path: (path.stem != top, path.name)):
        text = compiled_text(read_text(source))
        calls = tuple(
            Call(
                function=function,
                template=tuple(_split_arguments(template)),
                arguments=tuple(_split_arguments(call)),
                comment=comment,
            )
            for function, template, call, comment in _CALL.findall(text)
            if not function.startswith(_NO_LAYERS)
        )
        if calls:
            chosen = (source, text, calls)
            break
    source_file, text, calls = chosen
    return Firmware(
        folder=firmware,
        source=source_file,
        text=text,
        calls=calls,
        structs=_structs(parameters, sizes),
        types={alias: definition for definition, alias in _TYPEDEF.findall(header)},
        sizes=sizes,
        is_stream="hls::stream<" in text or "nnet::array<" in header,
    )


def read_weight_values(folder: Path, name: str) -> NDArray[np.float64] | None:
    """Read the constants called `name` as the sources write them.

    Args:
        folder: the project's `firmware/weights` (or `src/firmware/weights`).
        name: C++ name, "w2".

    Returns:
        float64[n], or None when the folder holds no such file.

    Raises:
        ReportError: the file holds anything but numbers.
    """
    # the header is what the tool compiles; the trigger experiments' emulators keep all weights in one file
    pattern = re.compile(rf"\b{re.escape(name)}\s*\[[^\]]*\]\s*=\s*\{{(.*?)\}}", re.DOTALL)
    names = (f"{name}.h", "weights.h", "weights.cpp")
    headers = [place / file for place in (folder, folder.parent) for file in names]
    body = None
    for origin in (*headers, folder.parent / "parameters.h", folder / f"{name}.txt"):
        if origin.is_file():
            text = read_text(origin)
            match = pattern.search(text)
            body = text if origin.suffix == ".txt" else match[1] if match else None
            if body is not None:
                break
    if body is None:
        return None
    body = re.sub(r"//[^\n]*|/\*.*?\*/", "", body, flags=re.DOTALL)
    try:
        values = np.array([float(token) for token in re.split(r"[,\s]+", body.strip()) if token])
    except ValueError as error:
        raise ReportError(
            f"{origin}: {error}; expected numbers; write the project again"
        ) from error
    if values.size == 0 or not np.isfinite(values).all():
        raise ReportError(f"{origin}: holds no finite numbers; write the project again")
    return values


def read_weight_words(folder: Path, name: str, precision: str) -> NDArray[np.int64] | None:
    """Read the weights called `name` as raw words of `precision` (rounded down, as a C++ ap_fixed does by default).

    Args:
        folder: the project's `firmware/weights` (or `src/firmware/weights`).
        name: C++ name, "w2".
        precision: fixed-point type.

    Returns:
        int[n], or None when the folder holds no such file or the precision is no fixed-point type.

    Raises:
        ReportError: the file holds anything but numbers.
    """
    fixed = _fixed_point(precision)
    values = None if fixed is None else read_weight_values(folder, name)
    if fixed is None or values is None:
        return None
    width, integer = fixed
    # Words are counted in 64-bit integers, where 3 n must not overflow.
    if not 1 <= width <= 60 or abs(width - integer) > 512:
        raise ReportError(
            f"{folder}: {name}: weight type {precision} is wider than 60 bits; correct defines.h"
        )
    is_signed = not re.match(r"(?:ap_|ac_)?u", precision)
    words = np.floor(values * 2.0 ** (width - integer)).astype(np.int64)
    low = -(2 ** (width - 1)) if is_signed else 0
    return np.clip(words, low, low + 2**width - 1)


def yaml_scalars(text: str) -> dict[str, str]:
    """Read the scalar keys of hls4ml's configuration that matter, wherever they are indented.

    Only the `Model` section of `HLSConfig` gives the default precision, reuse and strategy.
    """
    result: dict[str, str] = {}
    for key in (
        "Backend",
        "ClockPeriod",
        "ClockUncertainty",
        "IOType",
        "Part",
        "XilinxPart",
        "ProjectName",
        "Version",
    ):
        match = re.search(rf"^{key}:\s*['\"]?([^'\"\n#]*)['\"]?\s*$", text, re.MULTILINE)
        if match and match[1].strip() and match[1].strip() != "null":
            result[key] = match[1].strip()
    model = re.search(r"^  Model:\s*\n((?:    .*\n|\s*\n)*)", text + "\n", re.MULTILINE)
    if model:
        for key in ("ReuseFactor", "Strategy", "Precision", "default"):
            match = re.search(rf"^\s+{key}:\s*['\"]?([^'\"\n#]+)['\"]?\s*$", model[1], re.MULTILINE)
            if match:
                result["Precision" if key == "default" else key] = match[1].strip()
    return result


def _tool_settings(folder: Path) -> dict[str, str]:
    """Read what the HLS tool was told: top, part, period and uncertainty, wherever they are set.

    hls4ml's `project.tcl` sets variables; scripts written by hand call the commands themselves; `vitis-run`
    and `v++` read configuration files.
    """
    found: dict[str, str] = {}
    tcl = folder / "project.tcl"
    if tcl.is_file():
        variables = dict(
            re.findall(r"^\s*set\s+(\w+)\s+\"?([^\"\n]+?)\"?\s*$", read_text(tcl), re.MULTILINE)
        )
        named = {
            "top": variables.get("project_name") or variables.get("myproject"),
            "part": variables.get("part"),
            "period": variables.get("clock_period"),
            "uncertainty": variables.get("clock_uncertainty"),
            "backend": variables.get("backend"),
            "hls4ml_version": variables.get("version"),
        }
        found = {key: value for key, value in named.items() if value}
    for path in _tool_files(folder):
        text = read_text(path)
        for key, pattern in _TOOL_SETTINGS[path.suffix].items():
            match = re.search(pattern, text, re.MULTILINE)
            if match and "$" not in match[1]:
                found.setdefault(key, match[1].strip())
    return found


#: How the tools' own scripts and configuration files say it.
_TOOL_SETTINGS = {
    ".tcl": {
        "top": r"^\s*set_top\s+\{?([^\s{}]+)",
        "part": r"^\s*set_part\s+\{?([^\s{}]+)",
        "period": r"^\s*create_clock\s+(?:-\w+\s+\w+\s+)*?-period\s+\{?([^\s{}]+)",
        "uncertainty": r"^\s*set_clock_uncertainty\s+([^\s{}]+)",
    },
    ".cfg": {
        "top": r"^\s*syn\.top\s*=\s*(\S+)",
        "part": r"^\s*part\s*=\s*(\S+)",
        "period": r"^\s*clock\s*=\s*(\S+)",
        "uncertainty": r"^\s*clock_uncertainty\s*=\s*(\S+)",
    },
}


def _tool_files(folder: Path) -> list[Path]:
    """Return the HLS scripts and configuration files at a project's root, hls4ml's own first."""
    scripts = [
        path
        for place in (folder, folder / "NN")
        for path in sorted(place.glob("build*.tcl"))
        if path.is_file()
    ]
    return scripts + [
        path
        for path in sorted(folder.glob("*.cfg"))
        if path.is_file() and "syn.top" in read_text(path)
    ]


def _configuration(folder: Path) -> dict[str, str]:
    for name in ("hls4ml_config.yml", "hls4ml_config.yaml", "keras-config.yml"):
        if (folder / name).is_file():
            return yaml_scalars(read_text(folder / name))
    return {}


def firmware_folder(folder: Path) -> Path | None:
    """Return the folder of a project's sources, or None."""
    return next(
        (folder / name for name in _FIRMWARE if (folder / name / "parameters.h").is_file()), None
    )


def is_project(folder: Path) -> bool:
    """Tell whether a folder is the root of an hls4ml project, not the sources inside one."""
    if (folder / "project.tcl").is_file() or (folder / "hls4ml_config.yml").is_file():
        return True
    firmware = firmware_folder(folder)
    return firmware is not None and not (firmware == folder and folder.name in ("firmware", "NN"))


def _layers(firmware: Firmware) -> list[dict[str, Any]]:
    """Describe the calls of the top function."""
    layers: list[dict[str, Any]] = []
    for call in firmware.calls:
        weights = [a for a in call.arguments if re.fullmatch(r"[ws]\d+(_\w+)?", a)]
        layers.append(
            _layer(
                call.function,
                list(call.template),
                weights,
                call.comment or None,
                firmware.structs,
                firmware.types,
                firmware.sizes,
            )
        )
    return layers


def read_project(folder: Path) -> dict[str, Any]:
    """Read an hls4ml project's network and configuration.

    Args:
        folder: the project's root.

    Returns:
        The descriptive keys of a synthesis record: `top`, `part`, `clock_period_ns`,
        `clock_uncertainty_ns`, `backend`, `hls4ml_version`, `strategy`, `io_type`, `model_precision`, `family`, `layers`;
        and `config_numbers`, the numbers N of the C++ structs `configN`.
        Layers carry exact zero and digit counts where the firmware's weights are there.

    Raises:
        ReportError: the folder is no hls4ml project, or its files cannot be read.
    """
    if not is_project(folder):
        raise ReportError(
            f"{folder}: no hls4ml project (no project.tcl, hls4ml_config.yml or firmware/parameters.h); "
            "give the folder that hls4ml wrote"
        )
    configuration, settings = _configuration(folder), _tool_settings(folder)
    top = settings.get("top") or configuration.get("ProjectName")
    what = f"{folder}: clock"
    period = settings.get("period") or configuration.get("ClockPeriod")
    period_ns = period_ns_of(period, what=what) if period else None
    uncertainty = settings.get("uncertainty") or configuration.get("ClockUncertainty")
    firmware = read_firmware(folder, top)
    layers, config_numbers = list[dict[str, Any]](), list[int]()
    if firmware:
        config_numbers = sorted(
            {int(n) for x in firmware.structs for n in re.findall(r"config(\d+)", x)}
        )
        layers = _layers(firmware)
        for layer in layers:
            _count_weights(layer, firmware.folder)
    io_type = "io_stream" if firmware and firmware.calls and firmware.is_stream else "io_parallel"
    strategies = {layer["strategy"] for layer in layers if "strategy" in layer}
    return {
        "top": top,
        "part": settings.get("part")
        or configuration.get("Part")
        or configuration.get("XilinxPart"),
        "clock_period_ns": period_ns,
        "clock_uncertainty_ns": uncertainty_ns_of(uncertainty, period_ns, what=what)
        if uncertainty and period_ns
        else None,
        "backend": configuration.get("Backend") or settings.get("backend"),
        "strategy": strategies.pop() if len(strategies) == 1 else configuration.get("Strategy"),
        "io_type": configuration.get("IOType") or io_type,
        "model_precision": configuration.get("Precision"),
        "family": _family(layers),
        "layers": layers,
        "hls4ml_version": settings.get("hls4ml_version") or configuration.get("Version"),
        "config_numbers": config_numbers,
    }


def _count_weights(layer: dict[str, Any], firmware: Path) -> None:
    folder = firmware / "weights"
    names = layer.pop("weight_names", [])
    precision = layer.get("weight_precision")
    if not names or precision is None:
        return
    words = read_weight_words(folder, names[0], precision)
    if words is None:
        return
    width = _fixed_point(layer.get("input_precision", ""))
    n_out = layer["out_shape"][-1] if layer.get("out_shape") else None
    if n_out and words.size % n_out == 0:
        # hls4ml writes the weights of the Resource strategy outputs first
        is_resource = str(layer.get("strategy")).lower() == "resource"
        words = words.reshape(n_out, -1).T if is_resource else words.reshape(-1, n_out)
    counts = layer_counts(words, width[0] if width else DEFAULT_INPUT_BITS)
    n_in, n_out = layer["in_shape"][0], layer["out_shape"][0]
    if (
        layer["type"] == "Dense"
        and None not in (n_in, n_out)
        and counts["n_weights"] != n_in * n_out
    ):
        raise ReportError(
            f"{folder}: {names[0]} holds {counts['n_weights']} weights, layer {layer['name']} has {n_in} x {n_out}; "
            "the weights are of another network; write the project again"
        )
    layer |= counts


def _family(layers: list[dict[str, Any]]) -> str | None:
    kinds = " ".join(layer["type"] for layer in layers)
    for marker, family in (
        ("LSTM", "RNN"),
        ("GRU", "RNN"),
        ("2D", "CNN2D"),
        ("1D", "CNN1D"),
        ("Dense", "MLP"),
    ):
        if marker in kinds:
            return family
    return None
