"""Deep sets: the same layers on every particle, a pool over particles, and layers on what it says.

input (particles, features) -> particle blocks -> pool -> rounding -> blocks -> dense -> linear, where a
block is dense -> [batch norm] -> activation.  Whatever the order of the particles, the answer is the same
(Zaheer et al., arXiv 1703.06114; on jets Komiske et al., arXiv 1810.05165).

Genes (all indices into the YAML's domains): particles and features, the leading ones that a network
reads; particle_depth, depth, pool, pool_bits, input_bits, output_bits, flow, clock_mhz, and where the space lists
them mask (absent particles say nothing) and interval_cycles (particles take turns in plain RTL); per particle block
and per block width, activation, batch_norm, weight_bits, result_bits, pruned_fraction, strategy,
reuse_factor; for the head weight_bits, pruned_fraction, strategy, reuse_factor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from codesign.space.templates import TEMPLATES
from codesign.space.templates._shared import MASK, OPTIONAL, TURNS, GeneTable, greatest
from codesign.space.templates._wired import (
    BLOCK,
    PARTICLES,
    POOLED,
    Assembly,
    WiredTemplate,
    check_particles,
    head_genes,
    pools,
    stack_genes,
)
from codesign.space.templates.base import Value

_GLOBAL = (*PARTICLES, "particle_depth", "depth", *POOLED)


class DeepSets(WiredTemplate):
    """Layers on each particle, a pool over particles, layers on the pool: their depths, widths, bits and hardware."""

    name = "deepsets"
    domain_names = (*_GLOBAL, "particle_width", "width", *BLOCK)
    optional_domain_names = (*OPTIONAL, TURNS, MASK)

    def __init__(
        self,
        domains: Mapping[str, Sequence[Value]],
        *,
        input_shape: tuple[int, ...],
        n_outputs: int,
    ) -> None:
        check_particles(self.name, domains, input_shape)
        self._n_outputs = n_outputs
        genes = {name: name for name in _GLOBAL}
        genes |= stack_genes("particle", greatest(domains, "particle_depth"), "particle_width")
        genes |= stack_genes("set", greatest(domains, "depth"), "width") | head_genes()
        self._table = GeneTable.build(
            domains, genes, {"pool": pools()}, optional=self.optional_domain_names
        )

    def wire(self, assembly: Assembly) -> None:
        source = assembly.particles()
        tip = assembly.chain("particle", "particle_depth", source)
        tip = assembly.pool(assembly.masked(tip, source))
        assembly.head(assembly.chain("set", "depth", tip), self._n_outputs)


TEMPLATES.add(DeepSets.name, DeepSets)
