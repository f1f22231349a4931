"""From operations to designs: sum what is summed, take the slowest of what runs side by side.

HLS, io_parallel: stages follow one another, operations of one stage run in parallel; the interval is
the largest interval.  HLS, io_stream: every operation runs at once (dataflow), so the slowest decides
and the others add their fill.  RTL (alkaid): one combinational graph, cut every few adder levels, and where groups of
an event take turns, one such graph per phase.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw_models.coefficients import Coefficients, load_coefficients, scope_name
from hw_models.errors import ModelError, UnsupportedError
from hw_models.families import (
    adder_levels_per_cycle,
    family_of,
    tool_key,
    usable_period_ns,
    version_number,
)
from hw_models.formula import RESOURCES, design_scale, error_floor, fitted_value
from hw_models.parts import capacity_of, fit_note, within
from hw_models.primitives import get_primitive
from hw_models.primitives.base import Array, Context, OpCost
from hw_models.primitives.matvec import RELAY
from hw_models.primitives.turns import is_barrier
from hw_models.types import (
    MATVEC_STRATEGIES,
    METRICS,
    SOLVED,
    DesignBatch,
    Estimate,
    HardwareMetrics,
    OpBatch,
)
from hw_models.units import pj_to_nj

#: Tools whose designs are plain adder-graph RTL.
RTL_TOOLS = ("alkaid", "yosys")
#: Tool stages that can be predicted.
PREDICTED_STAGES = ("csynth", "vsynth", "implemented")
#: Standard deviation (log) that unknown weights add, by target and strategy.  Latency: the spread of one
#: network trained in four repositories (1,450 to 3,317 DSPs, 85 to 117 thousand LUTs); distributed
#: arithmetic: the adder-graph law against solved graphs.
PRIOR_SPREAD = {
    "lut": {"latency": 0.14, "distributed_arithmetic": 0.085},
    "ff": {"latency": 0.14, "distributed_arithmetic": 0.21},
    "dsp": {"latency": 0.37},
}
#: Least log half-width of an interval that nothing proves.
LEAST_WIDTH = 0.05
#: What plain RTL has by construction, however far a design lies from what was fitted: it takes an input a
#: cycle (or as many cycles as its turns), and neither DSPs nor memory.
RTL_BY_CONSTRUCTION = ("interval_cycles", "dsp", "bram_18k")
#: Ratio of an interval's ends from which it says nothing.
NO_BASIS = 100.0
#: Two-sided 90 % quantile of the normal law.
_Z90 = 1.645
#: Targets that learned widths make uncertain where only the widest is known: all that weights cost.
WEIGHED = ("lut", "ff", "dsp")
#: Primitives that make a design spatial.
SPATIAL = ("window", "reduce", "recurrent")
#: Primitives that may work through an inference position by position.
SERIAL = ("matvec", "product")
_MIXED = len(MATVEC_STRATEGIES)


@dataclass(frozen=True, kw_only=True)
class Keys:
    """What a batch is keyed by when coefficients are resolved."""

    tool: str
    version: str
    family: str
    io_type: str

    @property
    def names(self) -> tuple[str, ...]:
        """Offset keys, from the most general to the most special."""
        version = (f"version={self.tool}:{self.version}",) if self.version else ()
        return (f"io={self.io_type}", f"tool={self.tool}", *version, f"family={self.family}")


@dataclass(frozen=True, kw_only=True)
class RawCosts:
    """Costs of a batch before any fitted factor: what the fit sees.

    Attributes:
        terms: terms[target][term] = float[n_designs].
        latency_cycles, interval_cycles: float[n_designs].
        energy_pj: float[n_designs].
        strategy: int[n_designs], code of MATVEC_STRATEGIES, or len(MATVEC_STRATEGIES) for a mix.
        is_prior: bool[n_designs], weights unknown somewhere.
        is_cut: bool[n_designs], the pipeline was cut already: its cycles are known.
        lut_scale: float[n_designs], what a solved graph makes of the operations' own sum.
        is_spatial: bool[n_designs], has convolution, pooling or recurrence.
        keys: of the batch.
        ops: per batch of operations, its costs and parameters.
    """

    terms: Mapping[str, Mapping[str, Array]]
    latency_cycles: Array
    interval_cycles: Array
    energy_pj: Array
    strategy: NDArray[np.int64]
    is_prior: NDArray[np.bool_]
    is_cut: NDArray[np.bool_]
    lut_scale: Array
    is_spatial: NDArray[np.bool_]
    keys: Keys
    ops: tuple[tuple[str, OpCost, Mapping[str, Array]], ...]


def _check(batch: DesignBatch) -> None:
    if batch.io_type not in ("io_parallel", "io_stream"):
        raise ModelError(
            f"io_type {batch.io_type!r}: expected 'io_parallel' or 'io_stream'; choose one"
        )
    if batch.clock_period_ns.shape != (batch.n_designs,) or batch.clock_uncertainty_ns.shape != (
        batch.n_designs,
    ):
        raise ModelError(
            f"clock arrays have shapes {batch.clock_period_ns.shape} and {batch.clock_uncertainty_ns.shape}, "
            f"expected ({batch.n_designs},); give one value per design"
        )
    if batch.n_designs and not np.all(batch.clock_period_ns > 0):
        raise ModelError(
            "clock_period_ns must be above 0 for every design; give the target in nanoseconds"
        )


def raw_costs(batch: DesignBatch, timing: Mapping[str, float]) -> RawCosts:
    """Evaluate every cost law and compose the designs, without fitted factors.

    Args:
        batch: the designs.
        timing: multipliers of timing constants.
    """
    _check(batch)
    tool, family = tool_key(batch.tool), family_of(batch.part)
    is_rtl, is_stream = tool in RTL_TOOLS, batch.io_type == "io_stream"
    n = batch.n_designs
    usable = usable_period_ns(batch.clock_period_ns, batch.clock_uncertainty_ns, tool)
    cutoff = adder_levels_per_cycle(batch.clock_period_ns, batch.part)
    # cycles from one layer to the next, the one of its register and what a user's flow adds
    handover = 1.0 + timing.get(f"boundary_cycles|{tool}", 0.0)
    n_stages = 1 + max((int(op.stage.max(initial=0)) for op in batch.ops), default=0)

    terms: dict[str, dict[str, Array]] = {name: {} for name in RESOURCES}
    latency = np.zeros(n * n_stages)
    depth = np.zeros(n * n_stages)
    interval = np.ones(n)
    slowest = np.zeros(n)
    fill = np.zeros(n)
    boundaries = np.zeros(n)
    stays = np.zeros(n, dtype=bool)
    n_shared = np.zeros(n)
    crossing = np.zeros(n)
    crossing_depth = np.zeros(n)
    energy = np.zeros(n)
    lowest, highest = np.full(n, _MIXED), np.full(n, -1)
    is_prior = np.zeros(n, dtype=bool)
    is_spatial = np.zeros(n, dtype=bool)
    input_bits = np.zeros(n)
    output_bits = np.zeros(n)
    is_dataflow = np.zeros(n, dtype=bool)
    waits = np.full(n * n_stages, np.nan)
    first, last = np.full(n, n_stages), np.full(n, -1)
    for op in batch.ops:
        np.minimum.at(first, op.design, op.stage)
        np.maximum.at(last, op.design, op.stage)
    costs: list[tuple[str, OpCost, Mapping[str, Array]]] = []

    for op in batch.ops:
        primitive = get_primitive(op.primitive)
        parameters = primitive.resolve(op.parameters, op.design.size)
        context = Context(
            usable_ns=usable[op.design],
            levels_per_cycle=cutoff[op.design],
            family=family,
            tool=tool,
            version=version_number(batch.tool_version),
            is_stream=is_stream,
            is_rtl=is_rtl,
            timing=timing,
        )
        cost = primitive.cost(parameters, context)
        costs.append((op.primitive, cost, parameters))
        if is_rtl:
            pass  # one graph of adders, whatever the layers were
        elif op.primitive in SPATIAL:
            is_spatial[op.design] = True
        elif "n_positions" in op.parameters:
            is_spatial[op.design[parameters["n_positions"] > 1]] = True
        if is_rtl:
            bits = np.where(op.stage == last[op.design], cost.output_bits, 0.0)
            output_bits += np.bincount(op.design, bits, minlength=n)
        elif not is_stream:
            bits = np.where(op.stage == first[op.design], cost.input_bits, 0.0)
            input_bits += np.bincount(op.design, bits, minlength=n)
            if op.primitive in SERIAL and (parameters["n_positions"] > 1).any():
                is_dataflow[op.design[parameters["n_positions"] > 1]] = True
        for target in RESOURCES:
            for term, value in getattr(cost, target).items():
                summed = np.bincount(op.design, value, minlength=n).astype(np.float64, copy=False)
                known = terms[target].get(term)
                terms[target][term] = summed if known is None else known + summed
        energy += np.bincount(
            op.design, np.broadcast_to(cost.energy_pj, op.design.shape), minlength=n
        )
        position = op.design * n_stages + op.stage
        if is_rtl:
            np.maximum.at(depth, position, cost.depth_levels)
            weight = cost.depth_levels + 1e-3
            crossing += np.bincount(op.design, cost.cut_bits * weight, minlength=n)
            crossing_depth += np.bincount(op.design, weight, minlength=n)
        elif is_stream:
            np.maximum.at(slowest, op.design, cost.latency_cycles - cost.fill)
            fill += np.bincount(op.design, cost.fill, minlength=n)
        else:
            boundary = cost.boundary_cycles
            shared = np.broadcast_to(cost.boundary_stays, op.design.shape)
            stays[op.design[shared]] = True
            n_shared += np.bincount(op.design[shared], minlength=n)
            boundaries += np.bincount(
                op.design, np.broadcast_to(boundary, op.design.shape), minlength=n
            )
            np.maximum.at(latency, position, cost.latency_cycles + boundary * handover)
        np.maximum.at(interval, op.design, cost.interval_cycles)
        if op.primitive == "turns":
            np.fmax.at(waits, position, is_barrier(parameters))
        if "strategy" in parameters:
            code = parameters["strategy"].astype(np.int64)
            np.minimum.at(lowest, op.design, code)
            np.maximum.at(highest, op.design, code)
            is_prior[op.design[np.broadcast_to(cost.prior, op.design.shape)]] = True

    is_cut, lut_scale = np.zeros(n, dtype=bool), np.ones(n)
    if is_rtl:
        cycles, waiting = _pipeline(depth.reshape(n, n_stages), waits.reshape(n, n_stages), cutoff)
        # alkaid registers every cut and the output, not the input
        cut = crossing / np.maximum(crossing_depth, 1e-3)
        terms["ff"]["rtl.pipeline"] = (cycles - 1) * cut
        terms["ff"]["rtl.output"] = output_bits
        total = cycles + waiting
        solved = {name: batch.solved.get(name, np.full(n, np.nan)) for name in SOLVED}
        lut_scale = _settle(terms["lut"], solved["adder_cost"], "distributed.graph")
        _settle(terms["ff"], solved["register_bits"], "rtl.registers")
        is_cut = ~np.isnan(solved["latency_cycles"])
        total = np.where(is_cut, solved["latency_cycles"], total)
        is_prior &= np.isnan(solved["adder_cost"])
    elif is_stream:
        terms["ff"].pop(RELAY, None)  # the streams are the registers
        total = fill + slowest
    else:
        # the boundary of a lone layer is the boundary of the design: no register of its own
        alone = boundaries == 1
        total = latency.reshape(n, n_stages).sum(axis=1) - (alone & ~stays)
        if family.is_slow:
            # a function that is not overlapped hands its result on within its last cycle, where the next one had
            # waited for it (three networks of two to four layers, reuse 1 against 2, 64 and 100)
            total = total - np.where(alone, 0, n_shared)
        # a lone function that is not overlapped has a cycle of its own around it
        interval = interval + (alone & stays)
        if RELAY in terms["ff"]:
            terms["ff"][RELAY] = np.where(boundaries == 1, 0.0, terms["ff"][RELAY])
        combinational = total == 0
        if combinational.any():
            # nothing but the input is registered (512 + 2 FF for 32 words of 16 bits)
            for term, value in terms["ff"].items():
                terms["ff"][term] = np.where(combinational, 0.0, value)
        terms["ff"]["design.input"] = input_bits + 2
        if is_dataflow.any():
            # layers that take several cycles run as processes: every value between two of them goes through a
            # FIFO of two words (a network of 3,200 such values: 100,000 LUT and FF outside its modules)
            between = np.zeros(n)
            for op, (_, cost, _) in zip(batch.ops, costs, strict=True):
                bits = np.where(op.stage == last[op.design], 0.0, cost.output_bits)
                between += np.bincount(op.design, 2.0 * bits * is_dataflow[op.design], minlength=n)
            terms["ff"]["dataflow.channels"] = between
            terms["lut"]["dataflow.channels"] = between
    return RawCosts(
        terms=terms,
        latency_cycles=total,
        interval_cycles=interval,
        energy_pj=energy,
        strategy=np.where(lowest == highest, lowest, _MIXED),
        is_prior=is_prior,
        is_cut=is_cut,
        lut_scale=lut_scale,
        is_spatial=is_spatial,
        keys=Keys(tool=tool, version=batch.tool_version, family=family.name, io_type=batch.io_type),
        ops=tuple(costs),
    )


def _pipeline(levels: Array, waits: Array, levels_per_cycle: Array) -> tuple[Array, Array]:
    """Cut designs into pipeline stages, each phase by itself.

    Args:
        levels: float[n_designs, n_stages], adder levels of each place along the data flow.
        waits: float[n_designs, n_stages], cycles that an event waits behind that place; NaN where no phase ends.
        levels_per_cycle: float[n_designs].

    Returns:
        Pipeline stages of all phases, and cycles of waiting between them, float[n_designs] each.
    """
    ends = ~np.isnan(waits)
    phase = np.cumsum(ends, axis=1) - ends
    cycles = np.zeros(len(levels))
    for number in range(int(phase.max(initial=0)) + 1):
        own = np.where(phase == number, levels, 0.0).sum(axis=1)
        stages = np.maximum(np.ceil(own / levels_per_cycle - 1e-9), 1.0)
        cycles += np.where(phase[:, -1] >= number, stages, 0.0)
    return cycles, np.nansum(waits, axis=1)


def _settle(terms: dict[str, Array], known: Array, term: str) -> Array:
    """Put what is known of each design (NaN: nothing) into one term in the place of all others.

    Returns:
        Known over the sum of the laws, float[n_designs]; 1 where nothing is known.
    """
    is_known = ~np.isnan(known)
    total = np.zeros_like(known)
    for name, value in terms.items():
        total = total + value
        terms[name] = np.where(is_known, 0.0, value)
    amount = np.nan_to_num(known)
    terms[term] = terms.get(term, np.zeros_like(known)) + amount
    return np.where(is_known, amount / np.maximum(total, 1e-9), 1.0)


def _interval_ends(
    raw: RawCosts, target: str, coefficients: Coefficients, extra: Array | float
) -> tuple[Array | float, Array | float]:
    """Return log offsets (low, high) per design, or scalars when all designs share a class."""
    names = [*MATVEC_STRATEGIES, "mixed"]
    table = np.array(
        [
            [coefficients.interval(target, name, raw.keys.io_type, kind) for name in names]
            for kind in ("dense", "spatial")
        ]
    )
    first = raw.strategy[0] if raw.strategy.size else _MIXED
    if np.all(raw.strategy == first) and not raw.is_spatial.any():
        ends = table[0, first]
    else:
        ends = table[raw.is_spatial.astype(np.intp), raw.strategy].T
    ends = np.broadcast_to(np.reshape(ends, (2, -1)), (2, raw.strategy.size))
    own = coefficients.own_intervals.get(target, {})
    if target in PRIOR_SPREAD and (own or not raw.is_prior.all()):
        spread = (
            _Z90 * np.array([PRIOR_SPREAD[target].get(name, 0.0) for name in names])[raw.strategy]
        )
        # exact weights take the prior's share out of the interval, at most half of it
        exact = np.sqrt(np.maximum(ends**2 - spread**2, 0.25 * ends**2)) * np.sign(ends)
        prior = ends
        if own:
            classes = np.array(
                [
                    [coefficients.interval_class(target, n, raw.keys.io_type, kind) for n in names]
                    for kind in ("dense", "spatial")
                ]
            )[raw.is_spatial.astype(np.intp), raw.strategy]
            # a user's interval is as narrow as his weights make it: unknown ones put their share back
            wider = np.hypot(ends, spread) * np.where(ends == 0, [[-1.0], [1.0]], np.sign(ends))
            exact = np.where([name in own for name in classes], ends, exact)
            prior = np.where([own.get(name, False) for name in classes], wider, ends)
        ends = np.where(raw.is_prior, prior, exact)
    if target == "latency_cycles" and raw.is_cut.any():
        return (
            np.where(raw.is_cut, 0.0, ends[0] - extra),
            np.where(raw.is_cut, 0.0, ends[1] + extra),
        )
    return ends[0] - extra, ends[1] + extra


def _unseen(raw: RawCosts, coefficients: Coefficients) -> list[str]:
    """Return the keys of the batch that no fitted record had (empty when nothing was fitted)."""
    if not coefficients.seen:
        return []
    return [key for key in raw.keys.names if key not in coefficients.seen]


def _out_of_range(
    batch: DesignBatch, raw: RawCosts, coefficients: Coefficients
) -> tuple[Array, list[tuple[str, NDArray[np.int64], Array, Array, float]]]:
    """Measure how far parameters of matvec operations lie outside the fitted range.

    Returns:
        float[n], the largest log distance; and per parameter that is out: its name, designs,
        values, log distances, and the end of the range that was crossed.
    """
    distance = np.zeros(batch.n_designs)
    details = []
    for op, (name, _, parameters) in zip(batch.ops, raw.ops, strict=True):
        for key, (low, high) in coefficients.ranges.items():
            primitive, _, parameter = key.partition(".")
            if primitive != name:
                continue
            value = parameters[parameter]
            rows = np.flatnonzero((value > high) | (value < low))
            if rows.size:
                outside = np.maximum(value[rows], 1e-9)
                out = np.maximum(np.log(outside / high), np.log(low / outside))
                np.maximum.at(distance, op.design[rows], out)
                details.append(
                    (
                        key,
                        op.design[rows],
                        value[rows],
                        out,
                        low if value[rows[0]] < low else high,
                    )
                )
    return distance, details


def widened_by(
    batch: DesignBatch, raw: RawCosts, coefficients: Coefficients
) -> tuple[dict[str, Array | float], list[tuple[str, NDArray[np.int64], Array, Array, float]]]:
    """Return by how much the intervals of each target widen (log), by distance from what was fitted.

    Tools, versions and families that no fitted record had, parameters outside the fitted range, recurrent layers
    (a class of their own would have too few authors), and learned widths of which only the widest is known.

    Returns:
        Per target one number or float[n_designs], and the parameters out of range, as `_out_of_range` gives them.
    """
    widening = coefficients.widening
    common: Array | float = sum(
        widening.get(key.split("=")[0], 0.3) for key in _unseen(raw, coefficients)
    )
    distance, details = _out_of_range(batch, raw, coefficients)
    if distance.any():
        common = common + widening.get("range", 0.5) * distance
    is_widest = np.zeros(batch.n_designs)
    for op, (name, _, parameters) in zip(batch.ops, raw.ops, strict=True):
        if name == "recurrent":
            rare = np.bincount(op.design, minlength=batch.n_designs) > 0
            common = np.asarray(common + widening.get("recurrent", 0.5) * rare)
        if name == "matvec" and parameters["is_widest"].any():
            np.maximum.at(is_widest, op.design, parameters["is_widest"])
    learned = common + widening.get("learned", 1.0) * is_widest if is_widest.any() else common
    return {target: learned if target in WEIGHED else common for target in METRICS}, details


def estimate(
    batch: DesignBatch,
    coefficients: Coefficients | None = None,
    *,
    stage: str = "csynth",
    with_notes: bool = False,
    with_per_op: bool = False,
) -> HardwareMetrics:
    """Predict what a population of designs costs.

    Args:
        batch: the designs.
        coefficients: fitted numbers; those shipped with the package by default.
        stage: tool stage whose report is predicted: "csynth", "vsynth" or "implemented".
        with_notes: also say, per design, what the estimate rests on (slower).
        with_per_op: also return each operation's contribution, in the order of `batch.ops`.

    Returns:
        One value and 90 % interval per metric and design; never negative.

    Raises:
        ModelError: the batch is malformed.
        UnsupportedError: a primitive, part, tool or stage that no law covers.
    """
    if stage not in PREDICTED_STAGES:
        raise UnsupportedError(
            f"stage {stage!r} cannot be predicted; expected one of {', '.join(PREDICTED_STAGES)}"
        )
    fitted = load_coefficients() if coefficients is None else coefficients
    known = _with_known_version(batch, fitted)
    raw = raw_costs(known, fitted.timing)
    spoken_for = _spoken_for(raw, fitted)
    if spoken_for.all():
        return _estimate(known, raw, fitted, stage, with_notes, with_per_op)
    outside = estimate(
        batch, fitted.outside, stage=stage, with_notes=with_notes, with_per_op=with_per_op
    )
    note = f"outside your calibration ({_speaks_for(fitted)}): estimated without it"
    if with_notes:
        notes = tuple(
            own if inside else (note, *own)
            for own, inside in zip(outside.notes, spoken_for, strict=True)
        )
        outside = replace(outside, notes=notes)
    if not spoken_for.any():
        return outside
    inside = _estimate(known, raw, fitted, stage, with_notes, with_per_op)
    return _joined(batch, inside, outside, spoken_for)


def _with_known_version(batch: DesignBatch, coefficients: Coefficients) -> DesignBatch:
    """Take an unknown version of the tool as the one that the coefficients were calibrated on, if it is one."""
    tools = coefficients.provenance.get("speaks_for", {}).get("tools", ())
    versions = [
        v for t, _, v in (str(name).partition(" ") for name in tools) if t == tool_key(batch.tool)
    ]
    if batch.tool_version or len(versions) != 1:
        return batch
    return replace(batch, tool_version=versions[0])


def _spoken_for(raw: RawCosts, coefficients: Coefficients) -> NDArray[np.bool_]:
    """Say for each design whether the coefficients were fitted to designs of its kind, bool[n]."""
    if not coefficients.scope:
        return np.ones(raw.strategy.size, dtype=bool)
    scope = set(coefficients.scope)
    names = [*MATVEC_STRATEGIES, "mixed"]
    known = np.array(
        [
            [
                scope_name(raw.keys.tool, raw.keys.family, raw.keys.io_type, kind, strategy)
                in scope
                for strategy in names
            ]
            for kind in ("dense", "spatial")
        ]
    )
    # a mix of strategies that are known one by one
    known[:, _MIXED] |= known[:, :_MIXED].sum(axis=1) >= 2
    spoken_for: NDArray[np.bool_] = known[raw.is_spatial.astype(np.intp), raw.strategy]
    return spoken_for


def _speaks_for(coefficients: Coefficients) -> str:
    """Say in words for which designs coefficients speak."""
    return "; ".join(
        f"{what} {', '.join(map(str, names))}"
        for what, names in coefficients.provenance.get("speaks_for", {}).items()
    )


def _joined(
    batch: DesignBatch,
    inside: HardwareMetrics,
    outside: HardwareMetrics,
    is_inside: NDArray[np.bool_],
) -> HardwareMetrics:
    """Take each design from one of two estimates of the same batch."""
    designs: dict[str, list[NDArray[np.int64]]] = {}
    for op in batch.ops if inside.per_op else ():
        designs.setdefault(op.primitive, []).append(op.design)
    return HardwareMetrics(
        stage=inside.stage,
        metrics={
            name: Estimate(
                **{
                    end: np.where(
                        is_inside, getattr(inside.metrics[name], end), getattr(other, end)
                    )
                    for end in ("value", "low", "high")
                }
            )
            for name, other in outside.metrics.items()
        },
        clock_period_ns=np.where(is_inside, inside.clock_period_ns, outside.clock_period_ns),
        energy_nj=np.where(is_inside, inside.energy_nj, outside.energy_nj),
        utilization={
            name: np.where(is_inside, inside.utilization[name], value)
            for name, value in outside.utilization.items()
        },
        notes=tuple(
            a if own else b
            for a, b, own in zip(inside.notes, outside.notes, is_inside, strict=True)
        ),
        per_op={
            name: {
                metric: np.where(
                    is_inside[np.concatenate(rows)], inside.per_op[name][metric], value
                )
                for metric, value in outside.per_op[name].items()
            }
            for name, rows in designs.items()
        },
    )


def _estimate(
    batch: DesignBatch,
    raw: RawCosts,
    fitted: Coefficients,
    stage: str,
    with_notes: bool,
    with_per_op: bool,
) -> HardwareMetrics:
    """Estimate a batch, all of it with the same coefficients."""
    is_rtl = raw.keys.tool in RTL_TOOLS
    extra, details = widened_by(batch, raw, fitted)

    metrics: dict[str, Estimate] = {}
    for target in METRICS:
        value = fitted_value(raw, target, fitted)
        proven = is_rtl and target in RTL_BY_CONSTRUCTION
        far = extra[target]
        low, high = (0.0, 0.0) if proven else _interval_ends(raw, target, fitted, far)
        step = _stage_step(fitted, stage, target, is_rtl)
        value = value * step["factor"]
        low, high = low + step["low"], high + step["high"]
        whole = np.maximum(np.rint(value), 0.0)
        if target == "interval_cycles":
            whole = np.maximum(whole, 1.0)
        # the floor keeps an interval around zero
        floor = error_floor(target, is_rtl=is_rtl)
        low, high = _not_of_zero_width(raw, target, low, high, is_rtl)
        metrics[target] = Estimate(
            value=whole,
            low=np.clip(
                np.floor((value + floor) * np.exp(low) - floor),
                float(target == "interval_cycles"),
                whole,
            ),
            high=np.maximum(np.ceil((value + floor) * np.exp(high) - floor), whole),
        )
    capacity = capacity_of(batch.part)
    utilization: dict[str, Array] = {}
    if capacity is not None:
        if stage != "csynth":
            metrics.update(within(metrics, capacity))
        utilization = {r: metrics[r].value / capacity[r] for r in RESOURCES}
    clock = _achieved_clock(batch, metrics["lut"].value, fitted, stage, is_rtl)
    return HardwareMetrics(
        stage=stage,
        metrics=metrics,
        clock_period_ns=clock,
        energy_nj=pj_to_nj(raw.energy_pj) * fitted.energy_scale,
        notes=tuple(
            (*sentences, fit_note(batch.part, utilization, stage, i))
            for i, sentences in enumerate(_notes(batch, raw, fitted, details, metrics))
        )
        if with_notes
        else ((),) * batch.n_designs,
        utilization=utilization,
        per_op=_per_op(batch, raw, fitted) if with_per_op else {},
    )


def _not_of_zero_width(
    raw: RawCosts, target: str, low: Array | float, high: Array | float, is_rtl: bool
) -> tuple[Array | float, Array | float]:
    """Widen log ends to `LEAST_WIDTH` where nothing proves the value: a cut pipeline does, and plain RTL as such."""
    if is_rtl and target in RTL_BY_CONSTRUCTION:
        return low, high
    least = LEAST_WIDTH
    if target == "latency_cycles":
        return (
            np.where(raw.is_cut, low, np.minimum(low, -least)),
            np.where(raw.is_cut, high, np.maximum(high, least)),
        )
    return np.minimum(low, -least), np.maximum(high, least)


def _stage_step(
    coefficients: Coefficients, stage: str, target: str, is_rtl: bool
) -> Mapping[str, float]:
    """Return factor and interval offsets from the native stage (csynth; adder graph in RTL) to `stage`."""
    steps = coefficients.stages.get(f"rtl:{stage}" if is_rtl else stage, {})
    return steps.get(target, {"factor": 1.0, "low": 0.0, "high": 0.0})


def _achieved_clock(
    batch: DesignBatch, lut: Array, coefficients: Coefficients, stage: str, is_rtl: bool
) -> Array:
    """Return the clock that is expected to be met: the target at csynth; after routing, slower when large.

    achieved_ns = max(target, a + b * log2(LUT / 1e4)), constants from post-route designs of one family.
    """
    law = coefficients.achieved_clock
    if stage != "implemented" or not is_rtl or not law:
        return batch.clock_period_ns.copy()
    routed = law["a_ns"] + law["b_ns"] * np.log2(np.maximum(lut, 1.0) / 1e4)
    return np.maximum(batch.clock_period_ns, routed)


def _notes(
    batch: DesignBatch,
    raw: RawCosts,
    coefficients: Coefficients,
    details: list[tuple[str, NDArray[np.int64], Array, Array, float]],
    metrics: Mapping[str, Estimate],
) -> tuple[tuple[str, ...], ...]:
    """Write, per design, what a reader must know."""
    common: list[str] = []
    if not coefficients.provenance:
        common.append(
            "no calibration: every factor is the law's own, intervals are a factor of three"
        )
    unseen = _unseen(raw, coefficients)
    if unseen:
        common.append(f"not in the fitted records: {', '.join(unseen)}; the interval is wider")
    speaks_for = coefficients.provenance.get("speaks_for", {})
    version = f"{raw.keys.tool} {raw.keys.version}".strip()
    if coefficients.scope and not (
        version in speaks_for.get("tools", ()) and batch.part in speaks_for.get("parts", ())
    ):
        common.append(f"calibrated on {_speaks_for(coefficients)}; this is {version}, {batch.part}")
    notes: list[list[str]] = [list(common) for _ in range(batch.n_designs)]
    for i in np.flatnonzero(raw.is_prior):
        notes[i].append(
            "weights unknown: multipliers and constants come from a prior on the weights"
        )
    for key, designs, values, distance, end in details:
        for i, value, far in zip(designs, values, distance, strict=True):
            notes[i].append(
                f"{key} = {value:g} lies outside the fitted range (end {end:g}, factor {np.exp(far):.2g} away); "
                "the interval is wider"
            )
    if any(name == "recurrent" for name, _, _ in raw.ops):
        for sentences in notes:
            sentences.append("recurrent layers: only a handful of reports support this law")
    for name, known in metrics.items():
        floor = error_floor(name, is_rtl=raw.keys.tool in RTL_TOOLS)
        span = (known.high + floor) / (known.low + floor)
        for i in np.flatnonzero(span > NO_BASIS):
            notes[i].append(
                f"no basis for {name}: its interval spans a factor of {span[i]:,.0f}; nothing like this design was "
                "fitted, take the value as an order of magnitude"
            )
    return tuple(tuple(dict.fromkeys(sentences)) for sentences in notes)


def _per_op(
    batch: DesignBatch, raw: RawCosts, coefficients: Coefficients
) -> dict[str, dict[str, Array]]:
    """Collect each operation's fitted contribution, operations of one primitive joined in batch order."""
    joined: dict[str, dict[str, list[Array]]] = {}
    for op, (name, cost, _) in zip(batch.ops, raw.ops, strict=True):
        rows = joined.setdefault(name, {metric: [] for metric in METRICS})
        rows["latency_cycles"].append(cost.latency_cycles)
        rows["interval_cycles"].append(cost.interval_cycles)
        for target in RESOURCES:
            scale = np.broadcast_to(design_scale(raw, target, coefficients), raw.strategy.shape)
            total = np.zeros_like(cost.latency_cycles)
            for term, value in getattr(cost, target).items():
                total = total + coefficients.factor(target, term) * scale[op.design] * value
            if target == "lut":
                total = total * raw.lut_scale[op.design]
            rows[target].append(total)
    return {name: {k: np.concatenate(v) for k, v in rows.items()} for name, rows in joined.items()}


def operation_shares(
    ops: Sequence[OpBatch], per_op: Mapping[str, Mapping[str, Array]], n_designs: int
) -> list[tuple[dict[str, Any], ...]]:
    """Return, per design, what each of its operations contributes, in order of their stages.

    Args:
        ops: operations of the designs.
        per_op: contributions, as `estimate` returns them for these operations.
        n_designs: how many designs.

    Returns:
        Rows of "primitive", "stage", "origin" (None where the batch has none) and one number per metric.
    """
    rows: list[list[dict[str, Any]]] = [[] for _ in range(n_designs)]
    offset: dict[str, int] = {}
    for op in ops:
        start = offset.get(op.primitive, 0)
        for k, design in enumerate(op.design.tolist()):
            rows[design].append(
                {
                    "primitive": op.primitive,
                    "stage": int(op.stage[k]),
                    "origin": None if op.origin is None else int(op.origin[k]),
                    **{name: float(v[start + k]) for name, v in per_op[op.primitive].items()},
                }
            )
        offset[op.primitive] = start + op.design.size
    return [tuple(sorted(row, key=lambda r: int(r["stage"]))) for row in rows]
