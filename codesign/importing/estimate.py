"""What a model file will cost: the answer that the same network gets as a candidate, where it can be built."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from codesign.errors import DesignError
from codesign.hardware.device import device_of_part
from codesign.importing.reader import read_config, read_model
from codesign.synthesis.estimates import DesignEstimate, estimate_design, estimate_network
from codesign.synthesis.onnx_config import OnnxConfig, onnx_record
from hw_models.calibration import Coefficients


def estimate_model(
    path: Path, config_path: Path | None, *, stage: str, coefficients: Coefficients
) -> DesignEstimate:
    """Estimate a model file: imported, or operator by operator where no exact network can be built of it.

    Args:
        path: an ONNX, QONNX or Keras file.
        config_path: YAML of `OnnxConfig`; its `precision` is that of everything in floats.
        stage, coefficients: as in `estimate_network`.

    Raises:
        ConfigError: the configuration is wrong.
        DesignError: the file cannot be read, or an operator has no cost law.
    """
    config = None if config_path is None else read_config(config_path)
    precision = (config or OnnxConfig()).precision
    try:
        imported = read_model(path, config=config, precision=precision)
        part = imported.network.candidate.hardware.part
        device = device_of_part(part)
        if device is None:
            raise DesignError(f"no device of this installation is the part {part}")
    except DesignError as error:
        if path.suffix != ".onnx":
            raise
        found = estimate_design(
            onnx_record(path, config_path), stage=stage, coefficients=coefficients
        )
        note = f"estimated operator by operator: it cannot be imported ({error})"
        return replace(found, summary={**found.summary, "notes": [*found.summary["notes"], note]})
    found = estimate_network(imported.network, device, stage=stage, coefficients=coefficients)
    notes = [*imported.notes, *found.summary["notes"]]
    return replace(found, summary={**found.summary, "notes": notes})
