"""From loose node arrays, or from candidates, to a complete `Population`, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError
from codesign.ir import (
    COLUMNS,
    FLOWS,
    IO_TYPES,
    Candidate,
    HardwareConfig,
    Network,
    Node,
    Population,
    Tensors,
)
from codesign.layers import LAYERS, check_network
from codesign.layers.base import Layer
from codesign.space.reuse import greatest_legal_reuse_factor, is_legal_reuse_factor
from codesign.space.turns import Turns, in_turns
from hw_models.types import MATVEC_STRATEGIES

Int = NDArray[np.int64]
Float = NDArray[np.float64]


def assemble(
    *,
    n_candidates: int,
    layer_names: Sequence[str],
    layer: Int,
    candidate: Int,
    parameters: Mapping[str, Float],
    stage: Int,
    edges: Int,
    clock_period_ns: Float,
    flow: Int,
    io_type: Int,
    lut_budget: Float,
    interval_cycles: Int,
    round_reuse: bool,
) -> Population:
    """Derive shapes and bits of all nodes and return the finished population.

    Args:
        n_candidates: how many candidates.
        layer_names: vocabulary of layer types.
        layer: int64[m], index into `layer_names`; nodes of a candidate in topological order.
        candidate: int64[m], non-decreasing.
        parameters: declared parameters by population column, float64[m]; "strategy" (codes) and
            "reuse_factor" for nodes with multipliers; they become columns of the population.
        stage: int64[m], as in `Population`.
        edges: int64[2, e], node indices (from, to).
        clock_period_ns: float64[n_candidates].
        flow, io_type: int64[n_candidates], as in `Population`.
        lut_budget: float64[n_candidates], as in `Population`.
        interval_cycles: int64[n_candidates], as in `Population`; divides the particles.
        round_reuse: replace each reuse factor by the greatest legal one not above it (genomes);
            else an illegal one is an error (candidates).

    Raises:
        DesignError: an illegal reuse factor, shapes that do not fit, or an interval above 1 in a network whose particles
            cannot take turns.
    """
    m = layer.shape[0]
    columns = {name: np.zeros(m) for name in _column_names(tuple(layer_names))} | dict(parameters)
    sources = _sources(m, edges)
    has_multipliers = np.array([LAYERS.get(name).has_multipliers for name in layer_names])
    key = stage * len(layer_names) + layer
    # numpy sorts 16 bits by radix, in a tenth of the time
    order = np.argsort(key.astype(np.uint16) if key.max(initial=0) < 2**16 else key, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(m)
    reads_at = [place[read[order]] for read in sources]
    # what every node writes, in the order in which groups are worked on: groups write side by side, reads fetch one row
    written = np.empty((m, len(_TENSOR)))
    bounds = [*np.flatnonzero(np.diff(key[order], prepend=-1)).tolist(), m]
    for start, end in pairwise(bounds):  # nodes of one type at one stage
        rows = order[start:end]
        kind_of = LAYERS.get(layer_names[layer[rows[0]]])
        inputs = [
            Tensors(**dict(zip(_TENSOR, written[read[start:end]].T, strict=True)))
            for read in reads_at[: kind_of.n_inputs[1]]
        ]
        if len(kind_of.ranks) < len(Layer.ranks):
            for source in inputs:
                _check_rank(kind_of, source)
        own = {p.column: columns[p.column][rows] for p in kind_of.parameters}
        output = kind_of.propagate(own, inputs)
        for i, of in enumerate(_TENSOR):
            written[start:end, i] = getattr(output, of)
        if inputs:
            columns["n_in"][rows] = kind_of.fan_in(own, inputs)
    columns |= dict(zip(_TENSOR.values(), np.ascontiguousarray(written[place].T), strict=True))
    axes = (np.maximum(columns[name], 1.0) for name in ("n_rows", "n_columns"))
    columns["n_positions"] = np.multiply(*axes)
    for slot, read in enumerate(sources):
        reads = read != np.arange(m)
        if slot == 0:
            columns["input_positions"] = np.where(reads, columns["n_positions"][read], 0.0)
        for of in ("bits", "signed"):
            widest = np.where(reads, columns[f"output_{of}"][read], 0.0)
            columns[f"input_{of}"] = np.maximum(columns[f"input_{of}"], widest)
    # a stream brings one position after another, everything else all at once
    is_stream = (np.asarray(io_type) == IO_TYPES.index("io_stream"))[candidate]
    columns["n_turns"] = np.where(is_stream, columns["n_positions"], 1.0)
    columns["shared_turns"], columns["schedule"] = np.ones(m), stage.astype(np.float64)
    interval_cycles = np.asarray(interval_cycles, dtype=np.int64)
    if (interval_cycles > 1).any():
        found = in_turns(
            n_candidates=n_candidates,
            layer_names=layer_names,
            layer=layer,
            candidate=candidate,
            stage=stage,
            sources=sources,
            columns=columns,
        )
        _take_turns(columns, found, interval_cycles, candidate, edges)
    columns["n_copies"] = columns["n_positions"] / columns["n_turns"]
    rows = np.flatnonzero(has_multipliers[layer])
    shape = [
        columns[k][rows].astype(np.int64) for k in ("n_in", "n_out", "strategy", "reuse_factor")
    ]
    n_in, n_out, strategy, reuse = shape
    is_positional = columns["n_columns"][rows] > 0
    if round_reuse:
        limit = np.where(is_positional, n_in, n_in * n_out)
        columns["reuse_factor"][rows] = greatest_legal_reuse_factor(
            n_in, n_out, strategy, np.minimum(reuse, limit)
        )
    else:
        # hls4ml's products at every position (nnet_conv1d_resource.h) know no greater factor
        illegal = ~is_legal_reuse_factor(*shape) | (is_positional & (reuse > n_in))
        if illegal.any():
            first_in, first_out, first_strategy = (a[illegal][:1] for a in (n_in, n_out, strategy))
            wish = np.where(is_positional, np.minimum(reuse, n_in), reuse)[illegal][:1]
            raise DesignError(
                f"reuse_factor {reuse[illegal][0]} is not legal for a {first_in[0]} x {first_out[0]} layer"
                f"{' at several positions' if is_positional[illegal][0] else ''} with strategy"
                f" {MATVEC_STRATEGIES[first_strategy[0]]}; the nearest legal one below is"
                f" {greatest_legal_reuse_factor(first_in, first_out, first_strategy, wish)[0]}"
            )
    return Population(
        n_candidates=n_candidates,
        layer_names=tuple(layer_names),
        layer=layer,
        candidate=candidate,
        stage=stage,
        columns=columns,
        edges=edges,
        clock_period_ns=np.asarray(clock_period_ns, dtype=np.float64),
        flow=flow,
        io_type=io_type,
        lut_budget=np.asarray(lut_budget, dtype=np.float64),
        interval_cycles=interval_cycles,
    )


def _take_turns(
    columns: dict[str, Float], found: Turns, interval_cycles: Int, candidate: Int, edges: Int
) -> None:
    """Write how particles take turns into columns, in place.

    Raises:
        DesignError: they cannot, or the interval does not divide them.
    """
    shares = interval_cycles > 1
    for reason, flags in found.refusals:
        if (shares & flags).any():
            raise DesignError(
                f"an interval of {interval_cycles[shares & flags][0]} cycles, but particles cannot take turns: {reason};"
                " take an interval of 1"
            )
    turns = interval_cycles[candidate].astype(np.float64)
    on_particles = columns["n_columns"] > 0
    uneven = on_particles & (columns["n_columns"] % turns != 0)
    if uneven.any():
        n, wish = int(columns["n_columns"][uneven][0]), int(turns[uneven][0])
        legal = ", ".join(str(d) for d in range(2, n + 1) if n % d == 0)
        raise DesignError(
            f"an interval of {wish} cycles does not divide the work on {n} particles; choose one of {legal or 'none'}"
        )
    # nodes behind a pool work on vectors; the pool itself gathers turn by turn
    gathers = ~on_particles & (columns["input_positions"] > 1)
    columns["shared_turns"] = np.where(on_particles | gathers, turns, 1.0)
    columns["n_turns"] = np.where(on_particles & (turns > 1), turns, columns["n_turns"])
    waiting = columns["n_positions"] / turns * columns["n_out"] * columns["output_bits"]
    columns["delayed_bits"] = np.where(turns > 1, found.crossings * waiting, 0.0)
    late = found.edges[:, turns[found.edges[1]] > 1]
    columns["schedule"] = longest_path(turns.size, np.concatenate([edges, late], axis=1)).astype(
        np.float64
    )


def phases_of(population: Population) -> Int:
    """Return the phase of every node, int64[m], of candidates whose particles take turns."""
    return in_turns(
        n_candidates=population.n_candidates,
        layer_names=population.layer_names,
        layer=population.layer,
        candidate=population.candidate,
        stage=population.stage,
        sources=_sources(population.layer.size, population.edges),
        columns=population.columns,
    ).phase


#: Where a population keeps what a node writes.
_TENSOR = {
    "n_rows": "n_rows",
    "n_columns": "n_columns",
    "n_channels": "n_out",
    "bits": "output_bits",
    "is_signed": "output_signed",
}


@lru_cache
def _column_names(layer_names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the columns of a population: those of all, and those that its layer types declare."""
    declared = (p.column for name in layer_names for p in LAYERS.get(name).parameters)
    return tuple(dict.fromkeys((*COLUMNS, *declared)))


