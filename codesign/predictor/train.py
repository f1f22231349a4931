"""From files to files: fit and store a predictor, rank a graph file with a stored one."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from codesign.encoding.batch import GraphBatch
from codesign.encoding.graph import batch_from_graphs, labels_of, load_graphs
from codesign.files import write_atomically
from codesign.predictor.base import METHODS, Floats, Predictor, load_predictor, save_predictor
from codesign.predictor.methods.transfer import Transfer
from codesign.predictor.select import Choice, choose
from codesign.processes import one_thread


def fit_predictor(
    batch: GraphBatch,
    labels: Floats,
    *,
    seed: int,
    method: str = "auto",
    pretrained: Predictor | None = None,
    raw: GraphBatch | None = None,
) -> Choice:
    """Fit one method, or choose among the contenders.

    Args:
        batch: canonical graphs.
        labels: float[n], higher is better.
        seed: of every random choice.
        method: a registered name, or "auto": see `codesign.predictor.select.choose`.
        pretrained: a predictor of another task to start from; then `method` "transfer" does, and
            "auto" tries.
        raw: the same graphs as they were written, where there are any; "auto" then tries methods of positions.

    Returns:
        The fitted predictor, its method and a sentence that says why it was taken.
    """
    with one_thread():  # spinning threads made this seven times slower on a busy machine
        if method == "auto":
            return choose(batch, labels, seed=seed, pretrained=pretrained, raw=raw)
        chosen = Transfer(base=pretrained) if method == "transfer" else METHODS.get(method)
        predictor = chosen.fit(batch, labels, seed=seed)
    return Choice(
        predictor=predictor,
        method=method,
        reason=f"{method}, as asked for ({len(labels)} labels)",
        taus={},
    )


def train_file(
    graphs: Path,
    output: Path,
    *,
    method: str,
    seed: int,
    duplicates: str = "error",
    start_from: Path | None = None,
) -> str:
    """Fit on a file of labelled graphs and write a checkpoint; return why this method was taken."""
    pretrained = None if start_from is None else load_predictor(start_from)[0]
    loaded = load_graphs(graphs, duplicates=duplicates)
    canonical = method == "auto" or METHODS.get(method).is_canonical
    batch, labels = batch_from_graphs(loaded, canonical=canonical), labels_of(loaded)
    raw = batch_from_graphs(loaded, canonical=False) if method == "auto" else None
    choice = fit_predictor(batch, labels, seed=seed, method=method, pretrained=pretrained, raw=raw)
    notes = {
        "graphs": graphs.name,
        "n_labels": len(labels),
        "seed": seed,
        "reason": choice.reason,
        "cross_validated_tau": choice.taus,
    }
    save_predictor(choice.predictor, output, notes=notes)
    return choice.reason


def rank_file(graphs: Path, checkpoint: Path, *, output: Path | None, top: int) -> list[str]:
    """Predict every graph of a file; write all as JSON lines, or return a table of the best."""
    predictor, _ = load_predictor(checkpoint)
    loaded = load_graphs(graphs, duplicates="mean")
    batch = batch_from_graphs(loaded, canonical=METHODS.get(predictor.method).is_canonical)
    predicted = predictor.predict(batch)
    low, high = predicted.interval(0.9)
    order = np.argsort(-predicted.mean, kind="stable")
    if output is None:
        header = f"{'graph':<40} {'score':>10} {'90 % from':>10} {'to':>10}   (predicted)"
        rows = [
            f"{loaded[i].name:<40} {predicted.mean[i]:>10.4f} {low[i]:>10.4f} {high[i]:>10.4f}"
            for i in order[:top]
        ]
        return [header, *rows]
    lines = []
    for i in order:
        record = {"graph": loaded[i].name, "predicted_score": float(predicted.mean[i])}
        if np.isfinite(predicted.std[i]):
            record |= {"std": float(predicted.std[i]), "low": float(low[i]), "high": float(high[i])}
        lines.append(json.dumps(record))
    write_atomically(output, "\n".join(lines) + "\n")
    return [f"{output}: {len(order)} graphs, best first (predicted)"]


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON, whole or not at all."""
    write_atomically(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def summary_lines(result: Mapping[str, Any]) -> list[str]:
    """Return a table of the medians of an evaluation."""
    columns = ("tau", "tau_without_twin", "spearman", "top10_regret", "coverage_90")
    lines = [f"{'method':<26}{'labels':>7}" + "".join(f"{c:>17}" for c in columns)]
    for entry in sorted(result["medians"], key=lambda e: (e["n_train"], -e["tau"])):
        cells = "".join(f"{entry[c]:>17.3f}" if c in entry else f"{'-':>17}" for c in columns)
        lines.append(f"{entry['method']:<26}{entry['n_train']:>7}{cells}")
    lines += [f"not applicable: {name}: {why}" for name, why in result["not_applicable"].items()]
    return lines
