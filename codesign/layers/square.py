"""Square of every element, exact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from codesign.layers import LAYERS
from codesign.layers._even import EvenFunction
from codesign.layers._export import exact
from codesign.layers.base import Site

if TYPE_CHECKING:
    from codesign.layers._export import HlsGraph
    from codesign.layers._import import Constant, Draft, Foreign, Value


class Square(EvenFunction):
    """x * x, twice as wide."""

    name = "square"
    foreign = ("onnx.Pow",)
    power = 2
    onnx_operator = "Mul"
    combination = "square"

    def read(self, node: Foreign, draft: Draft) -> Value | Constant:
        if (node.constant(1).real != 2.0).any():
            raise node.refuse("is another power than the square, of which no layer is built")
        return super().read(node, draft)

    def apply(self, values: Any) -> Any:
        return values * values

    def cpp_value(self, word: str) -> str:
        return f"{word} * {word}"

    def rtl_lane(self, lane: Any) -> Any:
        return lane * lane

    def to_hls4ml(self, site: Site, graph: HlsGraph, inputs: Sequence[str]) -> str:
        return graph.add(
            "Merge",
            site.node.name,
            [inputs[0], inputs[0]],
            precision={"result": exact(site.output.format)},
            op="multiply",
        )


LAYERS.add(Square.name, Square())
