"""Networks that compute an anomaly score of their own inputs, as triggers do it.

input -> blocks -> dense -> linear (the latent), where a block is dense -> [batch norm] -> activation.
Then, by gene `score`:

- "latent": the sum of squares of the latent: the means of a variational encoder, of which nothing but
  the encoder reaches the hardware (AXOL1TL, versions 1 to 4);
- "reconstruction": the same blocks mirrored -> dense -> linear, and the sum of squares or magnitudes of
  what is left of the inputs (autoencoders: 57-16-3-16-57 of arXiv 2108.03986);
- "features": the same, but what is rebuilt, and compared, is what the first block says (version 5);
- "distance": no layer at all, the sum of squares or magnitudes of the inputs themselves: how far an event is from the mean
  of the scaled background.  Whatever is trained has to be better than this, at its cost.

The score is rounded once, at the end; all between are exact.

Genes (all indices into the YAML's domains): depth, latent, score, error ("square" or "absolute"),
input_bits, output_bits, flow, clock_mhz; per block width, activation, batch_norm, result_bits, weight_bits,
pruned_fraction, strategy, reuse_factor; for its mirror image (`_decoder_k`), the latent (`_latent`) and what
is rebuilt (`_rebuilt`) result_bits, weight_bits, pruned_fraction, strategy, reuse_factor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from codesign.errors import ConfigError
from codesign.ir import Population
from codesign.layers import LAYERS
from codesign.space.templates import TEMPLATES
from codesign.space.templates._shared import (
    HARDWARE,
    OPTIONAL,
    GeneTable,
    PopulationBuilder,
    greatest,
)
from codesign.space.templates.base import Gene, Template, Value

_GLOBAL = (
    "depth",
    "latent",
    "score",
    "error",
    "input_bits",
    "output_bits",
    "flow",
    "clock_mhz",
)
_PLAIN = ("result_bits", *HARDWARE)
_BLOCK = ("width", "activation", "batch_norm", *_PLAIN)
_SCORES = ("latent", "reconstruction", "features", "distance")
_ERRORS = ("square", "absolute")

Widths = NDArray[np.int64]


class Autoencoder(Template):
    """Encoders whose latent, or whose error of reconstruction, is an anomaly score on the chip."""

    name = "autoencoder"
    domain_names = (*_GLOBAL, *_BLOCK)
    optional_domain_names = OPTIONAL

    def __init__(
        self,
        domains: Mapping[str, Sequence[Value]],
        *,
        input_shape: tuple[int, ...],
        n_outputs: int,
    ) -> None:
        if n_outputs != 1:
            raise ConfigError(
                f"template autoencoder computes one score, the task wants {n_outputs} outputs; give the task one head"
                " of kind anomaly, or choose template mlp"
            )
        self._input_shape = input_shape
        self._n_inputs = math.prod(input_shape)
        self._n_blocks = greatest(domains, "depth")
        genes = {name: name for name in _GLOBAL}
        for k in range(1, self._n_blocks + 1):
            genes |= {f"{name}_{k}": name for name in _BLOCK}
            genes |= {f"{name}_decoder_{k}": name for name in _PLAIN}
        for suffix in ("latent", "rebuilt"):
            genes |= {f"{name}_{suffix}": name for name in _PLAIN}
        self._table = GeneTable.build(domains, genes, {"score": _SCORES, "error": _ERRORS})

    @property
    def genes(self) -> tuple[Gene, ...]:
        return self._table.genes

    def _present(self, genomes: NDArray[np.int64]) -> dict[str, NDArray[np.bool_]]:
        """Say which dense layers there are, bool[n] each, in the order of the data, by suffix of its genes."""
        table = self._table
        is_trained = ~table.holds(genomes, "score", "distance")
        depth = np.where(is_trained, table.numbers(genomes, "depth"), 0)
        rebuilds = table.holds(genomes, "score", "reconstruction", "features")
        rebuilds_inputs = table.holds(genomes, "score", "reconstruction")
        encoder = {str(k): depth >= k for k in range(1, self._n_blocks + 1)}
        decoder = {
            # what rebuilds the first block's features stands in for its mirror image
            f"decoder_{k}": (depth >= k) & (rebuilds if k > 1 else rebuilds_inputs)
            for k in range(self._n_blocks, 0, -1)
        }
        return encoder | {"latent": is_trained} | decoder | {"rebuilt": rebuilds}

    def _widths(self, genomes: NDArray[np.int64]) -> dict[str, Widths]:
        """Return how many values every dense layer writes, int64[n] each, by suffix of its genes."""
        table = self._table
        found: dict[str, Widths] = {}
        for k in range(1, self._n_blocks + 1):
            width = table.numbers(genomes, f"width_{k}").astype(np.int64)
            found |= {str(k): width, f"decoder_{k}": width}
        inputs = np.full(len(genomes), self._n_inputs)
        return found | {
            "latent": table.numbers(genomes, "latent").astype(np.int64),
            "rebuilt": np.where(table.holds(genomes, "score", "features"), found["1"], inputs),
        }

    def canonicalize(self, genomes: NDArray[np.int64]) -> NDArray[np.int64]:
        table, out = self._table, genomes.copy()
        for suffix, present in self._present(out).items():
            names = _BLOCK if suffix.isdigit() else _PLAIN
            table.clear(out, ~present, *(f"{name}_{suffix}" for name in names))
        table.clear(out, table.holds(out, "score", "latent"), "error")
        table.clear(out, table.holds(out, "score", "distance"), "depth", "latent")
        widths, width = self._widths(out), np.full(len(out), self._n_inputs)
        for suffix, present in self._present(out).items():
            table.clear_hardware(out, suffix, n_in=width, n_out=widths[suffix])
            width = np.where(present, widths[suffix], width)
        return out

    def decode(self, genomes: NDArray[np.int64]) -> Population:
        table, n = self._table, len(genomes)
        codes = {name: i for i, name in enumerate(LAYERS.names())}
        builder, everyone = PopulationBuilder(n, codes), np.ones(n, dtype=bool)
        present, widths = self._present(genomes), self._widths(genomes)
        tip = builder.flat_input(self._input_shape, table.numbers(genomes, "input_bits"))
        features = table.holds(genomes, "score", "features")
        linear = np.full(n, codes["linear"])
        compared = tip
        for suffix, is_here in present.items():
            tip = builder.add(
                is_here,
                "dense",
                [tip],
                n_out=widths[suffix].astype(np.float64),
                **table.hardware(genomes, suffix),
            )
            # mirrored blocks, and rebuilt features, are normalised and activated as what they mirror
            block = suffix.rpartition("_")[2]
            activation = linear
            if suffix == "rebuilt" or block.isdigit():
                number = block if block.isdigit() else "1"
                like = features if suffix == "rebuilt" else everyone
                chosen = table.activation_codes(genomes, f"activation_{number}", codes)
                activation = np.where(like, chosen, linear)
                normalised = table.numbers(genomes, f"batch_norm_{number}") > 0
                tip = builder.add(is_here & normalised & like, "batch_norm", [tip])
            bits = table.numbers(genomes, f"result_bits_{suffix}")
            tip = builder.add(is_here, activation, [tip], output_bits=bits)
            if suffix == "1":
                compared = np.where(features, tip, compared)
        rebuilds = present["rebuilt"]
        # `add` passes its first input through where there is no node: the rebuilt one, not the compared
        difference = builder.add(rebuilds, "subtract", [compared, tip])
        tip = np.where(rebuilds, difference, tip)
        squares = table.holds(genomes, "score", "latent") | table.holds(genomes, "error", "square")
        error = np.where(squares, codes["square"], codes["absolute"])
        tip = builder.add(everyone, error, [tip])
        tip = builder.add(everyone, "sum_elements", [tip])
        builder.add(everyone, "linear", [tip], output_bits=table.numbers(genomes, "output_bits"))
        return builder.finish(layer_names=LAYERS.names(), **table.deployment(genomes))


TEMPLATES.add(Autoencoder.name, Autoencoder)
