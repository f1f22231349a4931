"""Metrics: what a network's outputs are worth, with a standard error.  One file each.

metric = load_metric({"name": "efficiency_at_rate", "rate_khz": 1.0})
judged = metric.judge(outputs, truth)  # judged.score, judged.standard_error
"""

from codesign.metrics._curves import Curve, response_curve, roc_curve, turn_on_curve
from codesign.metrics.base import METRICS, Judgement, Metric, load_metric

__all__ = [
    "METRICS",
    "Curve",
    "Judgement",
    "Metric",
    "load_metric",
    "response_curve",
    "roc_curve",
    "turn_on_curve",
]
