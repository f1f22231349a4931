"""Which designs to synthesise next: those whose reports would sharpen the estimates of a front most.

The fitted laws are linear in their terms, so an estimate's log responds to the log of a term's factor
by the term's share, and to a key's offset by the share of all fitted terms.  With Gaussian priors on these parameters and a
Gaussian log error of a report, the posterior does not depend on what the report will say, and the
expected sharpening of a set of estimates is known beforehand (V-optimal design, Atkinson, Donev and
Tobias 2007, chapter 10; chosen greedily).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError
from hw_models.calibration.fit import FACTOR_PRIOR, OFFSET_PRIOR, SCALED
from hw_models.coefficients import Coefficients
from hw_models.compose import RawCosts, raw_costs
from hw_models.errors import ModelError
from hw_models.formula import EXACT_TERMS, fitted_terms
from hw_models.record_lowering import batch_records, lower_record
from hw_models.records import Record
from hw_models.types import MATVEC_STRATEGIES, DesignBatch

Array = NDArray[np.float64]

#: Log error of one design about its law once the factors are right: held-out spread of good classes.
REPORT_NOISE = 0.25


@dataclass(frozen=True, kw_only=True)
class Responses:
    """How estimates respond to the parameters of the fit, one target.

    Attributes:
        rows: rows[i] maps a parameter to d log(estimate of design i) / d parameter.
    """

    rows: tuple[Mapping[str, float], ...]


def responses(raw: RawCosts, coefficients: Coefficients, target: str) -> Responses:
    """Differentiate the estimates of one batch.

    Parameters are "term:<name>" (log factors) and "<kind>=<value>" (offsets).
    """
    terms = fitted_terms(raw, target, coefficients)
    total = np.maximum(sum(terms.values(), np.zeros(raw.strategy.size)), 1.0)
    shares = {name: v / total for name, v in terms.items() if name not in EXACT_TERMS}
    of_offsets = sum(shares.values(), np.zeros(raw.strategy.size))
    rows = []
    for i in range(raw.strategy.size):
        row = {f"term:{name}": float(share[i]) for name, share in shares.items() if share[i] > 0}
        row |= dict.fromkeys(raw.keys.names, float(of_offsets[i]))
        if raw.strategy[i] < len(MATVEC_STRATEGIES):
            row[f"strategy={MATVEC_STRATEGIES[raw.strategy[i]]}"] = float(of_offsets[i])
        rows.append(row)
    return Responses(rows=tuple(rows))


def batch_responses(batch: DesignBatch, coefficients: Coefficients) -> dict[str, Responses]:
    """Differentiate the estimates of a batch for every target with fitted factors."""
    raw = raw_costs(batch, coefficients.timing)
    return {target: responses(raw, coefficients, target) for target in SCALED}


def record_responses(records: Sequence[Record], coefficients: Coefficients) -> dict[str, Responses]:
    """Differentiate the estimates of records that a fit has seen; those without a law are left out."""
    lowered, kept = [], []
    for record in records:
        try:
            operations = lower_record(record)
            batch_records([record], [operations])
        except ModelError:
            continue  # the fit could not use it either
        lowered.append(operations)
        kept.append(record)
    rows: dict[str, list[Mapping[str, float]]] = {target: [] for target in SCALED}
    for _, batch in batch_records(kept, lowered):
        for target, found in batch_responses(batch, coefficients).items():
            rows[target] += found.rows
    return {target: Responses(rows=tuple(values)) for target, values in rows.items()}


def _matrix(rows: Sequence[Mapping[str, float]], names: Sequence[str]) -> Array:
    column = {name: j for j, name in enumerate(names)}
    matrix = np.zeros((len(rows), len(names)))
    for i, row in enumerate(rows):
        for name, value in row.items():
            matrix[i, column[name]] = value
    return matrix


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One design chosen.

    Attributes:
        index: in the pool.
        front_std: mean log standard deviation of the front's estimates once this and all earlier
            choices are reported, over the targets.
    """

    index: int
    front_std: float


def choose_designs(
    pool: Mapping[str, Responses],
    front: Mapping[str, Responses],
    known: Mapping[str, Responses],
    n: int,
) -> tuple[float, list[Choice]]:
    """Choose n designs of a pool, greedily, that sharpen the estimates of a front most.

    Args:
        pool: responses of the designs that may be synthesised, per target.
        front: responses of the designs whose estimates matter.
        known: responses of the designs that were reported before.
        n: how many to choose.

    Returns:
        Mean log standard deviation of the front's estimates now, and the choices in order.

    Raises:
        DesignError: the pool is smaller than n, or the front is empty.
    """
    n_pool = min(len(responses.rows) for responses in pool.values())
    if n > n_pool:
        raise DesignError(f"{n} designs asked for, the pool has {n_pool}; ask for fewer")
    if not all(responses.rows for responses in front.values()):
        raise DesignError("the front is empty; run the search first")
    states = []
    for target in pool:
        every = [*pool[target].rows, *front[target].rows, *known[target].rows]
        names = sorted({name for row in every for name in row})
        prior = np.array(
            [
                FACTOR_PRIOR if name.startswith("term:") else OFFSET_PRIOR[name.split("=")[0]]
                for name in names
            ]
        )
        seen = _matrix(known[target].rows, names)
        precision = np.diag(prior**-2) + seen.T @ seen / REPORT_NOISE**2
        states.append(
            (
                _matrix(pool[target].rows, names),
                _matrix(front[target].rows, names),
                np.linalg.inv(precision),
            )
        )

    def spread() -> float:
        return float(
            np.mean([np.sqrt(np.einsum("ij,jk,ik->i", f, cov, f)).mean() for _, f, cov in states])
        )

    before, choices = spread(), []
    free = np.ones(n_pool, dtype=bool)
    for _ in range(n):
        gain = np.zeros(n_pool)
        for x, f, covariance in states:
            variance = REPORT_NOISE**2 + np.einsum("ij,jk,ik->i", x, covariance, x)
            gain += ((f @ covariance @ x.T) ** 2).sum(axis=0) / variance
        index = int(np.argmax(np.where(free, gain, -np.inf)))
        free[index] = False
        for k, (x, f, covariance) in enumerate(states):
            step = covariance @ x[index]
            states[k] = (
                x,
                f,
                covariance - np.outer(step, step) / (REPORT_NOISE**2 + x[index] @ step),
            )
        choices.append(Choice(index=index, front_std=spread()))
    return before, choices
