"""Zero-cost proxies: score an untrained classifier from one batch of data.

Each works on any `torch.nn.Module` that maps a batch to logits.  The module is copied: weights,
buffers, gradients and mode of the original stay.  Higher is better throughout.  Sources: Abdelfattah
et al., ICLR 2021 (arXiv 2101.08134) for grad norm, SNIP, Fisher and SynFlow as proxies and their
vote; Mellor et al., 2020 and ICML 2021 (arXiv 2006.04647) for Jacobian covariance and NASWOT.
"""

import copy
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor, nn

from codesign.errors import PredictorError, unknown_name

Floats = NDArray[np.float64]


def _check(module: nn.Module, x: Tensor, y: Tensor) -> nn.Module:
    if len(x) != len(y) or len(x) < 2:
        raise PredictorError(
            f"a proxy needs at least two inputs with as many labels, got {len(x)} and {len(y)}"
        )
    copied = copy.deepcopy(module).eval()
    parameters = [p.requires_grad_(True) for p in copied.parameters()]
    if not parameters:
        raise PredictorError("the module has no parameters; a proxy has nothing to score")
    copied.zero_grad(set_to_none=True)
    return copied


def _gradients(module: nn.Module, loss: Tensor) -> list[tuple[Tensor, Tensor]]:
    parameters = [p for p in module.parameters() if p.dim() > 1]
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    return [
        (p.detach(), torch.zeros_like(p) if g is None else g)
        for p, g in zip(parameters, gradients, strict=True)
    ]


def grad_norm(module: nn.Module, x: Tensor, y: Tensor) -> float:
    """Sum over weight tensors of the Euclidean norm of the loss gradient."""
    net = _check(module, x, y)
    loss = nn.functional.cross_entropy(net(x), y)
    return float(sum(g.norm() for _, g in _gradients(net, loss)))


def snip(module: nn.Module, x: Tensor, y: Tensor) -> float:
    """Sum of |weight * gradient of the loss| (Lee et al., ICLR 2019)."""
    net = _check(module, x, y)
    loss = nn.functional.cross_entropy(net(x), y)
    return float(sum((w * g).abs().sum() for w, g in _gradients(net, loss)))


def synflow(module: nn.Module, x: Tensor, y: Tensor) -> float:
    """log(1 + sum of |weight| * gradient) of an all-ones input through absolute weights.

    Data-free (Tanaka et al., NeurIPS 2020); the logarithm keeps deep products finite and the rank.
    """
    net = _check(module, x, y).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.abs_()
    out = net(torch.ones_like(x[:1], dtype=torch.float64)).sum()
    return float(np.log1p(sum(float((w * g).abs().sum()) for w, g in _gradients(net, out))))


def fisher(module: nn.Module, x: Tensor, y: Tensor) -> float:
    """Sum over layers and channels of the squared, batch-averaged activation * gradient.

    (Theis et al., 2018; Turner et al., ICLR 2020.)  Layers are the modules that hold weight matrices.
    """
    net = _check(module, x, y)
    outputs: list[Tensor] = []
    for layer in net.modules():
        weight = getattr(layer, "weight", None)
        if isinstance(weight, Tensor) and weight.dim() > 1:
            layer.register_forward_hook(lambda _layer, _inputs, out: outputs.append(out))
    loss = nn.functional.cross_entropy(net(x), y)
    if not outputs:
        raise PredictorError("Fisher found no layer with a weight matrix; use another proxy")
    total = 0.0
    gradients = torch.autograd.grad(loss, outputs, allow_unused=True)
    for out, gradient in zip(outputs, gradients, strict=True):
        if gradient is not None:
            product = out.detach() * gradient
            product = product.flatten(2).sum(2) if out.dim() > 2 else product
            total += float(product.mean(0).square().sum()) * len(x) ** 2 / 2.0
    return total


