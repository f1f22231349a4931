"""Fitting the cost laws to records: positive factors near one, shrunk to the law; offsets pooled per key.

Everything is fitted on logarithms with a pseudo-Huber loss: least squares on relative errors would
drive every estimate too low.  Each group weighs its size to the power 1/2, so that one large
collection does not drown the rest.
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from hw_models.calibration.groups import group_of
from hw_models.calibration.modules import module_records
from hw_models.coefficients import Coefficients
from hw_models.compose import RawCosts, raw_costs
from hw_models.errors import ModelError, UnsupportedError
from hw_models.formula import EXACT_TERMS, RESOURCES, fitted_value
from hw_models.record_lowering import Lowered, batch_records, lower_record, strategy_name
from hw_models.records import WRAPPER_FLAG, Record
from hw_models.types import MATVEC_STRATEGIES, METRICS

Array = NDArray[np.float64]
_T = TypeVar("_T")

#: Targets whose terms carry fitted factors.  Cycles, DSP and memory blocks are counts of the structure: a
#: factor would spoil the exact ones; only constants of their laws are fitted.
SCALED = ("lut", "ff")
#: Likewise when a user's own reports refine fitted coefficients: their networks' weights are of one kind, which the
#: prior on weights cannot know, and their flow may double every memory.
SCALED_BY_USER = ("lut", "ff", "dsp", "bram_18k")
#: Log errors that one report of the user's own flow may be trusted to; held-out error chooses per target.
USER_NOISE = (0.3, 0.6, 1.2)
#: Offsets of one user's keys may be this much wider than those between users: one flow, one kind of network.
USER_OFFSETS = 2.0
#: Flags of rows that do not report the network itself.
EXCLUDED_FLAGS = ("numbers from the instance row of the AXI wrapper report", WRAPPER_FLAG)

#: Prior width (log) of a term's factor around 1: most laws are right within a factor of two.
FACTOR_PRIOR = 0.6
#: Terms whose laws were read from designs with known weights or from hundreds of like ones, and their prior
#: width: what moves them in a fit is mostly weights that nobody knows.
FIRM_TERMS = (
    "latency.accumulate", "latency.constant", "latency.product", "latency.output", "latency.relay",
    "resource.lanes", "resource.mux", "resource.product",
)  # fmt: skip
FIRM_PRIOR = 0.15
#: The cost of a solved graph is known; tools differ in how they map it, which offsets carry.
SOLVED_TERMS, SOLVED_PRIOR = ("distributed.graph", "rtl.registers"), 0.01
#: Prior width (log) of the offsets of one key, by kind: what tools and devices may differ.
OFFSET_PRIOR = {"io": 0.12, "tool": 0.1, "version": 0.08, "family": 0.1, "strategy": 0.08}
#: Residual (log) where the loss turns from square to linear.
HUBER = 0.2
#: Registers between functions belong to the function that calls them, not to a module.
OUTSIDE_MODULES = ("latency.output", "dataflow.channels")
#: Weight of all modules of a design together, as a share of the design's own.
MODULE_WEIGHT = 2.0
#: Scale of the data term: the log error that one record is trusted to.
NOISE = 0.7

#: Timing constants that the fit chooses, with the grid of each and the prior width (log, or the unit
#: of an additive constant).
TIMING_GRID: dict[str, tuple[float, ...]] = {
    "adder_ns|ultrascale_plus": (0.8, 0.9, 1.0, 1.1, 1.25, 1.4),
    "adder_ns|series7": (0.7, 0.85, 1.0, 1.2, 1.4),
    "adder_ns|zynq7000": (0.7, 0.85, 1.0, 1.1, 1.25, 1.4),
    "adder_ns|vitis_hls": (0.85, 1.0, 1.15, 1.3, 1.5, 1.7),
    "multiplier_levels|ultrascale_plus": (0.6, 0.8, 1.0, 1.2, 1.6),
    "multiplier_levels|series7": (0.5, 0.75, 1.0, 1.25),
    "multiplier_levels|zynq7000": (0.5, 0.75, 1.0, 1.25),
    "extra_levels|vitis_hls": (0.0, 0.5, 1.0, 2.0),
    "pixel_overhead|vivado_hls": (0.5, 0.75, 1.0, 1.25, 1.5),
    "boundary_cycles|vivado_hls": (0.0, 1.0, 2.0, 3.0, 4.0),
    "boundary_cycles|vitis_hls": (0.0, 1.0, 2.0, 3.0, 4.0),
    "dsp_from_bits|vivado_hls": (-6.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0),
    "dsp_from_bits|vitis_hls": (-6.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0),
    "weight_sigma|trained": (0.4, 0.7, 1.0, 1.4, 2.0),
    "weight_sigma|pruned": (0.7, 1.0, 1.4),
}
#: Kinds of them (before "|") that are a flow's own habits: the step from layer to layer, and where DSPs begin.  They
#: move cycles and DSPs, and leave the cuts alone, which registers follow.
FLOW_TIMING = ("boundary_cycles", "dsp_from_bits")
ALL_TIMING = tuple(dict.fromkeys(name.split("|")[0] for name in TIMING_GRID))
#: Kinds that a fit of the bare laws chooses: delays, not habits.
LAW_TIMING = tuple(kind for kind in ALL_TIMING if kind not in FLOW_TIMING)
#: Sets of kinds that a user's calibration may choose anew.
TIMING_CHOICES = (FLOW_TIMING, ALL_TIMING)
_ADDITIVE = ("extra_levels", "boundary_cycles", "dsp_from_bits")
#: Prior width (log) of a timing constant; additive ones: 1 level, cycle or bit.
TIMING_PRIOR = 0.15
#: What the timing constants are judged by, with the share of each: registers follow the cuts that delays
#: make, LUTs the law of the weights.
TIMED = {"latency_cycles": 1.0, "interval_cycles": 1.0, "dsp": 1.0, "ff": 0.5, "lut": 0.25}
TIMED_MODULES = {"latency_cycles": 1.0, "ff": 0.5}
#: Log error that one record's cycles are trusted to.
TIMING_NOISE = 0.3


@dataclass(frozen=True, kw_only=True)
class Raw:
    """Unfitted costs of all records of a data set.

    Attributes:
        batches: per batch, the records' indices and their costs; modules without what their caller holds.
        matrix: the same terms as matrix[target] = float[n, n_terms], columns named by `terms[target]`.
        terms: names of the terms per target.
        cycles: float[n] of latency_cycles and interval_cycles.
        strategy: int[n], code of MATVEC_STRATEGIES or len(MATVEC_STRATEGIES).
        is_spatial: bool[n], has convolution, pooling or recurrence.
        is_prior: bool[n], weights unknown somewhere.
    """

    batches: tuple[tuple[NDArray[np.intp], RawCosts], ...]
    matrix: Mapping[str, Array]
    terms: Mapping[str, tuple[str, ...]]
    cycles: Mapping[str, Array]
    strategy: NDArray[np.int64]
    is_spatial: NDArray[np.bool_]
    is_prior: NDArray[np.bool_]


class Dataset:
    """Records that can be estimated, lowered once.

    Attributes:
        records, lowered: the kept records and their operations, aligned.
        rejected: (id, reason) of the others.
        groups: group of each record.
    """

    def __init__(
        self, records: Sequence[Record], *, stage: str = "csynth", with_modules: bool = True
    ) -> None:
        self.stage = stage
        self.records: list[Record] = []
        self.lowered: list[Lowered] = []
        self.rejected: list[tuple[str, str]] = []
        for record in records:
            identifier = str(record.id)
            if record.report(stage) is None:
                self.rejected.append((identifier, f"no {stage} report"))
                continue
            flags = [flag for flag in record.flags if flag in EXCLUDED_FLAGS]
            if flags:
                self.rejected.append((identifier, flags[0]))
                continue
            try:
                strategy_name(record)
                lowered = lower_record(record, only=record.layer_index)
            except (ModelError, UnsupportedError) as error:
                self.rejected.append((identifier, str(error)))
                continue
            self.records.append(record)
            self.lowered.append(lowered)
        self._drop_shared_reports()
        self.groups = np.array([group_of(record) for record in self.records], dtype=object)
        self.batches = batch_records(self.records, self.lowered)
        self._cache: dict[tuple[tuple[str, float], ...], Raw] = {}
        self._memory: dict[Hashable, Any] = {}
        self.modules, self.parent = None, np.zeros(0, dtype=np.intp)
        if with_modules and stage == "csynth":
            parts = [(i, x) for i, r in enumerate(self.records) for x in module_records(r)]
            if parts:
                self.modules = Dataset([x for _, x in parts], stage=stage, with_modules=False)
                owner = {str(x.id): i for i, x in parts}
                self.parent = np.array([owner[str(r.id)] for r in self.modules.records])

    def _drop_shared_reports(self) -> None:
        """Drop rows that carry one report under different networks: at most one of them is true."""
        owner: dict[tuple[object, ...], list[int]] = {}
        for i, record in enumerate(self.records):
            report = record.reports[self.stage]
            key = (record.source, record.tool_version, record.io_type,
                   *(report.value(metric) for metric in METRICS))  # fmt: skip
            owner.setdefault(key, []).append(i)
        drop: dict[int, str] = {}
        for rows in owner.values():
            families = {
                (self.records[i].family, str(self.records[i].model_precision)) for i in rows
            }
            if len(rows) > 1 and len(families) > 1:
                for i in rows:
                    other = next(j for j in rows if j != i)
                    drop[i] = (
                        f"reports the very figures of {self.records[other].id}, another network: at most one of "
                        "them is right"
                    )
        for i, record in enumerate(self.records):
            report = record.reports[self.stage]
            kernels = [layer for layer in record.layers if layer.type.startswith("Conv")]
            if len(kernels) >= 3 and (report.lut or 1e9) < 1000:
                drop[i] = (
                    f"counts {report.lut:,.0f} LUT for {len(kernels)} convolutions, as the report of one module would"
                )
            if record.io_type == "io_stream" and report.latency_cycles_max == 0:
                drop[i] = "reports 0 cycles, which no stream takes: the report of one module"
            interval, longest = report.interval_cycles_max or 0, _longest_schedule(record)
            if (
                interval > 4 * longest + 1000
            ):  # loops that were not unrolled (hls4ml's old io_serial)
                law = _longest_schedule(record, start=0.0)
                drop[i] = (
                    f"its interval of {interval:,.0f} cycles contradicts the law's {law:,.0f} by "
                    f"{interval / law:.0f}x"
                )
        if any(record.layer_index is not None for record in self.records):
            return
        self.rejected += [(str(self.records[i].id), drop[i]) for i in sorted(drop)]
        keep = [i for i in range(len(self.records)) if i not in drop]
        self.records = [self.records[i] for i in keep]
        self.lowered = [self.lowered[i] for i in keep]

    def __len__(self) -> int:
        return len(self.records)

    @cached_property
    def reported(self) -> dict[str, Array]:
        """What the tool said: float[n] per metric, NaN where it is missing."""
        result = {}
        for metric in METRICS:
            values = [record.reports[self.stage].value(metric) for record in self.records]
            result[metric] = np.array([np.nan if v is None else float(v) for v in values])
        return result

    def timing(
        self, rows: NDArray[np.intp], start: Mapping[str, float], kinds: Sequence[str]
    ) -> dict[str, float]:
        """Return the timing constants that fit `rows` best, from `start`; kept, since several recipes ask."""
        key = (rows.tobytes(), tuple(sorted(start.items())), tuple(kinds))
        return dict(self.remembered(key, lambda: fit_timing(self, rows, start, kinds)))

    def remembered(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """Return what `make` gave the first time that this key was asked for."""
        if key not in self._memory:
            self._memory[key] = make()
        known: _T = self._memory[key]
        return known

    @cached_property
    def trusted(self) -> dict[str, Array]:
        """What a fit sees of `reported`: all of it, but for what `distrust` took out."""
        return {metric: values.copy() for metric, values in self.reported.items()}

    def distrust(self, metric: str, rows: NDArray[np.bool_]) -> None:
        """Keep the reports of a metric in some records (bool[n]) out of every fit."""
        self.trusted[metric][rows] = np.nan

    @cached_property
    def weights(self) -> Array:
        """Weight of each record: its group's size to the power -1/2."""
        _, inverse, counts = np.unique(self.groups, return_inverse=True, return_counts=True)
        return 1.0 / np.sqrt(counts[inverse])

    @cached_property
    def keys(self) -> list[tuple[str, ...]]:
        """Offset keys of each record."""
        names: list[tuple[str, ...]] = [()] * len(self)
        for rows, batch in self.batches:
            found = raw_costs(batch, {}).keys.names
            for i in rows:
                names[i] = found
        return names

    def raw(self, timing: Mapping[str, float]) -> Raw:
        """Evaluate the laws on all records; cached per set of timing constants."""
        key = tuple(sorted(timing.items()))
        if key not in self._cache:
            if len(self._cache) > 200:
                self._cache.clear()
            self._cache[key] = self._evaluate(timing)
        return self._cache[key]

    def _evaluate(self, timing: Mapping[str, float]) -> Raw:
        n = len(self)
        columns: dict[str, dict[str, Array]] = {target: {} for target in RESOURCES}
        cycles = {"latency_cycles": np.zeros(n), "interval_cycles": np.zeros(n)}
        batches: list[tuple[NDArray[np.intp], RawCosts]] = []
        strategy = np.zeros(n, dtype=np.int64)
        is_spatial, is_prior = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
        for rows, batch in self.batches:
            costs = replace(raw_costs(batch, timing), ops=())
            if self.records[rows[0]].layer_index is not None:
                costs = _of_modules(costs)
            batches.append((rows, costs))
            for target in RESOURCES:
                for term, value in costs.terms[target].items():
                    columns[target].setdefault(term, np.zeros(n))[rows] = value
            cycles["latency_cycles"][rows] = costs.latency_cycles
            cycles["interval_cycles"][rows] = costs.interval_cycles
            strategy[rows] = costs.strategy
            is_spatial[rows] = costs.is_spatial
            is_prior[rows] = costs.is_prior
        return Raw(
            batches=tuple(batches),
            matrix={
                target: np.stack(list(columns[target].values()), axis=1)
                if columns[target]
                else np.zeros((n, 0))
                for target in RESOURCES
            },
            terms={target: tuple(columns[target]) for target in RESOURCES},
            cycles=cycles,
            strategy=strategy,
            is_spatial=is_spatial,
            is_prior=is_prior,
        )

    def key_matrix(
        self, raw: Raw, unique: Sequence[str] | None = None
    ) -> tuple[Array, tuple[str, ...]]:
        """Return 0/1 float[n, n_keys] of offset keys, strategies included, and the keys.

        Args:
            raw: costs of this data set.
            unique: keys to use as columns; those of this data set by default.
        """
        names = [
            (
                *keys,
                *(
                    (f"strategy={MATVEC_STRATEGIES[code]}",)
                    if code < len(MATVEC_STRATEGIES)
                    else ()
                ),
            )
            for keys, code in zip(self.keys, raw.strategy, strict=True)
        ]
        columns = tuple(
            sorted({key for keys in names for key in keys}) if unique is None else unique
        )
        column = {key: j for j, key in enumerate(columns)}
        matrix = np.zeros((len(self), len(columns)))
        for i, keys in enumerate(names):
            for key in keys:
                if key in column:
                    matrix[i, column[key]] = 1.0
        return matrix, columns


