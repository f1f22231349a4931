"""What integer networks are worth: the metric of each head, on rows of a task."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from codesign.ir import QuantizedNetwork
from codesign.layers import run_words
from codesign.metrics import Judgement
from codesign.tasks.target import Head, Target
from codesign.training.options import TaskArrays

#: Rows that integer networks are evaluated on at a time: few enough to stay in the cache.
_EVALUATION_ROWS = 4096

Part = Literal["train", "test"]


def output_values(network: QuantizedNetwork, x: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the values of the output words, float64[n, n_outputs].

    Args:
        network: the network.
        x: float32[n, *task shape], scaled.
    """
    parts = []
    for start in range(0, len(x), _EVALUATION_ROWS):
        words = np.asarray(
            run_words(network, network.input_words(x[start : start + _EVALUATION_ROWS]))
        )
        parts.append(network.output_format.values_from_words(words))
    return np.concatenate(parts)


def judge_outputs(
    outputs: NDArray[np.float64],
    task: TaskArrays,
    *,
    part: Part = "test",
    rows: NDArray[np.int64] | None = None,
) -> dict[str, Judgement]:
    """Judge outputs of rows of a task, head by head, in the units of the truth.

    Args:
        outputs: float64[n, n_outputs].
        task: the task.
        part: which rows: of the training or of the test set.
        rows: int64[n] which of them; None: all.

    Returns:
        By head; and as "events", for the first head on the test set, what the task's events are judged
        by, where it knows what they are.
    """
    x, y = (task.x_train, task.y_train) if part == "train" else (task.x_test, task.y_test)
    weights = task.weights_train if part == "train" else task.weights_test
    if rows is not None:
        x, y = x[rows], y[rows]
        weights = None if weights is None else weights[rows]
    found = {
        head.name: head.metric.judge(values, truth, weights)
        for head, values, truth in head_values(task.target, outputs, y, x)
    }
    if part == "test" and task.events is not None:
        found["events"] = task.events.metric.judge(
            event_score(task, outputs), task.events.labels, weights
        )
    return found


def event_score(task: TaskArrays, outputs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what tells events from the background on the test rows, float64[n].

    The first output; of a reconstruction, its mean squared error, which is then computed outside the network.
    """
    if task.target.heads[0].kind == "reconstruction":
        own = outputs[:, task.target.output_slices[0]]
        truth = task.x_test.reshape(len(own), -1)
        return np.asarray(((own - truth) ** 2).mean(axis=1))
    return np.asarray(outputs[:, 0])


def merit_of(
    network: QuantizedNetwork,
    task: TaskArrays,
    x: NDArray[np.float32],
    y: NDArray[Any],
    *,
    weights: NDArray[np.float32] | None,
    is_test: bool = False,
) -> float:
    """Return the score of a network, turned so that larger is better (`Metric.merit`).

    Args:
        network: the network.
        task: whose target and metrics count.
        x, y, weights: rows of it.
        is_test: the rows are the whole test set, whose events may be known.
    """
    outputs = output_values(network, x)
    if is_test and task.events is not None:
        events, score = task.events, event_score(task, outputs)
        return float(events.metric.merit(events.metric.score(score, events.labels, weights)))
    head, values, truth = next(head_values(task.target, outputs, y, x))
    return float(head.metric.merit(head.metric.score(values, truth, weights)))


def head_values(
    target: Target, outputs: NDArray[np.float64], y: NDArray[Any], x: NDArray[np.float32]
) -> Iterator[tuple[Head, NDArray[np.float64], NDArray[Any]]]:
    """Yield head, its values [n, n_outputs] and its truth, for every head."""
    spare = outputs.shape[1] - target.n_outputs  # unused outputs of a single head of classes
    for index, (head, place) in enumerate(zip(target.heads, target.output_slices, strict=True)):
        own = outputs if spare else outputs[:, place]
        yield head, head.values(own), target.truth(index, y, x)
