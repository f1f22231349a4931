"""Attention blocks: every particle reads from all others, weighted by what both say.

input (particles, features) -> feature block -> attention blocks -> pool -> rounding -> blocks -> dense -> linear.
In an attention block one dense layer writes queries, keys and values of all heads, which are rounded; every head is

    softmax:  softmax(round(Q K^T)) V        (Vaswani et al., arXiv 1706.03762)
    linear:   relu(Q) round(relu(K)^T V)     (Katharopoulos et al., arXiv 2006.16236, without the division)

Heads lie side by side, are rounded, and go through a block that adds what was read; then a block `mlp_ratio` times as
wide, and one back that adds again.  Factors like 1/sqrt(width) are left to the weights, and batch
norms, which fold into these, stand where transformers have layer norms.  Whatever the order of the
particles, the answer is the same.  Heads, MLP ratio, depth and width are genes as in AutoFormer (arXiv 2107.00651).

Genes (all indices into the YAML's domains): particles and features, the leading ones that a network reads;
attention_depth, depth, pool, pool_bits, input_bits, output_bits, flow, clock_mhz; width of the features; per attention
block attention ("softmax", "linear"), heads, head_width, mlp_ratio, head_bits (queries, keys, values and heads),
score_bits (scores, or keys times values) and attention_bits (softmax); per block of it, and per block behind the pool with
its width, activation, batch_norm, weight_bits, result_bits, pruned_fraction, strategy, reuse_factor; for queries, keys and
values of a block and the head weight_bits, pruned_fraction, strategy, reuse_factor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from codesign.errors import ConfigError
from codesign.space.templates import TEMPLATES
from codesign.space.templates._shared import HARDWARE, Flags, GeneTable, greatest
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

_GLOBAL = (*PARTICLES, "attention_depth", "depth", *POOLED)
_ATTENTION = (
    "attention",
    "heads",
    "head_width",
    "mlp_ratio",
    "head_bits",
    "score_bits",
    "attention_bits",
)


class Attention(WiredTemplate):
    """A layer on each particle, attention blocks with their MLPs, a pool over particles, layers on it."""

    name = "attention"
    domain_names = (*_GLOBAL, *_ATTENTION, "feature_width", "width", *BLOCK)

    def __init__(
        self,
        domains: Mapping[str, Sequence[Value]],
        *,
        input_shape: tuple[int, ...],
        n_outputs: int,
    ) -> None:
        check_particles(self.name, domains, input_shape)
        if "io_type" in domains:
            raise ConfigError(
                "domains.io_type: hls4ml streams no products of two tensors; leave it out, attention is io_parallel"
            )
        self._n_outputs, self._n_blocks = n_outputs, greatest(domains, "attention_depth")
        genes = {name: name for name in _GLOBAL} | stack_genes("first", 1, "feature_width")
        self._n_heads = []
        for number in range(1, self._n_blocks + 1):
            genes |= {f"{name}_{number}": name for name in _ATTENTION}
            genes |= {f"{name}_project_{number}": name for name in HARDWARE}
            own = f"heads_{number}"
            self._n_heads.append(greatest(domains, own if own in domains else "heads"))
        for stack in ("merge", "up", "down"):
            genes |= stack_genes(stack, self._n_blocks, "")
        genes |= stack_genes("set", greatest(domains, "depth"), "width") | head_genes()
        choices: dict[str, Sequence[Value]] = {
            "pool": pools(),
            "attention": ("softmax", "linear"),
        }
        self._table = GeneTable.build(domains, genes, choices)

    def wire(self, assembly: Assembly) -> None:
        tip = assembly.particles()
        tip = assembly.block("first_1", tip, assembly.everyone)
        for number in range(1, self._n_blocks + 1):
            present = assembly.numbers("attention_depth") >= number
            tip = self._block(assembly, number, tip, present)
        tip = assembly.pool(tip)
        assembly.head(assembly.chain("set", "depth", tip), self._n_outputs)

    def _block(self, assembly: Assembly, number: int, tip: Tip, present: Flags) -> Tip:
        """Attend, then an MLP on each particle; each adds what it read."""
        for name in _ATTENTION:
            assembly.clear(f"{name}_{number}", present)
        is_softmax = assembly.table.holds(assembly.genomes, f"attention_{number}", "softmax")
        assembly.clear(f"attention_bits_{number}", is_softmax)
        heads, width = (assembly.counts(f"{name}_{number}") for name in ("heads", "head_width"))
        projected = assembly.dense(f"project_{number}", tip, 3 * heads * width, present)
        projected = assembly.linear(projected, f"head_bits_{number}", present)

        def part(which: int, head: int, where: Flags) -> Tip:
            """Slice queries (0), keys (1) or values (2) of a head."""
            first = (which * heads + head) * width
            return assembly.add(
                "slice",
                projected,
                axes=(tip.axes[0], width),
                present=where,
                first=first.astype(np.float64),
                size=width.astype(np.float64),
            )

        joined: Tip | None = None
        for head in range(self._n_heads[number - 1]):
            here = present & (heads > head)
            query, key, value = (part(which, head, here) for which in range(3))
            by_softmax = self._softmax(assembly, number, (query, key, value), here & is_softmax)
            by_sums = self._linear(assembly, number, (query, key, value), here & ~is_softmax)
            found = assembly.either(is_softmax, by_softmax, by_sums)
            if joined is None:
                joined = found
                continue
            axes = (tip.axes[0], joined.channels + width)
            joined = assembly.add("concat", joined, found, axes=axes, present=here)
        assert joined is not None, "there is at least one head"
        joined = assembly.linear(joined, f"head_bits_{number}", present)
        tip = assembly.either(present, self._merged(assembly, number, tip, joined, present), tip)
        units = tip.channels * assembly.counts(f"mlp_ratio_{number}")
        wide = assembly.block(f"up_{number}", tip, present, units=units)
        back = assembly.block(f"down_{number}", wide, present, tip, units=tip.channels)
        return assembly.either(present, back, tip)

    @staticmethod
    def _merged(assembly: Assembly, number: int, tip: Tip, joined: Tip, present: Flags) -> Tip:
        """Bring all heads back to the width of the features, and add these."""
        return assembly.block(f"merge_{number}", joined, present, tip, units=tip.channels)

    @staticmethod
    def _softmax(
        assembly: Assembly, number: int, parts: tuple[Tip, Tip, Tip], present: Flags
    ) -> Tip:
        """Return softmax(round(Q K^T)) V."""
        query, key, value = parts
        particles, width = query.axes
        square = (particles, particles)
        scores = assembly.add("matmul", query, key, axes=square, present=present)
        scores = assembly.linear(scores, f"score_bits_{number}", present)
        bits = assembly.numbers(f"attention_bits_{number}")
        weights = assembly.add("softmax", scores, present=present, output_bits=bits)
        turned = _turned(assembly, value, present)
        return assembly.add("matmul", weights, turned, axes=(particles, width), present=present)

    @staticmethod
    def _linear(
        assembly: Assembly, number: int, parts: tuple[Tip, Tip, Tip], present: Flags
    ) -> Tip:
        """Return relu(Q) round(relu(K)^T V)."""
        bits = assembly.numbers(f"head_bits_{number}")
        query, key = (
            assembly.add("relu", tip, present=present, output_bits=bits) for tip in parts[:2]
        )
        width: NDArray[np.int64] = query.channels
        turned = [_turned(assembly, tip, present) for tip in (parts[2], key)]
        both = assembly.add("matmul", *turned, axes=(width, width), present=present)
        both = assembly.linear(both, f"score_bits_{number}", present)
        return assembly.add("matmul", query, both, axes=query.axes, present=present)


def _turned(assembly: Assembly, tip: Tip, present: Flags) -> Tip:
    return assembly.add("transpose", tip, axes=tip.axes[::-1], present=present)


TEMPLATES.add(Attention.name, Attention)
