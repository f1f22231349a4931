"""What is known of scores from few rows, how sure it is, and what trivial answers reach."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from codesign.errors import DataError
from codesign.ir import QuantizedNetwork
from codesign.metrics import Judgement, Metric
from codesign.results import Baseline, JudgedScore, ValidatedScore
from codesign.training.judge import head_values, output_values
from codesign.training.options import TaskArrays, TrainingOptions
from codesign.training.train import split_rows

Floats = NDArray[np.float64]

#: Resamplings of the validation rows.
_N_REPLICATES: Final = 200
#: Rows that the linear baseline is fitted on at most: enough for its few parameters.
_LINEAR_ROWS: Final = 50_000
#: Fewest training rows: an eighth of them validates.
_LEAST_ROWS: Final = 16


def split_of(arrays: TaskArrays, k: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows that split k trains on, and those that it validates on."""
    train, held_out = split_rows(len(arrays.y_train), TrainingOptions().validation_fraction, k)
    return train, held_out


def validate(arrays: TaskArrays, networks: Sequence[QuantizedNetwork]) -> ValidatedScore:
    """Score a design on the validation rows of each split, with an error that pairs designs.

    Args:
        arrays: the task.
        networks: the design's network of each split.
    """
    values = []
    for k, network in enumerate(networks):
        _, rows = split_of(arrays, k)
        x, y = arrays.x_train[rows], arrays.y_train[rows]
        _, found, _ = next(head_values(arrays.target, output_values(network, x), y, x))
        values.append(found)
    return validate_values(arrays, values)


def validate_values(arrays: TaskArrays, values: Sequence[NDArray[Any]]) -> ValidatedScore:
    """Score answers of the first head on the validation rows of each split.

    Args:
        arrays: the task.
        values: per split, float[n_rows, n_outputs] in the units of the truth.
    """
    metric = arrays.target.score.metric
    splits, replicates = [], []
    for k, found in enumerate(values):
        _, rows = split_of(arrays, k)
        truth = arrays.target.truth(0, arrays.y_train[rows], arrays.x_train[rows])
        weights = np.ones(len(rows)) if arrays.weights_train is None else arrays.weights_train[rows]
        # Poisson resampling; the seed is the split's, so every design meets the same resamplings
        counts = np.random.default_rng([k, 17]).poisson(1.0, (_N_REPLICATES, len(rows)))
        splits.append(float(metric.merit(metric.score(found, truth, weights))))
        scores = metric.scores(found, truth, np.asarray(counts * weights, dtype=np.float64))
        replicates.append(np.asarray(metric.merit(scores)))
    mean = np.mean(replicates, axis=0)
    return ValidatedScore(
        value=float(np.mean(splits)),
        standard_error=float(mean.std(ddof=1)),
        splits=splits,
        replicates=[float(v) for v in mean],
    )


def require_judgeable(arrays: TaskArrays, *, n_splits: int) -> None:
    """Check that every metric can judge the rows that it will be asked about, whatever a network answers.

    Args:
        arrays: the task.
        n_splits: splits that finalists are trained on.

    Raises:
        DataError: too few training rows to hold some out; a metric that lacks classes, rows or values, with what it
            needs and on which rows.
    """
    n_rows = len(arrays.y_train)
    if n_rows < _LEAST_ROWS:
        raise DataError(
            f"{n_rows} training rows are too few: some of them validate; expected at least {_LEAST_ROWS}; give more"
        )
    if arrays.events is not None:
        labels = arrays.events.labels
        score = np.zeros((len(labels), 1))
        _require(arrays.events.metric, "test", score, labels, arrays.weights_test)
    answers = np.zeros((len(arrays.y_test), arrays.n_outputs))
    for head, values, truth in head_values(arrays.target, answers, arrays.y_test, arrays.x_test):
        _require(head.metric, "test", values, truth, arrays.weights_test)
    for k in range(n_splits):
        rows = split_of(arrays, k)[1]
        weights = None if arrays.weights_train is None else arrays.weights_train[rows]
        answers = np.zeros((len(rows), arrays.n_outputs))
        x, y = arrays.x_train[rows], arrays.y_train[rows]
        head, values, truth = next(head_values(arrays.target, answers, y, x))
        _require(head.metric, "validation", values, truth, weights)


