"""`csim:FOLDER`: the C++ of an exported hls4ml project, compiled with g++ and run in this process.

The library is built once per content of the project, in the user's cache: an export is sealed by its
certificate and must not change.
"""

from __future__ import annotations

import json

from codesign.errors import DesignError
from codesign.export.hls4ml import HlsProject
from codesign.export.plan import ProjectPlan
from codesign.export.templates import check_identifier
from codesign.tools import cache_folder
from codesign.validate.forms import c_simulation_form
from codesign.validate.implementation import Form, InProcess
from codesign.validate.url import DEVICES, DeviceContext, DeviceUrl


def open_csim(url: DeviceUrl, context: DeviceContext) -> InProcess:
    """Create the device; without a path, the candidate's first `hls4ml_*` project."""
    url.check_options()
    network = context.require_network(url)
    folder = context.locate(url, ".")
    if not (folder / "codesign_layers.json").is_file():
        projects = sorted(folder.glob("hls4ml_*/codesign_layers.json"))
        if not projects:
            raise DesignError(f"{folder} holds no hls4ml project; export the candidate first")
        folder = projects[0].parent
    tops = sorted(p.name.removesuffix("_bridge.cpp") for p in folder.glob("*_bridge.cpp"))
    if len(tops) != 1:
        raise DesignError(f"{folder} holds {len(tops)} hls4ml top functions; expected one")
    top = check_identifier(tops[0])

    def open() -> Form:
        plan = ProjectPlan.read(folder)
        project = HlsProject(
            backend=folder.name.removeprefix("hls4ml_"),
            name=top,
            plan=plan,
            layers=json.loads(plan.files["codesign_layers.json"]),
        )
        return c_simulation_form(project, network, cache_folder() / "csim" / plan.digest)

    return InProcess(open, expected_digest=context.expected_digest)


DEVICES.add("csim", open_csim)
