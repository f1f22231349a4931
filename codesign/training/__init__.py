"""Training at the exact fixed-point precision: one network or many, with the same code."""

from codesign.training.options import (
    TaskArrays,
    TrainingOptions,
    TrainingResult,
    architecture_digest,
    quantized_networks,
)
from codesign.training.train import fine_tune_one, integer_accuracy, train_population

__all__ = [
    "TaskArrays",
    "TrainingOptions",
    "TrainingResult",
    "architecture_digest",
    "fine_tune_one",
    "integer_accuracy",
    "quantized_networks",
    "train_population",
]
