"""Random forest on globals of canonical graphs, or on raw positions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.encoding.batch import GraphBatch
from codesign.encoding.features import FeatureSchema, chunks
from codesign.predictor.base import (
    METHODS,
    Arrays,
    Floats,
    Method,
    PredictedScores,
    Predictor,
    check_labels,
    fold,
    unfold,
)
from codesign.predictor.methods._dual import read_table
from codesign.predictor.metrics import conformal_scale
from codesign.predictor.scores import NormalScores

N_TREES = 200
_TREE = ("left", "right", "feature", "threshold", "value")


@dataclass(frozen=True, kw_only=True)
class ForestPredictor(Predictor):
    """All trees in flat arrays, so that a checkpoint needs no pickle.

    Attributes:
        roots: int64[trees], node number of each root.
        nodes: left, right (node numbers, -1 at a leaf), feature, threshold, value; one entry per
            node of any tree.
        std: of a label, from the out-of-bag errors.
    """

    schema: FeatureSchema
    scores: NormalScores
    roots: NDArray[np.int64]
    nodes: Mapping[str, NDArray[Any]]
    n_places: int
    std: float
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
            mean[chosen] = self._scores(_matrix(part, self.schema, self.n_places))
        labels = self.scores.to_labels(mean)
        return PredictedScores(mean=labels, std=np.full(len(batch), self.std))

    def _scores(self, x: NDArray[np.float32]) -> Floats:
        at = np.broadcast_to(self.roots, (len(x), len(self.roots))).copy()
        rows = np.arange(len(x))[:, None]
        while True:
            inner = self.nodes["left"][at] >= 0
            if not inner.any():
                return np.asarray(self.nodes["value"][at].mean(axis=1))
            feature = np.maximum(self.nodes["feature"][at], 0)
            goes_left = x[rows, feature] <= self.nodes["threshold"][at]
            below = np.where(goes_left, self.nodes["left"][at], self.nodes["right"][at])
            at = np.where(inner, below, at)

    def state(self) -> tuple[dict[str, Any], Arrays]:
        """See base class."""
        schema_meta, schema_arrays = self.schema.state()
        score_meta, score_arrays = self.scores.state()
        meta = {
            "schema": schema_meta,
            "scores": score_meta,
            "n_places": self.n_places,
            "std": self.std,
        }
        arrays = {**fold("schema", schema_arrays), **fold("scores", score_arrays)}
        return meta, {**arrays, **fold("nodes", self.nodes), "roots": self.roots}


def _matrix(batch: GraphBatch, schema: FeatureSchema, n_places: int) -> NDArray[np.float32]:
    table = read_table(batch, schema, n_places)
    return np.concatenate([table.operators, table.numbers], axis=1)


@dataclass(frozen=True, kw_only=True)
class Forest(Method):
    """Hyperparameters are scikit-learn's, with a third of the features per split."""

    method_name: str
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

    def fit(self, batch: GraphBatch, labels: Floats, *, seed: int) -> ForestPredictor:
        """See base class."""
        from sklearn.ensemble import RandomForestRegressor

        labels = check_labels(batch, labels)
        schema, scores = FeatureSchema.fit(batch), NormalScores.fit(labels)
        n_places = 0 if self.canonical else int(batch.n_nodes.max())
        x = _matrix(batch, schema, n_places)
        forest = RandomForestRegressor(
            n_estimators=N_TREES, max_features=1 / 3, oob_score=True, random_state=seed
        )
        forest.fit(x, scores.to_scores(labels))
        left_out = scores.to_labels(forest.oob_prediction_)
        trees = [estimator.tree_ for estimator in forest.estimators_]
        sizes = np.array([tree.node_count for tree in trees])
        roots = np.concatenate([[0], np.cumsum(sizes)[:-1]])

        def children(name: str) -> NDArray[np.int64]:
            shifted = [
                np.where(getattr(t, name) < 0, -1, getattr(t, name) + root)
                for t, root in zip(trees, roots, strict=True)
            ]
            return np.concatenate(shifted)

        return ForestPredictor(
            schema=schema,
            scores=scores,
            roots=roots,
            nodes={
                "left": children("children_left"),
                "right": children("children_right"),
                "feature": np.concatenate([t.feature for t in trees]),
                "threshold": np.concatenate([t.threshold for t in trees]),
                "value": np.concatenate([t.value[:, 0, 0] for t in trees]),
            },
            n_places=n_places,
            std=conformal_scale(labels, left_out, np.ones(len(labels))),
            method_name=self.method_name,
        )

    def restore(
        self, meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
    ) -> ForestPredictor:
        """See base class."""
        nodes = unfold("nodes", arrays)
        return ForestPredictor(
            schema=FeatureSchema.restore(meta["schema"], unfold("schema", arrays)),
            scores=NormalScores.restore(meta["scores"], unfold("scores", arrays)),
            roots=arrays["roots"],
            nodes={name: nodes[name] for name in _TREE},
            n_places=meta["n_places"],
            std=meta["std"],
            method_name=self.method_name,
        )


for _name, _canonical in (("random_forest", True), ("random_forest_raw", False)):
    METHODS.add(_name, Forest(method_name=_name, canonical=_canonical))
