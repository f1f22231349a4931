"""Learned widths: budgets are kept, pruning is real, and what is exported is exact."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from codesign.errors import DesignError
from codesign.export.bundle import export_candidate
from codesign.export.rtl import run_trace, trace_network
from codesign.hardware.scorer import exact_population
from codesign.ir import Candidate, Network, Node, QuantizedNetwork
from codesign.layers import run_words, typed
from codesign.layers._train_learned import own_words
from codesign.testing.layers import unrolled
from codesign.training import teacher
from codesign.training.judge import merit_of
from codesign.training.options import TaskArrays
from codesign.training.polish import (
    _State,
    learn_with_teacher,
    polish,
    signed_digits,
    training_loss,
    without_last_digit,
)
from codesign.training.precision import PrecisionOptions, _Learning, settle, train_learned
from codesign.validate.certificate import certify

OPTIONS = PrecisionOptions(epochs=40, batch_size=100)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def blobs(n: int = 1200) -> TaskArrays:
    """Overlapping Gaussian blobs in six features, of which the last says nothing."""
    generator = np.random.default_rng(5)
    centres = generator.normal(0, 1.0, (3, 6))
    centres[:, 5] = 0.0
    y = generator.integers(0, 3, n)
    x = (centres[y] + generator.normal(0, 1, (n, 6))).astype(np.float32)
    return TaskArrays(x_train=x[:900], y_train=y[:900], x_test=x[900:], y_test=y[900:])


TASK = blobs()
LOSS = training_loss(TASK, np.arange(len(TASK.y_train)))


def network(kind: str) -> Candidate:
    """A network with one of each kind of topology or activation."""
    activation = "relu" if kind in ("add", "concat") else kind

    def dense(name: str, source: str, units: int) -> Node:
        sizes = {"units": units, "weight_bits": 6}
        return Node(name=name, layer="dense", inputs=(source,), parameters=sizes)

    def act(name: str, source: str, layer: str, bits: int = 6) -> Node:
        return Node(name=name, layer=layer, inputs=(source,), parameters={"result_bits": bits})

    nodes = [
        Node(name="x", layer="input", inputs=(), parameters={"width": 6, "result_bits": 8}),
        dense("d0", "x", 8),
        act("a0", "d0", activation),
        dense("d1", "a0", 8),
    ]
    last = "a1"
    if kind == "add":  # of sums that are not rounded yet, so that a bias has two readers
        nodes.append(Node(name="sum", layer="add", inputs=("d0", "d1"), parameters={}))
        nodes.append(act("a1", "sum", activation))
    else:
        nodes.append(act("a1", "d1", activation))
    if kind == "concat":
        nodes.append(Node(name="both", layer="concat", inputs=("a0", "a1"), parameters={}))
        last = "both"
    nodes += [dense("d2", last, 3), act("y", "d2", "linear", 16)]
    return unrolled(Network(nodes=tuple(nodes)))


HARD = ("hard_tanh", "hard_sigmoid", "clipped_relu", "sign")
KINDS = ("relu", "tanh", "leaky_relu", "linear", "concat", "add", *HARD)


@pytest.fixture(scope="module")
def trained() -> dict[str, QuantizedNetwork]:
    torch.set_num_threads(1)
    budgets = np.full(len(KINDS), 250.0)
    result = train_learned([network(kind) for kind in KINDS], budgets, TASK, OPTIONS, seed=1)
    return dict(zip(KINDS, result.networks, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_adder_graphs_compute_the_words_of_the_integer_network(trained, kind):
    learned = trained[kind]
    words = learned.input_type.draw(np.random.default_rng(3), 500)  # also where ranges wrap
    assert np.array_equal(
        run_trace(trace_network(learned), learned, words), run_words(learned, words)
    )


def test_widths_differ_and_words_have_no_bit_that_they_do_not_need(trained):
    weights = trained["relu"].constants["d0"]["weight"]
    bits = np.broadcast_to(weights.type.bits, weights.values.shape)
    assert len(np.unique(bits)) > 2
    assert ((bits == 0) == (weights.values == 0)).all()
    low, high = weights.type.min_words, weights.type.max_words
    tight = np.maximum(np.abs(low), np.abs(high)) < 2 * np.abs(weights.values) + (1 << 20) * (
        bits == 0
    )
    assert tight.all()


def test_no_training_row_leaves_the_ranges(trained):
    """Integer bits follow the rows seen, so one more bit changes no answer on them."""
    learned = trained["concat"]
    words = learned.input_words(TASK.x_train)
    rows = run_words(learned, words)
    wider = {
        name: replace(
            known, bits=known.bits + (known.bits > 0), integer_bits=known.integer_bits + 1
        )
        if name in ("a0", "a1")
        else known
        for name, known in learned.result.items()
    }
    answers = run_words(replace(learned, result=wider), words)
    # validation rows were not traced
    assert (answers != rows).any(axis=1).mean() < 0.01


@pytest.mark.slow
def test_networks_end_at_their_budgets():
    budgets = np.array([120.0, 240.0, 480.0])
    options = PrecisionOptions(epochs=60, batch_size=25)
    result = train_learned([network("relu")] * 3, budgets, TASK, options, seed=2)
    assert (result.predicted_lut < 1.3 * budgets).all()
    assert (result.predicted_lut > 0.5 * budgets).all()
    cost = [float(trace_network(n).cost) for n in result.networks]
    assert cost == pytest.approx(result.predicted_lut.tolist(), rel=0.4, abs=60)
    rows = result.validation_rows
    score = [
        merit_of(n, TASK, TASK.x_train[rows], TASK.y_train[rows], weights=None)
        for n in result.networks
    ]
    assert min(score) > 0.75  # of three classes
    cheapest = result.networks[0].constants["d0"]["weight"].values
    assert (cheapest == 0).mean() > 0.5


def test_a_layer_shares_one_width_where_that_is_asked_for():
    options = PrecisionOptions(epochs=10, batch_size=100, granularity="layer")
    result = train_learned([network("relu")], np.array([400.0]), TASK, options, seed=0)
    (learned,) = result.networks
    fractions = learned.result["a0"].element_fraction_bits
    assert (
        len(np.unique(fractions[np.broadcast_to(learned.result["a0"].bits > 0, fractions.shape)]))
        == 1
    )


def test_the_same_seed_gives_the_same_networks():
    options = PrecisionOptions(epochs=4, batch_size=100)
    first, second = (
        train_learned([network("relu")], np.array([200.0]), TASK, options, seed=4)
        .networks[0]
        .digest
        for _ in range(2)
    )
    assert first == second


def test_constants_keep_their_values_in_the_fewest_bits():
    values = np.array([[0.0, 1.0, -1.0], [0.75, -6.0, 2.0**-9]])
    words = own_words(values)
    assert np.array_equal(words.real, values)
    assert words.type.bits.tolist() == [[0, 1, 1], [2, 3, 1]]


def test_a_budget_of_nothing_is_refused():
    with pytest.raises(DesignError, match="budget above 0"):
        train_learned([network("relu")], np.array([0.0]), TASK, OPTIONS, seed=0)


@pytest.mark.parametrize("kind", KINDS)
def test_polishing_values_are_those_of_the_integer_network(trained, kind):
    learned = trained[kind]
    state = _State(learned, TASK.x_train, LOSS)
    expected = learned.output_format.values_from_words(
        run_words(learned, learned.input_words(TASK.x_train))
    )
    assert np.array_equal(state._values["y"].numpy(), expected)


@pytest.mark.parametrize("kind", ("relu", "concat"))
def test_polishing_lowers_the_cost_and_pays_no_more_than_the_price(trained, kind):
    learned, price = trained[kind], 2e-4
    polished = polish(learned, TASK.x_train, LOSS, price=price)
    before, after = (_State(n, TASK.x_train, LOSS).loss for n in (learned, polished))
    saved = float(trace_network(learned).cost - trace_network(polished).cost)
    assert saved > 0
    # the price is of digits times bits; a solved graph shares some of them
    assert after - before < price * 3 * saved + 0.01
    words = polished.input_words(TASK.x_train)
    assert np.array_equal(
        run_trace(trace_network(polished), polished, words), run_words(polished, words)
    )


def test_polishing_ends_after_a_count_of_trials_whatever_the_machine(trained, monkeypatch):
    learned, trials = trained["concat"], []
    tried = _State.gain
    monkeypatch.setattr(_State, "gain", lambda *a: trials.append(1) or tried(*a))
    each = len(TASK.x_train) * sum(site.output.size for site in typed(learned).sites.values())
    digests = []
    for n_trials in (0, 37, 10_000):
        trials.clear()
        found = polish(learned, TASK.x_train, LOSS, price=2e-4, max_values=(n_trials + 0.5) * each)
        digests.append(found.digest)
        assert len(trials) == n_trials if n_trials < 10_000 else 37 < len(trials) < n_trials
    assert digests[0] == settle(learned, TASK.x_train).digest
    assert len(set(digests)) == 3 or digests[0] == digests[1] != digests[2]


def test_of_two_restarts_the_better_on_the_training_rows_is_kept(monkeypatch):
    monkeypatch.setattr(teacher, "_EPOCHS", 1)
    options = PrecisionOptions(epochs=8, batch_size=100, validation_fraction=0.0)
    arguments = ([network("relu")], np.array([300.0]), TASK, options, 3)
    both = learn_with_teacher(*arguments, n_restarts=2)
    assert len(both.networks) == len(both.predicted_lut) == len(both.price) == 1
    logits = teacher.train_teacher(TASK, seed=3, validation_fraction=0.0)
    pair = train_learned(
        [network("relu")] * 2, np.full(2, 300.0), TASK, options, seed=3, teacher_logits=logits
    )
    loss = training_loss(TASK, np.arange(900), logits, options.distillation_weight)
    states = [_State(n, TASK.x_train, loss) for n in pair.networks]
    price = float(np.exp(np.log(pair.price).mean()))
    paid = [s.loss + price * s.lut() for s in states]
    assert both.networks[0].digest == pair.networks[int(np.argmin(paid))].digest
    other = learn_with_teacher([network("relu")] * 2, np.full(2, 300.0), TASK, options, 3, (1, 2))
    assert len(other.networks) == len(other.price) == 2


def test_a_digit_is_dropped_as_in_canonical_form():
    assert [without_last_digit(v) for v in (0.75, -1.75, 5.0, 3.0, -0.5)] == [
        1.0,
        -2.0,
        4.0,
        4.0,
        0.0,
    ]
    values = np.array([0.0, 1.0, 3.0, -7.0, 5.0, 0.375])
    assert signed_digits(values).tolist() == [0, 1, 2, 2, 2, 2]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ("tanh", "concat", "leaky_relu"))
def test_every_form_of_a_learned_network_is_equal_bit_for_bit(trained, kind, tmp_path):
    learned = trained[kind]
    words = learned.input_words(TASK.x_test)
    scaling = {"method": "none", "features": []}
    exported = export_candidate(
        learned, tmp_path / "firmware", scaling=scaling, vectors=words, backends=("vitis",)
    )
    certificate = certify(exported, test_words=words, inputs=TASK.x_train, seed=1)
    run = {c.name: c.mismatches for c in certificate.comparisons if c.mismatches is not None}
    assert {"torch", "onnxruntime", "qonnx", "hls4ml_vitis", "emulator", "alkaid"} <= set(run)
    assert not any(run.values())


def particles(n: int = 900) -> TaskArrays:
    """Six particles of three features; the class is whether the first two are alike in the first feature."""
    generator = np.random.default_rng(9)
    x = generator.normal(0, 1, (n, 6, 3)).astype(np.float32)
    y = (x[:, 0, 0] * x[:, 1, 0] + 0.5 * x[:, :, 1].mean(axis=1) > 0).astype(np.int64)
    return TaskArrays(x_train=x[:700], y_train=y[:700], x_test=x[700:], y_test=y[700:])


def network_of_particles(last: str) -> Candidate:
    """Dense layers on four of six particles, then a pool, or all in one vector."""

    def node(name: str, layer: str, source: str, **parameters: int) -> Node:
        return Node(name=name, layer=layer, inputs=(source,), parameters=parameters)

    first = Node(
        name="x",
        layer="input",
        inputs=(),
        parameters={"width": 2, "columns": 4, "result_bits": 8},
    )
    nodes = [
        first,
        node("d0", "dense", "x", units=5, weight_bits=6),
        node("a0", "relu", "d0", result_bits=6),
        node("p", last, "a0"),
        node("d1", "dense", "p", units=2, weight_bits=6),
        node("y", "linear", "d1", result_bits=16),
    ]
    names = ["d0", "d1"]
    hardware = replace(
        network("relu").hardware,
        strategy=dict.fromkeys(names, "distributed_arithmetic"),
        reuse_factor=dict.fromkeys(names, 1),
    )
    return Candidate(network=Network(nodes=tuple(nodes)), hardware=hardware)


def test_networks_of_particles_learn_the_widths_of_each_particle_and_are_polished_exactly():
    task, kinds = particles(), ("flatten", "mean_pool", "max_pool")
    options = PrecisionOptions(epochs=40, batch_size=50, validation_fraction=0.0)
    result = train_learned(
        [network_of_particles(kind) for kind in kinds], np.full(3, 200.0), task, options, seed=1
    )
    loss = training_loss(task, np.arange(len(task.y_train)))
    saved = []
    for learned, price in zip(result.networks, result.price, strict=True):
        assert learned.input_type.shape == (4, 2)
        bits = np.broadcast_to(learned.input_type.bits, (4, 2))
        assert len(np.unique(bits)) > 1
        # of one lane all positions have one grid, so that its half a bit lies in the bias
        for lane in range(5):
            known = learned.result["a0"]
            used = np.broadcast_to(known.bits, known.shape)[:, lane] > 0
            fractions = np.broadcast_to(known.element_fraction_bits, known.shape)[used, lane]
            assert len(np.unique(fractions)) <= 1
        polished = polish(learned, task.x_train, loss, price=float(price), max_values=2e7)
        states = [_State(n, task.x_train, loss) for n in (learned, polished)]
        saved.append(states[0].lut() - states[1].lut())
        words = polished.input_words(task.x_test)
        reference = run_words(polished, words)
        assert np.array_equal(run_trace(trace_network(polished), polished, words), reference)
    assert min(saved) >= 0 and max(saved) > 0


def test_the_price_of_a_concatenation_is_that_of_its_elements(trained):
    """Not of its widest word: the mean over the signed digits that multiply each lane."""
    learned = trained["concat"]
    population = exact_population([learned])
    bits = np.concatenate(
        [np.broadcast_to(learned.result[n].bits, learned.result[n].shape) for n in ("a0", "a1")]
    )
    digits = signed_digits(learned.constants["d2"]["weight"].real).sum(axis=1)
    row = [n.name for n in learned.candidate.network.nodes].index("d2")
    assert population.columns["input_bits"][row] == pytest.approx(
        (bits * digits).sum() / digits.sum()
    )
    assert population.columns["input_bits"][row] < bits.max()


def test_widths_that_drift_away_stay_numbers():
    learning = _Learning([network("relu")], np.array([400.0]), TASK, OPTIONS, 0, None)
    with torch.no_grad():
        for parameter, _ in learning._widths:
            parameter[:, :1] = -140.0
    learning.run_epoch()
    for parameter in learning._model.parameters():
        assert torch.isfinite(parameter).all()
    for parameter, _ in learning._widths:
        assert parameter.min() > -25.0
    (learned,) = learning.result(0.0).networks
    for roles in learned.constants.values():
        assert np.abs(roles["weight"].real).max() < 2.0**20
