"""SMS-EMOA, from pymoo: survival by contribution to the hypervolume.

Source: Beume, Naujoks and Emmerich, EJOR 181(3), 2007.
"""

from typing import Final

from pymoo.algorithms.moo.sms import SMSEMOA

from codesign.search.problem import Problem
from codesign.search.strategies._pymoo import PymooStrategy, operators
from codesign.search.strategies.base import STRATEGIES, Strategy, StrategySettings, refuse_reward

POPULATION_SIZE: Final = 80


def make_smsemoa(problem: Problem, *, seed: int, settings: StrategySettings) -> Strategy:
    """Build SMS-EMOA; see `StrategyFactory`."""
    refuse_reward("smsemoa", settings)
    size = settings.population_size or POPULATION_SIZE
    algorithm = SMSEMOA(
        pop_size=size,
        n_offsprings=max(2, size // 2),
        eliminate_duplicates=False,
        **operators(problem, initial=settings.initial),
    )
    return PymooStrategy(problem, algorithm, seed)


STRATEGIES.add("smsemoa", make_smsemoa)
