"""Training for any target: losses against torch's, weights that mean repeats, several heads at once."""

import numpy as np
import pytest
import torch

from codesign.errors import DesignError
from codesign.ir import Node
from codesign.metrics import load_metric
from codesign.tasks.target import HeadOptions, Target, make_head
from codesign.training import (
    TaskArrays,
    TrainingOptions,
    judge_outputs,
    output_values,
    train_population,
)
from codesign.training.losses import TargetLoss
from tests.training.test_train import candidate_of, dense

N = 1600


def head(name, kind, names, values=None, **wishes):
    options = HeadOptions(name=name, **wishes)
    return make_head(name, kind, names, options=options, values=values)


def arrays(target, y, **more):
    x = np.random.default_rng(0).standard_normal((N, 6)).astype(np.float32)
    y = y(x)
    return TaskArrays(
        x_train=x[:1200], y_train=y[:1200], x_test=x[1200:], y_test=y[1200:], target=target, **more
    )


def network(n_outputs, bits=12):
    return candidate_of(
        [
            Node(name="x", layer="input", inputs=(), parameters={"width": 6, "result_bits": 10}),
            dense("a", "x", 16, weight_bits=8),
            Node(name="ra", layer="relu", inputs=("a",), parameters={"result_bits": 10}),
            dense("head", "ra", n_outputs, weight_bits=8),
            Node(name="y", layer="linear", inputs=("head",), parameters={"result_bits": bits}),
        ]
    )


VALUES = np.stack([np.linspace(-3, 3, 50), np.linspace(0, 40, 50)], axis=1)


@pytest.mark.parametrize(
    ("loss", "torch_loss"),
    [
        ("squared", torch.nn.functional.mse_loss),
        ("absolute", torch.nn.functional.l1_loss),
        ("huber", torch.nn.functional.smooth_l1_loss),
    ],
)
def test_losses_of_values_are_torchs_in_units_of_the_outputs(loss, torch_loss):
    target = Target(heads=(head("v", "values", ("a", "b"), VALUES, loss=loss),))
    found = TargetLoss(target, 2, TrainingOptions())
    outputs = torch.randn(3, 2, 50, generator=torch.Generator().manual_seed(1))
    aims = found.targets(VALUES.astype(np.float32), np.zeros((50, 1), np.float32))
    for row, own in zip(found(outputs, aims), outputs, strict=True):
        torch.testing.assert_close(row, torch_loss(own, aims))
    # what the head makes of a perfect output is the value itself
    np.testing.assert_allclose(target.heads[0].values(aims.T.numpy()), VALUES, rtol=1e-5, atol=1e-5)


def test_one_logit_is_the_binary_cross_entropy_of_torch():
    target = Target(heads=(head("b", "binary", ("no", "yes")),))
    loss = TargetLoss(target, 1, TrainingOptions())
    logits = 4 * torch.randn(2, 1, 40, generator=torch.Generator().manual_seed(2))
    labels = np.arange(40) % 2
    found = loss(logits, loss.targets(labels, np.zeros((40, 1), np.float32)))
    expected = [
        torch.nn.functional.binary_cross_entropy_with_logits(
            own[0], torch.tensor(labels, dtype=torch.float32)
        )
        for own in logits
    ]
    torch.testing.assert_close(found, torch.stack(expected))


def test_heads_add_up_by_their_weights_and_row_weights_are_repeats():
    one = head("b", "binary", ("no", "yes"), weight=2.0)
    other = head("v", "values", ("a",), VALUES[:, :1], weight=0.5)
    both = Target(heads=(one, other))
    loss = TargetLoss(both, 2, TrainingOptions())
    outputs = torch.randn(1, 2, 50, generator=torch.Generator().manual_seed(3))
    y = np.stack([np.arange(50) % 2, VALUES[:, 0]], axis=1).astype(np.float32)
    x = np.zeros((50, 1), np.float32)
    aims = loss.targets(y, x)
    parts = [
        TargetLoss(Target(heads=(h,)), 1, TrainingOptions())(outputs[:, [i]], aims[[i]])
        for i, h in enumerate((one, other))
    ]
    torch.testing.assert_close(loss(outputs, aims), parts[0] + parts[1])
    weights = torch.arange(50) % 3
    repeated = loss(
        outputs.repeat_interleave(weights, dim=2), aims.repeat_interleave(weights, dim=1)
    )
    weighted = loss(outputs, aims, None, weights / weights.float().mean())
    torch.testing.assert_close(weighted, repeated)


def test_regression_and_classes_are_learned_together_and_judged_in_their_units():
    def truth(x):
        value = 20.0 * x[:, 0] + 100.0
        return np.stack([value, x[:, 1] + x[:, 2] > 0], axis=1).astype(np.float32)

    values = truth(np.random.default_rng(0).standard_normal((N, 6)).astype(np.float32))[:1200, :1]
    target = Target(
        heads=(
            head("value", "values", ("v",), values, metric="resolution", units=("GeV",)),
            head("tag", "binary", ("no", "yes")),
        )
    )
    task = arrays(target, truth)
    result = train_population([network(2)] * 2, task, TrainingOptions(epochs=20), seed=1)
    judged = judge_outputs(output_values(result.networks[0], task.x_test), task)
    assert target.heads[0].unit == "GeV"
    assert judged["value"].score < 4.0  # of a spread of 20
    assert judged["tag"].score > 0.95
    assert result.test_score[0] == -judged["value"].score  # larger is better


def test_a_reconstruction_learns_its_inputs_without_labels():
    target = Target(heads=(head("x", "reconstruction", tuple("abcdef")),))
    task = arrays(target, lambda x: np.zeros((len(x), 0), np.float32))
    result = train_population([network(6, bits=10)], task, TrainingOptions(epochs=12), seed=1)
    judged = judge_outputs(output_values(result.networks[0], task.x_test), task)
    assert judged["x"].score < 0.3 < 1.0  # of a variance of 1


def test_rare_signals_are_drawn_by_their_weights():
    def truth(x):
        return (x[:, 0] > 2.0).astype(np.int64)

    x = np.random.default_rng(0).standard_normal((N, 6)).astype(np.float32)
    y = truth(x)
    target = Target(heads=(head("b", "binary", ("no", "yes"), metric="balanced_accuracy"),))
    weights = np.where(y == 1, 1.0 / y.mean(), 1.0).astype(np.float32)
    scores = {}
    for name, more in (
        ("plain", {}),
        ("drawn", {"weights_train": weights[:1200], "sampling": "weighted"}),
        ("weighed", {"weights_train": weights[:1200]}),
    ):
        task = arrays(target, truth, **more)
        options = TrainingOptions(epochs=6)
        result = train_population([network(1)], task, options, seed=1)
        outputs = output_values(result.networks[0], task.x_test)
        scores[name] = load_metric("balanced_accuracy").score(outputs, task.y_test)
    assert min(scores["drawn"], scores["weighed"]) > 0.8
    assert min(scores["drawn"], scores["weighed"]) > scores["plain"]


def test_networks_with_other_outputs_are_refused():
    target = Target(heads=(head("v", "values", ("a", "b"), VALUES),))
    for n_outputs in (1, 3):
        with pytest.raises(DesignError, match="outputs, the task's target 2"):
            TargetLoss(target, n_outputs, TrainingOptions())
