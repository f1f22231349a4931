"""A population of candidates as one table of nodes: what search, encoding and lowering share.

A single candidate is a population of one; nothing downstream loops over candidates.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.ir.candidate import FLOWS


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
        columns: per column float64[m] (0 where a layer does not use it):
            n_in, n_out: width of what the node reads (sum over inputs) and writes;
            input_bits, input_signed: the widest word it reads;
            output_bits, output_signed: the word it writes;
            weight_bits, pruned_fraction, strategy (code), reuse_factor: of nodes with multipliers.
        edges: int64[2, e], node indices (from, to).
        clock_period_ns: float64[n_candidates].
        flow: int64[n_candidates], index into `FLOWS`.
        io_type: int64[n_candidates], index into `IO_TYPES`.
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

    @property
    def is_rtl(self) -> NDArray[np.bool_]:
        """bool[n_candidates], realised as plain distributed-arithmetic RTL."""
        return np.asarray(self.flow == FLOWS.index("rtl"))

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
        )


#: Columns that every population has.
COLUMNS = (
    "n_in",
    "n_out",
    "input_bits",
    "input_signed",
    "output_bits",
    "output_signed",
    "weight_bits",
    "pruned_fraction",
    "strategy",
    "reuse_factor",
)
