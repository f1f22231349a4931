"""Concatenation of two branches: wires."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError
from codesign.ir import Tensors
from codesign.layers import LAYERS
from codesign.layers._export import cpp_aligned, cpp_loop, cpp_word, exact
from codesign.layers._import import Constant, Draft, Foreign, Value, event_axis
from codesign.layers.base import FloatColumns, Layer, Site, WordRange, aligned, common
from hw_models.lowering import Copy, Described

if TYPE_CHECKING:
    import torch
    from alkaid.trace import FVArray

    from codesign.layers._export import HlsGraph, OnnxGraph
    from codesign.layers._training import TrainModule, TrainNodes


class Concat(Layer):
    """[a, b] in a common format that holds both exactly."""

    name = "concat"
    role = "merge"
    is_wiring = True
    n_inputs = (2, 2)
    foreign = ("onnx.Concat", "hls4ml.Concatenate")
    is_positionwise = True

    def propagate(self, parameters: FloatColumns, inputs: Sequence[Tensors]) -> Tensors:
        joined = common(inputs, "n_rows", "n_columns")
        return replace(joined, n_channels=np.sum([x.n_channels for x in inputs], axis=0))

    def describe(self, columns: FloatColumns) -> tuple[Described, ...]:
        n_lanes = columns["n_out"] * columns["n_copies"]
        return (Copy(n_lanes=n_lanes, bits=columns["output_bits"], n_positions=columns["n_turns"]),)

    def train_module(self, nodes: TrainNodes) -> TrainModule:
        from codesign.layers._train_merge import ConcatModule

        return ConcatModule(nodes)

    def infer(self, site: Site) -> WordRange:
        if len({known.shape[:-1] for known in site.inputs}) > 1:
            shapes = " and ".join(str(known.shape) for known in site.inputs)
            raise DesignError(f"concat joins branches along their last axis only, got {shapes}")
        fraction = max(known.type.fraction_bits for known in site.inputs)
        branches = [aligned(known, fraction) for known in site.inputs]
        return WordRange.exact(
            np.concatenate([known.low for known in branches], axis=-1),
            np.concatenate([known.high for known in branches], axis=-1),
            fraction,
        )

    def largest_sum(self, site: Site) -> int:
        return site.output.largest

    def run_words(self, site: Site, inputs: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
        fraction = site.output.type.fraction_bits
        return np.concatenate(
            [
                words << (fraction - known.type.fraction_bits)
                for words, known in zip(inputs, site.inputs, strict=True)
            ],
            axis=-1,
        )

    def torch_exact(self, site: Site, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        import torch

        return torch.cat(list(inputs), dim=-1)

    def to_onnx(self, site: Site, graph: OnnxGraph, inputs: Sequence[str]) -> str:
        return graph.operator("Concat", *inputs, axis=len(site.output.shape))

    def to_hls4ml(self, site: Site, graph: HlsGraph, inputs: Sequence[str]) -> str:
        rank = len(site.output.shape)
        return graph.add(
            "Concatenate",
            site.node.name,
            inputs,
            precision={"result": exact(site.output.format)},
            op=f"concatenate{rank}d",
            axis=rank,
        )

    def to_rtl(self, site: Site, inputs: Sequence[FVArray]) -> FVArray:
        return np.concatenate(list(inputs), axis=-1)

    def to_cpp(self, site: Site) -> str:
        lines, first_lane = [], 0
        for position in range(site.output.size // site.output.shape[-1]):
            for name, known in zip(site.node.inputs, site.inputs, strict=True):
                n_lanes = known.shape[-1]
                word = cpp_word(name, position * n_lanes)
                value = cpp_aligned(word, known.format, site.output.format)
                lines.append(cpp_loop(site.node.name, n_lanes, value, first_lane=first_lane))
                first_lane += n_lanes
        return "\n    ".join(lines)

    def read(self, node: Foreign, draft: Draft) -> Value | Constant:
        if not node.values:
            parts = [node.constant(i).real for i in range(len(node.inputs))]
            return Constant(values=np.concatenate(parts, axis=int(node.attributes["axis"])))
        if len(node.values) != len(node.inputs):
            raise node.refuse("joins a computed tensor with a constant; no layer does")
        axis = event_axis(node, int(node.attributes["axis"]), len(node.values[0].shape))
        return draft.concatenated(node, node.values, axis)

    def examples(self) -> list[dict[str, Any]]:
        return [{}]


LAYERS.add(Concat.name, Concat())
