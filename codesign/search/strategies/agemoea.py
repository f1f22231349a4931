"""AGE-MOEA: pymoo's genetic algorithm with survival by the front's own geometry.

pymoo's own AGE-MOEA compiles its survival with numba, which this project does without: here the
same survival is an array program that needs nothing beside NumPy.  `tests/search/test_agemoea.py`
holds it to pymoo's, individual by individual, where numba is installed.

Source: Panichella, An adaptive evolutionary algorithm based on non-Euclidean geometry for
many-objective optimization, GECCO 2019.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.base.genetic import GeneticAlgorithm
from pymoo.core.population import Population
from pymoo.core.problem import Problem as PymooProblem
from pymoo.core.survival import Survival
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

from codesign.errors import DesignError
from codesign.search.problem import Floats, Problem
from codesign.search.strategies._pymoo import PymooStrategy, operators
from codesign.search.strategies.base import STRATEGIES, Strategy, StrategySettings, refuse_reward

POPULATION_SIZE: Final = 100
#: Bounds of the fitted exponent: below, a norm is none; above, powers underflow.
_SMALLEST_EXPONENT: Final = 0.1
_LARGEST_EXPONENT: Final = 20.0
#: Distances below this count as this, so that nothing is divided by zero.
_SMALLEST_DISTANCE: Final = 1e-8


class GeometrySurvival(Survival):  # type: ignore[misc]  # pymoo is untyped
    """Keeps whole fronts; of the last one those far from each other and near the ideal point."""

    def __init__(self) -> None:
        super().__init__(filter_infeasible=True)

    def _do(
        self,
        problem: PymooProblem,
        pop: Population,
        *args: Any,
        n_survive: int,
        **kwargs: Any,
    ) -> Population:
        objectives: Floats = pop.get("F")
        fronts = NonDominatedSorting().do(objectives, n_stop_if_ranked=n_survive)
        rank = np.full(len(objectives), np.iinfo(int).max)
        for i_front, rows in enumerate(fronts):
            rank[rows] = i_front
        pop.set("rank", rank)
        score = np.zeros(len(objectives))
        first = objectives[fronts[0]]
        ideal = first.min(axis=0)
        score[fronts[0]], exponent, scale = survival_score(first, ideal)
        for rows in fronts[1:-1]:
            with np.errstate(divide="ignore", invalid="ignore"):
                distance = (np.abs(objectives[rows] / scale - ideal) ** exponent).sum(axis=1)
                score[rows] = 1.0 / distance ** (1.0 / exponent)
        pop.set("crowding", score)
        is_kept = rank < len(fronts) - 1
        last = np.flatnonzero(rank == len(fronts) - 1)
        by_score = np.argsort(score[last])[::-1]
        is_kept[last[by_score[: n_survive - int(is_kept.sum())]]] = True
        return pop[is_kept]


def survival_score(front: Floats, ideal: Floats) -> tuple[Floats, float, Floats]:
    """Score a front's members by proximity and diversity in the front's own norm.

    Args:
        front: float[n, m], nondominated.
        ideal: float[m], its best values.

    Returns:
        float[n] scores, larger better, infinite at the corners; the norm's exponent; float[m], what
        the objectives were divided by.
    """
    front = np.round(front, 12)
    n, m = front.shape
    if n < m:
        return np.zeros(n), 1.0, np.asarray(front.max(axis=0))
    shifted = front - ideal
    corners = _corners(shifted)
    scale = _intercepts(shifted, corners)
    scaled = shifted / scale
    exponent = _exponent(scaled, corners)
    # rounding may have put the best values a hair below the ideal point
    norm = (np.abs(scaled) ** exponent).sum(axis=1) ** (1.0 / exponent)
    norm[norm < _SMALLEST_DISTANCE] = 1.0
    score = np.zeros(n)
    score[corners] = np.inf
    is_chosen = np.zeros(n, dtype=bool)
    is_chosen[corners] = True

    def from_member(row: int) -> Floats:
        distance = (np.abs(scaled - scaled[row]) ** exponent).sum(axis=1) ** (1.0 / exponent)
        return np.asarray(np.maximum(distance, _SMALLEST_DISTANCE) / norm[row])

    # the two nearest chosen members of everybody, kept up to date as members are chosen
    nearest = np.sort(
        np.stack([from_member(row) for row in np.flatnonzero(is_chosen).tolist()]), axis=0
    )[:2]
    for _ in range(n - int(is_chosen.sum())):
        far = np.where(is_chosen, -np.inf, nearest.sum(axis=0))
        best = int(far.argmax())
        score[best] = far[best]
        is_chosen[best] = True
        nearest = np.sort(np.vstack([nearest, from_member(best)]), axis=0)[:2]
    return score, exponent, scale


def _to_line(points: Floats, direction: Floats) -> Floats:
    """Return float[n], squared distances of points from the line through 0 along `direction`."""
    along = points @ direction / (direction @ direction)
    return np.asarray(np.square(points - along[:, None] * direction).sum(axis=1))


def _corners(front: Floats) -> NDArray[np.int64]:
    """Return int64[m], the member nearest to each axis, all different."""
    n, m = front.shape
    if n <= m:
        return np.arange(n)
    corners = np.zeros(m, dtype=np.int64)
    for i in range(m):
        distance = _to_line(front, 1e-6 + np.eye(m)[i])
        distance[corners[:i]] = np.inf
        corners[i] = distance.argmin()
    return corners


def _intercepts(front: Floats, corners: NDArray[np.int64]) -> Floats:
    """Return float[m], where the plane through the corners cuts the axes, else the maxima."""
    largest = np.asarray(front.max(axis=0))
    scale = largest
    try:
        plane = np.linalg.solve(front[corners], np.ones(front.shape[1]))
        if np.isfinite(plane).all() and (plane > 0).all():
            scale = 1.0 / plane
            if not np.isfinite(scale).all():
                scale = largest
    except np.linalg.LinAlgError:
        pass  # corners on one plane through the origin: the maxima stand in, as in the paper
    return np.where(scale == 0.0, 1.0, scale)


def _exponent(front: Floats, corners: NDArray[np.int64]) -> float:
    """Return p of the norm whose unit sphere passes through the front's middle."""
    m = front.shape[1]
    distance = _to_line(front, np.ones(m))
    distance[corners] = np.inf
    middle = float(front[int(distance.argmin())].mean())
    if middle <= 0.0 or middle >= 1.0:
        # log(1 / middle) is infinite or not positive: no sphere passes there
        return 1.0 if middle != 1.0 else _LARGEST_EXPONENT
    exponent = float(np.log(m) / np.log(1.0 / middle))
    return 1.0 if exponent <= _SMALLEST_EXPONENT else min(exponent, _LARGEST_EXPONENT)


def make_agemoea(problem: Problem, *, seed: int, settings: StrategySettings) -> Strategy:
    """Build AGE-MOEA; see `StrategyFactory`.

    Raises:
        DesignError: fewer than two objectives.
    """
    refuse_reward("agemoea", settings)
    if len(problem.objective_names) < 2:
        raise DesignError("strategy 'agemoea' needs two objectives or more; use 'nsga2' for one")
    size = settings.population_size or POPULATION_SIZE
    algorithm = GeneticAlgorithm(
        pop_size=size,
        n_offsprings=max(2, size // 2),
        survival=GeometrySurvival(),
        eliminate_duplicates=False,
        advance_after_initial_infill=True,
        **operators(problem, initial=settings.initial),
    )
    return PymooStrategy(problem, algorithm, seed)


STRATEGIES.add("agemoea", make_agemoea)
