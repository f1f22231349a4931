"""NSGA-II, from pymoo, with integer operators and hard constraints.

Source: Deb et al., A fast and elitist multiobjective genetic algorithm, IEEE TEC 6(2), 2002.
"""

from typing import Final

from pymoo.algorithms.moo.nsga2 import NSGA2

from codesign.search.problem import Problem
from codesign.search.strategies._pymoo import Growth, PymooStrategy, operators
from codesign.search.strategies.base import STRATEGIES, Strategy, StrategySettings, refuse_reward

FIRST_POPULATION_SIZE: Final = 40
POPULATION_SIZE: Final = 200
#: Population per evaluation while it grows; tuned on synthetic spaces, see docs/search.md.
GROWTH_SHARE: Final = 0.06


def make_nsga2(problem: Problem, *, seed: int, settings: StrategySettings) -> Strategy:
    """Build NSGA-II; see `StrategyFactory`.

    Unless a population size is set it grows from 40 to 200 as evaluations come in.
    """
    refuse_reward("nsga2", settings)
    growth = Growth(first=FIRST_POPULATION_SIZE, last=POPULATION_SIZE, share=GROWTH_SHARE)
    if settings.population_size is not None:
        growth = Growth(first=settings.population_size, last=settings.population_size, share=0.0)
    algorithm = NSGA2(
        pop_size=growth.first,
        n_offsprings=max(2, growth.first // 2),
        eliminate_duplicates=False,
        **operators(problem, initial=settings.initial),
    )
    return PymooStrategy(problem, algorithm, seed, growth=growth)


STRATEGIES.add("nsga2", make_nsga2)