def _of_modules(costs: RawCosts) -> RawCosts:
    """Return the costs of modules: without the registers that belong to the function that calls them."""
    outside = (*EXACT_TERMS, *OUTSIDE_MODULES)
    terms = {
        target: {
            term: np.zeros_like(amount) if term in outside else amount
            for term, amount in known.items()
        }
        for target, known in costs.terms.items()
    }
    return replace(costs, terms=terms)


def _longest_schedule(record: Record, start: float = 100.0) -> float:
    """Return the cycles of the slowest layer with unrolled inner loops: every pixel, every reuse and `start` cycles."""
    longest = 1.0
    for layer in record.layers:
        shape = layer.in_shape or ()
        pixels = math.prod(shape[:-1]) if len(shape) > 1 else 1
        longest = max(longest, pixels * (float(layer.reuse_factor or 1) + start))
    return longest


def _huber(residual: Array) -> tuple[Array, Array]:
    """Return pseudo-Huber loss and its derivative."""
    scaled = residual / HUBER
    root = np.sqrt(1 + scaled**2)
    return HUBER**2 * (root - 1), residual / root


def fit_target(
    matrix: Array,
    keys: Array,
    key_names: Sequence[str],
    reported: Array,
    weights: Array,
    start: Array | None = None,
    exact: Array | float = 0.0,
    noise: float = NOISE,
    priors: Array | None = None,
    offset_scale: float = 1.0,
) -> tuple[Array, Array]:
    """Fit log factors of terms and log offsets of keys for one target.

    minimise  sum w huber(log((value + 1) / (reported + 1))) / NOISE^2
              + sum (log factor / FACTOR_PRIOR)^2 / 2 + sum (offset / OFFSET_PRIOR)^2 / 2
    with value = exact + (matrix @ exp(log factor)) * exp(keys @ offset).

    Args:
        matrix: float[n, n_terms], at least 0.
        keys: float[n, n_keys] of 0 and 1.
        key_names: names of the keys, "kind=value".
        reported: float[n].
        weights: float[n].
        start: log factors and offsets to shrink to, float[n_terms + n_keys]; zeros (the law) by default.
        exact: float[n], part of the value that is counted and takes no factor.
        noise: log error that one record of weight 1 is trusted to.
        priors: float[n_terms], prior widths of the log factors; `FACTOR_PRIOR` by default.
        offset_scale: multiplies the prior widths of all offsets.

    Returns:
        log factors float[n_terms], offsets float[n_keys].
    """
    n_terms = matrix.shape[1]
    width = offset_scale * np.array([OFFSET_PRIOR[name.split("=")[0]] for name in key_names])
    target = np.log1p(reported)
    centre = np.zeros(n_terms + len(key_names)) if start is None else start
    prior = np.concatenate([np.full(n_terms, FACTOR_PRIOR) if priors is None else priors, width])

    def loss(parameters: Array) -> tuple[float, Array]:
        factor, offset = np.exp(parameters[:n_terms]), parameters[n_terms:]
        linear = matrix @ factor
        scale = np.exp(keys @ offset)
        scaled = linear * scale
        value = exact + scaled
        value_loss, slope = _huber(np.log1p(value) - target)
        weighted = weights * slope / noise**2 / (value + 1)
        gradient = np.concatenate(
            [matrix.T @ (weighted * scale) * factor, keys.T @ (weighted * scaled)]
        )
        distance = (parameters - centre) / prior
        gradient += distance / prior
        total = weights @ value_loss / noise**2 + 0.5 * np.sum(distance**2)
        return float(total), gradient

    bounds = [(-3.0, 3.0)] * n_terms + [(-np.log(2), np.log(2))] * len(key_names)
    result = minimize(
        loss, centre, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 300}
    )
    return result.x[:n_terms], result.x[n_terms:]


