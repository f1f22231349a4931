"""What scalar strategies share: many search directions over one running view of the front."""

import numpy as np
from moocore import is_nondominated

from codesign.search.problem import Evaluation, Floats, Problem
from codesign.search.rewards import Reward

#: Weight of the sum in the augmented Tchebycheff metric (Steuer and Choo, 1983).
_RHO = 0.05


def augmented_tchebycheff(scaled: Floats, weights: Floats) -> Floats:
    """Return float[...], the distance from the ideal point, smaller better.

    Args:
        scaled: float[..., n_objectives], objectives with the ideal point at 0.
        weights: float[..., n_objectives], broadcastable.
    """
    weighted = weights * scaled
    return np.asarray(weighted.max(axis=-1) + _RHO * weighted.sum(axis=-1))


class Scalarizer:
    """Scores evaluations as scalars, each row in a direction of its own.

    Without a reward: the augmented Tchebycheff metric, objectives scaled by the box of the feasible
    front seen so far.  With one: that reward, scaled by the range seen so far.  Scores of feasible
    rows are about 0 to 1, larger better; infeasible rows score -2 to -1, by their
    violation, so that they are after every feasible one.
    """

    def __init__(self, problem: Problem, reward: Reward | None) -> None:
        self._names = problem.objective_names
        self._reward = reward
        self._front = np.zeros((0, len(self._names)))
        self._low, self._high = np.inf, -np.inf

    def directions(self, n_directions: int, generator: np.random.Generator) -> Floats:
        """Draw weights float[n_directions, n_objectives], uniform on the simplex."""
        return generator.dirichlet(np.ones(len(self._names)), size=n_directions)

    def observe(self, evaluation: Evaluation) -> None:
        """Widen the view by what was just evaluated."""
        feasible = evaluation.take(evaluation.is_feasible)
        if len(feasible) == 0:
            return
        front = np.concatenate([self._front, feasible.objectives])
        self._front = front[np.asarray(is_nondominated(front, keep_weakly=False), dtype=bool)]
        if self._reward is not None:
            rewards = self._reward(feasible, self._names)
            self._low = min(self._low, float(rewards.min()))
            self._high = max(self._high, float(rewards.max()))

    def score(self, evaluation: Evaluation, weights: Floats) -> Floats:
        """Return float[n], larger better.

        Args:
            evaluation: n rows.
            weights: float[n, n_objectives], the direction of each row; unused with a reward.
        """
        scores = -2.0 + 1.0 / (1.0 + evaluation.total_violation)
        rows = np.flatnonzero(evaluation.is_feasible)
        if len(rows) == 0 or len(self._front) == 0:
            return scores
        feasible = evaluation.take(rows)
        if self._reward is not None:
            span = self._high - self._low
            value = (self._reward(feasible, self._names) - self._low) / (span if span > 0 else 1.0)
            scores[rows] = np.maximum(value, -0.5)
            return scores
        ideal, nadir = self._front.min(axis=0), self._front.max(axis=0)
        scaled = (feasible.objectives - ideal) / np.where(nadir > ideal, nadir - ideal, 1.0)
        distance = augmented_tchebycheff(scaled, weights[rows])
        # squashed only beyond the front's box, where order is all that matters
        scores[rows] = np.where(
            distance <= 1.0, 1.0 - distance, 0.5 * (1.0 / np.maximum(distance, 1.0) - 1.0)
        )
        return scores
