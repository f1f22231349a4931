"""NSGA-II, from pymoo, with integer operators and hard constraints.

Source: Deb et al., A fast and elitist multiobjective genetic algorithm, IEEE TEC 6(2), 2002.
"""

from typing import Final

from pymoo.algorithms.moo.nsga2 import NSGA2

from codesign.search.problem import Problem
from codesign.search.strategies._pymoo import Growth, PymooStrategy, operators
from codesign.search.strategies.base import STRATEGIES, Strategy, StrategySettings, refuse_reward

#: Tuned on synthetic spaces, see docs/search.md.
GROWTH: Final = Growth(population=(40, 400), children=(20, 400), share=0.05)


def make_nsga2(problem: Problem, *, seed: int, settings: StrategySettings) -> Strategy:
    """Build NSGA-II; see `StrategyFactory`.

    Unless a population size is set it grows from 40 to 400 as evaluations come in, and the children
    per generation from 20 to 400.
    """
    refuse_reward("nsga2", settings)
    growth = GROWTH
    if settings.population_size is not None:
        size = settings.population_size
        growth = Growth(population=(size, size), children=(size // 2, size // 2), share=0.0)
    algorithm = NSGA2(
        pop_size=growth.population[0],
        n_offsprings=growth.children[0],
        eliminate_duplicates=False,
        **operators(problem, initial=settings.initial),
    )
    return PymooStrategy(problem, algorithm, seed, growth=growth)


STRATEGIES.add("nsga2", make_nsga2)
