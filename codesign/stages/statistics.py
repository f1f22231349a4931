"""What is known of a score from few rows, and how sure it is."""

from __future__ import annotations


def combine_scores(predicted: float, std: float, validation: float, n_validation: int) -> float:
    """Combine a predicted and a validated score, each weighted by its inverse variance.

    The validation score of n rows has the binomial variance a (1 - a) / n; at 2,000 rows that is
    one point, more than most differences between finalists.
    """
    validated_variance = max(validation * (1.0 - validation), 1e-6) / n_validation
    weight = validated_variance / (validated_variance + max(std, 1e-4) ** 2)
    return weight * predicted + (1.0 - weight) * validation
