"""RTL in which particles share logic: P copies of what each of N particles goes through, an event every N / P cycles.

For networks of particles that meet in one pool over all of them (deep sets): the layers before the pool are built for
P particles, which take turns; what they pool to is added up, or the largest kept; the layers behind it are built once.
Words are those of the network, whatever P is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from codesign.errors import ExportError
from codesign.export.plan import ProjectPlan
from codesign.export.rtl import (
    RtlExport,
    build_stage,
    constraints,
    finished,
    project_files,
    trace_network,
    trace_sites,
)
from codesign.export.templates import check_identifier, render
from codesign.ir import Network, Node, QuantizedNetwork, TensorType
from codesign.layers import LAYERS, TypedNetwork, typed
from codesign.layers._pool import Pool


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """A network, divided where its particles meet.

    Attributes:
        particles: nodes up to the pool, which is left out.
        pool: the pool.
        behind: all other nodes.
    """

    particles: tuple[Node, ...]
    pool: Node
    behind: tuple[Node, ...]


def export_shared_rtl(
    network: QuantizedNetwork, interval_cycles: int, *, name: str = "codesign_nn"
) -> RtlExport:
    """Export a network as Verilog that takes an event every `interval_cycles` cycles, and so needs fewer copies.

    Args:
        network: on particles that meet in one pool over all of them.
        interval_cycles: cycles between two events, at least 2; divides the number of particles.
        name: top module, a lower-case identifier.

    Raises:
        ExportError: the network has another structure, or the interval does not divide its particles.
    """
    check_identifier(name)
    sites = typed(network)
    parts = _divided(network, sites)
    n_particles, n_features = sites.input.shape
    if interval_cycles < 2 or n_particles % interval_cycles:
        legal = [n for n in range(2, n_particles + 1) if n_particles % n == 0]
        raise ExportError(
            f"an interval of {interval_cycles} cycles does not divide the work on {n_particles} particles;"
            f" choose one of {', '.join(map(str, legal)) or 'none'}"
        )
    copies = n_particles // interval_cycles
    few = _few(network, parts, copies)
    pooled = sites[parts.pool.name].output
    # a mean only moves the binary point: its words are those of the sum
    shift = pooled.type.fraction_bits - typed(few).output.type.fraction_bits
    fmt = pooled.format
    part_format = replace(fmt, integer_bits=fmt.integer_bits + shift)
    front_logic, back_logic = trace_network(few), _behind(parts, sites)
    front = build_stage(
        front_logic, network, f"{name}_particles", "verilog", network.input_format, part_format
    )
    back = build_stage(back_logic, network, f"{name}_set", "verilog", fmt, network.output_format)
    group_bits = copies * n_features * network.input_format.bits
    waiting_bits = (n_particles - copies) * n_features * network.input_format.bits
    latency = front.latency_cycles + interval_cycles + back.latency_cycles
    sources = tuple(dict.fromkeys((*front.context["sources"], *back.context["sources"])))
    context: dict[str, Any] = {
        **back.context,
        **constraints(network, "verilog"),
        "name": name,
        "n_in": sites.input.size,
        "in_bits": network.input_format.bits,
        "in_format": network.input_format.to_hls(),
        "latency_cycles": latency,
        "interval_cycles": interval_cycles,
        "copies": copies,
        "particles": n_particles,
        "group_bits": group_bits,
        "pooled": pooled.size,
        "pooled_bits": fmt.bits,
        "wait": front.latency_cycles,
        "kind": LAYERS.get(parts.pool.layer).kind,  # type: ignore[attr-defined]
        "sign": "$signed" if fmt.signed else "$unsigned",
        "sources": (*sources, f"src/{name}.v"),
    }
    files = {**front.files, **back.files, f"src/{name}.v": render("rtl/shared.v.j2", **context)}
    export = RtlExport(
        name=name,
        flavor="verilog",
        plan=ProjectPlan(files={}),
        sources=context["sources"],
        latency_cycles=latency,
        interval_cycles=interval_cycles,
        # beside the logic: an adder or a comparison a lane, and the choice of the particles at work
        adder_cost=float(front_logic.cost + back_logic.cost + pooled.size * fmt.bits + group_bits),
        register_bits=front.register_bits
        + back.register_bits
        + waiting_bits
        + pooled.size * fmt.bits
        + front.latency_cycles
        + 1,
        adder_levels=float(max(front_logic.latency[1], back_logic.latency[1])),
        levels_per_cycle=front.levels_per_cycle,
    )
    return finished(export, network, project_files(files, context))


def _divided(network: QuantizedNetwork, sites: TypedNetwork) -> _Parts:
    """Divide a network at its pool.

    Raises:
        ExportError: it is not of particles that are treated alike and meet in one pool.
    """
    nodes = network.network.nodes
    found = [n for n in nodes if isinstance(LAYERS.get(n.layer), Pool) and not n.parameters]
    if len(sites.input.shape) != 2 or len(found) != 1:
        raise ExportError(
            "particles share logic only in a network of (particles, features) with one pool over all"
            f" particles, this one has inputs of shape {sites.input.shape} and {len(found)} such pools;"
            " export it with every particle at once"
        )
    (pool,) = found
    before = {pool.inputs[0]}
    for node in reversed(nodes):
        if node.name in before:
            before.update(node.inputs)
    particles = tuple(n for n in nodes if n.name in before)
    behind = tuple(n for n in nodes if n.name not in before and n is not pool)
    mixing = [n.name for n in particles if not LAYERS.get(n.layer).is_positionwise]
    passing = [n.name for n in behind if before & set(n.inputs)]
    unlike = [
        n.name for n in particles if n.name in network.result and _differs(network.result[n.name])
    ]
    for names, reason in (
        (mixing, "treats particles together before they are pooled"),
        (passing, "reads particles that are not pooled"),
        (unlike, "has words of its own for single particles"),
    ):
        if names:
            raise ExportError(
                f"{names[0]}: it {reason}, so they cannot take turns; export the network with every"
                " particle at once"
            )
    return _Parts(particles=particles, pool=pool, behind=behind)


def _fields(known: TensorType) -> dict[str, Any]:
    """Return sign, bits and integer bits of every element."""
    return {
        name: np.broadcast_to(getattr(known, name), known.shape)
        for name in ("signed", "bits", "integer_bits")
    }


def _differs(known: TensorType) -> bool:
    """Whether any particle has another type than the first."""
    return any((values != values[:1]).any() for values in _fields(known).values())


def _few(network: QuantizedNetwork, parts: _Parts, copies: int) -> QuantizedNetwork:
    """Return the network of some particles up to what they add up to, or the largest of each channel."""
    first, *others = parts.particles
    first = replace(first, parameters={**first.parameters, "columns": copies})
    largest = parts.pool.layer == "max_pool"
    pool = replace(parts.pool, layer="max_pool" if largest else "sum_pool")
    result = {}
    for node in parts.particles:
        if node.name in network.result:
            known = network.result[node.name]
            cut = {name: values[:copies] for name, values in _fields(known).items()}
            result[node.name] = replace(known, shape=(copies, *known.shape[1:]), **cut)
    names = {node.name for node in parts.particles}
    return QuantizedNetwork(
        candidate=network.candidate,
        network=Network(nodes=(first, *others, pool)),
        result=result,
        constants={name: words for name, words in network.constants.items() if name in names},
    )


def _behind(parts: _Parts, sites: TypedNetwork) -> Any:
    """Trace the nodes behind the pool, from its words."""
    from alkaid.trace import FVArrayInput, HWConfig

    pooled = sites[parts.pool.name].output
    fmt, source = pooled.format, FVArrayInput(pooled.shape, HWConfig(1, -1, -1))
    lanes = source.quantize(
        *(
            np.full(pooled.shape, value)
            for value in (int(fmt.signed), fmt.integer_bits - fmt.signed, fmt.fraction_bits)
        )
    )
    return trace_sites([sites[n.name] for n in parts.behind], source, {parts.pool.name: lanes})
