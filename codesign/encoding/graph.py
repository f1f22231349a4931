"""Graphs as people write them: records, their file format, checks and the canonical form."""

import gzip
import heapq
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from codesign.encoding.batch import GraphBatch
from codesign.errors import DataError

#: What an operator may declare about itself.  `zero` computes nothing: its node can be deleted.
#: `identity` passes its input on: its node can be contracted.
ROLES = ("zero", "identity")
_NODE_KEYS = ("op", "role")


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A directed acyclic graph of operators with one input (source) and one output (sink).

    Attributes:
        name: for messages.
        ops: operator of each node.
        roles: "zero", "identity" or None, per node.
        attributes: numeric attributes of each node, by name.
        edges: (from, to, multiplicity); parallel edges are merged into one.
        extras: numeric attributes of the whole graph, by name.
        target: label, or None.
    """

    name: str
    ops: tuple[str, ...]
    roles: tuple[str | None, ...]
    attributes: tuple[Mapping[str, float], ...]
    edges: tuple[tuple[int, int, float], ...]
    extras: Mapping[str, float] = field(default_factory=dict)
    target: float | None = None

    def __post_init__(self) -> None:
        n = len(self.ops)
        if n == 0:
            raise DataError(
                f"graph {self.name}: no nodes; expected at least an input and an output"
            )
        if not len(self.roles) == len(self.attributes) == n:
            raise DataError(f"graph {self.name}: ops, roles and attributes differ in length")
        for role in self.roles:
            if role is not None and role not in ROLES:
                raise DataError(
                    f"graph {self.name}: unknown role {role!r}; expected zero, identity or none"
                )
        for source, target, multiplicity in self.edges:
            if not (0 <= source < n and 0 <= target < n):
                raise DataError(
                    f"graph {self.name}: edge [{source}, {target}] leaves the {n} nodes; "
                    f"nodes are numbered 0..{n - 1}"
                )
            if not multiplicity > 0:
                raise DataError(
                    f"graph {self.name}: edge [{source}, {target}] has multiplicity {multiplicity}"
                )
        for values in (*self.attributes, self.extras):
            for key, value in values.items():
                if not math.isfinite(value):
                    raise DataError(
                        f"graph {self.name}: attribute {key!r} is {value}; expected a finite number"
                    )
        if self.target is not None and not math.isfinite(self.target):
            raise DataError(
                f"graph {self.name}: its label is {self.target}; expected a finite number: drop the "
                "graph or train it again"
            )
        order = topological_order(self)
        if n > 2 or self.edges:  # input and output alone, unjoined: a network without a signal
            readers = {source for source, _, _ in self.edges}
            written = {target for _, target, _ in self.edges}
            for what, missing, wanted in (
                ("incoming", [i for i in range(n) if i not in written], "input"),
                ("outgoing", [i for i in range(n) if i not in readers], "output"),
            ):
                allowed = {order[0]} if wanted == "input" else {order[-1]}
                if set(missing) != allowed:
                    listed = ", ".join(f"{i} ({self.ops[i]})" for i in missing)
                    raise DataError(
                        f"graph {self.name}: nodes {listed} have no {what} edge, so part of it is "
                        f"disconnected; expected exactly one {wanted} node: connect or remove them"
                    )


def topological_order(graph: Graph) -> list[int]:
    """Return the nodes so that every edge points forward; smallest numbers first among equals.

    Raises:
        DataError: the graph has a cycle; the message names the nodes on or behind it.
    """
    waiting = [0] * len(graph.ops)
    successors: dict[int, list[int]] = defaultdict(list)
    for source, target, _ in graph.edges:
        waiting[target] += 1
        successors[source].append(target)
    ready = [i for i, count in enumerate(waiting) if count == 0]
    order: list[int] = []
    while ready:
        node = heapq.heappop(ready)
        order.append(node)
        for target in successors[node]:
            waiting[target] -= 1
            if waiting[target] == 0:
                heapq.heappush(ready, target)
    if len(order) < len(graph.ops):
        cyclic = sorted(set(range(len(graph.ops))) - set(order))
        raise DataError(
            f"graph {graph.name}: nodes {', '.join(map(str, cyclic))} are on a cycle or behind one; "
            "expected a directed acyclic graph"
        )
    return order


def canonicalise(graph: Graph) -> Graph:
    """Return the graph that computes the same with the fewest nodes.

    Nodes of role `zero` are deleted; then all that is not on a path from input to output; nodes of
    role `identity` are contracted, the multiplicities of in- and outgoing edges multiplied.  Input
    and output always stay; without any path between them only these two remain.  Nodes come out in
    topological order, the input first and the output last; the edges into a node keep their order
    (it matters to a concatenation), except that repeated ones move together.  Idempotent.
    """
    order = topological_order(graph)
    first, last = order[0], order[-1]
    outgoing: list[dict[int, float]] = [{} for _ in order]
    incoming: list[dict[int, float]] = [{} for _ in order]
    dead = {i for i in order if graph.roles[i] == "zero" and i not in (first, last)}
    for source, target, multiplicity in graph.edges:
        if source not in dead and target not in dead:
            total = outgoing[source].get(target, 0.0) + multiplicity
            outgoing[source][target] = incoming[target][source] = total
    alive = _reachable(first, outgoing) & _reachable(last, incoming) | {first, last}
    for node in order:
        if node not in alive or (graph.roles[node] == "identity" and node not in (first, last)):
            if node in alive:
                for target, after in outgoing[node].items():
                    incoming[target] = _replace(incoming[target], node, incoming[node], after)
                    for source in incoming[node]:
                        outgoing[source][target] = incoming[target][source]
            for source in incoming[node]:
                del outgoing[source][node]
            for target in outgoing[node]:
                incoming[target].pop(node, None)
            incoming[node], outgoing[node] = {}, {}
            alive.discard(node)
    kept = [i for i in order if i in alive]
    place = {node: i for i, node in enumerate(kept)}
    edges = tuple((place[s], place[t], m) for t in kept for s, m in incoming[t].items())
    return _rebuild(graph, kept, edges)


def _replace(
    before: Mapping[int, float], node: int, sources: Mapping[int, float], times: float
) -> dict[int, float]:
    """Return the incoming edges `before` with those from `node` replaced by its own, in place."""
    out: dict[int, float] = {}
    for source, multiplicity in before.items():
        through = sources if source == node else {source: multiplicity}
        factor = times if source == node else 1.0
        for first, count in through.items():
            out[first] = out.get(first, 0.0) + count * factor
    return out


def sort_topologically(graph: Graph) -> Graph:
    """Return the same graph, nothing removed, with its nodes in topological order."""
    order = topological_order(graph)
    place = {node: i for i, node in enumerate(order)}
    edges = tuple((place[s], place[t], m) for s, t, m in graph.edges)
    return _rebuild(graph, order, edges)


def _rebuild(
    graph: Graph, nodes: Sequence[int], edges: tuple[tuple[int, int, float], ...]
) -> Graph:
    return replace(
        graph,
        ops=tuple(graph.ops[i] for i in nodes),
        roles=tuple(graph.roles[i] for i in nodes),
        attributes=tuple(graph.attributes[i] for i in nodes),
        edges=edges,
    )


def _reachable(start: int, neighbours: Sequence[Mapping[int, float]]) -> set[int]:
    seen, stack = {start}, [start]
    while stack:
        for node in neighbours[stack.pop()]:
            if node not in seen:
                seen.add(node)
                stack.append(node)
    return seen


def batch_from_graphs(graphs: Sequence[Graph], *, canonical: bool = True) -> GraphBatch:
    """Join graphs into one batch, canonicalised unless told otherwise.

    Columns are the union over the graphs, sorted by name; a node without an attribute gets NaN.

    Raises:
        DataError: no graphs, or graph-level attributes that only some graphs carry.
    """
    if not graphs:
        raise DataError("no graphs; expected at least one")
    prepared = [canonicalise(g) if canonical else sort_topologically(g) for g in graphs]
    op_names = tuple(sorted({op for g in prepared for op in g.ops}))
    numeric_names = tuple(sorted({name for g in prepared for a in g.attributes for name in a}))
    extra_names = tuple(sorted({name for g in prepared for name in g.extras}))
    op_place = {name: i for i, name in enumerate(op_names)}
    column = {name: i for i, name in enumerate(numeric_names)}
    sizes = np.array([len(g.ops) for g in prepared])
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    numeric = np.full((int(sizes.sum()), len(numeric_names)), np.nan, np.float32)
    for start, graph in zip(starts, prepared, strict=True):
        for i, attributes in enumerate(graph.attributes):
            for name, value in attributes.items():
                numeric[start + i, column[name]] = value
    for graph in prepared:
        if len(graph.extras) != len(extra_names):
            missing = sorted(set(extra_names) - set(graph.extras))
            raise DataError(
                f"graph {graph.name} lacks the graph-level attributes {', '.join(missing)} that "
                "others carry; give them to all graphs or to none"
            )
    edges = [
        (start + s, start + t, m)
        for start, graph in zip(starts, prepared, strict=True)
        for s, t, m in graph.edges
    ]
    joined = np.array(edges, dtype=np.float64).reshape(-1, 3)
    return GraphBatch(
        op_names=op_names,
        numeric_names=numeric_names,
        extra_names=extra_names,
        op=np.array([op_place[op] for g in prepared for op in g.ops], dtype=np.int64),
        numeric=numeric,
        graph_index=np.repeat(np.arange(len(prepared)), sizes),
        edge_index=joined[:, :2].T.astype(np.int64),
        edge_multiplicity=joined[:, 2].astype(np.float32),
        extras=np.array(
            [[g.extras[name] for name in extra_names] for g in prepared], np.float32
        ).reshape(len(prepared), len(extra_names)),
    )


def labels_of(graphs: Iterable[Graph]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the labels, float64[n].

    Raises:
        DataError: a graph has none.
    """
    graphs = list(graphs)
    for graph in graphs:
        if graph.target is None:
            raise DataError(f"graph {graph.name} has no label ('target'); label it or leave it out")
    return np.array([g.target for g in graphs], dtype=np.float64)


