"""Multi-objective Bayesian optimisation: optuna's tree-structured Parzen estimator.

Slow per proposal (its models are rebuilt for each), so meant for budgets of a few thousand.

Source: Ozaki et al., Multiobjective tree-structured Parzen estimator, JAIR 73, 2022; constraints as
in Watanabe and Hutter, c-TPE, IJCAI 2023; implementation: optuna.
"""

from typing import Any, Final

import numpy as np

from codesign.search.problem import Evaluation, Genomes, Problem
from codesign.search.strategies._pymoo import finite_objectives
from codesign.search.strategies._variation import GenomeMemory, mutate_new
from codesign.search.strategies.base import STRATEGIES, Strategy, StrategySettings, refuse_reward
from codesign.tools import require_module

BATCH_SIZE: Final = 10
N_STARTUP: Final = 60


class OptunaTpe(Strategy):
    """Asks optuna for trials in small batches; proposals that are known are moved to a neighbour."""

    def __init__(
        self, problem: Problem, *, seed: int, batch_size: int, initial: Genomes | None
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._problem = problem
        self._generator = np.random.default_rng(seed)
        self._memory = GenomeMemory(problem.upper)
        self._batch_size = batch_size
        self._initial = initial
        self._create_trial = optuna.trial.create_trial
        self._distributions: dict[str, Any] = {
            f"gene_{i}": optuna.distributions.IntDistribution(0, int(upper))
            if is_ordered
            else optuna.distributions.CategoricalDistribution(list(range(int(upper) + 1)))
            for i, (upper, is_ordered) in enumerate(
                zip(problem.upper, problem.ordered, strict=True)
            )
        }
        self._study = optuna.create_study(
            directions=["minimize"] * len(problem.objective_names),
            sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=N_STARTUP),
        )

    def ask(self) -> Genomes:
        """See `Strategy.ask`."""
        if self._initial is not None:
            proposed, self._initial = self._initial, None
        else:
            trials = [self._study.ask(self._distributions) for _ in range(self._batch_size)]
            proposed = np.array(
                [[trial.params[name] for name in self._distributions] for trial in trials],
                dtype=np.int64,
            )
            for trial in trials:
                # the trial is told anew with the genome that is really evaluated
                self._study.tell(trial, state=self._pruned())
        canonical = self._problem.canonicalize(proposed)
        is_new = self._memory.is_new(canonical)
        kept = canonical[is_new]
        self._memory.add(kept)
        if not is_new.all():
            moved, _ = mutate_new(self._problem, self._memory, proposed[~is_new], self._generator)
            moved = self._problem.canonicalize(moved)
            self._memory.add(moved)
            kept = np.concatenate([kept, moved])
        return kept

    @staticmethod
    def _pruned() -> Any:
        from optuna.trial import TrialState

        return TrialState.FAIL

    def tell(self, genomes: Genomes, evaluation: Evaluation) -> None:
        """See `Strategy.tell`."""
        objectives = finite_objectives(evaluation)
        for genome, values, violation in zip(
            genomes.tolist(), objectives.tolist(), evaluation.total_violation.tolist(), strict=True
        ):
            trial = self._create_trial(
                params=dict(zip(self._distributions, genome, strict=True)),
                distributions=self._distributions,
                values=values,
            )
            trial.set_constraint("total_violation", violation)
            self._study.add_trial(trial)


def make_optuna_tpe(problem: Problem, *, seed: int, settings: StrategySettings) -> Strategy:
    """Build optuna's TPE; see `StrategyFactory`.

    Raises:
        ToolError: optuna is not installed.
    """
    refuse_reward("optuna_tpe", settings)
    require_module("optuna")
    batch_size = settings.population_size or BATCH_SIZE
    return OptunaTpe(problem, seed=seed, batch_size=batch_size, initial=settings.initial)


STRATEGIES.add("optuna_tpe", make_optuna_tpe)
