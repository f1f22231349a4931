"""A trained candidate as a synthesis record: the form in which records, estimates and reports meet."""

from typing import Any

from codesign.export.rtl import solve_network
from codesign.ir import QuantizedNetwork
from codesign.layers import infer_formats
from codesign.synthesis.adder_graph import ConstantMatrix, solve_adder_graph
from hw_models.weights import layer_counts

#: Record types of the layers without constants; every other one is an activation of its own name.
_TYPES = {"input": "InputLayer", "flatten": "Flatten", "add": "add", "concat": "concatenate"}


def network_record(network: QuantizedNetwork, *, solve_graphs: bool = True) -> dict[str, Any]:
    """Describe a quantized network as a synthesis record without reports.

    Args:
        network: the network; its weights are counted digit by digit.
        solve_graphs: also solve adder graphs: of the whole network and its pipeline in plain RTL, of every
            distributed-arithmetic layer in HLS.
    """
    ranges = infer_formats(network)
    hardware = network.candidate.hardware
    is_rtl = hardware.flow == "rtl"
    layers: list[dict[str, Any]] = []
    for node in network.network.nodes:
        known = ranges[node.name]
        sources = [ranges[name] for name in node.inputs]
        layer: dict[str, Any] = {
            "name": node.name,
            "type": _TYPES.get(node.layer, "Activation"),
            "in_shape": [int(sources[0].low.size) if sources else int(known.low.size)],
            "out_shape": [int(known.low.size)],
            "result_precision": _hls_type(known.format.to_hls()),
        }
        if sources:
            layer["input_precision"] = _hls_type(sources[0].format.to_hls())
        words = network.weight_words.get(node.name)
        if words is not None:
            layer |= {
                "type": "Dense",
                "units": int(words.shape[1]),
                "strategy": hardware.strategy[node.name],
                "reuse_factor": int(hardware.reuse_factor[node.name]),
                "weight_precision": _hls_type(network.weight_format[node.name].to_hls()),
                "accum_precision": _hls_type(known.format.to_hls()),
                **layer_counts(words, sources[0].format.bits),
            }
            if solve_graphs and not is_rtl and layer["strategy"] == "distributed_arithmetic":
                solved = solve_adder_graph(
                    ConstantMatrix(
                        weights_in_out=words, input_low=sources[0].low, input_high=sources[0].high
                    )
                )
                layer |= {
                    "adder_cost": solved.adder_cost,
                    "n_adders": solved.n_adders,
                    "delay": solved.delay,
                }
        elif layer["type"] == "Activation":
            layer["activation"] = node.layer
        layers.append(layer)
    strategies = set(hardware.strategy.values())
    graph = solve_network(network) if is_rtl and solve_graphs else None
    facts = {}
    if graph is not None:
        facts = {
            "adder_cost": graph.adder_cost,
            "register_bits": graph.register_bits,
            "pipeline_cycles": graph.latency_cycles,
        }
    return {
        **facts,
        "schema": 1,
        "id": network.digest,
        "source": "codesign candidate",
        "tool": "alkaid" if is_rtl else "Vitis HLS",
        "tool_version": None,
        "part": hardware.part,
        "clock_period_ns": hardware.clock_period_ns,
        "backend": "alkaid" if is_rtl else "Vitis",
        "strategy": strategies.pop() if len(strategies) == 1 else None,
        "io_type": hardware.io_type,
        "family": "MLP",
        "flags": [],
        "layers": layers,
    }


def _hls_type(text: str) -> str:
    return text if text.startswith("ap_") else f"ap_{text}"
