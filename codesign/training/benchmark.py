"""The jet NAS benchmark that ships: trained accuracies of (architecture, precision) pairs.

One gzipped JSON object a line: `id`, `digest` (of architecture and precision), `nodes` (`op`, `role`
where it has one, and numeric attributes as in `codesign.encoding`), `edges` [[from, to], ...] (the
edges into a node in the order of its inputs), `target` (validation accuracy in percent, seed 1),
`validation_accuracy_percent` and `test_accuracy_percent` per seed, `parameters`, `bit_operations`.

The target is the accuracy on held-out *training* jets, so whoever fits it leaves the test set
untouched.  The same jets validate every network, so sampling errors are shared and mostly cancel in
a ranking; what remains from seed to seed is the noise ceiling.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import kendalltau

from codesign.errors import DataError
from codesign.ir import Candidate, HardwareConfig, Network, Node
from codesign.layers import LAYERS
from codesign.space import population_from_candidates
from codesign.training.options import architecture_digest
from codesign.training.store import Label

#: The benchmark that ships.
BENCHMARK_PATH = (
    Path(__file__).resolve().parents[1] / "tasks" / "data" / "jets_nas_bench_v1.jsonl.gz"
)
#: Attributes of nodes that accuracy can depend on, by population column.
_ATTRIBUTES = ("n_in", "n_out", "output_bits", "output_signed")
_WEIGHT_ATTRIBUTES = ("weight_bits", "pruned_fraction")


@dataclass(frozen=True, kw_only=True)
class BenchmarkEntry:
    """One labelled pair.

    Attributes:
        digest: of architecture and precision.
        network: the architecture.
        validation_accuracy, test_accuracy: per seed, 0..1.
        graph: the JSON object it was read from.
    """

    digest: str
    network: Network
    validation_accuracy: tuple[float, ...]
    test_accuracy: tuple[float, ...]
    graph: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class BenchmarkStatistics:
    """What a benchmark holds and how far its labels can be trusted.

    Attributes:
        n_pairs, n_repeated: labelled pairs; those with two seeds or more.
        accuracy_quantiles: validation accuracy at 0, 0.25, 0.5, 0.75, 1 of the pairs.
        noise_ceiling_tau: Kendall tau between the first two seeds of the repeated pairs.
        seed_std: standard deviation of one label, from the differences between two seeds.
        validation_test_tau: Kendall tau between validation and test accuracy.
        parameters_tau, bit_operations_tau: how well these two rank the target by themselves.
    """

    n_pairs: int
    n_repeated: int
    accuracy_quantiles: tuple[float, ...]
    noise_ceiling_tau: float
    seed_std: float
    validation_test_tau: float
    parameters_tau: float
    bit_operations_tau: float


def graph_of(network: Network) -> dict[str, Any]:
    """Return nodes, edges, parameters and bit operations of a network as JSON values.

    Bit operations: sum of n_in * n_out * kept fraction * weight bits * input bits over nodes with
    multipliers (Baskin et al., arXiv 1804.10969, without the accumulator term).
    """
    multiplying = [n.name for n in network.nodes if LAYERS.get(n.layer).has_multipliers]
    hardware = HardwareConfig(
        part="none",
        clock_period_ns=5.0,
        io_type="io_parallel",
        strategy={name: "latency" for name in multiplying},
        reuse_factor={name: 1 for name in multiplying},
    )
    columns = population_from_candidates([Candidate(network=network, hardware=hardware)]).columns
    position = {node.name: i for i, node in enumerate(network.nodes)}
    nodes = []
    for i, node in enumerate(network.nodes):
        layer = LAYERS.get(node.layer)
        names = _ATTRIBUTES + (_WEIGHT_ATTRIBUTES if layer.has_multipliers else ())
        value: dict[str, Any] = {"op": node.layer}
        if layer.role in ("zero", "identity"):
            value["role"] = layer.role
        nodes.append(value | {name: _short(columns[name][i]) for name in names})
    kept = columns["n_in"] * columns["n_out"] * (1.0 - columns["pruned_fraction"])
    kept = np.where(columns["weight_bits"] > 0, kept, 0.0)
    return {
        "nodes": nodes,
        "edges": [[position[s], i] for i, n in enumerate(network.nodes) for s in n.inputs],
        "parameters": round(float(kept.sum()), 2),
        "bit_operations": round(
            float((kept * columns["weight_bits"] * columns["input_bits"]).sum()), 2
        ),
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
            parameters = {p.name: value[p.column] for p in layer.parameters}
        except KeyError as error:
            raise DataError(
                f"benchmark node {i} ({value['op']}) lacks {error}; the file is damaged"
            ) from error
        nodes.append(
            Node(name=f"node_{i}", layer=layer.name, inputs=tuple(inputs[i]), parameters=parameters)
        )
    return Network(nodes=tuple(nodes))


def write_benchmark(labels: Sequence[Label], path: Path) -> int:
    """Write labels of one task and one set of options as a benchmark file, deterministically.

    Args:
        labels: of one or more seeds; pairs without the first seed are left out.
        path: ends in .jsonl.gz.

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
    first = min(x.seed for x in labels)
    by_key: dict[str, dict[int, Label]] = {}
    for label in labels:
        by_key.setdefault(label.key, {})[label.seed] = label
    lines: list[str] = []
    for key in sorted(by_key):
        seeds = by_key[key]
        if first not in seeds:
            continue
        chosen = [seeds[s] for s in sorted(seeds)]
        entry = {
            "id": len(lines),
            "digest": key,
            "target": round(100 * seeds[first].validation_accuracy, 3),
            "validation_accuracy_percent": [round(100 * x.validation_accuracy, 3) for x in chosen],
            "test_accuracy_percent": [round(100 * x.test_accuracy, 3) for x in chosen],
            **graph_of(Network.from_json(chosen[0].network)),
        }
        lines.append(json.dumps(entry, separators=(",", ":")))
    temporary = path.with_name(path.name + ".tmp")
    with (
        temporary.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as stream,
    ):
        stream.write(("\n".join(lines) + "\n").encode())
    temporary.replace(path)
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
                validation_accuracy=tuple(a / 100 for a in graph["validation_accuracy_percent"]),
                test_accuracy=tuple(a / 100 for a in graph["test_accuracy_percent"]),
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
    target = np.array([e.validation_accuracy[0] for e in entries])
    repeated = np.array(
        [e.validation_accuracy[:2] for e in entries if len(e.validation_accuracy) > 1]
    )
    repeated = repeated.reshape(-1, 2)

    def tau(other: Sequence[float]) -> float:
        return float(kendalltau(target, other).statistic)

    has_noise = len(repeated) > 1
    return BenchmarkStatistics(
        n_pairs=len(entries),
        n_repeated=len(repeated),
        accuracy_quantiles=tuple(np.quantile(target, (0, 0.25, 0.5, 0.75, 1)).tolist()),
        noise_ceiling_tau=float(kendalltau(*repeated.T).statistic) if has_noise else float("nan"),
        seed_std=float(np.std(repeated[:, 0] - repeated[:, 1]) / np.sqrt(2))
        if has_noise
        else float("nan"),
        validation_test_tau=tau([e.test_accuracy[0] for e in entries]),
        parameters_tau=tau([e.graph["parameters"] for e in entries]),
        bit_operations_tau=tau([e.graph["bit_operations"] for e in entries]),
    )


def describe_benchmark(path: Path, *, how: dict[str, Any]) -> dict[str, Any]:
    """Write what a benchmark holds, and how it was made, beside it (`.json` instead of `.jsonl.gz`).

    Args:
        path: the benchmark file.
        how: provenance: task, space, training options, code version.

    Returns:
        What was written.
    """
    found = asdict(benchmark_statistics(load_benchmark(path)))
    description = {
        "schema": 1,
        "how": how,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        # null: a statistic that needs two seeds, where no pair has them
        "statistics": {k: None if v != v else v for k, v in found.items()},
    }
    target = description_path(path)
    temporary = target.with_name(target.name + ".tmp")
    text = json.dumps(description, indent=1, allow_nan=False)
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(target)
    return description


def description_path(path: Path) -> Path:
    """Return where a benchmark's description lies."""
    return path.with_name(path.name.removesuffix(".jsonl.gz") + ".json")


def digest_matches(entry: BenchmarkEntry) -> bool:
    """Say whether an entry's digest is that of its network."""
    return architecture_digest(entry.network) == entry.digest
