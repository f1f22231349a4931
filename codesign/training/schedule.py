"""Which nodes of which networks are computed together, and where they find their inputs.

Nodes of all networks whose inputs are ready are grouped by layer type, width class and role.  Layers
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
from codesign.layers._training import TrainNodes
from codesign.space import population_from_candidates

#: Nodes are grouped with nodes whose result lies between the same two of these widths (further ones
#: double), and padded to the widest of them: few large groups beat exact widths.  Measured on 256 designs of
#: mlp_l1, networks and epochs a second of one core: 17 with 12/24/48/96, 22 with these, 16 with 64 alone.
_WIDTH_CLASSES = np.array([16, 64])


@dataclass(frozen=True, kw_only=True)
class Group:
    """Nodes computed together.

    Attributes:
        layer: their type.
        members: int64[k], rows of the population.
        nodes: what their module needs to know.
        inputs: per input: int64[k, 2], the (group, index in it) of the node that each reads.
    """

    layer: str
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
        n_classes: width of every network's last node.
    """

    groups: tuple[Group, ...]
    names: tuple[str, ...]
    candidate: NDArray[np.int64]
    outputs: tuple[tuple[int, int], ...]
    n_classes: int


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


def build_schedule(candidates: Sequence[Candidate], seeds: Sequence[int]) -> Schedule:
    """Group the nodes of many networks.

    Args:
        candidates: the networks.
        seeds: per candidate: seed of its initial weights.

    Raises:
        DesignError: an illegal network, networks with different numbers of outputs, or a network
            whose last node does not round.
    """
    if not candidates:
        raise DesignError("no candidates to train; give at least one")
    population = population_from_candidates(candidates)
    return _Scheduler(population, candidates, seeds).run()


class _Scheduler:
    """Working state of `build_schedule`."""

    def __init__(
        self, population: Population, candidates: Sequence[Candidate], seeds: Sequence[int]
    ) -> None:
        self._population = population
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
        self._groups: list[Group] = []
        self._place: dict[int, tuple[int, int]] = {}

    def run(self) -> Schedule:
        waiting = [row for row in range(len(self._names)) if not self._folded[row]]
        while waiting:
            ready = [r for r in waiting if all(i in self._place for i in self._inputs[r])]
            light = [r for r in ready if not self._layers[r].has_multipliers]
            chosen = light or ready
            keys: dict[tuple[object, ...], list[int]] = {}
            for row in chosen:
                keys.setdefault(self._key(row), []).append(row)
            for key in sorted(keys, key=str):
                self._add(keys[key])
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
            n_classes=widths.pop(),
        )

    def _key(self, row: int) -> tuple[object, ...]:
        return (
            self._layers[row].name,
            _width_class(self._population.columns["n_out"][row]),
            len(self._inputs[row]),
            _width_class(self._population.columns["n_in"][row]),
            bool(self._is_output[row]),
        )

    def _add(self, rows: list[int]) -> None:
        columns = self._population.columns
        rows.sort(key=lambda row: ([self._place[i] for i in self._inputs[row]], row))
        members = np.array(rows, dtype=np.int64)
        n_inputs = len(self._inputs[rows[0]])
        widths = tuple(
            columns["n_out"][[self._inputs[r][slot] for r in rows]].astype(np.int64)
            for slot in range(n_inputs)
        )
        padded = tuple(int(w.max()) for w in widths)
        nodes = TrainNodes(
            columns={name: values[members] for name, values in columns.items()},
            input_widths=widths,
            padded_inputs=padded,
            padded_output=int(columns["n_out"][members].max()),
            is_normalised=self._is_normalised[members],
            is_output=bool(self._is_output[members[0]]),
            seeds=tuple(self._node_seed(row) for row in rows),
        )
        index = len(self._groups)
        self._groups.append(
            Group(
                layer=self._layers[rows[0]].name,
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
    position = int(np.searchsorted(_WIDTH_CLASSES, width))
    if position < len(_WIDTH_CLASSES):
        return int(_WIDTH_CLASSES[position])
    return 1 << int(np.ceil(np.log2(width)))