def _sources(m: int, edges: Int) -> list[Int]:
    """Return, per input slot, the node that each node reads there, int64[m]; itself where none."""
    source, target = edges
    found, mark = [], np.empty(m, dtype=np.int64)
    while target.size:
        number = np.arange(target.size)
        mark[target[::-1]] = number[::-1]  # of the edges left into a node, the first
        is_first = mark[target] == number
        read = np.arange(m)
        read[target[is_first]] = source[is_first]
        found.append(read)
        source, target = source[~is_first], target[~is_first]
    return found


def _check_rank(layer: Layer, source: Tensors) -> None:
    is_legal = np.array([rank in layer.ranks for rank in range(4)])[source.rank]
    if not is_legal.all():
        shape = source.shape(int(np.flatnonzero(~is_legal)[0]))
        raise DesignError(
            f"layer {layer.name!r} takes inputs of {' or '.join(map(str, layer.ranks))} axes, got"
            f" shape {shape}; place it elsewhere, or flatten before it"
        )


def longest_path(m: int, edges: Int) -> Int:
    """Return each node's longest distance from a node without inputs; every edge is looked at once."""
    order = np.argsort(edges[0], kind="stable")
    target = edges[1][order]
    first = np.searchsorted(edges[0][order], np.arange(m + 1))
    waits_for = np.bincount(edges[1], minlength=m)
    stage, mark, number = np.zeros(m, dtype=np.int64), np.empty(m, dtype=np.int64), 0
    rows = np.flatnonzero(waits_for == 0)
    while rows.size:
        stage[rows] = number
        number += 1
        start = first[rows]
        n = first[rows + 1] - start
        ends = np.cumsum(n)
        reached = target[np.repeat(start - ends + n, n) + np.arange(ends[-1])]
        np.subtract.at(waits_for, reached, 1)
        ready = reached[waits_for[reached] == 0]
        mark[ready] = np.arange(ready.size)  # of a node that is reached several times, the last
        rows = ready[mark[ready] == np.arange(ready.size)]
    return stage


