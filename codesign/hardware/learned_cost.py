"""What networks with learned widths will cost, before they are trained: from their budgets and from others that were.

Training comes to its budget where it can; a small network cannot spend a great one, and how deep its adder
graph is, and how many bits cross it, follows from its shape.  Three quantities are predicted, each by
a Bayesian linear regression of its logarithm on a few features of the architecture and the budget (normal
weights, inverse-gamma noise: without a label it is the law of `_LAWS`, as uncertain as that was found to be,
and with labels it moves to what they say).  From these follow LUT, registers and cycles at any clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from codesign.hardware.turns import waiting_of
from codesign.ir import FLOWS, Population
from hw_models.families import adder_levels_per_cycle

Float = NDArray[np.float64]

#: What is predicted: LUTs of adders, levels of adders on the longest path, bits of an average register cut.
QUANTITIES: Final = ("adder_cost", "adder_levels", "cut_bits")
FEATURES: Final = ("one", "budget", "spare", "short", "depth", "fan_in", "tables", "positions")
#: LUTs that a weight takes where nothing is saved: a budget beyond that is not spent.
_FULL_WEIGHT_LUT = 12.0
#: Per quantity: weights of `FEATURES`, their standard deviation, that of the noise, and how many labels the
#: noise is worth.  Logarithms to base e.  Fitted to 64 networks of space mlp_learned on the bundled jets, after
#: 8 epochs (docs/precision.md); deviations leave room for other data and templates.
_LAWS: Final[Mapping[str, tuple[tuple[float, ...], float, float, float]]] = {
    "adder_cost": ((0.36, -0.03, -0.24, -0.63, -0.04, 0.23, -0.4, 0.0), 0.15, 0.13, 4.0),
    "adder_levels": ((2.64, 0.36, -0.06, -0.29, 0.14, -0.09, -0.1, 0.0), 0.15, 0.13, 4.0),
    "cut_bits": ((5.33, 0.48, -0.16, 0.08, -0.14, 0.38, -0.16, 0.0), 0.2, 0.15, 4.0),
}
#: What finishing a finalist does to the logarithm of each quantity, against a label, mean and standard
#: deviation: five times as many epochs (64 networks: 0.12 and 0.12, 0.01 and 0.10, 0.11 and 0.11, of which their
#: noise as labels is a part), and polishing (7 to 10 % of the LUTs, docs/precision.md).
_FINISHING: Final = {
    "adder_cost": (0.04, 0.12),
    "adder_levels": (0.01, 0.05),
    "cut_bits": (0.08, 0.07),
}
_Z90: Final = 1.6448536269514722


@dataclass(frozen=True, kw_only=True)
class LearnedCosts:
    """Predicted costs of a population; NaN where widths are not learned.

    Attributes:
        solved: value of each of `hw_models.types.SOLVED`, float64[n].
        low, high: ends of their 90 % intervals.
    """

    solved: Mapping[str, Float]
    low: Mapping[str, Float]
    high: Mapping[str, Float]


def features(population: Population) -> Float:
    """Return `FEATURES` of every candidate, float64[n, n_features].

    budget: log(LUT / 1000); spare: log of the LUTs that all weights would take, over the budget; short: the
    same softly cut below 0 of its negative, so that a budget that cannot be spent counts for what can be;
    depth: dense layers beyond two; fan_in: mean log inputs of these, less 3; tables: share of lanes that are looked
    up in tables; positions: log of the mean number of positions of the weights.
    """
    columns, n = population.columns, population.n_candidates
    owner, weighs = population.candidate, columns["weight_bits"] > 0

    def total(values: Float) -> Float:
        return np.asarray(
            np.bincount(owner, np.where(weighs, values, 0.0), minlength=n), np.float64
        )

    places = np.maximum(columns["n_copies"], 1.0)
    weights = columns["n_in"] * columns["n_out"]
    budget = np.maximum(population.lut_budget, 1.0)
    spare = np.log(np.maximum(total(weights * places), 1.0) * _FULL_WEIGHT_LUT / budget)
    n_layers = np.maximum(total(np.ones_like(weights)), 1.0)
    is_table = np.isin(population.layer, _table_codes(population.layer_names))
    lanes = columns["n_out"] * places
    looked_up = np.bincount(owner, np.where(is_table, lanes, 0.0), minlength=n)
    return np.stack(
        [
            np.ones(n),
            np.log(budget / 1000.0),
            spare,
            np.log1p(np.exp(-spare)),
            n_layers - 2.0,
            total(np.log(np.maximum(columns["n_in"], 1.0))) / n_layers - 3.0,
            looked_up / np.bincount(owner, lanes, minlength=n),
            np.log(total(weights * places) / np.maximum(total(weights), 1.0)),
        ],
        axis=1,
    )


def _table_codes(layer_names: Sequence[str]) -> list[int]:
    from codesign.layers import LAYERS
    from codesign.layers._table import TableActivation

    return [
        i for i, name in enumerate(layer_names) if isinstance(LAYERS.get(name), TableActivation)
    ]


@dataclass(frozen=True, kw_only=True)
class LearnedCostModel:
    """Predicts what networks with learned widths will cost.

    Attributes:
        x: float64[n_labels, n_features], of networks that were trained.
        y: per quantity: float64[n_labels], the logarithm of what they cost (of adder_cost, over the budget).
    """

    x: Float
    y: Mapping[str, Float]

    @classmethod
    def of(
        cls, population: Population | None, costs: Sequence[Mapping[str, float]]
    ) -> LearnedCostModel:
        """Learn from trained networks.

        Args:
            population: their candidates; None where there are none.
            costs: `QUANTITIES` of each.
        """
        if population is None or not costs:
            return cls(x=np.zeros((0, len(FEATURES))), y={name: np.zeros(0) for name in QUANTITIES})
        table = np.log(
            [[max(row[name], 1e-3) for name in QUANTITIES] for row in costs], dtype=np.float64
        )
        table[:, 0] -= np.log(population.lut_budget)
        return cls(x=features(population), y=dict(zip(QUANTITIES, table.T, strict=True)))

    def logarithms(self, population: Population) -> dict[str, tuple[Float, Float]]:
        """Return median and half of the 90 % interval of the logarithm of each quantity of finalists, float64[n] each."""
        x, found = features(population), {}
        for name, (weights, deviation, noise, strength) in _LAWS.items():
            prior = np.asarray(weights)
            # conjugate: precision of the weights in units of the noise; b, a of its inverse-gamma law
            precision = np.eye(prior.size) * (noise / deviation) ** 2
            rest = self.y[name] - self.x @ prior
            joint = precision + self.x.T @ self.x
            change = np.linalg.solve(joint, self.x.T @ rest)
            a = 0.5 * (strength + len(rest))
            b = 0.5 * (strength * noise**2 + float(rest @ rest - change @ joint @ change))
            spread = np.einsum("ij,ij->i", x, np.linalg.solve(joint, x.T).T)
            scale = np.sqrt(max(b, 1e-12) / a * (1.0 + spread))
            found[name] = (x @ (prior + change), float(stdtrit(2 * a, 0.95)) * scale)
        budget = np.log(np.maximum(population.lut_budget, 1.0))
        found["adder_cost"] = (found["adder_cost"][0] + budget, found["adder_cost"][1])
        return {
            name: (median + shift, np.hypot(half, _Z90 * deviation))
            for (name, (median, half)), (shift, deviation) in zip(
                found.items(), _FINISHING.values(), strict=True
            )
        }

    def predict(self, population: Population, part: str) -> LearnedCosts | None:
        """Predict what the learned networks of a population cost as plain RTL; None where there are none.

        Args:
            population: candidates.
            part: device part or family.
        """
        is_learned = (population.lut_budget > 0) & (population.flow == FLOWS.index("rtl"))
        if not is_learned.any():
            return None
        known = self.logarithms(population)
        cutoff = adder_levels_per_cycle(population.clock_period_ns, part)
        # every pipeline of its own fills half a cycle more, on average
        waits, more = waiting_of(population)

        def ends(sign: float) -> dict[str, Float]:
            value = {name: np.exp(m + sign * half) for name, (m, half) in known.items()}
            levels = value["adder_levels"] / cutoff + 0.5 * more
            cycles = np.maximum(np.ceil(levels - 1e-9), 1.0) + waits
            solved = {
                "adder_cost": value["adder_cost"],
                "register_bits": cycles * value["cut_bits"],
                "latency_cycles": cycles,
            }
            return {name: np.where(is_learned, v, np.nan) for name, v in solved.items()}

        return LearnedCosts(solved=ends(0.0), low=ends(-1.0), high=ends(1.0))
