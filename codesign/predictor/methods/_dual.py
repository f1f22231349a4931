"""Ridge regression in its dual form, for any kernel, with closed-form leave-one-out tuning."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.encoding.batch import GraphBatch
from codesign.encoding.features import FeatureSchema, chunks
from codesign.encoding.positions import PositionTable, tabulate
from codesign.predictor.base import (
    Arrays,
    Floats,
    Method,
    PredictedScores,
    Predictor,
    check_labels,
    fold,
    unfold,
)
from codesign.predictor.metrics import conformal_scale
from codesign.predictor.scores import NormalScores

PENALTIES = 10.0 ** np.arange(-4, 5)
#: A kernel takes two tables and a positive bandwidth, and returns float[n_a, n_b].
Kernel = Callable[[PositionTable, PositionTable, float], NDArray[Any]]


def sequence_kernel(a: PositionTable, b: PositionTable, bandwidth: float) -> NDArray[Any]:
    """Linear in operator-position one-hots, their pairs and their triples, and in the numbers.

    With c positions in common, two graphs share c one-hots, C(c, 2) pairs and C(c, 3) triples, so
    the features need not be written out.
    """
    common = a.operators @ b.operators.T
    pairs = common * (common - 1.0) / 2.0
    triples = pairs * (common - 2.0) / 3.0
    return (common + pairs + triples) / bandwidth + a.numbers @ b.numbers.T


def linear_kernel(a: PositionTable, b: PositionTable, bandwidth: float) -> NDArray[Any]:
    """Linear in all columns."""
    del bandwidth
    return a.operators @ b.operators.T + a.numbers @ b.numbers.T


def gaussian_kernel(a: PositionTable, b: PositionTable, bandwidth: float) -> NDArray[Any]:
    """exp(-squared distance / (bandwidth * columns))."""
    x = np.concatenate([a.operators, a.numbers], axis=1)
    z = np.concatenate([b.operators, b.numbers], axis=1)
    square = (x**2).sum(axis=1)[:, None] + (z**2).sum(axis=1) - 2.0 * x @ z.T
    return np.asarray(np.exp(-np.maximum(square, 0.0) / (bandwidth * x.shape[1])))


def read_table(batch: GraphBatch, schema: FeatureSchema, n_places: int) -> PositionTable:
    """Return positions (n_places > 0), or the label-free global features (n_places = 0)."""
    if n_places:
        return tabulate(batch, schema, n_places=n_places)
    values = np.empty((len(batch), len(schema.global_names)), np.float32)
    for chosen, part in chunks(batch):
        values[chosen] = schema.encode(part).globals
    return PositionTable(operators=np.zeros((len(batch), 0), np.float32), numbers=values)


@dataclass(frozen=True, kw_only=True)
class DualRidgePredictor(Predictor):
    """A fitted ridge.  The interval has one width for all graphs: that of the left-out errors."""

    schema: FeatureSchema
    scores: NormalScores
    train: PositionTable
    weights: Floats
    offset: float
    bandwidth: float
    n_places: int
    std: float
    kernel: Kernel
    method_name: str

    @property
    def method(self) -> str:
        """See base class."""
        return self.method_name

    @property
    def left_out_mean(self) -> Floats | None:
        """See base class."""
        return None

    def predict(self, batch: GraphBatch) -> PredictedScores:
        """See base class."""
        mean = np.empty(len(batch))
        for chosen, part in chunks(batch):
            table = read_table(part, self.schema, self.n_places)
            mean[chosen] = self.kernel(table, self.train, self.bandwidth) @ self.weights
        labels = self.scores.to_labels(mean + self.offset)
        return PredictedScores(mean=labels, std=np.full(len(batch), self.std))

    def state(self) -> tuple[dict[str, Any], Arrays]:
        """See base class."""
        schema_meta, schema_arrays = self.schema.state()
        score_meta, score_arrays = self.scores.state()
        meta = {
            "schema": schema_meta,
            "scores": score_meta,
            "offset": self.offset,
            "bandwidth": self.bandwidth,
            "n_places": self.n_places,
            "std": self.std,
        }
        return meta, {
            **fold("schema", schema_arrays),
            **fold("scores", score_arrays),
            "operators": self.train.operators,
            "numbers": self.train.numbers,
            "weights": self.weights,
        }


@dataclass(frozen=True, kw_only=True)
class DualRidge(Method):
    """Ridge regression with one kernel.

    Attributes:
        method_name: registered name.
        kernel: see `Kernel`.
        bandwidths: tried in turn; leave-one-out error decides.
        canonical: canonical graphs with their globals, or raw graphs by position.
    """

    method_name: str
    kernel: Kernel
    bandwidths: tuple[float, ...]
    canonical: bool

    @property
    def name(self) -> str:
        """See base class."""
        return self.method_name

    @property
    def is_canonical(self) -> bool:
        """See base class."""
        return self.canonical

    def objection(self, batch: GraphBatch) -> str | None:
        """See base class."""
        del batch  # any graph will do
        return None

    def fit(self, batch: GraphBatch, labels: Floats, *, seed: int) -> DualRidgePredictor:
        """See base class.

        Left-out residual i = [C^-1 y]_i / [C^-1]_ii with C = K + penalty I, from one
        eigendecomposition per bandwidth.
        """
        del seed  # nothing is random
        labels = check_labels(batch, labels)
        schema, scores = FeatureSchema.fit(batch), NormalScores.fit(labels)
        values = scores.to_scores(labels)
        offset = float(values.mean())
        n_places = 0 if self.canonical else int(batch.n_nodes.max())
        table = read_table(batch, schema, n_places)
        best: tuple[float, Floats, Floats, float] | None = None
        for bandwidth in self.bandwidths:
            kernel = self.kernel(table, table, bandwidth).astype(np.float64)
            eigenvalues, vectors = np.linalg.eigh(kernel)
            projected = vectors.T @ (values - offset)
            for penalty in PENALTIES * float(np.trace(kernel)) / len(values) * 1e-1:
                inverse = 1.0 / (np.maximum(eigenvalues, 0.0) + penalty)
                weights = vectors @ (inverse * projected)
                residual = weights / np.einsum("ij,j,ij->i", vectors, inverse, vectors)
                error = float((residual**2).mean())
                if best is None or error < best[0]:
                    best = (error, weights, residual, bandwidth)
        assert best is not None, "there is at least one bandwidth and one penalty"
        _, weights, residual, bandwidth = best
        left_out = scores.to_labels(values - residual)
        return DualRidgePredictor(
            schema=schema,
            scores=scores,
            train=table,
            weights=weights,
            offset=offset,
            bandwidth=bandwidth,
            n_places=n_places,
            std=conformal_scale(labels, left_out, np.ones(len(labels))),
            kernel=self.kernel,
            method_name=self.method_name,
        )

    def restore(
        self, meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
    ) -> DualRidgePredictor:
        """See base class."""
        return DualRidgePredictor(
            schema=FeatureSchema.restore(meta["schema"], unfold("schema", arrays)),
            scores=NormalScores.restore(meta["scores"], unfold("scores", arrays)),
            train=PositionTable(operators=arrays["operators"], numbers=arrays["numbers"]),
            weights=arrays["weights"],
            offset=meta["offset"],
            bandwidth=meta["bandwidth"],
            n_places=meta["n_places"],
            std=meta["std"],
            kernel=self.kernel,
            method_name=self.method_name,
        )
