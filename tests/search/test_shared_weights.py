"""Differentiable search and the supernet: gates, costs, gradients, determinism."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from codesign.errors import DesignError  # noqa: E402
from codesign.hardware.device import load_device  # noqa: E402
from codesign.hardware.scorer import HardwareScorer  # noqa: E402
from codesign.search._elastic import (  # noqa: E402
    ElasticMLP,
    layout_of,
    plain_base,
    quantize,
    quantize_lanes,
)
from codesign.search.differentiable import (  # noqa: E402
    METHODS,
    DifferentiableOptions,
    search_differentiable,
)
from codesign.search.expected_cost import tabulate_cost  # noqa: E402
from codesign.search.supernet import SupernetOptions, train_supernet  # noqa: E402
from codesign.space.space import load_space  # noqa: E402
from codesign.training.options import TaskArrays  # noqa: E402

SPACE = load_space("mlp_tiny", n_inputs=16, n_outputs=5)
LAYOUT = layout_of(SPACE, plain_base(SPACE))
LIMITS = np.array([3000.0, 60.0])


def random_genomes(n, seed=0):
    generator = np.random.default_rng(seed)
    genomes = np.repeat(LAYOUT.base[None, :], n, axis=0)
    for name in LAYOUT.searched:
        genomes[:, LAYOUT.index[name]] = generator.integers(len(LAYOUT.values[name]), size=n)
    return genomes


@pytest.fixture(scope="module")
def task():
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(5, 16))
    labels = generator.integers(0, 5, 2000)
    inputs = (centres[labels] + generator.normal(size=(2000, 16))).astype(np.float32)
    return TaskArrays(
        x_train=inputs[:1600], y_train=labels[:1600], x_test=inputs[1600:], y_test=labels[1600:]
    )


@pytest.fixture(scope="module")
def hardware():
    scorer = HardwareScorer(device=load_device("xcvu13p"))

    def score(genomes):
        metrics = scorer.score(SPACE.decode(SPACE.canonicalize(genomes))).metrics
        return np.stack([metrics["lut"].value, metrics["latency_ns"].value], axis=1)

    return score, tabulate_cost(LAYOUT, score)


def test_expected_cost_of_a_certain_design_is_nearly_the_models(hardware):
    score, cost = hardware
    genomes = random_genomes(50, seed=3)
    with torch.no_grad():
        form = np.stack([cost(LAYOUT.one_hot(genome)).numpy() for genome in genomes])
    truth = score(genomes)
    # the form is exact for sums over layers; rounding to whole LUTs and shared stages are not sums
    assert np.median(np.abs(form - truth) / truth, axis=0)[0] < 0.05
    assert np.corrcoef(form[:, 0], truth[:, 0])[0, 1] > 0.99


def test_expected_cost_is_the_mean_over_independent_choices(hardware):
    _, cost = hardware
    generator = np.random.default_rng(4)
    probabilities = {
        LAYOUT.index[name]: generator.dirichlet(np.ones(len(LAYOUT.values[name])))
        for name in LAYOUT.searched
    }
    genomes = random_genomes(800)
    for column, p in probabilities.items():
        genomes[:, column] = generator.choice(len(p), size=len(genomes), p=p)
    with torch.no_grad():
        sampled = np.stack([cost(LAYOUT.one_hot(genome)).numpy() for genome in genomes])
        expected = cost({c: torch.tensor(p, dtype=torch.float32) for c, p in probabilities.items()})
    error = sampled.std(axis=0) / np.sqrt(len(sampled))
    assert (np.abs(sampled.mean(axis=0) - expected.numpy()) < 5 * error).all()


def test_lanes_compute_what_single_networks_compute():
    model = ElasticMLP(LAYOUT, seed=0)
    genomes = random_genomes(12, seed=1)
    inputs = torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        lanes, _ = model.run_lanes(inputs.expand(12, -1, -1), genomes)
        alone = torch.stack([model(inputs, LAYOUT.one_hot(genome))[0] for genome in genomes])
    # sums in another order; a value on a rounding edge may fall to the other side
    assert torch.isclose(lanes, alone, atol=1e-4).float().mean() > 0.99


def test_channels_beyond_the_width_and_layers_beyond_the_depth_do_not_matter():
    model = ElasticMLP(LAYOUT, seed=0)
    genome = random_genomes(1, seed=2)
    genome[0, LAYOUT.index["depth"]] = 0
    genome[0, LAYOUT.index["width_1"]] = 0
    inputs = torch.randn(1, 64, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before, _ = model.run_lanes(inputs, genome)
        model.heads[0][:, int(LAYOUT.values["width_1"][0]) :] *= 0.5
        model.blocks[1][:] = 7.0
        after, _ = model.run_lanes(inputs, genome)
    assert torch.equal(before, after)


def test_quantisation_is_on_the_grid_and_alike_for_lanes():
    values = torch.randn(6, 40, generator=torch.Generator().manual_seed(1))
    bits = torch.tensor([3.0, 4.0, 5.0, 6.0, 7.0, 8.0])
    lanes = quantize_lanes(values, bits)
    for row, b, lane in zip(values, bits.tolist(), lanes, strict=True):
        assert torch.equal(quantize(row, b), lane)
        assert len(lane.unique()) <= 2**b


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_higher_price_buys_a_cheaper_design(method, task, hardware):
    score, cost = hardware
    expected = []
    for price in (0.0, 0.6):
        options = DifferentiableOptions(
            method=method, epochs=4, batch_size=100, architecture_rate=0.2, cost_weight=price
        )
        found = search_differentiable(LAYOUT, task, cost, LIMITS, options, seed=0, n_samples=8)
        assert (found.genomes >= 0).all()
        assert (found.genomes <= SPACE.upper).all()
        assert len(np.unique(found.genomes, axis=0)) == len(found.genomes)
        for p in found.probabilities.values():
            assert p.sum() == pytest.approx(1.0, abs=1e-5)
        expected.append(found.expected_costs[0])
    assert expected[1] < expected[0]


@pytest.mark.slow
def test_differentiable_search_is_deterministic_and_reports_its_eigenvalues(task, hardware):
    _, cost = hardware
    options = DifferentiableOptions(method="drnas", epochs=3, batch_size=200, warm_up=0.0)
    first, again = (
        search_differentiable(LAYOUT, task, cost, LIMITS, options, seed=1) for _ in range(2)
    )
    assert np.array_equal(first.genomes, again.genomes)
    assert first.eigenvalues == again.eigenvalues
    assert len(first.eigenvalues) == 3


def test_a_sharply_rising_eigenvalue_stops_the_search():
    from codesign.search.differentiable import _rises_sharply

    options = DifferentiableOptions(eigenvalue_ratio=0.75, window=2)
    assert not _rises_sharply([1.0, 1.0, 1.1], options)
    assert not _rises_sharply([1.0, 1.0, 1.1, 1.2], options)
    assert _rises_sharply([1.0, 1.0, 2.0, 3.0], options)
    with pytest.raises(DesignError, match="did you mean 'darts2'"):
        DifferentiableOptions(method="darts")


@pytest.mark.slow
def test_a_supernet_evaluates_without_training_and_helps_fine_tuning(task):
    from tests.benchmarks._weight_sharing import train_alone

    options = SupernetOptions(epochs=(3, 1, 1, 4), n_samples=7, batch_size=50)
    supernet = train_supernet(LAYOUT, task, options, seed=0)
    genomes = random_genomes(12, seed=5)
    shared = supernet.score(genomes, task)
    assert np.array_equal(shared, supernet.score(genomes, task))
    assert shared.mean() > 0.4  # five classes: chance is 0.2
    scratch = train_alone(LAYOUT, genomes[:3], task, epochs=1, seed=0)
    tuned = train_alone(
        LAYOUT, genomes[:3], task, epochs=1, seed=0, start=supernet, learning_rate=0.003
    )
    assert tuned.mean() > scratch.mean()


def test_spaces_that_share_no_weights_are_refused():
    space = load_space("mlp_l1", n_inputs=16, n_outputs=5)
    base = plain_base(space)
    base[[gene.name for gene in space.genes].index("skip_1")] = 1
    with pytest.raises(DesignError, match="skip_1"):
        layout_of(space, base)
