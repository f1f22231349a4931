"""The benchmark that ships, and its file format."""

import gzip
import hashlib
import json
from dataclasses import asdict

import numpy as np
import pytest
from scipy.stats import kendalltau

from codesign.errors import DataError
from codesign.ir import Network, Node
from codesign.space import candidates_from_population, load_space
from codesign.training.benchmark import (
    BENCHMARK_PATH,
    BenchmarkEntry,
    benchmark_statistics,
    entries_of_space,
    load_benchmark,
    network_of,
    split_offset,
    write_benchmark,
)
from codesign.training.options import architecture_digest
from codesign.training.store import Label


def made_up_labels(n: int) -> list[Label]:
    space = load_space("mlp_l1", n_inputs=16, n_outputs=5)
    generator = np.random.default_rng(1)
    population = space.decode(space.sample(n, generator))
    candidates = candidates_from_population(population, part="xcvu13p-flga2577-2-e")
    return [
        Label(
            key=architecture_digest(c.network),
            options="o",
            task="t",
            seed=seed,
            validation_score=float(generator.uniform(0.2, 0.7)),
            test_score=float(generator.uniform(0.2, 0.7)),
            epochs=1,
            network=c.network.to_json(),
        )
        for i, c in enumerate(candidates)
        for seed in ((1, 2) if i % 3 == 0 else (1,))
    ]


def test_a_benchmark_survives_its_file(tmp_path):
    labels = made_up_labels(30)
    assert write_benchmark(labels, tmp_path / "b.jsonl.gz") == 30
    entries = load_benchmark(tmp_path / "b.jsonl.gz")
    assert all(architecture_digest(e.network) == e.digest for e in entries)
    known = {(x.key, x.seed): x for x in labels}
    for entry in entries:
        assert entry.validation_accuracy[0] == pytest.approx(
            known[entry.digest, 1].validation_score,
            abs=1e-5,  # written with 3 decimals of a percent
        )
        assert (entry.digest, 2) in known or len(entry.test_accuracy) == 1


def test_the_same_labels_give_the_same_bytes(tmp_path):
    labels = made_up_labels(10)
    write_benchmark(labels, tmp_path / "a.jsonl.gz")
    write_benchmark(labels[::-1], tmp_path / "b.jsonl.gz")
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()


def test_labels_of_two_tasks_are_not_mixed(tmp_path):
    labels = made_up_labels(4)
    other = Label(**{**vars(labels[0]), "task": "another"})
    with pytest.raises(DataError, match="exactly one task"):
        write_benchmark([*labels, other], tmp_path / "b.jsonl.gz")


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "b.jsonl.gz"
    path.write_bytes(b"no gzip")
    with pytest.raises(DataError, match="b.jsonl.gz"):
        load_benchmark(path)
    path.write_bytes(gzip.compress(json.dumps({"digest": "x"}).encode()))
    with pytest.raises(DataError, match="damaged"):
        load_benchmark(path)


NETWORK = Network(
    nodes=(Node(name="x", layer="input", inputs=(), parameters={"width": 2, "result_bits": 4}),)
)


def entries_of(accuracies: np.ndarray, split: np.ndarray | None = None) -> list[BenchmarkEntry]:
    """Entries with given accuracies, float[n_pairs, n_seeds]; parameters and test rank the truth backwards."""
    return [
        BenchmarkEntry(
            digest=str(i),
            network=NETWORK,
            space="",
            validation_accuracy=tuple(row),
            test_accuracy=tuple(-row),
            split_accuracy=() if split is None else tuple(split[i]),
            graph={"parameters": float(i), "bit_operations": float(-i)},
        )
        for i, row in enumerate(accuracies)
    ]


def test_noise_ceiling_is_one_where_seeds_agree(tmp_path):
    labels = made_up_labels(30)
    first = {x.key: x for x in labels if x.seed == 1}
    same = [Label(**{**vars(x), "validation_score": first[x.key].validation_score}) for x in labels]
    write_benchmark(same, tmp_path / "b.jsonl.gz")
    found = benchmark_statistics(load_benchmark(tmp_path / "b.jsonl.gz"))
    assert (found.n_seeds_min, found.n_seeds_max) == (1, 2)
    for tau in (found.two_seeds_tau, found.half_means_tau, found.ceiling_tau):
        assert tau == pytest.approx(1.0)
    assert found.seed_std == pytest.approx(0.0)


