"""Choose the method that is best for the labels at hand, and say why."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codesign.encoding.batch import GraphBatch
from codesign.errors import PredictorError
from codesign.predictor.base import METHODS, Floats, Method, Predictor, check_labels
from codesign.predictor.methods.transfer import Transfer
from codesign.predictor.metrics import kendall_tau

#: Tried by default, the preferred first: it wins unless another is better by `CLEARLY`.
CONTENDERS = ("blend", "gp", "kernel_ridge", "ridge", "random_forest")
#: Tried too where graphs are there as they were written: in spaces of fixed places (NAS-Bench-Macro) an operator's place
#: says most, and canonical graphs, from which identities are gone, no longer have it.
POSITIONAL = ("kernel_ridge_raw",)
#: Differences of tau below this are within the spread of seeds.
CLEARLY = 0.01
N_FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A fitted default and the reason for it.

    Attributes:
        predictor: fitted on all labels.
        method: its registered name.
        reason: one sentence.
        taus: cross-validated Kendall tau per contender.
    """

    predictor: Predictor
    method: str
    reason: str
    taus: dict[str, float]


def cross_validated_tau(batch: GraphBatch, labels: Floats, method: Method, *, seed: int) -> float:
    """Return Kendall's tau of predictions for left-out folds, all folds ranked together."""
    n = len(labels)
    fold_of = np.random.default_rng(seed).permutation(np.arange(n) % min(N_FOLDS, n))
    predicted = np.empty(n)
    for k in range(fold_of.max() + 1):
        train, test = np.flatnonzero(fold_of != k), np.flatnonzero(fold_of == k)
        fitted = method.fit(batch.take(train), labels[train], seed=seed)
        predicted[test] = fitted.predict(batch.take(test)).mean
    return kendall_tau(labels, predicted)


def choose(
    batch: GraphBatch,
    labels: Floats,
    *,
    seed: int,
    contenders: Sequence[str] = CONTENDERS,
    pretrained: Predictor | None = None,
    raw: GraphBatch | None = None,
) -> Choice:
    """Compare contenders by cross-validation and fit the best on all labels.

    The first contender is fitted once: when it keeps honest predictions of its own training labels
    (`left_out`), these stand for its cross-validation.

    Args:
        batch: canonical graphs.
        labels: float[n].
        seed: of folds and fits.
        contenders: registered names of methods for canonical graphs, the preferred one first.
        pretrained: a predictor of another task; starting from it is one contender more.
        raw: the same graphs as they were written, for `POSITIONAL` contenders too.

    Raises:
        PredictorError: unusable labels, or a contender that wants raw graphs where there are none.
    """
    labels = check_labels(batch, labels)
    if raw is not None:
        contenders = (*contenders, *POSITIONAL)
    methods = {name: METHODS.get(name) for name in contenders}
    for name, method in methods.items():
        if not method.is_canonical and raw is None:
            raise PredictorError(
                f"method {name!r} reads raw graphs and cannot be compared here; leave it out"
            )
    if pretrained is not None:
        methods["transfer"] = Transfer(base=pretrained)
    fitted: dict[str, Predictor] = {}
    taus: dict[str, float] = {}
    for name, method in methods.items():
        read = batch if raw is None or method.is_canonical else raw
        predictor = method.fit(read, labels, seed=seed)
        honest = predictor.left_out_mean
        fitted[name] = predictor
        taus[name] = (
            cross_validated_tau(read, labels, method, seed=seed)
            if honest is None
            else kendall_tau(labels, honest)
        )
    preferred, best = contenders[0], max(methods, key=lambda name: taus[name])
    chosen = best if taus[best] > taus[preferred] + CLEARLY else preferred
    table = ", ".join(f"{name} {tau:.3f}" for name, tau in taus.items())
    why = (
        "it ranks best"
        if chosen == best
        else f"{best} is better by less than {CLEARLY}, which is within the spread of seeds"
    )
    return Choice(
        predictor=fitted[chosen],
        method=chosen,
        reason=f"{chosen} of {table} (Kendall tau on left-out labels of {len(labels)}): {why}",
        taus=taus,
    )
