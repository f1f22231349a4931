"""The versioned emulator: a self-contained C++ shared library that computes a network bit for bit.

`<name>_v<N>` is what CMS asks of a trigger algorithm: one header and one source without any
dependency, a makefile that needs g++ and make only, a test of its own on golden vectors, a C interface
(so that any language can load it), a C++ wrapper and a Python loader.  Everything is integer
arithmetic on 64-bit words; several versions can be linked into one program.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError, ExportError, unknown_name
from codesign.ir import FixedPoint, Node, QuantizedNetwork
from codesign.layers import LAYERS, infer_formats, run_words
from codesign.layers._table import TableActivation
from codesign.layers.base import WordRange
from codesign.layers.leaky_relu import LOG2_SLOPE
from codesign.resources import data_root
from codesign.tools import require_tool, run_tool

#: Names become C++ identifiers, file names and make targets.
_NAME = re.compile(r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$")

#: Golden vectors that travel with the library.
N_GOLDEN = 64


def emulator_prefix(name: str, version: int) -> str:
    """Return `<name>_v<N>`, checked.

    Raises:
        ExportError: the name is no lower-case identifier, or the version is not positive.
    """
    if not _NAME.match(name) or len(name) > 40:
        raise ExportError(
            f"emulator name {name!r} is not allowed; use up to 40 lower-case letters, digits and single"
            " underscores, a letter first"
        )
    if not 1 <= version <= 9999:
        raise ExportError(f"emulator version {version} is not allowed; use 1 to 9999")
    return f"{name}_v{version}"


def emulator_files(network: QuantizedNetwork, *, name: str, version: int) -> dict[str, str]:
    """Generate the emulator's files; the same network gives the same bytes.

    Args:
        network: the quantized network.
        name: lower-case identifier.
        version: 1, 2, ...; part of every symbol and file name.

    Returns:
        File name to content.

    Raises:
        ExportError: a bad name, or a layer type that cannot be emitted.
    """
    prefix = emulator_prefix(name, version)
    ranges = infer_formats(network)
    inputs = golden_inputs(network, N_GOLDEN)
    outputs = run_words(network, inputs)
    assert isinstance(outputs, np.ndarray), "run_words without trace returns an array"
    values = {
        "prefix": prefix,
        "upper": prefix.upper(),
        "n_inputs": str(inputs.shape[1]),
        "n_outputs": str(outputs.shape[1]),
        "n_trace": str(sum(r.low.size for r in ranges.values())),
        "digest": network.digest,
        "input_type": network.input_format.to_hls(),
        "output_type": network.output_format.to_hls(),
        "input_min": str(network.input_format.min_word),
        "input_max": str(network.input_format.max_word),
        "input_fraction_bits": str(network.input_format.fraction_bits),
        "output_fraction_bits": str(network.output_format.fraction_bits),
        "word": "int32_t" if fits_32_bits(network, ranges) else "int64_t",
        "description": _c_string(_description(network, ranges)),
        "constants": _constants(network, ranges),
        "body": _body(network, ranges),
    }
    root = data_root("hls_templates") / "emulator"
    files = {
        f"{prefix}.h": "emulator.h.in",
        f"{prefix}.cpp": "emulator.cpp.in",
        f"test_{prefix}.cpp": "test.cpp.in",
        f"{prefix}.py": "loader.py.in",
        "Makefile": "Makefile.in",
        "README.txt": "README.txt.in",
    }
    rendered = {
        target: _render((root / template).read_text(encoding="utf-8"), values)
        for target, template in files.items()
    }
    rendered["golden.txt"] = _golden_text(inputs, outputs)
    return rendered


def write_emulator(network: QuantizedNetwork, folder: Path, *, name: str, version: int) -> Path:
    """Write the emulator's files to `folder` and return the path its library will have."""
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in emulator_files(network, name=name, version=version).items():
        (folder / file).write_text(text, encoding="utf-8")
    return folder / f"lib{emulator_prefix(name, version)}.so"


def build_emulator(folder: Path, *, timeout_s: float = 600.0) -> Path:
    """Compile the library in `folder` with its own makefile and run its own test.

    Returns:
        The shared library.

    Raises:
        ToolError: make or g++ is missing, or the build or the test failed.
        ExportError: the folder holds no emulator.
    """
    sources = [p for p in folder.glob("*_v*.cpp") if not p.name.startswith("test_")]
    if len(sources) != 1 or not (folder / "Makefile").is_file():
        raise ExportError(f"{folder} holds no emulator; export the candidate again")
    require_tool("g++")
    run_tool([require_tool("make"), "test"], folder=folder, timeout_s=timeout_s)
    return folder / f"lib{sources[0].stem}.so"


