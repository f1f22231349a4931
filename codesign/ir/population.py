"""A population of candidates as one table of nodes: what search, encoding and lowering share.

A single candidate is a population of one; nothing downstream loops over candidates.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.ir.candidate import FLOWS


@dataclass(frozen=True, kw_only=True)
class Tensors:
    """k tensors, what one node each reads or writes, as columns (float64[k] each).

    A shape is (rows, columns, channels) without the axes that hold 0: features are (channels,),
    particles (columns, channels), images (rows, columns, channels).  Everything before the last axis
    is a position; layers with weights use the same ones at every position.

    Attributes:
        n_rows, n_columns: length of the axis, 0 where there is none.
        n_channels: length of the last axis.
        bits: of each word.
        is_signed: 0 or 1.
    """

    n_rows: NDArray[np.float64]
    n_columns: NDArray[np.float64]
    n_channels: NDArray[np.float64]
    bits: NDArray[np.float64]
    is_signed: NDArray[np.float64]

    @property
    def n_positions(self) -> NDArray[np.float64]:
        """float64[k], product of all axes but the last."""
        return np.asarray(np.maximum(self.n_rows, 1.0) * np.maximum(self.n_columns, 1.0))

    @property
    def rank(self) -> NDArray[np.int64]:
        """int64[k], number of axes."""
        return 1 + (self.n_columns > 0) + (self.n_rows > 0)

    def shape(self, index: int) -> tuple[int, ...]:
        """Return the shape of one tensor."""
        axes = (self.n_rows[index], self.n_columns[index], self.n_channels[index])
        return tuple(int(axis) for axis in axes if axis)


class Rows(Mapping[str, NDArray[np.float64]]):
    """Columns restricted to some nodes; each is gathered when it is first asked for."""

    def __init__(self, columns: Mapping[str, NDArray[np.float64]], rows: NDArray[np.int64]) -> None:
        self._columns, self._rows = columns, rows
        self._known: dict[str, NDArray[np.float64]] = {}

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        if name not in self._known:
            self._known[name] = self._columns[name][self._rows]
        return self._known[name]

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


@dataclass(frozen=True, kw_only=True)
class Population:
    """All nodes of all candidates, as columns.

    Nodes are sorted by candidate, and topologically within a candidate.

    Attributes:
        n_candidates: how many candidates.
        layer_names: vocabulary of layer types.
        layer: int64[m], index into `layer_names`.
        candidate: int64[m], the candidate each node belongs to.
        stage: int64[m], longest distance in nodes from the input node.
        columns: per column float64[m]: `COLUMNS`, and what the layer types of `layer_names` declare as
            parameters (0 where a node's layer does not use it).
        edges: int64[2, e], node indices (from, to); those into one node in the order of its inputs.
        clock_period_ns: float64[n_candidates].
        flow: int64[n_candidates], index into `FLOWS`.
        io_type: int64[n_candidates], index into `IO_TYPES`.
        lut_budget: float64[n_candidates], LUTs that learned widths may cost; 0 where widths are those of the
            columns (elsewhere these say nothing).
        interval_cycles: int64[n_candidates], cycles from one event to the next that plain RTL is built for; 1 where
            particles do not take turns.
    """

    n_candidates: int
    layer_names: tuple[str, ...]
    layer: NDArray[np.int64]
    candidate: NDArray[np.int64]
    stage: NDArray[np.int64]
    columns: Mapping[str, NDArray[np.float64]]
    edges: NDArray[np.int64]
    clock_period_ns: NDArray[np.float64]
    flow: NDArray[np.int64]
    io_type: NDArray[np.int64]
    lut_budget: NDArray[np.float64]
    interval_cycles: NDArray[np.int64]

    @property
    def is_rtl(self) -> NDArray[np.bool_]:
        """bool[n_candidates], realised as plain distributed-arithmetic RTL."""
        return np.asarray(self.flow == FLOWS.index("rtl"))

    def of(self, rows: NDArray[np.int64]) -> Rows:
        """Return the columns of some nodes."""
        return Rows(self.columns, rows)

    def take(self, members: NDArray[np.bool_]) -> "Population":
        """Return the candidates where bool[n_candidates] is true, in order."""
        if members.all():
            return self
        keep = members[self.candidate]
        row_number = np.cumsum(keep) - 1
        candidate_number = np.cumsum(members) - 1
        edges = self.edges[:, keep[self.edges[0]]]
        return Population(
            n_candidates=int(members.sum()),
            layer_names=self.layer_names,
            layer=self.layer[keep],
            candidate=candidate_number[self.candidate[keep]],
            stage=self.stage[keep],
            columns={name: values[keep] for name, values in self.columns.items()},
            edges=row_number[edges],
            clock_period_ns=self.clock_period_ns[members],
            flow=self.flow[members],
            io_type=self.io_type[members],
            lut_budget=self.lut_budget[members],
            interval_cycles=self.interval_cycles[members],
        )


#: Columns that every population has, whatever its layers:
#: n_in: channels that a node reads, or terms of each of its sums where a layer joins several positions;
#: n_out, n_rows, n_columns, n_positions: the shape it writes, and the product of all axes but the last;
#: n_copies, n_turns: of these positions, how many are worked on side by side, and how many times after
#: another; shared_turns: turns that particles take at the node's logic in plain RTL, a pool of them included, 1
#: elsewhere; schedule: `stage`, where particles take turns behind all that they wait for; delayed_bits: bits of its
#: result that wait for a later phase (`codesign.space.turns`); input_positions: of its first input; input_bits,
#: input_signed: the widest word it reads; output_bits, output_signed: the word it writes; strategy (code),
#: reuse_factor: of its multipliers.
COLUMNS = (
    "n_in",
    "n_out",
    "n_rows",
    "n_columns",
    "n_positions",
    "n_copies",
    "n_turns",
    "shared_turns",
    "schedule",
    "delayed_bits",
    "input_positions",
    "input_bits",
    "input_signed",
    "output_bits",
    "output_signed",
    "strategy",
    "reuse_factor",
)
