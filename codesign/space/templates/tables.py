"""Layers of constants and layers of learned tables by turns: adders where sums are cheap, look-ups where words are short.

input (features) -> layers -> head -> linear, where a layer is dense -> activation, or lookup_dense -> linear, and the
head either of both without a rounding between (KANELE, arXiv 2512.12850, is all tables; a multilayer perceptron all dense).

Genes (all indices into the YAML's domains): depth, input_bits, output_bits, flow, clock_mhz; per layer connection ("dense",
"lookup_dense"), width, result_bits; where it is dense activation, weight_bits, pruned_fraction, strategy, reuse_factor; where
it has tables entry_bits and pruned_tables, the share of tables forced to zero; for the head all of these but width,
result_bits and activation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from codesign.errors import ConfigError
from codesign.layers.lookup_dense import MAX_INDEX_BITS, LookupDense
from codesign.space.templates import TEMPLATES
from codesign.space.templates._shared import HARDWARE, Flags, GeneTable, greatest
from codesign.space.templates._wired import Assembly, Tip, WiredTemplate
from codesign.space.templates.base import Value

_GLOBAL = ("depth", "input_bits", "output_bits", "flow", "clock_mhz")
_TABLES = ("entry_bits", "pruned_tables")
_LAYER = ("connection", "width", "result_bits", "activation", *_TABLES, *HARDWARE)
_HEAD = ("connection", *_TABLES, *HARDWARE)


class Tables(WiredTemplate):
    """Layers that are dense or of learned tables: which, widths, bits and hardware."""

    name = "tables"
    domain_names = (*_GLOBAL, *_LAYER)
    optional_domain_names = ("io_type",)

    def __init__(
        self,
        domains: Mapping[str, Sequence[Value]],
        *,
        input_shape: tuple[int, ...],
        n_outputs: int,
    ) -> None:
        if len(input_shape) != 1:
            raise ConfigError(
                f"template tables reads flat features, the task has inputs of shape {input_shape}; choose a task of"
                " features, or template mlp"
            )
        if "lut_budget" in domains:
            raise ConfigError(
                "domains.lut_budget: widths of learned tables are genes, training does not buy them; leave it out with"
                " precision: uniform, or choose template mlp"
            )
        self._n_inputs, self._n_outputs = input_shape[0], n_outputs
        self._n_layers = greatest(domains, "depth")
        genes = {name: name for name in _GLOBAL}
        for number in range(1, self._n_layers + 1):
            genes |= {f"{name}_{number}": name for name in _LAYER}
        genes |= {f"{name}_head": name for name in _HEAD}
        choices: dict[str, Sequence[Value]] = {"connection": ("dense", LookupDense.name)}
        self._table = GeneTable.build(domains, genes, choices)
        for gene in self._table.genes:
            if genes[gene.name] in ("input_bits", "result_bits"):
                widest = max(float(value) for value in gene.domain)
                if widest > MAX_INDEX_BITS:
                    raise ConfigError(
                        f"domains.{self._table.domain_of[gene.name]} holds {widest:g}, tables look at words of up"
                        f" to {MAX_INDEX_BITS} bits; list narrower ones, or choose template mlp"
                    )

    def wire(self, assembly: Assembly) -> None:
        tip = assembly.input(np.full(len(assembly.genomes), self._n_inputs))
        for number in range(1, self._n_layers + 1):
            present = assembly.numbers("depth") >= number
            for name in ("connection", "width", "result_bits"):
                assembly.clear(f"{name}_{number}", present)
            units = assembly.counts(f"width_{number}")
            by_sums, by_tables = self._connected(assembly, str(number), tip, units, present)
            is_dense = assembly.table.holds(assembly.genomes, f"connection_{number}", "dense")
            assembly.clear(f"activation_{number}", present & is_dense)
            by_sums = assembly.activation(str(number), by_sums, present & is_dense)
            by_tables = assembly.linear(by_tables, f"result_bits_{number}", present & ~is_dense)
            tip = assembly.either(is_dense, by_sums, by_tables)
        units = np.full(len(assembly.genomes), self._n_outputs)
        both = self._connected(assembly, "head", tip, units, assembly.everyone)
        is_dense = assembly.table.holds(assembly.genomes, "connection_head", "dense")
        assembly.linear(assembly.either(is_dense, *both), "output_bits")

    @staticmethod
    def _connected(
        assembly: Assembly, suffix: str, tip: Tip, units: NDArray[np.int64], present: Flags
    ) -> tuple[Tip, Tip]:
        """Return sums of products where a layer is dense, and sums of entries where it has tables."""
        is_dense = assembly.table.holds(assembly.genomes, f"connection_{suffix}", "dense")
        for name in _TABLES:
            assembly.clear(f"{name}_{suffix}", present & ~is_dense)
        dense = assembly.dense(suffix, tip, units, present & is_dense)
        tables = assembly.add(
            LookupDense.name,
            tip,
            axes=(units,),
            present=present & ~is_dense,
            n_out=units.astype(np.float64),
            weight_bits=assembly.numbers(f"entry_bits_{suffix}"),
            pruned_fraction=assembly.numbers(f"pruned_tables_{suffix}"),
        )
        return dense, tables


TEMPLATES.add(Tables.name, Tables)
