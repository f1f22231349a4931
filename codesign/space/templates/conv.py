"""Small convolutional networks, on sequences and on images.

input ([rows,] columns, features) -> convolutions -> pool or flatten -> blocks -> dense -> linear, where a convolution
is patches -> dense -> [batch norm] -> activation, with the same dense layer at every window.  Windows of odd kernels
reach half of themselves beyond either end, where zeros are, so that a stride of 1 keeps the positions; those of even
kernels one position less, so that a kernel of 2 with a stride of 2 has no overlap and no zeros.  Where one position is
left, an even kernel is 1.  A space may let a convolution be separable (patches -> depthwise -> rounding -> dense), and pool
windows of positions behind it.

Genes (all indices into the YAML's domains): conv_depth, depth, pool (a pool over all positions, or "flatten"),
pool_bits, input_bits, output_bits, flow, clock_mhz; per convolution kernel and stride, and where the space lists them
convolution ("full" or "separable", with weight_bits, pruned_fraction, strategy, reuse_factor of its depthwise part) and
window (1: none), pooled by the one window_pool; per convolution and per block width, activation, batch_norm, weight_bits, result_bits, pruned_fraction, strategy, reuse_factor; for the head
weight_bits, pruned_fraction, strategy, reuse_factor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from codesign.errors import ConfigError
from codesign.space.templates import TEMPLATES
from codesign.space.templates._shared import HARDWARE, OPTIONAL, Flags, GeneTable, greatest
from codesign.space.templates._wired import (
    BLOCK,
    POOLED,
    Assembly,
    Tip,
    WiredTemplate,
    head_genes,
    pools,
    stack_genes,
)
from codesign.space.templates.base import Value

_GLOBAL = ("conv_depth", "depth", *POOLED)


class Conv(WiredTemplate):
    """Convolutions, a pool or none, layers on what is left: their depths, kernels, widths, bits and hardware."""

    name = "conv"
    domain_names = (*_GLOBAL, "kernel", "stride", "conv_width", "width", *BLOCK)
    optional_domain_names = (*OPTIONAL, "convolution", "window", "window_pool")

    def __init__(
        self,
        domains: Mapping[str, Sequence[Value]],
        *,
        input_shape: tuple[int, ...],
        n_outputs: int,
    ) -> None:
        if len(input_shape) not in (2, 3):
            raise ConfigError(
                f"template conv reads (columns, features) or (rows, columns, features), the task has inputs"
                f" of shape {input_shape}; choose a task of sequences or images, or template mlp"
            )
        self._shape, self._n_outputs = input_shape, n_outputs
        self._n_convolutions = greatest(domains, "conv_depth")
        genes = {name: name for name in _GLOBAL}
        for number in range(1, self._n_convolutions + 1):
            genes |= {f"{name}_conv_{number}": name for name in ("kernel", "stride")}
            if "convolution" in domains:
                genes[f"convolution_conv_{number}"] = "convolution"
                genes |= {f"{name}_depth_{number}": name for name in HARDWARE}
            if "window" in domains:
                genes[f"window_conv_{number}"] = "window"
        genes |= stack_genes("conv", self._n_convolutions, "conv_width")
        genes |= stack_genes("set", greatest(domains, "depth"), "width") | head_genes()
        if ("window" in domains) != ("window_pool" in domains):
            raise ConfigError(
                "domains.window and domains.window_pool go together: positions under a window, 1 for none, and the"
                f" layers that pool them ({', '.join(map(str, pools()))}); give both, or neither"
            )
        if "window_pool" in domains:
            genes["window_pool"] = "window_pool"
        choices: dict[str, Sequence[Value]] = {
            "pool": [*pools(), "flatten"],
            "window_pool": pools(),
            "convolution": ("full", "separable"),
        }
        self._table = GeneTable.build(domains, genes, choices)

    def wire(self, assembly: Assembly) -> None:
        n = len(assembly.genomes)
        tip, pools_windows = (
            assembly.input(*(np.full(n, axis) for axis in self._shape)),
            np.zeros(n, dtype=bool),
        )
        for number in range(1, self._n_convolutions + 1):
            present = assembly.numbers("conv_depth") >= number
            patches = self._patches(assembly, number, tip, present)
            if f"convolution_conv_{number}" in assembly.table.domain_of:
                patches = self._depthwise(assembly, number, tip.channels, patches, present)
            tip = assembly.block(f"conv_{number}", patches, present)
            if f"window_conv_{number}" in assembly.table.domain_of:
                tip, has_window = self._window(assembly, number, tip, present)
                pools_windows |= has_window
        if "window_pool" in assembly.table.domain_of:
            assembly.clear("window_pool", pools_windows)
        is_flat = assembly.table.holds(assembly.genomes, "pool", "flatten")
        assembly.clear("pool_bits", ~is_flat)
        vector = assembly.add("flatten", tip, axes=[np.prod(tip.axes, axis=0)], present=is_flat)
        pooled = assembly.pool(tip, present=~is_flat)
        tip = assembly.either(is_flat, vector, pooled)
        assembly.head(assembly.chain("set", "depth", tip), self._n_outputs)

    @staticmethod
    def _depthwise(
        assembly: Assembly, number: int, channels: NDArray[np.int64], patches: Tip, present: Flags
    ) -> Tip:
        """Bring every channel of the windows to one value, where a convolution is separable."""
        gene = f"convolution_conv_{number}"
        assembly.clear(gene, present)
        is_separable = assembly.table.holds(assembly.genomes, gene, "separable") & present
        tip = assembly.dense(
            f"depth_{number}",
            patches,
            channels,
            is_separable,
            layer="depthwise",
            taps=patches.channels / channels,
        )
        return assembly.linear(tip, f"result_bits_conv_{number}", is_separable)

    @staticmethod
    def _window(assembly: Assembly, number: int, tip: Tip, present: Flags) -> tuple[Tip, Flags]:
        """Pool windows side by side; where fewer positions are left than one has, there is none."""
        gene = f"window_conv_{number}"
        assembly.clear(gene, present)
        *positions, channels = tip.axes
        windows = np.array(assembly.table.domains[assembly.table.domain_of[gene]], dtype=np.int64)
        fits = np.min(positions, axis=0)[:, None] >= windows
        window = assembly.chosen(gene, np.where(fits, windows, 1))
        is_pooled = (window > 1) & present
        codes = assembly.codes_of("window_pool")
        axes = [np.where(is_pooled, length // window, length) for length in positions]
        pooled = assembly.add(
            codes, tip, axes=(*axes, channels), present=is_pooled, kernel=window.astype(np.float64)
        )
        return pooled, is_pooled

    @staticmethod
    def _patches(assembly: Assembly, number: int, tip: Tip, present: Flags) -> Tip:
        """Gather the windows of a convolution."""
        gene = f"kernel_conv_{number}"
        assembly.clear(gene, present)
        assembly.clear(f"stride_conv_{number}", present)
        *positions, channels = tip.axes
        is_single = np.min(positions, axis=0) < 2
        kernels = np.array(assembly.table.domains[assembly.table.domain_of[gene]], dtype=np.int64)
        real = np.where(is_single[:, None] & (kernels % 2 == 0), 1, kernels)
        kernel = assembly.chosen(gene, real)
        stride, padding = assembly.counts(f"stride_conv_{number}"), (kernel - 1) // 2
        windows = [(length + 2 * padding - kernel) // stride + 1 for length in positions]
        return assembly.add(
            "patches",
            tip,
            axes=(*windows, channels * kernel ** len(positions)),
            present=present,
            kernel=kernel.astype(float),
            stride=stride.astype(float),
            padding=padding.astype(float),
            dilation=np.ones(len(kernel)),
        )


TEMPLATES.add(Conv.name, Conv)
