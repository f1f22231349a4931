"""One set of weights for every multilayer perceptron of a space: what weight sharing needs.

`ElasticMLP` holds the largest network.  Each searched gene (depth, and per block width, activation,
weight and result precision) is a *gate*, a vector of weights over the gene's values: one-hot for a
single sub-network, a probability vector for a mixture.  Several sub-networks run at once as lanes,
and there the pruned fractions and the input's precision are free too.  All other genes keep the
values of a base genome.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from codesign.errors import DesignError
from codesign.search.problem import Genomes
from codesign.space.space import SearchSpace

#: Gates of one network or mixture: float32[n_values] by gene index.
Gates = Mapping[int, torch.Tensor]
#: Mean and variance of every block's dense outputs.
Statistics = list[tuple[torch.Tensor, torch.Tensor]]

_BLOCK_GENES: Final = ("width", "activation", "weight_bits", "result_bits")
_EPSILON: Final = 1e-5
#: As in `codesign.layers.leaky_relu`: 2 ** -3.
_LEAKY_SLOPE: Final = 0.125
_ACTIVATIONS: Final[Mapping[str, Callable[[torch.Tensor], torch.Tensor]]] = {
    "relu": torch.relu,
    "leaky_relu": lambda x: torch.nn.functional.leaky_relu(x, _LEAKY_SLOPE),
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}
#: Operators whose results can be negative.
_SIGNED: Final = frozenset({"leaky_relu", "tanh"})


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where the searched genes of an MLP space are, and what their values mean.

    Attributes:
        base: int64[n_var], the values of all genes that are not searched.
        index: column of each gene by name.
        values: domain of each gene by name.
        n_blocks: hidden layers of the deepest network.
        n_inputs, n_outputs: of the task.
    """

    base: NDArray[np.int64]
    index: Mapping[str, int]
    values: Mapping[str, tuple[int | float | str, ...]]
    n_blocks: int
    n_inputs: int
    n_outputs: int

    @property
    def searched(self) -> tuple[str, ...]:
        """Names of the searched genes: depth first, then block by block, then the head."""
        blocks = [f"{name}_{k}" for k in range(1, self.n_blocks + 1) for name in _BLOCK_GENES]
        return ("depth", *blocks, "weight_bits_head")

    @property
    def elastic(self) -> tuple[str, ...]:
        """Names of the genes that may differ from lane to lane: the searched ones and these."""
        layers = [*range(1, self.n_blocks + 1), "head"]
        return (*self.searched, "input_bits", *(f"pruned_fraction_{k}" for k in layers))

    @property
    def columns(self) -> NDArray[np.int64]:
        """int64[n_searched], columns of the searched genes."""
        return np.array([self.index[name] for name in self.searched])

    @property
    def elastic_columns(self) -> NDArray[np.int64]:
        """int64[n_elastic], columns of the elastic genes."""
        return np.array([self.index[name] for name in self.elastic])

    @property
    def max_width(self) -> int:
        """Width of the widest hidden layer."""
        return int(max(self.values["width_1"]))

    def one_hot(self, genome: NDArray[np.int64]) -> dict[int, torch.Tensor]:
        """Return the gates of one sub-network."""
        gates = {}
        for name in self.searched:
            column = self.index[name]
            gate = torch.zeros(len(self.values[name]))
            gate[int(genome[column])] = 1.0
            gates[column] = gate
        return gates


def layout_of(space: SearchSpace, base: NDArray[np.int64]) -> Layout:
    """Find the searched genes of an MLP space.

    Args:
        space: of the template `mlp`.
        base: int64[n_var]; its skip genes must say "none".

    Raises:
        DesignError: a gene is missing, or the base has skips, which share no weights.
    """
    index = {gene.name: i for i, gene in enumerate(space.genes)}
    values = {gene.name: gene.domain for gene in space.genes}
    if "depth" not in values:
        raise DesignError(
            f"space {space.name!r} has no depth gene; weight sharing needs an MLP space"
        )
    n_blocks = int(max(float(v) for v in values["depth"]))
    for k in range(1, n_blocks + 1):
        skip = values[f"skip_{k}"][int(base[index[f"skip_{k}"]])]
        if skip != "none":
            raise DesignError(
                f"the base genome has skip_{k} = {skip!r}; weight sharing takes plain chains; "
                "choose a base whose skips are 'none'"
            )
    layout = Layout(
        base=base.copy(),
        index=index,
        values=values,
        n_blocks=n_blocks,
        n_inputs=space.n_inputs,
        n_outputs=space.n_outputs,
    )
    missing = [name for name in layout.elastic if name not in index]
    if missing:
        raise DesignError(f"space {space.name!r} lacks the genes {', '.join(missing)}")
    return layout


