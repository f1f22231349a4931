"""What layers of wires share: every element of the result is an element of the input, or zero."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError, ExportError
from codesign.layers._export import add_hls_matrix, add_hls_reshape, cpp_loop, cpp_word, onnx_flat
from codesign.layers._windows import ZERO
from codesign.layers.base import FloatColumns, Layer, Site, WordRange
from hw_models.lowering import Copy, Described

if TYPE_CHECKING:
    from alkaid.trace import FVArray

    from codesign.layers._export import HlsGraph, OnnxGraph
    from codesign.layers._training import TrainModule, TrainNodes


class Wires(Layer):
    """Interface of layers that only choose elements; `torch_exact` chooses them by other means."""

    is_wiring = True

    @abstractmethod
    def sources(self, shape: tuple[int, ...], parameters: Mapping[str, float]) -> NDArray[np.int64]:
        """Say which element of an input, counted row by row, each element of the result is.

        Args:
            shape: of the input.
            parameters: value of each declared parameter.

        Returns:
            int64[*output shape], `ZERO` where the element is zero.
        """

    def describe(self, columns: FloatColumns) -> tuple[Described, ...]:
        # nothing, except where hls4ml streams it: there every word is copied
        return (
            Copy(
                n_lanes=columns["n_out"],
                bits=columns["output_bits"],
                n_positions=columns["n_positions"],
            ),
        )

    def train_module(self, nodes: TrainNodes) -> TrainModule:
        from codesign.layers._train_merge import ChosenModule, PaddedModule

        chosen = self._chosen(nodes)
        return (
            PaddedModule(nodes, chosen) if (chosen == ZERO).any() else ChosenModule(nodes, chosen)
        )

    def _chosen(self, nodes: TrainNodes) -> NDArray[np.int64]:
        """Return int64[k, padded_output * n_positions], the element that each element of the result is."""
        (widths,), (n_in,), (axes,) = nodes.input_widths, nodes.input_positions, nodes.input_axes
        elements = np.zeros((nodes.k, nodes.padded_output, nodes.n_positions), dtype=np.int64)
        for i, width in enumerate(widths.tolist()):
            shape = (*(n for n in axes[i].tolist() if n), width)
            own = {p.name: float(nodes.columns[p.column][i]) for p in self.parameters}
            position, lane = np.divmod(
                found := self.sources(shape, own).reshape(nodes.n_positions, -1), width
            )
            element = np.where(found == ZERO, ZERO, lane * n_in + position)
            elements[i, : element.shape[1]] = element.T
        return elements.reshape(nodes.k, -1)

    def elements(self, site: Site) -> NDArray[np.int64]:
        """Return `sources` of a node."""
        parameters = {p.name: self.value(site.node, p.name) for p in self.parameters}
        return self.sources(site.source.shape, parameters)

    def infer(self, site: Site) -> WordRange:
        elements = self.elements(site)
        if elements.size == 0:
            raise DesignError(f"nothing is left of the shape {site.source.shape}")
        low, high = (self._pick(w[None], elements)[0] for w in (site.source.low, site.source.high))
        return WordRange.exact(low, high, site.source.type.fraction_bits)

    @staticmethod
    def _pick(words: NDArray[np.int64], elements: NDArray[np.int64]) -> NDArray[np.int64]:
        flat = words.reshape(len(words), -1)
        return np.where(elements == ZERO, 0, flat[:, elements])

    def largest_sum(self, site: Site) -> int:
        return site.source.largest

    def run_words(self, site: Site, inputs: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
        return self._pick(inputs[0], self.elements(site))

    def to_onnx(self, site: Site, graph: OnnxGraph, inputs: Sequence[str]) -> str:
        elements = self.elements(site)
        values = onnx_flat(graph, inputs[0], len(site.source.shape))
        if (elements == ZERO).any():  # one element more, which is zero; ONNX counts it from the end
            ends = graph.integers([0, 0, 0, 1])
            values = graph.operator("Pad", values, ends, graph.real(np.array(0.0)))
        values = graph.operator("Gather", values, graph.integers(elements.ravel().tolist()), axis=1)
        return graph.operator("Reshape", values, graph.integers([0, *site.output.shape]))

    def to_hls4ml(self, site: Site, graph: HlsGraph, inputs: Sequence[str]) -> str:
        name, elements = site.node.name, self.elements(site).ravel()
        if site.hardware.io_type != "io_parallel":
            raise ExportError(
                f"{name}: hls4ml has no layer that streams {self.name}; use io_parallel or plain RTL"
            )
        weights = np.zeros((site.source.size, elements.size))
        (used,) = np.nonzero(elements != ZERO)
        weights[elements[used], used] = 1.0
        source, result = site.source.format, site.output.format
        flat = add_hls_reshape(graph, f"{name}_flat", inputs[0], (site.source.size,), source)
        taken = add_hls_matrix(graph, f"{name}_taken", flat, weights, result)
        return add_hls_reshape(graph, name, taken, site.output.shape, result)

    def to_rtl(self, site: Site, inputs: Sequence[FVArray]) -> FVArray:
        elements = self.elements(site)
        lanes = inputs[0].reshape(-1)
        if not (elements == ZERO).any():
            return lanes[elements.ravel()].reshape(elements.shape)
        chosen = np.append(np.asarray(lanes), 0.0)[elements]
        return type(lanes)(chosen, lanes.solver_options, hwconf=lanes.hwconf)

    def to_cpp(self, site: Site) -> str:
        (name,), flat, lines = site.node.inputs, self.elements(site).ravel(), []
        before, behind = flat[:-1], flat[1:]
        has_zero = (before == ZERO) | (behind == ZERO)
        goes_on = np.where(has_zero, before == behind, behind == before + 1)
        starts = np.concatenate([[0], np.flatnonzero(~goes_on) + 1, [flat.size]])
        for first, stop in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
            word = "0" if flat[first] == ZERO else cpp_word(name, int(flat[first]))
            lines.append(cpp_loop(site.node.name, stop - first, word, first_lane=first))
        return "\n    ".join(lines)
