"""Particles that take turns: which logic each of them goes through, and when.

Where an event comes every I cycles, N / I copies of what each particle goes through suffice in plain RTL.  A network that
can take turns is a row of *phases*: in each, groups of particles follow one another through layers that treat every
particle alike, a pool gathers them, layers work on what it says, and that may be spread over the particles again, which
opens the next phase.  What a later phase reads of an earlier one waits in a delay line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.layers import LAYERS
from codesign.layers._pool import Pool

Int = NDArray[np.int64]
Float = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Turns:
    """Nodes of a population in phases.

    Attributes:
        phase: int64[m], phase of each node; those of a pool and behind it are its own.
        crossings: int64[m], how many later phases a node's result waits for.
        edges: int64[2, k], what follows what beside the edges of the network: a phase starts with what is spread.
        refusals: sentences, and bool[n_candidates] each, which candidates cannot take turns for that reason.
    """

    phase: Int
    crossings: Int
    edges: Int
    refusals: tuple[tuple[str, Flags], ...]


def in_turns(
    *,
    n_candidates: int,
    layer_names: Sequence[str],
    layer: Int,
    candidate: Int,
    stage: Int,
    sources: Sequence[Int],
    columns: Mapping[str, Float],
) -> Turns:
    """Divide nodes into phases, for whole populations.

    Args:
        n_candidates: how many candidates.
        layer_names, layer, candidate, stage: as in `Population`.
        sources: per input slot, the node that each node reads there, int64[m]; itself where none.
        columns: shapes of what nodes write, and parameters.
    """
    m, own = layer.size, np.arange(layer.size)
    kinds = [LAYERS.get(name) for name in layer_names]
    is_pool = np.array([isinstance(kind, Pool) for kind in kinds])[layer]
    is_alike = np.array([kind.is_positionwise or kind.role == "input" for kind in kinds])[layer]
    is_input = np.array([kind.role == "input" for kind in kinds])[layer]
    on_particles = columns["n_columns"] > 0
    reads = [source != own for source in sources]
    reads_particles = np.any(
        [there & on_particles[source] for source, there in zip(sources, reads, strict=True)], axis=0
    )
    reads_vector = np.any(
        [there & ~on_particles[source] for source, there in zip(sources, reads, strict=True)],
        axis=0,
    )
    is_spread = on_particles & reads_vector
    gathers = is_pool & ~on_particles
    phase, n_stages = np.zeros(m, dtype=np.int64), int(stage.max(initial=0)) + 1
    rows_at = [np.flatnonzero(stage == s) for s in range(n_stages)]
    for rows in rows_at[1:]:
        known = [np.where(there[rows], phase[source[rows]], 0) for source, there in zip(sources, reads, strict=True)]  # fmt: skip
        phase[rows] = np.max(known, axis=0) + is_spread[rows]
    # as late as possible: what waits between phases are rounded words rather than wide sums
    late = np.where(on_particles, n_stages, phase)
    last = phase.copy()  # of all readers on particles
    for rows in reversed(rows_at):
        fixed = is_input[rows] | is_spread[rows]
        late[rows] = np.where(
            fixed, phase[rows], np.where(on_particles[rows], late[rows], phase[rows])
        )
        for source, there in zip(sources, reads, strict=True):
            here = rows[there[rows]]
            np.minimum.at(late, source[here], np.where(on_particles[source[here]], late[here], n_stages))  # fmt: skip
            of_particles = here[on_particles[here] | gathers[here]]
            np.maximum.at(last, source[of_particles], late[of_particles])
    late = np.maximum(late, phase)
    crossings = np.where(on_particles, np.maximum(last - late, 0), 0)

    def of_candidates(nodes: Flags) -> Flags:
        flags = np.zeros(n_candidates, dtype=bool)
        flags[candidate[nodes]] = True
        return flags

    width = int(late.max(initial=0)) + 2
    place = candidate * width + late
    n_pools = np.bincount(place[gathers], minlength=n_candidates * width).reshape(n_candidates, -1)
    n_spread = np.bincount(place[is_spread], minlength=n_candidates * width).reshape(n_candidates, -1)  # fmt: skip
    n_phases = np.zeros(n_candidates, dtype=np.int64)
    np.maximum.at(n_phases, candidate, late + 1)
    is_phase = np.arange(width) < n_phases[:, None]
    answered = np.zeros(m, dtype=bool)
    for source, there in zip(sources, reads, strict=True):
        answered[source[there]] = True
    mixes = np.zeros(m, dtype=bool)
    for source, there in zip(sources, reads, strict=True):
        mixes |= there & ~on_particles & ~gathers & (phase[source] != phase)
    refusals = (
        ("it has no particles", of_candidates(is_input & ~on_particles)),
        ("it reads rows and columns", of_candidates(is_input & (columns["n_rows"] > 0))),
        ("a layer treats particles together before they are pooled", of_candidates(on_particles & ~is_alike & ~is_spread)),
        ("a layer reads single particles", of_candidates(~on_particles & ~gathers & reads_particles)),
        ("not every particle is pooled alike, by one pool at a time", ((n_pools != 1) & is_phase).any(axis=1)),
        ("what is spread over particles comes from more than one pool", ((n_spread[:, 1:] != 1) & is_phase[:, 1:]).any(axis=1)),
        ("a layer reads what two pools say", of_candidates(mixes)),
        ("it answers for each particle", of_candidates(on_particles & ~answered)),
    )  # fmt: skip
    first = np.full(n_candidates * width, -1, dtype=np.int64)
    first[place[is_spread]] = own[is_spread]
    waits = np.flatnonzero(on_particles & ~is_spread & (late > 0) & (first[place] >= 0))
    return Turns(
        phase=late,
        crossings=crossings,
        edges=np.stack([first[place[waits]], waits]),
        refusals=refusals,
    )


def greatest_divisor(n: Int, wish: Int) -> Int:
    """Return the greatest divisor of n that is at most the wish, element by element."""
    n, wish = np.broadcast_arrays(np.maximum(n, 1), np.maximum(wish, 1))
    found = np.ones_like(n)
    for divisor in range(2, int(wish.max(initial=1)) + 1):
        found = np.where((n % divisor == 0) & (divisor <= wish), divisor, found)
    return found
