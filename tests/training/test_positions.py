"""Networks on particles and images train as flat ones do: positions are more batch."""

import numpy as np
import pytest
import torch

from codesign.errors import DesignError
from codesign.ir import Candidate, Network, Node
from codesign.layers import run_torch, run_words, typed
from codesign.layers._training import TrainStep
from codesign.testing.layers import unrolled
from codesign.training.options import TaskArrays, TrainingOptions, initial_seeds
from codesign.training.population_module import PopulationModule
from codesign.training.schedule import build_schedule
from codesign.training.train import train_population

OPTIONS = TrainingOptions(epochs=4, batch_size=64, device="cpu", validation_fraction=0.25)


def network(
    *, rows: int = 0, columns: int = 0, width: int = 3, units: int = 6, **kind
) -> Candidate:
    """Input -> dense [-> norm] -> relu [-> skip] [-> others] at every position -> flatten -> dense -> linear."""
    axes = {name: n for name, n in (("rows", rows), ("columns", columns)) if n}
    nodes = []

    def add(layer: str, *inputs: str, **parameters: float) -> str:
        name = f"{layer}_{len(nodes)}"
        nodes.append(Node(name=name, layer=layer, inputs=inputs, parameters=parameters))
        return name

    source = add("input", width=width, result_bits=7, **axes)
    if window := kind.get("window"):
        source = add("patches", source, **window)
    if taps := kind.get("taps"):
        source = add("depthwise", source, taps=taps, weight_bits=6, pruned_fraction=0.25)
    hidden = add("dense", source, units=units, weight_bits=6, pruned_fraction=kind.get("pruned", 0))
    if kind.get("norm"):
        hidden = add("batch_norm", hidden)
    hidden = add(kind.get("activation", "relu"), hidden, result_bits=6)
    if skip := kind.get("skip"):
        hidden = add(skip, hidden, source)
    for layer, parameters in kind.get("then", {}).items():
        hidden = add(layer, hidden, **parameters)
    flat = add("flatten", hidden)
    head = add("dense", flat, units=3, weight_bits=6, pruned_fraction=0.0)
    add("linear", head, result_bits=12)
    return unrolled(Network(nodes=tuple(nodes)))


PARTICLES = [
    network(columns=5),
    network(columns=5, norm=True, skip="add", units=3),
    network(columns=5, width=2, skip="concat", activation="tanh"),
    network(columns=4, norm=True, units=9),
    network(columns=2, width=1, pruned=0.5),
    network(columns=4, width=2, skip="concat", units=4),
    network(columns=5, width=2, window={"kernel": 3, "stride": 1, "dilation": 1}),
    network(columns=5, width=3, window={"kernel": 2, "stride": 2, "dilation": 2}),
    network(columns=5, width=3, skip="subtract", units=3),
    network(columns=4, width=2, skip="multiply", units=2),
    network(columns=5, width=3, skip="subtract", units=3, then={"square": {}}),
    network(columns=5, width=3, skip="subtract", units=3, then={"absolute": {}}),
    network(columns=5, units=4, activation="softmax"),
    network(columns=5, units=7, activation="softmax", norm=True),
    network(columns=5, width=3, window={"kernel": 3, "padding": 1}, taps=3),
    network(columns=5, then={"sum_pool": {"kernel": 2}}),
    network(columns=5, then={"sum_pool": {"kernel": 3, "stride": 2}}),
    network(columns=5, activation="hard_tanh"),
    network(columns=5, activation="hard_sigmoid"),
    network(columns=5, activation="clipped_relu"),
    network(columns=5, activation="sign"),
    network(columns=5, width=2, window={"kernel": 3, "padding": 1}),
    network(
        columns=4, units=4, then={"slice": {"axis": 1, "first": 1, "size": 2}, "transpose": {}}
    ),
    network(columns=5, then={"mean_pool": {}, "broadcast": {"columns": 3, "rows": 2}}),
    network(columns=3, units=4, then={"reshape": {"width": 2, "rows": 3}, "slice": {"size": 1}}),
    network(columns=5, skip="matmul", units=3),
    network(columns=5, width=2, skip="matmul", units=2),
    network(columns=4, width=2, skip="dot", units=2),
    network(columns=4, width=2, skip="mask", units=5),
    network(columns=4, units=3, then={"lookup_dense": {"units": 4, "weight_bits": 5}}),
    network(
        columns=4,
        activation="tanh",
        then={"lookup_dense": {"units": 2, "weight_bits": 7, "pruned_fraction": 0.3}},
    ),
]
IMAGES = [
    network(rows=4, columns=3, width=2),
    network(rows=2, columns=3, width=2, norm=True, skip="concat"),
    network(rows=3, columns=2, width=1, skip="concat", units=4),
    network(rows=4, columns=3, width=2, window={"kernel": 2, "stride": 1, "dilation": 1}),
    network(rows=4, columns=3, width=1, window={"kernel": 2, "stride": 2, "dilation": 1}),
    network(rows=4, columns=3, width=2, window={"kernel": 3, "padding": 1, "stride": 2}),
    network(rows=4, columns=3, width=2, then={"transpose": {}}),
    network(rows=4, columns=3, width=2, then={"max_pool": {"kernel": 2}}),
    network(rows=4, columns=3, width=2, then={"mean_pool": {"kernel": 2, "stride": 1}}),
]