def _misfit(
    dataset: Dataset,
    rows: NDArray[np.intp],
    weights: Array,
    timing: Mapping[str, float],
    targets: Mapping[str, float],
) -> float:
    """Return the weighted loss of `targets` (each with its share) on `rows`, before any factor."""
    raw = dataset.raw(timing)
    total = 0.0
    for target, share in targets.items():
        cycles = target in raw.cycles
        predicted = raw.cycles[target] if cycles else raw.matrix[target].sum(axis=1)
        reported = dataset.trusted[target][rows]
        known = ~np.isnan(reported)
        loss, _ = _huber(np.log1p(predicted[rows][known]) - np.log1p(reported[known]))
        total += share * float(weights[rows][known] @ loss) / TIMING_NOISE**2
    return total


def _timing_loss(
    dataset: Dataset,
    rows: NDArray[np.intp],
    timing: Mapping[str, float],
    centre: Mapping[str, float],
) -> float:
    total = _misfit(dataset, rows, dataset.weights, timing, TIMED)
    if dataset.modules is not None:
        parts = np.flatnonzero(np.isin(dataset.parent, rows))
        n_modules = np.bincount(dataset.parent, minlength=len(dataset))
        share = dataset.weights[dataset.parent] / n_modules[dataset.parent]
        total += _misfit(dataset.modules, parts, share, timing, TIMED_MODULES)
    for name in {*timing, *centre}:
        if name.split("|")[0] in _ADDITIVE:
            distance = timing.get(name, 0.0) - centre.get(name, 0.0)
        else:
            distance = float(np.log(timing.get(name, 1.0) / centre.get(name, 1.0))) / TIMING_PRIOR
        total += 0.5 * distance**2
    return total


