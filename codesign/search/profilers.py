"""Cheap figures of any sample of a space, as arrays: what filters and rewards are made of.

`SpaceProfiler` decodes and counts, for every space; `precompute_chain` tabulates a figure of plain
chains once, after which it is a few look-ups per design.
"""

from dataclasses import dataclass
from typing import Final, get_args

import numpy as np

from codesign.errors import DesignError, unknown_name
from codesign.hardware.scorer import HardwareScorer, lower
from codesign.ir import Population
from codesign.layers import products_of
from codesign.search.compose import SwitchedProfiler, precompute_profiler
from codesign.search.problem import Floats, Genomes
from codesign.space import SearchSpace
from codesign.study import Figure
from hw_models.profile import count_operations

#: Counted on the network alone; see `hw_models.profile`.
COUNTED: Final = ("parameters", "flops", "macs", "bops", "ebops")
#: Predicted for the device.
PREDICTED: Final = ("latency_ns", "latency_cycles", "lut", "ff", "dsp", "bram_18k", "energy_nj")
#: Everything that can be profiled.
FIGURES: Final[tuple[str, ...]] = get_args(Figure)


@dataclass(frozen=True, kw_only=True)
class SpaceProfiler:
    """One figure of the designs of a space.

    Attributes:
        space: decodes genomes.
        scorer: predicts what is predicted.
        figure: one of `FIGURES`.
    """

    space: SearchSpace
    scorer: HardwareScorer
    figure: str

    def __post_init__(self) -> None:
        if self.figure not in FIGURES:
            raise DesignError(unknown_name("figure", self.figure, FIGURES))

    def __call__(self, genomes: Genomes) -> Floats:
        """Return float[n], one figure per genome."""
        population = self.space.decode(self.space.canonicalize(genomes))
        if self.figure == "memory_bytes":
            return memory_bytes(population)
        if self.figure in COUNTED:
            counts = count_operations(lower(population), population.n_candidates)
            return np.asarray(getattr(counts, self.figure))
        scores = self.scorer.score(population)
        if self.figure == "energy_nj":
            return scores.energy_nj
        return np.asarray(scores.metrics[self.figure].value)


def memory_bytes(population: Population) -> Floats:
    """Return float[n], what an implementation with memories needs: a NanoNAS limit.

    All kept weights at their width, and the inputs and outputs of the node that holds most at theirs.
    """
    n, columns, products = population.n_candidates, population.columns, products_of(population)
    weights = np.bincount(population.candidate[products.row], products.weight_bits, minlength=n)
    written = columns["n_out"] * columns["n_positions"] * columns["output_bits"]
    source, reader = population.edges
    held = written + np.bincount(reader, written[source], minlength=written.size)
    largest = np.zeros(n)
    np.maximum.at(largest, population.candidate, held)
    return np.asarray((weights + largest) / 8.0)


def precompute_chain(profiler: SpaceProfiler) -> SwitchedProfiler:
    """Tabulate a figure over the plain chains of a multilayer-perceptron space, once.

    For each depth (and, for what is predicted, each flow and clock) the groups of `chain_groups`
    are scored; afterwards a figure is a few look-ups per design.

    Args:
        profiler: what to tabulate.

    Raises:
        DesignError: the space is no multilayer perceptron, its skips join layers, or the figure is
            no sum over layers (rounding to whole blocks, the widest layer, shared stages).
    """
    space = profiler.space
    names = [gene.name for gene in space.genes]
    if "depth" not in names or "width_1" not in names:
        raise DesignError(
            f"space {space.name!r} is no chain of layers and has no tables of figures; leave tables out"
        )
    is_predicted = profiler.figure in PREDICTED
    switches = ("depth", "flow", "clock_mhz") if is_predicted else ("depth",)
    genes = tuple(names.index(name) for name in switches)
    depths = space.genes[genes[0]].domain
    tables = []
    for values in np.ndindex(*(int(space.upper[gene]) + 1 for gene in genes)):
        groups = chain_groups(space, int(depths[values[0]]), with_hardware=is_predicted)
        fixed = dict(zip(genes, values, strict=True))
        tables.append(precompute_profiler(profiler, space.upper, groups, fixed=fixed))
    return SwitchedProfiler(genes=genes, upper=space.upper[list(genes)], by_value=tuple(tables))


def chain_groups(
    space: SearchSpace, depth: int, *, with_hardware: bool
) -> tuple[tuple[int, ...], ...]:
    """Return the overlapping groups of genes over which figures of a chain of `depth` are a sum.

    Args:
        space: a space of multilayer perceptrons.
        depth: hidden layers.
        with_hardware: strategy, reuse factor and activation matter too.
    """
    index = {gene.name: i for i, gene in enumerate(space.genes)}
    hardware = ("strategy", "reuse_factor") if with_hardware else ()
    own = ("weight_bits", "pruned_fraction", *hardware)
    groups = []
    before = ["input_bits"]
    for k in range(1, depth + 1):
        groups.append([*before, f"width_{k}", *(f"{name}_{k}" for name in own)])
        after = [f"width_{k}", f"batch_norm_{k}", f"result_bits_{k}"]
        groups.append([*after, f"activation_{k}"] if with_hardware else after)
        before = [f"width_{k}", f"result_bits_{k}"]
    head = [f"{name}_head" for name in own]
    groups.append([*before, *head, *(("output_bits",) if with_hardware else ())])
    return tuple(tuple(index[name] for name in names) for names in groups)
