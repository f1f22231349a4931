"""Deep sets: the same layers on every particle, a pool over particles, and layers on what it says.

input (particles, features) -> particle blocks -> pool -> rounding -> blocks -> dense -> linear, where a
block is dense -> [batch norm] -> activation.  Whatever the order of the particles, the answer is the same
(Zaheer et al., arXiv 1703.06114; on jets Komiske et al., arXiv 1810.05165).

Genes (all indices into the YAML's domains): particles and features, the leading ones that a network
reads; particle_depth, depth, pool, pool_bits, input_bits, output_bits, flow, clock_mhz; per particle block
and per block width, activation, batch_norm, weight_bits, result_bits, pruned_fraction, strategy,
reuse_factor; for the head weight_bits, pruned_fraction, strategy, reuse_factor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from codesign.errors import ConfigError
from codesign.ir import Population
from codesign.layers import LAYERS
from codesign.layers._pool import Pool
from codesign.space.templates import TEMPLATES
from codesign.space.templates._shared import (
    HARDWARE,
    OPTIONAL,
    GeneTable,
    PopulationBuilder,
    greatest,
)
from codesign.space.templates.base import Gene, Template, Value

_GLOBAL = (
    "particles",
    "features",
    "particle_depth",
    "depth",
    "pool",
    "pool_bits",
    "input_bits",
    "output_bits",
    "flow",
    "clock_mhz",
)
_BLOCK = ("activation", "batch_norm", "result_bits", *HARDWARE)
_WIDTHS = {"particle": "particle_width", "set": "width"}


class DeepSets(Template):
    """Layers on each particle, a pool over particles, layers on the pool: their depths, widths, bits and hardware."""

    name = "deepsets"
    domain_names = (*_GLOBAL, *_WIDTHS.values(), *_BLOCK)
    optional_domain_names = OPTIONAL

    def __init__(
        self,
        domains: Mapping[str, Sequence[Value]],
        *,
        input_shape: tuple[int, ...],
        n_outputs: int,
    ) -> None:
        if len(input_shape) != 2:
            raise ConfigError(
                f"template deepsets reads (particles, features), the task has inputs of shape {input_shape};"
                " choose a task of particles, or template mlp"
            )
        for name, limit in zip(("particles", "features"), input_shape, strict=True):
            if greatest(domains, name) > limit:
                raise ConfigError(
                    f"domains.{name} holds {greatest(domains, name)}, the task has {limit}; list what it has"
                )
        self._n_outputs = n_outputs
        self._n_blocks = {
            "particle": greatest(domains, "particle_depth"),
            "set": greatest(domains, "depth"),
        }
        genes = {name: name for name in _GLOBAL}
        for suffix in self._suffixes():
            genes[f"width_{suffix}"] = _WIDTHS[suffix.rpartition("_")[0]]
            genes |= {f"{name}_{suffix}": name for name in _BLOCK}
        genes |= {f"{name}_head": name for name in HARDWARE}
        pools = [layer.name for layer in LAYERS if isinstance(layer, Pool) and 2 in layer.ranks]
        self._table = GeneTable.build(domains, genes, {"pool": pools})

    def _suffixes(self) -> list[str]:
        return [f"{part}_{k}" for part, n in self._n_blocks.items() for k in range(1, n + 1)]

    @property
    def genes(self) -> tuple[Gene, ...]:
        return self._table.genes

    def _present(self, genomes: NDArray[np.int64], suffix: str) -> NDArray[np.bool_]:
        part, _, number = suffix.rpartition("_")
        gene = {"particle": "particle_depth", "set": "depth"}[part]
        return self._table.numbers(genomes, gene) >= int(number)

    def canonicalize(self, genomes: NDArray[np.int64]) -> NDArray[np.int64]:
        table, out = self._table, genomes.copy()
        width = table.numbers(out, "features").astype(np.int64)
        for suffix in self._suffixes():
            present = self._present(out, suffix)
            table.clear(out, ~present, *(f"{name}_{suffix}" for name in ("width", *_BLOCK)))
            units = table.numbers(out, f"width_{suffix}").astype(np.int64)
            is_particle = suffix.startswith("particle")
            table.clear_hardware(out, suffix, n_in=width, n_out=units, is_positional=is_particle)
            width = np.where(present, units, width)
        table.clear_hardware(out, "head", n_in=width, n_out=np.full_like(width, self._n_outputs))
        return out

    def decode(self, genomes: NDArray[np.int64]) -> Population:
        table, n = self._table, len(genomes)
        codes = {name: i for i, name in enumerate(LAYERS.names())}
        builder, everyone = PopulationBuilder(n, codes), np.ones(n, dtype=bool)

        def block(suffix: str, source: NDArray[np.int64]) -> NDArray[np.int64]:
            present = self._present(genomes, suffix)
            units = table.numbers(genomes, f"width_{suffix}")
            hardware = table.hardware(genomes, suffix)
            node = builder.add(present, "dense", [source], n_out=units, **hardware)
            has_norm = table.numbers(genomes, f"batch_norm_{suffix}") > 0
            node = builder.add(present & has_norm, "batch_norm", [node])
            activation = table.activation_codes(genomes, f"activation_{suffix}", codes)
            bits = table.numbers(genomes, f"result_bits_{suffix}")
            return builder.add(present, activation, [node], output_bits=bits)

        tip = builder.add(
            everyone,
            "input",
            [],
            n_columns=table.numbers(genomes, "particles"),
            n_out=table.numbers(genomes, "features"),
            output_bits=table.numbers(genomes, "input_bits"),
        )
        for suffix in self._suffixes():
            if suffix == "set_1":
                tip = builder.add(everyone, table.activation_codes(genomes, "pool", codes), [tip])
                bits = table.numbers(genomes, "pool_bits")
                tip = builder.add(everyone, "linear", [tip], output_bits=bits)
            tip = block(suffix, tip)
        outputs = np.full(n, float(self._n_outputs))
        hardware = table.hardware(genomes, "head")
        tip = builder.add(everyone, "dense", [tip], n_out=outputs, **hardware)
        builder.add(everyone, "linear", [tip], output_bits=table.numbers(genomes, "output_bits"))
        return builder.finish(layer_names=LAYERS.names(), **table.deployment(genomes))


TEMPLATES.add(DeepSets.name, DeepSets)
