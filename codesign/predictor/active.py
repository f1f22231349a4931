"""Choose the candidates whose labels would improve the Pareto front most."""

import numpy as np
from numpy.typing import NDArray

from codesign.errors import PredictorError

Floats = NDArray[np.float64]


def expected_improvement(mean: Floats, std: Floats, floor: Floats) -> Floats:
    """Return E[max(0, score - floor)] of normal predictions (Jones et al., 1998, eq. 15)."""
    from scipy.stats import norm

    safe = np.where(std > 0, std, 1.0)
    z = (mean - floor) / safe
    smooth = (mean - floor) * norm.cdf(z) + safe * norm.pdf(z)
    return np.asarray(np.where(std > 0, smooth, np.maximum(mean - floor, 0.0)))


def select_informative(
    mean: Floats, std: Floats, costs: Floats, front: Floats, n: int
) -> NDArray[np.int64]:
    """Choose `n` candidates to label, by expected Pareto improvement.

    A candidate's improvement is by how much its score is expected to exceed the best known one
    at no more cost: E[max(0, score - floor(costs))], with floor the greatest score on `front`
    among points whose costs are all at most the candidate's.  Picks are made one by one; each pick
    joins the front with its predicted mean, which spreads the picks over the costs (the "kriging
    believer" of Ginsbourger et al., 2010).

    Args:
        mean, std: float[m], predicted score (higher is better).
        costs: float[m, k], minimised (LUTs, latency).
        front: float[p, 1 + k], labelled points as (score, costs); p may be 0.
        n: how many to choose.

    Returns:
        int64[min(n, m)], the most informative first.

    Raises:
        PredictorError: shapes that do not fit, or a value that is not finite.
    """
    mean, std, costs = (np.asarray(x, np.float64) for x in (mean, std, costs))
    front = np.asarray(front, np.float64).reshape(
        -1, 1 + (costs.shape[1] if costs.ndim == 2 else 0)
    )
    if costs.ndim != 2 or not len(mean) == len(std) == len(costs):
        raise PredictorError(
            f"mean {mean.shape}, std {std.shape} and costs {costs.shape} do not fit; expected (m,), "
            "(m,) and (m, k)"
        )
    if n < 1:
        raise PredictorError(f"cannot choose {n} candidates; ask for at least 1")
    if not all(np.isfinite(x).all() for x in (mean, std, costs, front)):
        raise PredictorError("a prediction, cost or front point is not finite; leave it out first")
    # With nothing known, any score above the worst predicted one is an improvement.
    floor = np.full(len(mean), min(mean.min(), front[:, 0].min(initial=np.inf)) - std.max())
    for score, *point in front:
        floor = np.where((costs >= point).all(axis=1), np.maximum(floor, score), floor)
    open_ = np.ones(len(mean), bool)
    chosen: list[int] = []
    for _ in range(min(n, len(mean))):
        gain = np.where(open_, expected_improvement(mean, std, floor), -np.inf)
        pick = int(gain.argmax())
        chosen.append(pick)
        open_[pick] = False
        covered = (costs >= costs[pick]).all(axis=1)
        floor = np.where(covered, np.maximum(floor, mean[pick]), floor)
    return np.array(chosen, np.int64)
