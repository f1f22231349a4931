"""The jet NAS benchmark that ships: trained accuracies of (architecture, precision) pairs.

One gzipped JSON object a line: `id`, `digest` (of architecture and precision), `space` it was drawn
from, `nodes` (`op`, `role` where it has one, and numeric attributes as in `codesign.encoding`),
`edges` [[from, to], ...] (the edges into a node in the order of its inputs), `target` (accuracy in
percent, mean over the seeds), `validation_accuracy_percent` and `test_accuracy_percent` per seed,
`split_accuracy_percent` per seed where known, `parameters`, `bit_operations`, `extras` (features of the
whole graph, as a search computes them: `codesign.encoding.population`).

The target is measured on jets that neither train nor test anything, so whoever fits it leaves the test
set untouched.  The same jets measure every network, so what sampling error there is, is shared and
mostly cancels in a ranking.  `split_accuracy_percent` is what the same networks reach on the validation
rows of a study with default options: few rows, so all accuracies there are off by nearly the same
amount (`split_offset`).
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import kendalltau

from codesign.encoding.batch import NEUTRAL
from codesign.encoding.population import encode_population
from codesign.errors import ConfigError, DataError, unknown_name
from codesign.files import replacing
from codesign.ir import Candidate, HardwareConfig, Network, Node, Population
from codesign.layers import LAYERS, products_of
from codesign.space import population_from_candidates
from codesign.training.store import Label

#: The benchmark that ships.
BENCHMARK_PATH = (
    Path(__file__).resolve().parents[1] / "tasks" / "data" / "jets_nas_bench_v2.jsonl.gz"
)
#: What the labels that ship are labels of: the bundled jets, and so many training rows.
BENCHMARK_TASK, BENCHMARK_ROWS = "codesign-jets-v1", 16_000
#: Random divisions or simulations that statistics of noise are averaged over.
_N_DRAWS = 20
#: Steps of the search for the scale of noise; its logarithm is known to 1/200 then.
_N_BISECTIONS = 9
#: Attributes of nodes that accuracy can depend on, by population column.
_ATTRIBUTES = ("n_in", "n_out", "output_bits", "output_signed")
_WEIGHT_ATTRIBUTES = ("weight_bits", "pruned_fraction")


@dataclass(frozen=True, kw_only=True)
class BenchmarkEntry:
    """One labelled pair.

    Attributes:
        digest: of architecture and precision.
        network: the architecture.
        space: name of the space it was drawn from, "" where unknown.
        validation_accuracy, test_accuracy: per seed, 0..1.
        split_accuracy: per seed, on the validation rows of a study; empty where unknown.
        graph: the JSON object it was read from.
    """

    digest: str
    network: Network
    space: str
    validation_accuracy: tuple[float, ...]
    test_accuracy: tuple[float, ...]
    split_accuracy: tuple[float, ...]
    graph: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class BenchmarkStatistics:
    """What a benchmark holds and how far its labels can be trusted.

    Everything about noise is NaN where no two pairs have two seeds.

    Attributes:
        n_pairs: labelled pairs.
        n_seeds_min, n_seeds_max: fewest and most seeds of a pair.
        accuracy_quantiles: target at 0, 0.25, 0.5, 0.75, 1 of the pairs.
        seed_std: standard deviation of one training, root of the mean variance over seeds.
        seed_std_median: the same of the median pair.
        target_std_error: standard deviation of the target due to the seeds, root mean square.
        two_seeds_tau: Kendall tau between two single trainings.
        half_means_tau: Kendall tau between the means of two disjoint halves of the seeds.
        ceiling_tau: Kendall tau that a perfect predictor reaches against the target (`noise_ceiling`).
        validation_test_tau: Kendall tau between the target and the mean test accuracy.
        parameters_tau, bit_operations_tau: how well these two rank the target by themselves.
    """

    n_pairs: int
    n_seeds_min: int
    n_seeds_max: int
    accuracy_quantiles: tuple[float, ...]
    seed_std: float
    seed_std_median: float
    target_std_error: float
    two_seeds_tau: float
    half_means_tau: float
    ceiling_tau: float
    validation_test_tau: float
    parameters_tau: float
    bit_operations_tau: float


def population_of(networks: Sequence[Network]) -> Population:
    """Return networks as a population, on hardware that no accuracy depends on."""
    candidates = []
    for network in networks:
        multiplying = [n.name for n in network.nodes if LAYERS.get(n.layer).has_multipliers]
        hardware = HardwareConfig(
            part="none",
            clock_period_ns=5.0,
            flow="hls",
            io_type="io_parallel",
            strategy={name: "latency" for name in multiplying},
            reuse_factor={name: 1 for name in multiplying},
        )
        candidates.append(Candidate(network=network, hardware=hardware))
    return population_from_candidates(candidates)


def graph_of(network: Network) -> dict[str, Any]:
    """Return nodes, edges, parameters, bit operations and graph features of a network as JSON values.

    Bit operations: sum of n_in * n_out * n_positions * kept fraction * weight bits * input bits over all products
    (Baskin et al., arXiv 1804.10969, without the accumulator term).
    """
    population = population_of([network])
    columns, encoded = population.columns, encode_population(population)
    position = {node.name: i for i, node in enumerate(network.nodes)}
    nodes = []
    for i, node in enumerate(network.nodes):
        layer = LAYERS.get(node.layer)
        names = _ATTRIBUTES + (_WEIGHT_ATTRIBUTES if layer.has_multipliers else ())
        declared = (p.column for p in layer.parameters if columns[p.column][i] != p.default)
        shape = (
            s for s in NEUTRAL if encoded.numeric[i, encoded.numeric_names.index(s)] != NEUTRAL[s]
        )
        value: dict[str, Any] = {"op": node.layer}
        if layer.role in ("zero", "identity"):
            value["role"] = layer.role
        value |= {name: _short(columns[name][i]) for name in dict.fromkeys((*names, *declared))}
        nodes.append(
            value | {s: _short(encoded.numeric[i, encoded.numeric_names.index(s)]) for s in shape}
        )
    products = products_of(population)
    return {
        "nodes": nodes,
        "edges": [[position[s], i] for i, n in enumerate(network.nodes) for s in n.inputs],
        "parameters": round(float(products.n_kept[products.is_constant].sum()), 2),
        "bit_operations": round(float(products.bit_operations.sum()), 2),
        "extras": {
            name: round(float(value), 4)
            for name, value in zip(encoded.extra_names, encoded.extras[0], strict=True)
        },
    }


def _short(value: float) -> int | float:
    return int(value) if float(value).is_integer() else float(value)


def network_of(graph: dict[str, Any]) -> Network:
    """Build the network that `graph_of` described.

    Raises:
        DataError: a node lacks an attribute of its layer.
    """
    inputs: list[list[str]] = [[] for _ in graph["nodes"]]
    for source, target in graph["edges"]:
        inputs[target].append(f"node_{source}")
    nodes = []
    for i, value in enumerate(graph["nodes"]):
        layer = LAYERS.get(value["op"])
        try:
            parameters = {
                p.name: value[p.column]
                for p in layer.parameters
                if not (p.is_silent and p.column not in value)
            }
        except KeyError as error:
            raise DataError(
                f"benchmark node {i} ({value['op']}) lacks {error}; the file is damaged"
            ) from error
        nodes.append(
            Node(name=f"node_{i}", layer=layer.name, inputs=tuple(inputs[i]), parameters=parameters)
        )
    return Network(nodes=tuple(nodes))


def write_benchmark(
    labels: Sequence[Label],
    path: Path,
    *,
    more: Mapping[str, Mapping[str, Any]] | None = None,
) -> int:
    """Write labels of one task and one set of options as a benchmark file, deterministically.

    Args:
        labels: of one or more seeds.
        path: ends in .jsonl.gz.
        more: further JSON values of pairs, by digest.

    Returns:
        How many pairs were written.

    Raises:
        DataError: labels of several tasks or options, which must not be mixed, or none.
    """
    if len({(x.task, x.options) for x in labels}) != 1:
        raise DataError(
            "a benchmark holds labels of exactly one task and one set of training options;"
            " select them in the store first"
        )
    by_key: dict[str, dict[int, Label]] = {}
    for label in labels:
        by_key.setdefault(label.key, {})[label.seed] = label
    lines: list[str] = []
    for key in sorted(by_key):
        chosen = [by_key[key][seed] for seed in sorted(by_key[key])]
        entry = {
            "id": len(lines),
            "digest": key,
            "target": round(100 * float(np.mean([x.validation_score for x in chosen])), 4),
            "validation_accuracy_percent": [round(100 * x.validation_score, 3) for x in chosen],
            "test_accuracy_percent": [round(100 * x.test_score, 3) for x in chosen],
            **(more or {}).get(key, {}),
            **graph_of(Network.from_json(chosen[0].network)),
        }
        lines.append(json.dumps(entry, separators=(",", ":")))
    with (
        replacing(path) as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as stream,
    ):
        stream.write(("\n".join(lines) + "\n").encode())
    return len(lines)


def load_benchmark(path: Path = BENCHMARK_PATH) -> list[BenchmarkEntry]:
    """Read a benchmark.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") as stream:
            graphs = [json.loads(line) for line in stream]
        return [
            BenchmarkEntry(
                digest=graph["digest"],
                network=network_of(graph),
                space=str(graph.get("space", "")),
                validation_accuracy=tuple(a / 100 for a in graph["validation_accuracy_percent"]),
                test_accuracy=tuple(a / 100 for a in graph["test_accuracy_percent"]),
                split_accuracy=tuple(a / 100 for a in graph.get("split_accuracy_percent", ())),
                graph=graph,
            )
            for graph in graphs
        ]
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; check the path, or reinstall codesign") from error
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no benchmark file, or damaged ({error})") from error


