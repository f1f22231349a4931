"""How good a search was: hypervolume over evaluations, regret, attainment."""

import numpy as np
from moocore import eaf
from numpy.typing import NDArray

from codesign.errors import DesignError
from codesign.search.archive import Archive
from codesign.search.metrics import normalized_hypervolume, scale_to
from codesign.search.problem import Evaluation, Floats


def hypervolume_curve(
    archive_objectives: Floats,
    found_at: NDArray[np.int64],
    checkpoints: NDArray[np.int64],
    *,
    ideal: Floats,
    nadir: Floats,
) -> Floats:
    """Return the hypervolume after each number of evaluations in `checkpoints`.

    Args:
        archive_objectives: float[n, m], *every* feasible evaluation (not only the final front).
        found_at: int64[n], evaluations made before each.
        checkpoints: int64[k].
    """
    return np.array(
        [
            normalized_hypervolume(archive_objectives[found_at < n], ideal=ideal, nadir=nadir)
            for n in checkpoints
        ]
    )


def regret(archive: Archive, true_front: Floats) -> float:
    """Return the mean distance (IGD+) from the true front to what was found, in scaled objectives.

    0 exactly when every true point is found or dominated-or-equal; infinite for an empty archive.

    Source: Ishibuchi et al. (2015), IGD+.
    """
    if len(true_front) == 0:
        raise DesignError("the true front is empty; regret needs at least one feasible point")
    if len(archive) == 0:
        return float("inf")
    ideal, nadir = true_front.min(axis=0), true_front.max(axis=0)
    truth = scale_to(true_front, ideal, nadir)
    found = scale_to(archive.objectives, ideal, nadir)
    nearest = [np.linalg.norm(np.maximum(found - point, 0.0), axis=1).min() for point in truth]
    return float(np.mean(nearest))


def share_of_front_found(archive: Archive, true_front: Floats) -> float:
    """Return the share of the true front's points that the archive holds exactly, in 0..1."""
    truth = {row.tobytes() for row in np.ascontiguousarray(true_front)}
    found = {row.tobytes() for row in np.ascontiguousarray(archive.objectives)}
    return len(truth & found) / len(truth)


def attainment_surface(fronts: list[Floats], share_percent: float) -> Floats:
    """Return the points attained by at least that share of the runs (empirical attainment).

    Args:
        fronts: one float[n, m] per run, m = 2 or 3.
        share_percent: 50 gives the median front.

    Returns:
        float[k, m].

    Source: Grunert da Fonseca, Fonseca and Hall (2001); computed by moocore.
    """
    points = np.concatenate(fronts)
    sets = np.repeat(np.arange(len(fronts)) + 1, [len(front) for front in fronts])
    surface = eaf(points, sets, percentiles=[share_percent])
    return np.asarray(surface[:, :-1], dtype=np.float64)


def feasible_history(evaluation: Evaluation) -> tuple[Floats, NDArray[np.int64]]:
    """Return objectives and positions of the feasible evaluations, for `hypervolume_curve`."""
    rows = np.flatnonzero(evaluation.is_feasible)
    return evaluation.objectives[rows], rows.astype(np.int64)
