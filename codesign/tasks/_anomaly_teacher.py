"""A floating-point autoencoder whose reconstruction error a small network learns to repeat.

The way of CICADA (a large autoencoder teaches a small network its anomaly score): the student answers
one number, so nothing of the decoder reaches the hardware.  The teacher sees background only.
"""

import numpy as np
import torch
from numpy.typing import NDArray

_HIDDEN, _BOTTLENECK = 48, 6
_EPOCHS, _BATCH_SIZE, _LEARNING_RATE = 40, 256, 3e-3


def anomaly_scores(
    x_train: NDArray[np.float32], x: NDArray[np.float32], *, seed: int = 1, n_members: int = 3
) -> NDArray[np.float32]:
    """Train autoencoders on `x_train` and return how badly they reconstruct `x`.

    Inputs are standardised by `x_train`.  The score is log2 of the mean squared error, averaged over
    members with other initial weights: a logarithm, because errors span decades.

    Args:
        x_train: float32[n_train, n_features], background only.
        x: float32[n, n_features].
        seed: of weights and batches.
        n_members: autoencoders, trained together.

    Returns:
        float32[n].
    """
    mean, spread = x_train.mean(axis=0), x_train.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    rows = torch.from_numpy(((x_train - mean) / spread).astype(np.float32))
    generator = torch.Generator().manual_seed(seed)
    widths = (x_train.shape[1], _HIDDEN, _BOTTLENECK, _HIDDEN, x_train.shape[1])
    weights = [
        torch.nn.Parameter(torch.randn(n_members, a, b, generator=generator) * (2.0 / a) ** 0.5)
        for a, b in zip(widths[:-1], widths[1:], strict=True)
    ]
    biases = [torch.nn.Parameter(torch.zeros(n_members, 1, b)) for b in widths[1:]]

    def errors(values: torch.Tensor) -> torch.Tensor:
        found = values.expand(n_members, -1, -1)
        for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            found = torch.baddbmm(bias, found, weight)
            if i in (0, 2):
                found = torch.relu(found)
        return (found - values).square().mean(dim=2)

    optimiser = torch.optim.Adam([*weights, *biases], lr=_LEARNING_RATE)
    n_batches = max(1, len(rows) // _BATCH_SIZE)
    rate = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=_LEARNING_RATE, total_steps=_EPOCHS * n_batches, cycle_momentum=False
    )
    for _ in range(_EPOCHS):
        order = torch.randperm(len(rows), generator=generator)
        for batch in range(n_batches):
            chosen = order[batch * _BATCH_SIZE : (batch + 1) * _BATCH_SIZE]
            loss = errors(rows[chosen]).mean(dim=1).sum()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            rate.step()
    with torch.no_grad():
        scaled = torch.from_numpy(((x - mean) / spread).astype(np.float32))
        parts = [errors(part) for part in torch.split(scaled, 8192)]
    return np.asarray(torch.log2(torch.cat(parts, dim=1).clamp_min(1e-9)).mean(dim=0).numpy())