def population_from_candidates(candidates: Sequence[Candidate]) -> Population:
    """Put candidates into one table.

    Raises:
        DesignError: a layer, parameter, strategy or reuse factor is illegal.
    """
    layer_names = LAYERS.names()
    code = {name: i for i, name in enumerate(layer_names)}
    layer: list[int] = []
    owner: list[int] = []
    edges: list[tuple[int, int]] = []
    rows: list[dict[str, float]] = []
    for index, candidate in enumerate(candidates):
        check_network(candidate.network)
        position: dict[str, int] = {}
        for node in candidate.network.nodes:
            kind = LAYERS.get(node.layer)
            row = {p.column: kind.value(node, p.name) for p in kind.parameters}
            if kind.has_multipliers:
                row |= _hardware_row(candidate, node)
            edges += [(position[source], len(layer)) for source in node.inputs]
            position[node.name] = len(layer)
            layer.append(code[node.layer])
            owner.append(index)
            rows.append(row)
    names = sorted({key for row in rows for key in row})
    wires = np.array(edges, dtype=np.int64).reshape(-1, 2).T
    return assemble(
        n_candidates=len(candidates),
        layer_names=layer_names,
        layer=np.array(layer, dtype=np.int64),
        candidate=np.array(owner, dtype=np.int64),
        parameters={name: np.array([row.get(name, 0.0) for row in rows]) for name in names},
        stage=longest_path(len(layer), wires),
        edges=wires,
        clock_period_ns=np.array([c.hardware.clock_period_ns for c in candidates]),
        flow=np.array([FLOWS.index(c.hardware.flow) for c in candidates]),
        io_type=np.array([IO_TYPES.index(c.hardware.io_type) for c in candidates]),
        lut_budget=np.array([c.lut_budget or 0.0 for c in candidates]),
        interval_cycles=np.array([c.hardware.interval_cycles for c in candidates], dtype=np.int64),
        round_reuse=False,
    )


