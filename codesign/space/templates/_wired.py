"""Templates that say once how their networks are wired, for decoding and for canonical genomes alike.

A template's `wire` calls an `Assembly` layer by layer.  Decoding, the calls add nodes; making genomes canonical, they
add none, but each dense layer clears the genes that have no effect at the shape where it stands.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.errors import ConfigError
from codesign.ir import Population
from codesign.layers import LAYERS
from codesign.layers._pool import Pool
from codesign.space.templates._shared import (
    HARDWARE,
    MASK,
    TURNS,
    Flags,
    GeneTable,
    Genomes,
    Numbers,
    PopulationBuilder,
    greatest,
)
from codesign.space.templates.base import Gene, Template, Value
from codesign.space.turns import greatest_divisor

#: Genes of what networks read of particles, and those behind their blocks, in genome order.
PARTICLES = ("particles", "features")
POOLED = ("pool", "pool_bits", "input_bits", "output_bits", "flow", "clock_mhz")
#: Domains of a block beside its width, in genome order.
BLOCK = ("activation", "batch_norm", "result_bits", *HARDWARE)


@dataclass(frozen=True, kw_only=True)
class Tip:
    """What the last nodes so far write.

    Attributes:
        node: int64[n], node of each candidate; -1 where none is built.
        axes: int64[n] each: channels, and before them columns and rows where there are such axes.
    """

    node: NDArray[np.int64]
    axes: tuple[NDArray[np.int64], ...]

    @property
    def channels(self) -> NDArray[np.int64]:
        """int64[n]."""
        return self.axes[-1]


class Assembly:
    """The nodes of all networks of some genomes; with no builder, only their shapes."""

    def __init__(
        self, table: GeneTable, genomes: Genomes, builder: PopulationBuilder | None = None
    ) -> None:
        """Start without nodes.

        Args:
            table: the genes.
            genomes: int64[n, n_genes]; without a builder they become canonical, in place.
            builder: collects the nodes.
        """
        self.table, self.genomes, self._builder = table, genomes, builder
        self.everyone = np.ones(len(genomes), dtype=bool)
        #: int64[n], cycles from one event to the next.
        self.interval_cycles = np.ones(len(genomes), dtype=np.int64)
        self._codes = {name: i for i, name in enumerate(LAYERS.names())}

    def numbers(self, gene: str) -> Numbers:
        """float64[n], the values of one numeric gene."""
        return self.table.numbers(self.genomes, gene)

    def counts(self, gene: str) -> NDArray[np.int64]:
        """int64[n], the values of one gene of counts."""
        return self.numbers(gene).astype(np.int64)

    def add(
        self,
        layer: str | NDArray[np.int64],
        *inputs: Tip,
        axes: Sequence[NDArray[np.int64]] | None = None,
        present: Flags | None = None,
        **values: Numbers,
    ) -> Tip:
        """Add a node to the candidates where `present`; elsewhere pass the first input through.

        Args:
            layer: its name, or the code of each candidate's.
            inputs: what it reads.
            axes: of its result, where `present`; as those of the first input by default.
            present: bool[n]; all by default.
            values: columns of its parameters.
        """
        present = self.everyone if present is None else present
        axes = inputs[0].axes if axes is None else tuple(axes)
        if inputs and len(axes) == len(inputs[0].axes):
            pairs = zip(axes, inputs[0].axes, strict=True)
            axes = tuple(np.where(present, new, old) for new, old in pairs)
        node = inputs[0].node if inputs else np.full(len(self.genomes), -1)
        if self._builder is not None:
            node = self._builder.add(present, layer, [tip.node for tip in inputs], **values)
        return Tip(node=node, axes=axes)

    def input(self, *axes: NDArray[np.int64]) -> Tip:
        """Add the input of the axes given, rounded to the gene `input_bits`."""
        names = ("n_rows", "n_columns", "n_out")[-len(axes) :]
        columns = {name: axis.astype(np.float64) for name, axis in zip(names, axes, strict=True)}
        columns["output_bits"] = self.numbers("input_bits")
        return self.add("input", axes=axes, present=self.everyone, **columns)

    def particles(self) -> Tip:
        """Add the input of the leading particles and features that the genes `PARTICLES` say.

        The interval becomes the greatest one below the wish of its gene that divides the particles.
        """
        if TURNS in self.table.domain_of:
            self.clear(TURNS, self.table.holds(self.genomes, "flow", "rtl"))
            wishes = np.array(self.table.domains[TURNS], dtype=np.int64)
            real = greatest_divisor(self.counts("particles")[:, None], wishes)
            is_rtl = self.table.holds(self.genomes, "flow", "rtl")
            self.interval_cycles = np.where(is_rtl, self.chosen(TURNS, real), 1)
        return self.input(*map(self.counts, PARTICLES))

    def masked(self, source: Tip, reference: Tip) -> Tip:
        """Let particles whose first feature is the least there is say nothing, where the gene `mask` is 1."""
        if MASK not in self.table.domain_of:
            return source
        # hls4ml streams no masks
        has_stream = "io_type" in self.table.domain_of
        is_stream = ~self.everyone
        if has_stream:
            is_stream = self.table.holds(self.genomes, "io_type", "io_stream")
            is_stream &= ~self.table.holds(self.genomes, "flow", "rtl")
        self.clear(MASK, ~is_stream)
        present = (self.numbers(MASK) > 0) & ~is_stream
        return self.add("mask", source, reference, present=present)

    def linear(self, source: Tip, gene: str, present: Flags | None = None) -> Tip:
        """Round to the bits that a gene says."""
        return self.add("linear", source, present=present, output_bits=self.numbers(gene))

    def clear(self, gene: str, present: Flags) -> None:
        """Clear a gene where what it says is not `present`, if genomes become canonical."""
        if self._builder is None:
            self.table.clear(self.genomes, ~present, gene)

    def clear_block(self, suffix: str, present: Flags) -> None:
        """Clear the genes of a block where it is not `present`."""
        for name in ("width", *BLOCK):
            if f"{name}_{suffix}" in self.table.domain_of:
                self.clear(f"{name}_{suffix}", present)

    def chosen(self, gene: str, real: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return what the values of a gene come to, int64[n]; a canonical gene is the first that comes to the same.

        Args:
            gene: its name.
            real: int64[n, n_values], what each value of its domain comes to.
        """
        column = self.table.index(gene)
        mine = np.take_along_axis(real, self.genomes[:, column, None], axis=1)
        if self._builder is None:
            self.genomes[:, column] = (real == mine).argmax(axis=1)
        return mine[:, 0]

    def dense(
        self,
        suffix: str,
        source: Tip,
        units: NDArray[np.int64],
        present: Flags | None = None,
        *,
        layer: str = "dense",
        **values: Numbers,
    ) -> Tip:
        """Add a dense layer, or one like it with parameters of its own, whose hardware genes end in `suffix`."""
        hardware: dict[str, Numbers] = {}
        if self._builder is None:
            for name in HARDWARE:
                self.clear(f"{name}_{suffix}", self.everyone if present is None else present)
            self.table.clear_hardware(
                self.genomes,
                suffix,
                n_in=source.channels,
                n_out=units,
                is_positional=len(source.axes) > 1,
            )
        else:
            hardware = self.table.hardware(self.genomes, suffix)
        axes = (*source.axes[:-1], units)
        values = values or {"n_out": units.astype(np.float64)}
        return self.add(layer, source, axes=axes, present=present, **values, **hardware)

    def block(
        self,
        suffix: str,
        source: Tip,
        present: Flags,
        *added: Tip,
        units: NDArray[np.int64] | None = None,
    ) -> Tip:
        """Add dense -> [batch norm] [-> sum with others] -> activation, by the genes that end in `suffix`.

        Args:
            suffix: of the genes.
            source: what it reads.
            present: bool[n].
            added: others, of the shape of the result.
            units: outputs; those of the gene `width_<suffix>` by default.
        """
        self.clear_block(suffix, present)
        units = self.counts(f"width_{suffix}") if units is None else units
        tip = self.dense(suffix, source, units, present)
        has_norm = self.numbers(f"batch_norm_{suffix}") > 0
        tip = self.add("batch_norm", tip, present=present & has_norm)
        for other in added:
            tip = self.add("add", tip, other, present=present)
        return self.activation(suffix, tip, present)

    def activation(self, suffix: str, source: Tip, present: Flags) -> Tip:
        """Add the activation and its bits that the genes ending in `suffix` say."""
        activation = self.codes_of(f"activation_{suffix}")
        bits = self.numbers(f"result_bits_{suffix}")
        return self.add(activation, source, present=present, output_bits=bits)

    def codes_of(self, gene: str) -> NDArray[np.int64]:
        """int64[n], the code of the layer that a gene names."""
        return self.table.activation_codes(self.genomes, gene, self._codes)

    def pool(self, source: Tip, gene: str = "pool", present: Flags | None = None) -> Tip:
        """Pool over all positions by the layer that a gene names, and round to the bits of `<gene>_bits`."""
        tip = self.add(self.codes_of(gene), source, axes=source.axes[-1:], present=present)
        return self.linear(tip, f"{gene}_bits", present)

    def either(self, condition: Flags, first: Tip, second: Tip) -> Tip:
        """Return the first where `condition`, elsewhere the second, of as many axes."""
        pairs = zip(first.axes, second.axes, strict=True)
        axes = tuple(np.where(condition, one, other) for one, other in pairs)
        return Tip(node=np.where(condition, first.node, second.node), axes=axes)

    def chain(self, stack: str, depth: str, source: Tip) -> Tip:
        """Add the blocks `<stack>_1`, ..., as many as the gene `depth` says."""
        n_blocks = max(int(v) for v in self.table.domains[self.table.domain_of[depth]])
        for number in range(1, n_blocks + 1):
            source = self.block(f"{stack}_{number}", source, self.numbers(depth) >= number)
        return source

    def head(self, source: Tip, n_outputs: int) -> Tip:
        """Add the last dense layer, rounded to the gene `output_bits`."""
        units = np.full(len(self.genomes), n_outputs, dtype=np.int64)
        return self.linear(self.dense("head", source, units), "output_bits")


