"""How values get from the groups that compute them to the groups that read them.

Each group deals its rows (lanes of nodes) out to its readers, one piece per reader; a reader joins
the pieces of all its sources.  So each row is copied as often as it is read, however many groups
there are, and gradients come back by gathering, without zero-filling or scattering.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from codesign.training.schedule import Group

Int = NDArray[np.int64]


class _Deal(torch.autograd.Function):
    """pieces[i] = rows[index[i]]; the gradient of a row is the sum over its readings."""

    @staticmethod
    def forward(ctx, rows, dealer, *indices):  # type: ignore[no-untyped-def]
        ctx.dealer = dealer
        return tuple(rows.index_select(0, index) for index in indices)

    @staticmethod
    def backward(ctx, *gradients):  # type: ignore[no-untyped-def]
        dealer: Dealer = ctx.dealer
        joined = gradients[0] if len(gradients) == 1 else torch.cat(gradients)
        result = joined.index_select(0, dealer.first_reading)
        if dealer.unread.numel():
            result.index_fill_(0, dealer.unread, 0.0)
        for row, reading in zip(dealer.again_rows, dealer.again_readings, strict=True):
            result.index_add_(0, row, joined.index_select(0, reading))
        return (result, None, *(None for _ in gradients))


class Dealer(torch.nn.Module):
    """Deals the rows of one group to the inputs that read them."""

    first_reading: torch.Tensor
    unread: torch.Tensor

    def __init__(self, source: Group, pieces: Sequence[tuple[Int, Int, int]]) -> None:
        """Plan the deal.

        Args:
            source: the group.
            pieces: per reader: which members it reads in order, their real widths, and the width
                to pad each to.
        """
        super().__init__()
        width = source.nodes.padded_output
        n_rows = source.nodes.k * width
        indices, targets = [], []
        for members, widths, padded in pieces:
            lanes = np.arange(padded)[None, :]
            # Padding repeats the node's last lane: finite, and never read by a real lane.
            index = members[:, None] * width + np.minimum(lanes, widths[:, None] - 1)
            indices.append(index.reshape(-1))
            targets.append(np.where(lanes < widths[:, None], index, -1).reshape(-1))
        self.is_identity = len(indices) == 1 and np.array_equal(indices[0], np.arange(n_rows))
        if self.is_identity or not indices:  # the outputs of networks have no reader
            return
        self.n_pieces = len(indices)
        for i, index in enumerate(indices):
            self._keep(f"index_{i}", index)
        self._plan_backward(np.concatenate(targets), n_rows)

    def _plan_backward(self, targets: Int, n_rows: int) -> None:
        readings = np.flatnonzero(targets >= 0)
        readings = readings[np.argsort(targets[readings], kind="stable")]
        rows = targets[readings]
        starts = np.searchsorted(rows, np.arange(n_rows + 1))
        rank = np.arange(rows.size) - starts[rows]
        first = np.zeros(n_rows, dtype=np.int64)
        first[rows[rank == 0]] = readings[rank == 0]
        self._keep("first_reading", first)
        self._keep("unread", np.flatnonzero(np.diff(starts) == 0))
        self.n_again = int(rank.max(initial=0))
        for i in range(1, self.n_again + 1):
            self._keep(f"again_rows_{i}", rows[rank == i])
            self._keep(f"again_readings_{i}", readings[rank == i])

    def _keep(self, name: str, values: Int) -> None:
        tensor = torch.from_numpy(np.ascontiguousarray(values))
        self.register_buffer(name, tensor, persistent=False)

    @property
    def again_rows(self) -> list[torch.Tensor]:
        """Rows read a second time, a third time, and so on."""
        return [getattr(self, f"again_rows_{i}") for i in range(1, self.n_again + 1)]

    @property
    def again_readings(self) -> list[torch.Tensor]:
        """Where in the joined pieces those readings are."""
        return [getattr(self, f"again_readings_{i}") for i in range(1, self.n_again + 1)]

    def forward(self, values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Deal float32[k, width, batch]: one float32[rows, batch] per reader."""
        rows = values.reshape(-1, values.shape[2])
        if self.is_identity:
            return (rows,)
        indices = [getattr(self, f"index_{i}") for i in range(self.n_pieces)]
        return _Deal.apply(rows, self, *indices)  # type: ignore[no-any-return,no-untyped-call]


class _Permute(torch.autograd.Function):
    """rows[index] for a permutation."""

    @staticmethod
    def forward(ctx, rows, index, inverse):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(inverse)
        return rows.index_select(0, index)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        (inverse,) = ctx.saved_tensors
        return gradient.index_select(0, inverse), None, None


class Joiner(torch.nn.Module):
    """Joins the pieces that one input of one group reads."""

    order: torch.Tensor
    inverse: torch.Tensor

    def __init__(self, group: Group, slot: int) -> None:
        super().__init__()
        places = group.inputs[slot]
        self.sources = tuple(int(g) for g in np.unique(places[:, 0]))
        self.shape = (group.nodes.k, group.nodes.padded_inputs[slot])
        arrival = np.concatenate([np.flatnonzero(places[:, 0] == g) for g in self.sources])
        self._is_sorted = np.array_equal(arrival, np.arange(arrival.size))
        if not self._is_sorted:
            lanes = np.arange(self.shape[1])[None, :]
            order = (np.argsort(arrival)[:, None] * self.shape[1] + lanes).reshape(-1)
            inverse = (arrival[:, None] * self.shape[1] + lanes).reshape(-1)
            self.register_buffer("order", torch.from_numpy(order), persistent=False)
            self.register_buffer("inverse", torch.from_numpy(inverse), persistent=False)

    def forward(self, pieces: Sequence[torch.Tensor]) -> torch.Tensor:
        """Join pieces, in the order of `sources`, to float32[k, width, batch]."""
        rows = pieces[0] if len(pieces) == 1 else torch.cat(list(pieces))
        if not self._is_sorted:
            rows = _Permute.apply(rows, self.order, self.inverse)  # type: ignore[no-untyped-call]
        return rows.view(*self.shape, -1)


def plan_routes(
    groups: Sequence[Group],
) -> tuple[list[Dealer], list[list[Joiner]], list[dict[tuple[int, int], int]]]:
    """Plan who deals what to whom.

    Returns:
        Per group its dealer, its joiners (one per input), and which of its dealt pieces goes to
        which (group, input).
    """
    joiners = [[Joiner(g, slot) for slot in range(len(g.inputs))] for g in groups]
    pieces: list[list[tuple[Int, Int, int]]] = [[] for _ in groups]
    readers: list[dict[tuple[int, int], int]] = [{} for _ in groups]
    for reader, group in enumerate(groups):
        for slot, places in enumerate(group.inputs):
            for source in joiners[reader][slot].sources:
                chosen = places[:, 0] == source
                readers[source][reader, slot] = len(pieces[source])
                pieces[source].append(
                    (
                        places[chosen, 1],
                        group.nodes.input_widths[slot][chosen],
                        group.nodes.padded_inputs[slot],
                    )
                )
    dealers = [Dealer(g, p) for g, p in zip(groups, pieces, strict=True)]
    return dealers, joiners, readers