def plain_base(space: SearchSpace) -> NDArray[np.int64]:
    """Return a base genome: the greatest value of every ordered gene, no skips, no pruning, RTL.

    Batch norm is on where the space has it: shared weights need it, and it folds away for free.
    """
    wanted = {"skip": "none", "pruned_fraction": 0.0, "flow": "rtl", "batch_norm": 1}
    base = np.zeros(len(space.genes), dtype=np.int64)
    for i, gene in enumerate(space.genes):
        stem = gene.name.rsplit("_", 1)[0] if gene.name[-1].isdigit() else gene.name
        stem = stem.removesuffix("_head")
        if stem in wanted and wanted[stem] in gene.domain:
            base[i] = gene.domain.index(wanted[stem])
        elif stem in ("input_bits", "output_bits", "clock_mhz"):
            base[i] = len(gene.domain) - 1
    return base


def quantize(
    values: torch.Tensor,
    bits: float,
    *,
    is_signed: bool = True,
    kept: torch.Tensor | None = None,
) -> torch.Tensor:
    """Round to a fixed-point grid of so many bits; see `quantize_lanes`, of which this is one lane."""
    lane_kept = None if kept is None else kept[None]
    signed = torch.tensor([is_signed])
    return quantize_lanes(values[None], torch.tensor([bits]), is_signed=signed, kept=lane_kept)[0]


def quantize_lanes(
    values: torch.Tensor,
    bits: torch.Tensor,
    *,
    is_signed: torch.Tensor | None = None,
    kept: torch.Tensor | None = None,
) -> torch.Tensor:
    """Round every lane to its own fixed-point grid; the gradient passes straight through.

    The range is the least power of two that covers 2.5 root mean squares or the largest magnitude,
    whichever is less: at three bits a range for the rarest value would leave no steps for the rest.
    There is no gradient where a value saturates.

    Args:
        values: float32[s, ...].
        bits: float32[s].
        is_signed: bool[s]; None: all are.
        kept: float32[s, ...], broadcastable, 0 where a channel is absent: it has no say in the
            range.
    """
    frozen = values.detach()
    axes = tuple(range(1, values.dim()))
    shape = (-1,) + (1,) * len(axes)
    present = torch.ones(()) if kept is None else kept.detach()
    present = present.expand_as(frozen)
    count = present.sum(dim=axes).clamp_min(1e-6)
    spread = 2.5 * ((frozen.square() * present).sum(dim=axes) / count).sqrt()
    reach = torch.where(present > 0, frozen.abs(), 0.0).amax(dim=axes)
    largest = torch.minimum(reach, spread).clamp_min(2.0**-20)
    signed = torch.ones_like(bits) if is_signed is None else is_signed.to(bits.dtype)
    magnitude_bits = bits - signed
    step = torch.exp2(torch.ceil(torch.log2(largest)) - magnitude_bits).view(shape)
    top = (torch.exp2(magnitude_bits) - 1.0).view(shape) * step
    bottom = -(top + step) * signed.view(shape)
    rounded = torch.minimum(torch.maximum(torch.round(frozen / step) * step, bottom), top)
    inside = torch.minimum(torch.maximum(values, bottom), top)
    return inside + (rounded - inside).detach()


