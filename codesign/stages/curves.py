"""What the report draws of a network's answers on the test rows, and the trigger's threshold as a word."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from codesign.ir import QuantizedNetwork
from codesign.metrics import Curve, response_curve, roc_curve, turn_on_curve
from codesign.metrics._threshold import ThresholdMetric
from codesign.metrics.base import Floats
from codesign.metrics.efficiency_at_rate import CROSSING_RATE_KHZ
from codesign.results import CurveFacts, TriggerFacts
from codesign.tasks import Events
from codesign.tasks.target import Head, Target
from codesign.training.judge import event_score, head_values
from codesign.training.options import TaskArrays

_N_BINS = 40


def curves_of(arrays: TaskArrays, outputs: Floats) -> list[CurveFacts]:
    """Return the curves of every head on the test rows.

    Args:
        arrays: the task.
        outputs: float64[n_test, n_outputs], values of the output words.
    """
    found: list[CurveFacts] = []
    weights = _weights(arrays)
    for head, values, truth in head_values(arrays.target, outputs, arrays.y_test, arrays.x_test):
        if head.kind == "classes":
            for index, name in enumerate(head.names):
                rest = np.delete(values, index, axis=1).max(axis=1)
                own = truth == index
                found += _roc(head.name, name, values[:, index] - rest, own, ~own, weights, 1.0)
        elif head.kind == "binary":
            rate = getattr(head.metric, "input_rate_khz", 1.0)
            score = values[:, 0]
            for index, name in enumerate(head.names[:2]):
                found.append(_histogram(head.name, name, score, truth == index, weights))
            found += _roc(head.name, head.names[1], score, truth > 0, truth == 0, weights, rate)
        elif head.kind == "values" and arrays.events is None:
            found += _of_values(head, values, truth)
    if arrays.events is not None:
        score = event_score(arrays, outputs)
        for index, name in enumerate(arrays.events.names):
            own = arrays.events.labels == index
            found.append(_histogram("events", name, score, own, weights))
            if index:
                background = arrays.events.labels == 0
                rate = arrays.events.rate_khz
                found += _roc("events", name, score, own, background, weights, rate)
    return found


def rate_metric(target: Target, events: Events | None) -> ThresholdMetric | None:
    """Return the metric at a rate that sets a threshold on a target's first output; None without one."""
    metric = target.score.metric if events is None else events.metric
    has_score = target.score.n_outputs == 1 and (events is not None or metric.truth == "classes")
    return metric if has_score and isinstance(metric, ThresholdMetric) else None


def trigger_of(
    network: QuantizedNetwork, arrays: TaskArrays, outputs: Floats
) -> TriggerFacts | None:
    """Return the threshold that a metric at a rate sets, as a word of the output; None without one.

    The score is the first output; a trigger fires where its word is at or above the threshold.
    """
    events = arrays.events
    metric = rate_metric(arrays.target, events)
    if metric is None:
        return None
    if events is None:  # one logit of two classes
        rate_khz = getattr(metric, "input_rate_khz", CROSSING_RATE_KHZ)
        labels = arrays.target.truth(0, arrays.y_test, arrays.x_test).astype(np.int64)
        events = Events(
            labels=labels, names=arrays.target.score.names, metric=metric, rate_khz=rate_khz
        )
    weights = _weights(arrays)
    first = outputs[:, :1]
    threshold = metric.threshold(first, events.labels, weights)
    word = int(np.ceil(np.ldexp(threshold, network.output_format.fraction_bits)))
    fires = np.ldexp(first[:, 0], network.output_format.fraction_bits) >= word
    background = events.labels == 0
    share = float(weights[background & fires].sum() / weights[background].sum())
    return TriggerFacts(
        threshold_word=word,
        fraction_bits=network.output_format.fraction_bits,
        rate_khz=share * events.rate_khz,
        input_rate_khz=events.rate_khz,
        efficiency={
            name: float(
                weights[fires & (events.labels == i)].sum() / weights[events.labels == i].sum()
            )
            for i, name in enumerate(events.names)
            if i
        },
    )


def _weights(arrays: TaskArrays) -> Floats:
    """Return the weights of the test rows, float64[n_test]."""
    if arrays.weights_test is None:
        return np.ones(len(arrays.x_test))
    return arrays.weights_test.astype(np.float64)


def _facts(head: str, kind: str, label: str, x: str, y: str, curve: Curve) -> CurveFacts:
    return CurveFacts(
        head=head,
        kind=kind,
        label=label,
        x_title=x,
        y_title=y,
        x=curve.x.tolist(),
        y=curve.y.tolist(),
        error=curve.error.tolist(),
    )


def _roc(
    head: str,
    label: str,
    score: Floats,
    is_signal: NDArray[np.bool_],
    is_background: NDArray[np.bool_],
    weights: Floats,
    rate_khz: float,
) -> list[CurveFacts]:
    if not is_signal.any() or not is_background.any():
        return []
    curve = roc_curve(score, is_signal, is_background, weights, input_rate_khz=rate_khz)
    axis = "share of the rest that passes" if rate_khz == 1.0 else "background rate (kHz)"
    return [_facts(head, "roc", label, axis, "efficiency", curve)]


def _histogram(
    head: str, label: str, score: Floats, own: NDArray[np.bool_], weights: Floats
) -> CurveFacts:
    low, high = np.quantile(score, [0.001, 0.999]).tolist()
    edges = np.linspace(low, high, _N_BINS + 1)
    total = weights[own].sum()
    share = np.histogram(score[own], edges, weights=weights[own])[0] / total
    error = np.sqrt(np.histogram(score[own], edges, weights=weights[own] ** 2)[0]) / total
    middle = 0.5 * (edges[:-1] + edges[1:])
    curve = Curve(x=middle, y=share, error=error)
    return _facts(head, "histogram", label, "score (output value)", "share of events", curve)


def _of_values(head: Head, values: Floats, truth: Floats) -> list[CurveFacts]:
    """Response, resolution and turn-on of the size of every value, in bins of the true size."""
    found = []
    for index, name in enumerate(head.names):
        size = np.abs(truth[:, index])
        along = values[:, index] * np.sign(truth[:, index])
        good = size > 0
        if not good.any():
            continue
        unit = f" ({head.units[index]})" if head.units else ""
        edges = np.quantile(size[good], np.linspace(0.0, 1.0, 16))
        edges = np.unique(edges)
        axis = f"true |{name}|{unit}"
        response, width = response_curve(along[good], size[good], edges)
        found.append(_facts(head.name, "response", name, axis, "median response", response))
        found.append(_facts(head.name, "resolution", name, axis, "relative resolution", width))
        passes = np.abs(values[:, index])
        if unit.startswith(" (1/"):  # a muon's curvature: triggers cut on its inverse
            passes, size = (1.0 / np.maximum(v, 1e-12) for v in (passes, size))
            unit, axis = f" ({unit[4:]}", f"true 1/|{name}| ({unit[4:]}"
            edges = np.unique(np.quantile(size[good], np.linspace(0.0, 1.0, 16)))
        threshold = float(np.median(size[good]))
        turn_on = turn_on_curve(passes, size, edges, threshold=threshold)
        label = f"answer at least {threshold:.3g} {unit.strip(' ()')}".rstrip()
        found.append(_facts(head.name, "turn_on", label, axis, "share that passes", turn_on))
    return found
