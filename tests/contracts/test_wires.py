"""Wires of all shapes: what two of them undo, and what does not fit."""

import numpy as np
import pytest

from codesign.errors import DesignError
from codesign.layers import LAYERS
from codesign.testing.layers import network_with, quantized

SHAPE = (3, 4, 6)


@pytest.mark.parametrize(
    ("width", "rows", "shape"), [(2, 0, (36, 2)), (3, 4, (4, 6, 3)), (72, 0, (1, 72))]
)
def test_a_reshape_keeps_the_order_of_elements(width, rows, shape):
    elements = LAYERS.get("reshape").sources(SHAPE, {"width": width, "rows": rows})
    assert elements.shape == shape
    assert np.array_equal(elements.ravel(), np.arange(72))


def test_two_transposes_are_none():
    transpose = LAYERS.get("transpose")
    once = transpose.sources(SHAPE, {})
    assert once.shape == (3, 6, 4)
    twice = once.ravel()[transpose.sources(once.shape, {})]
    assert np.array_equal(twice.ravel(), np.arange(72))


def test_padding_goes_round_what_is_read_without():
    patches = LAYERS.get("patches")
    window = {"kernel": 3, "stride": 1, "dilation": 1}
    padded = patches.sources((4, 5, 2), window | {"padding": 1})
    assert padded.shape == (4, 5, 18)
    assert np.array_equal(padded[1:-1, 1:-1], patches.sources((4, 5, 2), window | {"padding": 0}))
    corner = padded[0, 0].reshape(3, 3, 2)
    assert (corner[0] == -1).all() and (corner[:, 0] == -1).all() and (corner[1:, 1:] >= 0).all()


@pytest.mark.parametrize(
    ("name", "parameters", "rank", "message"),
    [
        ("slice", {"first": 3, "size": 3}, 1, "does not fit axis 0"),
        ("slice", {"axis": 1, "size": 1}, 1, "does not fit axis 1"),
        ("reshape", {"width": 3}, 1, "fill no whole columns of 3 channels"),
        ("patches", {"kernel": 8, "padding": 1}, 2, "does not fit the shape"),
        ("transpose", {}, 1, "takes inputs of 2 or 3 axes"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(name, parameters, rank, message):
    with pytest.raises(DesignError, match=message):
        quantized(network_with(LAYERS.get(name), parameters, rank), 0)


def test_patches_and_a_depthwise_product_are_a_depthwise_convolution():
    generator = np.random.default_rng(3)
    image = generator.integers(-8, 8, (4, 5, 2))
    kernel = generator.integers(-8, 8, (3, 3, 2))
    window = {"kernel": 3, "stride": 1, "dilation": 1, "padding": 0}
    taps = image.ravel()[LAYERS.get("patches").sources(image.shape, window)]
    connections = LAYERS.get("depthwise").connections(18, 2)
    found = taps @ np.where(connections, kernel.reshape(18, 1), 0)
    expected = np.array(
        [
            [(image[i : i + 3, j : j + 3] * kernel).sum(axis=(0, 1)) for j in range(3)]
            for i in range(2)
        ]
    )
    assert np.array_equal(found, expected)
