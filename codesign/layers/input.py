"""The input of a network: words on the grid that the firmware receives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from codesign.errors import DesignError
from codesign.ir import Network, Tensors
from codesign.layers import LAYERS
from codesign.layers._activation import RESULT_BITS
from codesign.layers._export import refuse
from codesign.layers.base import FloatColumns, Layer, Parameter, Site, WordRange
from hw_models.lowering import Described

if TYPE_CHECKING:
    from alkaid.trace import FVArray

    from codesign.layers._export import HlsGraph, OnnxGraph
    from codesign.layers._training import TrainModule, TrainNodes


def _axis(name: str, description: str) -> Parameter:
    """Declare one axis of the positions of an input."""
    return Parameter(
        name=name,
        column=f"n_{name}",
        minimum=0,
        maximum=4096,
        default=0.0,
        is_silent=True,
        description=description,
    )


def input_shape(network: Network) -> tuple[int, ...]:
    """Return the shape of what a network reads: (rows, columns, width) without the axes it lacks."""
    layer = LAYERS.get(network.nodes[0].layer)
    axes = (int(layer.value(network.nodes[0], name)) for name in ("rows", "columns", "width"))
    return tuple(axis for axis in axes if axis)


class Input(Layer):
    """Signed words, rounded (floor) and saturated by the sender."""

    name = "input"
    role = "input"
    is_positionwise = True
    n_inputs = (0, 0)
    parameters = (
        Parameter(
            name="width",
            column="n_out",
            minimum=1,
            maximum=65536,
            description="inputs, or those at each position",
        ),
        RESULT_BITS,
        _axis(
            "columns", "positions along the axis before the last, particles say; 0: no such axis"
        ),
        _axis("rows", "positions along the axis before that; 0: no such axis"),
    )

    def propagate(self, parameters: FloatColumns, inputs: Sequence[Tensors]) -> Tensors:
        if ((parameters["n_rows"] > 0) & (parameters["n_columns"] == 0)).any():
            raise DesignError("an input with rows needs columns too; give its columns")
        return Tensors(
            n_rows=parameters["n_rows"],
            n_columns=parameters["n_columns"],
            n_channels=parameters["n_out"],
            bits=parameters["output_bits"],
            is_signed=np.ones_like(parameters["n_out"]),
        )

    def describe(self, columns: FloatColumns) -> tuple[Described, ...]:
        return ()  # ports: the first layer's registers belong to it

    def train_module(self, nodes: TrainNodes) -> TrainModule:
        from codesign.layers._train_input import InputModule

        if nodes.granularity is not None:
            from codesign.layers._train_learned import LearnedInput

            return LearnedInput(nodes)
        return InputModule(nodes)

    def infer(self, site: Site) -> WordRange:
        result = site.rounded
        return WordRange(type=result, low=result.min_words, high=result.max_words)

    def largest_sum(self, site: Site) -> int:
        return site.output.largest

    run_words = torch_exact = to_cpp = refuse  # words are given, not computed

    def to_onnx(self, site: Site, graph: OnnxGraph, inputs: Sequence[str]) -> str:
        return graph.quantize(inputs[0], site.rounded)

    def to_hls4ml(self, site: Site, graph: HlsGraph, inputs: Sequence[str]) -> str:
        port = graph.add(
            "InputLayer",
            site.node.name,
            (),
            precision={"result": site.output.format},
            input_shape=list(site.output.shape),
            data_format="channels_last",
        )
        if site.rounded.uniform is not None:
            return port
        # changes no word, but tells the compiler which bits of the port are constant
        return graph.quantize(f"{site.node.name}_elements", port, site.rounded)

    def to_rtl(self, site: Site, inputs: Sequence[FVArray]) -> FVArray:
        result = site.rounded  # the sender has rounded; alkaid takes a lane of no bits for zero
        fraction_bits = result.element_fraction_bits * (result.bits > 0)
        return inputs[0].quantize(
            result.signed.astype(np.int64), result.integer_bits - result.signed, fraction_bits
        )

    def examples(self) -> list[dict[str, Any]]:
        return [{"width": 4, "result_bits": 6}]


LAYERS.add(Input.name, Input())