def mix_quantized(
    values: torch.Tensor,
    gate: torch.Tensor,
    bits: tuple[float, ...],
    *,
    is_signed: bool = True,
    kept: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the gate-weighted sum of `values` at each precision."""
    if gate.requires_grad or bool((gate > 0).sum() > 1):
        every = [quantize(values, b, is_signed=is_signed, kept=kept) for b in bits]
        return torch.stack(every, dim=-1) @ gate
    return quantize(values, bits[int(gate.argmax())], is_signed=is_signed, kept=kept)


def prune_lanes(weights: torch.Tensor, fractions: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """Zero the smallest weights of every lane; the others keep value and gradient.

    Args:
        weights: float32[s, n_out, n_in].
        fractions: float32[s], share of the present weights that is zeroed, 0..1.
        kept: float32[s, n_out, n_in], 0 where a channel is absent.
    """
    if not bool((fractions > 0).any()):
        return weights
    magnitude = torch.where(kept > 0, weights.detach().abs(), torch.inf).flatten(1)
    n_zero = (fractions * kept.flatten(1).sum(dim=1)).long()
    ascending = magnitude.sort(dim=1).values
    last = ascending.gather(1, (n_zero - 1).clamp_min(0)[:, None])
    threshold = torch.where(n_zero[:, None] > 0, last, -1.0)
    return weights * (magnitude > threshold).view_as(weights)


class ElasticMLP(torch.nn.Module):
    """The largest network of a layout, of which every other one is a part."""

    masks: torch.Tensor

    def __init__(self, layout: Layout, *, seed: int) -> None:
        super().__init__()
        self.layout = layout
        generator = torch.Generator().manual_seed(seed)
        width = layout.max_width

        def weights(n_out: int, n_in: int) -> torch.nn.Parameter:
            drawn = torch.randn(n_out, n_in, generator=generator) * (1.5 / n_in) ** 0.5
            return torch.nn.Parameter(drawn)

        sizes = [layout.n_inputs] + [width] * (layout.n_blocks - 1)
        self.blocks = torch.nn.ParameterList([weights(width, n_in) for n_in in sizes])
        # operators share the matrices but not the scales; depths do not share the head
        n_operators = len(layout.values["activation_1"])
        self.gains = torch.nn.ParameterList([torch.ones(n_operators, width) for _ in sizes])
        self.shifts = torch.nn.ParameterList([torch.zeros(n_operators, width) for _ in sizes])
        depths = layout.values["depth"]
        self.heads = torch.nn.ParameterList([weights(layout.n_outputs, width) for _ in depths])
        self.head_biases = torch.nn.ParameterList([torch.zeros(layout.n_outputs) for _ in depths])
        ladder = torch.tensor([float(v) for v in layout.values["width_1"]])
        masks = (torch.arange(width)[None, :] < ladder[:, None]).float()
        self.register_buffer("masks", masks)

    def forward(
        self, inputs: torch.Tensor, gates: Gates, statistics: Statistics | None = None
    ) -> tuple[torch.Tensor, Statistics]:
        """Run a sub-network or mixture.

        Args:
            inputs: float32[n, n_inputs], standardised.
            gates: one per searched gene.
            statistics: batch-norm statistics; None takes the batch's own.

        Returns:
            Logits float32[n, n_outputs] and the statistics used.
        """
        layout = self.layout
        bits_in = float(layout.values["input_bits"][int(layout.base[layout.index["input_bits"]])])
        signal = quantize(inputs.clamp(-8.0, 8.0), bits_in)
        depth_gate = gates[layout.index["depth"]]
        depths = [int(v) for v in layout.values["depth"]]
        # with a gradient every depth is run: a sampled gate of 0 must learn what it would have done
        deepest = max(
            d
            for d, g in zip(depths, depth_gate.tolist(), strict=True)
            if g > 0 or depth_gate.requires_grad
        )
        logits = torch.zeros(())
        mask = torch.ones(layout.n_inputs)
        used: Statistics = []
        for k in range(1, deepest + 1):
            given = None if statistics is None else statistics[k - 1]
            signal, mask, seen = self._block(k, signal, mask, gates, given)
            used.append(seen)
            if k in depths and (depth_gate.requires_grad or float(depth_gate[depths.index(k)]) > 0):
                i_depth = depths.index(k)
                logits = logits + depth_gate[i_depth] * self._answer(i_depth, signal, mask, gates)
        return logits, used

    def _answer(
        self, i_depth: int, signal: torch.Tensor, mask: torch.Tensor, gates: Gates
    ) -> torch.Tensor:
        head = mix_quantized(
            self.heads[i_depth],
            gates[self.layout.index["weight_bits_head"]],
            self._bits("weight_bits_head"),
            kept=mask[None, :],
        )
        answer: torch.Tensor = signal @ head.T + self.head_biases[i_depth]
        return answer

    def run_lanes(
        self, inputs: torch.Tensor, genomes: Genomes, statistics: Statistics | None = None
    ) -> tuple[torch.Tensor, Statistics]:
        """Run several sub-networks at once, one per lane.

        Args:
            inputs: float32[s, n, n_inputs], rows of each lane.
            genomes: int64[s, n_var].
            statistics: batch-norm statistics of every lane; None takes each lane's own batch.

        Returns:
            Logits float32[s, n, n_outputs] and the statistics used.
        """
        layout = self.layout
        column = {name: genomes[:, layout.index[name]] for name in layout.elastic}
        signal = quantize_lanes(inputs.clamp(-8.0, 8.0), self._lane_values("input_bits", column))
        depths = [int(v) for v in layout.values["depth"]]
        head_bits = self._lane_values("weight_bits_head", column)
        head_pruned = self._lane_values("pruned_fraction_head", column)
        logits = torch.zeros(inputs.shape[0], inputs.shape[1], layout.n_outputs)
        mask = torch.ones(inputs.shape[0], layout.n_inputs)
        used: Statistics = []
        for k in range(1, max(depths[i] for i in column["depth"]) + 1):
            given = None if statistics is None else statistics[k - 1]
            signal, mask, seen = self._lane_block(k, signal, mask, column, given)
            used.append(seen)
            if k not in depths:
                continue
            i_depth = depths.index(k)
            lanes = torch.from_numpy(np.flatnonzero(column["depth"] == i_depth))
            if len(lanes) == 0:
                continue
            shared = self.heads[i_depth].expand(len(lanes), -1, -1)
            kept = mask[lanes][:, None, :].expand_as(shared)
            shared = prune_lanes(shared, head_pruned[lanes], kept)
            head = quantize_lanes(shared, head_bits[lanes], kept=kept)
            answer = torch.bmm(signal[lanes], head.transpose(1, 2)) + self.head_biases[i_depth]
            logits = logits.index_copy(0, lanes, answer)
        return logits, used

    def _lane_values(self, name: str, column: Mapping[str, NDArray[np.int64]]) -> torch.Tensor:
        return torch.tensor(self._bits(name))[torch.from_numpy(column[name])]

    def _lane_block(
        self,
        k: int,
        signal: torch.Tensor,
        mask_before: torch.Tensor,
        column: Mapping[str, NDArray[np.int64]],
        given: tuple[torch.Tensor, torch.Tensor] | None,
    ) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        shared = self.blocks[k - 1].expand(signal.shape[0], -1, -1)
        mask = self.masks[torch.from_numpy(column[f"width_{k}"])]
        kept = mask[:, :, None] * mask_before[:, None, :]
        shared = prune_lanes(shared, self._lane_values(f"pruned_fraction_{k}", column), kept)
        weight = quantize_lanes(shared, self._lane_values(f"weight_bits_{k}", column), kept=kept)
        dense = torch.bmm(signal, weight.transpose(1, 2))
        if given is None:
            mean = dense.mean(dim=1, keepdim=True)
            variance = dense.var(dim=1, unbiased=False, keepdim=True)
        else:
            mean, variance = given
        operator = torch.from_numpy(column[f"activation_{k}"])
        gain, shift = self.gains[k - 1][operator], self.shifts[k - 1][operator]
        normal = (dense - mean) * torch.rsqrt(variance + _EPSILON)
        normal = normal * gain[:, None, :] + shift[:, None, :]
        names = [str(v) for v in self.layout.values[f"activation_{k}"]]
        active = normal
        for i in np.unique(column[f"activation_{k}"]).tolist():
            lanes = torch.from_numpy(np.flatnonzero(column[f"activation_{k}"] == i))
            active = active.index_copy(0, lanes, _ACTIVATIONS[names[i]](normal[lanes]))
        signed = torch.tensor([name in _SIGNED for name in names])[operator]
        rounded = quantize_lanes(
            active,
            self._lane_values(f"result_bits_{k}", column),
            is_signed=signed,
            kept=mask[:, None, :],
        )
        return rounded * mask[:, None, :], mask, (mean.detach(), variance.detach())

    def _bits(self, name: str) -> tuple[float, ...]:
        return tuple(float(v) for v in self.layout.values[name])

    def _block(
        self,
        k: int,
        signal: torch.Tensor,
        mask_before: torch.Tensor,
        gates: Gates,
        given: tuple[torch.Tensor, torch.Tensor] | None,
    ) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        index = self.layout.index
        mask = gates[index[f"width_{k}"]] @ self.masks
        weight = mix_quantized(
            self.blocks[k - 1],
            gates[index[f"weight_bits_{k}"]],
            self._bits(f"weight_bits_{k}"),
            kept=mask[:, None] * mask_before[None, :],
        )
        dense = signal @ weight.T
        mean, variance = given or (dense.mean(dim=0), dense.var(dim=0, unbiased=False))
        normal = (dense - mean) * torch.rsqrt(variance + _EPSILON)
        gate = gates[index[f"activation_{k}"]]
        rounded = torch.zeros(())
        for i, name in enumerate(self.layout.values[f"activation_{k}"]):
            if not gate.requires_grad and float(gate[i]) == 0:
                continue
            scaled = normal * self.gains[k - 1][i] + self.shifts[k - 1][i]
            rounded = rounded + gate[i] * mix_quantized(
                _ACTIVATIONS[str(name)](scaled),
                gates[index[f"result_bits_{k}"]],
                self._bits(f"result_bits_{k}"),
                is_signed=str(name) in _SIGNED,
                kept=mask[None, :],
            )
        return rounded * mask, mask, (mean.detach(), variance.detach())


def complete(layout: Layout, choices: Genomes, columns: NDArray[np.int64] | None = None) -> Genomes:
    """Put genes int64[n, k] into the base genome: int64[n, n_var].

    Args:
        layout: has the base.
        choices: values of the genes.
        columns: int64[k], which genes; None: the searched ones.
    """
    genomes = np.repeat(layout.base[None, :], len(choices), axis=0)
    genomes[:, layout.columns if columns is None else columns] = choices
    return genomes
