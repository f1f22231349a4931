"""The configuration beside an ONNX file: how its layers are to be put on the device."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from codesign.config import Strict, parse, read_yaml
from codesign.export.read_onnx import onnx_layers
from hw_models.records import Record, read_layer


class LayerSection(Strict):
    """What differs for one layer."""

    strategy: str | None = None
    reuse_factor: int | None = Field(default=None, ge=1)


class OnnxConfig(Strict):
    """Hardware configuration of an ONNX file.

    Attributes:
        part: device part number.
        clock_period_ns: target clock period.
        backend: hls4ml back end.
        tool_version: of the HLS compiler, "" when unknown.
        io_type: "io_parallel" or "io_stream".
        flow: "rtl" or "hls"; None: plain RTL where every strategy is distributed arithmetic.
        strategy: of every layer.
        reuse_factor: of every layer.
        precision: type of what the file does not quantize.
        layers: by name of the ONNX node.
    """

    part: str = "xcvu13p-flga2577-2-e"
    clock_period_ns: float = Field(default=5.0, gt=0)
    backend: str = "Vitis"
    tool_version: str = ""
    io_type: Literal["io_parallel", "io_stream"] = "io_parallel"
    flow: Literal["rtl", "hls"] | None = None
    strategy: str = "latency"
    reuse_factor: int = Field(default=1, ge=1)
    precision: str = "ap_fixed<16,6>"
    layers: dict[str, LayerSection] = Field(default_factory=dict)


def onnx_record(path: Path, config_path: Path | None) -> Record:
    """Describe an ONNX or QONNX file as a synthesis record.

    Raises:
        ConfigError: the configuration is wrong.
        DesignError: the file cannot be read, or an operator has no cost law.
    """
    config = (
        OnnxConfig()
        if config_path is None
        else parse(OnnxConfig, read_yaml(config_path), where=config_path.name)
    )
    layers = onnx_layers(path, default_type=config.precision)
    for layer in layers:
        own = config.layers.get(layer["name"], LayerSection())
        if "weight_precision" in layer:
            layer["strategy"] = own.strategy or config.strategy
            layer["reuse_factor"] = own.reuse_factor or config.reuse_factor
    compiler = {"vivado": "Vivado HLS", "vivadoaccelerator": "Vivado HLS", "vitis": "Vitis HLS"}
    return Record(
        id=path.name,
        source="ONNX file",
        tool=compiler.get(config.backend.lower(), config.backend),
        tool_version=config.tool_version or None,
        part=config.part,
        clock_period_ns=config.clock_period_ns,
        backend=config.backend,
        strategy=config.strategy,
        io_type=config.io_type,
        model_precision=config.precision,
        layers=tuple(read_layer(layer, where=f"{path}: {layer['name']}") for layer in layers),
    )
