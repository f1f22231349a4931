"""Interaction networks of linear cost: every particle learns from all others by way of one pool.

input (particles, features) -> particle blocks -> rounds -> pool -> rounding -> blocks -> dense -> linear.  In a round
every particle becomes activation(W x + V pool(x)): what a linear message of each pair of particles adds up to, without
the pairs, so that cost grows with the particles and not with their square (JEDI-linear, Que et al., arXiv 2508.15468;
interaction networks, Battaglia et al., arXiv 1612.00222).

Genes (all indices into the YAML's domains): particles and features, the leading ones that a network reads;
particle_depth, rounds, depth, gather and gather_bits (the pool of a round), pool, pool_bits, input_bits, output_bits,
flow, clock_mhz, and where the space lists them mask (absent particles say nothing, to the pools) and interval_cycles
(particles take turns in plain RTL); per block, and per round for W, width, activation, batch_norm, weight_bits, result_bits,
pruned_fraction, strategy, reuse_factor; for V of each round and the head weight_bits, pruned_fraction, strategy,
reuse_factor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from codesign.space.templates import TEMPLATES
from codesign.space.templates._shared import (
    HARDWARE,
    MASK,
    OPTIONAL,
    TURNS,
    Flags,
    GeneTable,
    greatest,
)
from codesign.space.templates._wired import (
    BLOCK,
    PARTICLES,
    POOLED,
    Assembly,
    Tip,
    WiredTemplate,
    check_particles,
    head_genes,
    pools,
    stack_genes,
)
from codesign.space.templates.base import Value

_GLOBAL = (*PARTICLES, "particle_depth", "rounds", "depth", "gather", "gather_bits", *POOLED)


class Interaction(WiredTemplate):
    """Layers on each particle, rounds in which all learn from their pool, a pool, layers on it."""

    name = "interaction"
    domain_names = (*_GLOBAL, "particle_width", "round_width", "width", *BLOCK)
    optional_domain_names = (*OPTIONAL, TURNS, MASK)

    def __init__(
        self,
        domains: Mapping[str, Sequence[Value]],
        *,
        input_shape: tuple[int, ...],
        n_outputs: int,
    ) -> None:
        check_particles(self.name, domains, input_shape)
        self._n_outputs, self._n_rounds = n_outputs, greatest(domains, "rounds")
        genes = {name: name for name in _GLOBAL}
        genes |= stack_genes("particle", greatest(domains, "particle_depth"), "particle_width")
        genes |= stack_genes("round", self._n_rounds, "round_width")
        for number in range(1, self._n_rounds + 1):
            genes |= {f"{name}_gather_{number}": name for name in HARDWARE}
        genes |= stack_genes("set", greatest(domains, "depth"), "width") | head_genes()
        self._table = GeneTable.build(
            domains,
            genes,
            {"pool": pools(), "gather": pools()},
            optional=self.optional_domain_names,
        )

    def wire(self, assembly: Assembly) -> None:
        source = assembly.particles()
        tip = assembly.masked(assembly.chain("particle", "particle_depth", source), source)
        for number in range(1, self._n_rounds + 1):
            tip = self._round(assembly, number, tip, assembly.numbers("rounds") >= number)
        tip = assembly.pool(assembly.masked(tip, source))
        assembly.head(assembly.chain("set", "depth", tip), self._n_outputs)

    @staticmethod
    def _round(assembly: Assembly, number: int, tip: Tip, present: Flags) -> Tip:
        """Let every particle learn from the pool of all."""
        particles = assembly.counts("particles")
        pooled = assembly.pool(tip, "gather", present=present)
        # absent rounds have no width: their genes are cleared before they are read
        assembly.clear_block(f"round_{number}", present)
        units = assembly.counts(f"width_round_{number}")
        shared = assembly.dense(f"gather_{number}", pooled, units, present)
        spread = assembly.add(
            "broadcast",
            shared,
            axes=(particles, units),
            present=present,
            n_columns=particles.astype(float),
        )
        return assembly.block(f"round_{number}", tip, present, spread)


TEMPLATES.add(Interaction.name, Interaction)
