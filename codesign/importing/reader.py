"""A model file to a trained network of ours, and what runs it in its own framework."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from codesign.config import parse, read_yaml
from codesign.errors import CodesignError, DesignError, ToolError
from codesign.export.backends.base import quiet_hls4ml
from codesign.export.onnx import own_network
from codesign.importing.firmware_reader import read_project
from codesign.importing.firmware_runner import FirmwareProgram
from codesign.importing.hls4ml_reader import read_graph
from codesign.importing.onnx_reader import (
    load_onnx,
    onnx_reference,
    read_onnx,
)
from codesign.importing.qkeras_reader import (
    foreign_modules,
    is_qkeras,
    qonnx_of,
    read_keras_config,
)
from codesign.importing.torch_reader import divided, joined, read_torch
from codesign.ir import FixedPoint, HardwareConfig, Network, QuantizedNetwork
from codesign.layers import LAYERS, run_words, typed
from codesign.layers._import import Draft, Value, whole
from codesign.synthesis.onnx_config import LayerSection, OnnxConfig
from codesign.tools import require_module
from hw_models.calibration.parsers import ReportError
from hw_models.calibration.parsers.project import firmware_folder
from hw_models.types import MATVEC_STRATEGIES

Floats = NDArray[np.float64]
#: Real inputs [n, *shape] to real outputs [n, n_outputs].
Reference = Callable[[Floats], Floats]


@dataclass(frozen=True, kw_only=True, eq=False)
class Imported:
    """A network that was trained elsewhere.

    Attributes:
        network: ours.
        framework: what runs the original: "onnxruntime", "qonnx", "keras", "torch", "hls4ml".
        source_digest: SHA-256 of the file.
        notes: what could not be kept exactly.
        shape: of one event, as the original has it.
        reference: runs the original.
    """

    network: QuantizedNetwork
    framework: str
    source_digest: str
    notes: tuple[str, ...]
    shape: tuple[int, ...]
    reference: Reference
    _input: Value
    _input_gain: Floats
    _input_offset: Floats
    _output: Value

    def inputs_of_words(self, words: NDArray[np.int64]) -> Floats:
        """Return the original's real inputs, float64[n, *shape], that are these words here."""
        known = self.network.input_type
        shaped = words.reshape(len(words), *known.shape)
        real = (known.values_from_words(shaped) - self._input_offset) / self._input_gain
        return np.asarray(real.reshape(len(words), -1)[:, self._input.index])

    def words_of_inputs(self, inputs: Floats) -> NDArray[np.int64]:
        """Return the words that the original's real inputs, float64[n, *shape], are here."""
        flat = np.empty((len(inputs), self._input.index.size))
        flat[:, self._input.index.ravel()] = np.asarray(inputs).reshape(len(inputs), -1)
        shaped = flat.reshape(len(inputs), *self.network.input_type.shape)
        return self.network.input_type.words_from_values(
            shaped * self._input_gain + self._input_offset
        ).reshape(len(inputs), -1)

    def outputs(self, words: NDArray[np.int64]) -> Floats:
        """Return what the original's outputs are for input words, float64[n, n_outputs]."""
        found = run_words(self.network, words)
        assert isinstance(found, np.ndarray)
        real = self.network.output_format.values_from_words(found)[:, self._output.index.ravel()]
        return np.asarray(real * self._output.gain.ravel() + self._output.offset.ravel())

    def our_outputs(self, outputs: Floats) -> Floats:
        """Return the original's outputs, float64[n, n_outputs], as real outputs of ours, in our order."""
        result = np.zeros((len(outputs), self._output.index.size))
        real = (outputs - self._output.offset.ravel()) / self._output.gain.ravel()
        result[:, self._output.index.ravel()] = real
        return result

    @property
    def output_steps(self) -> Floats:
        """Value of the last bit of each of the original's outputs."""
        return np.abs(self._output.gain.ravel()) * self.network.output_format.lsb


