"""Hardware scores of whole populations, and how far each candidate is from its budget."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from codesign.hardware.device import RESOURCES, Budget, Device
from codesign.hardware.learned_cost import LearnedCostModel, LearnedCosts
from codesign.hardware.turns import turns_of
from codesign.ir import FLOWS, IO_TYPES, Population, QuantizedNetwork
from codesign.layers import LAYERS, element_bits, typed
from codesign.layers.base import Site
from codesign.space import population_from_candidates
from hw_models.coefficients import Coefficients
from hw_models.compose import estimate, operation_shares
from hw_models.lowering import WEIGHT_FACTS
from hw_models.primitives.turns import KINDS
from hw_models.types import METRICS, SOLVED, DesignBatch, Estimate, OpBatch
from hw_models.units import cycles_to_ns
from hw_models.weights import csd_digits, weight_facts

if TYPE_CHECKING:
    import torch

Float = NDArray[np.float64]

#: The tool that builds a candidate of each flow.
TOOL_OF_FLOW = {"rtl": "alkaid", "hls": "vitis_hls"}
#: One-sided normal quantile that the ends of a 90 % interval stand for.
_Z90 = 1.6448536269514722


@dataclass(frozen=True, kw_only=True)
class HardwareScores:
    """Predicted cost of a population.

    Attributes:
        metrics: `Estimate` per name: latency_cycles, interval_cycles, latency_ns, interval_ns and
            the resources.
        clock_period_ns: float[n], the clock each candidate is expected to reach.
        energy_nj: float[n], NaN where no model applies.
        utilization: float[n], greatest share of the budget's region over all resources.
        stage: tool stage whose figures are predicted.
        notes: per candidate, sentences a reader must see; empty tuples unless asked for.
        per_node: per candidate the shares of its operations, as `operation_shares` returns them (an
            origin is the number of a node); empty unless asked for.
    """

    metrics: Mapping[str, Estimate]
    clock_period_ns: Float
    energy_nj: Float
    utilization: Float
    stage: str
    notes: tuple[tuple[str, ...], ...]
    per_node: tuple[tuple[Mapping[str, object], ...], ...]


@dataclass(frozen=True, kw_only=True)
class HardwareScorer:
    """Scores populations for one device.

    Attributes:
        device: where the design goes.
        stage: which tool stage to predict.
        coefficients: of the cost laws; None: those that ship.
        learned: predicts what networks will cost that learn their widths.
    """

    device: Device
    stage: str = "implemented"
    coefficients: Coefficients | None = None
    learned: LearnedCostModel = field(default_factory=lambda: LearnedCostModel.of(None, ()))

    def score(
        self, population: Population, *, with_notes: bool = False, with_nodes: bool = False
    ) -> HardwareScores:
        """Predict the cost of every candidate, all at once.

        Args:
            population: the candidates.
            with_notes: also say, per candidate, what the estimate rests on.
            with_nodes: also return each primitive operation's share.
        """
        costs = self.learned.predict(population, self.device.part)
        solved = {} if costs is None else costs.solved
        return self._score(population, solved, costs, with_notes=with_notes, with_nodes=with_nodes)

    def _score(
        self,
        population: Population,
        solved: Mapping[str, Float],
        costs: LearnedCosts | None,
        *,
        with_notes: bool,
        with_nodes: bool,
    ) -> HardwareScores:
        n = population.n_candidates
        ops = lower(population)
        values = {name: np.empty((3, n)) for name in METRICS}
        clock, energy = np.empty(n), np.empty(n)
        notes: list[tuple[str, ...]] = [()] * n
        per_node: list[tuple[Mapping[str, object], ...]] = [()] * n
        for members, batch in design_batches(population, ops, self.device, solved):
            metrics = estimate(
                batch,
                self.coefficients,
                stage=self.stage,
                with_notes=with_notes,
                with_per_op=with_nodes,
            )
            for name in METRICS:
                known = metrics.metrics[name]
                values[name][:, members] = known.value, known.low, known.high
            clock[members] = metrics.clock_period_ns
            energy[members] = metrics.energy_nj
            if with_notes:
                for i, sentences in zip(members, metrics.notes, strict=True):
                    notes[i] = sentences
            if with_nodes:
                for i, rows in zip(
                    members,
                    operation_shares(batch.ops, metrics.per_op, members.size),
                    strict=True,
                ):
                    per_node[i] = rows
        if costs is not None:
            _widen(values, costs)
        estimates = {name: Estimate(value=v[0], low=v[1], high=v[2]) for name, v in values.items()}
        for source, target in (
            ("latency_cycles", "latency_ns"),
            ("interval_cycles", "interval_ns"),
        ):
            known = estimates[source]
            estimates[target] = Estimate(
                **{
                    end: cycles_to_ns(getattr(known, end), clock)
                    for end in ("value", "low", "high")
                }
            )
        region = {r: float(getattr(self.device, r)) / self.device.n_slr for r in RESOURCES}
        utilization = np.max(
            [estimates[r].value / max(region[r], 1.0) for r in RESOURCES],
            axis=0,
        )
        return HardwareScores(
            metrics=estimates,
            clock_period_ns=clock,
            energy_nj=energy,
            utilization=utilization,
            stage=self.stage,
            notes=tuple(notes),
            per_node=tuple(per_node),
        )

    def score_quantized(
        self,
        networks: Sequence[QuantizedNetwork],
        *,
        with_notes: bool = False,
        with_nodes: bool = False,
        solve: NetworkSolver | None = None,
    ) -> HardwareScores:
        """Score trained networks: the exact weights and word widths replace their priors.

        Args:
            networks: trained networks.
            with_notes, with_nodes: as in `score`.
            solve: solves and cuts the adder graph of a whole network, for plain RTL; None uses the
                fast law.
        """
        exact = exact_population(networks)
        graphs: list[SolvedGraph | None] = [None] * len(networks)
        if solve is not None:
            for i in np.flatnonzero(exact.is_rtl).tolist():
                graphs[i] = solve(networks[i])
        solved = {
            name: np.array([np.nan if g is None else float(getattr(g, name)) for g in graphs])
            for name in SOLVED
        }
        return self._score(exact, solved, None, with_notes=with_notes, with_nodes=with_nodes)


def _widen(values: Mapping[str, Float], costs: LearnedCosts) -> None:
    """Add what is not known of untrained networks to intervals, in place.

    LUT and FF: relative errors of what is predicted and of the law behind it add in quadrature; cycles have
    no other error.
    """
    is_learned = ~np.isnan(costs.solved["adder_cost"])
    for name, of in (("lut", "adder_cost"), ("ff", "register_bits")):
        middle, *ends = values[name]
        for end, own in zip(ends, (costs.low[of], costs.high[of]), strict=True):
            law = np.log((end + 1.0) / (middle + 1.0))
            both = np.hypot(law, np.log(own / costs.solved[of]))
            moved = (middle + 1.0) * np.exp(np.copysign(both, own - costs.solved[of])) - 1.0
            end[is_learned] = np.maximum(moved, 0.0)[is_learned]
    cycles = values["latency_cycles"]
    for end, known in zip(cycles[1:], (costs.low, costs.high), strict=True):
        end[is_learned] = known["latency_cycles"][is_learned]


def design_batches(
    population: Population,
    ops: Sequence[OpBatch],
    device: Device,
    solved: Mapping[str, Float],
) -> Iterator[tuple[NDArray[np.int64], DesignBatch]]:
    """Divide a population into the batches that one tool builds in one way.

    Args:
        population: the candidates.
        ops: what they lower to.
        device: where they go.
        solved: as in `DesignBatch`, for all candidates.

    Yields:
        int64[k], the candidates of a batch, and the batch.
    """
    kind = population.flow * len(IO_TYPES) + population.io_type
    for code in np.unique(kind):
        members = np.flatnonzero(kind == code)
        flow, io_type = divmod(int(code), len(IO_TYPES))
        yield (
            members,
            DesignBatch(
                n_designs=members.size,
                clock_period_ns=population.clock_period_ns[members],
                clock_uncertainty_ns=np.full(members.size, np.nan),
                part=device.part,
                tool=TOOL_OF_FLOW[FLOWS[flow]],
                tool_version="",
                io_type=IO_TYPES[io_type],
                ops=_restrict(ops, members, population.n_candidates),
                solved={name: values[members] for name, values in solved.items()},
            ),
        )


def lower(population: Population) -> tuple[OpBatch, ...]:
    """Describe a population as primitive operations, in batches of one primitive each.

    An operation's origin is the number of its node within its candidate.
    """
    has_fifo = None
    is_stream = population.io_type == IO_TYPES.index("io_stream")
    if is_stream.any():
        last = np.zeros(population.n_candidates, dtype=population.stage.dtype)
        np.maximum.at(last, population.candidate, population.stage)
        # the last one writes to the ports
        is_last = population.stage == last[population.candidate]
        has_fifo = is_stream[population.candidate] & ~is_last
    first = np.full(population.n_candidates, population.layer.size)
    np.minimum.at(first, population.candidate, np.arange(population.layer.size))
    ops: list[OpBatch] = []
    schedule = population.columns["schedule"].astype(np.int64)
    kinds = population.layer.astype(np.uint16)  # numpy sorts 16 bits by radix
    by_kind, edges = np.argsort(kinds, kind="stable"), np.cumsum(np.bincount(kinds))
    for code, rows in enumerate(np.split(by_kind, edges[:-1])):
        if not rows.size:
            continue
        for op in LAYERS.get(population.layer_names[code]).lower(
            population.of(rows),
            design=population.candidate[rows],
            stage=schedule[rows],
            has_fifo=None if has_fifo is None else has_fifo[rows],
        ):
            of = rows if op.primitive != "fifo" or has_fifo is None else rows[has_fifo[rows]]
            ops.append(replace(op, origin=of - first[population.candidate[of]]))
    if (population.interval_cycles > 1).any():
        for rows, kind, bits in turns_of(population):
            parameters = {"n_bits": bits, "n_turns": population.columns["shared_turns"][rows]}
            parameters["kind"] = np.full(rows.size, float(KINDS.index(kind)))
            ops.append(
                OpBatch(
                    primitive="turns",
                    design=population.candidate[rows],
                    stage=schedule[rows],
                    parameters=parameters,
                    origin=rows - first[population.candidate[rows]],
                )
            )
    return tuple(ops)


def _restrict(ops: Sequence[OpBatch], members: NDArray[np.int64], n: int) -> tuple[OpBatch, ...]:
    """Keep the operations of some designs and renumber these 0, 1, ..."""
    number = np.full(n, -1, dtype=np.int64)
    number[members] = np.arange(members.size)
    result = []
    for op in ops:
        design = number[op.design]
        rows = np.flatnonzero(design >= 0)
        if rows.size:
            result.append(
                OpBatch(
                    primitive=op.primitive,
                    design=design[rows],
                    stage=op.stage[rows],
                    parameters={name: values[rows] for name, values in op.parameters.items()},
                    origin=None if op.origin is None else op.origin[rows],
                )
            )
    return tuple(result)


@dataclass(frozen=True, kw_only=True)
class SolvedGraph:
    """What is known of a network whose adder graph was solved and cut into pipeline stages.

    Attributes:
        adder_cost: LUTs, in bits of carry chain.
        register_bits: flip-flops of all cuts.
        latency_cycles: cycles from input to output.
        adder_levels: longest path through adders, in levels of adders.
    """

    adder_cost: float
    register_bits: float
    latency_cycles: float
    adder_levels: float


#: Solves and cuts the adder graph of a network; None where there is no logic to build.
NetworkSolver = Callable[[QuantizedNetwork], SolvedGraph | None]


def exact_population(networks: Sequence[QuantizedNetwork]) -> Population:
    """Return trained networks as a population: word widths, zeros and digits as training has settled them.

    Where elements have widths of their own, a node's width is their mean, and that of what a matrix reads is
    the mean over the signed digits that multiply it.
    """
    population = population_from_candidates([q.candidate for q in networks])
    columns = {name: values.copy() for name, values in population.columns.items()}
    exact = {name: np.full(population.layer.shape, np.nan) for name in WEIGHT_FACTS}
    row = 0
    for network in networks:
        sites = typed(network).sites
        is_by_element = any(known.uniform is None for known in network.result.values())
        bits = element_bits(sites, network.result) if is_by_element else {}
        for original in network.candidate.network.nodes:
            site = sites.get(original.name)  # None: a batch norm, folded away
            if site is not None:
                columns["output_bits"][row] = site.output.format.bits
                columns["input_bits"][row] = max(
                    (known.format.bits for known in site.inputs), default=0
                )
                words = site.constants["weight"].values if "weight" in site.constants else None
                if is_by_element:
                    own, read = _mean_bits(site, bits, words)
                    columns["output_bits"][row], columns["input_bits"][row] = own, read
                if words is not None:
                    columns["pruned_fraction"][row] = float((words == 0).mean())
                    for name, value in weight_facts(words, int(columns["input_bits"][row])).items():
                        exact[name][row] = value
            row += 1
    return replace(population, columns={**columns, **exact})


def _mean_bits(
    site: Site, bits: Mapping[str, torch.Tensor], weights: NDArray[np.int64] | None
) -> tuple[float, float]:
    """Return the mean bits of what a node writes, and of what it reads: the widest of several inputs."""
    own = float(bits[site.node.name].detach().mean())
    read = [bits[name].detach() for name in site.node.inputs]
    if weights is None:
        return own, max((float(x.mean()) for x in read), default=0.0)
    by_input = read[0].reshape(-1, len(weights)).mean(dim=0).numpy()
    digits = csd_digits(weights).sum(axis=1)
    return own, float((by_input * digits).sum() / max(digits.sum(), 1))


def pessimistic(known: Estimate, confidence: float) -> Float:
    """Return the value that the truth stays below with the given one-sided probability.

    The interval's upper end is read as the 95 % point of a log-normal around the value.
    """
    from scipy.stats import norm

    quantile = float(norm.ppf(confidence))
    ratio = (known.high + 1.0) / (known.value + 1.0)
    return np.asarray((known.value + 1.0) * ratio ** (quantile / _Z90) - 1.0)


def constraint_names(budget: Budget) -> tuple[str, ...]:
    """Names of the constraints that a budget sets, in the order of `violations`."""
    names = ["latency_ns"]
    names += ["interval_ns"] if budget.interval_ns is not None else []
    names += ["interval_cycles"] if budget.interval_cycles is not None else []
    return (*names, *RESOURCES)


def limits(budget: Budget, device: Device) -> dict[str, float]:
    """Return every limit of the budget on a device, by constraint name."""
    known = {
        "latency_ns": budget.latency_ns,
        "interval_ns": budget.interval_ns,
        "interval_cycles": budget.interval_cycles,
        **{resource: budget.limit(resource, device) for resource in RESOURCES},
    }
    return {name: float(known[name]) for name in constraint_names(budget)}  # type: ignore[arg-type]


def violations(scores: HardwareScores, budget: Budget, device: Device) -> Float:
    """Return float[n, n_constraints], relative excess over each limit; at most 0 where it holds."""
    columns = []
    for name, limit in limits(budget, device).items():
        value = pessimistic(scores.metrics[name], budget.confidence)
        columns.append((value - limit) / max(limit, 1.0))
    return np.stack(columns, axis=1)
