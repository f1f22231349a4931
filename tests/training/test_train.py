"""Training promises: what is reported is what the integer network does."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from codesign.errors import DataError, DesignError
from codesign.ir import Candidate, Network, Node
from codesign.layers import run_torch, run_words, typed
from codesign.layers._training import TrainStep
from codesign.space import candidates_from_population, load_space
from codesign.testing.layers import unrolled
from codesign.training import (
    TaskArrays,
    TrainingOptions,
    architecture_digest,
    fine_tune_one,
    train_population,
)
from codesign.training.judge import merit_of
from codesign.training.options import initial_seeds
from codesign.training.population_module import PopulationModule
from codesign.training.schedule import build_schedule, folded_network
from codesign.training.thinning import thin
from codesign.training.train import split_rows

OPTIONS = TrainingOptions(epochs=2, batch_size=50, chunk_size=24)
SHORT = TrainingOptions(epochs=1, batch_size=256, chunk_size=24)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def blobs(n_features: int = 16, n_classes: int = 5, n: int = 1200) -> TaskArrays:
    """Overlapping Gaussian blobs: learnable, never perfectly."""
    generator = np.random.default_rng(5)
    centres = generator.normal(0, 0.7, (n_classes, n_features))
    y = generator.integers(0, n_classes, n)
    x = (centres[y] + generator.normal(0, 1, (n, n_features))).astype(np.float32)
    return TaskArrays(x_train=x[:900], y_train=y[:900], x_test=x[900:], y_test=y[900:])


def sampled(n: int, seed: int = 0) -> list[Candidate]:
    space = load_space("mlp_l1", n_inputs=16, n_outputs=5)
    population = space.decode(space.sample(n, np.random.default_rng(seed)))
    return candidates_from_population(population, part="xcvu13p-flga2577-2-e")


def candidate_of(nodes: list[Node]) -> Candidate:
    return unrolled(Network(nodes=tuple(nodes)))


def dense(name: str, source: str, units: int, **more: float) -> Node:
    return Node(
        name=name,
        layer="dense",
        inputs=(source,),
        parameters={"units": units, "weight_bits": 6, **more},
    )


@pytest.fixture(scope="module")
def trained():
    candidates = sampled(8)
    torch.set_num_threads(1)
    return candidates, train_population(candidates, blobs(), OPTIONS, seed=3)


def test_reported_accuracy_is_that_of_the_integer_network(trained):
    candidates, result = trained
    task = blobs()
    _, validation = split_rows(len(task.y_train), OPTIONS.validation_fraction)
    for i, network in enumerate(result.networks):
        assert network.candidate == candidates[i]
        for x, y, score in (
            (task.x_test, task.y_test, result.test_score[i]),
            (
                task.x_train[validation],
                task.y_train[validation],
                result.validation_score[i],
            ),
        ):
            words = run_words(network, network.input_words(x))
            assert (words.argmax(axis=1) == y).mean() == score


def test_integer_networks_agree_with_an_independent_evaluation(trained):
    _, result = trained
    x = blobs().x_test
    for network in result.networks:
        words = network.input_words(x)
        assert np.array_equal(run_words(network, words), run_torch(network, words))


def test_formats_are_those_that_the_candidate_asks_for(trained):
    _, result = trained
    for network in result.networks:
        for node in network.network.nodes:
            if "weight_bits" in node.parameters:
                weights = network.constants[node.name]["weight"]
                fmt, words = weights.type.uniform, weights.values
                assert fmt.bits == node.parameters["weight_bits"]
                assert abs(words).max() <= fmt.max_word  # symmetric
            if "result_bits" in node.parameters:
                assert network.result[node.name].bits == node.parameters["result_bits"]


def test_pruned_fraction_is_reached_exactly(trained):
    _, result = trained
    for network in result.networks:
        for name, constants in network.constants.items():
            words = constants["weight"].values
            fraction = network.network.node(name).parameters["pruned_fraction"]
            assert (words == 0).sum() >= np.floor(fraction * words.size + 0.5)


def test_outputs_never_saturate_on_the_training_rows(trained):
    _, result = trained
    task = blobs()
    train, _ = split_rows(len(task.y_train), OPTIONS.validation_fraction)
    for network in result.networks:
        values = run_words(network, network.input_words(task.x_train[train]), trace=True)
        last = network.network.nodes[-1]
        source = typed(network)[last.inputs[0]].output.format
        exact = source.values_from_words(values[last.inputs[0]])
        assert exact.max() <= network.output_format.max_value + network.output_format.lsb
        assert exact.min() >= network.output_format.min_value


def test_training_learns(trained):
    _, result = trained
    assert np.median(result.test_score) > 0.4  # chance is 0.2
    assert (result.loss[:, -1] < result.loss[:, 0]).mean() > 0.9


def test_training_computes_on_the_deployed_grid():
    """The forward pass in training equals the exported integers, up to the output's rounding."""
    candidates = sampled(8, seed=4)
    task = blobs()
    model = PopulationModule(build_schedule(candidates, initial_seeds(candidates, 1)))
    data = torch.from_numpy(np.ascontiguousarray(task.x_train.T))
    with torch.no_grad():
        model(data, TrainStep(selects_ranges=True, updates_moments=True))
        model(data, TrainStep(pruning=1.0))
        logits = model(data, TrainStep(covers_outputs=True)).numpy()
    for i, network in enumerate(model.export(candidates)):
        last = network.network.nodes[-1]
        words = network.input_words(task.x_train)
        source = run_words(network, words, trace=True)[last.inputs[0]]
        fmt = typed(network)[last.inputs[0]].output.format
        # Sums of up to 64 products round in float32 (24 bits); a rounding that crosses a grid line
        # moves a hidden word by one: rare, so nearly all rows must agree to float32 precision.
        close = np.isclose(logits[i].T, fmt.values_from_words(source), atol=1e-4, rtol=1e-5)
        assert close.all(axis=1).mean() > 0.98


