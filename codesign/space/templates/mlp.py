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

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from codesign.errors import ConfigError, unknown_name
from codesign.ir import Population
from codesign.layers import LAYERS
from codesign.space.assemble import assemble
from codesign.space.templates import TEMPLATES
from codesign.space.templates.base import Gene, Template, Value
from hw_models.types import STRATEGIES
from hw_models.units import mhz_to_period

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
_HEAD = ("weight_bits", "pruned_fraction", "strategy", "reuse_factor")
_GLOBAL = ("depth", "input_bits", "output_bits", "flow", "clock_mhz")
_CATEGORICAL = {"activation", "skip", "strategy", "flow", "batch_norm"}
_SKIPS = ("none", "add", "concat")
_FLOWS = ("rtl", "hls")
#: Strategies whose multipliers can be shared; all others use every multiplier once per event.
_SHARING = ("resource", "resource_unrolled")


class MLP(Template):
    """See the module's docstring."""

    name = "mlp"
    domain_names = (*_GLOBAL, *_BLOCK)

    def __init__(
        self, domains: Mapping[str, Sequence[Value]], *, n_inputs: int, n_outputs: int
    ) -> None:
        self._domains = {name: tuple(domains[name]) for name in self.domain_names}
        self._n_inputs = n_inputs
        self._n_outputs = n_outputs
        self._check()
        self._n_blocks = int(max(self._domains["depth"]))  # type: ignore[type-var,arg-type]
        genes = [self._gene(name, name) for name in _GLOBAL]
        for k in range(1, self._n_blocks + 1):
            genes += [self._gene(f"{name}_{k}", name) for name in _BLOCK]
        genes += [self._gene(f"{name}_head", name) for name in _HEAD]
        self._genes = tuple(genes)
        self._index = {gene.name: i for i, gene in enumerate(genes)}
        self._layer_names = LAYERS.names()
        self._codes = {name: i for i, name in enumerate(self._layer_names)}

    def _gene(self, name: str, domain: str) -> Gene:
        return Gene(name=name, domain=self._domains[domain], is_ordered=domain not in _CATEGORICAL)

    def _check(self) -> None:
        allowed = {
            "activation": [
                n for n in LAYERS.names() if n in ("relu", "leaky_relu", "tanh", "sigmoid")
            ],
            "skip": _SKIPS,
            "flow": _FLOWS,
            "strategy": STRATEGIES,
        }
        for name, values in self._domains.items():
            if not values:
                raise ConfigError(f"domains.{name} is empty; list at least one value")
            if len(set(values)) != len(values):
                raise ConfigError(f"domains.{name} repeats a value: {list(values)}; list each once")
            for value in values:
                if name in allowed:
                    if value not in allowed[name]:
                        raise ConfigError(
                            f"domains.{name}: {unknown_name('value', value, allowed[name])}"
                        )
                elif not isinstance(value, (int, float)) or isinstance(value, bool):
                    raise ConfigError(f"domains.{name}: expected numbers, got {value!r}")
                elif name in ("batch_norm",) and value not in (0, 1):
                    raise ConfigError(f"domains.batch_norm: expected 0 or 1, got {value!r}")
                elif name == "pruned_fraction" and not 0 <= value < 1:
                    raise ConfigError(
                        f"domains.pruned_fraction: expected 0 <= value < 1, got {value!r}"
                    )
                elif name not in ("batch_norm", "pruned_fraction") and value <= 0:
                    raise ConfigError(f"domains.{name}: expected positive numbers, got {value!r}")

    @property
    def genes(self) -> tuple[Gene, ...]:
        return self._genes

    def _column(self, genomes: NDArray[np.int64], name: str) -> NDArray[np.int64]:
        return genomes[:, self._index[name]]

    def _numbers(self, genomes: NDArray[np.int64], gene: str, domain: str) -> NDArray[np.float64]:
        return np.array(self._domains[domain], dtype=np.float64)[self._column(genomes, gene)]

    def _is(
        self, genomes: NDArray[np.int64], gene: str, domain: str, *values: str
    ) -> NDArray[np.bool_]:
        table = np.array([v in values for v in self._domains[domain]])
        return np.asarray(table[self._column(genomes, gene)])

    def canonicalize(self, genomes: NDArray[np.int64]) -> NDArray[np.int64]:
        out = genomes.copy()
        depth = self._numbers(out, "depth", "depth")
        is_rtl = self._is(out, "flow", "flow", "rtl")
        for k in range(1, self._n_blocks + 1):
            absent = depth < k
            for name in _BLOCK:
                out[absent, self._index[f"{name}_{k}"]] = 0
            out[self._is(out, f"skip_{k}", "skip", "add"), self._index[f"width_{k}"]] = 0
            self._canonicalize_hardware(out, is_rtl, str(k))
        self._canonicalize_hardware(out, is_rtl, "head")
        return out

    def _canonicalize_hardware(
        self, out: NDArray[np.int64], is_rtl: NDArray[np.bool_], suffix: str
    ) -> None:
        out[is_rtl, self._index[f"strategy_{suffix}"]] = 0
        shares = self._is(out, f"strategy_{suffix}", "strategy", *_SHARING) & ~is_rtl
        out[~shares, self._index[f"reuse_factor_{suffix}"]] = 0

    def decode(self, genomes: NDArray[np.int64]) -> Population:
        n = genomes.shape[0]
        depth = self._numbers(genomes, "depth", "depth")
        is_rtl = self._is(genomes, "flow", "flow", "rtl")
        activation_codes = np.array([self._codes[str(v)] for v in self._domains["activation"]])
        builder = _Builder(n, self._codes)
        everyone = np.ones(n, dtype=bool)
        tip = builder.add(
            everyone,
            "input",
            [],
            n_out=np.full(n, float(self._n_inputs)),
            output_bits=self._numbers(genomes, "input_bits", "input_bits"),
        )
        width = np.full(n, float(self._n_inputs))
        for k in range(1, self._n_blocks + 1):
            present = depth >= k
            adds = self._is(genomes, f"skip_{k}", "skip", "add")
            units = np.where(adds, width, self._numbers(genomes, f"width_{k}", "width"))
            block_input = tip
            node = builder.add(
                present, "dense", [tip], n_out=units, **self._hardware(genomes, is_rtl, str(k))
            )
            has_norm = present & (self._numbers(genomes, f"batch_norm_{k}", "batch_norm") > 0)
            node = builder.add(has_norm, "batch_norm", [node])
            node = builder.add(
                present,
                activation_codes[self._column(genomes, f"activation_{k}")],
                [node],
                output_bits=self._numbers(genomes, f"result_bits_{k}", "result_bits"),
            )
            node = builder.add(present & adds, "add", [node, block_input])
            concatenates = present & self._is(genomes, f"skip_{k}", "skip", "concat")
            tip = builder.add(concatenates, "concat", [node, block_input])
            width = np.where(present, units + np.where(concatenates, width, 0.0), width)
        tip = builder.add(
            everyone,
            "dense",
            [tip],
            n_out=np.full(n, float(self._n_outputs)),
            **self._hardware(genomes, is_rtl, "head"),
        )
        builder.add(
            everyone,
            "linear",
            [tip],
            output_bits=self._numbers(genomes, "output_bits", "output_bits"),
        )
        return builder.finish(
            layer_names=self._layer_names,
            clock_period_ns=mhz_to_period(self._numbers(genomes, "clock_mhz", "clock_mhz")),
        )

    def _hardware(
        self, genomes: NDArray[np.int64], is_rtl: NDArray[np.bool_], suffix: str
    ) -> dict[str, NDArray[np.float64]]:
        codes = np.array(
            [STRATEGIES.index(str(v)) for v in self._domains["strategy"]], dtype=np.float64
        )
        strategy = codes[self._column(genomes, f"strategy_{suffix}")]
        strategy = np.where(is_rtl, float(STRATEGIES.index("distributed_arithmetic")), strategy)
        shares = np.isin(strategy, [STRATEGIES.index(name) for name in _SHARING])
        reuse = self._numbers(genomes, f"reuse_factor_{suffix}", "reuse_factor")
        return {
            "weight_bits": self._numbers(genomes, f"weight_bits_{suffix}", "weight_bits"),
            "pruned_fraction": self._numbers(
                genomes, f"pruned_fraction_{suffix}", "pruned_fraction"
            ),
            "strategy": strategy,
            "reuse_factor": np.where(shares, reuse, 1.0),
        }


