"""Options that tasks share: strict and frozen, checked by `codesign.config.parse`."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from codesign.config import Strict
from codesign.tasks.target import HeadOptions


class TaskOptions(Strict):
    """Options that every task has.

    Attributes:
        features: keep these features only, in this order; all when left out.
        class_names: the label order wanted; the source's own when left out.
        n_train_max: keep the first so many training rows (after the split); all when left out.
        n_test_max: keep the first so many test rows; all when left out.
        non_finite: "error" refuses rows with NaN or infinity, "drop" removes and counts them.
        heads: what a network is to answer, in the order of its outputs; the first one's metric is the
            study's score.  The source's own when left out.
        class_weights: "balanced" weighs rows so that every class has the same total.
        sampling: "uniform" passes over all training rows once an epoch and weighs their loss;
            "weighted" draws as many rows in proportion to their weights: for rare signals.
    """

    features: tuple[str, ...] | None = Field(default=None, min_length=1)
    class_names: tuple[str, ...] | None = Field(default=None, min_length=2)
    n_train_max: int | None = Field(default=None, ge=1)
    n_test_max: int | None = Field(default=None, ge=1)
    non_finite: Literal["error", "drop"] = "error"
    heads: tuple[HeadOptions, ...] | None = Field(default=None, min_length=1)
    class_weights: Literal["none", "balanced"] = "none"
    sampling: Literal["uniform", "weighted"] = "uniform"


class SplitOptions(TaskOptions):
    """Options of sources that come as one table.

    Attributes:
        split: "stratified" keeps the class shares equal; "sklearn" gives the very rows of
            scikit-learn's `train_test_split(test_size=..., random_state=seed)`, which the hls4ml
            tutorial uses with 0.2 and 42.
        test_fraction: share of rows in the test set.
        seed: of the split.
    """

    split: Literal["stratified", "sklearn"] = "stratified"
    test_fraction: float = Field(default=0.2, gt=0.0, lt=1.0)
    seed: int = Field(default=42, ge=0, lt=2**32)


class FileOptions(SplitOptions):
    """Options of tasks that read a file or folder of one's own.

    Attributes:
        path: the file or folder.
        benchmark: an id for the data; made from its digest when left out.
    """

    path: Path
    benchmark: str | None = Field(default=None, pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
