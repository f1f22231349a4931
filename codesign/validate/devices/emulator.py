"""`emulator:PATH`: the versioned emulator of `codesign.export.emulator`, a library or its folder.

A folder is built once per content, in the user's cache: an export is sealed by its certificate and
must not change.
"""

from __future__ import annotations

from pathlib import Path

from codesign.export.emulator import build_emulator
from codesign.export.plan import ProjectPlan
from codesign.tools import cache_folder
from codesign.validate.forms import emulator_form
from codesign.validate.implementation import InProcess
from codesign.validate.url import DEVICES, DeviceContext, DeviceUrl


def built_emulator(path: Path) -> Path:
    """Return the library that `path` is, or that its folder builds.

    Raises:
        ExportError: the folder holds no emulator.
        ToolError: make or g++ is missing, or its test failed.
    """
    if not path.is_dir():
        return path
    plan = ProjectPlan.read(path)
    work = cache_folder() / "emulator" / plan.digest
    built = sorted(work.glob("lib*_v*.so"))
    if len(built) == 1 and (work / "tested").exists():
        return built[0]
    plan.write(work)
    library = build_emulator(work)
    (work / "tested").touch()
    return library


def open_emulator(url: DeviceUrl, context: DeviceContext) -> InProcess:
    """Create the device; without a path, the candidate's `emulator` folder."""
    url.check_options()
    path = context.locate(url, "emulator")
    return InProcess(
        lambda: emulator_form(built_emulator(path)), expected_digest=context.expected_digest
    )


DEVICES.add("emulator", open_emulator)
