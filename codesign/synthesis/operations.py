"""What trained networks compute per inference, their weights counted one by one."""

from collections.abc import Sequence

from codesign.hardware.scorer import exact_population, lower
from codesign.ir import QuantizedNetwork
from hw_models.profile import OperationCounts, count_operations


def count_network_operations(networks: Sequence[QuantizedNetwork]) -> OperationCounts:
    """Count parameters, FLOPs, MACs, BOPs and EBOPs, float[n_networks] each.

    Definitions as in `hw_models.profile`, with every weight known: zeros count nothing, and EBOPs take
    each weight's effective bits.
    """
    return count_operations(lower(exact_population(networks)), len(networks))
