"""AGE-MOEA, from pymoo: survival by the front's own geometry.  Needs numba, as pymoo's does.

Source: Panichella, An adaptive evolutionary algorithm based on non-Euclidean geometry for
many-objective optimization, GECCO 2019.
"""

import importlib.util
from typing import Final

from codesign.errors import ToolError
from codesign.search.problem import Problem
from codesign.search.strategies._pymoo import PymooStrategy, operators
from codesign.search.strategies.base import STRATEGIES, Strategy, StrategySettings, refuse_reward

POPULATION_SIZE: Final = 100


def make_agemoea(problem: Problem, *, seed: int, settings: StrategySettings) -> Strategy:
    """Build AGE-MOEA; see `StrategyFactory`.

    Raises:
        ToolError: numba is not installed.
    """
    refuse_reward("agemoea", settings)
    if importlib.util.find_spec("numba") is None:
        raise ToolError(
            "strategy 'agemoea' needs the Python package numba; install the extra with "
            "`pip install 'codesign[agemoea]'`, or use 'nsga2'"
        )
    from pymoo.algorithms.moo.age import AGEMOEA

    size = settings.population_size or POPULATION_SIZE
    algorithm = AGEMOEA(
        pop_size=size,
        n_offsprings=max(2, size // 2),
        **operators(problem, initial=settings.initial),
        eliminate_duplicates=False,
    )
    return PymooStrategy(problem, algorithm, seed)


STRATEGIES.add("agemoea", make_agemoea)
