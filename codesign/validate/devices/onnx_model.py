"""`onnx:FILE`: an exported ONNX model in ONNX Runtime; formats and digest come from its metadata."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError, ToolError
from codesign.ir import FixedPoint
from codesign.validate.device import Device, DeviceDescription, check_words
from codesign.validate.faults import DeviceFault
from codesign.validate.url import DEVICES, DeviceContext, DeviceUrl


class OnnxDevice(Device):
    """Feeds words as real values and reads the results back as words."""

    def __init__(self, path: Path, *, expected_digest: str | None) -> None:
        self._path = path
        self._expected_digest = expected_digest
        self._session: Any = None
        self._description: DeviceDescription | None = None
        self._dtype = np.dtype(np.float32)
        self._n_events = 0

    def load(self) -> None:
        try:
            import onnxruntime
            from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidProtobuf
        except ImportError as error:
            raise ToolError(
                f"onnxruntime cannot be loaded ({error}); install codesign's dependencies"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            session = onnxruntime.InferenceSession(
                str(self._path), options, providers=["CPUExecutionProvider"]
            )
        except (Fail, InvalidProtobuf, ValueError, RuntimeError) as error:
            raise DesignError(f"{self._path} is no ONNX model: {error}; export it again") from error
        metadata = session.get_modelmeta().custom_metadata_map
        try:
            self._dtype = np.dtype(metadata["codesign_arithmetic"])
            described = DeviceDescription(
                kind="onnx",
                digest=metadata["codesign_network_digest"],
                input_formats=_ports(metadata["codesign_input_format"], session.get_inputs()),
                output_formats=_ports(metadata["codesign_output_format"], session.get_outputs()),
                latency_cycles=None,
                clock_period_ns=None,
                stage="emulated",
            )
        except (KeyError, TypeError, IndexError) as error:
            raise DesignError(
                f"{self._path} lacks codesign's metadata ({error!r}); export it again"
            ) from error
        if self._expected_digest and described.digest != self._expected_digest:
            raise DeviceFault(
                "wrong-firmware", f"expected {self._expected_digest}, found {described.digest}"
            )
        self._session, self._description, self._n_events = session, described, 0

    def describe(self) -> DeviceDescription:
        if self._description is None:
            raise DeviceFault("link-dropped", "not loaded; load the device first")
        return self._description

    def run(self, words: NDArray[np.int64]) -> NDArray[np.int64]:
        described = self.describe()
        words = check_words(words, described.input_formats)
        values = described.input_formats[0].values_from_words(words).astype(self._dtype)
        (name,) = (tensor.name for tensor in self._session.get_inputs())
        (output,) = self._session.run(None, {name: values})
        fmt = described.output_formats[0]
        scaled = np.ldexp(np.asarray(output, dtype=np.float64), fmt.fraction_bits)
        if not np.isfinite(scaled).all() or (scaled != np.rint(scaled)).any():
            raise DeviceFault("wrong-values", f"values off the grid of {fmt.to_hls()}")
        self._n_events += len(words)
        return scaled.astype(np.int64)

    def counters(self) -> Mapping[str, int]:
        return {"events": self._n_events}

    def trace(self, words: NDArray[np.int64]) -> None:
        return None  # the model shows its output only

    def measure_timing(self) -> None:
        return None  # untimed

    def close(self) -> None:
        self._session = None


def _ports(text: str, tensors: Any) -> tuple[FixedPoint, ...]:
    (tensor,) = tensors
    return (FixedPoint.from_hls(text),) * int(tensor.shape[-1])


def open_onnx(url: DeviceUrl, context: DeviceContext) -> OnnxDevice:
    """Create the device; without a path, the candidate's `onnx/model.onnx`."""
    url.check_options()
    return OnnxDevice(
        context.locate(url, "onnx/model.onnx"), expected_digest=context.expected_digest
    )


DEVICES.add("onnx", open_onnx)
