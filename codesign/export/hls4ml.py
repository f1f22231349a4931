"""hls4ml projects whose every type, strategy, reuse factor and clock is exactly the candidate's.

The model graph is built from a layer list with all types spelled out, so hls4ml infers nothing and has no
default to fall back on.  Dense results have the exact covering format of the sum; only the activations
round.  hls4ml may still change what it is given (it rounds illegal reuse factors, falls back to other
strategies): after conversion everything is read back and compared, and a change is an error.
"""

from __future__ import annotations

import ctypes
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError, ExportError, ToolError
from codesign.export.backends import BACKENDS, Backend
from codesign.export.backends.base import quiet_hls4ml
from codesign.export.plan import ProjectPlan
from codesign.export.templates import check_identifier, check_part
from codesign.ir import FixedPoint, QuantizedNetwork, TensorType
from codesign.layers import LAYERS, typed
from codesign.layers._export import HlsGraph, exact
from codesign.tools import require_tool, run_tool

if TYPE_CHECKING:
    from hls4ml.model.graph import ModelGraph


@dataclass(frozen=True, kw_only=True)
class HlsProject:
    """A network as an hls4ml project.

    Attributes:
        backend: registered name of the back end.
        name: top function and project.
        plan: every file, hls4ml's and ours.
        layers: what was read back: per hls4ml layer its class, types, strategy and reuse factor.
    """

    backend: str
    name: str
    plan: ProjectPlan
    layers: Mapping[str, Mapping[str, Any]]


def hls4ml_type(fmt: FixedPoint) -> str:
    """Return hls4ml's spelling of a format, `fixed<8,3,TRN,SAT,0>`."""
    prefix = "fixed" if fmt.signed else "ufixed"
    return f"{prefix}<{fmt.bits},{fmt.integer_bits},{fmt.rounding},{fmt.overflow},0>"