def _require(
    metric: Metric, part: str, values: Floats, truth: NDArray[Any], weights: NDArray[Any] | None
) -> None:
    try:
        metric.score(values, truth, weights)
    except DataError as error:
        raise DataError(f"the {len(truth)} {part} rows cannot be judged: {error}") from error


def judge_test(arrays: TaskArrays, found: Mapping[str, Judgement]) -> JudgedScore:
    """Return the score on the test rows, turned so that larger is better: that of their events where known.

    Args:
        arrays: the task.
        found: what `judge_outputs` says of the test rows.
    """
    head = arrays.target.score
    is_events = arrays.events is not None and "events" in found
    metric = arrays.events.metric if is_events and arrays.events else head.metric
    judged = found["events" if is_events else head.name]
    return JudgedScore(
        value=float(metric.merit(judged.score)), standard_error=judged.standard_error
    )


def combine_scores(
    predicted: float, predicted_std: float, validation: float, validation_std: float
) -> JudgedScore:
    """Combine a predicted and a validated score, each weighted by its inverse variance.

    A prediction without a deviation (of a mere ranker, or of labels that are all equal) says nothing.
    """
    if predicted_std == 0.0:
        return JudgedScore(value=validation, standard_error=validation_std)
    predicted_variance = max(predicted_std, 1e-4) ** 2
    validated_variance = max(validation_std, 1e-4) ** 2
    weight = validated_variance / (validated_variance + predicted_variance)
    return JudgedScore(
        value=weight * predicted + (1.0 - weight) * validation,
        standard_error=float(np.sqrt(weight * predicted_variance)),
    )


def training_noise(scores: Sequence[ValidatedScore]) -> float:
    """Estimate how much a design's score varies between trainings, from designs trained in several splits.

    The residual of a two-way layout (design + split), so that neither better designs nor easier splits
    count. Designs with a training that failed say nothing of the others and are left out: those that vary
    more than one in ten thousand would, by the median of all.  0 where there is one split, or one design.
    """
    table = np.array([score.splits for score in scores])
    n, k = table.shape
    if n < 2 or k < 2:
        return 0.0
    residual = table - table.mean(axis=1, keepdims=True)
    squares = ((residual - np.median(residual, axis=0)) ** 2).sum(axis=1)
    usual = np.median(squares) / chi2.median(k - 1)
    kept = table[squares <= usual * chi2.isf(1e-4, k - 1)]  # two at least: half of them is usual
    residual = kept - kept.mean(axis=1, keepdims=True) - kept.mean(axis=0) + kept.mean()
    return float(np.sqrt((residual**2).sum() / ((len(kept) - 1) * (k - 1))))


