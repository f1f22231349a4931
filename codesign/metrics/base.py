"""What a metric is: a score of outputs against the truth, its error, direction and unit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from codesign.config import Strict, parse
from codesign.errors import ConfigError, DataError
from codesign.registry import Registry

Floats = NDArray[np.float64]

#: Resamplings behind a bootstrap error, and rows times resamplings held at once.
_N_BOOTSTRAP, _CELLS = 200, 4_000_000


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """A score with its one-sigma statistical error, in the metric's unit."""

    score: float
    standard_error: float


class Metric(Strict, ABC):
    """One way to judge outputs.  A leaf per file in `codesign/metrics`; its fields are its options.

    Every metric is computed for many weightings of the rows at once, which makes bootstrap errors,
    event weights and class weights one code.
    """

    #: The name in YAML.  A file format: never rename.
    name: ClassVar[str]
    #: What is read: "classes" (one output per class, or one logit of two classes) or "values".
    truth: ClassVar[str]
    #: Which way is better.
    larger_is_better: ClassVar[bool]
    #: Of the score; "" for a pure number, "target" for the unit of the target.
    unit: ClassVar[str] = ""

    @abstractmethod
    def scores(self, outputs: Floats, truth: NDArray[Any], weights: Floats) -> Floats:
        """Return the score for each weighting of the rows, float64 [n_weightings].

        Args:
            outputs: float64 [n, n_outputs], values of the output words.
            truth: int64 [n] class indices, or float64 [n, n_outputs] values in the target's unit.
            weights: float64 [n_weightings, n], at least 0.

        Raises:
            DataError: the rows cannot give this score.
        """

    def standard_error(self, outputs: Floats, truth: NDArray[Any], weights: Floats) -> float:
        """Return the standard deviation of the score over Poisson resamplings of the rows.

        Args:
            outputs, truth: as in `scores`.
            weights: float64 [n].
        """
        generator = np.random.default_rng(0)
        at_once = max(1, min(_N_BOOTSTRAP, _CELLS // max(1, len(weights))))
        found = []
        for start in range(0, _N_BOOTSTRAP, at_once):
            n = min(at_once, _N_BOOTSTRAP - start)
            counts = generator.poisson(1.0, (n, len(weights)))
            found.append(self.scores(outputs, truth, counts * weights))
        return float(np.concatenate(found).std(ddof=1))

    def judge(
        self, outputs: NDArray[Any], truth: NDArray[Any], weights: NDArray[Any] | None = None
    ) -> Judgement:
        """Check the rows and return the score with its error.

        Args:
            outputs, truth: as in `scores`.
            weights: float [n], at least 0; None weighs all rows alike.

        Raises:
            DataError: nothing to judge, shapes or values that make no sense.
        """
        outputs, truth, weights = self._checked(outputs, truth, weights)
        return Judgement(
            score=float(self.scores(outputs, truth, weights[None])[0]),
            standard_error=self.standard_error(outputs, truth, weights),
        )

    def score(
        self, outputs: NDArray[Any], truth: NDArray[Any], weights: NDArray[Any] | None = None
    ) -> float:
        """Return the score alone; as `judge`."""
        outputs, truth, weights = self._checked(outputs, truth, weights)
        return float(self.scores(outputs, truth, weights[None])[0])

    @property
    def title(self) -> str:
        """What people call it, with whatever makes two scores of this name different."""
        return self.name.replace("_", " ")

    def unit_of(self, target_unit: str) -> str:
        """Return the unit of the score of a target with this unit ("" for a pure number)."""
        return self.unit.replace("target", target_unit) if target_unit else ""

    def merit(self, score: Floats | float) -> Floats | float:
        """Turn scores so that larger is better: themselves or their negatives."""
        return score if self.larger_is_better else -np.abs(score)

    def _checked(
        self, outputs: NDArray[Any], truth: NDArray[Any], weights: NDArray[Any] | None
    ) -> tuple[Floats, NDArray[Any], Floats]:
        outputs = np.asarray(outputs, dtype=np.float64)
        outputs = outputs[:, None] if outputs.ndim == 1 else outputs
        truth = np.asarray(truth)
        if len(outputs) == 0 or len(outputs) != len(truth):
            raise DataError(
                f"metric {self.name}: {len(outputs)} outputs and {len(truth)} true values; expected one for"
                " each row, and at least one row"
            )
        if self.truth == "values":
            truth = truth.astype(np.float64).reshape(len(truth), -1)
        if self.truth == "values" and truth.shape != outputs.shape:
            raise DataError(
                f"metric {self.name}: outputs of shape {outputs.shape} cannot be compared with values of shape"
                f" {truth.shape}; expected one output for each value"
            )
        if not np.isfinite(outputs).all() or not np.isfinite(truth).all():
            raise DataError(
                f"metric {self.name}: NaN or infinity among outputs or targets; drop those rows"
            )
        weights = (
            np.ones(len(outputs)) if weights is None else np.asarray(weights, dtype=np.float64)
        )
        if weights.shape != (len(outputs),) or not np.isfinite(weights).all():
            raise DataError(
                f"metric {self.name}: weights of shape {weights.shape}; expected one finite weight for each of"
                f" {len(outputs)} rows"
            )
        if weights.min() < 0 or not weights.any():
            raise DataError(
                f"metric {self.name}: weights run from {weights.min():g} to {weights.max():g}; expected none below 0"
                " and some above"
            )
        return outputs, truth, weights


class MeanMetric(Metric):
    """A metric that is the mean of one number per row; its error is exact.

    For a mean m of values v with weights w: sqrt(sum w^2 (v - m)^2) / sum w (linearised ratio
    estimator; Cochran, Sampling Techniques, 1977, section 2.11).
    """

    @abstractmethod
    def values(self, outputs: Floats, truth: NDArray[Any]) -> Floats:
        """Return one number per row, float64 [n]."""

    def scores(self, outputs: Floats, truth: NDArray[Any], weights: Floats) -> Floats:
        """Return the weighted means; see `Metric.scores`."""
        return np.asarray(weights @ self.values(outputs, truth) / weights.sum(axis=1))

    def standard_error(self, outputs: Floats, truth: NDArray[Any], weights: Floats) -> float:
        """Return the exact error of the mean; see `Metric.standard_error`."""
        values = self.values(outputs, truth)
        mean = weights @ values / weights.sum()
        return float(np.sqrt((weights**2) @ (values - mean) ** 2) / weights.sum())


#: Every metric.
METRICS: Registry[type[Metric]] = Registry(kind="metric", package="codesign.metrics")


def load_metric(statement: str | Mapping[str, Any], *, where: str = "metric") -> Metric:
    """Make a metric of its name, or of a mapping with `name` and options.

    Raises:
        DesignError: no such metric.
        ConfigError: an unknown or wrong option.
    """
    options = {"name": statement} if isinstance(statement, str) else dict(statement)
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise ConfigError(f"{where}: expected a metric's name, or a mapping with the key name")
    return parse(METRICS.get(name), options, where=f"{where}.{name}")