def load_graphs(path: Path, *, duplicates: str = "error") -> list[Graph]:
    """Read a graph file: one JSON object a line, optionally gzipped.

    Keys: `nodes` [{`op`, optional `role`, numeric attributes}], `edges` [[from, to], ...] (a pair
    may repeat), optional `target` (label), `id`, `extras` {name: number} of the whole graph.
    Other keys are left alone.

    Args:
        path: ends in .jsonl or .jsonl.gz.
        duplicates: what to do with equal graphs whose labels differ: "error" or "mean".

    Raises:
        DataError: unreadable, malformed or contradictory; the message gives file and line.
    """
    if duplicates not in ("error", "mean"):
        raise DataError(f"duplicates {duplicates!r}: expected error or mean")
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            lines = file.read().splitlines()
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such graph file; check the path") from error
    except (gzip.BadGzipFile, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: damaged ({error}); expected JSON lines") from error
    graphs = [
        _graph_from_line(line, where=f"{path.name}:{i}")
        for i, line in enumerate(lines, start=1)
        if line.strip()
    ]
    if not graphs:
        raise DataError(f"{path}: no graphs in it; expected one JSON object a line")
    return _merge_duplicates(graphs, path=path, mode=duplicates)


def _graph_from_line(line: str, *, where: str) -> Graph:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where}: not JSON ({error}); expected one graph a line") from error
    try:
        nodes, pairs = record["nodes"], record["edges"]
        ops, roles, attributes = [], [], []
        for node in nodes:
            ops.append(node["op"])
            roles.append(node.get("role"))
            attributes.append({k: _number(v) for k, v in node.items() if k not in _NODE_KEYS})
        if not all(isinstance(op, str) and op for op in ops):
            raise TypeError("'op' must be a non-empty string")
        edges: dict[tuple[int, int], float] = defaultdict(float)
        for source, target in pairs:
            if type(source) is not int or type(target) is not int:
                raise TypeError(f"edge [{source!r}, {target!r}] is not a pair of node numbers")
            edges[source, target] += 1.0
        target = record.get("target")
        return Graph(
            name=f"{where} (id {record['id']})" if "id" in record else where,
            ops=tuple(ops),
            roles=tuple(roles),
            attributes=tuple(attributes),
            edges=tuple((s, t, m) for (s, t), m in edges.items()),
            extras={k: _number(v) for k, v in record.get("extras", {}).items()},
            target=None if target is None else _number(target),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{where}: lacks or garbles {error}; expected nodes [{{op, role?, numbers}}], edges "
            "[[from, to]] and target"
        ) from error


def _number(value: Any) -> float:
    if isinstance(value, bool | int | float):
        return float(value)
    raise TypeError(f"{value!r}, which is no number")


def _merge_duplicates(graphs: list[Graph], *, path: Path, mode: str) -> list[Graph]:
    groups: dict[Any, list[Graph]] = defaultdict(list)
    for graph in graphs:
        key = (
            graph.ops,
            graph.roles,
            tuple(tuple(sorted(a.items())) for a in graph.attributes),
            tuple(sorted(graph.edges)),
        )
        groups[key].append(graph)
    merged = []
    for group in groups.values():
        labels = [g.target for g in group if g.target is not None]
        if len(set(labels)) > 1 and mode == "error":
            raise DataError(
                f"{path}: {group[0].name} and {group[1].name} are the same graph with labels "
                f"{labels[0]:g} and {labels[1]:g}; average repeated trainings first, or ask for "
                "`duplicates: mean`"
            )
        merged.append(replace(group[0], target=sum(labels) / len(labels) if labels else None))
    return merged
