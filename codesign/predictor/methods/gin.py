"""Ensemble of two-way directed graph isomorphism networks on canonical graphs with globals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codesign.encoding.batch import GraphBatch
from codesign.encoding.features import EncodedGraphs, FeatureSchema, chunks
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
from codesign.predictor.scores import NormalScores

if TYPE_CHECKING:
    from codesign.predictor.network import StackedGin

#: Optimiser steps: so many per label, within bounds.  On NAS-Bench-201 tau of one seed rises
#: from .899 at one step a label to .908 at five (469 labels).
STEPS_PER_LABEL, LEAST_STEPS, MOST_STEPS = 5, 300, 4000


def steps_for(n_labels: int) -> int:
    """Return the number of optimiser steps for that many labels."""
    return min(max(STEPS_PER_LABEL * n_labels, LEAST_STEPS), MOST_STEPS)


@dataclass(frozen=True, kw_only=True)
class GinPredictor(Predictor):
    """A trained ensemble."""

    schema: FeatureSchema
    scores: NormalScores
    stack: StackedGin
    method_name: str

    @property
    def method(self) -> str:
        """See base class."""
        return self.method_name

    def member_scores(self, encoded: EncodedGraphs) -> NDArray[np.float32]:
        """Return the normal scores float32[S, b] of every member for one encoded chunk."""
        from codesign.predictor.network import predict_stack

        return predict_stack(self.stack, encoded)

    def predict_scores(self, batch: GraphBatch) -> tuple[Floats, Floats]:
        """Return mean and standard deviation over the members, in normal scores."""
        members = np.empty((self.stack.shape.n_members, len(batch)))
        for chosen, part in chunks(batch):
            members[:, chosen] = self.member_scores(self.schema.encode(part))
        return members.mean(axis=0), members.std(axis=0)

    @property
    def left_out_mean(self) -> Floats | None:
        """See base class."""
        return None

    def predict(self, batch: GraphBatch) -> PredictedScores:
        """See base class.  The spread of the members alone is overconfident: prefer `blend`."""
        mean, std = self.predict_scores(batch)
        return PredictedScores(mean=self.scores.to_labels(mean), std=self.scores.spread(mean, std))

    def state(self) -> tuple[dict[str, Any], Arrays]:
        """See base class."""
        from codesign.predictor.network import stack_to_arrays

        schema_meta, schema_arrays = self.schema.state()
        score_meta, score_arrays = self.scores.state()
        meta = {"schema": schema_meta, "scores": score_meta, "shape": vars(self.stack.shape)}
        arrays = {
            **fold("schema", schema_arrays),
            **fold("scores", score_arrays),
            **fold("stack", stack_to_arrays(self.stack)),
        }
        return meta, arrays


@dataclass(frozen=True, kw_only=True)
class Gin(Method):
    """Hyperparameters of the ensemble."""

    method_name: str
    canonical: bool = True
    n_members: int = 4
    width: int = 32
    depth: int = 3

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

    def fit(self, batch: GraphBatch, labels: Floats, *, seed: int) -> GinPredictor:
        """See base class."""
        labels = check_labels(batch, labels)
        schema = FeatureSchema.fit(batch)
        scores = NormalScores.fit(labels)
        stack = self.train(
            schema.encode(batch),
            scores.to_scores(labels),
            [np.arange(len(batch))] * self.n_members,
            seed=seed,
        )
        return GinPredictor(schema=schema, scores=scores, stack=stack, method_name=self.method_name)

    def train(
        self,
        encoded: EncodedGraphs,
        scores: Floats,
        member_rows: list[NDArray[np.int64]],
        *,
        seed: int,
    ) -> StackedGin:
        """Train a stack with these hyperparameters, one member per entry of `member_rows`."""
        from codesign.predictor.network import TrainingPlan, train_stack

        plan = TrainingPlan(n_steps=steps_for(len(scores)))
        return train_stack(
            encoded, scores, member_rows, width=self.width, depth=self.depth, plan=plan, seed=seed
        )

    def restore(self, meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> GinPredictor:
        """See base class."""
        from codesign.predictor.network import NetworkShape, stack_from_arrays

        return GinPredictor(
            schema=FeatureSchema.restore(meta["schema"], unfold("schema", arrays)),
            scores=NormalScores.restore(meta["scores"], unfold("scores", arrays)),
            stack=stack_from_arrays(NetworkShape(**meta["shape"]), unfold("stack", arrays)),
            method_name=self.method_name,
        )


for _method in (Gin(method_name="gin"), Gin(method_name="gin_raw", canonical=False)):
    METHODS.add(_method.name, _method)
