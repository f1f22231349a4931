"""Patches: all positions under a window as one, so that the dense layer that follows is a convolution.

A one-dimensional convolution of kernel k is `patches` with kernel k and then `dense`; on images the window
is square.  Only whole windows are taken (padding "valid").  Patches are wires.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError, ExportError
from codesign.ir import Node, Tensors
from codesign.layers import LAYERS
from codesign.layers._export import add_hls_matrix, add_hls_reshape, cpp_loop, cpp_word
from codesign.layers.base import FloatColumns, Layer, Parameter, Site, WordRange
from hw_models.lowering import Copy, Described

if TYPE_CHECKING:
    import torch
    from alkaid.trace import FVArray

    from codesign.layers._export import HlsGraph, OnnxGraph
    from codesign.layers._training import TrainModule, TrainNodes


class Patches(Layer):
    """(columns, channels) as (windows, kernel * channels), tap by tap; images with square windows."""

    name = "patches"
    ranks = (2, 3)
    parameters = (
        Parameter(
            name="kernel",
            column="kernel",
            minimum=1,
            maximum=64,
            description="positions under the window, along each axis",
        ),
        Parameter(
            name="stride",
            column="stride",
            minimum=1,
            maximum=64,
            default=1.0,
            description="positions from one window to the next",
        ),
        Parameter(
            name="dilation",
            column="dilation",
            minimum=1,
            maximum=64,
            default=1.0,
            description="positions from one tap of a window to the next",
        ),
    )

    def propagate(self, parameters: FloatColumns, inputs: Sequence[Tensors]) -> Tensors:
        (source,) = inputs
        reach = parameters["dilation"] * (parameters["kernel"] - 1.0) + 1.0
        axes = {}
        for axis in ("n_rows", "n_columns"):
            length = getattr(source, axis)
            windows = np.floor((length - reach) / parameters["stride"]) + 1.0
            if ((length > 0) & (windows < 1)).any():
                i = int(np.flatnonzero((length > 0) & (windows < 1))[0])
                raise DesignError(
                    f"a window that reaches over {reach[i]:g} positions does not fit the shape"
                    f" {source.shape(i)}; choose a smaller kernel or dilation"
                )
            axes[axis] = np.where(length > 0, windows, 0.0)
        n_taps = parameters["kernel"] ** ((source.n_rows > 0) + 1.0)
        return replace(source, n_channels=source.n_channels * n_taps, **axes)

    def describe(self, columns: FloatColumns) -> tuple[Described, ...]:
        return (
            Copy(
                n_lanes=columns["n_out"],
                bits=columns["output_bits"],
                n_positions=columns["n_positions"],
            ),
        )

    def train_module(self, nodes: TrainNodes) -> TrainModule:
        from codesign.layers._train_merge import ChosenModule

        return ChosenModule(nodes, self.chosen(nodes))

    @staticmethod
    def chosen(nodes: TrainNodes) -> NDArray[np.int64]:
        """Return int64[k, padded_output * n_positions], the element that each element of the result is."""
        (widths,), (n_in,), (axes,) = nodes.input_widths, nodes.input_positions, nodes.input_axes
        elements = np.zeros((nodes.k, nodes.padded_output, nodes.n_positions), dtype=np.int64)
        for i, width in enumerate(widths.tolist()):
            window = (int(nodes.columns[name][i]) for name in ("kernel", "stride", "dilation"))
            taps = tap_sources(axes[i][axes[i] > 0].tolist(), *window).reshape(
                nodes.n_positions, -1
            )
            tap, lane = np.divmod(np.arange(taps.shape[1] * width), width)
            elements[i, : tap.size] = lane[:, None] * n_in + taps[:, tap].T
        return elements.reshape(nodes.k, -1)

    def _sources(self, node: Node, positions: Sequence[int]) -> NDArray[np.int64]:
        """Return int64[*windows, taps]: the position, counted row by row, that each tap reads."""
        kernel, stride, dilation = (
            int(self.value(node, name)) for name in ("kernel", "stride", "dilation")
        )
        return tap_sources(positions, kernel, stride, dilation)

    def _elements(self, site: Site) -> NDArray[np.int64]:
        """Return int64[*output shape]: the element of the input that each element of the output is."""
        *positions, n_channels = site.source.shape
        taps = self._sources(site.node, positions)
        elements = taps[..., None] * n_channels + np.arange(n_channels)
        return elements.reshape(*taps.shape[:-1], -1)

    def infer(self, site: Site) -> WordRange:
        elements = self._elements(site)
        if elements.size == 0:
            raise DesignError(f"its window does not fit the shape {site.source.shape}")
        low, high = (words.ravel()[elements] for words in (site.source.low, site.source.high))
        return WordRange.exact(low, high, site.source.type.fraction_bits)

    def largest_sum(self, site: Site) -> int:
        return site.source.largest

    def run_words(self, site: Site, inputs: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
        flat = inputs[0].reshape(len(inputs[0]), -1)
        return np.asarray(flat[:, self._elements(site)])

    def torch_exact(self, site: Site, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        kernel, stride, dilation = (
            int(self.value(site.node, name)) for name in ("kernel", "stride", "dilation")
        )
        values = inputs[0].movedim(-1, 1)  # channels first, then windows axis by axis
        reach, n_axes = dilation * (kernel - 1) + 1, values.ndim - 2
        for axis in range(2, 2 + n_axes):
            values = values.unfold(axis, reach, stride)
        for axis in range(2 + n_axes, 2 + 2 * n_axes):
            values = values[(slice(None),) * axis + (slice(None, None, dilation),)]
        return values.movedim(1, -1).flatten(start_dim=1 + n_axes)

    def to_onnx(self, site: Site, graph: OnnxGraph, inputs: Sequence[str]) -> str:
        flat = graph.operator("Reshape", inputs[0], graph.integers([0, site.source.size]))
        indices = graph.integers(self._elements(site).ravel().tolist())
        taken = graph.operator("Gather", flat, indices, axis=1)
        return graph.operator("Reshape", taken, graph.integers([0, *site.output.shape]))

    def to_hls4ml(self, site: Site, graph: HlsGraph, inputs: Sequence[str]) -> str:
        name, elements = site.node.name, self._elements(site).ravel()
        if site.hardware.io_type != "io_parallel":
            raise ExportError(
                f"{name}: hls4ml has no layer that streams patches; use io_parallel or plain RTL"
            )
        weights = np.zeros((site.source.size, elements.size))
        weights[elements, np.arange(elements.size)] = 1.0
        source, result = site.source.format, site.output.format
        flat = add_hls_reshape(graph, f"{name}_flat", inputs[0], (site.source.size,), source)
        taken = add_hls_matrix(graph, f"{name}_taken", flat, weights, result)
        return add_hls_reshape(graph, name, taken, site.output.shape, result)

    def to_rtl(self, site: Site, inputs: Sequence[FVArray]) -> FVArray:
        return inputs[0].reshape(-1)[self._elements(site).ravel()].reshape(site.output.shape)

    def to_cpp(self, site: Site) -> str:
        (name,), lines = site.node.inputs, []
        *positions, n_channels = site.source.shape
        for i, position in enumerate(self._sources(site.node, positions).ravel().tolist()):
            word = cpp_word(name, position * n_channels)
            lines.append(cpp_loop(site.node.name, n_channels, word, first_lane=i * n_channels))
        return "\n    ".join(lines)

    def examples(self) -> list[dict[str, Any]]:
        return [{"kernel": 2}, {"kernel": 2, "stride": 2}, {"kernel": 1, "dilation": 2}]


def tap_sources(
    positions: Sequence[int], kernel: int, stride: int, dilation: int
) -> NDArray[np.int64]:
    """Return int64[*windows, taps]: the position, counted row by row, that each tap of a window reads."""
    sources: NDArray[np.int64] = np.zeros((1, 1), dtype=np.int64)
    windows: list[int] = []
    for length in positions:
        n_windows = max((length - dilation * (kernel - 1) - 1) // stride + 1, 0)
        windows.append(n_windows)
        axis = stride * np.arange(n_windows)[:, None] + dilation * np.arange(kernel)
        sources = sources[:, None, :, None] * length + axis[None, :, None, :]
        sources = sources.reshape(-1, kernel ** len(windows))
    return sources.reshape(*windows, kernel ** len(windows))


LAYERS.add(Patches.name, Patches())