def golden_inputs(network: QuantizedNetwork, n_random: int) -> NDArray[np.int64]:
    """Return corner vectors and seeded random ones, int64[n, n_inputs].

    Corners: all zero, all least, all greatest, alternating extremes, and each input alone at either
    extreme (for up to 64 inputs).
    """
    fmt = network.input_format
    width = int(network.network.nodes[0].parameters["width"])
    corners = [np.zeros(width), np.full(width, fmt.min_word), np.full(width, fmt.max_word)]
    corners.append(np.where(np.arange(width) % 2, fmt.min_word, fmt.max_word))
    for index in range(min(width, 64)):
        for extreme in (fmt.min_word, fmt.max_word):
            hot = np.zeros(width)
            hot[index] = extreme
            corners.append(hot)
    random = np.random.default_rng(0).integers(
        fmt.min_word, fmt.max_word, size=(n_random, width), endpoint=True
    )
    return np.vstack([np.array(corners).astype(np.int64), random])


def fits_32_bits(network: QuantizedNetwork, ranges: Mapping[str, WordRange]) -> bool:
    """Whether every word, shifted word and partial sum, in any order, fits 31 bits and a sign."""
    for node in network.network.nodes:
        known = ranges[node.name]
        largest = max(abs(int(known.low.min())), abs(int(known.high.max())))
        if node.name in network.weight_words:
            source = ranges[node.inputs[0]]
            magnitude = np.maximum(np.abs(source.low), np.abs(source.high)).astype(object)
            fraction = known.format.fraction_bits
            weight, bias = network.weight_format[node.name], network.bias_format[node.name]
            product_shift = fraction - source.format.fraction_bits - weight.fraction_bits
            terms = np.abs(network.weight_words[node.name]).astype(object) * magnitude[:, None]
            sums = terms.sum(axis=0) * 2**product_shift
            sums = sums + np.abs(network.bias_words[node.name]).astype(object) * 2 ** (
                fraction - bias.fraction_bits
            )
            largest = max(largest, *sums.tolist())
        if largest >= 2**31:
            return False
    return True


# ---- text ---------------------------------------------------------------------------------------
def _render(template: str, values: Mapping[str, str]) -> str:
    """Replace every `@key@`; a key that is not known is a mistake in the template."""
    return re.sub(r"@([a-z_]+)@", lambda match: values[match.group(1)], template)


