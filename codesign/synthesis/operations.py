"""What trained networks compute per inference, their weights counted one by one."""

from collections.abc import Sequence

import numpy as np

from codesign.ir import QuantizedNetwork
from codesign.layers import infer_formats
from hw_models.profile import OperationCounts, exact_ebops


def count_network_operations(networks: Sequence[QuantizedNetwork]) -> OperationCounts:
    """Count parameters, FLOPs, MACs, BOPs and EBOPs, float[n_networks] each.

    Definitions as in `hw_models.profile`, with every weight known: zeros count nothing, and EBOPs take
    each weight's effective bits.
    """
    rows = [_count(network) for network in networks]
    return OperationCounts(
        **{
            name: np.array([row[name] for row in rows])
            for name in OperationCounts.__dataclass_fields__
        }
    )


def _count(network: QuantizedNetwork) -> dict[str, float]:
    ranges = infer_formats(network)
    total = dict.fromkeys(OperationCounts.__dataclass_fields__, 0.0)
    for node in network.network.nodes:
        words = network.weight_words.get(node.name)
        if words is None:
            if len(node.inputs) and node.layer not in ("concat", "flatten"):
                total["flops"] += float(ranges[node.name].low.size)
            continue
        n_in, n_out = words.shape
        nonzero = float((words != 0).sum())
        data_bits = ranges[node.inputs[0]].format.bits
        weight_bits = network.weight_format[node.name].bits
        total["parameters"] += nonzero + n_out
        total["macs"] += nonzero
        total["flops"] += 2 * nonzero + n_out
        total["bops"] += nonzero * (
            weight_bits * data_bits + weight_bits + data_bits + np.log2(max(n_in, 1))
        )
        total["ebops"] += exact_ebops(words, data_bits)
    return total
