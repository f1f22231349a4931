"""Which nodes of which networks are computed together, and where they find their inputs.

Nodes of all networks whose inputs are ready are grouped by layer type, positions, width class and role.  Layers
with multipliers wait until nothing else is ready: networks of different shape (with or without a
skip, say) then meet again at their next dense layer, and the groups stay large.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError
from codesign.ir import Candidate, Network, Node, Population
from codesign.layers import LAYERS
from codesign.layers._training import Granularity, TrainNodes
from codesign.space import population_from_candidates

#: Nodes are sorted into cells by these widths (further ones double); cells then merge where that saves
#: time: few large groups have less overhead, groups of equal widths less padding.
_WIDTHS = np.array([8, 16, 24, 32, 48, 64, 96])
#: What one group costs by itself, and what one weight costs, in units of a lane (of 256 rows; about a
#: microsecond a step on one core).  Measured on mlp_l1.
_LANES_PER_GROUP = 800.0
_LANES_PER_WEIGHT = 1 / 55


@dataclass(frozen=True, kw_only=True)
class Group:
    """Nodes computed together.

    Attributes:
        family: layers of their kind; names the layer itself where it has no family.
        members: int64[k], rows of the population.
        nodes: what their module needs to know.
        inputs: per input: int64[k, 2], the (group, index in it) of the node that each reads.
    """

    family: str
    members: NDArray[np.int64]
    nodes: TrainNodes
    inputs: tuple[NDArray[np.int64], ...]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """All groups of all networks, in order of computation.

    Attributes:
        groups: the first one or more are the inputs.
        names: per population row: the node's name, "" for nodes folded into their source.
        candidate: int64 per population row.
        outputs: per candidate: (group, index in it) of its last node.
        n_outputs: width of every network's last node.
        taps: (group, index in it) of nodes whose values are kept for the loss.
    """

    groups: tuple[Group, ...]
    names: tuple[str, ...]
    candidate: NDArray[np.int64]
    outputs: tuple[tuple[int, int], ...]
    n_outputs: int
    taps: tuple[tuple[int, int], ...] = ()

    def width(self, place: tuple[int, int]) -> int:
        """Return the width of the node at (group, index in it)."""
        group, index = place
        return int(self.groups[group].nodes.columns["n_out"][index])


def folded_network(network: Network) -> Network:
    """Return the network without nodes that are trained as part of their source.

    Raises:
        DesignError: such a node reads one without multipliers, or one that others read too.
    """
    alias: dict[str, str] = {}
    nodes: list[Node] = []
    for node in network.nodes:
        if LAYERS.get(node.layer).folds_into_source:
            (source,) = node.inputs
            readers = [n.name for n in network.nodes if source in n.inputs]
            if not LAYERS.get(network.node(source).layer).has_multipliers or len(readers) > 1:
                raise DesignError(
                    f"{node.name}: {node.layer} folds into the node it reads, {source!r}, which must have"
                    " multipliers and no other reader; place it directly after a dense node"
                )
            alias[node.name] = alias.get(source, source)
            continue
        inputs = tuple(alias.get(name, name) for name in node.inputs)
        nodes.append(
            Node(name=node.name, layer=node.layer, inputs=inputs, parameters=node.parameters)
        )
    return Network(nodes=tuple(nodes))


def build_schedule(
    candidates: Sequence[Candidate],
    seeds: Sequence[int],
    *,
    granularity: Granularity | None = None,
    tapped: Sequence[str | None] | None = None,
) -> Schedule:
    """Group the nodes of many networks.

    Args:
        candidates: the networks.
        seeds: per candidate: seed of its initial weights.
        granularity: what shares one learned width; None where widths are those of the candidates.
        tapped: per candidate: a node whose values the loss reads, or None.

    Raises:
        DesignError: an illegal network, networks with different numbers of outputs, or a network
            whose last node does not round, or has several positions.
    """
    if not candidates:
        raise DesignError("no candidates to train; give at least one")
    population = population_from_candidates(candidates)
    return _Scheduler(population, candidates, seeds, granularity).run(tapped or ())


class _Scheduler:
    """Working state of `build_schedule`."""

    def __init__(
        self,
        population: Population,
        candidates: Sequence[Candidate],
        seeds: Sequence[int],
        granularity: Granularity | None,
    ) -> None:
        self._population = population
        self._granularity = granularity
        self._seeds = seeds
        names = [node.name for candidate in candidates for node in candidate.network.nodes]
        m = len(names)
        self._layers = [LAYERS.get(population.layer_names[code]) for code in population.layer]
        self._inputs: list[list[int]] = [[] for _ in range(m)]
        for source, target in population.edges.T:
            self._inputs[target].append(int(source))
        self._is_normalised = np.zeros(m, dtype=bool)
        self._folded = np.zeros(m, dtype=bool)
        alias = np.arange(m)
        for row in range(m):
            if self._layers[row].folds_into_source:
                (source,) = self._inputs[row]
                alias[row] = alias[source]
                self._is_normalised[alias[row]] = True
                self._folded[row] = True
            self._inputs[row] = [int(alias[i]) for i in self._inputs[row]]
        for candidate in candidates:
            folded_network(candidate.network)  # checks what may be folded
        self._names = tuple("" if f else n for n, f in zip(names, self._folded, strict=True))
        last = np.searchsorted(population.candidate, np.arange(1, len(candidates) + 1)) - 1
        self._is_output = np.zeros(m, dtype=bool)
        self._is_output[last] = True
        self._last = last
        for row in last:
            if not any(p.column == "output_bits" for p in self._layers[row].parameters):
                raise DesignError(
                    f"{names[row]}: the last node of a network must round its result; end it with a linear node"
                )
            if population.columns["n_positions"][row] > 1:
                raise DesignError(
                    f"{names[row]}: the last node of a network has {self._n_positions(row)} positions; training"
                    " needs one: pool or flatten before it"
                )
        self._readers: list[list[int]] = [[] for _ in range(m)]
        for row in range(m):
            for source in self._inputs[row] if not self._folded[row] else ():
                self._readers[source].append(row)
        self._groups: list[Group] = []
        self._place: dict[int, tuple[int, int]] = {}

    def run(self, tapped: Sequence[str | None]) -> Schedule:
        waiting = [row for row in range(len(self._names)) if not self._folded[row]]
        while waiting:
            ready = [r for r in waiting if all(i in self._place for i in self._inputs[r])]
            light = [r for r in ready if not self._layers[r].has_multipliers]
            chosen = light or ready
            kinds: dict[tuple[object, ...], list[int]] = {}
            for row in chosen:
                kinds.setdefault(self._kind(row), []).append(row)
            for kind in sorted(kinds, key=str):
                for rows in self._divided(kinds[kind]):
                    self._add(rows)
            done = set(chosen)
            waiting = [r for r in waiting if r not in done]
        widths = {int(self._population.columns["n_out"][row]) for row in self._last}
        if len(widths) != 1:
            raise DesignError(
                f"networks have {sorted(widths)} outputs; train networks of one task together"
            )
        return Schedule(
            groups=tuple(self._groups),
            names=self._names,
            candidate=self._population.candidate,
            outputs=tuple(self._place[int(row)] for row in self._last),
            n_outputs=widths.pop(),
            taps=tuple(
                self._place[self._row(i, name)] for i, name in enumerate(tapped) if name is not None
            ),
        )

    def _row(self, candidate: int, name: str) -> int:
        """Return the population row of a candidate's node."""
        first, stop = np.searchsorted(self._population.candidate, [candidate, candidate + 1])
        return int(first) + self._names[first:stop].index(name)

    def _family(self, row: int) -> str:
        return self._layers[row].train_family or self._layers[row].name

    def _kind(self, row: int) -> tuple[object, ...]:
        """What nodes of one group must have in common.

        Layers without multipliers that read one node are grouped as their sources are, so that
        nothing has to be moved between the two groups.
        """
        follows = not self._layers[row].has_multipliers and len(self._inputs[row]) == 1
        return (
            self._family(row),
            *(self._positions(r) for r in (row, *self._inputs[row])),
            bool(self._is_output[row]),
            self._is_output[self._readers[row]].any() if self._readers[row] else False,
            self._place[self._inputs[row][0]][0] if follows else -1,
        )

    def _positions(self, row: int) -> tuple[int, int]:
        """Rows and columns of a node's result, 0 where it has no such axis."""
        columns = self._population.columns
        return int(columns["n_rows"][row]), int(columns["n_columns"][row])

    def _n_positions(self, row: int) -> int:
        return int(self._population.columns["n_positions"][row])

    def _widths(self, row: int) -> tuple[int, ...]:
        """Real widths of result and inputs."""
        columns = self._population.columns["n_out"]
        return (int(columns[row]), *(int(columns[i]) for i in self._inputs[row]))

    def _divided(self, rows: list[int]) -> list[list[int]]:
        """Divide nodes of one kind into groups: by width, as far as that saves time."""
        cells: dict[tuple[int, ...], list[int]] = {}
        for row in rows:
            cells.setdefault(tuple(_width_class(w) for w in self._widths(row)), []).append(row)
        if self._kind(rows[0])[-1] != -1:
            return [rows]
        has_weights = self._layers[rows[0]].has_multipliers
        widths = {key: np.array([self._widths(r) for r in cells[key]]).max(0) for key in cells}
        parts = [(len(cells[key]), widths[key], cells[key]) for key in sorted(cells)]
        n_positions = np.array([self._n_positions(r) for r in (rows[0], *self._inputs[rows[0]])])

        def cost(k: int, padded: NDArray[np.int64]) -> float:
            weights = padded[0] * padded[1] * _LANES_PER_WEIGHT if has_weights else 0.0
            return _LANES_PER_GROUP + k * (float((padded * n_positions).sum()) + weights)

        while len(parts) > 1:
            best, pair = 0.0, None
            for i, (k, padded, _) in enumerate(parts):
                for j, (other_k, other, _) in enumerate(parts[:i]):
                    saved = cost(k, padded) + cost(other_k, other)
                    saved -= cost(k + other_k, np.maximum(padded, other))
                    if saved > best:
                        best, pair = saved, (j, i)
            if pair is None:
                break
            (k, padded, mine), (other_k, other, theirs) = parts[pair[0]], parts[pair[1]]
            parts[pair[0]] = (k + other_k, np.maximum(padded, other), mine + theirs)
            del parts[pair[1]]
        return [members for _, _, members in parts]

    def _order(self, row: int) -> tuple[object, ...]:
        """Sort key of a node in its group: readers of one type together, then sources in order."""
        readers = [self._layers[r].name for r in self._readers[row]]
        places = [self._place[i] for i in self._inputs[row]]
        groups = [group for group, _ in places]
        follows = not self._layers[row].has_multipliers and len(places) == 1
        return ([] if follows else readers, groups, places, row)

    def _add(self, rows: list[int]) -> None:
        columns = self._population.columns
        rows.sort(key=self._order)
        members = np.array(rows, dtype=np.int64)
        n_inputs = len(self._inputs[rows[0]])
        widths = tuple(
            columns["n_out"][[self._inputs[r][slot] for r in rows]].astype(np.int64)
            for slot in range(n_inputs)
        )
        padded = tuple(int(w.max()) for w in widths)
        sources = self._inputs[rows[0]]
        nodes = TrainNodes(
            layers=tuple(self._layers[row].name for row in rows),
            columns={name: values[members] for name, values in columns.items()},
            input_widths=widths,
            padded_inputs=padded,
            padded_output=int(columns["n_out"][members].max()),
            input_positions=tuple(self._n_positions(source) for source in sources),
            input_axes=tuple(
                np.stack([columns[axis][reads] for axis in ("n_rows", "n_columns")], axis=1).astype(
                    np.int64
                )
                for reads in ([self._inputs[r][slot] for r in rows] for slot in range(n_inputs))
            ),
            n_positions=self._n_positions(rows[0]),
            is_normalised=self._is_normalised[members],
            is_output=bool(self._is_output[members[0]]),
            seeds=tuple(self._node_seed(row) for row in rows),
            granularity=self._granularity,
        )
        index = len(self._groups)
        self._groups.append(
            Group(
                family=self._family(rows[0]),
                members=members,
                nodes=nodes,
                inputs=tuple(
                    np.array([self._place[self._inputs[r][slot]] for r in rows], dtype=np.int64)
                    for slot in range(n_inputs)
                ),
            )
        )
        for position, row in enumerate(rows):
            self._place[row] = (index, position)

    def _node_seed(self, row: int) -> int:
        """Mix the candidate's seed with the node's position in it."""
        candidate = int(self._population.candidate[row])
        first = int(np.searchsorted(self._population.candidate, candidate))
        return int(
            np.random.SeedSequence([self._seeds[candidate], row - first]).generate_state(1)[0]
        )


def _width_class(width: float) -> int:
    position = int(np.searchsorted(_WIDTHS, width))
    if position < len(_WIDTHS):
        return int(_WIDTHS[position])
    return 1 << int(np.ceil(np.log2(width)))
