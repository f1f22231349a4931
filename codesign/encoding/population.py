"""Encode a population (one table of nodes) as a graph batch, without a loop over candidates."""

import numpy as np

from codesign.encoding.batch import GraphBatch
from codesign.ir.population import Population

#: Columns of a population on which the accuracy of a trained network can depend.  Strategy and
#: reuse factor are absent on purpose: they change time and resources, never a result.
ACCURACY_COLUMNS = (
    "n_in",
    "n_out",
    "output_bits",
    "output_signed",
    "weight_bits",
    "pruned_fraction",
)
EXTRA_NAMES = (
    "log2_parameters",
    "log2_flops",
    "log2_bit_operations",
    "log2_effective_bit_operations",
    "depth",
)


def encode_population(population: Population) -> GraphBatch:
    """Return the graph batch of a population; candidate i becomes graph i.

    Graph-level extras, all but the last as log2(1 + x), summed over nodes with multipliers:
    parameters = weights kept by pruning + biases; flops = 2 n_in n_out; bit operations =
    n_in n_out (b_w b_a + b_w + b_a + log2 n_in) (Baskin et al., UNIQ, arXiv 1804.10969, eq. 11);
    effective bit operations = kept weights * b_w * b_a (Sun et al., HGQ, arXiv 2405.00645, with a
    bit width per layer); then the depth in nodes.

    Returns:
        A batch whose `op_names` are the population's layer names.
    """
    columns = population.columns
    n = population.n_candidates
    multiplies = columns["weight_bits"] > 0
    weights = np.where(multiplies, columns["n_in"] * columns["n_out"], 0.0)
    kept = weights * (1.0 - columns["pruned_fraction"])
    weight_bits, input_bits = columns["weight_bits"], columns["input_bits"]
    accumulation = weight_bits + input_bits + np.log2(np.maximum(columns["n_in"], 1.0))
    depth = np.zeros(n)
    np.maximum.at(depth, population.candidate, population.stage.astype(np.float64))
    sums = (
        kept + np.where(multiplies, columns["n_out"], 0.0),
        2.0 * weights,
        weights * (weight_bits * input_bits + accumulation),
        kept * weight_bits * input_bits,
    )
    logs = [np.log2(1.0 + np.bincount(population.candidate, s, minlength=n)) for s in sums]
    extras = np.stack([*logs, depth], axis=1)
    numeric = np.stack([columns[name] for name in ACCURACY_COLUMNS], axis=1)
    of_weights = [ACCURACY_COLUMNS.index("weight_bits"), ACCURACY_COLUMNS.index("pruned_fraction")]
    numeric[:, of_weights] = np.where(multiplies[:, None], numeric[:, of_weights], np.nan)
    return GraphBatch(
        op_names=population.layer_names,
        numeric_names=ACCURACY_COLUMNS,
        extra_names=EXTRA_NAMES,
        op=population.layer,
        numeric=numeric.astype(np.float32),
        graph_index=population.candidate,
        edge_index=population.edges,
        edge_multiplicity=np.ones(population.edges.shape[1], np.float32),
        extras=extras.astype(np.float32),
    )
