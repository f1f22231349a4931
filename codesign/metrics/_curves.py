"""Curves behind metrics, with errors, as arrays for a report to draw."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DataError
from codesign.metrics._classes import tails
from codesign.metrics._values import weighted_quantiles
from codesign.metrics.base import Floats


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Points of a curve.

    Attributes:
        x, y: float64 [n].
        error: float64 [n], one standard deviation of y.
    """

    x: Floats
    y: Floats
    error: Floats


def roc_curve(
    score: Floats,
    is_signal: NDArray[np.bool_],
    is_background: NDArray[np.bool_],
    weights: Floats,
    *,
    input_rate_khz: float = 1.0,
    n_points: int = 200,
) -> Curve:
    """Return signal efficiency against background rate, rates evenly spaced on a logarithmic axis.

    Args:
        score: float64 [n].
        is_signal, is_background: bool [n].
        weights: float64 [n].
        input_rate_khz: what the background stands for; 1 gives false-positive rates.
        n_points: most points given.
    """
    used = is_signal | is_background
    _, signal = tails(score[used], (weights * is_signal)[used][None])
    _, background = tails(score[used], (weights * is_background)[used][None])
    efficiency, share = signal[0], background[0]
    n_signal = weights[is_signal].sum() ** 2 / (weights[is_signal] ** 2).sum()
    wanted = np.geomspace(max(share[share > 0].min(), 1e-9), 1.0, n_points)
    place = np.maximum(np.searchsorted(share, wanted * (1 + 1e-12), side="right") - 1, 0)
    place = np.unique(place[share[place] > 0])
    y = efficiency[place]
    return Curve(
        x=share[place] * input_rate_khz, y=y, error=np.sqrt(np.maximum(y * (1 - y), 0) / n_signal)
    )


def response_curve(outputs: Floats, truth: Floats, edges: Floats) -> tuple[Curve, Curve]:
    """Return the median response (output / truth) and its resolution in bins of the truth.

    The resolution is half the central 68.27 % over the median.  Errors: of the median 1.2533 s /
    sqrt(n), of the spread s / sqrt(2 n), those of a normal distribution.  Bins with fewer than 10 rows
    are left out.

    Args:
        outputs, truth: float64 [n], truth above 0.
        edges: float64 [n_bins + 1], rising.
    """
    if not (truth > 0).all():
        raise DataError(
            "a response is relative: expected true values above 0 only; drop the others"
        )
    x, median, spread, n_rows = [], [], [], []
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        inside = (truth >= low) & (truth < high)
        if inside.sum() < 10:
            continue
        response = outputs[inside] / truth[inside]
        levels = np.array([0.158655254, 0.5, 0.841344746])
        below, middle, above = weighted_quantiles(response, np.ones((1, inside.sum())), levels)[0]
        x.append(float(np.median(truth[inside])))
        median.append(middle)
        spread.append(0.5 * (above - below))
        n_rows.append(inside.sum())
    place, centre, width, n = (np.array(v, dtype=np.float64) for v in (x, median, spread, n_rows))
    return (
        Curve(x=place, y=centre, error=1.2533 * width / np.sqrt(n)),
        Curve(x=place, y=width / np.abs(centre), error=width / np.abs(centre) / np.sqrt(2 * n)),
    )


def turn_on_curve(outputs: Floats, truth: Floats, edges: Floats, *, threshold: float) -> Curve:
    """Return the share of rows with an output at or above `threshold`, in bins of the truth.

    Args:
        outputs, truth: float64 [n].
        edges: float64 [n_bins + 1], rising; empty bins are left out.
        threshold: in the unit of both.
    """
    place = np.searchsorted(edges, truth, side="right") - 1
    inside = (place >= 0) & (place < len(edges) - 1)
    n = np.bincount(place[inside], minlength=len(edges) - 1)
    passing = np.bincount(place[inside], outputs[inside] >= threshold, minlength=len(edges) - 1)
    kept = n > 0
    share = passing[kept] / n[kept]
    # Agresti and Coull (1998): an error that does not vanish at 0 and 1
    middle = (passing[kept] + 2) / (n[kept] + 4)
    centre = 0.5 * (edges[:-1] + edges[1:])
    return Curve(x=centre[kept], y=share, error=np.sqrt(middle * (1 - middle) / (n[kept] + 4)))
