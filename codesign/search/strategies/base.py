"""The interface of every search strategy, and their registry.

A strategy proposes genomes (`ask`) and hears what they are worth (`tell`); it never evaluates.
It is a deterministic function of the problem's domain, its seed and what it was told.  Resuming
therefore needs no saved state: the loop replays the stored evaluations and checks that the strategy
asks for the very genomes on record.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Final, Protocol

from codesign.errors import DesignError
from codesign.registry import Registry
from codesign.search.problem import Evaluation, Genomes, Problem, check_genomes
from codesign.search.rewards import Reward


@dataclass(frozen=True, kw_only=True)
class StrategySettings:
    """What a user may set on any strategy.

    Attributes:
        population_size: how many candidates it keeps or proposes at a time; None: its own default.
        reward: the scalar that a single-objective strategy maximises; None: augmented Tchebycheff
            in many directions, which spreads it over the whole front.  Pareto strategies refuse one.
        initial: int64[n, n_var] genomes proposed first (a former front, designs known to be good).
    """

    population_size: int | None = None
    reward: Reward | None = None
    initial: Genomes | None = None

    def __post_init__(self) -> None:
        if self.population_size is not None and self.population_size < 4:
            raise DesignError(
                f"population_size: expected an integer of at least 4, got {self.population_size}"
            )


class Strategy(ABC):
    """Proposes genomes and learns from their evaluations."""

    @abstractmethod
    def ask(self) -> Genomes:
        """Return the next canonical genomes int64[n, n_var]; n = 0 when there is nothing left.

        Genomes that were asked for before are not asked for again while others remain to be found.
        Every `ask` is followed by one `tell` with exactly these genomes.
        """

    @abstractmethod
    def tell(self, genomes: Genomes, evaluation: Evaluation) -> None:
        """Learn what the genomes of the last `ask` are worth."""


class StrategyFactory(Protocol):
    """What each strategy's file registers."""

    def __call__(self, problem: Problem, *, seed: int, settings: StrategySettings) -> Strategy:
        """Build the strategy for one problem; nothing is asked or evaluated yet.

        Raises:
            DesignError: the settings or the problem do not fit this strategy.
        """
        ...


STRATEGIES: Final[Registry[StrategyFactory]] = Registry(
    kind="search strategy", package="codesign.search.strategies"
)


def make_strategy(
    name: str, problem: Problem, *, seed: int, settings: StrategySettings | None = None
) -> Strategy:
    """Build the registered strategy `name`.

    Raises:
        DesignError: no such strategy, or it does not fit the problem or the settings.
    """
    chosen = settings or StrategySettings()
    if chosen.initial is not None:
        check_genomes(problem, chosen.initial)
    return STRATEGIES.get(name)(problem, seed=seed, settings=chosen)


def refuse_reward(name: str, settings: StrategySettings) -> None:
    """Say that strategy `name` searches the whole front and has no use for a scalar reward.

    Raises:
        DesignError: a reward was set.
    """
    if settings.reward is not None:
        raise DesignError(
            f"strategy {name!r} searches for the whole Pareto front and takes no reward; drop the "
            "reward, or use a scalar strategy such as 'regularized_evolution'"
        )
