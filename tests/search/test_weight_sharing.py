"""What weight sharing proposes: feasible designs of the same space, with all their hardware variants."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from codesign.errors import DesignError  # noqa: E402
from codesign.hardware.device import load_budget, load_device  # noqa: E402
from codesign.hardware.scorer import HardwareScorer, violations  # noqa: E402
from codesign.search._elastic import ElasticMLP, prune_lanes  # noqa: E402
from codesign.search.differentiable import METHODS  # noqa: E402
from codesign.search.loop import run_search  # noqa: E402
from codesign.search.metrics import normalized_hypervolume  # noqa: E402
from codesign.search.weight_sharing import (  # noqa: E402
    SharedProblem,
    architecture_keys,
    hardware_variants,
    pick,
    propose,
    share,
)
from codesign.space.space import load_space  # noqa: E402
from codesign.training.options import TaskArrays  # noqa: E402

SPACE = load_space("mlp_tiny", n_inputs=16, n_outputs=5)
SCORER = HardwareScorer(device=load_device("xcvu13p"))
BUDGET = load_budget("l1_100ns")


@pytest.fixture(scope="module")
def shared():
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(5, 16))
    labels = generator.integers(0, 5, 4000)
    inputs = (centres[labels] + generator.normal(size=(4000, 16))).astype(np.float32)
    task = TaskArrays(
        x_train=inputs[:3200], y_train=labels[:3200], x_test=inputs[3200:], y_test=labels[3200:]
    )
    return share(SPACE, SCORER, BUDGET, task)


def costs(genomes):
    scores = SCORER.score(SPACE.decode(genomes))
    return (
        np.stack([scores.metrics[name].value for name in ("latency_ns", "lut")], axis=1),
        (violations(scores, BUDGET, SCORER.device) <= 0).all(axis=1),
    )


def test_hardware_variants_keep_the_architecture_and_are_the_front_of_all_uniform_choices():
    genomes = np.unique(SPACE.sample(30, np.random.default_rng(0)), axis=0)
    variants = hardware_variants(SPACE, SCORER, BUDGET, genomes)
    keys = architecture_keys(SPACE, genomes)
    assert {tuple(row) for row in architecture_keys(SPACE, variants).tolist()} <= {
        tuple(row) for row in keys.tolist()
    }
    values, fits = costs(variants)
    assert fits.all()
    # a random uniform choice of the same architecture never beats all of the variants
    generator = np.random.default_rng(1)
    names = [gene.name for gene in SPACE.genes]
    for _ in range(40):
        i = int(generator.integers(len(genomes)))
        rival = genomes[i].copy()
        for stem in ("flow", "clock_mhz", "strategy_", "reuse_factor_"):
            columns = [c for c, name in enumerate(names) if name.startswith(stem)]
            rival[columns] = generator.integers(SPACE.upper[columns[0]] + 1)
        rival = SPACE.canonicalize(rival[None, :])
        rival_costs, rival_fits = costs(rival)
        mine = values[
            (architecture_keys(SPACE, variants) == architecture_keys(SPACE, rival)).all(1)
        ]
        if rival_fits[0]:
            assert (mine <= rival_costs).all(axis=1).any()


def test_no_architecture_no_variants():
    assert (
        len(hardware_variants(SPACE, SCORER, BUDGET, SPACE.sample(3, np.random.default_rng(0))[:0]))
        == 0
    )


def test_picked_architectures_are_distinct_and_cover_more_than_the_first_ones(shared):
    problem = SharedProblem(shared=shared, model=ElasticMLP(shared.layout, seed=0))
    found = run_search(problem, "random", n_evaluations=300, seed=0)
    archive = replace(found, genomes=problem.full(found.genomes))
    chosen = pick(SPACE, archive, 5, margin=1.0)
    assert len(np.unique(architecture_keys(SPACE, chosen), axis=0)) == len(chosen) == 5
    box = {"ideal": archive.objectives.min(axis=0), "nadir": archive.objectives.max(axis=0)}
    rows = [int(np.flatnonzero((archive.genomes == g).all(axis=1))[0]) for g in chosen]
    covered = normalized_hypervolume(archive.objectives[rows], **box)
    generator = np.random.default_rng(0)
    others = [
        normalized_hypervolume(archive.objectives[generator.permutation(len(archive))[:5]], **box)
        for _ in range(20)
    ]
    assert covered >= max(others)
    near = pick(SPACE, archive, 50, margin=0.0)
    assert len(near) == 1


def test_pruned_lanes_lose_their_smallest_weights_only():
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(3, 8, 10, generator=generator).requires_grad_()
    kept = torch.ones(3, 8, 10)
    kept[2, 4:] = 0
    pruned = prune_lanes(weights, torch.tensor([0.0, 0.5, 0.5]), kept)
    assert torch.equal(pruned[0], weights[0])
    assert int((pruned[1] == 0).sum()) == 40
    assert pruned[1].abs()[pruned[1] != 0].min() > weights[1].abs()[pruned[1] == 0].max()
    # absent channels are no part of the count
    assert int((pruned[2, :4] == 0).sum()) == 20
    pruned.sum().backward()
    assert torch.equal(weights.grad[1] == 0, pruned[1] == 0)


def test_pruning_and_input_precision_reach_the_shared_network(shared):
    model = ElasticMLP(shared.layout, seed=0)
    genome = SPACE.canonicalize(shared.layout.base[None, :])
    inputs = torch.randn(1, 64, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain = model.run_lanes(inputs, genome)[0]
        for name in ("pruned_fraction_1", "pruned_fraction_head", "input_bits"):
            changed = genome.copy()
            column = shared.layout.index[name]
            changed[0, column] = 0 if name == "input_bits" else SPACE.upper[column]
            assert not torch.equal(plain, model.run_lanes(inputs, changed)[0])


def test_a_space_without_plain_chains_is_refused(shared):
    cell = load_space("cell_l1", n_inputs=16, n_outputs=5)
    with pytest.raises(DesignError, match="needs an MLP space"):
        share(cell, SCORER, BUDGET, shared.task)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["supernet", *METHODS])
def test_proposals_are_canonical_feasible_and_deterministic(method, shared):
    arguments = {"epochs": 2, "prices": (0.05,), "n_designs": 6, "seed": 1}
    first = propose(shared, method, **arguments)
    assert np.array_equal(first, propose(shared, method, **arguments))
    assert len(first) > 0
    assert np.array_equal(SPACE.canonicalize(first), first)
    assert len(np.unique(architecture_keys(SPACE, first), axis=0)) <= 6
    _, fits = costs(first)
    assert fits.all()
    assert len(np.unique(first, axis=0)) == len(first)


STUDY = """
schema: 1
name: shared
space: mlp_tiny
seed: 3
labels: {n_initial: 16, epochs: 1}
search:
  n_evaluations: 600
  n_rounds: 1
  weight_sharing: {methods: [supernet, darts1], epochs: 1, prices: [0.1], n_designs: 8}
"""


@pytest.mark.slow
def test_a_study_starts_from_what_weight_sharing_proposes(tmp_path):
    import sqlite3

    from codesign.checks import load_config
    from codesign.pipeline import run_study
    from codesign.results import Sharing
    from codesign.search.store import EvaluationStore
    from codesign.study import Study

    (tmp_path / "s.yaml").write_text(STUDY)
    config = load_config(tmp_path / "s.yaml")
    study = Study.at(tmp_path / "s", config).begin()
    run_study(study, until="search")
    sharing = study.results().require(Sharing)
    assert list(sharing.proposals) == ["supernet", "darts1"]
    rows = {tuple(g) for g in sharing.genomes}
    with sqlite3.connect(study.search_store) as connection:
        ((run,),) = connection.execute("SELECT name FROM search_runs").fetchall()
    with EvaluationStore(study.search_store, run=run) as store:
        stored = store.read()
    assert stored is not None
    first = {tuple(row) for row in stored[0][: len(rows)].tolist()}
    assert first == rows