def fit_timing(
    dataset: Dataset,
    rows: NDArray[np.intp],
    start: Mapping[str, float] | None = None,
    kinds: Sequence[str] = ALL_TIMING,
) -> dict[str, float]:
    """Choose the timing constants of some kinds on `rows` by coordinate descent over their grids, from `start`."""
    timing: dict[str, float] = dict(start or {})
    centre = dict(timing)
    best = _timing_loss(dataset, rows, timing, centre)
    for _ in range(2):
        changed = False
        for name, grid in TIMING_GRID.items():
            for value in grid if name.split("|")[0] in kinds else ():
                candidate = {**timing, name: value}
                neutral = 0.0 if name.split("|")[0] in _ADDITIVE else 1.0
                if value == neutral:
                    candidate.pop(name)
                if candidate == timing:
                    continue
                loss = _timing_loss(dataset, rows, candidate, centre)
                if loss < best - 1e-9:
                    best, timing, changed = loss, candidate, True
        if not changed:
            break
    return timing


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a fit may change, and how much it trusts a record.

    Attributes:
        noise: noise[target] = log error that one record is trusted to; a target without keeps the base's
            factors and offsets.
        timing: kinds of timing constants that are chosen anew.
    """

    noise: Mapping[str, float]
    timing: Sequence[str] = ALL_TIMING


def is_refinement(base: Coefficients) -> bool:
    """Say whether a fit on top of `base` is a user's refinement, not a fit of the bare laws."""
    return bool(base.factors)


