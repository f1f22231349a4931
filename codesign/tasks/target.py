"""What a network is to answer: one head or several, each with its kind, loss, weight and metric.

The target decides everything downstream: how many outputs a network has, its loss, its score, and
what the report says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from codesign.config import Strict
from codesign.errors import ConfigError, unknown_name
from codesign.metrics import Metric, load_metric

#: Losses of each kind of head, the default first (`codesign.training.losses`).
LOSSES: Mapping[str, tuple[str, ...]] = {
    "classes": ("cross_entropy",),
    "binary": ("binary_cross_entropy",),
    "values": ("huber", "squared", "absolute"),
    "reconstruction": ("squared", "huber", "absolute"),
    "anomaly": ("own",),
}
_METRICS: Mapping[str, str] = {
    "classes": "accuracy",
    "binary": "auc",
    "values": "mean_absolute_error",
    "reconstruction": "mean_squared_error",
    "anomaly": "auc",
}
#: Kinds whose truth is one class index per row.
OF_CLASSES = ("classes", "binary", "anomaly")
#: Kinds with one output, a score of class 1 against class 0.
_ONE_SCORE: Mapping[str, str] = {"binary": "logit", "anomaly": "score"}

Kind = Literal["classes", "binary", "values", "reconstruction", "anomaly"]


class HeadOptions(Strict):
    """One head, as a study states it under `heads`.

    Attributes:
        name: of the head; of a source that has heads of its own, which of them.
        columns: where the source is a table: the column of the classes, or those of the values.
        kind: "classes" (one output per class), "binary" (one logit: class 1 against class 0), "values"
            (regression), "reconstruction" (of the inputs; no labels) or "anomaly" (one score, trained on class
            0 alone by what the network's end says, `codesign.training.anomaly`; no labels).
        units: of the values, one for all or one for each; must be those of the source where it states some.
        loss: see docs/tasks.md; the kind's own when left out.
        weight: of this head's loss in the sum.
        metric: what this head is judged by: a name, or a mapping with name and options.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")
    columns: tuple[str, ...] | None = Field(default=None, min_length=1)
    kind: Kind | None = None
    units: tuple[str, ...] | None = None
    loss: str | None = None
    weight: float = Field(default=1.0, gt=0.0, allow_inf_nan=False)
    metric: str | dict[str, Any] | None = None

    @field_validator("loss")
    @classmethod
    def _loss_is_named(cls, value: str | None) -> str:
        if not value:
            known = ", ".join(sorted({loss for losses in LOSSES.values() for loss in losses}))
            raise ValueError(
                f"a head without a loss learns nothing; name one ({known}), or leave the key out for the kind's own"
            )
        return value


@dataclass(frozen=True, kw_only=True)
class Head:
    """One head of a target.

    Attributes:
        name: of the head.
        kind: "classes", "binary", "values", "reconstruction" or "anomaly".
        names: class names, or names of the values.
        metric: what it is judged by.
        loss: what it is trained with.
        weight: of its loss in the sum.
        units: of the values, one each; empty for classes.
        offset, scale: of the values; an output is (value - offset) / scale, the scale a power of two
            and the offset on its 1/256 grid, so that firmware undoes it by a shift and an addition.
    """

    name: str
    kind: Kind
    names: tuple[str, ...]
    metric: Metric
    loss: str
    weight: float = 1.0
    units: tuple[str, ...] = ()
    offset: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()

    @property
    def n_outputs(self) -> int:
        """How many outputs of the network are this head's."""
        return 1 if self.kind in _ONE_SCORE else len(self.names)

    @property
    def n_columns(self) -> int:
        """How many columns of the truth are this head's."""
        return {"values": len(self.names), "reconstruction": 0}.get(self.kind, 1)

    @property
    def unit(self) -> str:
        """Unit of the head's score."""
        return self.metric.unit_of(self.units[0] if self.units else "")

    def values(self, outputs: NDArray[Any]) -> NDArray[np.float64]:
        """Return what outputs [n, n_outputs] mean, in the units of the truth; logits stay logits."""
        found = np.asarray(outputs, dtype=np.float64)
        if self.kind != "values":
            return found
        return np.asarray(found * np.array(self.scale) + np.array(self.offset))

    def statement(self) -> dict[str, Any]:
        """Return the head as JSON values: what firmware must know of its outputs, and how it is judged."""
        return {
            "name": self.name,
            "kind": self.kind,
            "outputs": [_ONE_SCORE[self.kind]] if self.kind in _ONE_SCORE else list(self.names),
            "loss": self.loss,
            "weight": self.weight,
            "metric": {"name": self.metric.name, **self.metric.model_dump()},
            "units": list(self.units),
            "offset": list(self.offset),
            "scale": list(self.scale),
        }


@dataclass(frozen=True, kw_only=True)
class Target:
    """All heads, in the order of the network's outputs; the first one's metric is the study's score."""

    heads: tuple[Head, ...]

    def __post_init__(self) -> None:
        names = [head.name for head in self.heads]
        if not names or len(set(names)) != len(names):
            raise ConfigError(
                f"a target needs heads with names of their own, got {names}; name each head once"
            )
        if len(names) > 1 and any(head.kind == "anomaly" for head in self.heads):
            raise ConfigError(
                f"heads {names}: an anomaly score is the only output of its network; leave the other heads out"
            )

    @property
    def n_outputs(self) -> int:
        """Outputs of a network."""
        return sum(head.n_outputs for head in self.heads)

    @property
    def n_columns(self) -> int:
        """Columns of the truth."""
        return sum(head.n_columns for head in self.heads)

    @property
    def is_one_class_label(self) -> bool:
        """Whether the truth is one class index per row, int64 [n] rather than float32 [n, n_columns]."""
        return len(self.heads) == 1 and self.heads[0].kind in OF_CLASSES

    @property
    def score(self) -> Head:
        """The head whose metric is the study's score."""
        return self.heads[0]

    @cached_property
    def output_slices(self) -> tuple[slice, ...]:
        """Which outputs are each head's."""
        return _slices([head.n_outputs for head in self.heads])

    @cached_property
    def column_slices(self) -> tuple[slice, ...]:
        """Which columns of the truth are each head's."""
        return _slices([head.n_columns for head in self.heads])

    def truth(
        self, index: int, y: NDArray[Any], x: NDArray[np.float32]
    ) -> NDArray[np.int64] | NDArray[np.float64]:
        """Return what head `index` is compared with: classes int64 [n] or values float64 [n, n_outputs].

        Args:
            index: of the head.
            y: the truth of the task, int64 [n] or float32 [n, n_columns].
            x: the inputs as the network sees them; read for a reconstruction.
        """
        head = self.heads[index]
        if head.kind == "reconstruction":
            return np.asarray(x, dtype=np.float64)
        columns = y.reshape(len(y), -1)[:, self.column_slices[index]]
        if head.kind == "values":
            return columns.astype(np.float64)
        return columns[:, 0].astype(np.int64)

    def is_trained_on(self, y: NDArray[Any]) -> NDArray[np.bool_]:
        """Say which rows of a training set are learned from, bool[n]: of anomaly scores the background alone."""
        return (y == 0) if self.score.kind == "anomaly" else np.ones(len(y), dtype=bool)

    def statement(self) -> list[dict[str, Any]]:
        """Return all heads as JSON values."""
        return [head.statement() for head in self.heads]


def classes_target(class_names: Sequence[str]) -> Target:
    """Return the target of plain classification."""
    return Target(heads=(make_head("class", "classes", class_names),))


def make_head(
    name: str,
    kind: Kind,
    names: Sequence[str],
    *,
    options: HeadOptions | None = None,
    units: Sequence[str] = (),
    values: NDArray[Any] | None = None,
    where: str = "task",
) -> Head:
    """Make a head of what a source states and what a study wishes.

    Args:
        name, kind, names, units: what the source states.
        options: what the study wishes instead.
        values: float [n, len(names)] training values, whose mean and spread give offset and scale.
        where: for messages.

    Raises:
        ConfigError: a loss, kind or unit that does not fit; a metric that judges something else.
    """
    where = f"{where}.heads.{name}"
    wish = options or HeadOptions(name=name)
    if wish.kind is not None and wish.kind != kind:
        if {wish.kind, kind} != {"classes", "binary"}:
            raise ConfigError(f"{where}: is of kind {kind!r}, not {wish.kind!r}; leave kind out")
        kind = wish.kind
    if kind == "binary" and len(names) < 2:
        raise ConfigError(f"{where}: a binary head needs two classes, got {list(names)}")
    stated = tuple(units) * (len(names) if len(units) == 1 else 1)
    wished = tuple(wish.units or stated)
    wished *= len(names) if len(wished) == 1 else 1
    if kind != "values" and wish.units:
        raise ConfigError(f"{where}: {kind} have no unit, got {list(wish.units)}; leave units out")
    if kind == "values" and len(wished) not in (0, len(names)):
        raise ConfigError(
            f"{where}: {len(names)} values {list(names)} but units {list(wished)}; give one unit, or one for each"
        )
    if stated and wished != stated:
        raise ConfigError(
            f"{where}: units {list(wished)} do not match those of the data, {list(stated)}; correct the units"
            " (nothing is converted)"
        )
    loss = wish.loss or LOSSES[kind][0]
    if loss not in LOSSES[kind]:
        raise ConfigError(f"{where}: {unknown_name(f'loss of {kind}', loss, LOSSES[kind])}")
    metric = load_metric(wish.metric or _METRICS[kind], where=f"{where}.metric")
    truth = "classes" if kind in OF_CLASSES else "values"
    if metric.truth != truth:
        raise ConfigError(
            f"{where}: metric {metric.name!r} judges {metric.truth}, but the head answers {truth}; choose another"
        )
    offset, scale = _output_scaling(values) if kind == "values" else ((), ())
    return Head(
        name=name,
        kind=kind,
        names=tuple(names),
        metric=metric,
        loss=loss,
        weight=wish.weight,
        units=wished if kind == "values" else (),
        offset=offset,
        scale=scale,
    )


def _output_scaling(
    values: NDArray[Any] | None,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and spread of each column, on grids that firmware undoes exactly."""
    if values is None:
        raise ConfigError("a head of values needs training values to scale its outputs by")
    spread = values.std(axis=0, dtype=np.float64)
    scale = np.exp2(np.round(np.log2(np.where(spread > 0, spread, 1.0))))
    step = scale / 256
    offset = np.round(values.mean(axis=0, dtype=np.float64) / step) * step
    return tuple(offset.tolist()), tuple(scale.tolist())


def _slices(widths: Sequence[int]) -> tuple[slice, ...]:
    ends = np.cumsum([0, *widths]).tolist()
    return tuple(slice(a, b) for a, b in zip(ends[:-1], ends[1:], strict=True))
