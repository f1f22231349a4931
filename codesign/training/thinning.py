"""Drop networks from a training in progress; the others go on as if nothing had happened."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from codesign.ir import Candidate
from codesign.training.population_module import PopulationModule
from codesign.training.schedule import Schedule, build_schedule


def thin(
    model: PopulationModule,
    optimiser: torch.optim.AdamW,
    candidates: Sequence[Candidate],
    seeds: Sequence[int],
    keep: Sequence[int],
) -> tuple[PopulationModule, torch.optim.AdamW]:
    """Build executor and optimiser anew for some of the networks, with the state that they had.

    Args:
        model, optimiser: of all networks.
        candidates, seeds: that `model` was built of.
        keep: indices into `candidates`, ascending.

    Returns:
        Model and optimiser of the networks kept, in that order.
    """
    schedule = build_schedule([candidates[i] for i in keep], [seeds[i] for i in keep])
    thinned = PopulationModule(schedule).to(next(model.parameters()).device)
    group = {k: v for k, v in optimiser.param_groups[0].items() if k != "params"}
    fresh = torch.optim.AdamW(thinned.parameters(), fused=group["fused"])
    fresh.param_groups[0].update(group)
    places = _places(model.schedule, keep)
    with torch.no_grad():
        for layer, spec in zip(thinned.layers, schedule.groups, strict=True):
            for index, row in enumerate(spec.members):
                old_group, old_index = places[int(row)]
                source = model.layers[old_group]
                state = source.state_dict(keep_vars=True)
                for name, tensor in layer.state_dict(keep_vars=True).items():
                    if name not in state:  # of the batch norm of others in its group: not read
                        tensor[index].nan_to_num_()
                        continue
                    _copy(tensor, state[name], index, old_index)
                    if isinstance(tensor, torch.nn.Parameter):
                        _copy_moments(fresh, optimiser, tensor, state[name], index, old_index)
    return thinned, fresh


def _places(schedule: Schedule, keep: Sequence[int]) -> list[tuple[int, int]]:
    """Return, per row of the thinned population, where its node is in the full schedule."""
    place = {
        int(row): (g, i)
        for g, group in enumerate(schedule.groups)
        for i, row in enumerate(group.members)
    }
    rows = np.concatenate([np.flatnonzero(schedule.candidate == i) for i in keep])
    # Rows of folded nodes have no place; nothing asks for them.
    return [place.get(int(row), (-1, -1)) for row in rows]


def _copy(new: torch.Tensor, old: torch.Tensor, index: int, old_index: int) -> None:
    """Copy one node's slice; the padded width may have changed, and padding holds zeros."""
    sizes = [min(a, b) for a, b in zip(new.shape[1:], old.shape[1:], strict=True)]
    window = tuple(slice(0, size) for size in sizes)
    new[index] = 0.0
    new[index][window] = old[old_index][window]


def _copy_moments(
    fresh: torch.optim.AdamW,
    optimiser: torch.optim.AdamW,
    new: torch.nn.Parameter,
    old: torch.Tensor,
    index: int,
    old_index: int,
) -> None:
    state = optimiser.state.get(old)
    if not state:
        return
    if new not in fresh.state:
        fresh.state[new] = {
            "step": state["step"].clone(),
            "exp_avg": torch.zeros_like(new),
            "exp_avg_sq": torch.zeros_like(new),
        }
    for name in ("exp_avg", "exp_avg_sq"):
        _copy(fresh.state[new][name], state[name], index, old_index)
