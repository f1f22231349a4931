"""A made-up joint problem, to test strategies on.

Shaped like the real one (score that saturates in widths and bits, LUT and latency that depend on
reuse, strategy and clock, hard limits that most designs miss, genes that only matter at some
depths), but every number in it is invented: it says nothing about any FPGA.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError
from codesign.search.problem import Booleans, Evaluation, Genomes

_CLOCK_PERIOD_NS = np.array([2.5, 3.2, 4.0, 5.0])
_ACTIVATION_ERROR = np.array([0.0, 0.004, 0.009])


@dataclass(frozen=True, kw_only=True)
class SyntheticProblem:
    """Minimise error, LUT and latency of an invented multilayer perceptron.

    Genes: depth, clock, strategy, activation, then width, weight bits and reuse of each layer.

    Attributes:
        n_layers: at most so many hidden layers, at least 1.
        n_widths: widths to choose from per layer.
        n_bits: weight precisions to choose from per layer.
        n_reuse: reuse factors to choose from per layer.
        lut_limit: designs above it are infeasible.
        latency_limit_ns: designs above it are infeasible.
    """

    n_layers: int = 2
    n_widths: int = 6
    n_bits: int = 4
    n_reuse: int = 3
    lut_limit: float = 3_000.0
    latency_limit_ns: float = 45.0
    objective_names: tuple[str, ...] = field(default=("error", "lut", "latency_ns"), init=False)
    constraint_names: tuple[str, ...] = field(default=("lut", "latency_ns"), init=False)

    def __post_init__(self) -> None:
        if self.n_layers < 1:
            raise DesignError(f"n_layers: expected at least 1, got {self.n_layers}")

    @property
    def upper(self) -> NDArray[np.int64]:
        """int64[4 + 3 * n_layers]."""
        layer = [self.n_widths - 1, self.n_bits - 1, self.n_reuse - 1]
        return np.array([self.n_layers - 1, 3, 2, 2] + layer * self.n_layers, dtype=np.int64)

    @property
    def ordered(self) -> Booleans:
        """Strategy and activation are names; all else is ordered."""
        ordered = np.ones(len(self.upper), dtype=bool)
        ordered[[2, 3]] = False
        return ordered

    def canonicalize(self, genomes: Genomes) -> Genomes:
        """Zero the genes of layers beyond the depth."""
        absent = np.arange(self.n_layers)[None, :] > genomes[:, :1]
        canonical = genomes.copy()
        canonical[:, 4:][np.repeat(absent, 3, axis=1)] = 0
        return canonical

    def evaluate(self, genomes: Genomes) -> Evaluation:
        """Score genomes; see the class for what is invented."""
        n = len(genomes)
        depth, clock, strategy, activation = genomes[:, :4].T
        layers = genomes[:, 4:].reshape(n, self.n_layers, 3)
        present = np.arange(self.n_layers)[None, :] <= depth[:, None]
        width = np.where(present, 4.0 * 1.7 ** layers[:, :, 0], 0.0)
        bits = 2.0 + 1.5 * layers[:, :, 1]
        reuse = 2.0 ** layers[:, :, 2]

        capacity = (np.log2(1.0 + width) * present).sum(axis=1)
        coarse = (2.0 ** (-0.55 * bits) * present).sum(axis=1)
        wiggle = 0.002 * np.sin(genomes @ (1.0 + np.arange(genomes.shape[1]) % 7))
        error = 0.25 + 0.5 * np.exp(-0.35 * capacity) + 0.35 * coarse + wiggle
        error = error + _ACTIVATION_ERROR[activation]

        fan_in = np.concatenate([np.full((n, 1), 16.0), width[:, :-1]], axis=1)
        products = fan_in * width * present
        lut_per_product = np.array([0.62, 0.40, 0.25])[strategy][:, None] * bits
        lut = (products * lut_per_product / reuse**0.8).sum(axis=1)
        lut = lut + 6.0 * width.sum(axis=1) * (1 + activation)

        period_ns = _CLOCK_PERIOD_NS[clock]
        tree = np.log2(1.0 + fan_in) * (1.0 + bits / 12.0) * present
        levels_per_cycle = period_ns / 1.5
        cycles = np.ceil(tree / levels_per_cycle[:, None]).sum(axis=1)
        cycles = cycles + ((reuse - 1.0) * present).sum(axis=1) + (depth + 1) * (1 + activation)
        cycles = cycles + np.array([0, 2, 5])[strategy]
        latency_ns = cycles * period_ns
        return Evaluation(
            objectives=np.column_stack([error, lut, latency_ns]),
            violations=np.column_stack(
                [lut / self.lut_limit - 1.0, latency_ns / self.latency_limit_ns - 1.0]
            ),
            metrics={"cycles": cycles},
        )


def enumerate_space(upper: NDArray[np.int64], *, limit: int = 5_000_000) -> Genomes:
    """Return every genome, int64[n, n_var], last gene fastest.

    Raises:
        DesignError: more than `limit` genomes.
    """
    size = int(np.prod([float(u) + 1 for u in upper]))
    if size > limit:
        raise DesignError(
            f"the space has {size} genomes; expected at most {limit} to enumerate it; "
            "use a sampling strategy"
        )
    return np.stack(np.unravel_index(np.arange(size), upper + 1), axis=1).astype(np.int64)