class WiredTemplate(Template):
    """Interface of templates that say how their networks are wired, in one place."""

    _table: GeneTable

    @property
    def genes(self) -> tuple[Gene, ...]:
        return self._table.genes

    @abstractmethod
    def wire(self, assembly: Assembly) -> None:
        """Add every layer, the head last."""

    def canonicalize(self, genomes: NDArray[np.int64]) -> NDArray[np.int64]:
        out = genomes.copy()
        self.wire(Assembly(self._table, out))
        return out

    def decode(self, genomes: NDArray[np.int64]) -> Population:
        names = LAYERS.names()
        builder = PopulationBuilder(len(genomes), {name: i for i, name in enumerate(names)})
        assembly = Assembly(self._table, genomes, builder)
        self.wire(assembly)
        return builder.finish(
            layer_names=names,
            interval_cycles=assembly.interval_cycles,
            **self._table.deployment(genomes),
        )


def pools() -> list[Value]:
    """Return the names of the layers that pool over positions."""
    return [layer.name for layer in LAYERS if isinstance(layer, Pool) and 2 in layer.ranks]


def check_particles(
    template: str, domains: Mapping[str, Sequence[Value]], input_shape: tuple[int, ...]
) -> None:
    """Check that a task has the particles and features that a space names.

    Raises:
        ConfigError: it has no particles, or fewer of either.
    """
    if len(input_shape) != 2:
        raise ConfigError(
            f"template {template} reads (particles, features), the task has inputs of shape {input_shape};"
            " choose a task of particles, or template mlp"
        )
    for name, limit in zip(PARTICLES, input_shape, strict=True):
        if greatest(domains, name) > limit:
            raise ConfigError(
                f"domains.{name} holds {greatest(domains, name)}, the task has {limit}; list what it has"
            )


def stack_genes(stack: str, n_blocks: int, width: str) -> dict[str, str]:
    """Return the domain of each gene of a stack of blocks.

    Args:
        stack: its name.
        n_blocks: blocks at most.
        width: domain of the widths; "" where the template sets them.
    """
    genes: dict[str, str] = {}
    for number in range(1, n_blocks + 1):
        if width:
            genes[f"width_{stack}_{number}"] = width
        genes |= {f"{name}_{stack}_{number}": name for name in BLOCK}
    return genes


def head_genes() -> dict[str, str]:
    """Return the domain of each gene of the last dense layer."""
    return {f"{name}_head": name for name in HARDWARE}