def default_recipe(base: Coefficients) -> Recipe:
    """Return the recipe before anything was held out."""
    if is_refinement(base):
        return Recipe(noise={target: USER_NOISE[0] for target in SCALED_BY_USER})
    return Recipe(noise={target: NOISE for target in SCALED})


def fit(
    dataset: Dataset,
    rows: NDArray[np.intp],
    base: Coefficients | None = None,
    recipe: Recipe | None = None,
) -> Coefficients:
    """Fit every coefficient on `rows`, shrunk to `base` (the bare laws by default).

    Fitted coefficients as `base` make it a refinement by a user's own reports: each is trusted more.

    Intervals and provenance are left to the caller.
    """
    shrink_to = Coefficients() if base is None else base
    refines = is_refinement(shrink_to)
    recipe = default_recipe(shrink_to) if recipe is None else recipe
    weights = np.ones(len(dataset)) if refines else dataset.weights
    timing = dict(shrink_to.timing)
    if recipe.timing:
        timing = dataset.timing(rows, shrink_to.timing, recipe.timing)
    raw = dataset.raw(timing)
    keys, names = dataset.key_matrix(raw)
    factors = {target: dict(known) for target, known in shrink_to.factors.items()}
    offsets = {target: dict(known) for target, known in shrink_to.offsets.items()}
    for target, noise in recipe.noise.items():
        found = _observations(dataset, rows, timing, target, weights, names)
        if found is None:
            continue
        matrix, terms, key_rows, reported, row_weights = found
        if not terms:  # no design has anything that could hold a memory
            continue
        is_exact = np.array([term in EXACT_TERMS for term in terms])
        used = np.flatnonzero(matrix.any(axis=0) & ~is_exact)
        present = np.flatnonzero(key_rows.any(axis=0))
        log_factor, offset = fit_target(
            matrix[:, used],
            key_rows[:, present],
            [names[j] for j in present],
            reported,
            row_weights,
            np.array(
                [np.log(shrink_to.factor(target, terms[j])) for j in used]
                + [shrink_to.offsets.get(target, {}).get(names[j], 0.0) for j in present]
            ),
            matrix[:, is_exact].sum(axis=1),
            noise,
            np.array([_prior_width(terms[j]) for j in used]),
            USER_OFFSETS if refines else 1.0,
        )
        factors.setdefault(target, {}).update(
            {terms[j]: float(np.exp(v)) for j, v in zip(used, log_factor, strict=True)}
        )
        offsets.setdefault(target, {}).update(
            {names[j]: float(v) for j, v in zip(present, offset, strict=True)}
        )
    seen = dict(shrink_to.seen)
    for j, name in enumerate(names):
        if keys[rows, j].any():
            seen[name] = seen.get(name, 0) + int(keys[rows, j].sum())
    ranges = dict(shrink_to.ranges)
    for name, (low, high) in fitted_ranges(dataset, rows).items():
        before = ranges.get(name, (low, high))
        ranges[name] = (min(low, before[0]), max(high, before[1]))
    return Coefficients(
        factors=factors,
        offsets=offsets,
        timing=timing,
        seen=seen,
        ranges=ranges,
    )


