"""The Python API: the same loop as the command line, in a few lines.

from codesign import api

summary = api.run("examples/jets_100ns.yaml", output="runs/mine")
print(summary["winner"]["digest"], summary["score"]["test"], summary["figures"]["lut"])

network = api.load_network("runs/mine")              # the winner, on its fixed-point grid
words = api.quantize_inputs("runs/mine", raw_inputs)  # raw features -> firmware input words
outputs = api.evaluate(network, words)                # the integer reference, bit for bit
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codesign.checks import load_config
from codesign.ir import QuantizedNetwork
from codesign.results import Preparation
from codesign.study import Study, StudyConfig

if TYPE_CHECKING:
    from codesign.importing import Imported


def run(
    config: str | Path | StudyConfig, *, output: str | Path | None = None, until: str = "report"
) -> dict[str, Any]:
    """Run (or resume) a study and return its summary; see `codesign.report.summary.summarize`.

    Args:
        config: a study file, or a configuration built in Python.
        output: study folder; default runs/<name>.
        until: last kind of stage: one of `codesign.pipeline.STAGES`.

    Raises:
        CodesignError: whatever a stage refuses.
    """
    from codesign.pipeline import run_study
    from codesign.report.summary import summarize

    loaded = config if isinstance(config, StudyConfig) else load_config(Path(config))
    study = Study.at(Path(output) if output else Path("runs") / loaded.name, loaded)
    run_study(study, until=until)
    return summarize(study)


def import_network(
    model: str | Path | object,
    *,
    precision: str | None = None,
    input_shape: tuple[int, ...] | None = None,
) -> Imported:
    """Read a network that was trained elsewhere; see docs/import.md.

    Args:
        model: a file or folder, a Keras model, or a PyTorch module.
        precision: type of what it leaves in floats, "ap_fixed<16,6>".
        input_shape: of one event; of PyTorch modules only.

    Returns:
        The network, how inputs and outputs map to its words, and what runs the original.

    Raises:
        DesignError: it cannot be read; names the node.
    """
    from codesign.importing.reader import read_model, read_object

    if isinstance(model, (str, Path)):
        return read_model(Path(model), precision=precision)
    return read_object(model, precision=precision, input_shape=input_shape)


def load_network(folder: str | Path, digest: str | None = None) -> QuantizedNetwork:
    """Return a trained candidate of a study: the winner, or the one named.

    Raises:
        StudyError: the study has trained no such candidate.
    """
    study = Study.open(Path(folder))
    return QuantizedNetwork.load(study.trained(digest))


def quantize_inputs(
    folder: str | Path, raw: NDArray[np.floating], digest: str | None = None
) -> NDArray[np.int64]:
    """Scale raw features and put them on the input grid of a candidate, as the firmware's sender must.

    Args:
        folder: the study.
        raw: float[n, n_features], in the units of the data set.
        digest: candidate; default the winner.
    """
    from codesign.tasks import scaling_from_json

    prepared = Study.open(Path(folder)).results().require(Preparation, where=str(folder))
    scaling = scaling_from_json(prepared.scaling)
    return load_network(folder, digest).input_words(scaling.apply(raw))


def evaluate(network: QuantizedNetwork, words: NDArray[np.int64]) -> NDArray[np.int64]:
    """Evaluate input words with the integer reference; int64[n, n_outputs] words."""
    from codesign.layers import run_words

    outputs = run_words(network, words)
    assert isinstance(outputs, np.ndarray)
    return outputs
