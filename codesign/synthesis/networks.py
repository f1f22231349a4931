"""A trained candidate as a synthesis record: the form in which records, estimates and reports meet.

The record is what the layers write of themselves for hls4ml, read as a reader of the project reads it,
so a candidate, its project and its record speak of one design.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from codesign.export.rtl import solve_network
from codesign.ir import FixedPoint, QuantizedNetwork, TensorType
from codesign.layers import LAYERS, typed
from codesign.layers._export import HlsGraph
from codesign.layers.base import Site
from hw_models.records import LayerRecord, Record
from hw_models.weights import layer_counts


class _RecordGraph(HlsGraph):
    """Layers of a record under construction."""

    def __init__(self, *, is_logic: bool) -> None:
        self.is_logic = is_logic
        self.layers: dict[str, LayerRecord] = {}
        self._formats: dict[str, FixedPoint] = {}
        #: the node that is being written: shapes that hls4ml infers are its tensors'
        self.site: Site | None = None

    def _shapes(
        self, inputs: Sequence[str], attributes: Mapping[str, Any]
    ) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
        """Return the shapes that a layer reads and writes, as far as its attributes or its node tell."""
        assert self.site is not None
        whole = self.site.output.shape
        before = self.layers[inputs[0]].out_shape if inputs else None
        target = attributes.get("target_shape", attributes.get("input_shape"))
        if target is not None:
            return before, tuple(int(n) for n in target)
        if "n_out" in attributes and before is not None:  # a product at every position
            return before, (*before[:-1], int(attributes["n_out"]))
        if "pool_op" in attributes:
            return before, whole
        if attributes.get("op") in ("add", "subtract", "multiply"):
            shapes = {self.layers[source].out_shape for source in inputs}
            return before, before if len(shapes) == 1 else whole
        return before, whole if "n_in" not in attributes or before is None else before

    def add(
        self,
        class_name: str,
        name: str,
        inputs: Sequence[str],
        *,
        precision: Mapping[str, FixedPoint],
        configuration: Mapping[str, Any] | None = None,
        **attributes: Any,
    ) -> str:
        # of several inputs the widest decides what the logic costs
        widest = max(
            (self._formats[source] for source in inputs), key=lambda fmt: fmt.bits, default=None
        )
        in_shape, out_shape = self._shapes(inputs, attributes)
        hardware = configuration or {}
        types: dict[str, Any] = {
            f"{role}_precision": _hls_type(precision[role])
            for role in ("weight", "bias", "accum", "result", "table")
            if role in precision
        }
        layer = LayerRecord(
            type=attributes["op"] if class_name == "Merge" else class_name,
            name=name,
            in_shape=in_shape,
            out_shape=out_shape,
            activation=attributes.get("activation"),
            pool_op=attributes.get("pool_op"),
            # every position of a product at once, as the exporter asks for it
            n_partitions=1 if len(in_shape or ()) > 1 and hardware else None,
            strategy=hardware.get("Strategy"),
            reuse_factor=hardware.get("ReuseFactor"),
            input_precision=None if widest is None else _hls_type(widest),
            **types,
        )
        if "table_words" in attributes:
            layer = replace(layer, table_size=len(attributes["table_words"]))
        if "weight_data" in attributes and widest is not None:
            words = np.rint(np.asarray(attributes["weight_data"]) / precision["weight"].lsb)
            counts: dict[str, Any] = dict(layer_counts(words.astype(np.int64), widest.bits))
            layer = replace(layer, units=words.shape[-1], **counts)
        self.layers[name] = layer
        self._formats[name] = precision["result"]
        return name

    def quantize(self, name: str, source: str, result: TensorType) -> str:
        """Read as a rounding of all elements to the covering type."""
        return self.add(
            "Activation",
            name,
            [source],
            precision={"result": result.covering},
            activation="linear",
            n_in=result.size,
        )


def _hls_type(fmt: FixedPoint) -> str:
    text = fmt.to_hls()
    return text if text.startswith("ap_") else f"ap_{text}"


def network_record(network: QuantizedNetwork, *, solve_graphs: bool = True) -> Record:
    """Describe a quantized network as a synthesis record without reports.

    Args:
        network: the network; its weights are counted digit by digit.
        solve_graphs: also solve and cut the adder graph of a network that is plain RTL.
    """
    hardware = network.candidate.hardware
    is_rtl = hardware.flow == "rtl"
    graph = _RecordGraph(is_logic=is_rtl)
    written: dict[str, str] = {}
    for site in typed(network):
        graph.site = site
        written[site.node.name] = LAYERS.get(site.node.layer).to_hls4ml(
            site, graph, [written[source] for source in site.node.inputs]
        )
    strategies = set(hardware.strategy.values())
    solved = solve_network(network) if is_rtl and solve_graphs else None
    return Record(
        id=network.digest,
        source="codesign candidate",
        tool="alkaid" if is_rtl else "Vitis HLS",
        part=hardware.part,
        clock_period_ns=hardware.clock_period_ns,
        backend="alkaid" if is_rtl else "Vitis",
        strategy=strategies.pop() if len(strategies) == 1 else None,
        io_type=hardware.io_type,
        family="MLP",
        layers=tuple(graph.layers.values()),
        adder_cost=None if solved is None else float(solved.adder_cost),
        register_bits=None if solved is None else float(solved.register_bits),
        pipeline_cycles=None if solved is None else float(solved.latency_cycles),
    )