def trivial_answers(arrays: TaskArrays, *, n_splits: int) -> list[Baseline]:
    """Return what trivial answers reach: the best constant, and a linear model where there is one.

    Args:
        arrays: the task.
        n_splits: how many splits there are.
    """
    head = arrays.target.score
    answers: dict[str, list[Answer]] = {}
    for k in range(n_splits):
        train, _ = split_of(arrays, k)
        for name, answer in _trivial(arrays, train).items():
            answers.setdefault(name, []).append(answer)
    baselines = []
    for name, per_split in answers.items():
        values = [
            answer.values(arrays.x_train[split_of(arrays, k)[1]])
            for k, answer in enumerate(per_split)
        ]
        on_test = per_split[0].values(arrays.x_test)
        truth = arrays.target.truth(0, arrays.y_test, arrays.x_test)
        judged = {head.name: head.metric.judge(on_test, truth, arrays.weights_test)}
        if arrays.events is not None:
            judged["events"] = arrays.events.metric.judge(
                on_test, arrays.events.labels, arrays.weights_test
            )
        baselines.append(
            Baseline(
                name=name,
                description=per_split[0].description,
                validation=validate_values(arrays, values),
                test=judge_test(arrays, judged),
            )
        )
    return baselines


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A trivial answer: maps scaled inputs to values of the first head, in the units of the truth."""

    description: str
    values: Callable[[NDArray[np.float32]], NDArray[Any]]


def _trivial(arrays: TaskArrays, train: NDArray[np.int64]) -> dict[str, Answer]:
    """Fit trivial answers on training rows."""
    head = arrays.target.score
    x = arrays.x_train[train]
    truth = arrays.target.truth(0, arrays.y_train[train], x)
    weights = None if arrays.weights_train is None else arrays.weights_train[train]
    if head.kind == "reconstruction":
        mean = x.mean(axis=0)
        shape = mean.shape
        return {
            "constant": Answer(
                description="the mean input always",
                values=lambda x: np.broadcast_to(mean, (len(x), *shape)),
            )
        }
    if head.kind == "anomaly":  # nothing here may have learned from the stand-ins
        centre = x[arrays.target.is_trained_on(truth)].mean(axis=0)
        return {
            "constant": Answer(
                description="the same score always", values=lambda x: np.zeros((len(x), 1))
            ),
            "distance": Answer(
                description="the squared distance from the mean background event",
                values=lambda x: ((x - centre) ** 2).reshape(len(x), -1).sum(axis=1, keepdims=True),
            ),
        }
    rows = np.random.default_rng(0).permutation(len(x))[:_LINEAR_ROWS]
    flat = x[rows].reshape(len(rows), -1)
    if head.kind == "values":
        constants = {"mean": truth.mean(axis=0), "median": np.median(truth, axis=0)}
        metric = head.metric
        best = max(
            constants,
            key=lambda name: metric.merit(
                metric.score(np.tile(constants[name], (len(truth), 1)), truth, weights)
            ),
        )
        design = np.column_stack([flat, np.ones(len(flat))])
        slopes, *_ = np.linalg.lstsq(design, truth[rows], rcond=None)
        return {
            "constant": Answer(
                description=f"answering the {best} always",
                values=lambda x: np.tile(constants[best], (len(x), 1)),
            ),
            "linear": Answer(
                description="linear regression",
                values=lambda x: np.column_stack([x.reshape(len(x), -1), np.ones(len(x))]) @ slopes,
            ),
        }
    n_classes = max(len(head.names), int(truth.max()) + 1)
    shares = np.bincount(truth, weights, minlength=n_classes)
    is_logit = head.n_outputs == 1
    constant = (
        np.array([1.0 if shares[1] > shares[0] else -1.0]) if is_logit else shares / shares.sum()
    )
    model = _fit_logistic(flat, truth[rows], None if weights is None else weights[rows])

    def linear(x: NDArray[np.float32]) -> Floats:
        found = model(x.reshape(len(x), -1), n_classes)
        return np.log(found[:, 1:2] + 1e-9) - np.log(found[:, :1] + 1e-9) if is_logit else found

    return {
        "constant": Answer(
            description=f"answering {head.names[int(shares.argmax())]!r} always",
            values=lambda x: np.tile(constant, (len(x), 1)),
        ),
        "linear": Answer(description="logistic regression", values=linear),
    }


def _fit_logistic(
    x: NDArray[np.float32], y: NDArray[Any], weights: NDArray[np.float32] | None
) -> Callable[[NDArray[np.float32], int], Floats]:
    """Fit logistic regression; the result maps float32[n, n_features] to float[n, n_classes] probabilities."""
    from sklearn.linear_model import LogisticRegression

    classes = np.unique(y)
    model = (
        LogisticRegression(max_iter=300).fit(x, y, sample_weight=weights)
        if len(classes) > 1
        else None
    )

    def answer(x: NDArray[np.float32], n_classes: int) -> Floats:
        result = np.zeros((len(x), n_classes))
        result[:, classes] = 1.0 if model is None else model.predict_proba(x)
        return result

    return answer
