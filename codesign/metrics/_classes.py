"""What metrics of classes share: probabilities, one-against-rest scores, tails of weighted scores."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp

from codesign.errors import DataError
from codesign.metrics.base import Floats


def log_probabilities(outputs: Floats) -> Floats:
    """Return float64 [n, n_classes]; one output is the logit of class 1 of two."""
    if outputs.shape[1] == 1:
        outputs = np.concatenate([np.zeros_like(outputs), outputs], axis=1)
    return np.asarray(log_softmax(outputs, axis=1))


def class_scores(outputs: Floats, signal: int) -> Floats:
    """Return the log odds of class `signal` against all others, float64 [n].

    One output is the score of every class but 0 (the background) against it.
    """
    if outputs.shape[1] == 1:
        return outputs[:, 0]
    if signal >= outputs.shape[1]:
        raise DataError(f"class {signal} has no output: there are {outputs.shape[1]}")
    rest = np.delete(outputs, signal, axis=1)
    return np.asarray(outputs[:, signal] - logsumexp(rest, axis=1))


def signals_and_backgrounds(
    outputs: Floats, truth: NDArray[Any], signal: int | None, *, metric: str
) -> list[tuple[Floats, NDArray[np.bool_], NDArray[np.bool_]]]:
    """Return score, which rows are signal and which background, for each comparison a metric averages.

    With one output, or a `signal` class given, background is class 0 and other signals do not count;
    otherwise each class is compared with all others.

    Args:
        outputs: float64 [n, n_outputs].
        truth: int64 [n].
        signal: a class, or None for all classes but 0 together (one output) or for each (several).
        metric: the metric's name, for the message.

    Raises:
        DataError: a class has no rows.
    """
    background = truth == 0
    if signal is not None:
        chosen = [(class_scores(outputs, signal), truth == signal, background)]
    elif outputs.shape[1] == 1:
        chosen = [(outputs[:, 0], ~background, background)]
    else:
        present = range(outputs.shape[1])
        chosen = [(class_scores(outputs, c), truth == c, truth != c) for c in present]
    for index, (_, is_signal, is_background) in enumerate(chosen):
        if not is_signal.any() or not is_background.any():
            which = signal if signal is not None else index if len(chosen) > 1 else "1 or above"
            kind = "signal" if not is_signal.any() else "background"
            raise DataError(
                f"metric {metric}: no {kind} row to judge class {which} with; give rows of it, or another signal"
            )
    return chosen


def tails(score: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Return the distinct scores, falling, and the share of weight at or above each.

    Args:
        score: float64 [n].
        weights: float64 [n_weightings, n].

    Returns:
        float64 [n_distinct], float64 [n_weightings, n_distinct].
    """
    order = np.argsort(-score, kind="stable")
    falling = score[order]
    last = np.flatnonzero(np.append(falling[1:] != falling[:-1], True))
    total = np.cumsum(weights[:, order], axis=1)[:, last]
    return falling[last], total / np.maximum(total[:, -1:], 1e-300)


def efficiency_at_share(
    score: Floats,
    is_signal: NDArray[np.bool_],
    is_background: NDArray[np.bool_],
    weights: Floats,
    share: float,
) -> tuple[Floats, Floats]:
    """Return the share of signal that passes where at most `share` of the background does.

    A row passes when its score is at or above the threshold: the least score at which the background
    stays below `share`.

    Returns:
        Efficiency and threshold, float64 [n_weightings] each; where even the greatest score of the
        background is too frequent, the threshold lies above it.
    """
    used = is_signal | is_background
    scores, signal = tails(score[used], weights[:, used] * is_signal[used])
    _, background = tails(score[used], weights[:, used] * is_background[used])
    n_pass = (background <= share * (1 + 1e-12)).sum(axis=1)
    place = np.maximum(n_pass - 1, 0)
    rows = np.arange(len(weights))
    efficiency = np.where(n_pass > 0, signal[rows, place], 0.0)
    threshold = np.where(n_pass > 0, scores[place], np.nextafter(scores[0], np.inf))
    return efficiency, threshold


def effective_events(weights: Floats) -> float:
    """Return how many equal events carry as much information: (sum w)^2 / sum w^2."""
    return float(weights.sum() ** 2 / max(float((weights**2).sum()), 1e-300))