def _prior_width(term: str) -> float:
    if term in SOLVED_TERMS:
        return SOLVED_PRIOR
    return FIRM_PRIOR if term in FIRM_TERMS else FACTOR_PRIOR


def _observations(
    dataset: Dataset,
    rows: NDArray[np.intp],
    timing: Mapping[str, float],
    target: str,
    weights: Array,
    names: Sequence[str],
) -> tuple[Array, tuple[str, ...], Array, Array, Array] | None:
    """Return what the fit of one target sees: `rows` that report it, and their modules below them.

    Returns:
        terms float[k, n_terms] and their names, keys float[k, n_keys], reported values float[k],
        weights float[k]; None when nothing reports the target.  All modules of a design weigh
        `MODULE_WEIGHT` times as much as the design.
    """
    raw = dataset.raw(timing)
    keys, _ = dataset.key_matrix(raw, names)
    known = rows[~np.isnan(dataset.trusted[target][rows])]
    if known.size == 0:
        return None
    matrix, terms = raw.matrix[target][known], raw.terms[target]
    key_rows, reported = keys[known], dataset.trusted[target][known]
    row_weights = weights[known]
    parts = dataset.modules
    if parts is not None and (chosen := np.flatnonzero(np.isin(dataset.parent, rows))).size:
        chosen = chosen[~np.isnan(parts.reported[target][chosen])]
        part_raw = parts.raw(timing)
        all_terms = (*terms, *(t for t in part_raw.terms[target] if t not in terms))
        column = {term: j for j, term in enumerate(all_terms)}
        below = np.zeros((chosen.size, len(all_terms)))
        below[:, [column[t] for t in part_raw.terms[target]]] = part_raw.matrix[target][chosen]
        matrix = np.vstack([np.pad(matrix, ((0, 0), (0, len(all_terms) - len(terms)))), below])
        terms = all_terms
        key_rows = np.vstack([key_rows, parts.key_matrix(part_raw, names)[0][chosen]])
        reported = np.concatenate([reported, parts.reported[target][chosen]])
        n_modules = np.bincount(dataset.parent[chosen], minlength=len(dataset))
        share = MODULE_WEIGHT * weights[dataset.parent[chosen]] / n_modules[dataset.parent[chosen]]
        row_weights = np.concatenate([row_weights, share])
    return matrix, terms, key_rows, reported, row_weights