def read_model(
    path: Path, *, config: OnnxConfig | None = None, precision: str | None = None
) -> Imported:
    """Read a network of another framework.

    Args:
        path: an ONNX or QONNX file, a Keras file, an hls4ml project folder or its `hls4ml_config.yml`.
        config: part, clock, flow, strategies and reuse factors; None: defaults, or what our own file says.
        precision: type of what the file leaves in floats, "ap_fixed<16,6>".

    Raises:
        DesignError: it cannot be read or built; names the node.
        ToolError: the framework is not installed.
    """
    told, config = config, config or OnnxConfig()
    fmt = None if precision is None else FixedPoint.from_hls(precision)
    if not path.exists():
        raise DesignError(f"{path} does not exist; check the path")
    if path.suffix == ".onnx":
        model = load_onnx(path)
        is_qonnx = any(node.domain not in ("", "ai.onnx") for node in model.graph.node)
        framework = "qonnx" if is_qonnx else "onnxruntime"
        reference: Reference = _lazily(lambda: onnx_reference(path, model))
        if (own := own_network(model, str(path))) is not None:
            return _own(own, framework, path, reference, told)
        draft, output = _located(path, lambda: read_onnx(model, fmt))
    elif path.suffix in (".keras", ".h5", ".hdf5"):
        keras_config = read_keras_config(path)
        if is_qkeras(keras_config):
            return _read_qkeras(path, keras_config, config, fmt)
        if foreign := [m for m in foreign_modules(keras_config) if m not in ("hgq", "hgq2")]:
            raise DesignError(
                f"{path}: has layers of {', '.join(foreign)}, which is not read; export the model to QONNX, or give"
                " the hls4ml project that was made of it"
            )
        draft, output, reference = _located(path, lambda: _read_keras(load_keras(path), precision))
        framework = "keras"
    elif path.is_dir() or path.suffix in (".yml", ".yaml"):
        return _read_project(path, config, precision)
    elif path.suffix in (".pt", ".pth", ".pkl"):
        raise DesignError(
            f"{path}: an archive with pickled objects runs code when it is opened; export it to ONNX"
            " (torch.onnx.export) or give the module to codesign.api.import_network"
        )
    else:
        raise DesignError(
            f"{path}: expected .onnx, .keras, .h5, an hls4ml project or its hls4ml_config.yml; give one of these"
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return _imported(draft, output, framework, digest, reference, config)


def _own(
    network: QuantizedNetwork,
    framework: str,
    path: Path,
    reference: Reference,
    config: OnnxConfig | None,
) -> Imported:
    """Return what a file of ours was exported from; the proof runs its graph.

    What was trained and what came of it differ (batch norms are folded, a trigger's bit appended): as the network
    of somebody else, what came of it is the candidate.
    """
    hardware = network.candidate.hardware
    if config is not None:
        hardware = hardware_of(network.network, config, {})
    candidate = replace(network.candidate, network=network.network, hardware=hardware)
    network = replace(network, candidate=candidate)
    sites = typed(network)
    first, last = (whole(name, known.shape) for name, known in (("input", sites.input), ("output", sites.output)))  # fmt: skip
    return Imported(
        network=network,
        framework=framework,
        source_digest=hashlib.sha256(path.read_bytes()).hexdigest(),
        notes=(),
        shape=sites.input.shape,
        reference=reference,
        _input=first,
        _input_gain=first.gain,
        _input_offset=first.offset,
        _output=last,
    )


def _read_qkeras(
    path: Path, keras_config: Mapping[str, Any], config: OnnxConfig, precision: FixedPoint | None
) -> Imported:
    """Read a QKeras file; compared with QKeras where it is installed, else with its graph in qonnx."""
    model = _located(path, lambda: qonnx_of(path, keras_config))
    draft, output = _located(path, lambda: read_onnx(model, precision, channels_last=True))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if find_spec("qkeras") and find_spec("tensorflow"):
        reference = _lazily(lambda: _qkeras_reference(path))
        return _imported(draft, output, "qkeras", digest, reference, config)
    draft.note(
        "QKeras is not installed: the proof runs the QONNX graph of the file in qonnx; give --outputs of your own to"
        " compare with QKeras itself"
    )
    reference = _lazily(lambda: onnx_reference(path, model))
    return _imported(draft, output, "qonnx", digest, reference, config)


def _qkeras_reference(path: Path) -> Reference:
    load = require_module("qkeras.utils").load_qmodel
    return _keras_reference(load(str(path), compile=False))


def read_object(
    model: Any,
    *,
    config: OnnxConfig | None = None,
    precision: str | None = None,
    input_shape: tuple[int, ...] | Sequence[tuple[int, ...]] | None = None,
) -> Imported:
    """Read a network that lives in this process: a Keras model or a PyTorch module.

    Args:
        model: the network.
        config, precision: as in `read_model`.
        input_shape: of one event, or of each of several inputs; PyTorch modules do not know theirs.
    """
    config = config or OnnxConfig()
    if type(model).__module__.partition(".")[0] == "keras" or hasattr(model, "get_config"):
        draft, output, reference = _read_keras(model, precision)
        return _imported(draft, output, "keras", "", reference, config)
    if input_shape is None:
        raise DesignError("a PyTorch module does not say what it reads; give input_shape")
    is_one = isinstance(input_shape[0], int)
    shapes: Sequence[Any] = [input_shape] if is_one else input_shape
    draft, output, reference = read_torch(model, precision, shapes)
    return _imported(draft, output, "torch", "", reference, config)


def _imported(
    draft: Draft,
    output: Value,
    framework: str,
    digest: str,
    reference: Reference,
    config: OnnxConfig,
) -> Imported:
    network, last = draft.finish(output, lambda n: hardware_of(n, config, draft.origins))
    first = draft.input_value
    return Imported(
        network=network,
        framework=framework,
        source_digest=digest,
        notes=tuple(draft.notes),
        shape=first.shape,
        reference=reference,
        _input=first,
        _input_gain=draft.input_gain,
        _input_offset=draft.input_offset,
        _output=last,
    )


def hardware_of(network: Network, config: OnnxConfig, origins: Mapping[str, str]) -> HardwareConfig:
    """Return how a configuration puts a network on the device.

    Args:
        network: ours.
        config: layers are named as the original names them.
        origins: the original's name of each of our layers.

    Raises:
        DesignError: an unknown strategy, or a flow that does not know it.
    """
    strategies: dict[str, str] = {}
    reuse: dict[str, int] = {}
    for node in network.nodes:
        if not LAYERS.get(node.layer).has_multipliers:
            continue
        own = config.layers.get(origins.get(node.name, node.name))
        strategies[node.name] = (own.strategy if own else None) or config.strategy
        reuse[node.name] = (own.reuse_factor if own else None) or config.reuse_factor
    for name, strategy in strategies.items():
        if strategy not in MATVEC_STRATEGIES:
            raise DesignError(
                f"{name}: unknown strategy {strategy!r}; choose from {', '.join(MATVEC_STRATEGIES)}"
            )
    is_distributed = set(strategies.values()) == {"distributed_arithmetic"}
    flow = config.flow or ("rtl" if is_distributed and config.io_type == "io_parallel" else "hls")
    return HardwareConfig(
        part=config.part,
        clock_period_ns=config.clock_period_ns,
        flow=flow,
        io_type=config.io_type,
        strategy=strategies,
        reuse_factor=reuse,
    )


def _located(path: Path, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except DesignError as error:
        raise DesignError(f"{path}: {error}") from error


def _lazily(make: Callable[[], Reference]) -> Reference:
    """Return a reference that is opened when it is first asked: an estimate never asks."""
    made: list[Reference] = []

    def reference(inputs: Floats) -> Floats:
        if not made:
            made.append(make())
        return made[0](inputs)

    return reference


def load_keras(path: Path) -> Any:
    """Open a Keras file; it may not hold code.

    Raises:
        DesignError: it cannot be opened.
        ToolError: Keras is not installed.
    """
    keras = _keras()
    if path.suffix == ".keras" and not zipfile.is_zipfile(path):
        raise DesignError(f"{path}: not a Keras archive; save the model with model.save('x.keras')")
    with contextlib.suppress(ImportError):
        import hgq  # noqa: F401  (its layers register themselves)
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # whatever deserialising a foreign layer raises
        raise DesignError(f"{path}: Keras cannot open it ({error})") from error


def _keras() -> Any:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    try:
        import keras
    except ImportError as error:
        raise ToolError(
            f"Keras models are read by Keras itself, which cannot be loaded ({error}); pip install keras hgq2"
        ) from error
    return keras


def _read_keras(
    model: Any, precision: str | None, hls_config: Mapping[str, Any] | None = None
) -> tuple[Draft, Value, Reference]:
    from hls4ml.converters import convert_from_keras_model

    has_quantizers = any(
        type(layer).__module__.startswith(("hgq", "qkeras")) for layer in model.layers
    )
    if precision is None and not has_quantizers:
        raise DesignError(
            "the Keras model is not quantized; state a precision (--precision ap_fixed<16,6>)"
        )
    # one type for everything that no quantizer speaks of: "auto" would leave sums exact, of any width
    config = {
        **(hls_config or {}),
        "Model": {"Precision": precision or "ap_fixed<16,6>", "ReuseFactor": 1},
    }
    graph = _converted(lambda folder: convert_from_keras_model(
        model, hls_config=config, backend="Vitis", output_dir=folder, project_name="model"
    ))  # fmt: skip
    draft, output = read_graph(graph)

    return draft, output, _keras_reference(model)


def _keras_reference(model: Any) -> Reference:
    shapes = [tuple(tensor.shape[1:]) for tensor in model.inputs]

    def reference(inputs: Floats) -> Floats:
        parts = divided(np.asarray(inputs, dtype=np.float32), shapes)
        found = model.predict(parts if len(parts) > 1 else parts[0], verbose=0, batch_size=4096)
        return joined(found, len(inputs))

    return reference


def _converted(convert: Callable[[str], Any]) -> Any:
    """Convert by hls4ml's front end, without its prints; its errors become one sentence."""
    with tempfile.TemporaryDirectory(prefix="codesign-") as folder:
        try:
            with quiet_hls4ml():
                return convert(folder)
        except CodesignError:
            raise
        except Exception as error:  # hls4ml raises plain Exceptions of all kinds
            raise DesignError(f"hls4ml's front end cannot read it: {error}") from error


def _read_project(path: Path, config: OnnxConfig, precision: str | None) -> Imported:
    """Read an hls4ml project: its firmware, or the model that its configuration names where it holds none."""
    folder = path if path.is_dir() else path.parent
    known = next((f for f in (path, folder / "hls4ml_config.yml") if f.is_file()), None)
    if firmware_folder(folder) is None:
        if known is None:
            raise DesignError(
                f"{folder}: holds neither an hls4ml project (firmware/parameters.h) nor hls4ml_config.yml; give the"
                " model itself"
            )
        return _read_configured(known, config, precision)
    try:
        draft, output, project = _located(folder, lambda: read_project(folder))
    except ReportError as error:
        raise DesignError(str(error)) from error
    config = config.model_copy(update={"layers": {**project.hardware, **config.layers}})
    files = sorted(
        f for f in project.firmware.folder.rglob("*") if f.suffix in (".h", ".cpp", ".txt")
    )
    digest = hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()
    reference = _lazily(lambda: FirmwareProgram(project))
    return _imported(draft, output, "hls4ml's C++", digest, reference, config)


class _Tagged(yaml.SafeLoader):
    """Reads hls4ml's YAML, whose `!keras_model PATH` is a path like any other."""


_Tagged.add_multi_constructor("!", lambda loader, suffix, node: loader.construct_scalar(node))


def _read_configured(path: Path, config: OnnxConfig, precision: str | None) -> Imported:
    """Read the model file that an hls4ml configuration names, in the types that it asks for."""
    try:
        known = yaml.load(path.read_text(encoding="utf-8"), Loader=_Tagged)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DesignError(f"{path}: cannot be read ({' '.join(str(error).split())})") from error
    if not isinstance(known, dict):
        raise DesignError(f"{path}: expected hls4ml's configuration, a mapping of keys to values")
    named = [known.get(key) for key in ("KerasModel", "OnnxModel", "PytorchModel", "KerasH5")]
    # a folder that was copied names the model where it was written; it lies beside the file, then
    candidates = [
        place
        for name in named
        if isinstance(name, str)
        for place in (path.parent / name, path.parent / Path(name).name)
    ]
    model = next((place for place in candidates if place.is_file()), None)
    if model is None:
        raise DesignError(
            f"{path}: names no model file that exists (KerasModel, OnnxModel); give the model itself"
        )
    hls = known.get("HLSConfig")
    hls = hls if isinstance(hls, dict) else {}
    default = (hls.get("Model") or {}).get("Precision")
    default = default.get("default") if isinstance(default, dict) else default
    own = {
        name: LayerSection(
            strategy=str(layer["Strategy"]).lower() if "Strategy" in layer else None,
            reuse_factor=layer.get("ReuseFactor"),
        )
        for name, layer in (hls.get("LayerName") or {}).items()
        if isinstance(layer, dict)
    }
    config = config.model_copy(update={"layers": {**own, **config.layers}})
    if model.suffix in (".keras", ".h5"):
        draft, output, reference = _located(
            model, lambda: _read_keras(load_keras(model), precision or default, hls)
        )
        digest = hashlib.sha256(model.read_bytes()).hexdigest()
        return _imported(draft, output, "keras", digest, reference, config)
    return read_model(model, config=config, precision=precision or default)


def read_config(path: Path | None) -> OnnxConfig:
    """Read the YAML beside a model; defaults where there is none."""
    return OnnxConfig() if path is None else parse(OnnxConfig, read_yaml(path), where=path.name)
