"""Training at the exact fixed-point precision: one network or many, with the same code."""

from codesign.training.judge import judge_outputs, output_values
from codesign.training.labels import LabelResult, label_candidates
from codesign.training.options import (
    TaskArrays,
    TrainingOptions,
    TrainingResult,
    architecture_digest,
    quantized_networks,
)
from codesign.training.store import Label, LabelStore
from codesign.training.train import fine_tune_one, train_population

__all__ = [
    "Label",
    "LabelResult",
    "LabelStore",
    "TaskArrays",
    "TrainingOptions",
    "TrainingResult",
    "architecture_digest",
    "fine_tune_one",
    "judge_outputs",
    "output_values",
    "label_candidates",
    "quantized_networks",
    "train_population",
]
