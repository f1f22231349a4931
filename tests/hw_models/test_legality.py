"""Legal reuse factors are hls4ml's own."""

import numpy as np
import pytest

from hw_models.errors import ModelError
from hw_models.legality import is_legal_reuse, legal_reuse_factors


@pytest.fixture(scope="module")
def backend():
    fpga_backend = pytest.importorskip("hls4ml.backends.fpga.fpga_backend")
    # the rule needs no configured back end: call the unbound methods
    return fpga_backend.FPGABackend


@pytest.mark.parametrize(("n_in", "n_out"), [(16, 64), (64, 32), (5, 7), (1, 9), (12, 1), (10, 15)])
def test_legal_factors_are_those_of_hls4ml(backend, n_in, n_out):
    class Rule:
        _validate_reuse_factor = backend._validate_reuse_factor
        get_valid_reuse_factors = backend.get_valid_reuse_factors

    expected = Rule().get_valid_reuse_factors(n_in, n_out)
    assert legal_reuse_factors(n_in, n_out, "resource").tolist() == expected


def test_latency_strategy_takes_every_factor():
    assert legal_reuse_factors(3, 4, "latency").tolist() == list(range(1, 13))
    assert legal_reuse_factors(3, 4, "distributed_arithmetic").tolist() == [1]


def test_vectorised_rule_agrees_with_the_table():
    factors = np.arange(1, 16 * 12 + 1)
    legal = factors[is_legal_reuse(16, 12, factors)]
    assert legal.tolist() == legal_reuse_factors(16, 12, "resource").tolist()


def test_bad_shape_says_what_to_do():
    with pytest.raises(ModelError, match="at least 1 x 1"):
        legal_reuse_factors(0, 4, "resource")
    with pytest.raises(ModelError, match="unknown strategy"):
        legal_reuse_factors(1, 4, "fast")
