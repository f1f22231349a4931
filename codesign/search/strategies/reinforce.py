"""REINFORCE: a softmax policy per search direction, trained by its own samples.

The controller of the first NAS papers, without the recurrent network: one categorical distribution
per gene.  A scalar policy collapses to one design, so a bank of them learns, each in a fixed
direction of the objectives (all alike, but differently seeded, when a reward is set).

Source: Williams, Machine Learning 8, 1992; Zoph and Le, ICLR 2017; factorised policy as in
Bender et al., TuNAS, CVPR 2020.
"""

from typing import Final

import numpy as np

from codesign.search.problem import Evaluation, Floats, Genomes, Problem
from codesign.search.strategies._scalar import Scalarizer
from codesign.search.strategies._variation import GenomeMemory, mutate_new
from codesign.search.strategies.base import STRATEGIES, Strategy, StrategySettings

N_POLICIES: Final = 20
SAMPLES_PER_POLICY: Final = 5
LEARNING_RATE: Final = 0.6
BASELINE_DECAY: Final = 0.8
#: Share of uniform choices mixed into every policy, so that none stops exploring.
EXPLORATION: Final = 0.05


class Reinforce(Strategy):
    """A bank of factorised categorical policies."""

    def __init__(
        self, problem: Problem, *, seed: int, n_policies: int, settings: StrategySettings
    ) -> None:
        self._problem = problem
        self._generator = np.random.default_rng(seed)
        self._memory = GenomeMemory(problem.upper)
        self._scalarizer = Scalarizer(problem, settings.reward)
        self._initial = settings.initial
        self._weights = self._scalarizer.directions(n_policies, self._generator)
        n_values = int(problem.upper.max(initial=0)) + 1
        self._exists = np.arange(n_values)[None, :] <= problem.upper[:, None]
        self._logits = np.zeros((n_policies, len(problem.upper), n_values))
        self._baseline = np.full(n_policies, np.nan)
        self._asked = np.zeros((0, len(problem.upper)), dtype=np.int64)
        self._policy_of = np.zeros(0, dtype=np.int64)

    def _probabilities(self) -> Floats:
        """Return float[n_policies, n_var, n_values]; values that a gene lacks have 0."""
        logits = np.where(self._exists, self._logits, -np.inf)
        raised = np.exp(logits - logits.max(axis=2, keepdims=True))
        learnt = raised / raised.sum(axis=2, keepdims=True)
        uniform = self._exists / self._exists.sum(axis=1, keepdims=True)
        return np.asarray((1.0 - EXPLORATION) * learnt + EXPLORATION * uniform)

    def ask(self) -> Genomes:
        """See `Strategy.ask`."""
        if self._initial is not None:
            drawn = self._initial
            self._policy_of = np.arange(len(drawn)) % len(self._weights)
            self._initial = None
        else:
            self._policy_of = np.repeat(np.arange(len(self._weights)), SAMPLES_PER_POLICY)
            cumulated = self._probabilities().cumsum(axis=2)[self._policy_of]
            level = self._generator.random(cumulated.shape[:2])
            drawn = (level[:, :, None] > cumulated).sum(axis=2)
            drawn = np.minimum(drawn, self._problem.upper)
        is_new = self._memory.is_new(self._problem.canonicalize(drawn))
        kept, owner = drawn[is_new], self._policy_of[is_new]
        if len(kept) == 0:
            # every policy has converged on known designs: look at their neighbours
            kept, rows = mutate_new(self._problem, self._memory, drawn, self._generator)
            owner = self._policy_of[rows]
        self._asked, self._policy_of = kept, owner
        canonical = self._problem.canonicalize(kept)
        self._memory.add(canonical)
        return canonical

    def tell(self, genomes: Genomes, evaluation: Evaluation) -> None:
        """See `Strategy.tell`."""
        self._scalarizer.observe(evaluation)
        scores = self._scalarizer.score(evaluation, self._weights[self._policy_of])
        scores = np.maximum(scores, -2.0)
        n_policies = len(self._weights)
        counts = np.bincount(self._policy_of, minlength=n_policies)
        sums = np.bincount(self._policy_of, weights=scores, minlength=n_policies)
        means = sums / np.maximum(counts, 1)
        is_first = np.isnan(self._baseline) & (counts > 0)
        self._baseline[is_first] = means[is_first]
        advantage = scores - self._baseline[self._policy_of]
        step = -self._probabilities()[self._policy_of]
        rows, genes = np.indices(self._asked.shape)
        step[rows, genes, self._asked] += 1.0
        update = LEARNING_RATE * advantage[:, None, None] * step
        np.add.at(self._logits, self._policy_of, np.where(self._exists, update, 0.0))
        told = counts > 0
        self._baseline[told] = (
            BASELINE_DECAY * self._baseline[told] + (1.0 - BASELINE_DECAY) * means[told]
        )


def make_reinforce(problem: Problem, *, seed: int, settings: StrategySettings) -> Strategy:
    """Build the policy bank; see `StrategyFactory`."""
    n_policies = settings.population_size or N_POLICIES
    return Reinforce(problem, seed=seed, n_policies=n_policies, settings=settings)


STRATEGIES.add("reinforce", make_reinforce)
