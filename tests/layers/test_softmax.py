"""Softmax by tables: what it promises beyond the contract of layers."""

from dataclasses import replace

import numpy as np
import pytest

from codesign.errors import ExportError
from codesign.export.hls4ml import export_hls4ml
from codesign.export.rtl import run_trace, trace_network
from codesign.ir import (
    FixedPoint,
    Network,
    Node,
    QuantizedNetwork,
    TensorType,
)
from codesign.layers import LAYERS, run_words
from codesign.layers._train_softmax import SoftmaxModule
from codesign.layers.softmax import SoftmaxTables
from codesign.testing.layers import network_of, unrolled


def softmax_of(n: int, result_bits: int) -> QuantizedNetwork:
    """A softmax over n channels, of inputs in [-8, 8)."""
    network = Network(
        nodes=(
            Node(name="x", layer="input", inputs=(), parameters={"width": n, "result_bits": 9}),
            Node(name="y", layer="softmax", inputs=("x",), parameters={"result_bits": result_bits}),
        )
    )
    formats = {
        "x": FixedPoint(bits=9, integer_bits=4),
        "y": FixedPoint(bits=result_bits, integer_bits=0, signed=False),
    }
    return QuantizedNetwork(
        candidate=unrolled(network),
        network=network,
        result={name: TensorType.of(fmt, (n,)) for name, fmt in formats.items()},
        constants={},
    )


@pytest.mark.parametrize("n", [1, 2, 5, 8, 33])
@pytest.mark.parametrize("result_bits", [2, 8])
def test_it_is_the_real_softmax_up_to_its_words_and_never_more_than_one_in_all(n, result_bits):
    network = softmax_of(n, result_bits)
    generator = np.random.default_rng(1)
    spread = generator.choice([4, 32, 255], size=(500, 1))
    words = np.rint(generator.uniform(-1, 1, (500, n)) * spread).astype(np.int64)
    words[0] = 0  # the largest sum
    found = np.asarray(run_words(network, words)) * 2.0**-result_bits
    values = np.exp(words / 32.0)
    real = values / values.sum(axis=1, keepdims=True)
    assert (found.sum(axis=1) <= 1.0).all()
    # a step of the result, of the sum (a 64th of at least 1), of both tables
    tolerance = 2.0**-result_bits * (1 + n * 2.0**-result_bits) + real * (
        2.0**-6 + 2.0**-4 * (result_bits < 4)
    )
    assert (np.abs(found - real) <= tolerance + 2.0 ** -(result_bits + 1)).all()
    if n > 1:
        assert np.array_equal(
            run_trace(trace_network(network), network, words), run_words(network, words)
        )


@pytest.mark.parametrize(("result_bits", "n"), [(1, 2), (4, 5), (12, 64), (24, 300)])
def test_every_sum_has_its_entry_and_no_product_reaches_one(result_bits, n):
    tables = SoftmaxTables(result_bits=result_bits, n=n)
    shift = tables.total.fraction_bits - tables.index.fraction_bits
    top = int(tables.exponential.max_word)
    for total in (top, top + 1, n * top):
        entry = int(tables.reciprocals[total >> shift])
        assert 0 < entry <= tables.reciprocal.max_word
        assert total * entry <= 1 << tables.product_fraction_bits
    assert tables.exponentials[0] == top
    assert tables.largest_product < 1 << tables.product_fraction_bits
    assert len(tables.reciprocals) == tables.index.max_word + 1


def test_a_back_end_that_cannot_says_so_by_name():
    layer = LAYERS.get("softmax")
    network = network_of(layer, layer.examples()[0])
    strategy = dict.fromkeys(network.candidate.hardware.strategy, "latency")
    hardware = replace(network.candidate.hardware, flow="hls", strategy=strategy)
    network = replace(network, candidate=replace(network.candidate, hardware=hardware))
    with pytest.raises(ExportError, match="'catapult' computes its own table of softmax"):
        export_hls4ml(network, backend="catapult")


def test_words_are_those_of_the_real_widths_whatever_the_padding():
    """Two softmaxes of 3 and of 5 channels, trained side by side, give the integers' words each."""
    import torch

    from codesign.layers._training import Signal, TrainNodes, TrainStep

    columns = {
        "n_out": np.array([3.0, 5.0]),
        "output_bits": np.array([6.0, 4.0]),
        "n_rows": np.zeros(2),
        "n_columns": np.zeros(2),
    }
    nodes = TrainNodes(
        layers=("softmax",) * 2, columns=columns, input_widths=(np.array([3, 5]),), padded_inputs=(5,),
        padded_output=5, input_positions=(1,), input_axes=(np.zeros((2, 2), dtype=np.int64),), n_positions=1,
        is_normalised=np.zeros(2, dtype=bool), is_output=False, seeds=(0, 1),
    )  # fmt: skip
    module = LAYERS.get("softmax").train_module(nodes)
    assert isinstance(module, SoftmaxModule)
    words = np.random.default_rng(0).integers(-256, 256, (2, 5, 200))
    values = torch.tensor(words / 32.0, dtype=torch.float32, requires_grad=True)
    result = module([Signal(values, torch.full((2,), 5.0))], TrainStep())
    for i, (n, bits) in enumerate([(3, 6), (5, 4)]):
        expected = np.asarray(run_words(softmax_of(n, bits), words[i, :n].T)).T * 2.0**-bits
        assert np.array_equal(result.values[i, :n].detach().numpy(), expected)
    result.values[:, 0].sum().backward()
    assert values.grad is not None and torch.isfinite(values.grad).all()
    assert (values.grad[0, 3:] == 0).all() and (values.grad[:, 0] > 0).any()
