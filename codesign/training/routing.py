"""How values get from the groups that compute them to the groups that read them.

Results of all groups lie on one tape, a matrix of rows (one lane of one node at one position).  A reader gathers its
rows with one copy, wherever they are; going back, it adds its gradients to the same rows of a second
tape, where the group that computed them finds their sum.  Groups that only move elements (concatenations)
are never computed: their readers gather from the sources.  A group that reads all of another one, which
nothing else reads, takes its values directly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from codesign.training.schedule import Group

Int = NDArray[np.int64]


class Tape:
    """Values and gradients of all rows, kept per batch size from step to step: fresh memory costs page faults.

    A forward pass must be followed by its backward pass before the next one that needs gradients.
    """

    def __init__(self, n_rows: int) -> None:
        self._n_rows = n_rows
        self._buffers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._size = 0

    def start(self, like: torch.Tensor, *, is_kept: bool) -> torch.Tensor:
        """Return the tape for one forward pass, float32[n_rows, batch], of finite values, what is not written yet too.

        What a zero masks must be finite: memory as it comes may hold no numbers.

        Args:
            like: has the batch as its last axis.
            is_kept: gradients will be asked for, so the memory is kept for the next step.
        """
        shape = (self._n_rows, like.shape[-1])
        if not is_kept:
            return like.new_zeros(shape)
        self._size = like.shape[-1]
        if self._size not in self._buffers:
            self._buffers[self._size] = (like.new_zeros(shape), like.new_empty(shape))
        values, gradients = self._buffers[self._size]
        gradients.zero_()
        return values

    @property
    def gradients(self) -> torch.Tensor:
        """Gradients of the last forward pass so far, float32[n_rows, batch]."""
        return self._buffers[self._size][1]


class _Write(torch.autograd.Function):
    """Put a group's result on the tape; returns a token for its readers."""

    @staticmethod
    def forward(ctx, values, tape, rows, start):  # type: ignore[no-untyped-def]
        ctx.tape, ctx.start, ctx.shape = tape, start, values.shape
        ctx.n_rows = values.numel() // rows.shape[1]
        rows[start : start + ctx.n_rows] = values.view(ctx.n_rows, -1)
        return values.new_empty(0)

    @staticmethod
    def backward(ctx, token):  # type: ignore[no-untyped-def]
        gradient = ctx.tape.gradients[ctx.start : ctx.start + ctx.n_rows]
        return gradient.view(ctx.shape), None, None, None


class _Read(torch.autograd.Function):
    """Gather rows of the tape; the tokens make autograd add to their gradients before they are used."""

    @staticmethod
    def forward(ctx, tape, rows, index, *tokens):  # type: ignore[no-untyped-def]
        ctx.tape, ctx.n_tokens = tape, len(tokens)
        ctx.save_for_backward(index)
        return rows.index_select(0, index)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        (index,) = ctx.saved_tensors
        gradients = ctx.tape.gradients
        if gradient.untyped_storage().data_ptr() == gradients.untyped_storage().data_ptr():
            gradient = gradient.clone()  # of a sum: the very rows of its result
        gradients.index_add_(0, index, gradient)
        return (None, None, None, *(gradient.new_empty(0) for _ in range(ctx.n_tokens)))


