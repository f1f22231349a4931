"""The benchmark that ships, and its file format."""

import gzip
import hashlib
import json
from dataclasses import asdict

import numpy as np
import pytest

from codesign.errors import DataError
from codesign.space import candidates_from_population, load_space
from codesign.training.benchmark import (
    BENCHMARK_PATH,
    benchmark_statistics,
    description_path,
    digest_matches,
    load_benchmark,
    network_of,
    write_benchmark,
)
from codesign.training.options import architecture_digest
from codesign.training.store import Label


def made_up_labels(n: int) -> list[Label]:
    space = load_space("mlp_l1", n_inputs=16, n_outputs=5)
    generator = np.random.default_rng(1)
    population = space.decode(space.sample(n, generator))
    candidates = candidates_from_population(
        population, part="xcvu13p-flga2577-2-e", io_type="io_parallel"
    )
    return [
        Label(
            key=architecture_digest(c.network),
            options="o",
            task="t",
            seed=seed,
            validation_accuracy=float(generator.uniform(0.2, 0.7)),
            test_accuracy=float(generator.uniform(0.2, 0.7)),
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
    assert all(digest_matches(e) for e in entries)
    known = {(x.key, x.seed): x for x in labels}
    for entry in entries:
        assert entry.validation_accuracy[0] == pytest.approx(
            known[entry.digest, 1].validation_accuracy,
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


def test_noise_ceiling_is_one_where_seeds_agree(tmp_path):
    labels = made_up_labels(30)
    first = {x.key: x for x in labels if x.seed == 1}
    same = [
        Label(**{**vars(x), "validation_accuracy": first[x.key].validation_accuracy})
        for x in labels
    ]
    write_benchmark(same, tmp_path / "b.jsonl.gz")
    found = benchmark_statistics(load_benchmark(tmp_path / "b.jsonl.gz"))
    assert found.noise_ceiling_tau == pytest.approx(1.0)
    assert found.seed_std == pytest.approx(0.0)
    assert found.n_repeated == 10


def test_the_benchmark_that_ships_is_consistent_with_its_description():
    entries = load_benchmark(BENCHMARK_PATH)
    found = asdict(benchmark_statistics(entries))
    described = json.loads(description_path(BENCHMARK_PATH).read_text())
    for name, value in described["statistics"].items():
        expected = float("nan") if value is None else value
        assert found[name] == pytest.approx(expected, nan_ok=True), name
    assert described["sha256"] == hashlib.sha256(BENCHMARK_PATH.read_bytes()).hexdigest()
    assert len({e.digest for e in entries}) == len(entries)
    assert all(digest_matches(e) for e in entries[::50])
    assert all(network_of(e.graph) == e.network for e in entries[:5])