def fitted_ranges(dataset: Dataset, rows: NDArray[np.intp]) -> dict[str, tuple[float, float]]:
    """Return the range of each parameter of matrix products among `rows`."""
    chosen = set(rows.tolist())
    values: dict[str, list[float]] = {}
    for i in chosen:
        for parameters in dataset.lowered[i].of("matvec"):
            for name in ("n_in", "n_out", "weight_bits", "input_bits", "reuse_factor"):
                values.setdefault(f"matvec.{name}", []).append(float(parameters[name]))
    return {name: (float(min(v)), float(max(v))) for name, v in values.items()}


def predict(dataset: Dataset, coefficients: Coefficients) -> dict[str, Array]:
    """Predict every metric of every record at the fitted stage, unrounded, float[n] each."""
    predicted = {metric: np.zeros(len(dataset)) for metric in METRICS}
    for rows, costs in dataset.raw(coefficients.timing).batches:
        for metric in METRICS:
            predicted[metric][rows] = fitted_value(costs, metric, coefficients)
    return predicted


def smape(reported: Array, predicted: Array) -> Array:
    """Return 200 |y - p| / (|y| + |p| + 1) per record, in per cent."""
    error: Array = 200 * np.abs(reported - predicted) / (np.abs(reported) + np.abs(predicted) + 1)
    return error