def jacobian_covariance(module: nn.Module, x: Tensor, y: Tensor) -> float:
    """- sum of log(v + k) + 1 / (v + k), v the eigenvalues of the correlation of input gradients."""
    net = _check(module, x, y)
    inputs = x.detach().clone().requires_grad_(True)
    (jacobian,) = torch.autograd.grad(net(inputs).sum(), inputs)
    rows = jacobian.flatten(1).double().numpy()
    centred = rows - rows.mean(axis=1, keepdims=True)
    length = np.sqrt((centred**2).sum(axis=1, keepdims=True))
    unit = np.divide(centred, length, out=np.zeros_like(centred), where=length > 0)
    eigenvalues = np.maximum(np.linalg.eigvalsh(unit @ unit.T), 0.0) + 1e-5
    return float(-np.sum(np.log(eigenvalues) + 1.0 / eigenvalues))


def naswot(module: nn.Module, x: Tensor, y: Tensor) -> float:
    """log |det K|, K[i, j] = how many ReLU units agree on being active for inputs i and j."""
    net = _check(module, x, y)
    codes: list[Tensor] = []
    for layer in net.modules():
        if isinstance(layer, nn.ReLU | nn.ReLU6 | nn.LeakyReLU):
            layer.register_forward_hook(
                lambda _layer, inputs, _out: codes.append((inputs[0] > 0).flatten(1).double())
            )
            layer.inplace = False
    with torch.no_grad():
        net(x)
    if not codes:
        raise PredictorError("NASWOT found no ReLU module; use another proxy")
    code = torch.cat(codes, dim=1)
    kernel = code @ code.T + (1.0 - code) @ (1.0 - code).T
    # Identical codes make the kernel singular: a small ridge keeps the rank of bad networks finite.
    return float(torch.linalg.slogdet(kernel + 1e-3 * torch.eye(len(x)).double())[1])


PROXIES: Mapping[str, Callable[[nn.Module, Tensor, Tensor], float]] = {
    "synflow": synflow,
    "fisher": fisher,
    "snip": snip,
    "grad_norm": grad_norm,
    "jacobian_covariance": jacobian_covariance,
    "naswot": naswot,
}


def score_modules(
    modules: Sequence[nn.Module], x: Tensor, y: Tensor, names: Sequence[str] = tuple(PROXIES)
) -> dict[str, Floats]:
    """Score classifiers with several proxies.

    Args:
        modules: n untrained classifiers.
        x: a batch of inputs, [b, ...].
        y: int64[b], classes.
        names: which proxies.

    Returns:
        float64[n] per proxy, and under "vote" the vote of those asked for.
    """
    for name in names:
        if name not in PROXIES:
            raise PredictorError(unknown_name("proxy", name, PROXIES))
    scores = {name: np.array([PROXIES[name](m, x, y) for m in modules]) for name in names}
    return {**scores, "vote": vote(scores)}


def vote(scores: Mapping[str, Floats]) -> Floats:
    """Return for each network the share of other networks that most proxies rank below it.

    Pairwise majority (the vote of Abdelfattah et al.): network i beats j when more proxies put i
    above j than below; ties count half.
    """
    if not scores:
        raise PredictorError("nobody votes; name at least one proxy")
    ranks = np.stack([rankdata(values) for values in scores.values()])
    n = ranks.shape[1]
    balance = np.sign(ranks[:, :, None] - ranks[:, None, :]).sum(axis=0)
    wins = (balance > 0) + 0.5 * (balance == 0)
    np.fill_diagonal(wins, 0.0)
    return np.asarray(wins.sum(axis=1) / max(1, n - 1))


def score_by_training(
    modules: Sequence[nn.Module], score_after: Callable[[nn.Module], float]
) -> Floats:
    """Score networks by what a caller measures: a few epochs of training, or supernet weights.

    Args:
        modules: n classifiers, or whatever `score_after` takes.
        score_after: trains for a few epochs and validates, or evaluates with shared weights.

    Returns:
        float64[n], checked to be finite.
    """
    values = np.array([score_after(module) for module in modules], np.float64)
    if not np.isfinite(values).all():
        bad = int(np.flatnonzero(~np.isfinite(values))[0])
        raise PredictorError(
            f"network {bad} was scored {values[bad]}; its training diverged: lower the learning rate"
        )
    return values