def _c_string(value: object) -> str:
    """Return JSON as a C string literal, cut into lines."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    if not text.isascii():
        raise ExportError("a name in the description is not ASCII; rename it")
    pieces = [text[i : i + 80] for i in range(0, len(text), 80)]
    return "\n    ".join(json.dumps(piece) for piece in pieces)


def _description(network: QuantizedNetwork, ranges: Mapping[str, WordRange]) -> dict[str, object]:
    def port(fmt: FixedPoint, count: int) -> list[tuple[int, int, bool]]:
        return [(fmt.bits, fmt.integer_bits, fmt.signed)] * count

    nodes = network.network.nodes
    return {
        "schema": 1,
        "digest": network.digest,
        "input_formats": port(network.input_format, ranges[nodes[0].name].low.size),
        "output_formats": port(network.output_format, ranges[nodes[-1].name].low.size),
        "nodes": [[node.name, ranges[node.name].low.size] for node in nodes],
    }


def _golden_text(inputs: NDArray[np.int64], outputs: NDArray[np.int64]) -> str:
    lines = [f"{inputs.shape[0]} {inputs.shape[1]} {outputs.shape[1]}"]
    lines += [
        " ".join(map(str, [*x, *y])) for x, y in zip(inputs.tolist(), outputs.tolist(), strict=True)
    ]
    return "\n".join(lines) + "\n"


def _array(name: str, words: NDArray[np.int64]) -> str:
    """Return one constant array in the narrowest integer type that holds it."""
    flat = [int(w) for w in words.ravel()]
    low, high = min(flat), max(flat)
    bits = next(b for b in (8, 16, 32, 64) if -(1 << (b - 1)) <= low and high < 1 << (b - 1))
    lines = [", ".join(map(str, flat[i : i + 16])) for i in range(0, len(flat), 16)]
    return f"const int{bits}_t {name}[{len(flat)}] = {{\n    " + ",\n    ".join(lines) + "};\n"


def _constants(network: QuantizedNetwork, ranges: Mapping[str, WordRange]) -> str:
    parts = []
    for node in network.network.nodes:
        layer = LAYERS.get(node.layer)
        if node.name in network.weight_words:
            parts.append(_array(f"weights_{node.name}", network.weight_words[node.name]))
            parts.append(_array(f"bias_{node.name}", network.bias_words[node.name]))
        elif isinstance(layer, TableActivation):
            words = layer.table_words(ranges[node.name].format)
            parts.append(_array(f"table_{node.name}", words))
    return "\n".join(parts)


# ---- one statement per layer --------------------------------------------------------------------
def _variable(name: str) -> str:
    """Return the C++ variable of a node; the prefix keeps it apart from every keyword."""
    return f"n_{name}"


Emitter = Callable[[Node, QuantizedNetwork, Mapping[str, WordRange]], str]


def _cast(source: FixedPoint, result: FixedPoint, *, extra_shift: int = 0) -> str:
    """Return the C++ function that converts words of one format to another."""
    shift = source.fraction_bits - result.fraction_bits + extra_shift
    if not -62 <= shift <= 62:
        raise ExportError(
            f"no shift by {shift} bits from {source.to_hls()} to {result.to_hls()} fits 64-bit words"
        )
    return (
        f"cast<{shift}, Rounding::{result.rounding}, Overflow::{result.overflow},"
        f" {result.bits}, {str(result.signed).lower()}>"
    )


def _emit_dense(node: Node, network: QuantizedNetwork, ranges: Mapping[str, WordRange]) -> str:
    source, result = ranges[node.inputs[0]], ranges[node.name]
    product_fraction = source.format.fraction_bits + network.weight_format[node.name].fraction_bits
    product_shift = result.format.fraction_bits - product_fraction
    bias_shift = result.format.fraction_bits - network.bias_format[node.name].fraction_bits
    return (
        f"dense<B, {source.low.size}, {result.low.size}, {product_shift}, {bias_shift}>"
        f"({_variable(node.inputs[0])}, weights_{node.name}, bias_{node.name},"
        f" {_variable(node.name)});"
    )


def _emit_elementwise(expression: str) -> Emitter:
    """Emit a loop over lanes; `{x}` is the word, `{cast}` the conversion to the result."""

    def emit(node: Node, network: QuantizedNetwork, ranges: Mapping[str, WordRange]) -> str:
        (name,) = node.inputs
        source, result = ranges[name], ranges[node.name]
        scaled = _cast(source.format, result.format, extra_shift=-LOG2_SLOPE)
        value = expression.format(
            x=f"{_variable(name)}[i]", cast=_cast(source.format, result.format), cast_leaky=scaled
        )
        return (
            f"for (int i = 0; i < {result.low.size} * B; ++i) {_variable(node.name)}[i] = {value};"
        )

    return emit


def _emit_table(node: Node, network: QuantizedNetwork, ranges: Mapping[str, WordRange]) -> str:
    layer = LAYERS.get(node.layer)
    assert isinstance(layer, TableActivation), "registered for table activations only"
    index = layer.index_format
    (name,) = node.inputs
    cast = _cast(ranges[name].format, index)
    return (
        f"for (int i = 0; i < {ranges[node.name].low.size} * B; ++i)"
        f" {_variable(node.name)}[i] = table_{node.name}[{cast}({_variable(name)}[i]) - ({index.min_word})];"
    )


def _shifts(node: Node, ranges: Mapping[str, WordRange]) -> list[int]:
    fraction = ranges[node.name].format.fraction_bits
    return [fraction - ranges[name].format.fraction_bits for name in node.inputs]


def _emit_add(node: Node, network: QuantizedNetwork, ranges: Mapping[str, WordRange]) -> str:
    terms = " + ".join(
        f"shift_left({_variable(name)}[i], {shift})"
        for name, shift in zip(node.inputs, _shifts(node, ranges), strict=True)
    )
    return f"for (int i = 0; i < {ranges[node.name].low.size} * B; ++i) {_variable(node.name)}[i] = {terms};"


def _emit_concat(node: Node, network: QuantizedNetwork, ranges: Mapping[str, WordRange]) -> str:
    lines, start = [], 0
    for name, shift in zip(node.inputs, _shifts(node, ranges), strict=True):
        width = ranges[name].low.size
        lines.append(
            f"for (int i = 0; i < {width} * B; ++i) {_variable(node.name)}[{start} * B + i] ="
            f" shift_left({_variable(name)}[i], {shift});"
        )
        start += width
    return "\n    ".join(lines)


_EMITTERS: dict[str, Emitter] = {
    "dense": _emit_dense,
    "relu": _emit_elementwise("{cast}({x} > 0 ? {x} : 0)"),
    "leaky_relu": _emit_elementwise("{x} > 0 ? {cast}({x}) : {cast_leaky}({x})"),
    "linear": _emit_elementwise("{cast}({x})"),
    "flatten": _emit_elementwise("{x}"),
    "tanh": _emit_table,
    "sigmoid": _emit_table,
    "add": _emit_add,
    "concat": _emit_concat,
}


def _body(network: QuantizedNetwork, ranges: Mapping[str, WordRange]) -> str:
    lines, offset = [], 0
    for node in network.network.nodes:
        result = ranges[node.name]
        lines.append(f"// {node.name}: {node.layer}, {result.format.to_hls()}")
        lines.append(f"Word* {_variable(node.name)} = words + {offset} * B;")
        offset += result.low.size
        if not node.inputs:
            continue
        if node.layer not in _EMITTERS:
            raise ExportError(
                f"{node.name}: " + unknown_name("emulator layer", node.layer, _EMITTERS)
            )
        try:
            lines.append(_EMITTERS[node.layer](node, network, ranges))
        except DesignError as error:
            raise ExportError(f"{node.name}: {error}") from error
    return "\n    ".join(lines)
