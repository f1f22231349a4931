"""RTL in which particles take turns at the same logic: P copies of what each of N goes through, an event every N / P cycles.

A network is divided into phases (`codesign.space.turns`).  In each, layers on particles are built for P of them, which
take turns; what they pool to is added up, or the largest kept; layers behind the pool are built once.  What these say to
all particles is held for the next phase, and what that reads of earlier ones waits in shift registers.  Phases work on
different events at a time.  Words are those of the network, whatever P is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError, ExportError
from codesign.export.plan import ProjectPlan
from codesign.export.rtl import (
    RtlExport,
    Stage,
    adder_cost,
    build_stage,
    constraints,
    cut_to_clock,
    finished,
    open_lanes,
    pack_hex,
    project_files,
    trace_sites,
)
from codesign.export.templates import check_identifier, render
from codesign.hardware.scorer import SolvedGraph
from codesign.ir import FixedPoint, QuantizedNetwork, TensorType
from codesign.layers import typed
from codesign.layers.base import Site, WordRange
from codesign.space import population_from_candidates
from codesign.space.assemble import phases_of

#: Bits of a shift register that fit into one LUT.
_SHIFT_BITS = 32


@dataclass(frozen=True, kw_only=True)
class _Lanes:
    """Part of a bundle of wires: the lanes of one tensor, of P particles or of none.

    Attributes:
        name: node that writes it.
        known: its types and ranges.
        format: of every lane.
    """

    name: str
    known: WordRange
    format: FixedPoint

    @property
    def bits(self) -> int:
        return self.known.size * self.format.bits

    @property
    def used_bits(self) -> int:
        """Bits that are not constant."""
        return int(np.broadcast_to(self.known.type.bits, self.known.shape).sum())


@dataclass(frozen=True, kw_only=True)
class _Phase:
    """One phase, and the logic of its two halves.

    Attributes:
        spread: what the last phase says to every particle.
        waiting: what this one reads of particles of earlier phases, or passes on.
        passed: what later phases read of this or earlier ones.
        part: what P particles pool to.
        gathered: what all of them do.
        is_max: the largest is kept, rather than added up.
        said: what the layers behind the pool say: to the next phase, or the outputs.
        front, back: logic on particles, and behind the pool.
    """

    spread: tuple[_Lanes, ...]
    waiting: tuple[_Lanes, ...]
    passed: tuple[_Lanes, ...]
    part: _Lanes
    gathered: _Lanes
    is_max: bool
    said: tuple[_Lanes, ...]
    front: Any
    back: Any


def export_shared_rtl(
    network: QuantizedNetwork,
    interval_cycles: int,
    *,
    name: str = "codesign_nn",
    golden: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
) -> RtlExport:
    """Export a network as Verilog that takes an event every `interval_cycles` cycles, and so needs fewer copies.

    Args:
        network: of phases in which particles take turns.
        interval_cycles: cycles between two events, at least 2; divides the number of particles.
        name: top module, a lower-case identifier.
        golden: input and output words, kept beside the sources.

    Raises:
        ExportError: the network has another structure, or the interval does not divide its particles.
    """
    check_identifier(name)
    phases = _phases(network, interval_cycles)
    sites = typed(network)
    n_particles, n_features = sites.input.shape
    in_bits, group_bits = network.input_format.bits, phases[0].waiting[0].bits
    built: list[dict[str, Any]] = []
    files: dict[str, bytes] = {}
    at = 0  # cycles from the start of an event to its first group in this phase
    for number, phase in enumerate(phases, 1):
        front = _stage(phase.front, network, f"{name}_particles_{number}", (*phase.spread, *phase.waiting), (phase.part, *phase.passed))  # fmt: skip
        back = _stage(phase.back, network, f"{name}_set_{number}", (phase.gathered,), phase.said)
        files |= {**front.files, **back.files}
        built.append(_described(phase, number, front, back, at, interval_cycles))
        at += front.latency_cycles + interval_cycles + back.latency_cycles + 1
    latency = at - 1
    stages: list[Stage] = [stage for one in built for stage in (one["front"], one["back"])]
    sources = tuple(dict.fromkeys(s for stage in stages for s in stage.context["sources"]))
    context: dict[str, Any] = {
        **stages[-1].context,
        **constraints(network, "verilog"),
        "name": name,
        "n_in": sites.input.size,
        "in_bits": in_bits,
        "in_width": sites.input.size * in_bits,
        "in_format": network.input_format.to_hls(),
        "latency_cycles": latency,
        "interval_cycles": interval_cycles,
        "copies": n_particles // interval_cycles,
        "particles": n_particles,
        "group_bits": group_bits,
        "phases": built,
        "last": max(one["first"] for one in built),
        "sources": (*sources, f"src/{name}.v"),
    }
    files[f"src/{name}.v"] = render("rtl/shared.v.j2", **context)
    if golden is not None:
        files["sim/golden_in.hex"] = pack_hex(golden[0], in_bits).encode()
        files["sim/golden_out.hex"] = pack_hex(golden[1], network.output_format.bits).encode()
    lut, registers = _around(phases, built, interval_cycles)
    export = RtlExport(
        name=name,
        flavor="verilog",
        plan=ProjectPlan(files={}),
        sources=context["sources"],
        latency_cycles=latency,
        interval_cycles=interval_cycles,
        adder_cost=math.fsum(adder_cost(logic) for p in phases for logic in (p.front, p.back))
        + lut,
        register_bits=sum(stage.register_bits for stage in stages) + registers,
        adder_levels=sum(float(p.front.latency[1] + p.back.latency[1]) for p in phases),
        levels_per_cycle=stages[0].levels_per_cycle,
    )
    return finished(export, network, project_files(files, context))


def solve_shared(
    network: QuantizedNetwork, interval_cycles: int, clock_periods_ns: Sequence[float]
) -> list[SolvedGraph | None]:
    """Solve the adder graphs of all phases once, and cut them to several clocks, without writing any RTL.

    Raises:
        ExportError: as `export_shared_rtl`, but where there is no logic to build: then None, one per clock.
    """
    phases = _phases(network, interval_cycles)
    solved: list[SolvedGraph | None] = []
    for period_ns in clock_periods_ns:
        latency, registers, delays = -1, 0, []
        for phase in phases:
            cut = [
                cut_to_clock(logic, period_ns, network.candidate.hardware.part)
                for logic in (phase.front, phase.back)
            ]
            if any(one is None for one in cut):
                break
            (front, front_bits), (back, back_bits) = cut  # type: ignore[misc]
            latency += front + interval_cycles + back + 1
            registers += front_bits + back_bits
            delays.append({"delay": interval_cycles + back})
        else:
            lut, more = _around(phases, delays, interval_cycles)
            solved.append(
                SolvedGraph(
                    adder_cost=math.fsum(
                        adder_cost(logic) for p in phases for logic in (p.front, p.back)
                    )
                    + lut,
                    register_bits=float(registers + more),
                    latency_cycles=float(latency),
                    adder_levels=sum(float(p.front.latency[1] + p.back.latency[1]) for p in phases),
                )
            )
            continue
        solved.append(None)
    return solved


def _around(
    phases: Sequence[_Phase], built: Sequence[dict[str, Any]], interval_cycles: int
) -> tuple[float, int]:
    """Return LUTs and registers beside the logic of all phases, as `hw_models.primitives.turns` counts them."""
    group = phases[0].waiting[0].used_bits
    waiting = (interval_cycles - 1) * group
    lut, registers = float(group + (waiting if interval_cycles > 2 else 0)), waiting
    for phase, one in zip(phases, built, strict=True):
        lut += phase.gathered.used_bits * (2 if phase.is_max else 1)
        held = sum(lanes.used_bits for lanes in phase.spread)
        lut += held
        registers += phase.gathered.used_bits + held
        lut += sum(lanes.used_bits for lanes in phase.passed) * -(-one["delay"] // _SHIFT_BITS)
    return lut, registers


def _described(
    phase: _Phase, number: int, front: Stage, back: Stage, at: int, interval_cycles: int
) -> dict[str, Any]:
    """Return what the template says of a phase."""
    sign = "$signed" if phase.gathered.format.signed else "$unsigned"
    return {
        "number": number,
        "front": front,
        "back": back,
        # start was so many cycles ago, less one, when the first group's part is at hand, and is spread to
        "first": at + front.latency_cycles,
        "begins": at - 1,
        "part_bits": phase.part.bits,
        "pooled": phase.gathered.known.size,
        "pooled_bits": phase.gathered.format.bits,
        "passed_bits": sum(lanes.bits for lanes in phase.passed),
        "spread_bits": sum(lanes.bits for lanes in phase.spread),
        "said_bits": sum(lanes.bits for lanes in phase.said),
        "delay": interval_cycles + back.latency_cycles,
        "kind": "max" if phase.is_max else "sum",
        "sign": sign,
    }


def _stage(
    logic: Any, network: QuantizedNetwork, name: str, reads: Sequence[_Lanes], writes: Sequence[_Lanes]
) -> Stage:  # fmt: skip
    formats = [[x.format for x in lanes for _ in range(x.known.size)] for lanes in (reads, writes)]
    return build_stage(logic, network, name, "verilog", *formats)


def _phases(network: QuantizedNetwork, interval_cycles: int) -> list[_Phase]:
    """Divide a network into phases and trace the logic of each.

    Raises:
        ExportError: particles cannot take turns, or not so many.
    """
    hardware = replace(network.candidate.hardware, interval_cycles=interval_cycles)
    bare = replace(network.candidate, network=network.network, hardware=hardware)
    if interval_cycles < 2:
        raise ExportError(
            f"an interval of {interval_cycles} cycles shares no logic; choose 2 or more, or leave it out"
        )
    try:
        population = population_from_candidates([bare])
    except DesignError as error:
        raise ExportError(f"{error}; export the network with every particle at once") from error
    names = [node.name for node in network.network.nodes]
    phase_of = dict(zip(names, phases_of(population).tolist(), strict=True))
    sites = typed(network)
    copies = sites.input.shape[0] // interval_cycles
    few = {site.node.name: _few(site, copies) for site in sites}
    is_set = {name: len(sites[name].output.shape) == 1 for name in names}
    readers: dict[str, list[str]] = {name: [] for name in names}
    for site in sites:
        for source in site.node.inputs:
            readers[source].append(site.node.name)
    first, last = names[0], names[-1]
    phases: list[_Phase] = []
    waiting: tuple[_Lanes, ...] = (_lanes(few[first], network.input_format),)
    spread: tuple[_Lanes, ...] = ()

    def is_read_later(name: str, number: int) -> bool:
        return any(phase_of[reader] > number for reader in readers[name])

    for number in range(1 + max(phase_of.values())):
        members = [name for name in names if phase_of[name] == number and name != first]
        pool = next(n for n in members if is_set[n] and not is_set[few[n].node.inputs[0]])
        before = [few[n] for n in members if not is_set[n]]
        behind = [sites[n] for n in members if is_set[n] and n != pool]
        at_hand = dict.fromkeys([lanes.name for lanes in waiting] + [s.node.name for s in before])
        passed = tuple(_lanes(few[name]) for name in at_hand if is_read_later(name, number))
        said = tuple(
            _lanes(sites[name])
            for name in (pool, *(site.node.name for site in behind))
            if name == last or is_read_later(name, number)
        )
        gathered = _lanes(sites[pool])
        # a mean only moves the binary point: its words are those of the sum
        shift = sites[pool].output.type.fraction_bits - sites[pool].source.type.fraction_bits
        fmt = gathered.format
        moved = replace(fmt, integer_bits=fmt.integer_bits + shift)
        phases.append(
            _Phase(
                spread=spread,
                waiting=waiting,
                passed=passed,
                part=replace(gathered, format=moved),
                gathered=gathered,
                is_max=few[pool].node.layer == "max_pool",
                said=said,
                front=_traced(
                    network,
                    [*before, few[pool]],
                    (*spread, *waiting),
                    [pool, *(x.name for x in passed)],
                ),
                back=_traced(network, behind, (gathered,), [x.name for x in said]),
            )
        )
        waiting, spread = passed, said
    return phases


def _traced(
    network: QuantizedNetwork,
    sites: Sequence[Site],
    reads: Sequence[_Lanes],
    written: Sequence[str],
) -> Any:
    """Trace nodes between two bundles of lanes."""
    source = open_lanes(network, (sum(lanes.known.size for lanes in reads),))
    known, end = {}, 0
    for lanes in reads:
        first, end = end, end + lanes.known.size
        fields = _fields(lanes.known.type)
        used = fields["bits"] > 0
        signed = fields["signed"].astype(np.int64)
        fraction = np.where(used, fields["bits"] - fields["integer_bits"], 0)
        known[lanes.name] = (
            source[first:end]
            .reshape(lanes.known.shape)
            .quantize(signed, fields["integer_bits"] - signed, fraction)
        )
    return trace_sites(sites, source, known, written)


def _lanes(site: Site, fmt: FixedPoint | None = None) -> _Lanes:
    return _Lanes(name=site.node.name, known=site.output, format=fmt or site.output.format)


def _few(site: Site, copies: int) -> Site:
    """Return a node on particles as it stands where there are `copies` of them; any other as it is.

    Raises:
        ExportError: it has words of its own for single particles.
    """
    is_input = not site.node.inputs
    on_particles = len(site.output.shape) > 1
    pools = not on_particles and any(len(known.shape) > 1 for known in site.inputs)
    if not on_particles and not pools:
        return site
    is_rounded = not is_input and on_particles and site.result is not None
    if is_rounded and any((v != v[:1]).any() for v in _fields(site.rounded).values()):
        raise ExportError(
            f"{site.node.name}: it has words of its own for single particles, so they cannot take turns; export"
            " the network with every particle at once"
        )
    node = site.node
    if pools:
        kind = "max_pool" if node.layer == "max_pool" else "sum_pool"
        node = replace(node, layer=kind, parameters={})
    elif "columns" in node.parameters:
        node = replace(node, parameters={**node.parameters, "columns": copies})
    return replace(
        site,
        node=node,
        inputs=tuple(_few_words(x, copies) if len(x.shape) > 1 else x for x in site.inputs),
        result=None if site.result is None or pools else _few_types(site.result, copies),
    )


def _few_words(known: WordRange, copies: int) -> WordRange:
    """Return what is known of particles that take turns, of each copy what any of them may be."""
    groups = [words.reshape(-1, copies, *known.shape[1:]) for words in (known.low, known.high)]
    return WordRange(
        type=_few_types(known.type, copies), low=groups[0].min(axis=0), high=groups[1].max(axis=0)
    )


def _fields(known: TensorType) -> dict[str, NDArray[Any]]:
    """Return sign, bits and integer bits of every element."""
    return {
        name: np.broadcast_to(getattr(known, name), known.shape)
        for name in ("signed", "bits", "integer_bits")
    }


def _few_types(known: TensorType, copies: int) -> TensorType:
    """Return the type that holds the words of all particles that one copy works on."""
    shape = (copies, *known.shape[1:])
    fields = {k: v.reshape(-1, *shape) for k, v in _fields(known).items()}
    used, least = fields["bits"] > 0, np.iinfo(np.int64).min // 2
    signed = np.asarray((fields["signed"] & used).any(axis=0))
    # an unsigned word beside signed ones needs one bit more
    grown = fields["integer_bits"] + (signed & ~fields["signed"])
    integer = np.where(used, grown, least).max(axis=0)
    fraction = np.where(used, fields["bits"] - fields["integer_bits"], least).max(axis=0)
    is_used = used.any(axis=0)
    return replace(
        known,
        shape=shape,
        signed=signed,
        bits=np.where(is_used, integer + fraction, 0),
        integer_bits=np.where(is_used, integer, 0),
    )