def test_a_network_trains_alike_alone_and_in_company():
    """Padding and grouping do not change the mathematics; float32 rounding differs."""
    candidates = sampled(6, seed=2)
    together = train_population(candidates, blobs(), SHORT, seed=7)
    for i in (0,):
        alone = fine_tune_one(candidates[i], blobs(), SHORT, seed=7, epochs=1)
        # Three steps: rounding differences pass quantizers and grow chaotically after more.
        assert alone.loss[0, 0] == pytest.approx(together.loss[i, 0], rel=0.02)


def test_same_seed_same_networks():
    candidates = sampled(2, seed=9)
    first, second = (train_population(candidates, blobs(), SHORT, seed=5) for _ in range(2))
    assert [n.digest for n in first.networks] == [n.digest for n in second.networks]


@pytest.mark.slow
def test_early_stopping_drops_the_hopeless_and_leaves_the_others_alone():
    """Dropped networks keep what they are; the rest end as if trained in a chunk without them."""
    good = sampled(6, seed=9)
    nodes = [
        Node(name="x", layer="input", inputs=(), parameters={"width": 16, "result_bits": 1}),
        dense("a", "x", 1, pruned_fraction=0.9),
        Node(name="ra", layer="relu", inputs=("a",), parameters={"result_bits": 1}),
        dense("head", "ra", 5),
        Node(name="y", layer="linear", inputs=("head",), parameters={"result_bits": 12}),
    ]
    candidates = [*good[:3], candidate_of(nodes), *good[3:]]
    options = replace(OPTIONS, epochs=4, stop_below=0.5)
    result = train_population(candidates, blobs(), options, seed=2)
    assert result.epochs[3] == 2
    assert (result.epochs[[0, 1, 2, 4, 5, 6]] == 4).sum() >= 4
    assert np.isnan(result.loss[3, 2:]).all()
    network = result.networks[3]
    assert (
        merit_of(network, blobs(), blobs().x_test, blobs().y_test, weights=None)
        == result.test_score[3]
    )
    fraction = (network.constants["a"]["weight"].values == 0).mean()
    assert fraction >= 14 / 16  # pruned although it stopped early: round(0.9 * 16) of 16