class Reading(torch.nn.Module):
    """What one input of one group reads.

    Padding repeats a node's last lane: finite, never read by a real lane, so its gradient is zero.

    Attributes:
        groups: the groups that its sources belong to, in order.
        members: int64[k], per node: its source's position in all nodes of `groups`, joined.
        sources: the groups that computed what is read, which those of `groups` may only have moved.
        direct: the one group that is read whole, in order and by nobody else; else None.
    """

    index: torch.Tensor
    members: torch.Tensor

    def __init__(self, *, plan: Plan, reader: int, slot: int) -> None:
        super().__init__()
        nodes, places = plan.groups[reader].nodes, plan.groups[reader].inputs[slot]
        self._shape = (nodes.k, nodes.padded_inputs[slot])
        self.groups = tuple(int(g) for g in np.unique(places[:, 0]))
        self.sources = plan.sources(self.groups)
        self.direct = plan.direct(reader, slot)
        index = torch.from_numpy(plan.rows_read(reader, slot).reshape(-1))
        self.register_buffer("index", index, persistent=False)
        sizes = [plan.groups[g].nodes.k for g in self.groups]
        before = np.cumsum([0, *sizes])[np.searchsorted(self.groups, places[:, 0])]
        members = torch.from_numpy(before + places[:, 1])
        self.register_buffer("members", members, persistent=False)

    def forward(
        self, tape: Tape, rows: torch.Tensor, tokens: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        """Gather float32[k, padded, positions * batch].

        Args:
            tape: keeps the gradients.
            rows: float32[n_rows, batch], its values.
            tokens: of the sources.
        """
        values = _Read.apply(tape, rows, self.index, *tokens)  # type: ignore[no-untyped-call]
        return values.view(*self._shape, -1)  # type: ignore[no-any-return]


class Plan:
    """Where the results of all groups lie on the tape, and who reads what.

    Attributes:
        groups: all groups, in order.
        starts: first row of each group; groups that only move elements have none.
        n_rows: rows in all.
    """

    def __init__(self, groups: Sequence[Group], moved: Mapping[int, Int]) -> None:
        """Lay out the tape.

        Args:
            groups: all groups, in order.
            moved: for groups that only move elements: int64[k * padded_output * n_positions], which
                element of the joined padded inputs each of theirs is.
        """
        self.groups = groups
        self._moved = moved
        sizes = [
            0 if i in moved else g.nodes.k * g.nodes.padded_output * g.nodes.n_positions
            for i, g in enumerate(groups)
        ]
        self.starts = [int(start) for start in np.cumsum([0, *sizes])]
        self.n_rows = self.starts[-1]
        #: Per group: int64[k, padded_output * n_positions], where each element lies.
        self._rows: list[Int] = []
        for index, group in enumerate(groups):
            if index in moved:
                inputs = [self.rows_read(index, slot) for slot in range(len(group.inputs))]
                rows = np.concatenate(inputs, axis=1).reshape(-1)[moved[index]]
            else:
                rows = self.starts[index] + np.arange(sizes[index])
            self._rows.append(rows.reshape(group.nodes.k, -1))

    def rows_read(self, reader: int, slot: int) -> Int:
        """Return where each element that an input reads lies, int64[k, padded_input * positions]."""
        nodes, places = self.groups[reader].nodes, self.groups[reader].inputs[slot]
        lanes, n_positions = np.arange(nodes.padded_inputs[slot]), nodes.input_positions[slot]
        result = np.empty((nodes.k, lanes.size, n_positions), dtype=np.int64)
        for i, (group, member) in enumerate(places):
            known = self._rows[group][member].reshape(-1, n_positions)
            result[i] = known[np.minimum(lanes, nodes.input_widths[slot][i] - 1)]
        return result.reshape(nodes.k, -1)

    def sources(self, groups: Iterable[int]) -> tuple[int, ...]:
        """Return the groups that computed what these groups hold."""
        found: set[int] = set()
        for group in groups:
            if group in self._moved:
                read = {int(g) for places in self.groups[group].inputs for g in places[:, 0]}
                found.update(self.sources(read))
            else:
                found.add(group)
        return tuple(sorted(found))

    def direct(self, reader: int, slot: int) -> int | None:
        """Return the one group that an input reads whole, in order and alone; None where there is none."""
        nodes, places = self.groups[reader].nodes, self.groups[reader].inputs[slot]
        source = int(places[0, 0])
        spec = self.groups[source].nodes
        is_whole = (
            source not in self._moved
            and bool((places[:, 0] == source).all())
            and np.array_equal(places[:, 1], np.arange(spec.k))
            and nodes.padded_inputs[slot] == spec.padded_output
        )
        n_readings = sum(source in places[:, 0] for group in self.groups for places in group.inputs)
        return source if is_whole and n_readings == 1 else None


def write(values: torch.Tensor, tape: Tape, rows: torch.Tensor, start: int) -> torch.Tensor:
    """Put float32[k, width, positions * batch] on the tape from row `start`; returns a token for its readers."""
    return _Write.apply(values, tape, rows, start)  # type: ignore[no-any-return,no-untyped-call]
