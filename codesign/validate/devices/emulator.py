"""`emulator:PATH`: the versioned emulator of `codesign.export.emulator`, a library or its folder.

A folder is built once per content, in the user's cache: an export is sealed by its certificate and
must not change.
"""

from __future__ import annotations

import ctypes
import json
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError, DeviceError
from codesign.export.emulator import build_emulator
from codesign.export.plan import ProjectPlan
from codesign.tools import cache_folder
from codesign.validate.device import Device, DeviceDescription, check_words
from codesign.validate.faults import DeviceFault
from codesign.validate.url import DEVICES, DeviceContext, DeviceUrl

_LIBRARY = re.compile(r"^lib([a-z][a-z0-9_]*_v[0-9]+)\.so$")


class EmulatorLibrary:
    """The C interface of one emulator library."""

    def __init__(self, path: Path) -> None:
        match = _LIBRARY.match(path.name)
        if match is None:
            raise DesignError(f"{path} is no emulator library; expected a name like libjets_v1.so")
        self.prefix = match.group(1)
        try:
            library = ctypes.CDLL(str(path.resolve()))
            self._run = getattr(library, f"{self.prefix}_run")
            self._trace = getattr(library, f"{self.prefix}_trace")
            describe = getattr(library, f"{self.prefix}_description")
        except (OSError, AttributeError) as error:
            raise DeviceError(f"{path} cannot be loaded: {error}; build it again") from error
        for function in (self._run, self._trace):
            function.restype = ctypes.c_int64
            function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
        describe.restype = ctypes.c_char_p
        value = json.loads(describe())
        self.nodes: list[tuple[str, int]] = [(str(n), int(w)) for n, w in value["nodes"]]
        self.description = DeviceDescription.from_json(
            {
                **value,
                "kind": "emulator",
                "latency_cycles": None,
                "clock_period_ns": None,
                "stage": "emulated",
            }
        )

    def call(self, words: NDArray[np.int64], n_columns: int, *, trace: bool) -> NDArray[np.int64]:
        """Run a batch; int64[n, n_columns]."""
        out = np.empty((len(words), n_columns), dtype=np.int64)
        function = self._trace if trace else self._run
        bad = function(words.ctypes.data, out.ctypes.data, len(words))
        if bad:
            raise DeviceFault("refused", f"event {bad - 1} lies outside the input format")
        return out


class EmulatorDevice(Device):
    """Runs the library in this process."""

    def __init__(self, path: Path, *, expected_digest: str | None) -> None:
        self._path = path
        self._expected_digest = expected_digest
        self._library: EmulatorLibrary | None = None
        self._n_events = 0

    def load(self) -> None:
        library = EmulatorLibrary(built_emulator(self._path))
        found = library.description.digest
        if self._expected_digest and found != self._expected_digest:
            raise DeviceFault("wrong-firmware", f"expected {self._expected_digest}, found {found}")
        self._library, self._n_events = library, 0

    def _loaded(self) -> EmulatorLibrary:
        if self._library is None:
            raise DeviceFault("link-dropped", "not loaded; load the device first")
        return self._library

    def describe(self) -> DeviceDescription:
        return self._loaded().description

    def run(self, words: NDArray[np.int64]) -> NDArray[np.int64]:
        library = self._loaded()
        words = check_words(words, library.description.input_formats)
        out = library.call(words, library.description.n_outputs, trace=False)
        self._n_events += len(words)
        return out

    def counters(self) -> Mapping[str, int]:
        return {"events": self._n_events}

    def trace(self, words: NDArray[np.int64]) -> Mapping[str, NDArray[np.int64]]:
        library = self._loaded()
        words = check_words(words, library.description.input_formats)
        table = library.call(words, sum(width for _, width in library.nodes), trace=True)
        ends = np.cumsum([width for _, width in library.nodes])
        parts = np.split(table, ends[:-1], axis=1)
        return {name: part for (name, _), part in zip(library.nodes, parts, strict=True)}

    def measure_timing(self) -> None:
        return None  # untimed

    def close(self) -> None:
        self._library = None


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


def open_emulator(url: DeviceUrl, context: DeviceContext) -> EmulatorDevice:
    """Create the device; without a path, the candidate's `emulator` folder."""
    url.check_options()
    path = context.locate(url, "emulator")
    return EmulatorDevice(path, expected_digest=context.expected_digest)


DEVICES.add("emulator", open_emulator)