def benchmark_statistics(entries: Sequence[BenchmarkEntry]) -> BenchmarkStatistics:
    """Summarise a benchmark.

    Raises:
        DataError: fewer than two pairs.
    """
    if len(entries) < 2:
        raise DataError(
            f"{len(entries)} labelled pairs are too few for statistics; give at least 2"
        )
    target = np.array([np.mean(e.validation_accuracy) for e in entries])
    seeds = [len(e.validation_accuracy) for e in entries]

    def tau(other: Sequence[float]) -> float:
        return float(kendalltau(target, other).statistic)

    return BenchmarkStatistics(
        n_pairs=len(entries),
        n_seeds_min=min(seeds),
        n_seeds_max=max(seeds),
        accuracy_quantiles=tuple(np.quantile(target, (0, 0.25, 0.5, 0.75, 1)).tolist()),
        **_noise([e.validation_accuracy for e in entries if len(e.validation_accuracy) > 1]),
        validation_test_tau=tau([float(np.mean(e.test_accuracy)) for e in entries]),
        parameters_tau=tau([e.graph["parameters"] for e in entries]),
        bit_operations_tau=tau([e.graph["bit_operations"] for e in entries]),
    )


def _noise(repeated: Sequence[Sequence[float]]) -> dict[str, float]:
    """Compute the statistics of `BenchmarkStatistics` that need two seeds per pair."""
    names = ("seed_std", "seed_std_median", "target_std_error")
    taus = ("two_seeds_tau", "half_means_tau", "ceiling_tau")
    if len(repeated) < 2:
        return dict.fromkeys((*names, *taus), float("nan"))
    variance = np.array([np.var(values, ddof=1) for values in repeated])
    n_seeds = np.array([len(values) for values in repeated])
    generator = np.random.default_rng(0)
    half_means_tau = _split_tau(repeated, generator, largest=None)
    return {
        "seed_std": float(np.sqrt(variance.mean())),
        "seed_std_median": float(np.sqrt(np.median(variance))),
        "target_std_error": float(np.sqrt((variance / n_seeds).mean())),
        "two_seeds_tau": _split_tau(repeated, generator, largest=1),
        "half_means_tau": half_means_tau,
        "ceiling_tau": noise_ceiling(repeated, half_means_tau),
    }


