"""Multilayer perceptrons with optional batch norm and skip connections around each hidden layer.

Block k of at most max(depth): dense -> [batch norm] -> activation -> [skip], where the skip adds or
concatenates the block's input.  A skip that adds forces the block's width to that of its input, so
that branches always fit.  The head is dense -> linear.

Genes (all indices into the YAML's domains): depth, input_bits, output_bits, flow, clock_mhz; per
block width, activation, batch_norm, skip, weight_bits, result_bits, pruned_fraction, strategy,
reuse_factor; for the head weight_bits, pruned_fraction, strategy, reuse_factor.

flow "rtl" realises the whole network as one distributed-arithmetic design (alkaid RTL); "hls" lets
every layer choose its strategy in one hls4ml project.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from codesign.ir import Population
from codesign.layers import LAYERS
from codesign.space.templates import TEMPLATES
from codesign.space.templates._shared import (
    HARDWARE,
    OPTIONAL,
    GeneTable,
    PopulationBuilder,
    greatest,
)
from codesign.space.templates.base import Gene, Template, Value

# the order is that of the first released benchmark: genomes and samples depend on it
_BLOCK = (
    "width",
    "activation",
    "batch_norm",
    "skip",
    "weight_bits",
    "result_bits",
    "pruned_fraction",
    "strategy",
    "reuse_factor",
)
_GLOBAL = ("depth", "input_bits", "output_bits", "flow", "clock_mhz")
_SKIPS = ("none", "add", "concat")

Widths = NDArray[np.int64]


class MLP(Template):
    """Multilayer perceptrons: depth, and per layer width, activation, norm, skip, bits and hardware."""

    name = "mlp"
    domain_names = (*_GLOBAL, *_BLOCK)
    optional_domain_names = OPTIONAL

    def __init__(
        self,
        domains: Mapping[str, Sequence[Value]],
        *,
        input_shape: tuple[int, ...],
        n_outputs: int,
    ) -> None:
        self._input_shape, self._n_outputs = input_shape, n_outputs
        self._n_inputs = math.prod(input_shape)
        self._n_blocks = greatest(domains, "depth")
        genes = {name: name for name in _GLOBAL}
        for k in range(1, self._n_blocks + 1):
            genes |= {f"{name}_{k}": name for name in _BLOCK}
        genes |= {f"{name}_head": name for name in HARDWARE}
        self._table = GeneTable.build(domains, genes, {"skip": _SKIPS})

    @property
    def genes(self) -> tuple[Gene, ...]:
        return self._table.genes

    def canonicalize(self, genomes: NDArray[np.int64]) -> NDArray[np.int64]:
        table, out = self._table, genomes.copy()
        depth = table.numbers(out, "depth")
        for k in range(1, self._n_blocks + 1):
            table.clear(out, depth < k, *(f"{name}_{k}" for name in _BLOCK))
            table.clear(out, table.holds(out, f"skip_{k}", "add"), f"width_{k}")
        for suffix, (n_in, n_out) in self._shapes(out).items():
            table.clear_hardware(out, suffix, n_in=n_in, n_out=n_out)
        return out

    def _shapes(self, genomes: NDArray[np.int64]) -> dict[str, tuple[Widths, Widths]]:
        """Return what every dense layer reads and writes, int64[n] each, by suffix of its genes."""
        table, depth = self._table, self._table.numbers(genomes, "depth")
        width = np.full(len(genomes), self._n_inputs)
        shapes = {}
        for k in range(1, self._n_blocks + 1):
            own = table.numbers(genomes, f"width_{k}").astype(np.int64)
            units = np.where(table.holds(genomes, f"skip_{k}", "add"), width, own)
            shapes[str(k)] = (width, units)
            joined = units + np.where(table.holds(genomes, f"skip_{k}", "concat"), width, 0)
            width = np.where(depth >= k, joined, width)
        return shapes | {"head": (width, np.full(len(genomes), self._n_outputs))}

    def decode(self, genomes: NDArray[np.int64]) -> Population:
        table, n = self._table, genomes.shape[0]
        depth = table.numbers(genomes, "depth")
        codes = {name: i for i, name in enumerate(LAYERS.names())}
        builder = PopulationBuilder(n, codes)
        everyone = np.ones(n, dtype=bool)
        tip = builder.flat_input(self._input_shape, table.numbers(genomes, "input_bits"))
        shapes = self._shapes(genomes)
        for k in range(1, self._n_blocks + 1):
            present = depth >= k
            adds = table.holds(genomes, f"skip_{k}", "add")
            units = shapes[str(k)][1].astype(np.float64)
            block_input = tip
            node = builder.add(
                present, "dense", [tip], n_out=units, **table.hardware(genomes, str(k))
            )
            node = builder.add(
                present & (table.numbers(genomes, f"batch_norm_{k}") > 0), "batch_norm", [node]
            )
            node = builder.add(
                present,
                table.activation_codes(genomes, f"activation_{k}", codes),
                [node],
                output_bits=table.numbers(genomes, f"result_bits_{k}"),
            )
            node = builder.add(present & adds, "add", [node, block_input])
            concatenates = present & table.holds(genomes, f"skip_{k}", "concat")
            tip = builder.add(concatenates, "concat", [node, block_input])
        n_outputs = np.full(n, float(self._n_outputs))
        tip = builder.add(
            everyone, "dense", [tip], n_out=n_outputs, **table.hardware(genomes, "head")
        )
        builder.add(everyone, "linear", [tip], output_bits=table.numbers(genomes, "output_bits"))
        return builder.finish(layer_names=LAYERS.names(), **table.deployment(genomes))


TEMPLATES.add(MLP.name, MLP)
