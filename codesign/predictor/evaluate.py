"""The one protocol under which every method is compared on a file of labelled graphs."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.encoding.bags import unrolled_expressions
from codesign.encoding.batch import GraphBatch
from codesign.encoding.graph import Graph, batch_from_graphs, labels_of
from codesign.errors import PredictorError
from codesign.predictor.base import METHODS, PredictedScores
from codesign.predictor.metrics import measure

SCHEMA = 1
_KEYS = ("method", "n_train", "seed")


@dataclass(frozen=True, kw_only=True)
class LabelledGraphs:
    """Graphs in both forms, with their labels.

    Attributes:
        canonical, raw: the same n graphs, canonicalised and as written.
        labels: float64[n].
        function: uint64[n]; equal for graphs that compute the same (twins).
    """

    canonical: GraphBatch
    raw: GraphBatch
    labels: NDArray[np.float64]
    function: NDArray[np.uint64]

    @classmethod
    def prepare(cls, graphs: Sequence[Graph]) -> "LabelledGraphs":
        """Encode graphs in both forms.

        Raises:
            DataError: a graph has no label.
        """
        labels = labels_of(graphs)
        canonical = batch_from_graphs(graphs)
        return cls(
            canonical=canonical,
            raw=batch_from_graphs(graphs, canonical=False),
            labels=labels,
            function=functional_hash(canonical),
        )

    def batch(self, method: str) -> GraphBatch:
        """Return the graphs in the form that `method` expects."""
        return self.canonical if METHODS.get(method).is_canonical else self.raw


def functional_hash(batch: GraphBatch) -> NDArray[np.uint64]:
    """Hash canonical graphs, uint64[n], so that functional twins agree.

    Twins have the same expression of operators and attributes from input to output, written out as
    a tree, and the same graph attributes.  Two uses of one node and two equal nodes count as the
    same, which errs towards calling graphs twins.
    """
    attributes = np.column_stack([batch.op.astype(np.float64), batch.numeric])
    _, kind = np.unique(attributes, axis=0, return_inverse=True, equal_nan=True)
    _, extra = np.unique(batch.extras, axis=0, return_inverse=True)
    expression = unrolled_expressions(batch, kind.ravel().astype(np.int64))
    return expression + extra.ravel().astype(np.uint64)


def split(n: int, n_train: int, *, seed: int, n_test: int | None) -> tuple[Any, Any]:
    """Return training and test rows: nested over `n_train` for one seed, disjoint.

    Raises:
        PredictorError: nothing would be left to test on.
    """
    if not 0 < n_train <= n - 2:
        raise PredictorError(
            f"train size {n_train} of {n} graphs leaves fewer than two to test on; ask for less"
        )
    order = np.random.default_rng(seed).permutation(n)
    return order[:n_train], order[n_train:][-n_test:] if n_test else order[n_train:]


def evaluate(
    graphs: LabelledGraphs,
    *,
    methods: Sequence[str],
    train_sizes: Sequence[int],
    n_seeds: int,
    n_test: int | None = None,
    on_done: Callable[[str], None] = lambda done: None,
) -> dict[str, Any]:
    """Fit every method at every size and seed and measure it on graphs not trained on.

    Args:
        graphs: the labelled graphs.
        methods: registered names.
        train_sizes: numbers of labels.
        n_seeds: seeds 0..n_seeds-1; each draws its own split and initial weights.
        n_test: test graphs a split, None for all that are left.
        on_done: told after each fit.

    Returns:
        JSON-ready: `protocol`, `runs` (one entry per method, size and seed, with the figures also
        on test graphs that have no functional twin in training), and `medians`.  A method that
        cannot work on these graphs is listed under `not_applicable` with its reason.
    """
    n = len(graphs.labels)
    runs: list[dict[str, Any]] = []
    refused = {name: METHODS.get(name).objection(graphs.batch(name)) for name in methods}
    refused = {name: reason for name, reason in refused.items() if reason}
    methods = [name for name in methods if name not in refused]
    for size in train_sizes:
        for seed in range(n_seeds):
            train, test = split(n, size, seed=seed, n_test=n_test)
            alone = ~np.isin(graphs.function[test], graphs.function[train])
            for name in methods:
                runs.append(_run(graphs, name, size, seed, train, test, alone))
                on_done(f"{name}, {size} labels, seed {seed}")
    return {
        "schema": SCHEMA,
        "protocol": {
            "n_graphs": n,
            "n_test": n_test or "all not trained on",
            "train_sizes": list(train_sizes),
            "seeds": n_seeds,
            "label_spread": float(np.std(graphs.labels)),
        },
        "not_applicable": refused,
        "medians": _medians(runs),
        "runs": runs,
    }


def _run(
    graphs: LabelledGraphs,
    name: str,
    size: int,
    seed: int,
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    alone: NDArray[np.bool_],
) -> dict[str, Any]:
    batch = graphs.batch(name)
    start = time.perf_counter()
    predictor = METHODS.get(name).fit(batch.take(train), graphs.labels[train], seed=seed)
    fitted = time.perf_counter()
    predicted = predictor.predict(batch.take(test))
    done = time.perf_counter()
    labels = graphs.labels[test]
    run = {"method": name, "n_train": size, "seed": seed, **asdict(measure(labels, predicted))}
    run |= {"fit_s": fitted - start, "candidates_per_s": len(test) / (done - fitted)}
    run["n_without_twin"] = int(alone.sum())
    if alone.sum() >= 2:
        rest = PredictedScores(mean=predicted.mean[alone], std=predicted.std[alone])
        figures = asdict(measure(labels[alone], rest))
        run |= {f"{key}_without_twin": figures[key] for key in ("tau", "spearman", "coverage_90")}
    return {key: _json_number(value) for key, value in run.items()}


def _json_number(value: Any) -> Any:
    """Return NaN as None: JSON has no NaN."""
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _medians(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    out = []
    for key in dict.fromkeys((r["method"], r["n_train"]) for r in runs):
        group = [r for r in runs if (r["method"], r["n_train"]) == key]
        entry: dict[str, Any] = {"method": key[0], "n_train": key[1], "seeds": len(group)}
        for name in group[0]:
            values = [
                float(r[name]) for r in group if r.get(name) is not None and name not in _KEYS
            ]
            if len(values) < len(group):
                continue
            entry[name] = float(np.median(values))
            if name == "tau":
                entry["tau_range"] = [min(values), max(values)]
        out.append(entry)
    return out
