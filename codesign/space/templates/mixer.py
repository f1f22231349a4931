"""MLP mixer: dense layers over particles and over features by turns.

input (particles, features) -> feature block -> mixers -> pool -> rounding -> blocks -> dense -> linear, where a mixer
is transpose -> block over particles -> transpose [-> sum with what it read] -> block over features (Tolstikhin et al.,
arXiv 2105.01601; on jets Sun et al., arXiv 2503.03103).  The order of the particles matters: sort them.

Genes (all indices into the YAML's domains): particles and features, the leading ones that a network reads; mixers,
depth, pool, pool_bits, input_bits, output_bits, flow, clock_mhz; per mixer skip ("none", "add"); per block width,
activation, batch_norm, weight_bits, result_bits, pruned_fraction, strategy, reuse_factor (blocks over particles keep
their number); for the head weight_bits, pruned_fraction, strategy, reuse_factor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from codesign.space.templates import TEMPLATES
from codesign.space.templates._shared import OPTIONAL, Flags, GeneTable, greatest
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

_GLOBAL = (*PARTICLES, "mixers", "depth", *POOLED)


class Mixer(WiredTemplate):
    """A layer on each particle, layers over particles and over features by turns, a pool, layers on it."""

    name = "mixer"
    domain_names = (*_GLOBAL, "skip", "feature_width", "width", *BLOCK)
    optional_domain_names = OPTIONAL

    def __init__(
        self,
        domains: Mapping[str, Sequence[Value]],
        *,
        input_shape: tuple[int, ...],
        n_outputs: int,
    ) -> None:
        check_particles(self.name, domains, input_shape)
        self._n_outputs, self._n_mixers = n_outputs, greatest(domains, "mixers")
        genes = {name: name for name in _GLOBAL} | stack_genes("first", 1, "feature_width")
        for number in range(1, self._n_mixers + 1):
            genes[f"skip_{number}"] = "skip"
        genes |= stack_genes("over_particles", self._n_mixers, "")
        genes |= stack_genes("over_features", self._n_mixers, "feature_width")
        genes |= stack_genes("set", greatest(domains, "depth"), "width") | head_genes()
        choices: dict[str, Sequence[Value]] = {"pool": pools(), "skip": ("none", "add")}
        self._table = GeneTable.build(domains, genes, choices)

    def wire(self, assembly: Assembly) -> None:
        tip = assembly.particles()
        tip = assembly.block("first_1", tip, assembly.everyone)
        for number in range(1, self._n_mixers + 1):
            tip = self._mixer(assembly, number, tip, assembly.numbers("mixers") >= number)
        tip = assembly.pool(tip)
        assembly.head(assembly.chain("set", "depth", tip), self._n_outputs)

    @staticmethod
    def _mixer(assembly: Assembly, number: int, tip: Tip, present: Flags) -> Tip:
        """Mix over particles, then over features."""
        particles, skip = assembly.counts("particles"), f"skip_{number}"
        assembly.clear(skip, present)
        turned = assembly.add("transpose", tip, axes=tip.axes[::-1], present=present)
        mixed = assembly.block(f"over_particles_{number}", turned, present, units=particles)
        back = assembly.add("transpose", mixed, axes=tip.axes, present=present)
        adds = present & assembly.table.holds(assembly.genomes, skip, "add")
        back = assembly.add("add", back, tip, present=adds)
        return assembly.block(f"over_features_{number}", back, present)


TEMPLATES.add(Mixer.name, Mixer)
