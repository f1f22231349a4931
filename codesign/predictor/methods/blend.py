"""The mean of the GIN ensemble and the Gaussian process, with intervals calibrated on left-out folds."""

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
from codesign.predictor.methods.gin import Gin, GinPredictor
from codesign.predictor.methods.gp import Gp, GpPredictor
from codesign.predictor.metrics import conformal_scale
from codesign.predictor.scores import NormalScores

N_FOLDS = 4
#: A standard deviation below this share of the labels' own is not believed.
LEAST_STD = 1e-3


def _combine(gin: Floats, gp: Floats, gp_std: Floats) -> tuple[Floats, Floats]:
    """Return mean and std of the blend; half the gap between the two models counts as doubt."""
    return (gin + gp) / 2.0, np.sqrt(gp_std**2 + ((gin - gp) / 2.0) ** 2)


@dataclass(frozen=True, kw_only=True)
class BlendPredictor(Predictor):
    """Both models, sharing one feature schema.

    Attributes:
        gin, gp: the models.
        scale: factor on the standard deviation that makes 90 % intervals hold on left-out folds.
        least_std: floor of the standard deviation, in labels.
        method_name: registered name.
        left_out: float64[2, n], mean and unscaled std (labels) of each training graph, predicted
            by models that did not see it.
    """

    gin: GinPredictor
    gp: GpPredictor
    scale: float
    least_std: float
    method_name: str
    left_out: NDArray[np.float64]

    @property
    def method(self) -> str:
        """See base class."""
        return self.method_name

    @property
    def left_out_mean(self) -> Floats | None:
        """See base class."""
        return np.asarray(self.left_out[0])

    def predict(self, batch: GraphBatch) -> PredictedScores:
        """See base class."""
        mean, std = np.empty(len(batch)), np.empty(len(batch))
        for chosen, part in chunks(batch):
            encoded = self.gin.schema.encode(part)
            gin = self.gin.member_scores(encoded).mean(axis=0, dtype=np.float64)
            gp, gp_std = self.gp.score_chunk(part, encoded.globals)
            mean[chosen], std[chosen] = _combine(gin, gp, gp_std)
        labels = self.gin.scores.to_labels(mean)
        spread = np.maximum(self.gin.scores.spread(mean, std), self.least_std)
        return PredictedScores(mean=labels, std=self.scale * spread)

    def state(self) -> tuple[dict[str, Any], Arrays]:
        """See base class."""
        gin_meta, gin_arrays = self.gin.state()
        gp_meta, gp_arrays = self.gp.state()
        meta = {"gin": gin_meta, "gp": gp_meta, "scale": self.scale, "least_std": self.least_std}
        arrays = {"left_out": self.left_out, **fold("gin", gin_arrays), **fold("gp", gp_arrays)}
        return meta, arrays


@dataclass(frozen=True, kw_only=True)
class Blend(Method):
    """Hyperparameters: those of its two parts."""

    method_name: str
    gin: Gin
    gp: Gp

    @property
    def name(self) -> str:
        """See base class."""
        return self.method_name

    @property
    def is_canonical(self) -> bool:
        """See base class."""
        return self.gin.canonical

    def objection(self, batch: GraphBatch) -> str | None:
        """See base class."""
        del batch  # any graph will do
        return None

    def fit(self, batch: GraphBatch, labels: Floats, *, seed: int) -> BlendPredictor:
        """See base class.

        One stack trains the ensemble's members and, beside them, one member per fold that does not
        see the fold.  The latter and the process' leave-one-out formula predict every training
        label honestly; the intervals are scaled to hold 90 % of them (split conformal prediction:
        Vovk et al., 2005; with cross-fitting, Barber et al., Ann. Stat. 49, 2021).
        """
        from codesign.predictor.network import predict_stack, split_stack

        labels = check_labels(batch, labels)
        n = len(labels)
        schema, scores = FeatureSchema.fit(batch), NormalScores.fit(labels)
        values = scores.to_scores(labels)
        encoded = schema.encode(batch)
        n_folds = min(N_FOLDS, n)
        fold_of = np.random.default_rng(seed).permutation(np.arange(n) % n_folds)
        rows = [np.arange(n)] * self.gin.n_members
        rows += [np.flatnonzero(fold_of != k) for k in range(n_folds)]
        together = self.gin.train(encoded, values, rows, seed=seed)
        members, left_out = split_stack(together, self.gin.n_members)
        gp = self.gp.fit_scores(batch, scores, values, schema, seed=seed)
        honest = predict_stack(left_out, encoded)[fold_of, np.arange(n)].astype(np.float64)
        mean, std = _combine(honest, *gp.leave_one_out)
        predicted, spread = scores.to_labels(mean), scores.spread(mean, std)
        least_std = LEAST_STD * float(labels.std())
        return BlendPredictor(
            gin=GinPredictor(schema=schema, scores=scores, stack=members, method_name="gin"),
            gp=gp,
            scale=conformal_scale(labels, predicted, np.maximum(spread, least_std)),
            least_std=least_std,
            method_name=self.method_name,
            left_out=np.stack([predicted, spread]),
        )

    def restore(
        self, meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
    ) -> BlendPredictor:
        """See base class."""
        return BlendPredictor(
            gin=self.gin.restore(meta["gin"], unfold("gin", arrays)),
            gp=self.gp.restore(meta["gp"], unfold("gp", arrays)),
            scale=meta["scale"],
            least_std=meta["least_std"],
            method_name=self.method_name,
            left_out=arrays["left_out"],
        )


METHODS.add(
    "blend", Blend(method_name="blend", gin=Gin(method_name="gin"), gp=Gp(method_name="gp"))
)
METHODS.add(
    "blend_fast",
    Blend(
        method_name="blend_fast",
        gin=Gin(method_name="gin", n_members=2, width=24),
        gp=Gp(method_name="gp_globals", uses_bags=False),
    ),
)