def test_thinning_changes_nothing_for_the_networks_kept():
    candidates = sampled(7, seed=3)
    seeds = initial_seeds(candidates, 1)
    data = torch.randn(16, 96, generator=torch.Generator().manual_seed(0))
    model = PopulationModule(build_schedule(candidates, seeds))
    with torch.no_grad():
        model(data, TrainStep(selects_ranges=True, updates_moments=True))
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.01)

    def step(executor, optimiser):
        loss = executor(data, TrainStep(updates_moments=True)).square().mean(dim=(1, 2))
        optimiser.zero_grad()
        loss.sum().backward()
        optimiser.step()
        return loss.detach()

    step(model, optimiser)
    keep = [0, 3, 4, 6]
    thinned, fresh = thin(model, optimiser, candidates, seeds, keep)
    for _ in range(2):
        expected, found = step(model, optimiser)[keep], step(thinned, fresh)
        # The same sums in another order: float32 rounding, once through a quantizer.
        assert torch.allclose(expected, found, rtol=1e-2)


def test_parallel_branches_from_one_node_both_train():
    nodes = [
        Node(name="x", layer="input", inputs=(), parameters={"width": 16, "result_bits": 8}),
        dense("a", "x", 6),
        dense("b", "x", 6, pruned_fraction=0.5),
        Node(name="ra", layer="relu", inputs=("a",), parameters={"result_bits": 6}),
        Node(name="rb", layer="relu", inputs=("b",), parameters={"result_bits": 6}),
        Node(name="sum", layer="add", inputs=("ra", "rb"), parameters={}),
        Node(name="both", layer="concat", inputs=("sum", "ra"), parameters={}),
        Node(name="flat", layer="flatten", inputs=("both",), parameters={}),
        dense("head", "flat", 5),
        Node(name="y", layer="linear", inputs=("head",), parameters={"result_bits": 12}),
    ]
    candidate = candidate_of(nodes)
    model = PopulationModule(build_schedule([candidate], [1]))
    data = torch.randn(16, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model(data, TrainStep(selects_ranges=True, updates_moments=True))
    model(data, TrainStep()).square().sum().backward()
    gradients = [p.grad.abs().sum(dim=tuple(range(1, p.ndim))) for p in model.parameters()]
    assert all((g > 0).all() for g in gradients)
    result = fine_tune_one(candidate, blobs(), OPTIONS, seed=1, epochs=8)
    assert result.test_score[0] > 0.4  # chance is 0.2


def test_batch_norm_must_follow_a_dense_node_of_its_own():
    nodes = (
        Node(name="x", layer="input", inputs=(), parameters={"width": 4, "result_bits": 8}),
        Node(name="r", layer="relu", inputs=("x",), parameters={"result_bits": 6}),
        Node(name="n", layer="batch_norm", inputs=("r",), parameters={}),
    )
    with pytest.raises(DesignError, match="directly after a dense node"):
        folded_network(Network(nodes=nodes))


def test_names_and_hardware_do_not_change_the_architecture_digest():
    first = candidate_of([*sampled(1)[0].network.nodes])
    renamed = Network(
        nodes=tuple(
            Node(
                name="z" + n.name,
                layer=n.layer,
                inputs=tuple("z" + i for i in n.inputs),
                parameters=n.parameters,
            )
            for n in first.network.nodes
        )
    )
    assert architecture_digest(renamed) == architecture_digest(first.network)


def test_a_network_of_another_task_is_refused():
    with pytest.raises(DesignError, match=r"inputs of shape \(16,\), the task has \(7,\)"):
        train_population(sampled(1), blobs(n_features=7), OPTIONS, seed=1)


def test_nan_inputs_are_refused():
    task = blobs()
    bad = task.x_train.copy()
    bad[3, 2] = np.nan
    with pytest.raises(DataError, match="NaN"):
        TaskArrays(x_train=bad, y_train=task.y_train, x_test=task.x_test, y_test=task.y_test)


@pytest.mark.parametrize(
    ("name", "value"),
    [("epochs", 0), ("learning_rate", 0.0), ("validation_fraction", 1.0), ("pruning_end", 0.05)],
)
def test_illegal_options_are_named(name, value):
    with pytest.raises(DesignError, match=name):
        TrainingOptions(**{name: value})


def test_splits_validate_on_disjoint_rows() -> None:
    parts = [split_rows(100, 0.25, split) for split in range(4)]
    assert sorted(np.concatenate([held for _, held in parts])) == list(range(100))
    for train, held in parts:
        assert sorted(np.concatenate([train, held])) == list(range(100))
    with pytest.raises(DesignError, match="split must lie in 0..7"):
        TrainingOptions(split=8)
