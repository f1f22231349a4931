"""hls4ml's C++ of a project, compiled with g++ and run: what an imported project is compared with."""

from __future__ import annotations

import re
import shutil
import tempfile
import weakref
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError, ToolError
from codesign.files import write_atomically
from codesign.importing.firmware_reader import Project
from codesign.tools import missing_package, require_tool, run_tool
from hw_models.calibration.parsers.project import read_weight_values

Floats = NDArray[np.float64]
_FLAGS = ("-std=c++17", "-O1", "-w")

_MAIN = """\
// The top function on every event of a file of doubles.
#include <cstdio>
#include <vector>
#define WEIGHTS_DIR {weights}
#include {source}
{namespaces}
int main(int, char** argv) {{
    std::FILE* in = std::fopen(argv[1], "rb");
    std::FILE* out = std::fopen(argv[2], "wb");
    if (!in || !out) return 1;
    std::vector<double> x({n_in}), y({n_out});
    while (std::fread(x.data(), sizeof(double), x.size(), in) == x.size()) {{
        double* from = x.data();
        double* to = y.data();
{before}
        {top}({arguments});
{after}
        if (std::fwrite(y.data(), sizeof(double), y.size(), out) != y.size()) return 1;
    }}
    std::fclose(in);
    return std::fclose(out);
}}
"""


class FirmwareProgram:
    """A project's C++, built in a folder of its own that goes with this object."""

    def __init__(self, project: Project) -> None:
        """Compile it.

        Raises:
            ToolError: g++ or hls4ml's headers are missing, or the project does not compile.
        """
        folder, firmware = Path(tempfile.mkdtemp(prefix="codesign-")), project.firmware
        self._folder = folder
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        weights = firmware.folder / "weights"
        if not list(weights.glob("*.txt")):
            weights = folder / "weights"
            weights.mkdir()
            for name in project.constants:
                values = read_weight_values(firmware.folder / "weights", name)
                assert values is not None, "constants were read before"
                write_atomically(weights / f"{name}.txt", ",".join(map(repr, values.tolist())))
        write_atomically(folder / "main.cpp", _main_text(project, weights))
        own = firmware.folder.resolve()
        includes = [own, own.parent, own / "ap_types", own.parent / "ap_types", *_headers(own)]
        flags = [f"-I{place}" for place in includes if place.is_dir()]
        try:
            run_tool(
                [require_tool("g++"), *_FLAGS, *flags, "main.cpp", "-o", "main"],
                folder=folder,
                timeout_s=1800.0,
            )
        except ToolError as error:
            raise ToolError(f"{firmware.source}: does not compile with g++: {error}") from error
        self._n_out = sum(size for _, _, size in project.outputs)

    def __call__(self, inputs: Floats) -> Floats:
        """Run real inputs, float64[n, *shape]; returns float64[n, n_outputs]."""
        folder = self._folder
        np.asarray(inputs, dtype=np.float64).tofile(folder / "in.bin")
        run_tool([folder / "main", "in.bin", "out.bin"], folder=folder, timeout_s=1800.0)
        outputs = np.fromfile(folder / "out.bin", dtype=np.float64)
        if outputs.size != len(inputs) * self._n_out:
            raise DesignError("the project's own program ended early; check its sources")
        return outputs.reshape(len(inputs), -1)


def _headers(own: Path) -> list[Path]:
    """Return where nnet_utils and ap_types are where the project brings none: in hls4ml."""
    found = find_spec("hls4ml")
    if found is None or found.origin is None:
        if (own / "nnet_utils").is_dir():
            return []
        raise ToolError(missing_package("hls4ml"))
    shipped = Path(found.origin).parent / "templates" / "vivado"
    return [shipped, shipped / "ap_types"]


def _main_text(project: Project, weights: Path) -> str:
    firmware = project.firmware
    assert firmware.source is not None, "a project that was read has a top function"
    before, after, arguments = [], [], []
    sizes_in = {name: (kind, n) for kind, name, n in project.inputs}
    sizes_out = {name: (kind, n) for kind, name, n in project.outputs}
    for kind, name in project.ports:
        arguments.append(f"port_{name}")
        if name not in sizes_in and name not in sizes_out:
            before.append(f"        {kind} port_{name}{{}};")
            continue
        known, n = (sizes_in if name in sizes_in else sizes_out)[name]
        brackets = "" if firmware.is_stream else f"[{n}]"
        shown = f"hls::stream<{known}>" if firmware.is_stream else known
        before.append(f"        static {shown} port_{name}{brackets};")
        if name in sizes_in:
            if firmware.is_stream:
                before.append(
                    f"        nnet::convert_data<double, {known}, {n}>(from, port_{name});"
                )
            else:
                before.append(f"        for (int i = 0; i < {n}; ++i) port_{name}[i] = from[i];")
            before.append(f"        from += {n};")
        else:
            if firmware.is_stream:
                after.append(f"        nnet::convert_data<{known}, double, {n}>(port_{name}, to);")
            else:
                after.append(
                    f"        for (int i = 0; i < {n}; ++i) to[i] = (double)port_{name}[i];"
                )
            after.append(f"        to += {n};")
    spaces = re.findall(r"^\s*namespace\s+(\w+)\s*\{", firmware.text, re.MULTILINE)
    return _MAIN.format(
        weights=_quoted(weights),
        source=_quoted(firmware.source.resolve()),
        namespaces="\n".join(f"using namespace {space};" for space in spaces),
        n_in=sum(n for _, _, n in project.inputs),
        n_out=sum(n for _, _, n in project.outputs),
        before="\n".join(before),
        top=project.top,
        arguments=", ".join(arguments),
        after="\n".join(after),
    )


def _quoted(path: Path) -> str:
    if re.search(r'["\\\n]', str(path)):
        raise DesignError(f"{path}: no C++ can include a path with quotes; move the project")
    return f'"{path}"'
