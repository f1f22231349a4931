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
EXTRA_NAMES = ("log2_parameters", "log2_bit_operations", "depth")


def encode_population(population: Population) -> GraphBatch:
    """Return the graph batch of a population; candidate i becomes graph i.

    Graph-level extras: log2(1 + parameters), log2(1 + bit operations) with bit operations =
    sum of n_in * n_out * kept fraction * weight_bits * input_bits over nodes with multipliers
    (Baskin et al., UNIQ, arXiv 1804.10969, without the accumulator term), and the depth.

    Returns:
        A batch whose `op_names` are the population's layer names.
    """
    columns = population.columns
    n = population.n_candidates
    multiplies = columns["weight_bits"] > 0
    kept = np.where(
        multiplies, columns["n_in"] * columns["n_out"] * (1.0 - columns["pruned_fraction"]), 0.0
    )
    bit_operations = kept * columns["weight_bits"] * columns["input_bits"]
    depth = np.zeros(n)
    np.maximum.at(depth, population.candidate, population.stage.astype(np.float64))
    extras = np.stack(
        [
            np.log2(1.0 + np.bincount(population.candidate, kept, minlength=n)),
            np.log2(1.0 + np.bincount(population.candidate, bit_operations, minlength=n)),
            depth,
        ],
        axis=1,
    )
    numeric = np.stack([columns[name] for name in ACCURACY_COLUMNS], axis=1)
    weights = [ACCURACY_COLUMNS.index("weight_bits"), ACCURACY_COLUMNS.index("pruned_fraction")]
    numeric[np.ix_(~multiplies, weights)] = np.nan
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
