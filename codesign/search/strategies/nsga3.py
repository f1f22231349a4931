"""NSGA-III, from pymoo: reference directions instead of crowding.

Source: Deb and Jain, An evolutionary many-objective optimization algorithm, IEEE TEC 18(4), 2014.
"""

from typing import Final

from pymoo.algorithms.moo.nsga3 import NSGA3

from codesign.search.problem import Problem
from codesign.search.strategies._pymoo import PymooStrategy, operators, reference_directions
from codesign.search.strategies.base import STRATEGIES, Strategy, StrategySettings, refuse_reward

POPULATION_SIZE: Final = 120


def make_nsga3(problem: Problem, *, seed: int, settings: StrategySettings) -> Strategy:
    """Build NSGA-III; see `StrategyFactory`."""
    refuse_reward("nsga3", settings)
    size = settings.population_size or POPULATION_SIZE
    algorithm = NSGA3(
        ref_dirs=reference_directions(len(problem.objective_names), size),
        pop_size=size,
        n_offsprings=max(2, size // 2),
        eliminate_duplicates=False,
        **operators(problem, initial=settings.initial),
    )
    return PymooStrategy(problem, algorithm, seed)


STRATEGIES.add("nsga3", make_nsga3)