class _HlsGraph(HlsGraph):
    """hls4ml layers of a project under construction."""

    def __init__(self, network: QuantizedNetwork, backend: Backend) -> None:
        self._network, self._backend = network, backend
        self.layers: list[dict[str, Any]] = []
        self.configuration: dict[str, dict[str, Any]] = {}
        self.precision: dict[str, dict[str, FixedPoint]] = {}
        #: Whether any element has a type of its own: then hls4ml would derive all types anew.
        self.rounds_elements = False

    def add(
        self,
        class_name: str,
        name: str,
        inputs: Sequence[str],
        *,
        precision: Mapping[str, FixedPoint],
        configuration: Mapping[str, Any] | None = None,
        **attributes: Any,
    ) -> str:
        if class_name == "InputLayer":
            name = self._input_name()
        if class_name == "UnaryLUT":
            function, words = attributes.pop("function"), attributes.pop("table_words")
            attributes["table_data"] = self._table(name, inputs[0], function, words, precision)
        if name in self.precision:
            raise ExportError(f"two hls4ml layers would be called {name!r}; rename that node")
        layer: dict[str, Any] = {"class_name": class_name, "name": name, **attributes}
        if inputs:
            layer["inputs"] = list(inputs)
        self.layers.append(layer)
        self.precision[name] = dict(precision)
        self.configuration[name] = {
            "Precision": {key: hls4ml_type(fmt) for key, fmt in precision.items()},
            **(configuration or {}),
        }
        return name

    def _input_name(self) -> str:
        """Return a free name for the input: hls4ml makes it a C++ variable, and forbids "input"."""
        taken = {node.name for node in self._network.network.nodes}
        name = "x"
        while name in taken:
            name += "_"
        return name

    def quantize(self, name: str, source: str, result: TensorType) -> str:
        backend, io_type = self._backend, self._network.candidate.hardware.io_type
        if not backend.rounds_elements or io_type != "io_parallel":
            raise ExportError(
                f"{name}: its elements have types of their own, which hls4ml's {backend.name} back end does"
                f" not have with {io_type}; use io_parallel on vitis or vivado, plain RTL, or one type"
                " for all elements"
            )
        self.rounds_elements = True
        whole = (1, *result.shape)
        signed, bits, integer_bits = (
            np.broadcast_to(a, whole).astype(np.int64)
            for a in (result.signed, result.bits, result.integer_bits)
        )
        return self.add(
            "FixedPointQuantizer",
            name,
            [source],
            # every element is rounded in code of its own, to a word that this type holds
            precision={"result": exact(result.covering)},
            mask_kbi=(signed, bits, integer_bits),
            RND=result.rounding,
            SAT=result.overflow,
            overrides={},
            fusible=False,
        )

    def _table(
        self,
        name: str,
        source: str,
        function: str,
        words: NDArray[np.int64],
        precision: Mapping[str, FixedPoint],
    ) -> NDArray[np.float64]:
        """Return the values of a table in the order in which hls4ml looks them up."""
        if not self._backend.has_own_tables:
            raise ExportError(
                f"{name}: back end {self._backend.name!r} computes its own table of {function}, whose words"
                " differ from the network's; use vitis, vivado or RTL, or another activation"
            )
        values = precision["table"].values_from_words(words)
        # hls4ml indexes this table with the raw bits of the word, read as unsigned
        is_signed = self.precision[source]["result"].signed
        return np.roll(values, len(words) // 2) if is_signed else values


def _build_graph(
    network: QuantizedNetwork, backend: Backend, name: str, folder: Path
) -> tuple[ModelGraph, _HlsGraph]:
    """Convert a network; everything hls4ml prints is kept and shown when it fails."""
    import hls4ml  # noqa: F401  (registers back ends and layers)
    from hls4ml.model.graph import ModelGraph

    graph = _HlsGraph(network, backend)
    written: dict[str, str] = {}
    for site in typed(network):
        written[site.node.name] = LAYERS.get(site.node.layer).to_hls4ml(
            site, graph, [written[source] for source in site.node.inputs]
        )
    hardware = network.candidate.hardware
    configuration = {
        "OutputDir": str(folder),
        "ProjectName": name,
        "Backend": backend.hls4ml_name,
        "IOType": hardware.io_type,
        "HLSConfig": {
            "Model": {
                # never used: every type of every layer is given; a wrong use would be seen at once
                "Precision": {"default": "fixed<2,1>", "maximum": "fixed<64,32>"},
                "ReuseFactor": 1,
                "Strategy": "Latency",
                **({"BitExact": False} if graph.rounds_elements else {}),
            },
            "LayerName": graph.configuration,
        },
        **backend.configuration(network),
    }
    outputs = [written[network.network.nodes[-1].name]]
    try:
        with quiet_hls4ml() as printed:
            model = ModelGraph.from_layer_list(
                configuration,
                graph.layers,
                inputs=[graph.layers[0]["name"]],
                outputs=outputs,
            )
    except Exception as error:  # hls4ml raises bare Exception for everything it refuses
        raise ExportError(
            f"hls4ml's back end {backend.hls4ml_name} refused the network: {error}"
            f" {' '.join(printed.getvalue().split())[-300:]}"
        ) from error
    return model, graph


def _read_back(
    model: ModelGraph, graph: _HlsGraph, network: QuantizedNetwork
) -> dict[str, dict[str, Any]]:
    """Read types, strategies and reuse factors out of the converted graph and compare with what was asked.

    Raises:
        ExportError: hls4ml changed something.
    """
    found: dict[str, dict[str, Any]] = {}
    layers = {layer.name: layer for layer in model.get_layers()}
    for name, asked in graph.precision.items():
        layer = layers.get(name)
        if layer is None:
            # a rounding to the type that the source has already is removed, one in front of adder graphs
            # goes into their code; nothing changes
            if _is_removable(name, graph):
                continue
            raise ExportError(
                f"{name}: hls4ml removed this layer; the project would not be the candidate"
            )
        types = {"result": layer.get_output_variable().type.precision}
        for key in ("weight", "bias", "accum", "table", "param"):
            attribute = layer.get_attr(f"{key}_t")
            if key in asked and attribute is not None:
                types[key] = attribute.precision
        entry: dict[str, Any] = {"class": layer.class_name, "types": {}}
        for key, fmt in asked.items():
            got = _format_of(types.get(key))
            if layer.class_name == "Reshape" and got is not None:  # moves words, rounds none
                got, fmt = exact(got), exact(fmt)
            if got != fmt and not _may_differ(layer, key):
                raise ExportError(
                    f"{name}: hls4ml turned the {key} type {hls4ml_type(fmt)} into {types.get(key)};"
                    " the project would not be the candidate"
                )
            entry["types"][key] = hls4ml_type(fmt)
        if name in network.candidate.hardware.strategy:
            entry.update(_read_back_hardware(name, layer, network))
        found[name] = entry
    return found


def _is_removable(name: str, graph: _HlsGraph) -> bool:
    layer = next(entry for entry in graph.layers if entry["name"] == name)
    if layer["class_name"] == "FixedPointQuantizer":
        (read,) = layer["inputs"]  # which hls4ml made the input of its readers
        readers = [
            entry
            for entry in graph.layers
            if read in entry.get("inputs", [])
            and entry is not layer
            # a copy of the same words in between is removed as well
            and not (entry.get("activation") == "linear" and _is_removable(entry["name"], graph))
        ]
        return bool(readers) and all(
            entry["class_name"] == "Dense"
            and graph.configuration.get(entry["name"], {}).get("Strategy")
            == "distributed_arithmetic"
            for entry in readers
        )
    (source,) = layer.get("inputs", [""])
    return (
        layer.get("activation") == "linear"
        and graph.precision[source]["result"] == graph.precision[name]["result"]
    )


def _format_of(precision: Any) -> FixedPoint | None:
    if precision is None:
        return None
    if precision.fractional == 0 and precision.__class__.__name__.endswith("IntegerPrecisionType"):
        return FixedPoint(
            bits=precision.width,
            integer_bits=precision.width,
            signed=bool(precision.signed),
            overflow="WRAP",
        )
    return FixedPoint(
        bits=precision.width,
        integer_bits=precision.integer,
        signed=bool(precision.signed),
        rounding=precision.rounding_mode.name,
        overflow=precision.saturation_mode.name,
    )


def _may_differ(layer: Any, key: str) -> bool:
    """Distributed arithmetic holds weights and sums in its adder graph, not in types."""
    return layer.get_attr("strategy") == "distributed_arithmetic" and key in (
        "weight",
        "bias",
        "accum",
    )


def _read_back_hardware(name: str, layer: Any, network: QuantizedNetwork) -> dict[str, Any]:
    hardware = network.candidate.hardware
    asked_reuse, asked_strategy = hardware.reuse_factor[name], hardware.strategy[name]
    reuse = int(layer.get_attr("reuse_factor"))
    if reuse != asked_reuse:
        raise ExportError(
            f"{name}: hls4ml turned reuse factor {asked_reuse} into {reuse}; choose one that is legal for its shape"
        )
    strategy = str(layer.get_attr("strategy"))
    if asked_strategy == "unrolled" and strategy == "latency":
        strategy = (
            "unrolled"  # hls4ml 1.3 builds Dense layers of both strategies with the same template
        )
    if strategy != asked_strategy:
        raise ExportError(
            f"{name}: hls4ml turned strategy {asked_strategy!r} into {strategy!r}; choose {strategy!r} yourself"
        )
    return {"strategy": strategy, "reuse_factor": reuse}


def export_hls4ml(
    network: QuantizedNetwork,
    *,
    backend: str = "vitis",
    name: str = "codesign_nn",
    golden: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
) -> HlsProject:
    """Export a network as an hls4ml project.

    Args:
        network: the network.
        backend: registered name of a back end.
        name: project and top function.
        golden: input and output words for hls4ml's testbench.

    Raises:
        ExportError: the back end cannot realise the candidate exactly.
    """
    check_identifier(name)
    check_part(network.candidate.hardware.part)
    leaf = BACKENDS.get(backend)
    leaf.check(network)
    with tempfile.TemporaryDirectory(prefix="codesign-hls-") as folder:
        target = Path(folder) / name
        model, graph = _build_graph(network, leaf, name, target)
        layers = _read_back(model, graph, network)
        try:
            with quiet_hls4ml():
                model.write()
        except Exception as error:  # hls4ml raises bare Exception for everything it refuses
            raise ExportError(f"hls4ml could not write the {backend} project: {error}") from error
        plan = ProjectPlan.read(target)
        stamp = str(model.config.get_config_value("Stamp"))
    stamp_line = re.compile(
        rb"^Stamp: .*$", re.MULTILINE
    )  # quoted by YAML only if it looks like a number
    files = {
        # paths of this machine and a random stamp would make two equal projects differ
        path: stamp_line.sub(b"Stamp: %s" % stamp.encode(), content)
        .replace(str(target).encode(), b".")
        .replace(stamp.encode(), network.digest[:8].encode())
        for path, content in plan.files.items()
        if not path.endswith(".tar.gz")
    }
    hardware, sites = network.candidate.hardware, typed(network)
    context = {
        "name": name,
        "digest": network.digest,
        "part": hardware.part,
        "clock_period_ns": hardware.clock_period_ns,
        "io_type": hardware.io_type,
        "n_in": sites.input.size,
        "n_out": sites.output.size,
        "input_type": "input_t",
        "output_type": "result_t",
        "output_fraction_bits": network.output_format.fraction_bits,
    }
    if golden is not None:
        files |= _testbench_data(network, golden)
    files["codesign_layers.json"] = (json.dumps(layers, indent=2, sort_keys=True) + "\n").encode()
    files |= leaf.scripts(context)
    return HlsProject(
        backend=backend,
        name=name,
        plan=ProjectPlan(files=files, executables=plan.executables),
        layers=layers,
    )


def _testbench_data(
    network: QuantizedNetwork, golden: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> dict[str, bytes]:
    """Return what hls4ml's testbench reads: real values, one vector a line, exact in decimal."""

    def lines(values: NDArray[np.float64]) -> bytes:
        return "".join(" ".join(repr(v) for v in row) + "\n" for row in values.tolist()).encode()

    return {
        "golden_words.txt": "".join(
            " ".join(map(str, row)) + "\n" for row in golden[1].tolist()
        ).encode(),
        "tb_data/tb_input_features.dat": lines(network.input_format.values_from_words(golden[0])),
        "tb_data/tb_output_predictions.dat": lines(
            network.output_format.values_from_words(golden[1])
        ),
    }


class CSimulation:
    """hls4ml's C++ of a network, compiled: words in, words out.

    Args:
        library: shared library that `build_c_simulation` made.
        name: top function.
        network: the network.
    """

    def __init__(self, library: Path, name: str, network: QuantizedNetwork) -> None:
        self._network = network
        sites = typed(network)
        self._n_in, self._n_out = sites.input.size, sites.output.size
        self._function = getattr(ctypes.CDLL(str(library)), f"{name}_double")
        self._function.restype = None
        self._function.argtypes = [ctypes.c_void_p, ctypes.c_void_p]

    def run(self, words: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return int64[n, n_outputs] output words of int64[n, n_inputs] input words.

        Raises:
            DesignError: the words have the wrong shape.
        """
        from codesign.export.onnx import checked_words

        if words.ndim != 2 or words.shape[1] != self._n_in:
            raise DesignError(f"input words have shape {words.shape}; expected (n, {self._n_in})")
        values = np.ascontiguousarray(self._network.input_format.values_from_words(words))
        output = np.empty((len(words), self._n_out))
        step_in, step_out = values.strides[0], output.strides[0]
        first_in, first_out = values.ctypes.data, output.ctypes.data
        for i in range(len(words)):
            self._function(first_in + i * step_in, first_out + i * step_out)
        return checked_words(output, self._network.output_format, "hls4ml's C++")


#: Options of hls4ml's own build script.  With exceptions g++ spends a time quadratic in the weights of an array on
#: undoing half of its construction: 64-128-128-64-5 takes 23 s without and over ten minutes with them.
_CXX_FLAGS = ("-std=c++17", "-fPIC", "-fno-gnu-unique", "-fno-exceptions", "-w")


def build_c_simulation(
    project: HlsProject,
    network: QuantizedNetwork,
    folder: Path,
    *,
    optimize: bool = True,
    timeout_s: float = 1800.0,
) -> CSimulation:
    """Compile hls4ml's C++ with g++ and load it.

    Args:
        project: what `export_hls4ml` returned.
        network: its network.
        folder: where to build; the project is written there.
        optimize: optimise the C++ (slower to build, faster to run).
        timeout_s: of the compiler.

    Raises:
        ToolError: g++ is missing or failed, or the back end needs a vendor's compiler.
    """
    if not BACKENDS.get(project.backend).has_c_simulation:
        raise ToolError(
            f"the {project.backend} back end compiles with its vendor's compiler only; nothing was run"
        )
    compiler = require_tool("g++")
    folder = folder.resolve()
    project.plan.write(folder)
    library = folder / f"lib{project.name}.so"
    # one translation unit: hls4ml's headers are long, and reading them once halves the time
    units = [f"{project.name}_bridge.cpp", f"firmware/{project.name}.cpp"]
    if (axi := f"firmware/{project.name}_axi.cpp") in project.plan.files:
        units.append(axi)
    weights = json.dumps(str(folder / "firmware" / "weights"))
    (folder / "c_simulation.cpp").write_text(
        f"#define WEIGHTS_DIR {weights}\n" + "".join(f'#include "{unit}"\n' for unit in units)
    )
    run_tool(
        [
            compiler, *_CXX_FLAGS, "-O1" if optimize else "-O0", "-shared", "-I.", "-Ifirmware",
            "-Ifirmware/ap_types", "-Ifirmware/ac_types", "-Ifirmware/ac_types/include",
            "-Ifirmware/ac_math/include", "-Ifirmware/ac_simutils/include", "-Ifirmware/nnet_utils", "c_simulation.cpp", "-o", library,
        ],
        folder=folder,
        timeout_s=timeout_s,
    )  # fmt: skip
    return CSimulation(library, project.name, network)
