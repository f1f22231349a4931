"""Gaussian process on global features, bags of walks and Weisfeiler-Lehman colours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from codesign.encoding.bags import BagVocabulary, walks, weisfeiler_lehman
from codesign.encoding.batch import GraphBatch
from codesign.encoding.features import FeatureSchema, chunks
from codesign.errors import PredictorError
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
    from torch import Tensor

#: Graphs on which kernel parameters are tuned (cubic cost); all graphs are conditioned on.
MOST_TUNED = 800
TUNING_STEPS = 60
WALK_LENGTH = 4
COLOUR_ROUNDS = 2
#: log of: amplitudes of globals, walks and colours; length scales of walks and colours; noise
#: variance.  Then one log weight per global column follows, starting at `_GLOBAL_WEIGHT` / columns.
_START = np.log([1.0, 0.5, 0.5, 0.9, 0.9, 0.02])
_PRIOR_STD = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 1.5])
_GLOBAL_WEIGHT, _GLOBAL_PRIOR_STD = 1.0, 1.5
_NOISE, _FIRST_COLUMN = 5, 6


@dataclass(frozen=True, kw_only=True)
class _Inputs:
    """What the kernel compares: globals float32[n, G]; unit rows of walks and colours, or none."""

    globals: NDArray[np.float32]
    bags: tuple[Any, ...]


def _bag_distances(a: _Inputs, b: _Inputs) -> list[NDArray[np.float32]]:
    """Return squared distances 2 - 2 cos, float32[n_a, n_b], per bag."""
    return [
        np.maximum(2.0 - 2.0 * (x @ y.T).toarray(), 0.0)
        for x, y in zip(a.bags, b.bags, strict=True)
    ]


def _kernel(global_features: Tensor, bag_distances: list[Tensor], log_parameters: Tensor) -> Tensor:
    """Covariance of the training graphs, without noise.

    amplitude^2 exp(-sum of weighted squared differences / 2) on the globals, one weight per column
    (automatic relevance determination), plus amplitude^2 exp(-(1 - cos) / length^2) per bag.
    """
    parameters = log_parameters.exp()
    x = global_features * parameters[_FIRST_COLUMN:].sqrt()
    square = x.square().sum(dim=1)
    distance = (square[:, None] + square - 2.0 * x @ x.T).clamp(min=0.0)
    total = parameters[0] ** 2 * (distance / -2.0).exp()
    for i, bag in enumerate(bag_distances):
        total = total + parameters[1 + i] ** 2 * (bag / (-2.0 * parameters[3 + i] ** 2)).exp()
    return total


def _tune(
    global_features: NDArray[np.float32],
    bag_distances: list[NDArray[np.float32]],
    scores: Floats,
) -> NDArray[np.float64]:
    """Maximise the marginal likelihood under weak log-normal priors; return the log parameters."""
    import torch

    x = torch.from_numpy(global_features.astype(np.float64))
    bags = [torch.from_numpy(d.astype(np.float64)) for d in bag_distances]
    y = torch.from_numpy(scores)[:, None]
    columns = x.shape[1]
    weight = np.full(columns, np.log(_GLOBAL_WEIGHT / max(1, columns)))
    start = torch.from_numpy(np.concatenate([_START, weight]))
    std = torch.from_numpy(np.concatenate([_PRIOR_STD, np.full(columns, _GLOBAL_PRIOR_STD)]))
    parameters = start.clone().requires_grad_(True)
    eye = torch.eye(len(scores), dtype=torch.float64)
    optimiser = torch.optim.Adam([parameters], lr=0.1)
    for _ in range(TUNING_STEPS):
        optimiser.zero_grad()
        covariance = _kernel(x, bags, parameters) + (parameters[_NOISE].exp() + 1e-6) * eye
        factor = torch.linalg.cholesky(covariance)
        fit = (y * torch.cholesky_solve(y, factor)).sum() / 2.0
        loss = fit + factor.diagonal().log().sum()
        loss = loss + (((parameters - start) / std) ** 2).sum() / 2.0
        loss.backward()
        optimiser.step()
    return np.asarray(parameters.detach().numpy())


def _precision(train: _Inputs, log_parameters: NDArray[np.float64]) -> Floats:
    """Return the inverse of the covariance of the training labels, float64[n, n]."""
    import torch

    covariance = _kernel(
        torch.from_numpy(train.globals.astype(np.float64)),
        [torch.from_numpy(d.astype(np.float64)) for d in _bag_distances(train, train)],
        torch.from_numpy(log_parameters),
    ).numpy()
    covariance[np.diag_indices(len(covariance))] += np.exp(log_parameters[_NOISE]) + 1e-6
    try:
        return np.asarray(cho_solve(cho_factor(covariance), np.eye(len(covariance))))
    except np.linalg.LinAlgError as error:
        raise PredictorError(
            "the Gaussian process' covariance is singular; remove repeated graphs or labels"
        ) from error


@dataclass(frozen=True, kw_only=True)
class GpPredictor(Predictor):
    """A conditioned Gaussian process.

    Attributes:
        schema: features.
        vocabularies: of walks and colours; empty when the bags are not used.
        scores: the label map.
        train: inputs of the training graphs.
        log_parameters: float64[6 + G]; see `_START`.
        weights: float32[n], covariance^-1 (scores - offset).
        precision: float32[n, n], inverse of the covariance.
        offset: prior mean.
        method_name: registered name.
        leave_one_out: float64[2, n], mean and std of each training graph's score from the others
            (Rasmussen and Williams, 2006, eq. 5.12).
    """

    schema: FeatureSchema
    vocabularies: tuple[BagVocabulary, ...]
    scores: NormalScores
    train: _Inputs
    log_parameters: NDArray[np.float64]
    weights: NDArray[np.float32]
    precision: NDArray[np.float32]
    offset: float
    method_name: str
    leave_one_out: NDArray[np.float64]

    @property
    def method(self) -> str:
        """See base class."""
        return self.method_name

    def predict_scores(self, batch: GraphBatch) -> tuple[Floats, Floats]:
        """Return mean and standard deviation of a new label (noise included), in normal scores."""
        mean, std = np.empty(len(batch)), np.empty(len(batch))
        for chosen, part in chunks(batch):
            mean[chosen], std[chosen] = self.score_chunk(part, self.schema.encode(part).globals)
        return mean, std

    def score_chunk(
        self, part: GraphBatch, global_features: NDArray[np.float32]
    ) -> tuple[Floats, Floats]:
        """Return mean and std for one chunk whose globals are known already."""
        inputs = _inputs(part, global_features, self.schema, self.vocabularies)
        # float64 for the mean: its terms cancel, and in float32 it moved by 7e-5 of a score with the
        # number of graphs in a chunk
        parameters = np.exp(self.log_parameters)
        root = np.sqrt(parameters[_FIRST_COLUMN:])
        x, z = inputs.globals * root, self.train.globals * root
        cross = x @ z.T
        cross -= (x**2).sum(axis=1)[:, None] / 2.0
        cross -= (z**2).sum(axis=1) / 2.0
        np.exp(np.minimum(cross, 0.0, out=cross), out=cross)
        cross *= parameters[0] ** 2
        bags = _bag_distances(inputs, self.train)
        for i, distance in enumerate(bags):
            distance *= -0.5 / parameters[3 + i] ** 2
            cross += parameters[1 + i] ** 2 * np.exp(distance, out=distance)
        prior = float((parameters[: 1 + len(bags)] ** 2).sum() + parameters[_NOISE])
        mean = cross @ self.weights + self.offset
        cross = cross.astype(np.float32)
        explained = np.einsum("ij,ij->i", cross @ self.precision, cross)
        variance = np.maximum(prior - explained, parameters[_NOISE])
        return mean, np.sqrt(variance, dtype=np.float64)

    @property
    def left_out_mean(self) -> Floats | None:
        """See base class."""
        return self.scores.to_labels(self.leave_one_out[0])

    def predict(self, batch: GraphBatch) -> PredictedScores:
        """See base class."""
        mean, std = self.predict_scores(batch)
        return PredictedScores(mean=self.scores.to_labels(mean), std=self.scores.spread(mean, std))

    def state(self) -> tuple[dict[str, Any], Arrays]:
        """See base class."""
        schema_meta, schema_arrays = self.schema.state()
        score_meta, score_arrays = self.scores.state()
        arrays: Arrays = {
            **fold("schema", schema_arrays),
            **fold("scores", score_arrays),
            "globals": self.train.globals,
            "log_parameters": self.log_parameters,
            "weights": self.weights,
            "leave_one_out": self.leave_one_out,
        }
        for i, (words, rows) in enumerate(zip(self.vocabularies, self.train.bags, strict=True)):
            bag = {"colours": words.colours, "data": rows.data, "indices": rows.indices}
            arrays.update(fold(f"bag{i}", {**bag, "indptr": rows.indptr}))
        meta = {
            "schema": schema_meta,
            "scores": score_meta,
            "offset": self.offset,
            "n_bags": len(self.vocabularies),
        }
        return meta, arrays


def _colour(batch: GraphBatch, schema: FeatureSchema, kind: int) -> tuple[Any, ...]:
    operators = schema.vocabulary(batch)
    if kind == 0:
        return walks(batch, operators, length=WALK_LENGTH)
    return weisfeiler_lehman(batch, operators, rounds=COLOUR_ROUNDS)


def _inputs(
    batch: GraphBatch,
    global_features: NDArray[np.float32],
    schema: FeatureSchema,
    vocabularies: tuple[BagVocabulary, ...],
) -> _Inputs:
    bags = tuple(
        words.count(len(batch), *_colour(batch, schema, kind))
        for kind, words in enumerate(vocabularies)
    )
    return _Inputs(globals=global_features, bags=bags)


@dataclass(frozen=True, kw_only=True)
class Gp(Method):
    """Which graphs and blocks to use.

    Attributes:
        uses_bags: None decides by whether operator sequences vary: graphs that differ only in
            numeric attributes have nothing to put into a bag.
    """

    method_name: str
    canonical: bool = True
    uses_bags: bool = True

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

    def fit(self, batch: GraphBatch, labels: Floats, *, seed: int) -> GpPredictor:
        """See base class."""
        labels = check_labels(batch, labels)
        schema = FeatureSchema.fit(batch)
        scores = NormalScores.fit(labels)
        return self.fit_scores(batch, scores, scores.to_scores(labels), schema, seed=seed)

    def fit_scores(
        self,
        batch: GraphBatch,
        scores: NormalScores,
        values: Floats,
        schema: FeatureSchema,
        *,
        seed: int,
    ) -> GpPredictor:
        """Fit on normal scores `values` with features that are known already."""
        vocabularies = tuple(
            BagVocabulary.fit(_colour(batch, schema, kind)[1]) for kind in (0, 1) if self.uses_bags
        )
        train = _inputs(batch, schema.encode(batch).globals, schema, vocabularies)
        distances = _bag_distances(train, train)
        offset = float(values.mean())
        chosen = np.random.default_rng(seed).permutation(len(values))[:MOST_TUNED]
        log_parameters = _tune(
            train.globals[chosen],
            [d[np.ix_(chosen, chosen)] for d in distances],
            values[chosen] - offset,
        )
        precision = _precision(train, log_parameters)
        weights = precision @ (values - offset)
        diagonal = np.diag(precision)
        return GpPredictor(
            schema=schema,
            vocabularies=vocabularies,
            scores=scores,
            train=train,
            log_parameters=log_parameters,
            weights=weights.astype(np.float32),
            precision=precision.astype(np.float32),
            offset=offset,
            method_name=self.method_name,
            leave_one_out=np.stack([values - weights / diagonal, np.sqrt(1.0 / diagonal)]),
        )

    def restore(self, meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> GpPredictor:
        """See base class."""
        from scipy import sparse

        n = len(arrays["globals"])
        vocabularies, bags = [], []
        for i in range(meta["n_bags"]):
            bag = unfold(f"bag{i}", arrays)
            vocabularies.append(BagVocabulary(colours=bag["colours"]))
            parts = (bag["data"], bag["indices"], bag["indptr"])
            bags.append(sparse.csr_array(parts, shape=(n, len(bag["colours"]) + 1)))
        train = _Inputs(globals=arrays["globals"], bags=tuple(bags))
        # Quick to compute, large to store.
        precision = _precision(train, arrays["log_parameters"])
        return GpPredictor(
            schema=FeatureSchema.restore(meta["schema"], unfold("schema", arrays)),
            vocabularies=tuple(vocabularies),
            scores=NormalScores.restore(meta["scores"], unfold("scores", arrays)),
            train=train,
            log_parameters=arrays["log_parameters"],
            weights=arrays["weights"],
            precision=precision.astype(np.float32),
            offset=meta["offset"],
            method_name=self.method_name,
            leave_one_out=arrays["leave_one_out"],
        )


for _method in (
    Gp(method_name="gp"),
    Gp(method_name="gp_globals", uses_bags=False),
    Gp(method_name="gp_raw", canonical=False),
):
    METHODS.add(_method.name, _method)
