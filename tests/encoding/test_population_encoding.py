"""A population becomes the graph batch that its networks, written out one by one, would become."""

from dataclasses import replace

import numpy as np
import pytest

from codesign.encoding.batch import concatenate
from codesign.encoding.features import FeatureSchema
from codesign.encoding.population import (
    EXTRA_NAMES,
    SCORE_COLUMNS,
    SHAPE_COLUMNS,
    encode_population,
)
from codesign.errors import PredictorError
from codesign.hardware.scorer import lower
from codesign.ir import COLUMNS, Population
from codesign.layers import products_of
from codesign.space import load_space
from hw_models.profile import count_operations


def population() -> Population:
    """input 16 -> dense 8 -> relu, and input 16 -> dense 4."""
    columns = {name: np.zeros(5) for name in (*COLUMNS, "weight_bits", "pruned_fraction")}
    columns["n_in"][:] = [0, 16, 8, 0, 16]
    columns["n_out"][:] = [16, 8, 8, 16, 4]
    for name in ("n_positions", "n_copies", "n_turns", "input_positions"):
        columns[name][:] = 1
    columns["input_bits"][:] = [0, 10, 12, 0, 10]
    columns["output_bits"][:] = [10, 12, 6, 10, 9]
    columns["weight_bits"][:] = [0, 5, 0, 0, 3]
    columns["pruned_fraction"][:] = [0, 0.5, 0, 0, 0]
    columns["reuse_factor"][:] = [0, 4, 0, 0, 1]
    return Population(
        n_candidates=2,
        layer_names=("input", "dense", "relu"),
        layer=np.array([0, 1, 2, 0, 1]),
        candidate=np.array([0, 0, 0, 1, 1]),
        stage=np.array([0, 1, 2, 0, 1]),
        columns=columns,
        edges=np.array([[0, 1, 3], [1, 2, 4]]),
        clock_period_ns=np.full(2, 5.0),
        flow=np.zeros(2, dtype=np.int64),
        io_type=np.zeros(2, dtype=np.int64),
        lut_budget=np.zeros(2),
        interval_cycles=np.ones(2, dtype=np.int64),
    )


def test_graph_totals_follow_their_formulas() -> None:
    batch = encode_population(population())
    extras = dict(zip(EXTRA_NAMES, batch.extras.T, strict=True))
    np.testing.assert_allclose(2 ** extras["log2_parameters"] - 1, [64 + 8, 64 + 4], rtol=1e-5)
    np.testing.assert_allclose(2 ** extras["log2_flops"] - 1, [2 * 128, 2 * 64], rtol=1e-5)
    expected = [64 * 5 * 10, 64 * 3 * 10]
    found = 2 ** extras["log2_effective_bit_operations"] - 1
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    expected = [128 * (50 + 15 + 4), 64 * (30 + 13 + 4)]
    np.testing.assert_allclose(2 ** extras["log2_bit_operations"] - 1, expected, rtol=1e-4)
    np.testing.assert_allclose(2 ** extras["log2_memory_bits"] - 1, [64 * 5, 64 * 3], rtol=1e-4)
    np.testing.assert_allclose(2 ** extras["log2_last_fan_in"] - 1, [8, 16], rtol=1e-4)
    np.testing.assert_allclose(2 ** extras["log2_cut_bits"] - 1, [8 * 12, 16 * 10], rtol=1e-4)
    assert extras["depth"].tolist() == [2, 1]


def test_nodes_keep_what_accuracy_depends_on_and_only_weights_have_weight_bits() -> None:
    batch = encode_population(population())
    weight_bits = batch.numeric[:, SCORE_COLUMNS.index("weight_bits")]
    np.testing.assert_array_equal(weight_bits, [np.nan, 5, np.nan, np.nan, 3])
    assert batch.op_names == ("input", "dense", "relu")
    assert batch.n_nodes.tolist() == [3, 2]


@pytest.mark.parametrize("column", ["reuse_factor", "strategy"])
def test_hardware_choices_do_not_reach_the_predictor(column: str) -> None:
    other = replace(population(), columns={**population().columns, column: np.full(5, 3.0)})
    first, second = encode_population(population()), encode_population(other)
    np.testing.assert_array_equal(first.numeric, second.numeric)
    np.testing.assert_array_equal(first.extras, second.extras)


def on_particles(n: int) -> Population:
    """The same networks, every node at n positions."""
    more = {name: np.full(5, float(n)) for name in ("n_positions", "n_columns", "n_copies")}
    return replace(population(), columns={**population().columns, **more})


def test_work_and_values_alive_grow_with_positions_and_weights_do_not() -> None:
    flat, found = (
        dict(zip(EXTRA_NAMES, encode_population(p).extras.T, strict=True))
        for p in (population(), on_particles(8))
    )
    for name in EXTRA_NAMES:
        ratio = (2.0 ** found[name] - 1) / (2.0 ** flat[name] - 1)
        grows = name in (
            "log2_flops",
            "log2_bit_operations",
            "log2_effective_bit_operations",
            "log2_cut_bits",
        )
        np.testing.assert_allclose(ratio, 8.0 if grows else 1.0, rtol=1e-3, err_msg=name)


def test_flat_networks_give_the_schema_and_features_that_they_gave_before_shapes() -> None:
    batch = encode_population(population())
    schema = FeatureSchema.fit(batch)
    assert schema.numeric_names == SCORE_COLUMNS
    meta, arrays = schema.state()
    old = FeatureSchema.restore(meta | {"version": 1}, arrays)
    before = replace(batch, numeric=batch.numeric[:, :-2], numeric_names=SCORE_COLUMNS)
    np.testing.assert_array_equal(old.encode(batch).nodes, old.encode(before).nodes)
    np.testing.assert_array_equal(old.encode(batch).globals, schema.encode(before).globals)


def test_shapes_are_features_where_they_differ_and_are_refused_by_a_schema_of_flat_networks() -> (
    None
):
    flat, shaped = encode_population(population()), encode_population(on_particles(8))
    with pytest.raises(PredictorError, match="surplus: n_positions, rank"):
        FeatureSchema.fit(flat).encode(shaped)
    schema = FeatureSchema.fit(concatenate([flat, shaped]))
    assert schema.numeric_names == (*SCORE_COLUMNS, *SHAPE_COLUMNS)
    assert (schema.encode(flat).globals != schema.encode(shaped).globals).any()


@pytest.mark.parametrize(
    ("name", "shape"), [("conv_l1", (8, 8, 1)), ("mixer_l1", (16, 3)), ("mlp_l1", (16,))]
)
def test_features_count_what_the_layers_describe(name: str, shape: tuple[int, ...]) -> None:
    """A layer that is sparse by kind, shared by positions, or multiplies two tensors counts as what it is."""
    space = load_space(name, n_inputs=shape, n_outputs=5)
    decoded = space.decode(space.sample(60, np.random.default_rng(0)))
    extras = dict(zip(EXTRA_NAMES, encode_population(decoded).extras.T, strict=True))
    counts = count_operations(lower(decoded), decoded.n_candidates)
    found = 2.0 ** extras["log2_parameters"].astype(np.float64) - 1
    np.testing.assert_allclose(found, counts.parameters, rtol=1e-4)
    weights = products_of(decoded)
    macs = np.bincount(decoded.candidate[weights.row], weights.n_kept * weights.n_uses)
    np.testing.assert_allclose(macs, counts.macs, rtol=1e-9)