def _hardware_row(candidate: Candidate, node: Node) -> dict[str, float]:
    hardware = candidate.hardware
    if node.name not in hardware.strategy or node.name not in hardware.reuse_factor:
        raise DesignError(
            f"{node.name}: the hardware configuration names no strategy or reuse factor for it"
        )
    strategy = hardware.strategy[node.name]
    if strategy not in MATVEC_STRATEGIES:
        raise DesignError(
            f"{node.name}: unknown strategy {strategy!r}; choose from {', '.join(MATVEC_STRATEGIES)}"
        )
    return {
        "strategy": float(MATVEC_STRATEGIES.index(strategy)),
        "reuse_factor": float(hardware.reuse_factor[node.name]),
    }


def candidates_from_population(population: Population, *, part: str) -> list[Candidate]:
    """Spell a population out as candidates, with nodes named after layer type and position."""
    bounds = np.searchsorted(population.candidate, np.arange(population.n_candidates + 1))
    inputs_of: list[list[int]] = [[] for _ in range(population.layer.shape[0])]
    for source, target in population.edges.T:
        inputs_of[target].append(int(source))
    result = []
    for index in range(population.n_candidates):
        nodes: list[Node] = []
        names: dict[int, str] = {}
        counts: dict[str, int] = {}
        strategy: dict[str, str] = {}
        reuse: dict[str, int] = {}
        for row in range(bounds[index], bounds[index + 1]):
            kind = LAYERS.get(population.layer_names[population.layer[row]])
            counts[kind.name] = counts.get(kind.name, 0) + 1
            name = names[row] = f"{kind.name}_{counts[kind.name]}"
            values = {p.name: float(population.columns[p.column][row]) for p in kind.parameters}
            nodes.append(
                Node(
                    name=name,
                    layer=kind.name,
                    inputs=tuple(names[i] for i in inputs_of[row]),
                    parameters={
                        p.name: int(values[p.name]) if p.is_integer else values[p.name]
                        for p in kind.parameters
                        if not (p.is_silent and values[p.name] == p.default)
                    },
                )
            )
            if kind.has_multipliers:
                strategy[name] = MATVEC_STRATEGIES[int(population.columns["strategy"][row])]
                reuse[name] = int(population.columns["reuse_factor"][row])
        result.append(
            Candidate(
                network=Network(nodes=tuple(nodes)),
                hardware=HardwareConfig(
                    part=part,
                    clock_period_ns=float(population.clock_period_ns[index]),
                    flow=FLOWS[population.flow[index]],
                    io_type=IO_TYPES[population.io_type[index]],
                    strategy=strategy,
                    reuse_factor=reuse,
                    interval_cycles=int(population.interval_cycles[index]),
                ),
                lut_budget=float(population.lut_budget[index]) or None,
            )
        )
    return result
