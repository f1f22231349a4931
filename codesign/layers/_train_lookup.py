"""Training of layers of tables: every table is a curve through a few knots, sampled at its words.

Gradients of entries go to the knots; those of the words that are looked up are slopes of the table, which
are straight through the rounding in front of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from codesign.errors import DesignError
from codesign.ir import FixedPoint, Words
from codesign.layers._training import (
    NetworkDraft,
    Signal,
    TrainModule,
    TrainNodes,
    TrainStep,
    best_integer_bits,
    lane_mask,
    round_symmetric,
)

#: Knots of a curve; tables of fewer entries have one per entry.
_N_KNOTS = 9


def knot_weights(n_entries: int, n_knots: int) -> torch.Tensor:
    """float32[n_entries, n_knots], share of each knot in each entry: straight lines between evenly spread knots."""
    place = torch.linspace(0.0, n_knots - 1.0, n_entries)[:, None]
    return (1.0 - (place - torch.arange(n_knots)).abs()).clamp_min(0.0)


class LookupModule(TrainModule):
    """k layers of tables."""

    kept: torch.Tensor
    real: torch.Tensor
    bits: torch.Tensor
    integer_bits: torch.Tensor
    least: torch.Tensor
    share: torch.Tensor
    pruned_fraction: torch.Tensor

    def __init__(self, nodes: TrainNodes) -> None:
        super().__init__()
        if nodes.granularity is not None:
            raise DesignError(
                "tables have the widths of their candidates; train networks with lookup_dense at uniform precision"
            )
        if nodes.is_normalised.any():
            raise DesignError("no batch norm folds into lookup_dense; leave it out behind one")
        k, n_out, n_in = nodes.k, nodes.padded_output, nodes.padded_inputs[0]
        entries = (2.0 ** nodes.columns["input_bits"]).astype(np.int64)
        knots = np.minimum(entries, _N_KNOTS)
        share = torch.zeros(k, int(entries.max()), int(knots.max()))
        start = np.zeros((k, n_in, share.shape[2], n_out), dtype=np.float32)
        self._shape = []
        for i in range(k):
            own = (int(nodes.input_widths[0][i]), int(entries[i]), int(nodes.columns["n_out"][i]))
            share[i, : entries[i], : knots[i]] = knot_weights(int(entries[i]), int(knots[i]))
            # lines of the variance that a dense layer's weights start with, words spread over [-1, 1]
            slope = np.random.default_rng(nodes.seeds[i]).normal(
                0, np.sqrt(3.0 / own[0]), (own[0], 1, own[2])
            )
            line = np.linspace(-1.0, 1.0, knots[i])[:, None]
            start[i, : own[0], : knots[i], : own[2]] = slope * line
            self._shape.append(own)
        self.knots = torch.nn.Parameter(torch.from_numpy(start))

        def column(values: np.ndarray) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.float32)

        real = (
            lane_mask(nodes.input_widths[0], n_in)[:, :, None]
            * lane_mask(nodes.columns["n_out"], n_out)[:, None]
        )
        least = -np.where(nodes.columns["input_signed"] > 0, entries // 2, 0).astype(np.float64)
        last = entries.astype(np.float64) - 1.0
        for name, values in {
            "share": share,
            "real": real,
            "bits": column(nodes.columns["weight_bits"]),
            "least": column(least)[:, None, None],
            "last": column(last)[:, None, None],
            "pruned_fraction": column(nodes.columns["pruned_fraction"]),
        }.items():
            self.register_buffer(name, values, persistent=False)
        self.register_buffer("kept", real.clone())
        self.register_buffer("integer_bits", torch.full((k,), float("nan")))

    last: torch.Tensor

    def _tables(self) -> torch.Tensor:
        """Return real tables, float32[k, n_in, n_entries, n_out]."""
        curves = torch.einsum("kem,kimo->kieo", self.share, self.knots)
        return curves * self.kept[:, :, None]

    @torch.no_grad()
    def _prune(self, progress: float) -> None:
        """Keep the tables that vary most; exactly round(progress * fraction * size) go."""
        self.kept.copy_(self.real)
        spread = torch.where(self.real > 0, self._tables().std(dim=2), torch.inf).flatten(1)
        rank = spread.argsort(dim=1, stable=True).argsort(dim=1)
        size = self.real.sum(dim=(1, 2))
        n_pruned = torch.floor(self.pruned_fraction * progress * size + 0.5)
        self.kept.copy_(self.real * (rank >= n_pruned[:, None]).view_as(self.real))

    def _grid(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return value of one word and greatest word, float32[k, 1, 1, 1]."""
        lsb = torch.exp2(self.integer_bits - self.bits)
        return lsb[:, None, None, None], (torch.exp2(self.bits - 1) - 1)[:, None, None, None]

    def forward(self, inputs: Sequence[Signal], step: TrainStep) -> Signal:
        (source,) = inputs
        if step.pruning is not None:
            self._prune(step.pruning)
        real = self._tables()
        if step.selects_ranges:
            self.integer_bits = best_integer_bits(real.detach(), self.bits)
        tables = round_symmetric(real, *self._grid())
        k, n_in, n_entries, n_out = tables.shape
        values = source.values[:, :n_in]
        with torch.no_grad():
            scale = torch.exp2(source.fraction_bits)[:, None, None]
            entry = torch.round(values * scale) - self.least
            # finite on padding, whatever it holds
            entry = torch.minimum(entry.nan_to_num().clamp_min(0.0), self.last).long()
            first = torch.arange(k * n_in, device=values.device).view(k, n_in, 1) * n_entries
            rows = (entry + first).flatten()
        terms = tables.reshape(-1, n_out).index_select(0, rows).view(k, n_in, -1, n_out)
        if values.requires_grad:
            with torch.no_grad():
                rise = torch.diff(tables, dim=2)
                ends = torch.cat([rise[:, :, :1], rise, rise[:, :, -1:]], dim=2)
                slope = 0.5 * (ends[:, :, 1:] + ends[:, :, :-1]) * scale[..., None]
                slope = slope.reshape(-1, n_out).index_select(0, rows).view(k, n_in, -1, n_out)
            terms = terms + (values - values.detach())[..., None] * slope
        result = terms.sum(dim=1).transpose(1, 2).contiguous()
        return Signal(result, self.bits - self.integer_bits)

    @torch.no_grad()
    def export(self, index: int, name: str, draft: NetworkDraft) -> None:
        n_in, n_entries, n_out = self._shape[index]
        fmt = FixedPoint(bits=int(self.bits[index]), integer_bits=int(self.integer_bits[index]))
        lsb, limit = self._grid()
        values = round_symmetric(self._tables(), lsb, limit)[index, :n_in, :n_entries, :n_out]
        words = torch.round(values / lsb[index]).cpu().numpy().astype(np.int64)
        draft.constants[name] = {"table": Words.of(words, fmt)}
