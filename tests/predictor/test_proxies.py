"""Zero-cost proxies: formulas on networks small enough to work out, and the vote."""

import numpy as np
import pytest
import torch
from torch import nn

from codesign.errors import PredictorError
from codesign.predictor.proxies import (
    PROXIES,
    fisher,
    grad_norm,
    naswot,
    score_by_training,
    score_modules,
    snip,
    synflow,
    vote,
)


def mlp(*widths: int, seed: int = 0) -> nn.Sequential:
    """Dense layers with ReLU between, drawn from a seed without touching the global state."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for a, b in zip(widths[:-1], widths[1:], strict=True):
            layers += [nn.Linear(a, b), nn.ReLU()]
        return nn.Sequential(*layers[:-1])


def sample(n: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch of 16 features and five classes."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 16, generator=generator)
    return x, torch.randint(5, (n,), generator=generator)


@pytest.mark.parametrize("name", PROXIES)
def test_proxies_are_finite_and_leave_the_network_alone(name: str) -> None:
    x, y = sample()
    module = mlp(16, 32, 5)
    before = [p.clone() for p in module.parameters()]
    assert np.isfinite(PROXIES[name](module, x, y))
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))
    assert all(p.grad is None for p in module.parameters())
    assert module.training


def test_gradient_proxies_equal_autograd_on_one_layer() -> None:
    x, y = sample()
    layer = nn.Sequential(mlp(16, 5)[0])
    nn.functional.cross_entropy(layer(x), y).backward()
    gradient, weight = layer[0].weight.grad, layer[0].weight.detach()
    assert grad_norm(layer, x, y) == pytest.approx(float(gradient.norm()), rel=1e-5)
    assert snip(layer, x, y) == pytest.approx(float((gradient * weight).abs().sum()), rel=1e-5)
    out = layer(x).detach().requires_grad_(True)
    (by_out,) = torch.autograd.grad(nn.functional.cross_entropy(out, y), out)
    expected = float((out.detach() * by_out).mean(0).square().sum()) * len(x) ** 2 / 2
    assert fisher(layer, x, y) == pytest.approx(expected, rel=1e-4)


def test_synflow_equals_the_product_of_absolute_weights() -> None:
    x, y = sample()
    module = nn.Sequential(nn.Linear(16, 8, bias=False), nn.Linear(8, 5, bias=False))
    product = float((module[1].weight.abs() @ module[0].weight.abs()).sum().detach())
    # Each of the two layers contributes the whole flow.
    assert synflow(module, x, y) == pytest.approx(np.log1p(2 * product), rel=1e-5)


def test_wider_networks_score_higher_with_synflow_and_naswot() -> None:
    x, y = sample()
    for proxy in (synflow, naswot):
        scores = [proxy(mlp(16, width, 5), x, y) for width in (4, 16, 64)]
        assert scores == sorted(scores)


def test_vote_follows_the_majority() -> None:
    scores = {
        "a": np.array([1.0, 2.0, 3.0]),
        "b": np.array([10.0, 20.0, 30.0]),
        "c": np.array([3.0, 2.0, 1.0]),
    }
    np.testing.assert_allclose(vote(scores), [0.0, 0.5, 1.0])


def test_all_proxies_and_the_vote_of_many_networks() -> None:
    x, y = sample()
    scores = score_modules([mlp(16, w, 5) for w in (4, 16, 64)], x, y)
    assert set(scores) == {*PROXIES, "vote"}
    assert all(values.shape == (3,) for values in scores.values())


def test_misuse_says_what_to_do() -> None:
    x, y = sample()
    with pytest.raises(PredictorError, match="did you mean 'synflow'"):
        score_modules([mlp(16, 5)], x, y, ["synflo"])
    with pytest.raises(PredictorError, match="at least two inputs"):
        grad_norm(mlp(16, 5), x[:1], y[:1])
    with pytest.raises(PredictorError, match="no ReLU"):
        naswot(nn.Sequential(nn.Linear(16, 5)), x, y)
    with pytest.raises(PredictorError, match="no parameters"):
        grad_norm(nn.ReLU(), x, y)
    with pytest.raises(PredictorError, match="diverged"):
        score_by_training([mlp(16, 5)], lambda module: float("nan"))
