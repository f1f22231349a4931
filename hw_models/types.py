"""What the hardware models take and give: designs as arrays of primitive operations, metrics as arrays.

`hw_models` knows nothing of neural networks.  A design is a set of primitive operations (a matrix-vector
product, a table look-up, ...); a population of designs is one `OpBatch` per primitive that holds
every operation of every design.  One design is a population of one, through the same code.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

#: Strategy codes used in `OpBatch.parameters["strategy"]`; the order is a file format: only append.
MATVEC_STRATEGIES = (
    "latency",
    "resource",
    "unrolled",
    "resource_unrolled",
    "distributed_arithmetic",
)

#: Metrics in the order in which tables show them.
METRICS = ("latency_cycles", "interval_cycles", "lut", "ff", "dsp", "bram_18k")


@dataclass(frozen=True, kw_only=True)
class OpBatch:
    """All operations of one primitive in a population.

    Attributes:
        primitive: registered name of the primitive ("matvec", "elementwise", "table", ...).
        design: int[m], index of the design that each operation belongs to.
        stage: int[m], position along the data flow; operations of one design at equal stages run in
            parallel, different stages follow one another.
        parameters: one array[m] per parameter that the primitive declares.  NaN in a float
            parameter means "unknown": the primitive then uses its prior and widens the interval.
        origin: int[m], what each operation belongs to (a population's row, a record's layer), for
            tables of shares; None where nobody asks.
    """

    primitive: str
    design: NDArray[np.int64]
    stage: NDArray[np.int64]
    parameters: Mapping[str, NDArray[np.generic]]
    origin: NDArray[np.int64] | None = None


#: Facts of a solved and pipelined adder graph: LUTs by its own cost, registers, cycles.
SOLVED = ("adder_cost", "register_bits", "latency_cycles")


@dataclass(frozen=True, kw_only=True)
class DesignBatch:
    """A population of designs, ready to be estimated.

    Attributes:
        n_designs: how many designs.
        clock_period_ns: float[n_designs], target clock period.
        clock_uncertainty_ns: float[n_designs], NaN where the tool's default applies.
        part: device part number or family, one for the whole batch ("xcvu13p-flga2577-2-e").
        tool: "vivado_hls", "vitis_hls", "alkaid", ... one for the whole batch.
        tool_version: "2019.2", "2023.1", ...; "" when unknown.
        io_type: "io_parallel" or "io_stream".
        ops: the operations, one batch per primitive.
        solved: what is known of whole adder graphs that were solved and cut (plain RTL only): some of
            `SOLVED`, float[n_designs] each, NaN where unknown.  It replaces the laws' sums.
    """

    n_designs: int
    clock_period_ns: NDArray[np.float64]
    clock_uncertainty_ns: NDArray[np.float64]
    part: str
    tool: str
    tool_version: str
    io_type: str
    ops: tuple[OpBatch, ...]
    solved: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One metric of a population: float[n] value and the ends of its 90 % interval."""

    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class HardwareMetrics:
    """What a population of designs costs, predicted.

    Attributes:
        stage: "csynth", "vsynth" or "implemented": the tool stage whose report is predicted.
        metrics: one `Estimate` per name in `METRICS`.
        clock_period_ns: float[n], the clock the design is expected to reach (at least the target).
        energy_nj: float[n], energy per inference, or NaN where no model applies.
        notes: notes[i] are the sentences that a reader of design i must see (extrapolation, priors).
            Empty for every design when the caller asked for arrays only.
        utilization: per resource float[n], share of what the part holds; empty where that is not known.
        per_op: per primitive, the arrays of each metric's contribution (for the per-layer table).
    """

    stage: str
    metrics: Mapping[str, Estimate]
    clock_period_ns: NDArray[np.float64]
    energy_nj: NDArray[np.float64]
    notes: tuple[tuple[str, ...], ...]
    utilization: Mapping[str, NDArray[np.float64]]
    per_op: Mapping[str, Mapping[str, NDArray[np.float64]]]
