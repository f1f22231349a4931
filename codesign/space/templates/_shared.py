"""What templates share: genes over domains, read for whole populations, and nodes collected slot by slot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import ConfigError, unknown_name
from codesign.ir import FLOWS, IO_TYPES, Population
from codesign.ir.candidate import RTL_STRATEGY
from codesign.layers import LAYERS
from codesign.layers._activation import Activation
from codesign.space.assemble import assemble
from codesign.space.reuse import first_alike
from codesign.space.templates.base import Gene, Value
from hw_models.types import MATVEC_STRATEGIES
from hw_models.units import mhz_to_period

Genomes = NDArray[np.int64]
Flags = NDArray[np.bool_]
Numbers = NDArray[np.float64]

#: Domains of every dense layer, beside its width.
HARDWARE = ("weight_bits", "pruned_fraction", "strategy", "reuse_factor")
#: Domains that a space may leave out: it then has no such gene.
OPTIONAL = ("io_type", "lut_budget")
#: The same, of templates whose particles can take turns: cycles from one event to the next in plain RTL.
TURNS = "interval_cycles"
#: The same, of templates of particles: 1 lets absent ones say nothing, so that biases do not speak for padding.
MASK = "mask"
#: Domains that a space of learned widths (one with `lut_budget`) has not, and what nodes state instead: no one
#: reads these bits, and batch norms are folded away.
UNSEARCHED = {
    "input_bits": 8.0,
    "weight_bits": 6.0,
    "result_bits": 8.0,
    "pool_bits": 10.0,
    "gather_bits": 10.0,
    "head_bits": 8.0,
    "score_bits": 8.0,
    "output_bits": 16.0,
    "pruned_fraction": 0.0,
    "batch_norm": 0.0,
}
#: Strategies whose multipliers can be shared; all others use every multiplier once per event.
_SHARING = ("resource", "resource_unrolled")
_SWITCHES = ("batch_norm", MASK)
_CATEGORICAL = {
    "activation",
    "attention",
    "connection",
    "skip",
    "strategy",
    "flow",
    "io_type",
    "batch_norm",
    MASK,
    "wiring",
    "pool",
    "window_pool",
    "convolution",
    "score",
    "error",
}


def greatest(domains: Mapping[str, Sequence[Value]], name: str) -> int:
    """Return the greatest value of a domain of counts, on which the genes of a space depend.

    Raises:
        ConfigError: the domain is missing, empty, or holds something else than counts.
    """
    if name not in domains:
        raise ConfigError(f"domains.{name} is missing; list the values to search")
    counts = [v for v in domains[name] if isinstance(v, int) and not isinstance(v, bool) and v > 0]
    if len(counts) != len(domains[name]) or not counts:
        raise ConfigError(
            f"domains.{name}: expected whole numbers of at least 1, got {list(domains[name])}"
        )
    return max(counts)


def check_domains(
    domains: Mapping[str, Sequence[Value]],
    genes: Mapping[str, str],
    choices: Mapping[str, Sequence[Value]],
) -> None:
    """Check the domains of a space.

    Args:
        domains: values by domain name, or by the name of a gene that has a domain of its own.
        genes: domain name by gene name.
        choices: what other domains may hold, beside activation, flow, io_type and strategy.

    Raises:
        ConfigError: a domain is empty, repeats a value, or holds an illegal one.
    """
    allowed: dict[str, Sequence[Value]] = {
        "activation": [
            la.name for la in LAYERS if isinstance(la, Activation) and la.name != "linear"
        ],
        "flow": FLOWS,
        "io_type": IO_TYPES,
        "strategy": MATVEC_STRATEGIES,
        **choices,
    }
    for name, values in domains.items():
        kind = genes.get(name, name)
        if not values:
            raise ConfigError(f"domains.{name} is empty; list at least one value")
        if len(set(values)) != len(values):
            raise ConfigError(f"domains.{name} repeats a value: {list(values)}; list each once")
        for value in values:
            if kind in allowed:
                if value not in allowed[kind]:
                    raise ConfigError(
                        f"domains.{name}: {unknown_name('value', value, map(str, allowed[kind]))}"
                    )
            elif not isinstance(value, (int, float)) or isinstance(value, bool):
                raise ConfigError(f"domains.{name}: expected numbers, got {value!r}")
            elif kind == TURNS and (value < 1 or value != int(value)):
                raise ConfigError(
                    f"domains.{name}: expected whole numbers of cycles, at least 1, got {value!r}"
                )
            elif kind in _SWITCHES and value not in (0, 1):
                raise ConfigError(f"domains.{name}: expected 0 or 1, got {value!r}")
            elif kind.startswith("pruned_") and not 0 <= value < 1:
                raise ConfigError(f"domains.{name}: expected 0 <= value < 1, got {value!r}")
            elif kind not in _SWITCHES and not kind.startswith("pruned_") and value <= 0:
                raise ConfigError(f"domains.{name}: expected positive numbers, got {value!r}")


@dataclass(frozen=True, kw_only=True)
class GeneTable:
    """Genes and the domain each one indexes.

    Attributes:
        genes: the variables, in genome order.
        domains: values by domain name.
        domain_of: domain name by gene name; a gene that a space gives a domain of its own has its own name.
        fixed: what stands in the place of genes that there would be if widths were not learned.
    """

    genes: tuple[Gene, ...]
    domains: Mapping[str, tuple[Value, ...]]
    domain_of: Mapping[str, str]
    fixed: Mapping[str, float]

    @classmethod
    def build(
        cls,
        domains: Mapping[str, Sequence[Value]],
        genes: Mapping[str, str],
        choices: Mapping[str, Sequence[Value]] | None = None,
        others: Sequence[str] = (),
        optional: Sequence[str] = OPTIONAL,
    ) -> GeneTable:
        """Make one gene per entry of `genes`, and last the optional ones.

        Args:
            domains: values by domain name, or by gene name: a domain of that gene's own.
            genes: domain name by gene name.
            choices: as in `check_domains`.
            others: domains that no gene indexes.
            optional: domains that a space may leave out.

        Raises:
            ConfigError: a domain is missing, unknown or illegal.
        """
        fixed: dict[str, float] = {}
        if "lut_budget" in domains and MASK in domains:
            raise ConfigError(
                "domains.mask: a mask compares with a word of the input, whose widths are not known before they are"
                " learned; leave it out, or leave out lut_budget"
            )
        if "lut_budget" in domains:
            fixed = {gene: UNSEARCHED[d] for gene, d in genes.items() if d in UNSEARCHED}
            for name in domains:
                if genes.get(name, name) in UNSEARCHED:
                    raise ConfigError(
                        f"domains.{name} has no effect where widths are learned; leave it out, or leave out lut_budget"
                    )
            genes = {gene: domain for gene, domain in genes.items() if gene not in fixed}
        genes = {**genes, **{name: name for name in optional if name in domains}}
        known = (*dict.fromkeys(genes.values()), *others, *optional, *genes)
        for name in domains:
            if name not in known:
                raise ConfigError(unknown_name("domain", name, known))
        check_domains(domains, genes, choices or {})
        values = {name: tuple(domain) for name, domain in domains.items()}
        for gene, domain in genes.items():
            if gene not in values and domain not in values:
                raise ConfigError(
                    f"domains.{domain} is missing, and {gene} has no domain of its own; list the"
                    " values to search"
                )
        domain_of = {gene: gene if gene in values else domain for gene, domain in genes.items()}
        return cls(
            genes=tuple(
                Gene(
                    name=gene,
                    domain=values[domain_of[gene]],
                    is_ordered=domain.split("_of_")[0] not in _CATEGORICAL,
                )
                for gene, domain in genes.items()
            ),
            domains=values,
            domain_of=domain_of,
            fixed=fixed,
        )

    def index(self, gene: str) -> int:
        """Position of a gene in the genome."""
        return self._positions[gene]

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {gene: i for i, gene in enumerate(self.domain_of)}

    def column(self, genomes: Genomes, gene: str) -> NDArray[np.int64]:
        """int64[n], the indices of one gene."""
        return genomes[:, self.index(gene)]

    def numbers(self, genomes: Genomes, gene: str) -> Numbers:
        """float64[n], the values of one numeric gene."""
        if gene in self.fixed:
            return np.full(len(genomes), self.fixed[gene])
        return np.array(self.domains[self.domain_of[gene]], dtype=np.float64)[
            self.column(genomes, gene)
        ]

    def holds(self, genomes: Genomes, gene: str, *values: str) -> Flags:
        """bool[n], whether a gene has one of `values`."""
        table = np.array([v in values for v in self.domains[self.domain_of[gene]]])
        return np.asarray(table[self.column(genomes, gene)])

    def clear(self, genomes: Genomes, where: Flags, *genes: str) -> None:
        """Set genes to 0 in the rows `where`, in place."""
        for gene in genes:
            if gene not in self.fixed:
                np.copyto(genomes[:, self.index(gene)], 0, where=where)

    def clear_hardware(
        self,
        genomes: Genomes,
        suffix: str,
        *,
        n_in: NDArray[np.int64],
        n_out: NDArray[np.int64],
        is_positional: bool = False,
    ) -> None:
        """Give hardware genes of equal effect equal values, in place.

        Genes without effect become 0, and a reuse factor the first of those wishes that the legal
        ones of its layer answer alike.

        Args:
            genomes: int64[n, n_genes].
            suffix: ends the names of the genes.
            n_in, n_out: int64[n], shape of the layer's matrix.
            is_positional: it is used at every position; no reuse factor is then above n_in.
        """
        is_rtl = self.holds(genomes, "flow", "rtl")
        self.clear(genomes, is_rtl, *(name for name in ("io_type",) if name in self.domain_of))
        self.clear(genomes, is_rtl, f"strategy_{suffix}")
        shares = self.holds(genomes, f"strategy_{suffix}", *_SHARING) & ~is_rtl
        self.clear(genomes, ~shares, f"reuse_factor_{suffix}")
        rows = np.flatnonzero(shares)
        wishes = self.domains[self.domain_of[f"reuse_factor_{suffix}"]]
        column = self.index(f"reuse_factor_{suffix}")
        first = first_alike(tuple(wishes), is_positional)
        genomes[rows, column] = first(n_in[rows], n_out[rows], genomes[rows, column])

    def _strategies(self, suffix: str) -> NDArray[np.int64]:
        """int64, the code of every value of a layer's domain of strategies."""
        domain = self.domains[self.domain_of[f"strategy_{suffix}"]]
        return np.array([MATVEC_STRATEGIES.index(str(v)) for v in domain])

    def deployment(self, genomes: Genomes) -> dict[str, Any]:
        """Columns of whole candidates: clock_period_ns, flow, io_type and lut_budget."""
        flows = np.array([FLOWS.index(str(v)) for v in self.domains["flow"]])
        flow = flows[self.column(genomes, "flow")]
        io_type = np.full(len(genomes), IO_TYPES.index("io_parallel"))
        if "io_type" in self.domain_of:
            codes = np.array([IO_TYPES.index(str(v)) for v in self.domains["io_type"]])
            # plain RTL takes all inputs at once
            is_hls = flow == FLOWS.index("hls")
            io_type = np.where(is_hls, codes[self.column(genomes, "io_type")], io_type)
        period = mhz_to_period(self.numbers(genomes, "clock_mhz"))
        budget = np.zeros(len(genomes))
        if "lut_budget" in self.domain_of:
            budget = self.numbers(genomes, "lut_budget")
        return {
            "clock_period_ns": period,
            "flow": flow,
            "io_type": io_type,
            "lut_budget": budget,
        }

    def hardware(self, genomes: Genomes, suffix: str) -> dict[str, Numbers]:
        """Columns of the dense layers whose hardware genes end in `suffix`."""
        strategy = self._strategies(suffix)[self.column(genomes, f"strategy_{suffix}")]
        is_rtl = self.holds(genomes, "flow", "rtl")
        strategy = np.where(is_rtl, MATVEC_STRATEGIES.index(RTL_STRATEGY), strategy)
        shares = np.isin(strategy, [MATVEC_STRATEGIES.index(name) for name in _SHARING])
        return {
            "weight_bits": self.numbers(genomes, f"weight_bits_{suffix}"),
            "pruned_fraction": self.numbers(genomes, f"pruned_fraction_{suffix}"),
            "strategy": strategy.astype(np.float64),
            "reuse_factor": np.where(shares, self.numbers(genomes, f"reuse_factor_{suffix}"), 1.0),
        }

    def activation_codes(
        self, genomes: Genomes, gene: str, codes: Mapping[str, int]
    ) -> NDArray[np.int64]:
        """int64[n], the layer code of each candidate's activation."""
        table = np.array([codes[str(v)] for v in self.domains[self.domain_of[gene]]])
        return np.asarray(table[self.column(genomes, gene)])


