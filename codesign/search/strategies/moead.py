"""MOEA/D, from pymoo, taught constraints and scales.

pymoo's MOEA/D refuses constrained problems and compares raw objectives.  Two things are changed
here, and only these: replacement compares violations first and decomposed values only between
feasible individuals (Deb's parameter-less rule, the way pymoo's authors sketched it), and
objectives are scaled by the box of the population's feasible members before they are decomposed.

Source: Zhang and Li, MOEA/D, IEEE TEC 11(6), 2007; Deb, CMAME 186, 2000 (constraint rule).
"""

from typing import Any, Final

import numpy as np
from pymoo.algorithms.moo.moead import ParallelMOEAD
from pymoo.core.population import Population
from pymoo.core.problem import Problem as PymooProblem
from pymoo.decomposition.tchebicheff import Tchebicheff
from scipy.spatial.distance import cdist

from codesign.errors import DesignError
from codesign.search.problem import Problem, space_size
from codesign.search.strategies._pymoo import PymooStrategy, operators, reference_directions
from codesign.search.strategies.base import STRATEGIES, Strategy, StrategySettings, refuse_reward

POPULATION_SIZE: Final = 105
N_NEIGHBORS: Final = 15


class ConstrainedMoead(ParallelMOEAD):  # type: ignore[misc]  # pymoo is untyped
    """MOEA/D whose replacement puts feasible individuals before infeasible ones."""

    def _setup(self, problem: PymooProblem, **kwargs: Any) -> None:
        # not super()._setup: it asserts that there are no constraints
        distances = cdist(self.ref_dirs, self.ref_dirs)
        self.neighbors = np.argsort(distances, axis=1, kind="stable")[:, : self.n_neighbors]

    def _initialize_advance(self, infills: Population | None = None, **kwargs: Any) -> None:
        self._rescale()

    def _advance(self, infills: Population | None = None, **kwargs: Any) -> None:
        if infills is None or len(infills) != len(self.indices):
            raise DesignError("MOEA/D was told of another number of children than it asked for")
        for place, child in zip(self.indices, infills, strict=True):
            self._replace(place, child)
        self._rescale()

    def _rescale(self) -> None:
        objectives = self.pop.get("F")
        feasible = self.pop.get("CV")[:, 0] <= 0
        chosen = objectives[feasible] if feasible.any() else objectives
        self.ideal = chosen.min(axis=0)
        nadir = chosen.max(axis=0)
        self._span = np.where(nadir > self.ideal, nadir - self.ideal, 1.0)

    def _replace(self, k: int, off: Any) -> None:
        rows = self.neighbors[k]
        members = self.pop[rows]
        zero = np.zeros(len(self.ideal))
        weights = np.maximum(self.ref_dirs[rows], 1e-3)
        scaled = (members.get("F") - self.ideal) / self._span
        child = (off.F[None, :] - self.ideal) / self._span
        value = self.decomposition.do(scaled, weights=weights, ideal_point=zero)
        child_value = self.decomposition.do(child, weights=weights, ideal_point=zero)
        violation, child_violation = members.get("CV")[:, 0], off.CV[0]
        both_feasible = (violation <= 0) & (child_violation <= 0)
        is_better = np.where(both_feasible, child_value < value, child_violation < violation)
        self.pop[rows[is_better]] = off


def make_moead(problem: Problem, *, seed: int, settings: StrategySettings) -> Strategy:
    """Build MOEA/D; see `StrategyFactory`.

    Raises:
        DesignError: the space is smaller than the population, or has one objective only.
    """
    refuse_reward("moead", settings)
    directions = reference_directions(
        len(problem.objective_names), settings.population_size or POPULATION_SIZE
    )
    if space_size(problem) < 4 * len(directions):
        raise DesignError(
            f"the space has {space_size(problem)} genomes; 'moead' needs at least "
            f"{4 * len(directions)}, four per direction; use 'exhaustive'"
        )
    algorithm = ConstrainedMoead(
        ref_dirs=directions,
        n_neighbors=min(N_NEIGHBORS, len(directions)),
        decomposition=Tchebicheff(),
        **operators(problem, initial=settings.initial),
    )
    return PymooStrategy(problem, algorithm, seed)


STRATEGIES.add("moead", make_moead)
