"""A trained network, node by node, with each node's share of the predicted cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from codesign.ir import FixedPoint, QuantizedNetwork
from codesign.layers import LAYERS, infer_formats
from codesign.results import NodeFacts
from codesign.space import population_from_candidates


def describe_nodes(
    network: QuantizedNetwork, per_op: Sequence[Mapping[str, Any]]
) -> list[NodeFacts]:
    """Describe a trained network.

    Args:
        network: the network.
        per_op: `HardwareScores.per_node` of it.
    """
    ranges = infer_formats(network)
    population = population_from_candidates([network.candidate])
    stages = {
        node.name: int(population.stage[row])
        for row, node in enumerate(network.candidate.network.nodes)
    }
    costs: dict[int, list[Mapping[str, Any]]] = {}
    for row in per_op:
        costs.setdefault(row["stage"], []).append(row)
    hardware = network.candidate.hardware
    result = []
    for node in network.network.nodes:
        known = ranges[node.name]
        words = network.weight_words.get(node.name)
        is_product = LAYERS.get(node.layer).has_multipliers
        shares = [
            c
            for c in costs.get(stages[node.name], [])
            if (c["primitive"] == "matvec") == is_product
        ]
        if node.layer in ("input", "concat", "flatten"):
            shares = []
        result.append(
            NodeFacts(
                name=node.name,
                layer=node.layer,
                inputs=list(node.inputs),
                width=int(known.low.size),
                bits=str(known.format.bits),
                format=_short_type(known.format),
                weights="-" if words is None else _short_type(network.weight_format[node.name]),
                pruned="-" if words is None else f"{100 * float((words == 0).mean()):.0f} %",
                strategy=hardware.strategy.get(node.name, "-"),
                reuse_factor=str(hardware.reuse_factor.get(node.name, "-")),
                lut=float(sum(c["lut"] for c in shares)),
                latency_cycles=float(max((c["latency_cycles"] for c in shares), default=0.0)),
            )
        )
    return result


def _short_type(fmt: FixedPoint) -> str:
    return f"{'' if fmt.signed else 'u'}fixed<{fmt.bits},{fmt.integer_bits}>"