class _Builder:
    """Collects nodes slot by slot for all candidates at once; `-1` stands for "no such node"."""

    def __init__(self, n: int, codes: Mapping[str, int]) -> None:
        self._n = n
        self._codes = codes
        self._layers: list[NDArray[np.int64]] = []
        self._owners: list[NDArray[np.int64]] = []
        self._values: list[dict[str, NDArray[np.float64]]] = []
        self._edges: list[NDArray[np.int64]] = []
        self._count = 0

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
        code = np.full(self._n, self._codes[layer]) if isinstance(layer, str) else layer
        self._layers.append(code[owners])
        self._owners.append(owners)
        self._values.append({name: v[owners] for name, v in values.items()})
        for source in inputs:
            self._edges.append(np.stack([source[owners], rows]))
        result = inputs[0].copy() if inputs else np.full(self._n, -1, dtype=np.int64)
        result[owners] = rows
        return result

    def finish(
        self, *, layer_names: tuple[str, ...], clock_period_ns: NDArray[np.float64]
    ) -> Population:
        """Sort nodes by candidate and derive everything else."""
        owner = np.concatenate(self._owners)
        order = np.argsort(owner, kind="stable")
        rank = np.empty_like(order)
        rank[order] = np.arange(order.size)
        names = {name for values in self._values for name in values}
        parameters = {
            name: np.concatenate(
                [
                    v.get(name, np.zeros(o.size))
                    for v, o in zip(self._values, self._owners, strict=True)
                ]
            )[order]
            for name in names
        }
        return assemble(
            n_candidates=self._n,
            layer_names=layer_names,
            layer=np.concatenate(self._layers)[order].astype(np.int64),
            candidate=owner[order],
            parameters=parameters,
            edges=rank[np.concatenate(self._edges, axis=1)],
            clock_period_ns=clock_period_ns,
            round_reuse=True,
        )


TEMPLATES.add(MLP.name, MLP)
