"""Encode a population (one table of nodes) as a graph batch, without a loop over candidates."""

import numpy as np
from numpy.typing import NDArray

from codesign.encoding.batch import GraphBatch
from codesign.ir.population import Population
from codesign.layers import products_of

#: Columns of a population on which the score of a trained network can depend.  Strategy and
#: reuse factor are absent on purpose: they change time and resources, never a result.
SCORE_COLUMNS = (
    "n_in",
    "n_out",
    "output_bits",
    "output_signed",
    "weight_bits",
    "pruned_fraction",
)
#: Columns of shapes: positions that a node writes and the axes of its result.  They follow the others,
#: and a feature schema learned on flat networks has none of them (`batch.NEUTRAL`).
SHAPE_COLUMNS = ("n_positions", "rank")
EXTRA_NAMES = (
    "log2_parameters",
    "log2_flops",
    "log2_bit_operations",
    "log2_effective_bit_operations",
    "log2_memory_bits",
    "log2_last_fan_in",
    "log2_cut_bits",
    "depth",
)
#: Further extras of populations that learn their widths; schemas fitted on others have none of them.
BUDGET_NAMES = ("log2_lut_budget", "log2_lut_per_parameter")


def encode_population(population: Population) -> GraphBatch:
    """Return the graph batch of a population; candidate i becomes graph i.

    Graph-level extras, all but the last as log2(1 + x), summed over the products that the layers describe
    (`codesign.layers.products_of`; n_uses: positions times copies): parameters = weights kept by pruning + biases;
    flops = 2 n_in n_out n_uses; bit operations = n_in n_out n_uses (b_w b_a + b_w + b_a + log2 n_in) (Baskin et al.,
    UNIQ, arXiv 1804.10969, eq. 11); effective bit operations = kept elements * n_uses * b_w * b_a (Sun et al., HGQ,
    arXiv 2405.00645, with a bit width per layer); memory bits = kept weights * b_w; last fan-in = kept weights per
    output of the deepest node with weights; cut bits = fewest bits alive between two stages, the narrowest
    place that information passes (these three: tau .739 to .763 on the jet benchmark at 100 labels,
    Gaussian process, 12 seeds that the figures of the docs do not use); then the depth in nodes.  Where
    widths are learned, what they may cost follows: log2 of the LUT, and of LUT per weight.

    Returns:
        A batch whose `op_names` are the population's layer names.
    """
    columns = population.columns
    n = population.n_candidates
    products = products_of(population)
    of = population.candidate[products.row]
    accumulation = products.matrix_bits + products.vector_bits
    accumulation = accumulation + np.log2(np.maximum(products.n_in, 1.0))

    def largest(owner: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
        out = np.zeros(n)
        np.maximum.at(out, owner, values)
        return out

    stage = population.stage[products.row].astype(np.float64)
    depth = largest(population.candidate, population.stage.astype(np.float64))
    last = largest(of, np.where(products.is_constant, stage, 0.0))
    is_last = products.is_constant & (stage == last[of])
    last_fan_in = largest(of, np.where(is_last, products.n_in * products.kept, 0.0))
    n_all = products.n_in * products.n_out * products.n_uses
    sums = (
        np.where(products.is_constant, products.n_kept + products.n_out * products.has_bias, 0.0),
        2.0 * n_all,
        n_all * (products.matrix_bits * products.vector_bits + accumulation),
        products.bit_operations,
        products.weight_bits,
    )
    totals = [np.bincount(of, s, minlength=n) for s in sums]
    logs = [np.log2(1.0 + t) for t in (*totals, last_fan_in, _cut_bits(population, depth))]
    names: tuple[str, ...] = EXTRA_NAMES
    columns_of_graphs = [*logs, depth]
    if (population.lut_budget > 0).any():
        budget = np.log2(1.0 + population.lut_budget)
        names = (*names, *BUDGET_NAMES)
        columns_of_graphs += [budget, budget - logs[0]]
    extras = np.stack(columns_of_graphs, axis=1)
    numeric = np.stack([columns[name] for name in SCORE_COLUMNS], axis=1)
    rank = 1.0 + (columns["n_columns"] > 0) + (columns["n_rows"] > 0)
    numeric = np.column_stack([numeric, columns["n_positions"], rank])
    multiplies = columns["weight_bits"] > 0
    of_weights = [SCORE_COLUMNS.index("weight_bits"), SCORE_COLUMNS.index("pruned_fraction")]
    numeric[:, of_weights] = np.where(multiplies[:, None], numeric[:, of_weights], np.nan)
    return GraphBatch(
        op_names=population.layer_names,
        numeric_names=(*SCORE_COLUMNS, *SHAPE_COLUMNS),
        extra_names=names,
        op=population.layer,
        numeric=numeric.astype(np.float32),
        graph_index=population.candidate,
        edge_index=population.edges,
        edge_multiplicity=np.ones(population.edges.shape[1], np.float32),
        extras=extras.astype(np.float32),
    )


def _cut_bits(population: Population, depth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return, per candidate, the fewest bits alive between two stages.

    A value is alive from its node's stage to that of its last reader.
    """
    stage = population.stage.astype(np.int64)
    source, reader = population.edges
    dies = stage.copy()
    np.maximum.at(dies, source, stage[reader])
    columns = population.columns
    bits = columns["n_out"] * columns["n_positions"] * columns["output_bits"]
    alive = np.zeros((population.n_candidates, int(stage.max(initial=0)) + 1))
    np.add.at(alive, (population.candidate, stage), bits)
    np.add.at(alive, (population.candidate, dies), -bits)
    alive = np.cumsum(alive, axis=1)
    is_between = np.arange(alive.shape[1]) < np.maximum(depth, 1)[:, None]
    return np.asarray(np.where(is_between, alive, np.inf).min(axis=1))
