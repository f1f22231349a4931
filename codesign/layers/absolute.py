"""Magnitude of every element, exact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from codesign.layers import LAYERS
from codesign.layers._activation import add_hls_activation
from codesign.layers._even import EvenFunction
from codesign.layers._export import exact
from codesign.layers.base import Site

if TYPE_CHECKING:
    from codesign.layers._export import HlsGraph


class Absolute(EvenFunction):
    """|x| of every element, exact."""

    name = "absolute"
    foreign = ("onnx.Abs",)
    power = 1
    onnx_operator = "Abs"
    combination = "add"  # inverts the bits of a negative word and adds one

    def apply(self, values: Any) -> Any:
        return abs(values)

    def cpp_value(self, word: str) -> str:
        return f"{word} < 0 ? -{word} : {word}"

    def rtl_lane(self, lane: Any) -> Any:
        return lane.relu() + (-lane).relu()

    def to_hls4ml(self, site: Site, graph: HlsGraph, inputs: Sequence[str]) -> str:
        # hls4ml has no magnitude: with p = max(0, x) it is p + (p - x)
        name, size, result = site.node.name, site.output.size, exact(site.output.format)
        positive = add_hls_activation(graph, "relu", f"{name}_positive", inputs[0], size, result)
        negative = graph.add(
            "Merge",
            f"{name}_negative",
            [positive, inputs[0]],
            precision={"result": result},
            op="subtract",
        )
        return graph.add(
            "Merge", name, [positive, negative], precision={"result": result}, op="add"
        )


LAYERS.add(Absolute.name, Absolute())
