"""The space of one network that is given: how it is put on the device, its weights known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.ir import FLOWS, IO_TYPES, Candidate, Population, QuantizedNetwork
from codesign.ir.candidate import RTL_STRATEGY
from codesign.layers import LAYERS
from codesign.space.assemble import assemble, population_from_candidates
from codesign.space.reuse import greatest_legal_reuse_factor
from codesign.space.space import SearchSpace
from codesign.space.templates.base import Gene, Template, Value
from hw_models.legality import legal_reuse_factors
from hw_models.types import MATVEC_STRATEGIES
from hw_models.units import mhz_to_period

Int = NDArray[np.int64]
#: How a design is built: flow and io_type.  A genome holds the index.
BUILDS = (("rtl", "io_parallel"), ("hls", "io_parallel"), ("hls", "io_stream"))


class GivenNetwork(Template):
    """Genes: the clock, how it is built, and a strategy and reuse factor per node with multipliers."""

    name = "given"
    domain_names = ()

    def __init__(
        self,
        domains: Mapping[str, Sequence[Value]],
        *,
        input_shape: tuple[int, ...],
        n_outputs: int,
        network: QuantizedNetwork | None = None,
        columns: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        """Describe the choices.

        Args:
            domains: "clock_mhz" and "strategy".
            input_shape, n_outputs: of the network.
            network: the network.
            columns: population columns of its nodes that its weights settle.
        """
        assert network is not None and columns is not None, "a given space is of a network"
        self.network, self._exact = network, columns
        nodes = network.candidate.network.nodes
        self._base = population_from_candidates([network.candidate])
        self._rows = [i for i, n in enumerate(nodes) if LAYERS.get(n.layer).has_multipliers]
        builds = BUILDS if len(input_shape) > 1 else BUILDS[:2]
        self.strategies = [s for s in domains["strategy"] if s != "resource_unrolled"]
        genes = [
            Gene(name="clock_mhz", domain=tuple(domains["clock_mhz"]), is_ordered=True),
            Gene(
                name="build", domain=tuple(f"{flow} {io}" for flow, io in builds), is_ordered=False
            ),
        ]
        self.reuse: list[Int] = []
        for row in self._rows:
            node = nodes[row].name
            n_in, n_out = (int(self._base.columns[k][row]) for k in ("n_in", "n_out"))
            limit = n_in if self._base.columns["n_columns"][row] > 0 else n_in * n_out
            legal = legal_reuse_factors(n_in, n_out, "resource")
            self.reuse.append(legal[legal <= limit])
            genes += [
                Gene(name=f"strategy_{node}", domain=tuple(self.strategies), is_ordered=False),
                Gene(name=f"reuse_{node}", domain=tuple(self.reuse[-1].tolist()), is_ordered=True),
            ]
        self._genes = tuple(genes)

    @property
    def n_layers(self) -> int:
        """Nodes with multipliers."""
        return len(self._rows)

    @property
    def genes(self) -> tuple[Gene, ...]:
        return self._genes

    def canonicalize(self, genomes: Int) -> Int:
        result = np.array(genomes, dtype=np.int64)
        is_rtl = result[:, 1] == 0
        result[is_rtl, 2:] = 0
        for layer in range(self.n_layers):
            strategy, reuse = 2 + 2 * layer, 3 + 2 * layer
            names = np.array(self.strategies)[result[:, strategy]]
            result[names == RTL_STRATEGY, reuse] = 0
        return result

    def genome_of(self, candidate: Candidate) -> Int:
        """Return the genome of a hardware configuration, nearest where it is not in the domains."""
        hardware = candidate.hardware
        clocks = np.array([mhz_to_period(float(v)) for v in self._genes[0].domain])
        names = [f"{hardware.flow} {hardware.io_type}" == v for v in self._genes[1].domain]
        genome = [
            int(np.argmin(np.abs(clocks - hardware.clock_period_ns))),
            int(np.argmax(names)),
        ]
        nodes = self.network.candidate.network.nodes
        for row, reuse in zip(self._rows, self.reuse, strict=True):
            strategy = hardware.strategy[nodes[row].name]
            genome += [
                self.strategies.index(strategy) if strategy in self.strategies else 0,
                int(np.argmin(np.abs(reuse - hardware.reuse_factor[nodes[row].name]))),
            ]
        return np.asarray(self.canonicalize(np.array([genome]))[0])

    def decode(self, genomes: Int) -> Population:
        n, base = len(genomes), self._base
        m = base.layer.size
        codes = np.array([MATVEC_STRATEGIES.index(str(s)) for s in self.strategies])
        columns = {name: np.tile(values, n) for name, values in base.columns.items()}
        declared = {p.column for name in base.layer_names for p in LAYERS.get(name).parameters}
        parameters = {name: values for name, values in columns.items() if name in declared}
        strategy, reuse = (np.tile(base.columns[k], (n, 1)) for k in ("strategy", "reuse_factor"))
        is_rtl = genomes[:, 1] == 0
        for layer, row in enumerate(self._rows):
            code = np.where(
                is_rtl, MATVEC_STRATEGIES.index(RTL_STRATEGY), codes[genomes[:, 2 + 2 * layer]]
            )
            wish = self.reuse[layer][genomes[:, 3 + 2 * layer]]
            n_in, n_out = (np.full(n, int(base.columns[k][row])) for k in ("n_in", "n_out"))
            strategy[:, row] = code
            reuse[:, row] = greatest_legal_reuse_factor(n_in, n_out, code, np.array(wish))
        parameters |= {"strategy": strategy.ravel(), "reuse_factor": reuse.ravel()}
        offsets = np.repeat(np.arange(n) * m, base.edges.shape[1])
        builds = np.array(
            [
                (FLOWS.index(f), IO_TYPES.index(i))
                for f, i in (str(v).split() for v in self._genes[1].domain)
            ]
        )[genomes[:, 1]]
        clocks = np.array([mhz_to_period(float(v)) for v in self._genes[0].domain])
        population = assemble(
            n_candidates=n,
            layer_names=base.layer_names,
            layer=np.tile(base.layer, n),
            candidate=np.repeat(np.arange(n), m),
            parameters=parameters,
            stage=np.tile(base.stage, n),
            edges=np.tile(base.edges, n) + offsets,
            clock_period_ns=clocks[genomes[:, 0]],
            flow=builds[:, 0],
            io_type=builds[:, 1],
            lut_budget=np.zeros(n),  # weights are given, and so are their widths
            interval_cycles=np.ones(n, dtype=np.int64),
            round_reuse=True,
        )
        exact = {name: np.tile(values, n) for name, values in self._exact.items()}
        return replace(population, columns={**population.columns, **exact})


def given_space(
    network: QuantizedNetwork,
    columns: Mapping[str, NDArray[Any]],
    *,
    clocks_mhz: Sequence[float],
    strategies: Sequence[str],
) -> SearchSpace:
    """Return the space of the hardware of one network.

    Args:
        network: the network.
        columns: what its weights settle, by population column.
        clocks_mhz, strategies: to choose from.
    """
    shape, n_outputs = network.input_type.shape, network.result[network.network.nodes[-1].name].size
    template = GivenNetwork(
        {"clock_mhz": list(clocks_mhz), "strategy": list(strategies)},
        input_shape=shape,
        n_outputs=n_outputs,
        network=network,
        columns=columns,
    )
    return SearchSpace(
        name="hardware of the given network",
        template=template,
        input_shape=shape,
        n_outputs=n_outputs,
    )
