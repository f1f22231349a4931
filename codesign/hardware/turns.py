"""What lies between particles that take turns at the same logic, for the laws of `hw_models.primitives.turns`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from codesign.ir import Population
from codesign.layers import LAYERS

Float = NDArray[np.float64]


def turns_of(population: Population) -> Iterator[tuple[NDArray[np.int64], str, Float]]:
    """Yield nodes that need something for particles to take turns, its kind in `turns.KINDS`, and its bits."""
    columns = population.columns
    shares, on_particles = columns["shared_turns"] > 1, columns["n_columns"] > 0
    bits = columns["n_positions"] * columns["n_out"] * columns["output_bits"]
    is_input = population.stage == 0
    is_max = np.array([getattr(LAYERS.get(n), "kind", "") == "max" for n in population.layer_names])
    gathers, spreads = shares & ~on_particles, shares & on_particles & ~is_input
    spreads &= columns["input_positions"] == 1
    for kind, flags, amount in (
        ("wait", shares & is_input, bits),
        ("sum", gathers & ~is_max[population.layer], bits),
        ("max", gathers & is_max[population.layer], bits),
        ("hold", spreads, bits / np.maximum(columns["n_positions"], 1.0)),
        ("delay", columns["delayed_bits"] > 0, columns["delayed_bits"]),
    ):
        rows = np.flatnonzero(flags)
        if rows.size:
            yield rows, kind, amount[rows]


def waiting_of(population: Population) -> tuple[Float, Float]:
    """Return the cycles that an event waits for all its turns, and how many more pipelines there are than one, per candidate."""
    waits, ends = np.zeros(population.n_candidates), np.zeros(population.n_candidates)
    if (population.interval_cycles > 1).any():
        for rows, kind, _ in turns_of(population):
            turns = population.columns["shared_turns"][rows]
            amount = {"sum": turns, "max": turns, "hold": np.ones_like(turns)}.get(kind)
            if amount is not None:
                np.add.at(waits, population.candidate[rows], amount)
                np.add.at(ends, population.candidate[rows], 1.0)
    return waits, ends
