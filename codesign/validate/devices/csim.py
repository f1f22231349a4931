"""`csim:FOLDER`: the C++ of an exported hls4ml project, compiled with g++ and run in this process.

The library is built once per content of the project, in the user's cache: an export is sealed by its
certificate and must not change.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError, ExportError
from codesign.export.hls4ml import CSimulation, HlsProject, build_c_simulation
from codesign.export.plan import ProjectPlan
from codesign.export.templates import check_identifier
from codesign.ir import QuantizedNetwork
from codesign.tools import cache_folder
from codesign.validate.device import Device, DeviceDescription, check_words
from codesign.validate.faults import DeviceFault
from codesign.validate.run import Reference
from codesign.validate.url import DEVICES, DeviceContext, DeviceUrl


class CSimulationDevice(Device):
    """Wraps `codesign.export.hls4ml.CSimulation`.

    hls4ml's C++ carries no digest of the network, so this device answers for its folder's weights.
    """

    def __init__(self, folder: Path, network: QuantizedNetwork, *, top: str, backend: str) -> None:
        self._folder = folder
        self._network = network
        self._top = top
        self._backend = backend
        self._simulation: CSimulation | None = None
        self._n_events = 0

    def load(self) -> None:
        plan = ProjectPlan.read(self._folder)
        work = cache_folder() / "csim" / plan.digest
        library = work / f"lib{self._top}.so"
        try:
            if library.is_file():
                self._simulation = CSimulation(library, self._top, self._network)
            else:
                project = HlsProject(
                    backend=self._backend,
                    name=self._top,
                    plan=plan,
                    layers=json.loads(plan.files["codesign_layers.json"]),
                )
                self._simulation = build_c_simulation(project, self._network, work)
        except KeyError as error:
            raise DesignError(
                f"{self._folder} holds no project of ours; export it again"
            ) from error
        self._n_events = 0

    def describe(self) -> DeviceDescription:
        reference = Reference.from_network(self._network)
        return DeviceDescription(
            kind=f"csim-{self._backend}",
            digest=self._network.digest,
            input_formats=reference.input_formats,
            output_formats=reference.output_formats,
            latency_cycles=None,
            clock_period_ns=None,
            stage="emulated",
        )

    def run(self, words: NDArray[np.int64]) -> NDArray[np.int64]:
        if self._simulation is None:
            raise DeviceFault("link-dropped", "not loaded; load the device first")
        words = check_words(words, self.describe().input_formats)
        try:
            out = self._simulation.run(words)
        except ExportError as error:
            raise DeviceFault("wrong-values", str(error)) from error
        self._n_events += len(words)
        return out

    def counters(self) -> Mapping[str, int]:
        return {"events": self._n_events}

    def trace(self, words: NDArray[np.int64]) -> None:
        return None  # the compiled top function shows its output only

    def measure_timing(self) -> None:
        return None  # untimed

    def close(self) -> None:
        self._simulation = None


def open_csim(url: DeviceUrl, context: DeviceContext) -> CSimulationDevice:
    """Create the device; without a path, the candidate's first `hls4ml_*` project."""
    url.check_options()
    folder = context.locate(url, ".")
    if not (folder / "codesign_layers.json").is_file():
        projects = sorted(folder.glob("hls4ml_*/codesign_layers.json"))
        if not projects:
            raise DesignError(f"{folder} holds no hls4ml project; export the candidate first")
        folder = projects[0].parent
    tops = sorted(p.name.removesuffix("_bridge.cpp") for p in folder.glob("*_bridge.cpp"))
    if len(tops) != 1:
        raise DesignError(f"{folder} holds {len(tops)} hls4ml top functions; expected one")
    backend = folder.name.removeprefix("hls4ml_")
    return CSimulationDevice(
        folder, context.require_network(url), top=check_identifier(tops[0]), backend=backend
    )


DEVICES.add("csim", open_csim)
