"""Ask rule4ml 0.2.0 for its estimates: run by `bench_estimators.py --rule4ml PYTHON` in rule4ml's own environment.

Reads JSON on stdin, `[{"layers": [[n_in, n_out, activation or null], ...], "board", "strategy", "precision",
"reuse_factor", "hls4ml_version", "vivado_version"}, ...]`, and writes `[{metric: value} or {"error": ...}]`.
Imports nothing of codesign: that environment has another torch.
"""

import json
import sys

import torch
from rule4ml.models.wrappers import MultiModelWrapper

_ACTIVATIONS = {
    "relu": torch.nn.ReLU,
    "sigmoid": torch.nn.Sigmoid,
    "tanh": torch.nn.Tanh,
    "softmax": torch.nn.Softmax,
}
_METRICS = {
    "LUT": "lut", "FF": "ff", "DSP": "dsp", "BRAM": "bram_18k", "CYCLES": "latency_cycles", "INTERVAL": "interval_cycles",
}  # fmt: skip


def network(layers: list) -> torch.nn.Sequential:
    """Build the torch model that rule4ml reads shapes from."""
    modules = []
    for n_in, n_out, activation in layers:
        modules.append(torch.nn.Linear(n_in, n_out))
        if activation is not None:
            kind = _ACTIVATIONS[activation]
            modules.append(kind(dim=-1) if activation == "softmax" else kind())
    return torch.nn.Sequential(*modules)


def main() -> None:
    """Answer every question of stdin."""
    estimator = MultiModelWrapper()
    estimator.load_default_models()
    answers = []
    for question in json.load(sys.stdin):
        configuration = {
            "board": question["board"],
            "model": {key: question[key] for key in ("strategy", "precision", "reuse_factor")},
        }
        try:
            table = estimator.predict(
                network(question["layers"]),
                hls_configs=configuration,
                hls4ml_versions=question["hls4ml_version"],
                vivado_versions=question["vivado_version"],
            )
            row = table.iloc[0]
            answers.append({name: float(row[label]) for label, name in _METRICS.items()})
        except Exception as error:  # whatever the peer raises is its answer
            answers.append({"error": f"{type(error).__name__}: {error}"})
    sys.stdout.write("\nANSWERS " + json.dumps(answers) + "\n")


if __name__ == "__main__":
    main()
