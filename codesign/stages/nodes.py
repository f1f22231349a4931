"""A trained network, node by node, with each node's share of the predicted cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from codesign.ir import FixedPoint, QuantizedNetwork, Words
from codesign.layers import LAYERS, typed
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
    for site in typed(network):
        node, known, weights = site.node, site.output, site.constants.get("weight")
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
                width=known.size,
                bits=str(known.format.bits),
                format=_short_type(known.format),
                weights="-" if weights is None else _short_type(weights.type.covering),
                pruned=_share(weights),
                strategy=hardware.strategy.get(node.name, "-"),
                reuse_factor=str(hardware.reuse_factor.get(node.name, "-")),
                lut=float(sum(c["lut"] for c in shares)),
                latency_cycles=float(max((c["latency_cycles"] for c in shares), default=0.0)),
            )
        )
    return result


def _share(weights: Words | None) -> str:
    return "-" if weights is None else f"{100 * float((weights.values == 0).mean()):.0f} %"


def _short_type(fmt: FixedPoint) -> str:
    return f"{'' if fmt.signed else 'u'}fixed<{fmt.bits},{fmt.integer_bits}>"
