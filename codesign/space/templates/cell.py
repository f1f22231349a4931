"""Cell spaces: one small cell with searched wiring, repeated with the same wiring.

A stem (dense -> activation) sets the width; every cell keeps it.  Node j of a cell reads one earlier
point of the cell (0: the cell's input, i: node i), may add a second one, and applies dense -> [batch norm]
-> activation.  The cell's output is its last node; nodes on no path to it do not exist.

Genes: n_cells, width, activation, batch_norm, bits, pruning and hardware, shared by all cells; per
node j from 2 on: first_j (an earlier point) and second_j (an earlier point, or the number j: none).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from codesign.errors import ConfigError
from codesign.ir import Population
from codesign.layers import LAYERS
from codesign.space.templates import TEMPLATES
from codesign.space.templates._shared import (
    HARDWARE,
    OPTIONAL,
    GeneTable,
    PopulationBuilder,
    greatest,
)
from codesign.space.templates.base import Gene, Template, Value

_SHARED = (
    "n_cells",
    "width",
    "activation",
    "batch_norm",
    "result_bits",
    "input_bits",
    "output_bits",
    "flow",
    "clock_mhz",
)
_PARTS = ("stem", "cell", "head")


class Cell(Template):
    """A repeated cell of dense layers with searched wiring."""

    name = "cell"
    domain_names = (*_SHARED, *HARDWARE, "nodes_per_cell")
    optional_domain_names = OPTIONAL

    def __init__(
        self,
        domains: Mapping[str, Sequence[Value]],
        *,
        input_shape: tuple[int, ...],
        n_outputs: int,
    ) -> None:
        self._n_nodes = greatest(domains, "nodes_per_cell")
        if len(domains["nodes_per_cell"]) != 1:
            raise ConfigError(
                f"domains.nodes_per_cell: expected one number, got {list(domains['nodes_per_cell'])}; it is not searched"
            )
        self._input_shape, self._n_outputs = input_shape, n_outputs
        self._n_inputs = math.prod(input_shape)
        self._n_cells = greatest(domains, "n_cells")
        wiring = {f"wiring_of_first_{j}": tuple(range(j)) for j in range(2, self._n_nodes + 1)}
        wiring |= {
            f"wiring_of_second_{j}": tuple(range(j + 1)) for j in range(2, self._n_nodes + 1)
        }
        genes = {name: name for name in _SHARED}
        for j in range(2, self._n_nodes + 1):
            genes |= {f"first_{j}": f"wiring_of_first_{j}", f"second_{j}": f"wiring_of_second_{j}"}
        for part in _PARTS:
            genes |= {f"{name}_{part}": name for name in HARDWARE}
        self._table = GeneTable.build({**domains, **wiring}, genes, wiring, ("nodes_per_cell",))

    @property
    def genes(self) -> tuple[Gene, ...]:
        return self._table.genes

    def _wiring(
        self, genomes: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Return first and second source of every node, int64[n_nodes + 1, n], and which nodes live.

        A second source equal to the first, or to the node itself, is none and reads -1.
        """
        n = genomes.shape[0]
        first = np.zeros((self._n_nodes + 1, n), dtype=np.int64)
        second = np.full((self._n_nodes + 1, n), -1, dtype=np.int64)
        for j in range(2, self._n_nodes + 1):
            first[j] = self._table.column(genomes, f"first_{j}")
            other = self._table.column(genomes, f"second_{j}")
            second[j] = np.where((other == j) | (other == first[j]), -1, other)
        lives = np.zeros((self._n_nodes + 1, n), dtype=bool)
        lives[self._n_nodes] = True
        members = np.arange(n)
        for j in range(self._n_nodes, 0, -1):
            lives[first[j], members] |= lives[j]
            reads = lives[j] & (second[j] >= 0)
            lives[second[j][reads], members[reads]] = True
        return first, second, lives

    def canonicalize(self, genomes: NDArray[np.int64]) -> NDArray[np.int64]:
        out = genomes.copy()
        first, second, lives = self._wiring(out)
        # Live nodes move up to the places of dead ones, the last node excepted; dead ones hold 0.
        members = np.arange(len(out))
        place = np.vstack([np.zeros_like(members), np.cumsum(lives[1:], axis=0)])
        place[self._n_nodes] = self._n_nodes
        wiring = np.zeros((2, *first.shape), dtype=np.int64)
        for j in range(1, self._n_nodes + 1):
            who = members[lives[j]]
            own = place[j, who]
            sources = np.stack([first[j, who], np.maximum(second[j, who], 0)])
            low, high = np.sort(place[sources, who], axis=0)
            is_pair = second[j, who] >= 0  # a sum: the order of its terms does not matter
            wiring[0, own, who] = np.where(is_pair, low, place[first[j, who], who])
            wiring[1, own, who] = np.where(is_pair, high, own)
        for j in range(2, self._n_nodes + 1):
            out[:, self._table.index(f"first_{j}")] = wiring[0, j]
            out[:, self._table.index(f"second_{j}")] = wiring[1, j]
        width = self._table.numbers(out, "width").astype(np.int64)
        shapes = {
            "stem": (np.full_like(width, self._n_inputs), width),
            "cell": (width, width),
            "head": (width, np.full_like(width, self._n_outputs)),
        }
        for part in _PARTS:
            self._table.clear_hardware(out, part, n_in=shapes[part][0], n_out=shapes[part][1])
        return out

    def decode(self, genomes: NDArray[np.int64]) -> Population:
        table, genomes = self._table, self.canonicalize(genomes)
        n = genomes.shape[0]
        members, everyone = np.arange(n), np.ones(n, dtype=bool)
        codes = {name: i for i, name in enumerate(LAYERS.names())}
        first, second, lives = self._wiring(genomes)
        width = table.numbers(genomes, "width")
        has_norm = table.numbers(genomes, "batch_norm") > 0
        activation = table.activation_codes(genomes, "activation", codes)
        result_bits = table.numbers(genomes, "result_bits")
        builder = PopulationBuilder(n, codes)

        def block(
            present: NDArray[np.bool_], source: NDArray[np.int64], part: str
        ) -> NDArray[np.int64]:
            node = builder.add(
                present, "dense", [source], n_out=width, **table.hardware(genomes, part)
            )
            node = builder.add(present & has_norm, "batch_norm", [node])
            return builder.add(present, activation, [node], output_bits=result_bits)

        tip = builder.flat_input(self._input_shape, table.numbers(genomes, "input_bits"))
        tip = block(everyone, tip, "stem")
        n_cells = table.numbers(genomes, "n_cells")
        for k in range(1, self._n_cells + 1):
            points = np.tile(tip, (self._n_nodes + 1, 1))
            for j in range(1, self._n_nodes + 1):
                present = (n_cells >= k) & lives[j]
                source = points[first[j], members]
                other = points[np.maximum(second[j], 0), members]
                source = builder.add(present & (second[j] >= 0), "add", [source, other])
                points[j] = block(present, source, "cell")
            tip = np.where(n_cells >= k, points[self._n_nodes], tip)
        n_outputs = np.full(n, float(self._n_outputs))
        tip = builder.add(
            everyone, "dense", [tip], n_out=n_outputs, **table.hardware(genomes, "head")
        )
        builder.add(everyone, "linear", [tip], output_bits=table.numbers(genomes, "output_bits"))
        return builder.finish(layer_names=LAYERS.names(), **table.deployment(genomes))


TEMPLATES.add(Cell.name, Cell)
