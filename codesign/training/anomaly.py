"""Training of networks whose output is an anomaly score: on background only, without any label.

What is minimised follows from how a network ends (`codesign/space/templates/autoencoder.py`), for x of F
scaled inputs, batch means E, and a decoder in floating point that stays behind:

- the error of its own reconstruction: E score;
- the squares of a latent z: a variational encoder with a variance per latent (not per event, so that the
  means are all that the encoder gives) and a calibrated decoder d, so that no weight is chosen by hand
  (Kingma and Welling, arXiv 1312.6114; Rybkin et al., arXiv 2006.13202):
  F/2 log E |x - d(z + noise)|^2 + KL(z, noise || normal);
- the error of features h of H elements: that h holds the inputs, and is rebuilt in units of its spread, so
  that features neither vanish nor shrink: F/2 log E |x - d(h)|^2 + H/2 log (E score / spread of h).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from codesign.errors import DesignError
from codesign.ir import Network

_HIDDEN = 32
_FLOOR = 1e-6
#: Layers that hold the inputs as they are.
_INPUTS = ("input", "flatten")

Form = Literal["latent", "reconstruction", "features", "distance"]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """How a network ends.

    Attributes:
        form: what its score is.
        tapped: node that the decoder reads: the latent or the features; None where there is no decoder.
        power: 2 where the score sums squares, 1 where it sums magnitudes.
    """

    form: Form
    tapped: str | None
    power: int


def evidence_of(network: Network) -> Evidence:
    """Return how a network ends.

    Raises:
        DesignError: its output is no sum of squares or magnitudes.
    """
    at, nodes = network.nodes[-1], []
    for layers in (("linear",), ("sum_elements",), ("square", "absolute")):
        if at.layer not in layers:
            raise DesignError(
                f"{at.name}: an anomaly score is trained without labels, so the network must end in a sum of squares or"
                f" magnitudes, rounded once, but this is a {at.layer} node; use template autoencoder"
            )
        nodes.append(at)
        at = network.node(at.inputs[0])
    power = 2 if nodes[-1].layer == "square" else 1
    if at.layer in _INPUTS:
        return Evidence(form="distance", tapped=None, power=power)
    if at.layer != "subtract":
        return Evidence(form="latent", tapped=at.name, power=power)
    compared = network.node(at.inputs[0])
    if compared.layer in _INPUTS:
        return Evidence(form="reconstruction", tapped=None, power=power)
    return Evidence(form="features", tapped=compared.name, power=power)


class AnomalyLoss(torch.nn.Module):
    """The losses of k networks, with the decoders of those that need one.

    Args:
        evidence: how each network ends.
        widths: of each network's tapped node, 0 where it has none.
        n_inputs: inputs that decoders rebuild.
        seeds: per network, of its decoder.
    """

    is_tapped: torch.Tensor
    is_latent: torch.Tensor
    is_square: torch.Tensor
    mask: torch.Tensor

    def __init__(
        self,
        evidence: Sequence[Evidence],
        *,
        widths: Sequence[int],
        n_inputs: int,
        seeds: Sequence[int],
    ) -> None:
        super().__init__()
        self._n_inputs = n_inputs
        rows = [i for i, e in enumerate(evidence) if e.tapped is not None]
        of_tapped = [evidence[i] for i in rows]
        flags = {
            "is_tapped": [e.tapped is not None for e in evidence],
            "is_latent": [e.form == "latent" for e in of_tapped],
            "is_square": [e.power == 2 for e in of_tapped],
        }
        for name, values in flags.items():
            self.register_buffer(name, torch.tensor(values, dtype=torch.bool), persistent=False)
        width = max([widths[i] for i in rows], default=1)
        lanes = torch.arange(width)[None] < torch.tensor([widths[i] for i in rows])[:, None]
        self.register_buffer("mask", lanes.to(torch.float32), persistent=False)
        self.log_variance = torch.nn.Parameter(torch.full((len(rows), width), -2.0))
        shapes = ((_HIDDEN, width), (n_inputs, _HIDDEN))
        weights = [
            torch.stack([_initial(seeds[i] + 7919 * layer, shape) for i in rows])
            if rows
            else torch.zeros(0, *shape)
            for layer, shape in enumerate(shapes)
        ]
        self.weights = torch.nn.ParameterList(weights)
        self.biases = torch.nn.ParameterList(torch.zeros(len(rows), n, 1) for n, _ in shapes)
        self._noise = torch.Generator().manual_seed(sum(seeds) % 2**63)

    @staticmethod
    def targets(y: NDArray[Any], x: NDArray[np.float32]) -> torch.Tensor:
        """Return what is rebuilt, float32[n_inputs, n]; of rows [n, *task shape]."""
        return torch.from_numpy(np.ascontiguousarray(x.reshape(len(x), -1).T))

    def forward(
        self,
        outputs: torch.Tensor,
        inputs: torch.Tensor,
        tapped: torch.Tensor,
        weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the loss of each network, float32[k].

        Args:
            outputs: float32[k, 1, batch], scores.
            inputs: float32[n_inputs, batch].
            tapped: float32[n_tapped, width, batch], what tapped nodes say.
            weights: float32[batch], 1 on average; None weighs all events alike.
        """
        share = torch.full_like(inputs[0], 1.0) if weights is None else weights
        share = share / share.sum()
        score = outputs[:, 0] @ share
        if not len(tapped):
            return score
        values = tapped[:, : self.mask.shape[1]] * self.mask[:, :, None]
        mean = (values @ share)[:, :, None]
        latent = self.is_latent.to(values.dtype)[:, None]
        spread = torch.exp(0.5 * self.log_variance) * self.mask * latent
        noise = torch.randn(values.shape[1:], generator=self._noise).to(values.device)
        hidden = torch.relu(
            torch.baddbmm(self.biases[0], self.weights[0], values + spread[:, :, None] * noise)
        )
        rebuilt = torch.baddbmm(self.biases[1], self.weights[1], hidden)
        error = ((rebuilt - inputs).square().mean(dim=1)) @ share
        loss = 0.5 * self._n_inputs * torch.log(error + _FLOOR)
        divergence = 0.5 * (
            (values.square() @ share) + self.log_variance.exp() - 1.0 - self.log_variance
        )
        away = values - mean
        size = torch.where(self.is_square[:, None, None], away.square(), away.abs())
        scale = (size @ share).sum(dim=1)
        unexplained = score[self.is_tapped] / (scale + _FLOOR)
        lanes = self.mask.sum(dim=1)
        loss = loss + torch.where(
            self.is_latent,
            (divergence * self.mask).sum(dim=1),
            0.5 * lanes * torch.log(unexplained + _FLOOR),
        )
        return torch.Tensor.masked_scatter(score, self.is_tapped, loss)


def _initial(seed: int, shape: tuple[int, int]) -> torch.Tensor:
    """Return weights of variance 2 / inputs (He et al., arXiv 1502.01852)."""
    generator = torch.Generator().manual_seed(seed % 2**63)
    scale = float((2.0 / shape[1]) ** 0.5)
    return torch.randn(shape, generator=generator) * scale