class PopulationBuilder:
    """Collects nodes slot by slot for all candidates at once; `-1` stands for "no such node"."""

    def __init__(self, n: int, codes: Mapping[str, int]) -> None:
        self._n = n
        self._codes = codes
        self._layers: list[NDArray[np.int64]] = []
        self._owners: list[NDArray[np.int64]] = []
        self._values: list[dict[str, NDArray[np.float64]]] = []
        self._sources: list[list[NDArray[np.int64]]] = []
        self._places: list[NDArray[np.int64]] = []
        self._count = 0
        #: int64[n], nodes of each candidate so far.
        self._counts = np.zeros(n, dtype=np.int64)

    def add(
        self,
        present: NDArray[np.bool_],
        layer: str | NDArray[np.int64],
        inputs: Sequence[NDArray[np.int64]],
        **values: NDArray[np.float64],
    ) -> NDArray[np.int64]:
        """Add a node to the candidates where `present`; elsewhere pass the first input through."""
        owners = np.flatnonzero(present)
        rows = self._count + np.arange(owners.size)
        self._count += owners.size
        self._layers.append(
            np.full(owners.size, self._codes[layer]) if isinstance(layer, str) else layer[owners]
        )
        self._owners.append(owners)
        self._values.append({name: v[owners] for name, v in values.items()})
        self._sources.append([source[owners] for source in inputs])
        self._places.append(self._counts[owners])
        self._counts[owners] += 1
        result = inputs[0].copy() if inputs else np.full(self._n, -1, dtype=np.int64)
        result[owners] = rows
        return result

    def flat_input(
        self, shape: Sequence[int], output_bits: NDArray[np.float64]
    ) -> NDArray[np.int64]:
        """Add inputs of one shape, and where they have positions, what makes one vector of them."""
        everyone = np.ones(self._n, dtype=bool)
        axes = dict(zip(("n_out", "n_columns", "n_rows"), reversed(shape), strict=False))
        columns = {name: np.full(self._n, float(axis)) for name, axis in axes.items()}
        tip = self.add(everyone, "input", [], output_bits=output_bits, **columns)
        return self.add(everyone & (len(shape) > 1), "flatten", [tip])

    def finish(
        self,
        *,
        layer_names: tuple[str, ...],
        clock_period_ns: NDArray[np.float64],
        flow: NDArray[np.int64],
        io_type: NDArray[np.int64],
        lut_budget: NDArray[np.float64],
        interval_cycles: NDArray[np.int64] | None = None,
    ) -> Population:
        """Sort nodes by candidate and derive everything else; without an interval, particles take no turns."""
        first = np.cumsum(self._counts) - self._counts
        rank = np.concatenate(
            [first[o] + place for o, place in zip(self._owners, self._places, strict=True)]
        )
        layer, owner = np.empty_like(rank), np.empty_like(rank)
        stage, sorted_stage = np.zeros_like(rank), np.empty_like(rank)
        parameters: dict[str, NDArray[np.float64]] = {}
        edges, start = [], 0
        for codes, owners, values, sources in zip(
            self._layers, self._owners, self._values, self._sources, strict=True
        ):
            own = slice(start, start + owners.size)
            rows, start = rank[own], own.stop
            layer[rows], owner[rows] = codes, owners
            for name, value in values.items():
                parameters.setdefault(name, np.zeros(rank.size))[rows] = value
            for source in sources:
                np.maximum(stage[own], stage[source] + 1, out=stage[own])
                edges.append(np.stack([rank[source], rows]))
            sorted_stage[rows] = stage[own]
        return assemble(
            n_candidates=self._n,
            layer_names=layer_names,
            layer=layer,
            candidate=owner,
            parameters=parameters,
            stage=sorted_stage,
            edges=np.concatenate(edges, axis=1),
            clock_period_ns=clock_period_ns,
            flow=flow,
            io_type=io_type,
            lut_budget=lut_budget,
            interval_cycles=np.ones(self._n, dtype=np.int64)
            if interval_cycles is None
            else interval_cycles,
            round_reuse=True,
        )