def test_noise_of_a_single_seed_is_unknown():
    found = benchmark_statistics(entries_of(np.arange(5.0)[:, None]))
    assert np.isnan([found.seed_std, found.two_seeds_tau, found.ceiling_tau]).all()
    assert found.parameters_tau == pytest.approx(1.0)
    assert found.bit_operations_tau == pytest.approx(-1.0)
    assert found.validation_test_tau == pytest.approx(-1.0)


@pytest.mark.parametrize("n_seeds", [2, 4, 8])
@pytest.mark.parametrize("noise", [0.005, 0.02])
def test_estimated_ceiling_is_what_the_truth_reaches(n_seeds, noise):
    """Labels made from a known truth: the estimate sees the labels only.  Noise differs between pairs."""
    generator = np.random.default_rng(3)
    truth = 0.7 + 0.03 * generator.normal(size=1500)
    stds = noise * generator.uniform(0.2, 1.8, (1500, 1))
    labels = truth[:, None] + stds * generator.normal(size=(1500, n_seeds))
    found = benchmark_statistics(entries_of(labels))
    reached = kendalltau(truth, labels.mean(axis=1)).statistic
    # 0.01: sampling error of a tau over 1,500 pairs; two seeds say little of each pair's own noise
    assert found.ceiling_tau == pytest.approx(reached, abs=0.035 if n_seeds == 2 else 0.015)
    assert found.two_seeds_tau < found.half_means_tau + 1e-3 < found.ceiling_tau
    assert found.seed_std == pytest.approx(np.sqrt((stds**2).mean()), rel=0.1)
    assert found.target_std_error == pytest.approx(found.seed_std / np.sqrt(n_seeds))


def test_offset_of_a_split_is_the_mean_difference():
    measured = np.array([[0.5, 0.6], [0.7, 0.8]])
    assert split_offset(entries_of(measured, measured + 0.01)) == pytest.approx(0.01)
    with pytest.raises(DataError, match="validation rows"):
        split_offset(entries_of(measured))


def test_the_benchmark_that_ships_is_consistent_with_its_description():
    entries = load_benchmark(BENCHMARK_PATH)
    found = asdict(benchmark_statistics(entries))
    described = json.loads(BENCHMARK_PATH.with_name("jets_nas_bench_v2.json").read_text())
    for name, value in described["statistics"].items():
        assert found[name] == pytest.approx(value), name
    for space, values in described["statistics_by_space"].items():
        part = asdict(benchmark_statistics([e for e in entries if e.space == space]))
        assert part["ceiling_tau"] == pytest.approx(values["ceiling_tau"])
    assert described["sha256"] == hashlib.sha256(BENCHMARK_PATH.read_bytes()).hexdigest()
    assert len({e.digest for e in entries}) == len(entries)
    assert all(architecture_digest(e.network) == e.digest for e in entries[::50])
    assert all(network_of(e.graph) == e.network for e in entries[:5])


def test_the_benchmark_that_ships_is_worth_ranking_on():
    entries = load_benchmark(BENCHMARK_PATH)
    found = benchmark_statistics(entries)
    assert found.n_pairs >= 1200
    assert found.n_seeds_min >= 4
    assert found.ceiling_tau > 0.9 > found.parameters_tau
    for entry in entries:
        n_seeds = len(entry.validation_accuracy)
        assert len(entry.test_accuracy) == len(entry.split_accuracy) == n_seeds
        assert entry.graph["target"] == pytest.approx(
            100 * np.mean(entry.validation_accuracy), abs=1e-3
        )
        # sixty thousand rows: accuracies are multiples of 1/60,000, written with 3 decimals of a percent
        rows = 60_000 * np.array(entry.validation_accuracy)
        assert np.allclose(rows, np.round(rows), atol=0.31)


def test_validation_rows_of_a_study_are_off_by_nearly_the_same_for_all():
    entries = load_benchmark(BENCHMARK_PATH)
    offsets = np.array(
        [np.mean(e.split_accuracy) - np.mean(e.validation_accuracy) for e in entries]
    )
    assert split_offset(entries) == pytest.approx(offsets.mean())
    # 2,000 rows at accuracy 0.7 have a sampling error of 0.0102; what is left between pairs is smaller
    assert abs(offsets.mean()) < 3 * 0.0102
    assert offsets.std() < 0.0102


def test_pairs_of_one_space_are_found_by_its_name():
    entries = load_benchmark(BENCHMARK_PATH)
    assert len(entries_of_space(entries, "mlp_l1")) == 1024
    with pytest.raises(DataError, match="did you mean 'mlp_l1'"):
        entries_of_space(entries, "mlp_l2")