def task(shape: tuple[int, ...], n: int = 600) -> TaskArrays:
    """Clouds of points; the class is where the mean of the first feature lies."""
    generator = np.random.default_rng(7)
    y = generator.integers(0, 3, 2 * n)
    x = generator.normal(size=(2 * n, *shape)).astype(np.float32)
    x[..., 0] += (y - 1).reshape(-1, *(1 for _ in shape[1:])) * 0.8
    return TaskArrays(x_train=x[:n], y_train=y[:n], x_test=x[n:], y_test=y[n:])


CASES = [
    pytest.param(PARTICLES, (5, 3), id="particles"),
    pytest.param(IMAGES, (4, 3, 2), id="images"),
]


@pytest.mark.parametrize(("candidates", "shape"), CASES)
def test_training_computes_on_the_deployed_grid_at_every_position(candidates, shape):
    arrays = task(shape)
    model = PopulationModule(build_schedule(candidates, initial_seeds(candidates, 1)))
    axes = (len(shape), *range(1, len(shape)), 0)
    data = torch.from_numpy(np.ascontiguousarray(arrays.x_train.transpose(axes)))
    with torch.no_grad():
        model(data, TrainStep(selects_ranges=True, updates_moments=True))
        model(data, TrainStep(pruning=1.0))
        logits = model(data, TrainStep(covers_outputs=True)).numpy()
    for i, found in enumerate(model.export(candidates)):
        words = found.input_words(arrays.x_train)
        last = found.network.nodes[-1]
        source = np.asarray(run_words(found, words, trace=True)[last.inputs[0]])
        exact = typed(found)[last.inputs[0]].output.format.values_from_words(source)
        # float32 sums round, and a rounding that crosses a grid line moves a hidden word: rare
        close = np.isclose(logits[i].T, exact, atol=1e-4, rtol=1e-5)
        assert close.all(axis=1).mean() > 0.98
        assert np.array_equal(run_words(found, words), run_torch(found, words))


@pytest.mark.parametrize(("candidates", "shape"), CASES)
def test_networks_of_any_rank_learn_alone_and_in_company(candidates, shape):
    arrays = task(shape)
    together = train_population(candidates, arrays, OPTIONS, seed=3)
    assert (together.test_score[:4] > 0.5).all()  # chance is 1/3
    alone = train_population(candidates[1:2], arrays, OPTIONS, seed=3)
    assert np.allclose(alone.loss[0], together.loss[1], rtol=1e-3)
    first = together.networks[0]
    answers = np.asarray(run_words(first, first.input_words(arrays.x_test))).argmax(axis=1)
    assert (answers == arrays.y_test).mean() == together.test_score[0]


def test_one_position_is_a_flat_network():
    """A network over one particle has the very losses of the network over its features."""
    arrays = task((1, 3))
    flat = TaskArrays(
        x_train=arrays.x_train[:, 0], y_train=arrays.y_train,
        x_test=arrays.x_test[:, 0], y_test=arrays.y_test,
    )  # fmt: skip
    one = build_schedule([network(columns=1, norm=True)], [5])
    none = build_schedule([network(norm=True)], [5])
    models = [PopulationModule(one), PopulationModule(none)]
    data = [torch.from_numpy(np.ascontiguousarray(flat.x_train.T))]
    data.insert(0, data[0][:, None])
    logits = [
        model(x, TrainStep(selects_ranges=True, updates_moments=True))
        for model, x in zip(models, data, strict=True)
    ]
    assert torch.equal(*logits)


def test_a_gradient_reaches_every_position():
    """Moving elements off the tape and back is the derivative of what it computes."""
    candidates = PARTICLES[2:4]
    model = PopulationModule(build_schedule(candidates, initial_seeds(candidates, 2)))
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(3, 5, 32, generator=generator)
    model(data, TrainStep(selects_ranges=True, updates_moments=True))
    weight = model.layers[[type(m).__name__ for m in model.layers].index("DenseModule")].weight
    model(data, TrainStep()).square().sum().backward()
    assert (weight.grad.abs().sum(dim=(1, 2)) > 0).all()


@pytest.mark.parametrize(
    ("candidate", "message"),
    [
        (network(columns=6), r"shape \(6, 3\), the task has \(5, 3\)"),
        (network(columns=5, width=4), r"shape \(5, 4\), the task has \(5, 3\)"),
        (network(), r"shape \(3,\), the task has \(5, 3\)"),
    ],
)
def test_a_network_that_reads_more_than_the_task_has_is_refused(candidate, message):
    with pytest.raises(DesignError, match=message):
        train_population([candidate], task((5, 3), 20), OPTIONS, seed=1)


def test_a_network_that_ends_in_positions_is_refused():
    known = network(columns=5)
    nodes = [n for n in known.network.nodes if n.layer != "flatten"]
    (head,) = (i for i, n in enumerate(nodes) if n.inputs and n.inputs[0].startswith("flatten"))
    before = nodes[head - 1].name
    nodes[head] = Node(
        name=nodes[head].name, layer="dense", inputs=(before,), parameters=nodes[head].parameters
    )
    candidate = Candidate(network=Network(nodes=tuple(nodes)), hardware=known.hardware)
    with pytest.raises(DesignError, match="5 positions; training needs one: pool or flatten"):
        train_population([candidate], task((5, 3), 20), OPTIONS, seed=1)