def _split_tau(
    repeated: Sequence[Sequence[float]], generator: np.random.Generator, *, largest: int | None
) -> float:
    """Average the Kendall tau between means of two disjoint sets of seeds over random divisions.

    Args:
        repeated: per pair: two accuracies or more.
        generator: divides the seeds.
        largest: seeds per set at most; None takes half of them.
    """
    found = []
    for _ in range(_N_DRAWS):
        first, second = [], []
        for values in repeated:
            n = min(len(values) // 2, largest or len(values))
            drawn = generator.permutation(np.asarray(values))
            first.append(drawn[:n].mean())
            second.append(drawn[n : 2 * n].mean())
        found.append(float(kendalltau(first, second).statistic))
    return float(np.mean(found))


def noise_ceiling(repeated: Sequence[Sequence[float]], half_means_tau: float) -> float:
    """Estimate the Kendall tau between true expected accuracies and their means over the seeds.

    By simulation: what was measured stands for the truth, shrunk to the variance that the truth has
    (that of the means less that of their errors); measuring it again adds normal noise with each
    pair's own standard deviation.  Those are themselves estimates from few seeds, and a mixture of
    too small and too large ones disturbs a ranking less than the true ones: one factor on all of them
    is chosen so that two simulated halves of the seeds agree as well as the real ones do.

    Args:
        repeated: per pair: accuracies of two seeds or more.
        half_means_tau: of the same pairs.
    """
    means = np.array([np.mean(values) for values in repeated])
    n_seeds = np.array([len(values) for values in repeated])
    std = np.sqrt([np.var(values, ddof=1) for values in repeated])
    noise = np.random.default_rng(0).normal(size=(_N_DRAWS, 3, len(means)))
    if not std.any():
        return 1.0

    def simulate(factor: float) -> tuple[float, float]:
        """Return the tau between halves, and between truth and mean."""
        errors = factor * std / np.sqrt(n_seeds)
        kept = max(0.0, 1.0 - float((errors**2).mean()) / float(means.var()))
        truth = means.mean() + np.sqrt(kept) * (means - means.mean())
        halves, ceilings = [], []
        for draw in noise:
            first, second = truth + factor * std / np.sqrt(n_seeds // 2) * draw[:2]
            halves.append(kendalltau(first, second).statistic)
            ceilings.append(kendalltau(truth, truth + errors * draw[2]).statistic)
        return float(np.mean(halves)), float(np.mean(ceilings))

    low, high = 0.25, 4.0
    for _ in range(_N_BISECTIONS):
        middle = float(np.sqrt(low * high))
        if simulate(middle)[0] > half_means_tau:
            low = middle
        else:
            high = middle
    return simulate(float(np.sqrt(low * high)))[1]


def entries_of_space(entries: Sequence[BenchmarkEntry], space: str) -> list[BenchmarkEntry]:
    """Return the pairs that were drawn from one space.

    Raises:
        DataError: there are none; the message lists the spaces there are.
    """
    chosen = [e for e in entries if e.space == space]
    if not chosen:
        raise DataError(unknown_name("space", space, sorted({e.space for e in entries})))
    return chosen


def shipped_labels(benchmark: str, *, space: str, n: int) -> list[BenchmarkEntry]:
    """Return the first n labels that ship, those of one space first.

    Args:
        benchmark: id of the data they are wanted for.
        space: name of the space.
        n: how many at most; within a space, their order is random.

    Raises:
        ConfigError: they are labels of other data.
    """
    if benchmark != BENCHMARK_TASK:
        raise ConfigError(
            f"labels.n_shipped: the labels that ship are for {BENCHMARK_TASK}, the task is {benchmark}; set it to 0"
            " and n_initial to 96 or so"
        )
    return sorted(load_benchmark(), key=lambda entry: entry.space != space)[:n]


def shipped_offset(benchmark: str, *, n_train: int) -> float:
    """Say how much a study's own labels must be lowered to join those that ship.

    Own labels are accuracies on the validation rows of the bundled jets, all off by nearly the same
    sampling error; the labels that ship were measured on 60,000 other jets, and say by how much
    (`split_offset`).  0 where the validation rows are others.

    Args:
        benchmark: id of the study's data.
        n_train: its training rows.
    """
    if benchmark != BENCHMARK_TASK or n_train != BENCHMARK_ROWS:
        return 0.0
    return split_offset(load_benchmark())


def split_offset(entries: Sequence[BenchmarkEntry]) -> float:
    """Say how much more accurate networks look on a study's validation rows than they are.

    Those are few rows, so their sampling error is nearly the same for every network (and known here,
    because the same trained networks were measured on both).

    Raises:
        DataError: no entry was measured on both.
    """
    both = [e for e in entries if e.split_accuracy]
    if not both:
        raise DataError("the benchmark does not say what its networks reach on validation rows")
    return float(
        np.mean([np.mean(e.split_accuracy) - np.mean(e.validation_accuracy) for e in both])
    )
