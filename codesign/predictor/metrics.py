"""How good a ranking is, and whether its uncertainty is true."""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from codesign.predictor.base import PredictedScores

Floats = NDArray[np.float64]


def kendall_tau(labels: Floats, predicted: Floats) -> float:
    """Return Kendall's tau-b; 0 when all predictions are equal."""
    if np.ptp(predicted) == 0 or np.ptp(labels) == 0:
        return 0.0
    from scipy.stats import kendalltau  # half a second to load

    return float(kendalltau(labels, predicted).statistic)


def spearman_rho(labels: Floats, predicted: Floats) -> float:
    """Return Spearman's rank correlation; 0 when all predictions are equal."""
    if np.ptp(predicted) == 0 or np.ptp(labels) == 0:
        return 0.0
    from scipy.stats import spearmanr

    return float(spearmanr(labels, predicted).statistic)


def top_regret(labels: Floats, predicted: Floats, *, n_top: int = 10) -> float:
    """Return the best label minus the best label among the `n_top` predicted best."""
    chosen = np.argsort(-predicted, kind="stable")[:n_top]
    return float(labels.max() - labels[chosen].max())


def coverage(labels: Floats, predicted: PredictedScores, level: float) -> float:
    """Return the share of labels inside the central interval of that level; NaN without a std."""
    if not np.isfinite(predicted.std).all():
        return math.nan
    low, high = predicted.interval(level)
    return float(((labels >= low) & (labels <= high)).mean())


def conformal_scale(labels: Floats, predicted: Floats, std: Floats, *, level: float = 0.9) -> float:
    """Return the factor on `std` with which central normal intervals hold `level` of the labels.

    The ceil((n + 1) level)-th smallest of |label - predicted| / std, over the normal quantile
    (split conformal prediction; Vovk, Gammerman and Shafer, 2005).

    Args:
        labels: float[n], honest: not seen by what predicted them.
        predicted, std: float[n], std above 0.
        level: share to hold.
    """
    ratio = np.sort(np.abs(labels - predicted) / std)
    rank = min(len(ratio), math.ceil((len(ratio) + 1) * level)) - 1
    return float(ratio[rank] / NormalDist().inv_cdf(0.5 + level / 2))


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Figures of one prediction on labels that were not trained on.

    Attributes:
        tau, spearman: rank correlations.
        top10_regret: in the labels' unit.
        coverage_90, coverage_50: shares of labels inside the nominal intervals; NaN without std.
        mean_width_90: mean width of the 90 % interval, in the labels' unit.
        error_rank: Spearman correlation of std with the absolute error: is doubt informative?
    """

    tau: float
    spearman: float
    top10_regret: float
    coverage_90: float
    coverage_50: float
    mean_width_90: float
    error_rank: float


def measure(labels: Floats, predicted: PredictedScores) -> Ranking:
    """Compare predictions with labels float[n]."""
    has_std = bool(np.isfinite(predicted.std).all())
    low, high = predicted.interval(0.9)
    error = np.abs(labels - predicted.mean)
    return Ranking(
        tau=kendall_tau(labels, predicted.mean),
        spearman=spearman_rho(labels, predicted.mean),
        top10_regret=top_regret(labels, predicted.mean),
        coverage_90=coverage(labels, predicted, 0.9),
        coverage_50=coverage(labels, predicted, 0.5),
        mean_width_90=float((high - low).mean()) if has_std else math.nan,
        error_rank=spearman_rho(error, predicted.std) if has_std else math.nan,
    )
