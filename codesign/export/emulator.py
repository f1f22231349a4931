"""The versioned emulator: a self-contained C++ shared library that computes a network bit for bit.

`<name>_v<N>` is what CMS asks of a trigger algorithm: one header and one source without any
dependency, a makefile that needs g++ and make only, a test of its own on golden vectors, a C interface
(so that any language can load it), a C++ wrapper, the class that CMS software loads and a Python loader.  Everything is integer
arithmetic on 64-bit words; several versions can be linked into one program.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError, ExportError
from codesign.export.templates import check_firmware_name
from codesign.ir import FixedPoint, QuantizedNetwork, TensorType
from codesign.layers import LAYERS, TypedNetwork, run_words, typed
from codesign.layers._export import cpp_variable
from codesign.resources import data_root
from codesign.tools import require_tool, run_tool

#: Golden vectors that travel with the library.
N_GOLDEN = 64


def emulator_prefix(name: str, version: int) -> str:
    """Return `<name>_v<N>`, checked.

    Raises:
        ExportError: the name is no lower-case identifier, or the version is not positive.
    """
    check_firmware_name(name)
    if not 1 <= version <= 9999:
        raise ExportError(f"firmware version {version} is not allowed; use 1 to 9999")
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
    sites = typed(network)
    inputs = golden_inputs(network, N_GOLDEN)
    outputs = run_words(network, inputs)
    assert isinstance(outputs, np.ndarray), "run_words without trace returns an array"
    values = {
        "prefix": prefix,
        "upper": prefix.upper(),
        "n_inputs": str(inputs.shape[1]),
        "n_outputs": str(outputs.shape[1]),
        "n_trace": str(sum(site.output.size for site in sites)),
        "digest": network.digest,
        "input_type": network.input_format.to_hls(),
        "output_type": network.output_format.to_hls(),
        "input_min": str(network.input_format.min_word),
        "input_max": str(network.input_format.max_word),
        "input_fraction_bits": str(network.input_format.fraction_bits),
        "output_fraction_bits": str(network.output_format.fraction_bits),
        "word": "int32_t" if fits_32_bits(network) else "int64_t",
        "description": _c_string(_description(network, sites)),
        "support": "".join(
            dict.fromkeys(LAYERS.get(site.node.layer).cpp_support for site in sites)
        ),
        "constants": _input_limits(network.input_type) + _constants(sites),
        "input_is_wrong": _input_check(network.input_type),
        "body": _body(sites),
    }
    root = data_root("hls_templates") / "emulator"
    files = {
        f"{prefix}.h": "emulator.h.in",
        f"{prefix}.cpp": "emulator.cpp.in",
        f"model_{prefix}.cpp": "model.cpp.in",
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


def build_emulator(folder: Path, *, timeout_s: float = 600.0) -> Path:
    """Compile the library in `folder` with its own makefile and run its own test.

    Returns:
        The shared library.

    Raises:
        ToolError: make or g++ is missing, or the build or the test failed.
        ExportError: the folder holds no emulator.
    """
    headers = list(folder.glob("*_v*.h"))
    if len(headers) != 1 or not (folder / "Makefile").is_file():
        raise ExportError(f"{folder} holds no emulator; export the candidate again")
    require_tool("g++")
    run_tool([require_tool("make"), "test"], folder=folder, timeout_s=timeout_s)
    return folder / f"lib{headers[0].stem}.so"


def golden_inputs(network: QuantizedNetwork, n_random: int) -> NDArray[np.int64]:
    """Return corner vectors and seeded random ones, int64[n, n_inputs].

    Corners: all zero, all least, all greatest, alternating extremes, and each input alone at either
    extreme (for up to 64 inputs).
    """
    known = network.input_type
    low, high = known.min_words.ravel(), known.max_words.ravel()
    corners = [np.zeros_like(low), low, high]
    corners.append(np.where(np.arange(low.size) % 2, low, high))
    for index in range(min(low.size, 64)):
        for extreme in (low, high):
            hot = np.zeros_like(low)
            hot[index] = extreme[index]
            corners.append(hot)
    return np.vstack(
        [np.array(corners), known.draw(np.random.default_rng(0), n_random).reshape(n_random, -1)]
    )


def fits_32_bits(network: QuantizedNetwork) -> bool:
    """Whether every word, shifted word and partial sum, in any order, fits 31 bits and a sign."""
    return all(LAYERS.get(site.node.layer).largest_sum(site) < 2**31 for site in typed(network))


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


def _description(network: QuantizedNetwork, sites: TypedNetwork) -> dict[str, object]:
    def port(fmt: FixedPoint, count: int) -> list[tuple[int, int, bool]]:
        return [(fmt.bits, fmt.integer_bits, fmt.signed)] * count

    return {
        "schema": 1,
        "digest": network.digest,
        "input_formats": port(network.input_format, sites.input.size),
        "output_formats": port(network.output_format, sites.output.size),
        "nodes": [[site.node.name, site.output.size] for site in sites],
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


def _constants(sites: TypedNetwork) -> str:
    return "\n".join(
        _array(name, words)
        for site in sites
        for name, words in LAYERS.get(site.node.layer).cpp_constants(site).items()
    )


def _input_check(known: TensorType) -> str:
    """Return the C++ expression that tells a word of input i that its element does not hold."""
    if known.uniform is not None:
        return f"word < {known.covering.min_word} || word > {known.covering.max_word}"
    return "word < input_low[i] || word > input_high[i] || (word & input_zeros[i])"


def _input_limits(known: TensorType) -> str:
    """Return the arrays that `_input_check` reads."""
    if known.uniform is not None:
        return ""
    zeros = np.broadcast_to((np.int64(1) << known.trailing_zeros) - 1, known.shape)
    limits = {"low": known.min_words, "high": known.max_words, "zeros": zeros}
    return "".join(_array(f"input_{name}", words) + "\n" for name, words in limits.items())


def _body(sites: TypedNetwork) -> str:
    lines, offset = [], 0
    for site in sites:
        node = site.node
        lines.append(f"// {node.name}: {node.layer}, {site.output.type.describe()}")
        lines.append(f"Word* {cpp_variable(node.name)} = words + {offset} * B;")
        offset += site.output.size
        if not node.inputs:
            continue
        try:
            lines.append(LAYERS.get(node.layer).to_cpp(site))
        except (DesignError, ExportError) as error:
            raise ExportError(f"{node.name}: {error}") from error
    return "\n    ".join(lines)
